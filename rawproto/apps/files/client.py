"""What a client of a file server does: list, fetch, put, keep in step, remove.

Several large files are in flight at once, and small ones travel in packs beside them. What is
wrong with one file is told and stops no other.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.entries import Entry, scan
from rawproto.apps.files.faults import ERRORS, FileError, VersionError, as_file_errors
from rawproto.apps.files.packs import PACKED_BYTES, set_directories
from rawproto.apps.files.partial import part_path
from rawproto.apps.files.source import Source
from rawproto.apps.files.transfer import (
    VERSION,
    begun,
    cut,
    offer,
    receive_file,
    receive_pack,
    send_directories,
    send_file,
    send_pack,
)
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.rpc import Call, RPCError, RPCPeer

__all__ = ["FileClient", "Progress"]

_SECONDS = 7 * 86400.0
_NAMES = 1000
_LANES = 3
_NAMES_BYTES = 1 << 17
# What one listing may make us hold, whatever a server tells.
_MOST_ENTRIES = 1_000_000
_MOST_LISTED_BYTES = 256 << 20

Job = Callable[[], Awaitable[None]]


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
        """A pack of these stands, but for what is wrong."""
        files = sum(entry.kind == "file" for entry in entries)
        self.done_files += max(files - len(faults), 0)
        self.faults += faults


class FileClient:
    """A connection to a file server. Use `async with`.

    Args:
        connection: of kind STREAM.
        memory: a directory for hashes of large files being sent, None for nowhere.
        at_once: how many large files are in flight.
    """

    def __init__(
        self, connection: RPTConnection, *, memory: Path | None = None, at_once: int = 4
    ) -> None:
        self._peer = RPCPeer(connection, errors=ERRORS)
        self._memory = memory
        self._at_once = at_once
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> FileClient:
        # What is wanted first is asked for beside it, and takes no round trip more.
        self._greeting = asyncio.create_task(self._greet())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._greeting.cancel()
        await asyncio.gather(self._greeting, return_exceptions=True)
        await self._peer.close()

    async def _greet(self) -> None:
        told = await self._peer.call("hello")
        version = told.get("version") if isinstance(told, dict) else None
        if version != VERSION:
            raise VersionError(f"the server speaks version {version} of files, and we {VERSION}")

    async def _understood(self) -> None:
        """Returns once it is known that the server speaks as we do. Raises VersionError."""
        await asyncio.shield(self._greeting)

    async def entries(self, path: str, *, recursive: bool = False) -> AsyncIterator[Entry]:
        """What is at a path: itself as "", then what is in it. Raises RPCError."""
        params = {"path": path, "recursive": recursive}
        async with self._peer.open("list", params, timeout_s=_SECONDS) as call:
            await call.end()
            await self._understood()
            async for some in call:
                for told in some:
                    try:
                        yield Entry.from_json(told)
                    except ValueError:
                        raise FileError(f"{path}: the server told nonsense") from None

    async def remove(self, path: str, *, recursive: bool = False) -> int:
        """Removes: how many things. Raises RPCError."""
        params = {"path": path, "recursive": recursive}
        await self._understood()
        count: int = await self._peer.call("remove", params, timeout_s=_SECONDS)
        return count

    # --- from there ---

    async def get(
        self, path: str, root: Root, name: str, progress: Progress, *, sync: bool = False,
        delete: bool = False,
    ) -> None:  # fmt: skip
        """Fetches a file or a directory with all that is in it.

        Args:
            path: there.
            root: here, beneath which it goes.
            name: what it is called there.
            progress: told as it goes.
            sync: leave out what is the same, and send only the blocks that differ.
            delete: remove here what is not there.

        Raises:
            RPCError: the path itself cannot be fetched.
        """
        if not (sync or delete) and await self._get_file(path, root, name, progress):
            return
        theirs = await self._listed(path)
        if theirs[0].kind != "directory":
            await self._get_all(path, root, name, theirs[:1], progress, sync, delete)
            return
        # A root of its own: nothing that a server names leads out of what it is to fill.
        with as_file_errors(name):
            root.make_directories(name)
            inner = root.below(name)
        with closing(inner):
            await self._get_all(path, inner, "", theirs, progress, sync, delete)
        set_directories(root, name, theirs[:1])

    async def _get_file(self, path: str, root: Root, name: str, progress: Progress) -> bool:
        """Fetches a file of which nothing stands here; False if it is none, or something stands.

        Nothing was listed, and no round trip is taken but the one for the file.
        """
        try:
            root.stat(part_path(name))
            return False
        except OSError:
            pass
        async with self._peer.open("get", {"path": path}, timeout_s=_SECONDS) as call:
            await call.send({"have": 0})
            try:
                told = replace(Entry.from_json(await anext(call, None)), path=name)
            except (RPCError, ValueError):
                return False
            await self._understood()
            progress.path = name
            progress.total_files, progress.total_bytes = 1, told.size
            try:
                with as_file_errors(name):
                    partial = await begun(root, told)
                    try:
                        await receive_file(call, partial, told.size, progress.add)
                    finally:
                        partial.close()
                    await call.result()
            except FileError as error:
                progress.faults.append(str(error))
            else:
                progress.done_files += 1
        return True

    async def _listed(self, path: str) -> list[Entry]:
        """All that is there, itself first."""
        listed: list[Entry] = []
        size = 0
        async for entry in self.entries(path, recursive=True):
            listed.append(entry)
            size += len(entry.path) + len(entry.target)
            if len(listed) > _MOST_ENTRIES or size > _MOST_LISTED_BYTES:
                raise FileError(
                    f"{path or '.'}: more than {_MOST_ENTRIES:,} things, or names too long; "
                    "take its directories one by one"
                )
        if not listed or listed[0].path:
            raise FileError(f"{path or '.'}: the server told nonsense")
        return listed

    async def _get_all(
        self, path: str, root: Root, name: str, theirs: list[Entry], progress: Progress,
        sync: bool, delete: bool,
    ) -> None:  # fmt: skip
        ours = _here(root, name) if sync or delete else {}
        wanted = _wanted(theirs, ours if sync else {}, progress)
        if delete:
            for stray in _strays(theirs, ours, progress):
                with as_file_errors(stray):
                    progress.removed += root.remove(_join(name, stray), recursive=True)
        large, small = _split(wanted)
        if theirs[0].kind == "file":
            large, small = wanted, []  # one file needs no pack
        await self._run(
            [
                *[
                    functools.partial(self._get_one, path, root, name, entry, progress, sync)
                    for entry in large
                ],
                *self._packs(small, lambda some: self._get_pack(path, root, name, some, progress)),
            ],
            progress,
        )
        set_directories(root, name, _directories(wanted))

    async def _get_one(
        self, path: str, root: Root, name: str, entry: Entry, progress: Progress, sync: bool
    ) -> None:
        here, there = _join(name, entry.path), _join(path, entry.path)
        progress.path = here
        with as_file_errors(here):
            partial = await begun(root, replace(entry, path=here), old=sync)
            try:
                async with self._peer.open("get", {"path": there}, timeout_s=_SECONDS) as call:
                    await offer(call, partial)
                    try:
                        told = replace(Entry.from_json(await anext(call, None)), path=here)
                    except ValueError:
                        raise FileError(f"{there}: the server told nonsense") from None
                    partial.retarget(told)  # it may have changed since it was listed
                    await receive_file(call, partial, told.size, progress.add)
                    await call.result()
            finally:
                partial.close()
        progress.done_files += 1

    async def _get_pack(
        self, path: str, root: Root, name: str, entries: list[Entry], progress: Progress
    ) -> None:
        params = {"path": path, "names": [entry.path for entry in entries]}
        allowed = {_join(name, entry.path) for entry in entries}

        def admit(here: str, entry: Entry) -> None:
            if here not in allowed:
                raise FileError(f"{here}: the server sent what was not asked for")

        async with self._peer.open("get_pack", params, timeout_s=_SECONDS) as call:
            await call.end()
            faults = await receive_pack(call, root, name, admit, self._turn, progress.add)
            progress.on_pack(entries, [*map(str, faults), *await _told_faults(call)])

    # --- to there ---

    async def put(
        self, root: Root, name: str, path: str, progress: Progress, *, sync: bool = False,
        delete: bool = False,
    ) -> None:  # fmt: skip
        """Sends a file or a directory; `name` is beneath `root` here, `path` there. As `get`."""
        with as_file_errors(name):
            ours = await asyncio.to_thread(lambda: list(scan(root, name, recursive=True)))
        await self._understood()  # a server of another version is to write nothing
        theirs: dict[str, Entry] = {}
        if sync or delete:
            try:
                theirs = {entry.path: entry for entry in await self._listed(path)}
            except FileError as error:
                if error.details != {"errno": "ENOENT"}:
                    raise
        wanted = _wanted(ours, theirs if sync else {}, progress)
        if delete:
            for stray in _strays(ours, theirs, progress):
                progress.removed += await self.remove(_join(path, stray), recursive=True)
        large, small = _split(wanted)
        if len(ours) == 1 and ours[0].kind == "file":
            large, small = wanted, []
        await self._run(
            [
                *[
                    functools.partial(self._put_one, root, name, path, entry, progress, sync)
                    for entry in large
                ],
                *self._packs(small, lambda some: self._put_pack(root, name, path, some, progress)),
            ],
            progress,
        )
        if directories := _directories(wanted):
            async with self._peer.open("put_pack", {"path": path}, timeout_s=_SECONDS) as call:
                await send_directories(call, directories)
                await call.end()
                await call.result()

    async def _put_one(
        self, root: Root, name: str, path: str, entry: Entry, progress: Progress, sync: bool
    ) -> None:
        here, there = _join(name, entry.path), _join(path, entry.path)
        progress.path = here
        with as_file_errors(here):
            source = Source(root.open_file(here), here, self._memory)
            try:
                told = replace(source.entry, path=there).to_json()
                params = {"entry": told, "old": sync}
                async with self._peer.open("put", params, timeout_s=_SECONDS) as call:
                    await send_file(call, source, progress.add)
                    await call.result()
                source.forget()
            finally:
                source.close()
        progress.done_files += 1

    async def _put_pack(
        self, root: Root, name: str, path: str, entries: list[Entry], progress: Progress
    ) -> None:
        params = {"path": path}
        async with self._peer.open("put_pack", params, timeout_s=_SECONDS) as call:
            paths = [entry.path for entry in entries]
            faults = await send_pack(call, root, name, paths, self._turn, progress.add)
            await call.end()
            progress.on_pack(entries, [*map(str, faults), *await _told_faults(call)])

    # --- both ---

    def _packs(
        self, small: list[Entry], send: Callable[[list[Entry]], Awaitable[None]]
    ) -> list[Job]:
        """Several lanes of packs, so that one is asked for while another comes."""
        parts = cut(small, _NAMES, _NAMES_BYTES)

        async def lane() -> None:
            for some in parts:
                await send(some)

        return [lane] * _LANES if small else []

    async def _run(self, jobs: list[Job], progress: Progress) -> None:
        """Runs them, so many at once. What is wrong with a file is noted; the rest goes on."""
        room = asyncio.Semaphore(self._at_once)

        async def one(job: Job) -> None:
            async with room:
                try:
                    await job()
                except VersionError:
                    raise  # which is wrong with all of them
                except RPCError as error:
                    progress.faults.append(str(error))

        try:
            async with asyncio.TaskGroup() as group:
                for job in jobs:
                    group.create_task(one(job))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None


async def _told_faults(call: Call) -> list[str]:
    """What the other side could not do with a pack. Raises FileError: it told nonsense."""
    faults = await call.result()
    if not isinstance(faults, list):
        raise FileError("the server told nonsense")
    return [str(each) for each in faults]


def _join(above: str, path: str) -> str:
    return f"{above}/{path}".strip("/")


def _here(root: Root, name: str) -> dict[str, Entry]:
    try:
        return {entry.path: entry for entry in scan(root, name, recursive=True)}
    except OSError:
        return {}


def _wanted(theirs: list[Entry], known: dict[str, Entry], progress: Progress) -> list[Entry]:
    """What is to be sent of what is there, when `known` stands already."""
    wanted = []
    for entry in theirs:
        if entry.kind == "other":
            progress.faults.append(f"{entry.path or '.'}: neither file nor directory nor link")
        elif entry.kind == "unread":
            progress.faults.append(f"{entry.path}: {entry.target.lower()}")
        elif entry.kind == "file" and entry.same_as(known.get(entry.path)):
            progress.skipped_files += 1
        else:
            wanted.append(entry)
    files = [entry for entry in wanted if entry.kind == "file"]
    progress.total_files += len(files)
    progress.total_bytes += sum(entry.size for entry in files)
    return wanted


def _strays(source: list[Entry], target: dict[str, Entry], progress: Progress) -> list[str]:
    """What is in the target and not in the source, the outermost of each."""
    if source[0].kind != "directory":
        return []  # it takes nothing's place but that of its own name
    if any(entry.kind == "unread" for entry in source):
        progress.faults.append("nothing was deleted, as not all could be read")
        return []
    names = {entry.path for entry in source}
    strays: list[str] = []
    for path in sorted(target):
        if path not in names and not (strays and path.startswith(strays[-1] + "/")):
            strays.append(path)
    return strays


def _directories(entries: list[Entry]) -> list[Entry]:
    """Those within before those around, as their times have to be set."""
    return [entry for entry in reversed(entries) if entry.kind == "directory"]


def _split(entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """(large files, the rest)."""
    large = [each for each in entries if each.kind == "file" and each.size > PACKED_BYTES]
    return large, [each for each in entries if each.kind != "file" or each.size <= PACKED_BYTES]


def local(path: str) -> tuple[Root, str]:
    """Where a path of the user's is: the directory it is in, and its name there.

    Raises:
        UsageError: there is no such directory.
    """
    above, name = os.path.split(os.path.abspath(path))
    return Root(above), name
