"""A file that is sent: its blocks, read ahead of what the stream takes, and their hashes.

The hashes of a file that did not change since are kept beside the user's other state, so that
to go on with a file that was broken off does not read it again.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from threading import Event

from rawproto.apps.files.blocks import (
    BLOCK_BYTES,
    LEAF_BYTES,
    block_count,
    leaf,
    read_block,
    root_of,
    zeros_leaf,
)
from rawproto.apps.files.entries import Entry, entry_of

__all__ = ["ChangedError", "Source"]

# A file with fewer blocks is as fast to hash again.
_WORTH_KEEPING = 64


class ChangedError(OSError):
    """The file became another while it was read."""


class Source:
    """An open file.

    Args:
        fd: for reading; it is this one's from here on.
        path: for errors.
        memory: a directory in which hashes are kept, None for nowhere.

    Attributes:
        size: in bytes, at the beginning.
        leaves: of the blocks looked at so far, in order, `LEAF_BYTES` each.
        given_up: set when nobody wants it any more: what takes long then ends with an OSError.
    """

    def __init__(self, fd: int, path: str, memory: Path | None = None) -> None:
        self._fd = fd
        self._path = path
        self._status = status = os.fstat(fd)
        self.size = status.st_size
        self.leaves = bytearray()
        self.given_up = Event()
        self._kept: Path | None = None
        if memory is not None and block_count(self.size) >= _WORTH_KEEPING:
            who = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"
            who += f" {status.st_ctime_ns}"
            self._kept = memory / hashlib.blake2b(who.encode(), digest_size=16).hexdigest()
            with suppress(OSError):
                known = self._kept.read_bytes()
                self.leaves += known[: block_count(self.size) * LEAF_BYTES]
                del self.leaves[len(self.leaves) // LEAF_BYTES * LEAF_BYTES :]

    @property
    def entry(self) -> Entry:
        """What it is, without its path."""
        return entry_of("", self._status)

    @property
    def root(self) -> bytes:
        """The hash of all of it, once every block was looked at."""
        return root_of(self.size, self.leaves)

    def common(self, theirs: bytes | bytearray) -> int:
        """How many blocks from the beginning are the same as those with these leaves.

        Reads what it does not know the hashes of, so call it in a thread. Raises OSError.
        """
        count = min(len(theirs) // LEAF_BYTES, block_count(self.size))
        for index in range(count):
            at = index * LEAF_BYTES
            if at == len(self.leaves):
                if self.given_up.is_set():
                    raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED), self._path)
                self.leaves += leaf(self._read(index))
            if self.leaves[at : at + LEAF_BYTES] != theirs[at : at + LEAF_BYTES]:
                return index
        return count

    def _read(self, index: int) -> bytes:
        block = read_block(self._fd, index, self.size)
        if len(block) != min(BLOCK_BYTES, self.size - index * BLOCK_BYTES):
            raise ChangedError(0, "it became shorter while it was read", self._path)
        return block

    def blocks(self, first: int, count: int) -> list[tuple[bytes, bytes]]:
        """(leaf, data) of blocks from `first` on; no data for one of zeros. For a thread.

        Raises:
            ChangedError: the file has become shorter.
            OSError: it cannot be read.
        """
        found = []
        for index in range(first, min(first + count, block_count(self.size))):
            size = min(BLOCK_BYTES, self.size - index * BLOCK_BYTES)
            if index * BLOCK_BYTES + size <= self._next_data(index * BLOCK_BYTES):
                data, its_leaf = b"", zeros_leaf(size)
            else:
                data = self._read(index)
                its_leaf = leaf(data)
            at = index * LEAF_BYTES
            if at < len(self.leaves) and self.leaves[at : at + LEAF_BYTES] != its_leaf:
                raise ChangedError(0, "it became another while it was read", self._path)
            if at == len(self.leaves):
                self.leaves += its_leaf
            found.append((its_leaf, data))
        return found

    def _next_data(self, start: int) -> int:
        """Where data begins at or behind `start`: behind it where there is a hole."""
        try:
            return os.lseek(self._fd, start, os.SEEK_DATA)
        except OSError:
            return self.size  # a hole up to the end, or a file system that knows none

    def check(self) -> None:
        """Raises ChangedError if the file is not what it was when it was opened."""
        now, before = os.fstat(self._fd), self._status
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise ChangedError(0, "it became another while it was read", self._path)

    def keep(self) -> None:
        """Keeps the hashes for another time, in case this one is broken off."""
        if self._kept is not None:
            with suppress(OSError):
                self._kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._kept.write_bytes(self.leaves)

    def forget(self) -> None:
        """All has arrived: the hashes are needed no more."""
        if self._kept is not None:
            self._kept.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._fd)
