"""A capture in several files: when the next one is due, what it is called, which is kept.

Names are those of dumpcap, so that they sort and never repeat: `out.pcapng` becomes
`out_00001_20260730142501.pcapng`, with a running number and the local time of its beginning.

By size, a file is left for the next when it has reached it, so it is larger by at most a
packet. By time, periods follow each other from the beginning of the capture on, and a
packet goes into the file of its period by its own time stamp; a period without packets
has no file. It writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque

from rawproto.errors import UsageError

__all__ = ["Rotation"]


class Rotation:
    """Which file comes next.

    Args:
        path: what the names are made of.
        size_bytes: how large a file becomes; None for any size.
        period_ns: how long a file lasts; None for ever.
        keep: how many files stay, the oldest are removed; None for all.
        begin_ns: when the first period begins, ns since the epoch.

    Raises:
        UsageError: a value out of range, or files to keep and nothing to rotate by.
    """

    def __init__(
        self,
        path: str,
        *,
        size_bytes: int | None = None,
        period_ns: int | None = None,
        keep: int | None = None,
        begin_ns: int,
    ) -> None:
        for what, value in (("size", size_bytes), ("period", period_ns), ("number kept", keep)):
            if value is not None and value < 1:
                raise UsageError(f"rotation: the {what} must be 1 or more, not {value}")
        self.active = size_bytes is not None or period_ns is not None
        if keep is not None and not self.active:
            raise UsageError("rotation: files to keep, but no size and no time to rotate by")
        self.size_bytes = size_bytes
        self._period_ns = period_ns
        self._keep = keep
        self._stem, self._suffix = os.path.splitext(path)
        self._begin_ns = begin_ns
        self._names: deque[str] = deque()
        self._count = 0

    @property
    def end_ns(self) -> int | None:
        """When the period of the present file is over; None for never."""
        return None if self._period_ns is None else self._begin_ns + self._period_ns

    def is_due(self, written: int, time_ns: int) -> bool:
        """Whether a packet goes into a new file.

        Args:
            written: bytes in the present one.
            time_ns: the packet's, since the epoch.
        """
        if self.size_bytes is not None and written >= self.size_bytes:
            return True
        end_ns = self.end_ns
        return end_ns is not None and time_ns >= end_ns

    def next_name(self, time_ns: int) -> str:
        """The name of the next file, which begins with a packet of that time.

        Files beyond those to keep are removed first, so that no more are ever there.

        Raises:
            OSError: an old file cannot be removed.
        """
        if self._period_ns is not None and time_ns >= self._begin_ns + self._period_ns:
            self._begin_ns += (time_ns - self._begin_ns) // self._period_ns * self._period_ns
        self._count += 1
        stamp = time.strftime("%Y%m%d%H%M%S", time.localtime(time_ns // 1_000_000_000))
        name = f"{self._stem}_{self._count:05}_{stamp}{self._suffix}"
        while self._keep is not None and len(self._names) >= self._keep:
            self._remove(self._names.popleft())
        self._names.append(name)
        return name

    @staticmethod
    def _remove(name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # somebody took it away already
            os.unlink(name)
