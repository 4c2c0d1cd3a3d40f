"""What stands in a directory, as both sides tell each other of it.

A name is bytes to the kernel; here it is text in which bytes that are no UTF-8 are lone
surrogates (PEP 383), which JSON can carry and which lead back to the same bytes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rawproto.apps.files.beneath import Root

__all__ = ["PREFIX", "Entry", "entry_of", "is_inner", "scan"]

PREFIX = ".rpt-"
"""What names begin with that are none of the user's: files in the making."""

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_MOST_DEPTH = 256
_MOST_NS = 1 << 63


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing.

    Attributes:
        path: relative, with `/`; "" for what was asked for itself.
        kind: `"file"`, `"directory"`, `"link"` or `"other"`.
        size: of a file, in bytes.
        mode: permissions, 0 to 0o777.
        mtime_ns: when it was changed.
        target: where a link points to.
    """

    path: str
    kind: str
    size: int = 0
    mode: int = 0o644
    mtime_ns: int = 0
    target: str = ""

    def to_json(self) -> list[Any]:
        """As it crosses the wire."""
        return [self.path, self.kind, self.size, self.mode, self.mtime_ns, self.target]

    @classmethod
    def from_json(cls, told: Any) -> Entry:
        """Raises ValueError: it is none."""
        if not (isinstance(told, list) and len(told) == 6):
            raise ValueError("no entry")
        path, kind, size, mode, mtime_ns, target = told
        if not all(isinstance(each, str) for each in (path, kind, target)):
            raise ValueError("no entry")
        if not all(type(each) is int for each in (size, mode, mtime_ns)):
            raise ValueError("no entry")
        if not (0 <= size < _MOST_NS and -_MOST_NS < mtime_ns < _MOST_NS):
            raise ValueError("no entry")
        if "\0" in path + target:
            raise ValueError("no entry")
        os.fsencode(path + target)
        return cls(path, kind, size, mode & 0o777, mtime_ns, target)

    def same_as(self, other: Entry | None) -> bool:
        """Whether another is the same by its kind, size and time, as rsync looks at it."""
        if other is None or other.kind != self.kind:
            return False
        if self.kind == "link":
            return other.target == self.target
        return self.kind != "file" or (other.size, other.mtime_ns) == (self.size, self.mtime_ns)


def entry_of(path: str, status: os.stat_result, target: str = "") -> Entry:
    """The entry of what was looked at."""
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
    size = status.st_size if kind == "file" else 0
    return Entry(path, kind, size, status.st_mode & 0o777, status.st_mtime_ns, target)


def is_inner(name: str) -> bool:
    """Whether a name is that of a file in the making."""
    return name.startswith(PREFIX)


def scan(root: Root, path: str, *, recursive: bool) -> Iterator[Entry]:
    """What is at a path, first itself as "", then what is in it, names in order, parents first.

    A link at the path itself is followed; below it none is. Raises OSError for the path itself;
    a directory below it that cannot be read is told as empty.
    """
    status = root.stat(path, follow=True)
    yield entry_of("", status)
    if stat.S_ISDIR(status.st_mode):
        yield from _below(root.open_directory(path), "", recursive, 0)


def _below(directory: int, path: str, recursive: bool, depth: int) -> Iterator[Entry]:
    try:
        for name in sorted(os.listdir(directory)):
            if is_inner(name):
                continue
            inner = f"{path}/{name}" if path else name
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                link = stat.S_ISLNK(status.st_mode)
                target = os.readlink(name, dir_fd=directory) if link else ""
            except OSError:
                continue  # it went while we looked
            yield entry_of(inner, status, target)
            if recursive and stat.S_ISDIR(status.st_mode) and depth < _MOST_DEPTH:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                try:
                    fd = os.open(name, flags, dir_fd=directory)
                except OSError:
                    continue
                yield from _below(fd, inner, recursive, depth + 1)
    finally:
        os.close(directory)
