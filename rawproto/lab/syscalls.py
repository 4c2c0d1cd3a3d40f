"""The few system calls about namespaces that Python 3.11 does not have, by ctypes.

See namespaces(7), unshare(2), setns(2), mount(2), prctl(2). Each raises OSError,
as the functions of `os` do. Nothing here knows what a lab is; the keeper imports
this and nothing else, so that it starts in milliseconds.
"""

from __future__ import annotations

import ctypes
import os

__all__ = [
    "CLONE_FS",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "MS_BIND",
    "MS_REC",
    "MS_SLAVE",
    "mount",
    "set_host_name",
    "set_process_name",
    "set_timer_slack",
    "setns",
    "unshare",
]

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWUTS = 0x4000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000

PR_SET_NAME = 15
PR_SET_TIMERSLACK = 29

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), what)


def unshare(flags: int) -> None:
    """Gives the calling thread new namespaces of the kinds in `flags`."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Puts the calling thread in the namespace open as `fd`, which must be of that kind."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, filesystem: str = "", flags: int = 0, data: str = "") -> None:
    """Mounts, binds, or changes how a mount propagates."""
    arguments = (source.encode(), target.encode(), filesystem.encode() or None)
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None), target)


def set_host_name(name: str) -> None:
    """Names this UTS namespace (socket.sethostname would import socket first)."""
    raw = name.encode()
    _check(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), name)


def set_process_name(name: str) -> None:
    """What ps shows as the command's name, 15 bytes of it."""
    _check(_libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0), name)


def set_timer_slack(slack_ns: int) -> None:
    """How late the kernel may wake this thread, to wake several at once; 50,000 by itself."""
    _check(_libc.prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(slack_ns), 0, 0, 0), "timer slack")
