"""What stands behind a blocking socket on its port: a connection, or a queue of them.

::

    socket ----> StreamEnd ----> Connection, stream 0      bytes, or messages (SEQPACKET)
      |
      `--------> ListeningEnd -> connections to accept

An end says whether receiving and sending would block, and tells the socket's descriptor and
the threads that wait when that changes. Everything here is called with the port's lock held
(`Pump.lock`), and nothing here waits.
"""

from __future__ import annotations

import errno
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from rawproto.drivers.rpt.refusals import failure, os_error
from rawproto.transport.constants import CloseCode, Kind
from rawproto.transport.events import (
    ConnectionClosed,
    ConnectionEstablished,
    SendingStopped,
    StreamOpened,
    StreamReset,
)
from rawproto.transport.lifecycle import State

if TYPE_CHECKING:
    from rawproto.drivers.rpt.pump import Pump
    from rawproto.drivers.rpt.readiness import Readiness
    from rawproto.transport.connection import Connection
    from rawproto.transport.stream import Stream

__all__ = ["RESET_BY_USER", "BoundEnd", "End", "ListeningEnd", "StreamEnd", "peer_of"]

RESET_BY_USER = 256
"""The code of a CLOSE by SO_LINGER with no time: the first of the application's own."""
_LENGTH = struct.Struct("!I")


def peer_of(connection: Connection) -> tuple[str, int]:
    """A peer as a socket calls it: of UDP the port that NATs left, of bare IP RPT's own."""
    host, carrier_port = connection.address
    return host, carrier_port or connection.peer_port


class End:
    """One socket's end.

    Args:
        pump: of the port.
        readiness: of the socket, None as long as nobody asked for a descriptor.

    Attributes:
        binds: its socket has the port for itself; class attribute.
        condition: on which threads wait for it.
        error: what the next call is to raise, once.
        closed: the socket is.
    """

    binds = True

    def __init__(self, pump: Pump, readiness: Readiness | None) -> None:
        self.pump = pump
        self.readiness = readiness
        self.condition = threading.Condition(pump.lock)
        self.error: OSError | None = None
        self.closed = False
        pump.join(self)

    def readable(self) -> bool:
        """Whether receiving, or accepting, would not block."""
        return True

    def writable(self) -> bool:
        """Whether sending would not block."""
        return True

    def take_error(self) -> OSError | None:
        """What went wrong since this was asked last; another thread may have closed the socket.
        That the port is gone stays wrong."""
        if self.closed:
            return failure(errno.EBADF)
        error = self.error
        if error is not None and not self.pump.closed:
            self.error = None
            self.refresh()
        return error

    def refresh(self) -> None:
        """The descriptor is told how things stand."""
        if self.readiness is not None and not self.closed:
            self.readiness.tell(readable=self.readable(), writable=self.writable())

    def changed(self) -> None:
        """So is everybody who waits."""
        self.refresh()
        self.condition.notify_all()
        self.pump.kick()

    def on_active(self, connection: Connection) -> None:
        """A connection may have events."""

    def close(self) -> None:
        """The socket is closed. What follows happens without it."""
        if not self.closed:
            self.closed = True
            self.pump.ends.discard(self)
            self.changed()

    def abandon(self) -> None:
        """It is closed, and nobody else closes its descriptor."""
        self.close()
        if self.readiness is not None:
            self.readiness.close()

    def fail(self, error: OSError) -> None:
        """The port is gone."""
        self.error = error
        self.pump.ends.discard(self)
        self.changed()

    def forsake(self) -> None:
        """This process is a copy: the socket is the original's."""
        self.closed = True
        if self.readiness is not None:
            self.readiness.close()


class BoundEnd(End):
    """Of a socket that has a port and does nothing with it yet."""


