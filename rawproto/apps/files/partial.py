"""A file that is received: built under another name, verified block by block, renamed at last.

::

    .rpt-HASH.part    the file in the making, locked by whoever makes it
    .rpt-HASH.leaves  the hashes of its blocks that are written and verified, in order

HASH is of the final name, so that whoever is broken off finds them again. The hashes are
written behind the blocks that they are of, which are brought to the disk every 8 MiB: who goes
on looks at so many of the last ones again, and what a crash of the machine lost comes anew. A
file of few blocks, of which nothing was broken off, has none written down. All
of a file is on the disk before it has its name, so that a crash leaves no half one there either.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from threading import Event

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.blocks import (
    BLOCK_BYTES,
    LEAF_BYTES,
    block_count,
    leaf,
    root_of,
    zeros_leaf,
)
from rawproto.apps.files.entries import PREFIX, Entry

__all__ = ["DamagedError", "Partial", "is_leaves", "part_path"]

# So much may have to be sent again after a crash of the machine; a broken connection costs none.
# And so much is left to be brought to the disk at the end, when somebody waits for it.
_SYNC_BYTES = 8 << 20
_PART, _LEAVES = ".part", ".leaves"
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def part_path(path: str) -> str:
    """Where a file is while it is made. Its name must be one that the kernel can have."""
    above, slash, name = path.rpartition("/")
    digest = hashlib.blake2b(os.fsencode(name), digest_size=12).hexdigest()
    return f"{above}{slash}{PREFIX}{digest}{_PART}"


def is_leaves(path: str) -> bool:
    """Whether that is where hashes are kept."""
    name = path.rpartition("/")[2]
    return name.startswith(PREFIX) and name.endswith(_LEAVES)


class DamagedError(OSError):
    """What arrived is not what was sent."""


class Partial:
    """A file in the making.

    Args:
        root: beneath which.
        entry: what it is to be; missing directories above it are made.
        old: the file that has the name now lends its blocks, wherever they serve.
        given_up: set when nobody wants it any more: what takes long then ends with an OSError.

    Raises:
        OSError: it cannot be made; EBUSY: somebody makes it already.

    Attributes:
        leaves: of the blocks that stand, from the first one on; until `keep` also of those behind
            them that the old file lends.
        lent_from: which block is the first of these.
        given_up: as above.
    """

    def __init__(
        self, root: Root, entry: Entry, *, old: bool = False, given_up: Event | None = None
    ) -> None:
        self._entry = entry
        self.given_up = given_up or Event()
        with root.parent(entry.path, make=True) as (fd, self._name):
            self._directory = os.dup(fd)
        self._part = part_path(self._name)
        self._list = self._part.removesuffix(_PART) + _LEAVES
        self._fds = [self._directory]
        self._journal: int | None = None
        self._old: int | None = None
        self._lent = b""
        self._unfinished = False
        try:
            self._check_target()
            self._file = self._open(self._part)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Or who had it has just discarded it, under our hands.
                here = os.stat(self._part, dir_fd=self._directory, follow_symlinks=False)
                if here.st_ino != os.fstat(self._file).st_ino:
                    raise BlockingIOError
            except (BlockingIOError, FileNotFoundError):
                raise OSError(errno.EBUSY, "somebody is sending it already", entry.path) from None
            self._unfinished = True
            with suppress(FileNotFoundError):
                self._journal = self._open(self._list, make=False)
            self.leaves = bytearray(self._stood())
            self.lent_from = len(self.leaves) // LEAF_BYTES
            self._noted = len(self.leaves)
            if not self.leaves:
                self._empty()
            if old:
                self._ask_old()
        except BaseException:
            self.close()
            raise
        self._unsynced = self.lent_from * BLOCK_BYTES  # by whoever wrote them

    def _open(self, name: str, *, make: bool = True) -> int:
        fd = os.open(name, _FLAGS | (os.O_CREAT if make else 0), 0o600, dir_fd=self._directory)
        self._fds.append(fd)
        return fd

    def _check_target(self) -> None:
        with suppress(FileNotFoundError):
            mode = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False).st_mode
            if mode & 0o170000 == 0o040000:
                raise OSError(errno.EISDIR, "there is a directory of that name", self._entry.path)

    def _stood(self) -> bytes:
        """The leaves of blocks that are written: whole ones, and no more than the file has."""
        size = os.fstat(self._file).st_size
        if self._journal is None:
            return b""
        known = os.pread(self._journal, os.fstat(self._journal).st_size, 0)
        count = min(len(known) // LEAF_BYTES, size // BLOCK_BYTES, self._entry.size // BLOCK_BYTES)
        leaves = [known[at : at + LEAF_BYTES] for at in range(0, count * LEAF_BYTES, LEAF_BYTES)]
        first, zeros, looked_at = count, zeros_leaf(BLOCK_BYTES), 0
        while first and looked_at < _SYNC_BYTES:
            first -= 1
            looked_at += BLOCK_BYTES if leaves[first] != zeros else 0
        for index in range(first, count):
            self._check_wanted()
            if leaf(os.pread(self._file, BLOCK_BYTES, index * BLOCK_BYTES)) != leaves[index]:
                return known[: index * LEAF_BYTES]
        return known[: count * LEAF_BYTES]

    def _empty(self) -> None:
        """Forgets what is there and is known by no hash: it would show where a hole is to be."""
        for fd in (self._file, self._journal):
            if fd is not None and os.fstat(fd).st_size:
                os.ftruncate(fd, 0)

    def _ask_old(self) -> None:
        """Hashes the file that has the name now, behind what stands: what differs is sent."""
        try:
            self._old = old = os.open(
                self._name,
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                dir_fd=self._directory,
            )
        except OSError:
            return
        self._fds.append(old)
        status = os.fstat(old)
        if status.st_mode & 0o170000 != 0o100000:
            return
        for index in range(self.lent_from, min(status.st_size, self._entry.size) // BLOCK_BYTES):
            self._check_wanted()
            block = os.pread(old, BLOCK_BYTES, index * BLOCK_BYTES)
            if len(block) < BLOCK_BYTES:
                return
            self.leaves += leaf(block)

    def _check_wanted(self) -> None:
        if self.given_up.is_set():
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED), self._entry.path)

    def _borrowed(self, index: int, its_leaf: bytes) -> bytes:
        """A block of the old file, b"" if it lends none that is the same.

        Raises: OSError; DamagedError, it is another by now.
        """
        at = index * LEAF_BYTES
        if self._old is None or index < self.lent_from:
            return b""
        if self._lent[at : at + LEAF_BYTES] != its_leaf:
            return b""
        block = os.pread(self._old, BLOCK_BYTES, index * BLOCK_BYTES)
        if leaf(block) != its_leaf:
            raise DamagedError(0, "it became another while it was replaced", self._entry.path)
        return block

    def retarget(self, entry: Entry) -> None:
        """It turns out to become something else, under the same name."""
        self._entry = entry

    def keep(self, count: int) -> None:
        """The first `count` blocks serve where they are; the rest comes, or is lent, one by one.

        Raises: as `write`.
        """
        self._lent = bytes(self.leaves)
        standing = min(count, self.lent_from)
        del self.leaves[standing * LEAF_BYTES :]
        os.ftruncate(self._file, standing * BLOCK_BYTES)
        if self._journal is not None:
            os.ftruncate(self._journal, 0)
        self._noted = 0
        self._note()
        for begun in range(standing, count, _SYNC_BYTES // BLOCK_BYTES):
            self._check_wanted()
            some = range(begun, min(begun + _SYNC_BYTES // BLOCK_BYTES, count))
            ends = [(index * LEAF_BYTES, (index + 1) * LEAF_BYTES) for index in some]
            self.write([(self._lent[start:end], b"") for start, end in ends])

    def write(self, blocks: Sequence[tuple[bytes, bytes]]) -> None:
        """Verifies and writes the next blocks, each (leaf, data).

        Data is b"" for zeros, and for what the old file lends.

        Raises:
            DamagedError: a block is not what its hash says, or there are too many.
            OSError: the disk is full, or otherwise.
        """
        try:
            self._take(blocks)
        finally:
            self._note()  # those before one that the disk has no room for, too

    def _take(self, blocks: Sequence[tuple[bytes, bytes]]) -> None:
        size = self._entry.size
        for its_leaf, data in blocks:
            index = len(self.leaves) // LEAF_BYTES
            room = min(BLOCK_BYTES, size - index * BLOCK_BYTES)
            if not data and its_leaf != zeros_leaf(BLOCK_BYTES):
                data = self._borrowed(index, its_leaf)
            if room <= 0 or (data and len(data) != room):
                raise DamagedError(0, "a block of another size arrived", self._entry.path)
            if (leaf(data) if data else zeros_leaf(room)) != its_leaf:
                raise DamagedError(0, "a damaged block arrived", self._entry.path)
            if data:
                _write(self._file, data, index * BLOCK_BYTES)
                self._unsynced += room
            self.leaves += its_leaf

    def _note(self) -> None:
        """Writes the hashes that are new down, and sees to it that few blocks may be lost."""
        if self._unsynced >= _SYNC_BYTES:
            os.fdatasync(self._file)
            self._unsynced = 0
        if self._noted < len(self.leaves):
            if self._journal is None:
                self._journal = self._open(self._list)
            _write(self._journal, bytes(self.leaves[self._noted :]), self._noted)
            self._noted = len(self.leaves)

    def finish(self, root_hash: bytes, blocks: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Gives the file, with these last blocks, its time, its permissions and its name.

        Raises:
            DamagedError: it is not what its sender says.
            OSError: otherwise.
        """
        try:
            self._take(blocks)
            whole = len(self.leaves) // LEAF_BYTES == block_count(self._entry.size)
            if not whole or root_of(self._entry.size, self.leaves) != root_hash:
                self.discard()
                raise DamagedError(0, "what arrived is not what was sent", self._entry.path)
            self._name_it()
        finally:
            if self._unfinished:
                self._note()

    def _name_it(self) -> None:
        entry = self._entry
        os.ftruncate(self._file, entry.size)
        os.fchmod(self._file, entry.mode)
        os.utime(self._file, ns=(entry.mtime_ns, entry.mtime_ns))
        os.fsync(self._file)
        os.rename(self._part, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._unfinished = False
        if self._journal is not None:
            os.unlink(self._list, dir_fd=self._directory)

    def _stands(self) -> bool:
        """Whether there is a list of what stands, for somebody to go on from."""
        with suppress(OSError):
            return os.stat(self._list, dir_fd=self._directory).st_size >= LEAF_BYTES
        return False

    def discard(self) -> None:
        """It will not be gone on with."""
        for name in (self._part, self._list):
            with suppress(OSError):
                os.unlink(name, dir_fd=self._directory)
        self._unfinished = False

    def close(self) -> None:
        """Gives the descriptors back; what stands is found again, if anything does."""
        if self._unfinished and not self._stands():
            self.discard()
        while self._fds:
            os.close(self._fds.pop())


def _write(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written
