"""A timer with nanoseconds that an event loop can wait for: timerfd, through the C library.

asyncio's own timers sleep whole milliseconds (its selector counts in them), and
Python has `os.timerfd_create` only from 3.13 on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time

from rawproto.errors import LinkError

__all__ = ["Timer"]

_TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Timer:
    """One deadline on the monotonic clock; `fileno` becomes readable when it has come."""

    def __init__(self) -> None:
        """
        Raises:
            LinkError: no descriptor is left.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(
            time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC
        )
        if self._fd < 0:
            raise LinkError("create timer", "", ctypes.get_errno())

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self._fd

    def arm(self, due_ns: int | None) -> None:
        """Sets the deadline, monotonic ns; one that is past comes at once, None disarms."""
        seconds, nanoseconds = divmod(0 if due_ns is None else max(due_ns, 1), 1_000_000_000)
        value = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(value), None)

    def clear(self) -> None:
        """Takes note that the deadline has come."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()  # as sockets do: an event loop that is closed in the middle ends nothing
