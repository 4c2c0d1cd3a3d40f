"""What there is on either side, what of it is to be carried, and how far that is.

A listing goes on while what it told first is carried already; whoever needs it whole waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.entries import Entry, scan, some_of
from rawproto.apps.files.faults import FileError, VersionError, as_file_errors
from rawproto.apps.files.packs import PACKED_BYTES
from rawproto.rpc import RPCError

__all__ = ["Clearing", "Listing", "Progress"]
__all__ += ["is_large", "is_wanted", "joined", "scanned", "standing", "unread_words", "whole"]

Listing = AsyncGenerator[list[Entry], None]
"""Some entries at a time, parents first."""


@dataclass(slots=True)
class Progress:
    """How far it is.

    Attributes:
        total_bytes: of all files that have to be sent.
        done_bytes: of those that stand on the other side.
        total_files: how many.
        done_files: likewise.
        skipped_files: those that were the same already.
        removed: things that were in the way of being in step.
        path: the last file that was begun.
        faults: what could not be done.
    """

    total_bytes: int = 0
    done_bytes: int = 0
    total_files: int = 0
    done_files: int = 0
    skipped_files: int = 0
    removed: int = 0
    path: str = ""
    faults: list[str] = field(default_factory=list)

    def add(self, size: int) -> None:
        """Bytes stand."""
        self.done_bytes += size

    def on_pack(self, entries: list[Entry], faults: list[str]) -> None:
        """A pack of these stands, but for what is wrong; "" where nobody said what."""
        files = sum(entry.kind == "file" for entry in entries)
        self.done_files += max(files - len(faults), 0)
        named = list(filter(None, faults))
        self.faults += named
        if len(named) < len(faults):
            self.faults.append(f"and {len(faults) - len(named)} more like these")


async def joined(*parts: list[Entry] | Listing) -> Listing:
    """These, one after the other."""
    for part in parts:
        if isinstance(part, list):
            yield part
        else:
            async for some in part:
                yield some


async def whole(listing: Listing) -> list[Entry]:
    """All of it."""
    return [entry async for some in listing for entry in some]


async def scanned(root: Root, name: str) -> Listing:
    """What is here, some at a time. Raises FileError."""
    with as_file_errors(name):
        found = scan(root, name, recursive=True)
        while some := await asyncio.to_thread(some_of, found):
            yield some


async def standing(root: Root, name: str) -> dict[str, Entry]:
    """What is here by its path, nothing if it cannot be looked at."""
    try:
        return {entry.path: entry for entry in await whole(scanned(root, name))}
    except FileError:
        return {}


def is_wanted(entry: Entry, known: dict[str, Entry], progress: Progress) -> bool:
    """Whether it is to be sent, when `known` stands already."""
    if entry.kind == "other":
        progress.faults.append(f"{entry.path or '.'}: neither file nor directory nor link")
    elif entry.kind == "unread":
        progress.faults.append(unread_words(entry))
    elif entry.kind == "file":
        if entry.same_as(known.get(entry.path)):
            progress.skipped_files += 1
            return False
        progress.total_files += 1
        progress.total_bytes += entry.size
        return True
    return entry.kind in ("directory", "link")


def unread_words(entry: Entry) -> str:
    """Why nobody could look at it."""
    return f"{entry.path or '.'}: {entry.target.lower()}"


def is_large(entry: Entry) -> bool:
    """Whether it comes alone: a large file, or the only one."""
    return entry.kind == "file" and (entry.size > PACKED_BYTES or not entry.path)


@dataclass(slots=True)
class Clearing:
    """What goes where things are carried to.

    Args:
        stands: what is there, by its path.
        remove: removes something there, with all that is in it: how many things. Raises RPCError.
        progress: told of it, and of what could not be removed.
        delete: whether all goes that is not in the source, too.
    """

    stands: dict[str, Entry]
    remove: Callable[[str], Awaitable[int]]
    progress: Progress
    delete: bool

    async def delete_strays(self, source: list[Entry]) -> None:
        """Removes what is not in the source, unless some of that is not known."""
        if source[0].kind != "directory":
            self.delete = False  # it takes nothing's place but that of its own name
        elif any(entry.kind == "unread" for entry in source):
            self.progress.faults.append("nothing was deleted, as not all could be read")
            self.delete = False
        else:
            for path in _strays(source, self.stands):
                await self._remove(path)

    async def make_way(self, entries: list[Entry]) -> None:
        """Removes what has their names and is in their way."""
        for entry in entries if self.stands else []:
            if _in_the_way(entry, self.stands.get(entry.path), self.delete):
                await self._remove(entry.path)

    async def _remove(self, path: str) -> None:
        try:
            self.progress.removed += await self.remove(path)
        except VersionError:
            raise
        except RPCError as error:
            self.progress.faults.append(str(error))


def _strays(source: list[Entry], stands: dict[str, Entry]) -> list[str]:
    """What is not in the source, the outermost of each."""
    names = {entry.path for entry in source}
    found: list[str] = []
    for path in sorted(stands):
        if path not in names and not (found and path.startswith(found[-1] + "/")):
            found.append(path)
    return found


def _in_the_way(entry: Entry, stands: Entry | None, delete: bool) -> bool:
    """Whether only one of the two can be there, and the other may go.

    What is in a directory would come into what a link of its name leads to. A directory goes only
    where things are deleted, as it may have much in it.
    """
    if stands is None or not entry.path or entry.kind == stands.kind:
        return False
    if stands.kind in ("directory", "unread"):
        return delete and entry.kind in ("file", "link")
    return entry.kind == "directory"
