"""What a file server answers: the methods of docs/files.md, over one root."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rawproto.apps.files.beneath import MOST_PATH_BYTES, Root
from rawproto.apps.files.entries import PREFIX, Entry, is_inner, scan, some_of
from rawproto.apps.files.faults import FileError, ReadOnlyError, as_file_errors, file_error, told
from rawproto.apps.files.partial import Partial
from rawproto.apps.files.quota import Quota
from rawproto.apps.files.source import Source
from rawproto.apps.files.transfer import (
    VERSION,
    begun,
    cut,
    offer,
    receive_file,
    receive_pack,
    send_file,
    send_pack,
)
from rawproto.apps.siblings import MOST_BYTES, Siblings
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.identity.keys import KEY_BYTES
from rawproto.rpc import BadRequestError, Call, Method

__all__ = ["Crossing", "FileService"]

# Of one connection's calls so many hold files at once, and listings their names; others wait.
_CALLS, _LISTINGS = 16, 2
# As many as one may ask for of small files.
_MOST_NAMES = 1024
# Of the names in one message, of which each may be 50,000.
_LISTED_BYTES = 200_000
# So long another process may take to let go of a file whose maker has come to this one.
_LET_GO_S, _ASK_AGAIN_S = 0.5, 0.02


@dataclass(slots=True, kw_only=True)
class Crossing:
    """A file that crossed, or did not.

    Attributes:
        connection: whose.
        way: `"get"` or `"put"`.
        path: of the file.
        size_bytes: how much of it stands at the other side, with what stood there before.
        duration_s: how long it took; of a small one, the pack that it was in.
        error: why it did not, None if it did.
    """

    connection: RPTConnection
    way: str
    path: str
    size_bytes: int = 0
    duration_s: float = 0.0
    error: str | None = None

    def add(self, size: int) -> None:
        """More of it stands."""
        self.size_bytes += size


class FileService:
    """Serves a directory.

    Args:
        root: what is served.
        writable: whether clients may change it.
        quota_bytes: what all files in it may hold, None for what the disk has.
        siblings: the processes that serve it beside each other.
        note: hears of each file that crossed.
    """

    def __init__(
        self,
        root: Root,
        *,
        writable: bool = False,
        quota_bytes: int | None = None,
        siblings: Siblings | None = None,
        note: Callable[[Crossing], None] = lambda crossing: None,
    ) -> None:
        self._root = root
        self._writable = writable
        self._quota = Quota(root, quota_bytes)
        # Who makes which file: one who was cut off and comes back takes over from himself.
        self._makers: dict[str, tuple[bytes, asyncio.Task[Any] | None]] = {}
        self._relieved: set[asyncio.Task[Any]] = set()
        self._siblings = siblings or Siblings(1)
        self._number = 0
        self._turn = asyncio.Lock()
        self._note = note

    async def begin(self, number: int) -> None:
        """Serves from now on, as the process of this number."""
        self._number = number
        self._siblings.hear(number, self._asked_to_let_go)

    def ending(self) -> None:
        """What is crossing goes on."""

    async def end(self) -> None:
        """Serves no more."""
        self._siblings.deaf(self._number)

    @property
    def methods(self) -> dict[str, Method]:
        """For the `RPCPeer` of one connection."""
        calls, listings = asyncio.Semaphore(_CALLS), asyncio.Semaphore(_LISTINGS)
        return {
            "hello": self._hello,
            "list": _within(listings, self._list),
            "get": _within(calls, self._get),
            "get_pack": _within(calls, self._get_pack),
            "put": _within(calls, self._put),
            "put_pack": _within(calls, self._put_pack),
            "remove": _within(calls, self._remove),
        }

    async def _hello(self, params: Any, call: Call) -> Any:
        return {"version": VERSION, "writable": self._writable}

    async def _list(self, params: Any, call: Call) -> None:
        path = _path(params)
        recursive = bool(params.get("recursive"))
        with as_file_errors(path):
            found = scan(self._root, path, recursive=recursive)
            while some := await asyncio.to_thread(some_of, found):
                for part in cut(some, len(some), _LISTED_BYTES):
                    await call.send([each.to_json() for each in part])

    async def _get(self, params: Any, call: Call) -> None:
        path = _path(params)
        with as_file_errors(path):
            source = Source(self._root.open_file(path), path)
            try:
                with self._noted(call, path) as crossing:
                    await call.send(source.entry.to_json())
                    await send_file(call, source, crossing.add)
            finally:
                source.close()

    @contextmanager
    def _noted(self, call: Call, path: str) -> Iterator[Crossing]:
        crossing = Crossing(connection=call.peer.connection, way=call.method, path=path)
        began = time.monotonic()
        try:
            yield crossing
        except asyncio.CancelledError:
            crossing.error = "given up"
            raise
        except Exception as error:
            crossing.error = str(error)
            raise
        finally:
            crossing.duration_s = time.monotonic() - began
            self._note(crossing)

    def _noting(self, call: Call, path: str) -> Callable[[Entry, FileError | None], None]:
        """What notes the files of a pack."""
        way, began = call.method.removesuffix("_pack"), time.monotonic()

        def note(entry: Entry, fault: FileError | None) -> None:
            if entry.kind == "file":
                crossing = Crossing(
                    connection=call.peer.connection,
                    way=way,
                    path=f"{path}/{entry.path}".strip("/"),
                    size_bytes=0 if fault else entry.size,
                    duration_s=time.monotonic() - began,
                    error=str(fault) if fault else None,
                )
                self._note(crossing)

        return note

    async def _get_pack(self, params: Any, call: Call) -> Any:
        path = _path(params)
        names = params.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BadRequestError("names were expected")
        if len(names) > _MOST_NAMES:
            raise BadRequestError(f"{len(names)} names; {_MOST_NAMES} are allowed")
        note = self._noting(call, path)
        faults = await send_pack(call, self._root, path, names, self._turn, lambda size: None, note)
        return told(faults)

    def _check_writable(self) -> None:
        if not self._writable:
            raise ReadOnlyError("the server takes nothing: it was started without --write")

    async def _put(self, params: Any, call: Call) -> None:
        """As `_made`, unless another call of the same peer takes over."""
        task = asyncio.current_task()
        try:
            await self._made(params, call)
        except asyncio.CancelledError:
            if task not in self._relieved:
                raise
            task.uncancel()
            raise FileError(f"{params['entry'][0]}: you are sending it anew") from None
        finally:
            self._relieved.discard(task)

    async def _made(self, params: Any, call: Call) -> None:
        self._check_writable()
        try:
            entry = Entry.from_json(params.get("entry") if isinstance(params, dict) else None)
        except ValueError:
            raise BadRequestError("an entry was expected") from None
        if entry.kind != "file":
            raise BadRequestError("put is for files")
        _check_name(entry.path)
        maker = (call.peer.connection.peer_key, asyncio.current_task())
        await self._take_over(entry.path, maker[0])
        with self._noted(call, entry.path) as crossing:
            if self._quota.limited:  # it may have to look at all files
                await asyncio.to_thread(self._quota.admit, entry.path, entry.size)
            with self._quota.coming(entry.path, entry.size):
                self._makers[entry.path] = maker
                try:
                    with as_file_errors(entry.path):
                        partial = await self._partial(entry, bool(params.get("old")), maker[0])
                        try:
                            await offer(call, partial)
                            await receive_file(call, partial, entry.size, crossing.add)
                        finally:
                            partial.close()
                finally:
                    if self._makers.get(entry.path) == maker:
                        del self._makers[entry.path]

    async def _partial(self, entry: Entry, old: bool, key: bytes) -> Partial:
        """The file in the making, once nobody else makes it. Raises OSError.

        Another process of ours may still be at it for a connection of the same peer that is dead.
        """
        message = key + os.fsencode(entry.path)
        asked_s = 0.0
        while True:
            try:
                return await begun(self._root, entry, old=old)
            except OSError as error:
                if error.errno != errno.EBUSY or self._siblings.alone:
                    raise
                if asked_s >= _LET_GO_S or len(message) > MOST_BYTES:
                    raise
            self._siblings.tell(self._number, message)
            await asyncio.sleep(_ASK_AGAIN_S)
            asked_s += _ASK_AGAIN_S

    def _asked_to_let_go(self, message: bytes) -> None:
        key, path = message[:KEY_BYTES], os.fsdecode(message[KEY_BYTES:])
        self._relieve(path, key)

    async def _take_over(self, path: str, key: bytes) -> None:
        """Has an earlier call, whose connection may be dead, end first."""
        if (task := self._relieve(path, key)) is not None:
            await asyncio.wait({task})

    def _relieve(self, path: str, key: bytes) -> asyncio.Task[Any] | None:
        """Ends an earlier call of the same peer for the same file: its task, if there is one."""
        of, task = self._makers.get(path, (b"", None))
        if of != key or task is None:
            return None
        self._relieved.add(task)
        task.cancel()
        return task

    async def _put_pack(self, params: Any, call: Call) -> Any:
        self._check_writable()
        path = _path(params)

        def admit(where: str, entry: Entry) -> None:
            _check_name(where)
            if entry.kind != "other":
                self._quota.admit(where, entry.size)

        try:
            note = self._noting(call, path)
            faults = await receive_pack(
                call, self._root, path, admit, self._turn, lambda size: None, note
            )
        finally:
            self._quota.gone()  # what was replaced, and what was admitted and could not be made
        return told(faults)

    async def _remove(self, params: Any, call: Call) -> int:
        self._check_writable()
        path, recursive = _path(params), bool(params.get("recursive"))
        with as_file_errors(path):
            try:
                count = await asyncio.to_thread(self._root.remove, path, recursive=recursive)
            finally:
                self._quota.gone()
        return count


def _within(room: asyncio.Semaphore, method: Method) -> Method:
    """The method, once there is room for another call."""

    async def answer(params: Any, call: Call) -> Any:
        async with room:
            return await method(params, call)

    return answer


def _check_name(path: str) -> None:
    if PREFIX in path and any(map(is_inner, path.split("/"))):
        raise FileError(f"{path}: such names are not for clients")


def _path(params: Any) -> str:
    path = params.get("path") if isinstance(params, dict) else None
    if not isinstance(path, str):
        raise BadRequestError("a path was expected")
    if len(path) > MOST_PATH_BYTES:  # of each name in a pack it would be said again
        raise file_error(OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)), path[:100])
    return path.strip("/")
