"""Connections and streams of RPT for coroutines: send, receive, wait, be pushed back.

Whoever sends waits while the peer, the path or the reader behind it is slow; memory does
not grow. A coroutine may be cancelled anywhere: what it had received stays to be read.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from rawproto.errors import (
    ConnectionLostError,
    LocalProtocolError,
    RemoteProtocolError,
    UsageError,
)
from rawproto.transport.connection import Connection
from rawproto.transport.constants import CloseCode, Kind
from rawproto.transport.dialogue import MOST_ALONE
from rawproto.transport.events import (
    ConnectionClosed,
    ConnectionEstablished,
    DatagramReadable,
    SendingStopped,
    StreamOpened,
    StreamReadable,
    StreamReset,
    StreamsAllowed,
    StreamWritable,
)

if TYPE_CHECKING:
    from rawproto.drivers.rpt.node import Node
    from rawproto.transport.stream import Stream

__all__ = ["RPTConnection", "RPTStream"]

_LENGTH = struct.Struct("!I")
_PIECE_BYTES = 1 << 16
_WORTH_A_PIECE = 1 << 14
_OF_STREAMS = (StreamReadable, StreamWritable)


class _Bell:
    """Wakes all who wait, and calls the one who watches."""

    __slots__ = ("_waiters", "watcher")

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []
        self.watcher: Callable[[], None] | None = None

    def ring(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self.watcher is not None:
            self.watcher()

    async def wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


class RPTStream:
    """One stream. Made by `RPTConnection`.

    Attributes:
        stream_id: its ID.
        owner: the connection that it belongs to.
        bell: rings when it may be possible to send or to receive again.
        reset_by: why nothing more will come: the peer gave up sending. None while it has not.
        stopped_by: why nothing more can be sent: the peer wants none. None while it does.
    """

    def __init__(self, owner: RPTConnection, stream_id: int) -> None:
        self.owner = owner
        self._connection = owner._connection
        self.stream_id = stream_id
        self.bell = _Bell()
        self.reset_by: RemoteProtocolError | None = None
        self.stopped_by: RemoteProtocolError | None = None
        self._partial = bytearray()
        self._wanted: int | None = None

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


class RPTConnection:
    """One connection. Made by `connect` and `serve`."""

    def __init__(self, connection: Connection, node: Node) -> None:
        self._connection = connection
        self._node = node
        self._bell = _Bell()
        # A handle lives as long as somebody holds it: thousands of streams come and go.
        self._streams: WeakValueDictionary[int, RPTStream] = WeakValueDictionary()
        self.watched: set[RPTStream] = set()
        self._first = self._handle(0)
        self._opened: list[RPTStream] = []
        self._established = connection.peer_key != b""
        self._error: Exception | None = None
        self._over = False
        self._last_calls: list[Callable[[], None]] = []

    # --- what is known ---

    @property
    def peer_key(self) -> bytes:
        """The peer's public key, 32 bytes."""
        return self._connection.peer_key

    @property
    def peer_address(self) -> tuple[str, int]:
        """The peer's IP address, and its RPT port."""
        return self._connection.address[0], self._connection.peer_port

    @property
    def local_address(self) -> tuple[str, int]:
        """This host's IP address as the peer knows it, and its RPT port. Raises LinkError."""
        return self._node.carrier.local_to(self._connection.address[0]), self.port

    @property
    def port(self) -> int:
        """This side's RPT port."""
        return self._node.carrier.port

    @property
    def machine(self) -> Connection:
        """The sans-IO connection beneath, for its figures."""
        return self._connection

    @property
    def closed(self) -> bool:
        """Whether it is over, well or not."""
        return self._over

    @property
    def stream(self) -> RPTStream:
        """Stream 0, which is open on both sides from the start."""
        return self._first

    def _handle(self, stream_id: int) -> RPTStream:
        handle = self._streams.get(stream_id)
        if handle is None:
            handle = self._streams[stream_id] = RPTStream(self, stream_id)
        return handle

    def check(self) -> None:
        """Raises what ended the connection, if it is over."""
        if self._over:
            raise self._error or ConnectionLostError("the connection is closed")

    def wake(self) -> None:
        self._node.wake(self._connection)

    def send_one(self, stream_id: int, data: bytes) -> bool:
        """Sends at most `MOST_ALONE` bytes at once, where that is all there is to do."""
        stream = self._connection.streams.known(stream_id)
        return stream is not None and self._node.send_one(self._connection, stream, data)

    # --- what it does ---

    async def established(self) -> None:
        """Returns once the handshake is done. Raises what it failed with."""
        while not self._established:
            self.check()
            await self._bell.wait()

    async def open_stream(self, *, one_way: bool = False) -> RPTStream:
        """Opens a stream, once the peer allows another. Raises as `check` does."""
        while True:
            self.check()
            if self._connection.streams.may_open(one_way=one_way):
                return self._handle(self._connection.streams.open(one_way=one_way))
            await self._bell.wait()

    async def accept_stream(self) -> RPTStream:
        """The next stream that the peer opened. Raises as `check` does."""
        while not self._opened:
            self.check()
            await self._bell.wait()
        return self._opened.pop(0)

    async def send_message(self, data: bytes) -> None:
        """Sends a message on stream 0; see `RPTStream.send_message`."""
        await self.stream.send_message(data)

    async def receive_message(self) -> bytes | None:
        """The next message of stream 0; None at its end."""
        return await self.stream.receive_message()

    def send_datagram(self, data: bytes) -> bool:
        """Sends a datagram: False if too many wait, and it is lost.

        Raises:
            LocalProtocolError: it is too large (`max_datagram_bytes`).
            ConnectionLostError, ProtocolError: the connection is over.
        """
        self.check()
        taken = self._connection.send_datagram(data)
        self.wake()
        return taken

    async def receive_datagram(self) -> bytes:
        """The next datagram that came. Raises as `check` does."""
        while (data := self._connection.datagrams.receive()) is None:
            self.check()
            await self._bell.wait()
        return data

    @property
    def max_datagram_bytes(self) -> int:
        """The largest datagram that can be sent now."""
        return self._connection.datagrams.max_bytes

    @property
    def kind(self) -> Kind:
        """Streams, messages or datagrams."""
        return self._connection.config.kind

    async def close(self) -> None:
        """Ends well: returns once all that was sent has arrived, or the peer is waited for no more.

        Raises:
            ConnectionLostError, ProtocolError: not all of it has, or the connection ended before.
        """
        self._connection.close(time.monotonic_ns())
        self.wake()
        await self.wait_closed()
        if self._error is not None:
            raise self._error

    def abort(self, code: int = 0, reason: str = "") -> None:
        """Ends at once; what was not acknowledged may be lost."""
        self._connection.abort(code, reason, time.monotonic_ns())
        self.wake()

    async def wait_closed(self) -> None:
        """Returns once the connection is over, whatever ended it."""
        while not self._over:
            await self._bell.wait()

    @property
    def error(self) -> Exception | None:
        """What ended it, None for a clean end or none yet."""
        return self._error

    def when_over(self, call: Callable[[], None]) -> None:
        """Has something called once nothing more is sent or received."""
        self._last_calls.append(call)

    # --- what the node tells ---

    def forgotten(self) -> None:
        """Nothing more will be sent or received."""
        calls, self._last_calls = self._last_calls, []
        for call in calls:
            call()

    def came_alone(self, stream: Stream) -> bool:
        """A stream can be read, and that is all that happened: whether somebody was told."""
        first = stream.stream_id == 0
        handle = self._first if first else self._streams.get(stream.stream_id)
        if handle is None:
            return False
        handle.bell.ring()
        return True

    def hand_out(self) -> None:
        """Takes the machine's events; then wakes who waits for them, and sees them all."""
        ring = False
        woken: dict[int, RPTStream] = {}
        while (event := self._connection.poll_event()) is not None:
            if isinstance(event, _OF_STREAMS):
                handle = self._streams.get(event.stream_id)
                if handle is not None:
                    woken[event.stream_id] = handle
                continue
            ring = True
            if isinstance(event, ConnectionEstablished):
                self._established = True
            elif isinstance(event, ConnectionClosed):
                self._end(event.error)
            elif isinstance(event, StreamOpened):
                self._opened.append(self._handle(event.stream_id))
            elif isinstance(event, StreamReset):
                handle = woken[event.stream_id] = self._handle(event.stream_id)
                handle.reset_by = RemoteProtocolError(event.code, "the peer reset the stream")
            elif isinstance(event, SendingStopped):
                handle = woken[event.stream_id] = self._handle(event.stream_id)
                words = "the peer wants no more of the stream"
                handle.stopped_by = RemoteProtocolError(event.code, words)
            elif not isinstance(event, StreamsAllowed | DatagramReadable):
                raise LocalProtocolError(CloseCode.INTERNAL, f"unknown event {event}")
        for handle in woken.values():
            handle.bell.ring()
        if ring:
            self._bell.ring()

    def _end(self, error: Exception | None) -> None:
        self._over = True
        self._error = error
        for handle in list(self._streams.values()):
            handle.bell.ring()

    def abandon(self) -> None:
        """The port is gone."""
        if not self._over:
            self._end(ConnectionLostError("the port was closed"))
            self._bell.ring()
