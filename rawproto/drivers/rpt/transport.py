"""An `asyncio.Transport` over a stream of RPT, so that protocols made for TCP run over it.

::

    Protocol --write()--> unsent --> the stream's buffer --> packets     pause_writing() when
             <-data_received()-----  the stream's buffer <-- packets     unsent is too long

Read first: the documentation of asyncio's transports and protocols, and section 6 of
docs/transport-spec.md. What a stream has taken in is to the transport what a socket's
buffer is to the TCP one: it still goes out after `abort`, as the kernel would see to it.
Whatever `unsent` held then is lost, and the peer is told so: `abort` with something in it,
and any failure here, is a `ConnectionResetError` there. So is a connection that the peer
closed before it had ended the stream: what was cut short never looks whole.

`connection_lost` follows `close()` when the peer has everything and knows of the end, so
that nothing is left to do for the event loop; in all other cases it follows at once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from asyncio.constants import _SendfileMode
from asyncio.transports import _FlowControlMixin
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rawproto.drivers.rpt.stream import RPTStream
from rawproto.errors import ConnectionLostError, LinkError, ProtocolError, UsageError

__all__ = ["RESET_CODE", "RPTTransport"]

RESET_CODE = 256
"""What a peer is told when this side gives up, in CLOSE, RESET_STREAM or STOP_SENDING."""
_MOST_BYTES = 1 << 18
"""Handed to the protocol in one go, so that others in the event loop have their turn."""
_ONE_WAY = 2
_MANY_DROPPED = 5

_log = logging.getLogger("rawproto")


class RPTTransport(_FlowControlMixin):
    """One two-way stream, as a transport.

    Beside "peername" and "sockname" (address and port, of either family) `get_extra_info`
    knows "rpt_peer_key" (32 bytes), "rpt_connection" and "rpt_stream". There is no "socket".

    `loop.start_tls`, `loop.sendfile` and `BufferedProtocol` work as over TCP.

    Args:
        stream: open, and read and written by nobody else.
        protocol: gets the calls; `begin` makes the first.
        owns_connection: the connection ends with this transport. Otherwise the stream alone
            does, and its user closes the connection, which waits until all was delivered.

    Raises:
        UsageError: the stream goes one way.
    """

    # By these two, which only asyncio's own transports have, it knows that they work.
    _start_tls_compatible = True
    _sendfile_compatible = _SendfileMode.FALLBACK

    if TYPE_CHECKING:  # the mixin's, which its stub does not tell
        _loop: asyncio.AbstractEventLoop

        def _maybe_pause_protocol(self) -> None: ...
        def _maybe_resume_protocol(self) -> None: ...

    def __init__(
        self,
        stream: RPTStream,
        protocol: asyncio.BaseProtocol,
        *,
        owns_connection: bool = False,
    ) -> None:
        super().__init__(None, asyncio.get_running_loop())
        self._stream = stream
        self._connection = stream.owner
        self._machine = stream.owner.machine
        if stream.stream_id & _ONE_WAY:
            raise UsageError(f"stream {stream.stream_id} goes one way; a transport takes two")
        self._owns_connection = owns_connection
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._dropped = 0
        self._paused = False
        self._eof_sent = False
        self._eof_received = False
        self._closing = False
        self._lost = False
        self._patience: asyncio.TimerHandle | None = None
        self.set_protocol(protocol)

    def begin(self) -> None:
        """Introduces itself to the protocol, and starts. To be called once."""
        self._stream.watch(self._go_on)
        if self._owns_connection:
            self._connection.when_over(self._forgotten)
        self._tell("connection_made", self)
        self._loop.call_soon(self._go_on)

    # --- what is known ---

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        host, port = self._connection.peer_address
        return f"<RPTTransport {state} stream {self._stream.stream_id} of {host} port {port}>"

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What libraries ask a transport; `default` for all that it does not know."""
        if name == "peername":
            return self._connection.peer_address
        if name == "sockname":
            with suppress(LinkError):
                return self._connection.local_address
        if name == "rpt_peer_key":
            return self._connection.peer_key
        if name == "rpt_connection":
            return self._connection
        if name == "rpt_stream":
            return self._stream
        return default

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Gives all further calls to another protocol."""
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing or self._connection.closed

    # --- reading ---

    def is_reading(self) -> bool:
        """Whether the protocol gets what comes."""
        return not (self._paused or self._closing)

    def pause_reading(self) -> None:
        """Leaves what comes where it is: the peer may send what a window holds, and no more."""
        if not self._closing:
            self._paused = True

    def resume_reading(self) -> None:
        """Reads on."""
        if self._paused and not self._closing:
            self._paused = False
            self._loop.call_soon(self._go_on)

    def _receive(self) -> None:
        """Hands the protocol what has come."""
        room = _MOST_BYTES
        while room > 0 and not (self._paused or self._closing or self._eof_received):
            size = self._receive_into() if self._buffered else self._receive_data(room)
            room -= size
            if not size:
                if self._is_whole() and not self._closing:
                    if room == _MOST_BYTES:
                        self._receive_eof()
                    else:  # as over TCP, the end is another turn: tasks may answer before it
                        self._loop.call_soon(self._go_on)
                break
        if room <= 0:
            self._loop.call_soon(self._go_on)
        if room < _MOST_BYTES and not self._connection.closed and self._machine.sender.waits:
            self._connection.wake()  # reading let the peer go further

    def _read(self, limit: int) -> bytes:
        return self._machine.read(self._stream.stream_id, limit, time.monotonic_ns())

    def _receive_data(self, room: int) -> int:
        data = self._read(room)
        if data:
            self._tell("data_received", data)
        return len(data)

    def _receive_into(self) -> int:
        """For a BufferedProtocol, which is asked for room only if there is something to put in."""
        known = self._machine.streams.known(self._stream.stream_id)
        if known is None or known.receiving is None or not known.receiving.readable:
            return 0
        buffer = self._tell("get_buffer", -1)
        if self._closing:
            return 0
        with memoryview(buffer).cast("B") as view:
            if not view:
                self._fail(RuntimeError("get_buffer() returned an empty buffer"), "get_buffer")
                return 0
            data = self._read(len(view))
            view[: len(data)] = data
        self._tell("buffer_updated", len(data))
        return len(data)

    def _receive_eof(self) -> None:
        self._eof_received = True
        if not self._tell("eof_received"):
            self.close()

    # --- writing ---

    def get_write_buffer_size(self) -> int:
        """Bytes that the stream has not taken in yet."""
        return self._unsent_bytes

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Sends data, now or when there is room. After the end it is dropped.

        Raises:
            TypeError: it is no bytes.
            RuntimeError: `write_eof` was called before.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data: expected bytes-like object, not {type(data).__name__}")
        if self._eof_sent:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.is_closing():
            self._dropped += 1
            if self._dropped == _MANY_DROPPED:
                _log.warning("%r: written to although it is closing", self)
            return
        if self._stream.stopped_by is not None:
            self._force_close(BrokenPipeError(errno.EPIPE, str(self._stream.stopped_by)))
            return
        rest = memoryview(data if isinstance(data, bytes) else bytes(data))
        if not self._unsent:
            rest = rest[self._send(rest) :]
        if rest:
            self._unsent.append(rest)
            self._unsent_bytes += len(rest)
            self._maybe_pause_protocol()

    def _send(self, data: memoryview) -> int:
        """Gives the stream data: how much it took in."""
        try:
            taken = self._machine.write(self._stream.stream_id, data)
        except ProtocolError:
            return len(data)  # it is over, and the event that tells so is on its way
        if taken:
            self._connection.wake()
        return taken

    def _flush(self) -> None:
        """Sends what waited."""
        unsent = self._unsent
        while unsent:
            taken = self._send(unsent[0])
            self._unsent_bytes -= taken
            if taken < len(unsent[0]):
                unsent[0] = unsent[0][taken:]
                break
            unsent.popleft()
        self._flushed()

    def _flushed(self) -> None:
        self._maybe_resume_protocol()  # which may write more
        if not self._unsent and not self._lost:
            if self._closing:
                self._end()
            elif self._eof_sent:
                self._finish()

    def can_write_eof(self) -> bool:
        """True: each direction ends by itself."""
        return True

    def write_eof(self) -> None:
        """Ends this side's direction behind what was written; reading goes on."""
        if not self._eof_sent and not self.is_closing():
            self._eof_sent = True
            if not self._unsent:
                self._finish()

    def _finish(self) -> None:
        with suppress(ProtocolError):  # the peer wanted no more, or it is over
            self._machine.finish(self._stream.stream_id)
            self._connection.wake()

    # --- the end ---

    def close(self) -> None:
        """Stops reading, sends what waits and the end of it, then closes.

        A peer that takes nothing for `linger_ns` of the connection's config, or with a
        connection of its own has not got the rest by then, makes an error of `connection_lost`.
        """
        if not self._closing:
            self._closing = True
            if not self._unsent or self._connection.closed:
                self._end()
            else:
                self._lose_patience(-1)

    def _lose_patience(self, left: int) -> None:
        """Gives up if no more is sent than when `left` bytes were left."""
        if self._unsent_bytes == left:
            self._force_close(ConnectionLostError("closed before the peer took all that was sent"))
        elif self._unsent and not self._lost:
            delay_s = self._machine.config.linger_ns / 1e9
            self._patience = self._loop.call_later(delay_s, self._lose_patience, self._unsent_bytes)

    def abort(self) -> None:
        """Closes at once; what waits is dropped, and the peer told that something is missing."""
        self._force_close(None)

    def _end(self) -> None:
        """All that was written is the stream's: ends what this transport has to end."""
        if self._connection.closed:
            self._lose(self._reason())
            return
        self._finish()
        if self._owns_connection:
            self._machine.close(time.monotonic_ns())
            self._connection.wake()  # and `_forgotten` comes when both know
        else:
            self._stop()
            self._lose(None)

    def _stop(self) -> None:
        if not self._machine.incoming.at_end(self._stream.stream_id):
            self._stream.stop(RESET_CODE)

    def _force_close(self, error: BaseException | None) -> None:
        """Ends at once, on purpose or because something went wrong. asyncio's TLS calls it too."""
        if self._lost:
            return
        complete = error is None and not self._unsent
        self._drop_unsent()
        self._closing = True
        if not self._connection.closed:
            if complete:
                self._finish()
            if not self._owns_connection:
                if not complete:
                    with suppress(ProtocolError):
                        self._stream.reset(RESET_CODE)
                self._stop()
            elif complete:
                self._machine.close(time.monotonic_ns())
                self._connection.wake()
            else:
                self._connection.abort(RESET_CODE, "aborted")
        self._lose(error)

    def _drop_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_bytes = 0

    def _go_on(self) -> None:
        """Something may have come, gone or ended."""
        if self._lost:
            return
        stream, connection = self._stream, self._connection
        if stream.stopped_by is not None and self._unsent:
            self._drop_unsent()  # `write` tells the protocol, if it goes on
            self._flushed()
        elif self._unsent and not connection.closed:
            self._flush()
        self._receive()
        if connection.closed:
            # What is whole is read to its end first, however long that takes.
            is_read = self._eof_received or not self._is_whole()
            if is_read and not (self._closing and self._owns_connection):
                self._lose(self._reason())
        elif stream.reset_by is not None and not self._closing:
            self._force_close(ConnectionResetError(errno.ECONNRESET, str(stream.reset_by)))

    def _is_whole(self) -> bool:
        """Whether all that the peer ever writes has come, if not all of it was read."""
        known = self._machine.streams.known(self._stream.stream_id)
        if known is None:  # forgotten, because it was read to its end or because it was reset
            return self._stream.reset_by is None
        return not known.peer_reset and known.receiving is not None and known.receiving.whole

    def _reason(self) -> BaseException | None:
        """Why a connection that is over ended, as an OSError, which is what protocols expect."""
        error = self._connection.error
        is_done = self._closing or self._eof_received or self._is_whole()
        if error is None and (self._unsent or not is_done):
            words = "the peer closed the connection before the end of the stream"
            return ConnectionResetError(errno.ECONNRESET, words)
        if isinstance(error, ProtocolError):
            reset = ConnectionResetError(errno.ECONNRESET, str(error))
            reset.__cause__ = error
            return reset
        return error

    def _forgotten(self) -> None:
        """Nothing more is sent or received."""
        if self._closing:
            self._lose(self._reason())

    def _lose(self, error: BaseException | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._drop_unsent()
            if self._patience is not None:
                self._patience.cancel()
            self._stream.watch(None)
            self._loop.call_soon(self._tell, "connection_lost", error)

    # --- the protocol ---

    def _tell(self, name: str, *arguments: object) -> Any:
        """Calls the protocol; if it fails, so does the transport."""
        try:
            return getattr(self._protocol, name)(*arguments)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, name)

    def _fail(self, error: BaseException, name: str) -> None:
        self._loop.call_exception_handler(
            {
                "message": f"Fatal error: protocol.{name}() call failed.",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )
        self._force_close(error)