class StreamEnd(End):
    """Of a connected socket.

    Args:
        connection: its connection, new or established.

    Attributes:
        connected: the handshake is done.
        over: the connection is.
        read_shut: this side wants nothing more.
        write_shut: this side sends nothing more.
        send_buffer: what waits to be sent or acknowledged at most, in bytes; 0 for what
            the connection thinks right.
    """

    binds = False

    def __init__(
        self, pump: Pump, readiness: Readiness | None, connection: Connection, send_buffer: int = 0
    ) -> None:
        super().__init__(pump, readiness)
        self.connection = connection
        self.connected = False
        self.over = False
        self.read_shut = self.write_shut = False
        self.send_buffer = send_buffer
        self._messages = connection.config.kind is Kind.SEQPACKET
        self._lingering = False
        self._partial = bytearray()
        self._wanted: int | None = None
        self._stream: Stream | None = None
        pump.assign(connection, self)
        if connection.peer_key:
            self._begin()

    def _begin(self) -> None:
        self.connected = True
        self._stream = self.connection.streams.known(0)

    # --- receiving ---

    def readable(self) -> bool:
        stream = self._stream
        if self.error is not None or self.over or self.read_shut or self.closed:
            return True
        if stream is None or stream.receiving is None:
            return False
        if self._messages:
            return self._assemble()
        receiving = stream.receiving
        end = receiving.next
        return end > receiving.read or end == receiving.final_size

    @property
    def at_end(self) -> bool:
        """Whether nothing more can come, now that all there was is read."""
        return self.over or self.read_shut or self.connection.incoming.at_end(0)

    def read(self, limit: int, now_ns: int) -> bytes:
        """Up to `limit` bytes; b"" for none now, or at the end."""
        try:
            return self.connection.read(0, limit, now_ns)
        except BaseException:  # interrupted, and nobody can vouch for what is left
            self.pump.fail()
            raise

    def peek(self, limit: int) -> bytes:
        """The same, which stay to be read."""
        stream = self._stream
        if stream is None or stream.receiving is None:
            return b""
        return stream.receiving.peek(limit)

    def message(self, *, keep: bool) -> bytes | None:
        """The next message; None where there is none now, or at the end."""
        if not self._assemble() or self._wanted != len(self._partial):
            return None
        message = bytes(self._partial)
        if not keep:
            self._partial, self._wanted = bytearray(), None
        return message

    def _assemble(self) -> bool:
        """Whether a message is there, or the end. What was read of it counts as read (6.3)."""
        try:
            return self._gather()
        except BaseException:  # interrupted with a part of a message in nobody's hands
            self.pump.fail()
            raise

    def _gather(self) -> bool:
        partial = self._partial
        while True:
            if self._wanted is None and len(partial) == _LENGTH.size:
                (self._wanted,) = _LENGTH.unpack(partial)
                partial.clear()
                if self._wanted > self.connection.config.max_message_bytes:
                    self._break_off("a message longer than allowed")
                    return True
            wanted = _LENGTH.size if self._wanted is None else self._wanted
            if len(partial) == wanted and self._wanted is not None:
                return True
            data = self.read(wanted - len(partial), time.monotonic_ns())
            if not data:
                break
            partial += data
            if self.connection.sender.waits:  # the peer may send more now
                self.pump.touch_soon(self.connection)
        if not self.connection.incoming.at_end(0):
            return False
        if (partial or self._wanted is not None) and not self.over:
            self._break_off("the stream ended within a message")
        return True

    def _break_off(self, words: str) -> None:
        self.connection.abort(CloseCode.MESSAGE, words, time.monotonic_ns())
        self.pump.touch_soon(self.connection)
        self.error = OSError(errno.ECONNRESET, words)
        self.over = True

    # --- sending ---

    def _high_water(self) -> int:
        """How much may wait to be sent, in the connection's terms; SO_SNDBUF counts all."""
        stream = self._stream
        if not self.send_buffer or stream is None or stream.sending is None:
            return self.connection.sender.high_water
        return self.send_buffer - stream.sending.unacked + stream.sending.unsent

    @property
    def sends_no_more(self) -> bool:
        """Whether this side has ended that, or the peer, of which nobody may have told us yet."""
        stream = self._stream
        return self.write_shut or (stream is not None and stream.reset_code is not None)

    def writable(self) -> bool:
        stream = self._stream
        if self.error is not None or self.over or self.closed or self.sends_no_more:
            return True
        # Once full it is not writable before a good part of it is free again, as of TCP.
        return (
            stream is not None
            and not stream.full
            and self.connection.outgoing.room(0, self._high_water()) > 0
        )

    def buffer(self, size: int) -> None:
        """Sets SO_SNDBUF, which may make room for who waits."""
        self.send_buffer = size
        if self._stream is not None:
            self._stream.full = False
        self.changed()

    def write(self, data: bytes | memoryview) -> int:
        """Takes in data, on SEQPACKET all of it: how many bytes."""
        outgoing = self.connection.outgoing
        try:
            if self._messages:
                outgoing.write(0, _LENGTH.pack(len(data)), None)
                return outgoing.write(0, data, None)
            return outgoing.write(0, data, self._high_water())
        except BaseException:  # interrupted with a part of a message written
            self.pump.fail()
            raise

    def send_one(self, data: bytes) -> bool:
        """Sends a few bytes without a turn, where that is all there is to do: whether it did."""
        stream = self._stream
        if (
            stream is None
            or self._messages
            or self.error is not None
            or self.over
            or self.write_shut
            or self.readiness is not None
            or 0 < self.send_buffer < len(data)
        ):
            return False
        return self.pump.send_one(self.connection, stream, data)

    def finish(self) -> None:
        """Nothing more will be sent."""
        if not self.sends_no_more:
            self.write_shut = True
            # It may be over, and nobody has told us yet.
            if self.connection.state is State.ESTABLISHED:
                self.connection.finish(0)

    # --- what the port tells ---

    def on_active(self, connection: Connection) -> None:
        event = connection.poll_event()
        if event is None and not self._lingering:
            return
        while event is not None:
            if isinstance(event, ConnectionEstablished):
                self._begin()
            elif isinstance(event, ConnectionClosed):
                self.over = True
                if event.error is not None:
                    self.error = os_error(event.error, connected=self.connected)
            elif isinstance(event, StreamReset) and event.stream_id == 0:
                self.error = OSError(errno.ECONNRESET, "the peer reset the stream")
                self.read_shut = True
            elif isinstance(event, SendingStopped) and event.stream_id == 0:
                self.write_shut = True
            elif isinstance(event, StreamOpened):
                # A socket has one stream: whoever opens others is told so.
                connection.incoming.stop(event.stream_id, RESET_BY_USER)
                self.pump.touch_soon(connection)
            event = connection.poll_event()
        self.changed()

    # --- the end ---

    def close(self) -> None:
        """What was sent is still delivered, as long as the connection's `Linger` allows."""
        if self.closed:
            return
        now_ns = time.monotonic_ns()
        if not self.over:
            if self.connected:
                self.finish()
            self.connection.close(now_ns)
        self._leave()

    def reset(self) -> None:
        """Ends at once: the peer is told that what it lacks does not come."""
        if not self.closed and not self.over:
            self.connection.abort(RESET_BY_USER, "reset", time.monotonic_ns())
        self._leave()

    def _leave(self) -> None:
        self.pump.assign(self.connection, None)
        self.pump.port.endpoint.touch(self.connection)
        super().close()

    def linger(self) -> None:
        """Who waits until all has arrived is told whenever something has."""
        self.finish()
        self._lingering = True
        self.pump.touch(self.connection)

    @property
    def lingers(self) -> bool:
        """Whether something of what was sent has not arrived yet."""
        return self.connection.state is State.ESTABLISHED and not self.connection.outgoing.all_acked

    def give_up(self) -> None:
        """No connection came of it: its socket, which is still open, has no end any more."""
        self.pump.assign(self.connection, None)
        self.pump.ends.discard(self)
        self.refresh()
        self.readiness = None

    def keep_alive(self, after_ns: int) -> None:
        """Has the connection say something after so much silence; 0 for never."""
        self.connection.silence.keep_alive_ns = after_ns
        self.pump.touch(self.connection)

    def fail(self, error: OSError) -> None:
        self.over = True
        super().fail(error)


class ListeningEnd(End):
    """Of a socket that listens.

    Args:
        backlog: so many connections wait to be accepted at most.

    Attributes:
        waiting: connections to be accepted.
    """

    def __init__(self, pump: Pump, readiness: Readiness | None, backlog: int) -> None:
        super().__init__(pump, readiness)
        self.backlog = backlog
        self.waiting: deque[StreamEnd] = deque()
        pump.on_accept = self._accepted

    def _accepted(self, connection: Connection) -> None:
        if self.closed:  # its handshake had begun before
            connection.abort(RESET_BY_USER, "nobody listens any more", time.monotonic_ns())
            self.pump.touch_soon(connection)
            return
        self.waiting.append(StreamEnd(self.pump, None, connection))
        self.changed()

    def full(self) -> bool:
        """Whether no client is let in for now."""
        return len(self.waiting) >= max(self.backlog, 1)

    def readable(self) -> bool:
        return bool(self.waiting) or self.error is not None or self.closed

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        """Connections that nobody accepted end; accepted ones go on, without the listener."""
        if not self.closed:
            while self.waiting:
                self.waiting.popleft().reset()
            super().close()
