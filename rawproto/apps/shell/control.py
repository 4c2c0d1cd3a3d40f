"""One login for several processes of its user, as ssh(1) has it with ControlMaster.

::

    later process -- Unix socket --> master ~~~~ RPT ~~~~ server     read unix(7), SO_PEERCRED
    later process -- Unix socket --^   the one that has logged in

They make the same calls that cross RPT, a connection to the Unix socket for each: the master
passes `run` on, item by item, and answers `check` and `exit` itself. Whose terminal or pipes
these are, only the later process knows, and the server sees a session like any other.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from rawproto.apps.relay.channels import never
from rawproto.apps.relay.ends import End
from rawproto.apps.relay.sockets import Acceptor, connected_unix
from rawproto.apps.shell.faults import BROKEN, ERRORS
from rawproto.apps.shell.flow import OUTPUT_BYTES
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import (
    ConnectionLostError,
    LinkError,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    UsageError,
)
from rawproto.rpc import Call, RPCError, RPCPeer

__all__ = ["sharing", "visiting"]

_LENGTH = struct.Struct("!I")
_CREDENTIALS = struct.Struct("3i")
_MOST_PATH_BYTES = 107
_MOST_KEPT_BYTES = 8 * OUTPUT_BYTES  # of messages, some of which have but one byte of output
_AHEAD_BYTES = 1 << 18
_ALONE_S = 2.0


class _Stream:
    """A Unix connection, as much of an `RPTStream` as a call needs, and with the same bytes.

    It carries one call. Who asks closes it, and half-closes it first: before the answer that
    gives the call up. Who answers waits for that, as what is said yet to a closed socket breaks
    it, and with it what was not read.

    Args:
        reader: what comes.
        writer: what goes.
        lost: what there is to say when the other side is gone.
    """

    reset_by = stopped_by = None
    is_broken = False

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._lost = lost
        self._ended = False
        self._lingering: asyncio.Task[None] | None = None

    async def send_message_of(self, head: bytes, data: bytes | bytearray | memoryview) -> None:
        """Sends without waiting: who did, would let one suspended visitor fill the connection of
        all. What a session's two ends may have on its way bounds what is kept here."""
        if self._ended:
            raise LocalProtocolError(BROKEN, "this side of the call has ended")
        if self._writer.transport.get_write_buffer_size() > _MOST_KEPT_BYTES:
            self._writer.transport.abort()
        if self._writer.is_closing():
            raise ConnectionLostError(self._lost)
        self._writer.write(b"".join((_LENGTH.pack(len(head) + len(data)), head, data)))

    async def receive_message(self, most: int) -> bytes:
        try:
            (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if size > most:
                raise RemoteProtocolError(BROKEN, "a message longer than allowed")
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError):
            raise ConnectionLostError(self._lost) from None

    async def send_eof(self) -> None:
        self._ended = True
        with suppress(OSError):  # the other side may be gone
            self._writer.write_eof()

    def reset(self, code: int) -> None:
        self._writer.transport.abort()

    def stop(self, code: int) -> None:
        if not self._writer.is_closing():
            self._lingering = asyncio.create_task(self._linger())

    async def _linger(self) -> None:
        with suppress(OSError):
            while await self._reader.read(_AHEAD_BYTES):
                pass
        self.close()

    def close(self) -> None:
        self._writer.close()

    def watch(self, call: Callable[[], None] | None) -> None:
        pass  # whoever answers reads on, and so sees that the other side is gone


class _Door:
    """The master's path: as much of an `RPTConnection` as an `RPCPeer` needs that is called.

    Args:
        path: where.
        uid: whose processes may come in.

    Raises:
        LinkError: it cannot be had.
        UsageError: others may write to its directory, or it is too long.
    """

    def __init__(self, path: Path, uid: int) -> None:
        try:
            directory = path.parent.stat()
        except OSError as error:
            raise LinkError("listen on", str(path), error.errno) from None
        if directory.st_uid not in (0, uid) or directory.st_mode & 0o022:
            raise UsageError(f"-S {path}: others may write to {path.parent}")
        if len(os.fsencode(path)) > _MOST_PATH_BYTES:
            raise UsageError(f"-S {path}: longer than {_MOST_PATH_BYTES} bytes")
        with _alone_in(path.parent):
            before = os.umask(0o177)  # so that there is no moment at which others could connect
            try:
                self._acceptor = Acceptor(End(kind="unix", listens=True, path=str(path)))
            finally:
                os.umask(before)
        self._uid = uid
        self._visits: set[asyncio.Task[None]] = set()

    async def accept_stream(self) -> _Stream:
        while True:
            channel = await self._acceptor.accept()
            if _uid_beyond(channel.socket) != self._uid:
                await channel.close()
                continue
            reader, writer = await asyncio.open_unix_connection(
                sock=channel.socket, limit=_AHEAD_BYTES
            )
            visit = asyncio.create_task(_closed(writer))
            self._visits.add(visit)
            visit.add_done_callback(self._visits.discard)
            return _Stream(reader, writer, "who asked is gone")

    async def idle(self) -> None:
        """Returns once nobody is in."""
        while self._visits:
            await asyncio.wait(self._visits)

    def close(self) -> None:
        self._acceptor.close()


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Of several masters that find a left-over path in one instant, one at a time looks whether
    somebody is there yet, and replaces it: or one would take away another's that lives.

    Who cannot be alone soon, goes on all the same: whoever may read a directory may lock it, and
    some file systems have no locks.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            lock = os.open(directory, os.O_RDONLY)
            stack.callback(os.close, lock)
            end = time.monotonic() + _ALONE_S
            while time.monotonic() < end:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.01)
        yield


