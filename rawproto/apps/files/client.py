"""What a client of a file server does: list, fetch, put, keep in step, remove.

Several large files are in flight at once, and small ones travel in packs beside them. What is
wrong with one file is told and stops no other.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from dataclasses import replace
from functools import partial
from itertools import filterfalse
from pathlib import Path

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.entries import Entry
from rawproto.apps.files.faults import ERRORS, FileError, VersionError, as_file_errors
from rawproto.apps.files.packs import set_directories
from rawproto.apps.files.partial import part_path
from rawproto.apps.files.plan import (
    Clearing,
    Listing,
    Progress,
    is_large,
    is_wanted,
    joined,
    scanned,
    standing,
    whole,
)
from rawproto.apps.files.source import Source
from rawproto.apps.files.threads import in_thread
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

__all__ = ["FileClient"]

_SECONDS = 7 * 86400.0
_NAMES = 1000
_LANES = 3
_NAMES_BYTES = 1 << 17
# What one listing may make us hold, whatever a server tells.
_MOST_ENTRIES = 1_000_000
_MOST_LISTED_BYTES = 256 << 20


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

    async def entries(self, path: str, *, recursive: bool = False) -> Listing:
        """What is at a path, some at a time: itself as "", then what is in it. Raises RPCError."""
        params = {"path": path, "recursive": recursive}
        async with self._peer.open("list", params, timeout_s=_SECONDS) as call:
            await call.end()
            await self._understood()
            async for some in call:
                try:
                    yield [Entry.from_json(told) for told in some]
                except (TypeError, ValueError):
                    raise _nonsense(path) from None

    async def remove(self, path: str, *, recursive: bool = False) -> int:
        """Removes: how many things. Raises RPCError."""
        params = {"path": path, "recursive": recursive}
        await self._understood()
        count = await self._peer.call("remove", params, timeout_s=_SECONDS)
        if type(count) is not int:
            raise _nonsense(path)
        return count

    # --- from there ---

    async def get(
        self, path: str, root: Root, name: str, progress: Progress, *, sync: bool = False,
        delete: bool = False, again: bool = False, top: bool = True,
    ) -> None:  # fmt: skip
        """Fetches a file or a directory with all that is in it.

        Args:
            path: there.
            root: here, beneath which it goes.
            name: what it is called there.
            progress: told as it goes.
            sync: leave out what is the same, send only the blocks that differ, and remove what is
                in the way of a directory.
            delete: remove here what is not there.
            again: it was broken off: as `sync`, but remove nothing.
            top: a directory itself has the time and permissions that it has there, too.

        Raises:
            RPCError: the path itself cannot be fetched.
        """
        if not (sync or delete or again) and await self._get_file(path, root, name, progress):
            return
        async with aclosing(self._listed(path)) as theirs:
            first = await anext(theirs)
            if first[0].kind != "directory":
                only = joined(first[:1])
                await self._get_all(path, root, name, only, progress, sync, delete, again)
                return
            # A root of its own: nothing that a server names leads out of what it is to fill.
            with as_file_errors(name):
                root.make_directories(name)
                inner = root.below(name)
            with closing(inner):
                listing = joined(first, theirs)
                await self._get_all(path, inner, "", listing, progress, sync, delete, again)
            if top:
                set_directories(root, name, first[:1])

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
                    making = await begun(root, told)
                    try:
                        await receive_file(call, making, told.size, progress.add)
                    finally:
                        making.close()
                    await call.result()
            except FileError as error:
                progress.faults.append(str(error))
            else:
                progress.done_files += 1
        return True

    async def _listed(self, path: str) -> Listing:
        """What is there, some at a time, itself first. Raises RPCError."""
        count = size = 0
        async with aclosing(self.entries(path, recursive=True)) as listing:
            async for some in listing:
                if not some or (not count and some[0].path):
                    raise _nonsense(path)
                count += len(some)
                size += sum(len(entry.path) + len(entry.target) for entry in some)
                if count > _MOST_ENTRIES or size > _MOST_LISTED_BYTES:
                    raise FileError(
                        f"{path or '.'}: more than {_MOST_ENTRIES:,} things, or names too long; "
                        "take its directories one by one"
                    )
                yield some
        if not count:
            raise _nonsense(path)

    async def _get_all(
        self, path: str, root: Root, name: str, theirs: Listing, progress: Progress,
        sync: bool, delete: bool, again: bool,
    ) -> None:  # fmt: skip
        ours = await standing(root, name) if sync or delete or again else {}

        async def remove(stray: str) -> int:
            with as_file_errors(stray):
                return await in_thread(partial(root.remove, _join(name, stray), recursive=True))

        clearing = Clearing({} if again else ours, remove, progress, delete)
        directories = await self._carry(
            theirs,
            ours if sync or again else {},
            clearing,
            lambda entry: self._get_one(path, root, name, entry, progress, sync or again),
            lambda some: self._get_pack(path, root, name, some, progress),
            progress,
        )
        set_directories(root, name, directories)

    async def _get_one(
        self, path: str, root: Root, name: str, entry: Entry, progress: Progress, sync: bool
    ) -> None:
        here, there = _join(name, entry.path), _join(path, entry.path)
        progress.path = here
        with as_file_errors(here):
            making = await begun(root, replace(entry, path=here), old=sync)
            try:
                async with self._peer.open("get", {"path": there}, timeout_s=_SECONDS) as call:
                    await offer(call, making)
                    try:
                        told = replace(Entry.from_json(await anext(call, None)), path=here)
                    except ValueError:
                        raise FileError(f"{there}: the server told nonsense") from None
                    making.retarget(told)  # it may have changed since it was listed
                    await receive_file(call, making, told.size, progress.add)
                    await call.result()
            finally:
                making.close()
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
        delete: bool = False, again: bool = False,
    ) -> None:  # fmt: skip
        """Sends a file or a directory; `name` is beneath `root` here, `path` there. As `get`."""
        ours = scanned(root, name)
        await self._understood()  # a server of another version is to write nothing
        theirs: dict[str, Entry] = {}
        if sync or delete or again:
            try:
                theirs = {entry.path: entry for entry in await whole(self._listed(path))}
            except FileError as error:
                if error.details != {"errno": "ENOENT"}:
                    raise

        def remove(stray: str) -> Awaitable[int]:
            return self.remove(_join(path, stray), recursive=True)

        clearing = Clearing({} if again else theirs, remove, progress, delete)
        directories = await self._carry(
            ours,
            theirs if sync or again else {},
            clearing,
            lambda entry: self._put_one(root, name, path, entry, progress, sync or again),
            lambda some: self._put_pack(root, name, path, some, progress),
            progress,
        )
        if directories:
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

    async def _carry(
        self,
        listing: Listing,
        known: dict[str, Entry],
        clearing: Clearing,
        carry: Callable[[Entry], Awaitable[None]],
        carry_pack: Callable[[list[Entry]], Awaitable[None]],
        progress: Progress,
    ) -> list[Entry]:
        """Carries what is listed and not the same already, while the listing still goes on.

        What is wrong with a file is noted, and the rest goes on.

        Args:
            listing: what there is, parents first.
            known: what stands already.
            clearing: of what is in the way.
            carry: one large file.
            carry_pack: many small things.
            progress: told as it goes.

        Returns:
            The directories among it, those within before those around, as their times are set.
        """
        room = asyncio.Semaphore(self._at_once)
        # Without a bound: a listing that waits for packs fills the window that these need.
        packs: asyncio.Queue[list[Entry]] = asyncio.Queue()
        large: asyncio.Queue[Entry | None] = asyncio.Queue()
        directories: list[Entry] = []

        async def attempt(work: Awaitable[None]) -> None:
            try:
                await work
            except VersionError:
                raise  # which is wrong with all of them
            except RPCError as error:
                progress.faults.append(str(error))

        async def alone() -> None:
            while (entry := await large.get()) is not None:
                async with room:
                    await attempt(carry(entry))

        async def lane() -> None:
            async with room:
                while some := await packs.get():
                    await attempt(carry_pack(some))

        lanes = lone = 0
        if clearing.delete:
            found = await whole(listing)
            await clearing.delete_strays(found)
            listing = joined(found)
        try:
            async with asyncio.TaskGroup() as group:
                async for some in listing:
                    wanted = [entry for entry in some if is_wanted(entry, known, progress)]
                    await clearing.make_way(wanted)
                    directories += [entry for entry in wanted if entry.kind == "directory"]
                    for entry in filter(is_large, wanted):
                        if lone < self._at_once:
                            lone += 1
                            group.create_task(alone())
                        large.put_nowait(entry)
                    for pack in cut(filterfalse(is_large, wanted), _NAMES, _NAMES_BYTES):
                        if lanes < _LANES:  # so that one is asked for while another comes
                            lanes += 1
                            group.create_task(lane())
                        packs.put_nowait(pack)
                for _ in range(lanes):
                    packs.put_nowait([])
                for _ in range(lone):
                    large.put_nowait(None)
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return directories[::-1]


def _nonsense(path: str) -> FileError:
    return FileError(f"{path or '.'}: the server told nonsense")


async def _told_faults(call: Call) -> list[str]:
    """What the other side could not do with a pack. Raises FileError: it told nonsense."""
    faults = await call.result()
    if not isinstance(faults, list):
        raise FileError("the server told nonsense")
    return [str(each) for each in faults]


def _join(above: str, path: str) -> str:
    return f"{above}/{path}".strip("/")


def local(path: str) -> tuple[Root, str]:
    """Where a path of the user's is: the directory it is in, and its name there.

    Raises:
        UsageError: there is no such directory.
    """
    above, name = os.path.split(os.path.abspath(path))
    return Root(above), name
