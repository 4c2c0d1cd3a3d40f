"""Connections of RPT for coroutines: what a program does with one, and what the node tells it.

It hands the machine's events out to those who wait: for the connection here, for one of its
streams in `stream`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from rawproto.drivers.rpt.stream import Bell, RPTStream
from rawproto.errors import ConnectionLostError, LocalProtocolError, RemoteProtocolError
from rawproto.transport.connection import Connection
from rawproto.transport.constants import CloseCode, Kind
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

__all__ = ["RPTConnection"]

_OF_STREAMS = (StreamReadable, StreamWritable)
_MOST_UNACCEPTED = 4
"""So many times `max_streams` wait to be accepted; half of them can be open, in two directions."""


class RPTConnection:
    """One connection. Made by `connect` and `serve`."""

    def __init__(self, connection: Connection, node: Node) -> None:
        self._connection = connection
        self._node = node
        self._bell = Bell()
        # A handle lives as long as somebody holds it: thousands of streams come and go.
        self._streams: WeakValueDictionary[int, RPTStream] = WeakValueDictionary()
        self.watched: set[RPTStream] = set()
        self._first = self._handle(0)
        self._opened: list[RPTStream] = []
        self._most_unaccepted = _MOST_UNACCEPTED * connection.config.max_streams
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

    def let_go(self, stream_id: int) -> None:
        """A handle goes: perhaps in another thread, or in the middle of anything."""
        stream = self._connection.streams.known(stream_id)
        if stream is not None and not stream.given_up and not self._over:
            self._node.soon(partial(self._give_up, stream_id))

    def _give_up(self, stream_id: int) -> None:
        """Nobody holds a stream any more, unless there is a new handle by now."""
        if self._over or stream_id in self._streams:
            return
        with suppress(LocalProtocolError):  # it has ended, or goes the other way
            self._connection.finish(stream_id)
        self._connection.incoming.abandon(stream_id)
        self.wake()

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
                if len(self._opened) > self._most_unaccepted:
                    self._forget_unaccepted()
            elif isinstance(event, StreamReset | SendingStopped):
                handle = self._streams.get(event.stream_id)
                if handle is not None:
                    self._break(handle, event)
                    if handle.bell.is_heard:
                        woken[event.stream_id] = handle
            elif not isinstance(event, StreamsAllowed | DatagramReadable):
                raise LocalProtocolError(CloseCode.INTERNAL, f"unknown event {event}")
        for handle in woken.values():
            handle.bell.ring()
        if ring:
            self._bell.ring()

    @staticmethod
    def _break(handle: RPTStream, event: StreamReset | SendingStopped) -> None:
        if isinstance(event, StreamReset):
            handle.reset_by = RemoteProtocolError(event.code, "the peer reset the stream")
        else:
            words = "the peer wants no more of the stream"
            handle.stopped_by = RemoteProtocolError(event.code, words)

    def _forget_unaccepted(self) -> None:
        """Where nobody accepts streams a peer could open and give up any number: those that are
        over make room, for nothing can be read of them."""
        known = self._connection.streams.known
        self._opened = [stream for stream in self._opened if known(stream.stream_id) is not None]

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
