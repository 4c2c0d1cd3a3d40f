"""What the tests of labs hold against the machine: did a lab leave something on it?"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rawproto.lab.syscalls import CLONE_FS, CLONE_NEWNS, MS_REC, mount, setns, unshare

_MS_PRIVATE, _MS_SHARED = 0x40000, 0x100000


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Fails if interfaces, mounts, names or our own children are others than before."""
    with _own_mounts():
        before = _machine()
        try:
            yield
        finally:
            while _held:
                os.close(_held.pop())
        assert _machine() == before


_held: list[int] = []


def hold(namespace: str) -> None:
    """Until the test ends, no new namespace gets the number of this one (by its path).

    Numbers of dead ones are given out again at once, and other labs may be up.
    """
    _held.append(os.open(namespace, os.O_RDONLY | os.O_CLOEXEC))


def _machine() -> tuple[object, ...]:
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()
    mounts = Path("/proc/thread-self/mounts").read_text()
    return socket.if_nameindex(), mounts, os.path.isdir("/run/netns"), children


@contextmanager
def _own_mounts() -> Iterator[None]:
    """This thread sees what its own children mount, and nothing that others do meanwhile.

    Shared within: a lab that forgot to keep its mounts to itself would show here, as it would
    on a machine.
    """
    directory = os.getcwd()
    outside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNS)
        mount("none", "/", flags=MS_REC | _MS_PRIVATE)
        mount("none", "/", flags=MS_REC | _MS_SHARED)
        try:
            yield
        finally:
            unshare(CLONE_FS)  # which a thread just joined may still share, and setns refuses then
            setns(outside, CLONE_NEWNS)
            os.chdir(directory)
    finally:
        os.close(outside)
