"""What stands in a directory, as both sides tell each other of it.

A name is bytes to the kernel; here it is text in which bytes that are no UTF-8 are lone
surrogates (PEP 383), which JSON can carry and which lead back to the same bytes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from rawproto.apps.files.beneath import Root

__all__ = ["PREFIX", "Entry", "entry_of", "is_inner", "scan", "some_of"]

PREFIX = ".rpt-"
"""What names begin with that are none of the user's: files in the making."""

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_TYPES = [str, str, int, int, int, str]
_AT_ONCE = 500
_MOST_NS = 1 << 63
_GONE = (errno.ENOENT, errno.ENOTDIR)


@dataclass(slots=True)  # frozen, it would take three times as long to make, and there are many
class Entry:
    """One thing; nobody changes it.

    Attributes:
        path: relative, with `/`; "" for what was asked for itself.
        kind: `"file"`, `"directory"`, `"link"`, `"other"`, or `"unread"`: what nobody could look
            at, or a directory that nobody could look into.
        size: of a file, in bytes.
        mode: permissions, 0 to 0o777.
        mtime_ns: when it was changed.
        target: where a link points to; of what is unread, why.
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
        if type(told) is not list or [*map(type, told)] != _TYPES:
            raise ValueError("no entry")
        path, kind, size, mode, mtime_ns, target = told
        if not (0 <= size < _MOST_NS and -_MOST_NS < mtime_ns < _MOST_NS):
            raise ValueError("no entry")
        names = path + target
        if "\0" in names:
            raise ValueError("no entry")
        if not names.isascii():
            os.fsencode(names)
        return cls(path, kind, size, mode & 0o777, mtime_ns, target)

    def same_as(self, other: Entry | None) -> bool:
        """Whether another is the same by kind, size, time and permissions, as rsync looks at it."""
        if other is None or other.kind != self.kind:
            return False
        if self.kind == "link":
            return other.target == self.target
        ours, theirs = [(each.size, each.mtime_ns, each.mode) for each in (self, other)]
        return self.kind != "file" or ours == theirs


def entry_of(path: str, status: os.stat_result, target: str = "", size: int | None = None) -> Entry:
    """The entry of what was looked at; the size of what was read, where it was."""
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
    if size is None:
        size = status.st_size if kind == "file" else 0
    return Entry(path, kind, size, status.st_mode & 0o777, status.st_mtime_ns, target)


def is_inner(name: str) -> bool:
    """Whether a name is that of a file in the making."""
    return name.startswith(PREFIX)


def scan(root: Root, path: str, *, recursive: bool, inner: bool = False) -> Iterator[Entry]:
    """What is at a path, first itself as "", then what is in it, names in order, parents first.

    A link at the path itself is followed; below it none is. Raises OSError for the path itself;
    what cannot be read below it is told as `"unread"`, and why, for whoever deletes what is not
    told: a directory perhaps a second time. Holds no descriptor
    between two entries, however deep it is, and however slowly they are taken. Files in the
    making are left out unless they, too, are wanted (`inner`).
    """
    top = entry_of("", root.stat(path, follow=True))
    waiting = [("", _names(root, path, inner))] if top.kind == "directory" else []
    yield top
    while waiting:
        above, names = waiting[-1]
        for entry in _some(root, path, above, names):
            if recursive and entry.kind == "directory":
                try:
                    waiting.append((entry.path, _names(root, f"{path}/{entry.path}", inner)))
                except OSError as error:
                    entry = replace(entry, kind="unread", target=error.strerror or "")
            yield entry
        if not names:
            waiting.remove((above, names))


def some_of(found: Iterator[Entry]) -> list[Entry]:
    """The next ones, none at the end: what a thread looks at in one go. Raises as `scan`."""
    return list(islice(found, _AT_ONCE))


def _names(root: Root, path: str, inner: bool) -> list[str]:
    """The names in a directory, the first one last."""
    directory = root.open_directory(path.strip("/"))
    try:
        names = [name for name in os.listdir(directory) if inner or not is_inner(name)]
    finally:
        os.close(directory)
    return sorted(names, reverse=True)


def _some(root: Root, path: str, above: str, names: list[str]) -> list[Entry]:
    """Looks at the next names in a directory, up to one that is a directory itself."""
    found: list[Entry] = []

    def fail(path: str, error: OSError) -> None:
        if error.errno not in _GONE:  # while we looked
            found.append(Entry(path, "unread", target=error.strerror or ""))

    try:
        directory = root.open_directory(f"{path}/{above}".strip("/"))
    except OSError as error:
        names.clear()
        fail(above, error)
        return found
    try:
        while names and len(found) < _AT_ONCE:
            name = names.pop()
            inside = f"{above}/{name}".lstrip("/")
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                link = stat.S_ISLNK(status.st_mode)
                target = os.readlink(name, dir_fd=directory) if link else ""
            except OSError as error:
                fail(inside, error)
                continue
            found.append(entry_of(inside, status, target))
            if found[-1].kind == "directory":
                break
    finally:
        os.close(directory)
    return found
