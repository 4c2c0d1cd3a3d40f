"""One stream of RPT for coroutines: bytes, messages, and the end of either direction.

Whoever sends waits while the peer, the path or the reader behind it is slow; memory does
not grow. A coroutine may be cancelled anywhere: what it had received stays to be read.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from rawproto.errors import RemoteProtocolError, UsageError
from rawproto.transport.constants import CloseCode
from rawproto.transport.dialogue import MOST_ALONE

if TYPE_CHECKING:
    from rawproto.drivers.rpt.connection import RPTConnection

__all__ = ["Bell", "RPTStream"]

_LENGTH = struct.Struct("!I")
_PIECE_BYTES = 1 << 16
_WORTH_A_PIECE = 1 << 14


class Bell:
    """Wakes all who wait, and calls the one who watches."""

    __slots__ = ("_waiters", "watcher")

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[None], None] = {}  # in their order
        self.watcher: Callable[[], None] | None = None

    @property
    def is_heard(self) -> bool:
        """Whether anybody waits or watches."""
        return bool(self._waiters) or self.watcher is not None

    def ring(self) -> None:
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self.watcher is not None:
            self.watcher()

    async def wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:  # who asks with a time-out may do so for ever
            self._waiters.pop(waiter, None)
            raise


class RPTStream:
    """One stream. Made by `RPTConnection`.

    As with a socket, what is no longer held by anybody is closed: its end is sent, if it was not,
    and nothing more of it is received.

    Attributes:
        stream_id: its ID.
        owner: the connection that it belongs to.
        bell: rings when it may be possible to send or to receive again.
        reset_by: why nothing more will come: the peer gave up sending. None while it has not.
        stopped_by: why nothing more can be sent: the peer wants none. None while it does.
    """

    def __init__(self, owner: RPTConnection, stream_id: int) -> None:
        self.owner = owner
        self._connection = owner.machine
        self.stream_id = stream_id
        self.bell = Bell()
        self.reset_by: RemoteProtocolError | None = None
        self.stopped_by: RemoteProtocolError | None = None
        self._partial = bytearray()
        self._wanted: int | None = None

    def __del__(self) -> None:
        self.owner.let_go(self.stream_id)

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Sends bytes; returns when the stream has taken them all in.

        Raises:
            ConnectionLostError, ProtocolError: the connection, or the stream, is over.
        """
        if type(data) is bytes and 0 < len(data) <= MOST_ALONE and self.stopped_by is None:
            self.owner.check()
            if self.owner.send_one(self.stream_id, data):
                return
        view = memoryview(data)
        while view:
            self.owner.check()
            if self.stopped_by is not None:
                raise self.stopped_by
            taken = self._connection.write(self.stream_id, view[:_PIECE_BYTES])
            view = view[taken:]
            self.owner.wake()
            if not taken:
                await self.bell.wait()

    async def send_eof(self) -> None:
        """Ends the sending side; receiving goes on. Raises as `send` does."""
        self.owner.check()
        self._connection.finish(self.stream_id)
        self.owner.wake()

    async def receive(self, limit: int = _PIECE_BYTES) -> bytes:
        """At least one byte and at most `limit`; b"" at the end of the stream.

        Raises:
            ConnectionLostError, ProtocolError: the connection or the stream ended otherwise.
        """
        while True:
            data = self._connection.read(self.stream_id, limit, time.monotonic_ns())
            if data:
                if self._connection.sender.waits:  # reading let the peer go further
                    self.owner.wake()
                return data
            if self.reset_by is not None:
                raise self.reset_by
            if self._connection.incoming.at_end(self.stream_id):
                self.owner.wake()
                return b""
            self.owner.check()
            await self.bell.wait()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes up to the end, as they come."""
        while data := await self.receive():
            yield data

    async def send_message(self, data: bytes) -> None:
        """Sends a message, on a connection of kind SEQPACKET. Raises as `send` does.

        Raises:
            UsageError: it is longer than 2**32 - 1 bytes.
        """
        if len(data) >> 32:
            raise UsageError(f"a message of {len(data)} bytes")
        await self.send_message_of(b"", data)

    async def send_message_of(self, head: bytes, data: bytes | bytearray | memoryview) -> None:
        """Sends both as one message; many bytes are not copied. Args, Raises as above."""
        head = _LENGTH.pack(len(head) + len(data)) + head
        if len(data) < _WORTH_A_PIECE:
            await self.send(head + data)
        else:
            await self.send(head)
            await self.send(data)

    async def receive_message(self, most: int | None = None) -> bytes | None:
        """The next message; None at the end of the stream.

        Args:
            most: the longest that is taken, in bytes; None for `Config.max_message_bytes`.

        Raises:
            ConnectionLostError, ProtocolError: as in `receive`; or it was longer.
        """
        partial = self._partial
        if self._wanted is None and await self.begin_message(most) is None:
            return None
        while part := await self.receive_part():
            if not partial and not self._wanted:
                self._wanted = None
                return part
            partial += part
        message = bytes(partial)
        partial.clear()
        return message

    async def begin_message(self, most: int | None = None) -> int | None:
        """Begins to receive a message by parts: how long it is. Args, Raises as above."""
        partial = self._partial
        while len(partial) < _LENGTH.size:
            data = await self.receive(_LENGTH.size - len(partial))
            if not data:
                if partial:
                    raise self._break_off("the stream ended within a message")
                return None
            partial += data
        (wanted,) = _LENGTH.unpack(partial)
        partial.clear()
        if wanted > (self._connection.config.max_message_bytes if most is None else most):
            raise self._break_off("a message longer than allowed")
        self._wanted = wanted
        return int(wanted)

    async def receive_part(self, limit: int = _PIECE_BYTES) -> bytes:
        """What has come of the message that was begun, up to `limit` bytes; b"" behind its end.

        Raises:
            ConnectionLostError, ProtocolError: as in `receive`.
        """
        if not self._wanted:
            self._wanted = None
            return b""
        data = await self.receive(min(limit, self._wanted))
        if not data:
            raise self._break_off("the stream ended within a message")
        self._wanted -= len(data)
        return data

    def _break_off(self, words: str) -> RemoteProtocolError:
        error = RemoteProtocolError(CloseCode.MESSAGE, words)
        self._connection.abort(error.code, error.reason, time.monotonic_ns())
        self.owner.wake()
        return error

    @property
    def is_broken(self) -> bool:
        """Whether the peer has given up the stream in either direction, or all is over."""
        return self.reset_by is not None or self.stopped_by is not None or self.owner.closed

    async def broken(self) -> None:
        """Returns once that is so."""
        while not self.is_broken:
            await self.bell.wait()

    def watch(self, call: Callable[[], None] | None) -> None:
        """Has something called whenever the bell rings; None for nothing any more.

        Meanwhile the connection holds the stream, and with it whoever watches.
        """
        self.bell.watcher = call
        if call is None:
            self.owner.watched.discard(self)
        else:
            self.owner.watched.add(self)

    def reset(self, code: int = 0) -> None:
        """Gives up sending; the peer is told `code`."""
        self._connection.outgoing.reset(self.stream_id, code)
        self.owner.wake()

    def stop(self, code: int = 0) -> None:
        """Wants no more of it, and receives b"" from now on; the peer is told `code`."""
        self._connection.incoming.stop(self.stream_id, code)
        self.bell.ring()
        self.owner.wake()
