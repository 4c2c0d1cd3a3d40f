"""What is in a pack: files, directories and links, read as they are and made as they were.

Some 10,000 of them a second: each is opened once, and looked at, read and told by that.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress

from rawproto.apps.files.beneath import Parents, Root
from rawproto.apps.files.blocks import BLOCK_BYTES
from rawproto.apps.files.entries import PREFIX, Entry, entry_of
from rawproto.apps.files.faults import FileError, fault_of, file_error
from rawproto.errors import RawprotoError
from rawproto.rpc import MOST_DATA_BYTES

__all__ = ["NAMES_BYTES", "PACKED_BYTES", "PACK_ENTRIES", "Admit"]
__all__ += ["name_bytes", "read_pack", "set_directories", "write_pack"]

PACKED_BYTES = BLOCK_BYTES
"""Files of up to so many bytes travel in packs: of a single block there is nothing to resume."""
PACK_ENTRIES = 256
NAMES_BYTES = 1 << 16
"""Of the names in one message, about."""

# As many as one item may have, but for what they grow by before they are read.
_PACK_BYTES = MOST_DATA_BYTES - (1 << 15)
# A file of more bytes is on the disk before it has its name.
_UNSYNCED_BYTES = 1 << 16

Admit = Callable[[str, Entry], None]


def name_bytes(entry: Entry) -> int:
    """What an entry takes in JSON, its names escaped as far as can be."""
    return 100 + 6 * (len(entry.path) + len(entry.target))


def _joined(above: str, path: str) -> str:
    return f"{above}/{path}".strip("/")


def read_pack(
    root: Root, above: str, paths: deque[str]
) -> tuple[list[Entry], bytes, list[FileError]]:
    """The next things, as many as one pack has: what they are, what is in them, what failed.

    Args:
        root: beneath which they are.
        above: what stands before their paths there; a link there is followed, others are told.
        paths: of all that are still to come.
    """
    entries: list[Entry] = []
    pieces: list[bytes] = []
    faults: list[FileError] = []
    names = held = 0
    with closing(Parents(root)) as parents:
        while paths and len(entries) + len(faults) < PACK_ENTRIES and names < NAMES_BYTES:
            path = paths.popleft()
            where = _joined(above, path)
            try:
                fd = parents.open_path(where) if path else root.open_path(where)
                try:
                    status = os.fstat(fd)
                    if not stat.S_ISREG(status.st_mode):
                        link = stat.S_ISLNK(status.st_mode)
                        entry = entry_of(path, status, os.readlink("", dir_fd=fd) if link else "")
                    elif entries and held + status.st_size > _PACK_BYTES:
                        paths.appendleft(path)
                        break
                    else:
                        piece = _read(fd, min(PACKED_BYTES, MOST_DATA_BYTES - held), where)
                        entry = entry_of(path, status, size=len(piece))
                        pieces.append(piece)
                        held += len(piece)
                finally:
                    os.close(fd)
            except OSError as error:
                faults.append(file_error(error, where))
                continue
            entries.append(entry)
            names += name_bytes(entry)
    return entries, b"".join(pieces), faults


def _read(path_fd: int, most: int, path: str) -> bytes:
    """What is in a file that was only looked at so far. Raises OSError: it is more."""
    fd = os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        content = os.read(fd, most + 1)
    finally:
        os.close(fd)
    if len(content) > most:
        raise OSError(0, "it grew while it was sent", path)
    return content


def write_pack(
    root: Root, above: str, entries: Iterable[Entry], data: bytes, admit: Admit
) -> Iterator[tuple[Entry, FileError | None]]:
    """Makes them: each of the entries, and why it could not be made.

    Args:
        root: beneath which.
        above: what is put before their paths there.
        entries: parents first.
        data: what is in the files, one behind the other.
        admit: hears of each, and raises a FileError, or another RPCError, about one that is not
            wanted.
    """
    at = 0
    with closing(Parents(root, make=True)) as parents:
        for entry in entries:
            content = b""
            if entry.kind == "file":
                content, at = data[at : at + entry.size], at + entry.size
            path = _joined(above, entry.path)
            try:
                admit(path, entry)
                if entry.kind == "directory":
                    root.make_directories(path)
                else:
                    directory, name = parents.of(path)
                    try:
                        _make(directory, name, entry, content)
                    except OSError as error:
                        error.filename = path  # and not as it is called while it is made
                        raise
            except FileError as fault:
                yield entry, fault
            except RawprotoError:
                raise
            except OSError as error:
                yield entry, fault_of(error, path)
            else:
                yield entry, None


def _make(directory: int, name: str, entry: Entry, content: bytes) -> None:
    if entry.kind == "file":
        _make_file(directory, name, entry, content)
    elif entry.kind == "link":
        _make_link(directory, name, entry)
    else:
        raise OSError(0, "neither file nor directory nor link")


def _make_file(directory: int, name: str, entry: Entry, content: bytes) -> None:
    """A file without a name gets one once it is whole; ext4 so has half as much to do for it as
    for one that is renamed, and nothing is left of it where we are killed."""
    inner: str | None = None
    try:
        fd = os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        inner = _inner_name()  # NFS and others have none without a name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(inner, flags, 0o600, dir_fd=directory)
    try:
        if not content.strip(b"\0"):
            os.ftruncate(fd, len(content))  # a hole
        elif os.write(fd, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fchmod(fd, entry.mode)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        if len(content) > _UNSYNCED_BYTES:
            os.fsync(fd)
        if inner is None:
            try:
                os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=directory)
                return
            except FileExistsError:  # which only rename(2) replaces
                inner = _inner_name()
                os.link(f"/proc/self/fd/{fd}", inner, dst_dir_fd=directory)
        os.rename(inner, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        if inner is not None:
            _forget(directory, inner)
        raise
    finally:
        os.close(fd)


def _make_link(directory: int, name: str, entry: Entry) -> None:
    inner = _inner_name()
    try:
        os.symlink(entry.target, inner, dir_fd=directory)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(inner, ns=times, dir_fd=directory, follow_symlinks=False)
        os.rename(inner, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        _forget(directory, inner)
        raise


def _inner_name() -> str:
    return PREFIX + os.urandom(12).hex()


def _forget(directory: int, inner: str) -> None:
    with suppress(OSError):
        os.unlink(inner, dir_fd=directory)


def set_directories(root: Root, above: str, entries: Iterable[Entry]) -> None:
    """Gives directories their permissions and times, those within first."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with closing(Parents(root)) as parents:
        for entry in entries:
            path = _joined(above, entry.path)
            if not path or entry.kind != "directory":
                continue
            with suppress(OSError):  # what could not be made was told
                directory, name = parents.of(path)  # never the root itself, however it is named
                fd = os.open(name, flags, dir_fd=directory)
                try:
                    os.fchmod(fd, entry.mode)
                    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
                finally:
                    os.close(fd)