async def _closed(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        await writer.wait_closed()


class _Bell:
    """At the master's door: as much of an `RPTConnection` as an `RPCPeer` needs that calls."""

    def __init__(self, path: Path, uid: int) -> None:
        self._path = path
        self._uid = uid
        self._streams: list[_Stream] = []

    async def open_stream(self) -> _Stream:
        try:
            connected = await connected_unix(str(self._path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise UsageError(f"-S {self._path}: no master is there") from None
        except OSError as error:
            why = error.strerror or str(error)  # Python's own on a long path
            raise LinkError("connect to", str(self._path), error.errno, why) from None
        if _uid_beyond(connected) != self._uid:
            connected.close()
            raise UsageError(f"-S {self._path}: the master there is another user's")
        reader, writer = await asyncio.open_unix_connection(sock=connected, limit=_AHEAD_BYTES)
        self._streams.append(_Stream(reader, writer, "the master is gone"))
        return self._streams[-1]

    def close(self) -> None:
        for stream in self._streams:
            stream.close()

    async def accept_stream(self) -> None:
        await never()  # a master calls nobody


def _uid_beyond(connected: socket.socket) -> int:
    """Whose the process is that has connected to a socket, or listened at it."""
    packed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(packed)
    return int(uid)


class _Master:
    """What later processes may call."""

    def __init__(self, peer: RPCPeer, name: str, end: Callable[[], None]) -> None:
        self._peer = peer
        self._name = name
        self._end = end

    async def check(self, params: Any, call: Call) -> dict[str, Any]:
        return {"pid": os.getpid(), "name": self._name}

    async def exit(self, params: Any, call: Call) -> None:
        self._end()

    async def run(self, params: Any, call: Call) -> Any:
        """A session, whose items go both ways as they are; so credit is between its two ends."""
        try:
            async with self._peer.open("run", params, timeout_s=None) as far:
                up = asyncio.create_task(_up(call, far))
                down = asyncio.create_task(_down(far, call))
                try:
                    await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                    if not down.done():
                        await up  # raises, where nobody is there any more
                    await down
                    return await far.result()
                finally:
                    for task in (up, down):
                        task.cancel()
                    await asyncio.gather(up, down, return_exceptions=True)
        except (ConnectionLostError, ProtocolError) as error:
            raise RPCError(str(error)) from None


async def _up(call: Call, far: Call) -> None:
    async for item in call:
        try:
            await far.send(item)
        except (RPCError, ConnectionLostError, ProtocolError):
            return  # how it ended, its answer tells


async def _down(far: Call, call: Call) -> None:
    async for item in far:
        await call.send(item)


@asynccontextmanager
async def sharing(
    path: Path, peer: RPCPeer, name: str, end: Callable[[], None]
) -> AsyncIterator[None]:
    """Is the master at a path while the block runs, and then until the sessions of others end.

    Args:
        path: of the socket, in a directory to which nobody else may write.
        peer: where somebody is logged in.
        name: who that is, and where.
        end: called when somebody wants the master to end.

    Raises:
        LinkError: the path cannot be had.
        UsageError: it is none for this.
    """
    door = _Door(path, os.geteuid())
    master = _Master(peer, name, end)
    methods = {"check": master.check, "exit": master.exit, "run": master.run}
    # Of its connection a peer wants streams, and nothing else.
    inner = RPCPeer(cast(RPTConnection, door), methods)
    try:
        yield
        await door.idle()
    finally:
        door.close()
        await inner.close()


@asynccontextmanager
async def visiting(path: Path, *, uid: int | None = None) -> AsyncIterator[RPCPeer]:
    """The calls of a master: `check`, `exit`, and `run`, which `client.session` makes.

    Each of them raises UsageError where no master is, and LinkError where none can be asked.

    Args:
        path: of its socket.
        uid: whose it has to be, None for this process's user's.
    """
    bell = _Bell(path, os.geteuid() if uid is None else uid)
    peer = RPCPeer(cast(RPTConnection, bell), errors=ERRORS)
    try:
        yield peer
    finally:
        await peer.close()
        bell.close()
