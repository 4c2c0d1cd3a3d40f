"""What all the files that are served may hold together.

Everything counts in blocks, as the disk has it: a link, a directory and an empty file take one,
or there would be no end of them. What comes is added before it is taken, and what went is found
out by counting anew, once there would be no room otherwise. What a file replaces it may have the
room of: until it is whole, both are there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.entries import entry_of, scan
from rawproto.apps.files.faults import QuotaError
from rawproto.apps.files.partial import is_leaves, part_path

__all__ = ["Quota"]

_BLOCK_BYTES = 4096


def _taken(size: int) -> int:
    """What something of so many bytes takes."""
    return max(-(-size // _BLOCK_BYTES), 1) * _BLOCK_BYTES


class Quota:
    """Counts over a root, for several threads. It may look at all files: use it in one.

    Args:
        root: of the files.
        limit_bytes: what they may hold, None for what the disk has.
    """

    def __init__(self, root: Root, limit_bytes: int | None) -> None:
        self._root = root
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._coming: list[tuple[str, int]] = []
        self._used = 0
        if limit_bytes is not None:
            self._count()

    @property
    def limited(self) -> bool:
        """Whether there is anything to count."""
        return self._limit is not None

    def admit(self, path: str, size: int) -> None:
        """Something comes: it is there once this returns, or may be, and directories above it.

        Raises:
            QuotaError: there is no room for it.
        """
        if self._limit is None:
            return
        with self._lock:
            more = self._lacking(path, size)
            if self._used + more > self._limit and self._stale:
                self._count()
            if self._used + more > self._limit:
                left = max(self._limit - self._used, 0)
                raise QuotaError(f"{path}: {size} bytes, and the quota has {left} left")
            self._used += more

    @contextmanager
    def coming(self, path: str, size: int) -> Iterator[None]:
        """While a file comes that was admitted, and takes a while, and may never be whole."""
        if self._limit is None:
            yield
            return
        self._coming.append((path, size))
        try:
            yield
        finally:
            self._coming.remove((path, size))
            with self._lock:
                self._used += self._held(part_path(path))  # what is left of one that did not
                self._stale = True

    def gone(self) -> None:
        """Something went, or did not come after all."""
        self._stale = True

    def _lacking(self, path: str, size: int) -> int:
        there = self._held(path)
        lacking = max(_taken(size) - there - self._held(part_path(path)), 0)
        while not there and (path := path.rstrip("/").rpartition("/")[0]):
            there = self._held(path)
            lacking += 0 if there else _BLOCK_BYTES
        return lacking

    def _held(self, path: str) -> int:
        try:
            status = self._root.stat(path)
        except OSError:
            return 0
        return _taken(entry_of(path, status).size)

    def _count(self) -> None:
        there = scan(self._root, "", recursive=True, inner=True)
        self._used = sum(
            _taken(each.size) for each in there if each.path and not is_leaves(each.path)
        )
        self._used += sum(self._lacking(*each) for each in list(self._coming))
        self._stale = False
