"""The streams of a connection: opening, states, flow control (specification section 6).

::

    id:  bit 0  who opened it: 0 client, 1 listener        two-way   client 0 4 8   listener 1 5 9
         bit 1  1: it goes one way, from who opened it     one-way          2 6 10           3 7 11

Its own limits a side raises as its user reads; the peer's it keeps to. `Streams` keeps the
account of the whole connection, `Stream` that of each one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from rawproto.errors import LocalProtocolError, RemoteProtocolError
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode
from rawproto.transport.control import Control
from rawproto.transport.events import (
    Event,
    SendingStopped,
    StreamOpened,
    StreamReadable,
    StreamReset,
    StreamsAllowed,
    StreamWritable,
)
from rawproto.transport.parameters import Parameters
from rawproto.transport.pieces import Piece
from rawproto.transport.recvbuf import ReceiveBuffer
from rawproto.transport.sendbuf import SendBuffer
from rawproto.transport.stream import Stream
from rawproto.transport.window import Growth, Window
from rawproto.wire.rpt_frames import (
    Frame,
    MaxDataFrame,
    MaxStreamDataFrame,
    MaxStreamsFrame,
    ResetStreamFrame,
    StopSendingFrame,
)

__all__ = ["Streams"]

ONE_WAY = 2
_STREAM_STEPS = 8
"""In so many parts the peer is told that it may open `max_streams` more."""


class Streams:
    """All streams of a connection.

    Args:
        config: this side's settings.
        client: whether this side is the client.
        control: where frames go that have to be sent.
        emit: where events go.

    Attributes:
        ready: streams with something to send, in turn.
        sent: bytes of new data sent on all streams.
        resent: how many parts were sent again.
        data_limit: the peer takes so many.
    """

    def __init__(
        self, config: Config, *, client: bool, control: Control, emit: Callable[[Event], None]
    ) -> None:
        self._config = config
        self._side = 0 if client else 1
        self._control = control
        self._emit = emit
        self._streams: dict[int, Stream] = {}
        self.ready: list[Stream] = []
        self.sent = 0
        self.resent = 0
        self.data_limit = 0
        self._stream_limit = 0
        self.received = 0
        self._read = 0
        shared = config.shared_window_bytes
        self._window = Window(shared or config.window_bytes, shared or config.max_window_bytes)
        # Either side opens so many; of its window, a connection may have half used up (6.2.2).
        first = 2 * config.max_streams * config.window_bytes
        self._growth = Growth(max(shared // 2 - first, 0)) if shared else None
        # By direction, 0 two-way and 1 one-way: how many we opened and may, the peer did and may.
        self._opened = [0, 0]
        self._may_open = [0, 0]
        self._peer_opened = [0, 0]
        self._peer_may = [config.max_streams, config.max_streams]

    def start(self, peer: Parameters) -> None:
        """The peer's limits are known; stream 0 is open."""
        self.data_limit = peer.max_data
        self._stream_limit = peer.max_stream_data
        self._may_open = [peer.max_streams_two_way, peer.max_streams_one_way]
        (self._opened if self._side == 0 else self._peer_opened)[0] = 1
        self._add(0)

    def _add(self, stream_id: int) -> Stream:
        ours = stream_id & 1 == self._side
        one_way = stream_id & ONE_WAY
        stream = Stream(
            stream_id,
            SendBuffer() if ours or not one_way else None,
            ReceiveBuffer() if not ours or not one_way else None,
            self._stream_limit,
            Window(self._config.window_bytes, self._config.max_window_bytes, self._growth),
        )
        self._streams[stream_id] = stream
        return stream

    # --- what the user does ---

    def may_open(self, *, one_way: bool = False) -> bool:
        """Whether the peer takes another stream of ours."""
        return self._opened[one_way] < self._may_open[one_way]

    def open(self, *, one_way: bool = False) -> int:
        """Opens a stream: its ID.

        Raises:
            LocalProtocolError: the peer takes no more for now.
        """
        if not self.may_open(one_way=one_way):
            raise LocalProtocolError(CloseCode.STREAMS, "the peer takes no more streams for now")
        stream_id = self._opened[one_way] << 2 | one_way << 1 | self._side
        self._opened[one_way] += 1
        self._add(stream_id)
        return stream_id

    def known(self, stream_id: int) -> Stream | None:
        """A stream that is not forgotten yet."""
        return self._streams.get(stream_id)

    def _sending(self, stream_id: int) -> tuple[Stream, SendBuffer]:
        stream = self._streams.get(stream_id)
        if stream is None or stream.sending is None or stream.reset_code is not None:
            raise LocalProtocolError(CloseCode.STREAM_STATE, f"stream {stream_id} takes no data")
        return stream, stream.sending

    def room(self, stream_id: int, high_water: int) -> int:
        """How many bytes `write` would take now; where that is none, `StreamWritable` follows.

        Raises:
            LocalProtocolError: the stream does not send, or no more.
        """
        stream, sending = self._sending(stream_id)
        return self._room(stream, sending, high_water)

    def _room(self, stream: Stream, sending: SendBuffer, high_water: int) -> int:
        if sending.ended:
            raise LocalProtocolError(CloseCode.STREAM_STATE, f"stream {stream.stream_id} has ended")
        # What came behind a hole is kept until the hole is filled, and must not stop the flow.
        most = self._config.max_window_bytes
        room = high_water - sending.unsent
        # Nor does much wait here that the peer does not take yet: it may never.
        beyond = stream.send_limit + self._config.send_buffer_bytes - sending.end
        if room > beyond:
            room = beyond
        if room > most - sending.unacked:
            room = most - sending.unacked
        if room <= 0:
            stream.full = True
            return 0
        return room

    def write(self, stream_id: int, data: bytes | memoryview, high_water: int | None) -> int:
        """Takes in data to send: how many bytes of it, 0 if the stream is full.

        Args:
            stream_id: of the stream.
            data: what is to be sent.
            high_water: so many bytes wait at most; None takes all of `data`, whatever waits.

        Raises:
            LocalProtocolError: the stream does not send, or no more.
        """
        stream, sending = self._sending(stream_id)
        room = self._room(stream, sending, len(data) if high_water is None else high_water)
        if high_water is not None and room < len(data):
            stream.full = True
            data = data[:room]
        if data:
            sending.write(data)
            self._wake(stream)
        return len(data)

    def _wake(self, stream: Stream) -> None:
        """There may be something to send: the stream gets its turn."""
        if not stream.queued and stream.sending is not None:
            stream.queued = True
            self.ready.append(stream)

    def finish(self, stream_id: int) -> None:
        """Ends a stream behind what was written. Raises LocalProtocolError."""
        stream, sending = self._sending(stream_id)
        if not sending.ended:
            sending.finish()
            self._wake(stream)

    def reset(self, stream_id: int, code: int) -> None:
        """Gives up sending. Raises LocalProtocolError."""
        stream, sending = self._sending(stream_id)
        if sending.done:
            return
        stream.reset_code = code
        final_size = min(sending.next, sending.end)
        sending.clear()
        frame = ResetStreamFrame(stream_id, code, final_size)
        self._control.put(("reset", stream_id, final_size), frame)

    def stop(self, stream_id: int, code: int) -> None:
        """Asks the peer to stop sending, and throws away what is there."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiving is None or stream.stop_code is not None:
            return
        stream.stop_code = code
        self._discard(stream.receiving.skip())
        if stream.receiving.whole:
            self._forget_if_done(stream)
        else:
            self._control.put(("stop", stream_id), StopSendingFrame(stream_id, code))

    def _discard(self, size: int) -> None:
        """Bytes that nobody will read: on other streams there is room for as many."""
        self._read += size
        if size and self._window.slide(self._read):
            self._control.put("max_data", MaxDataFrame(self._window.limit))

    def read(self, stream_id: int, limit: int, now_ns: int, rtt_ns: int) -> bytes:
        """Up to `limit` bytes that have come, in order; b"" for none now, or at the end."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiving is None:
            return b""
        receiving = stream.receiving
        data = receiving.take(limit)
        if data:
            self._read += len(data)
            window = stream.window
            if receiving.read >= window.enough and receiving.final_size is None:
                window.raise_for(receiving.read, now_ns, rtt_ns)
                frame = MaxStreamDataFrame(stream_id, window.limit)
                self._control.put(("max_stream_data", stream_id), frame)
            if self._read >= self._window.enough:
                self._window.raise_for(self._read, now_ns, rtt_ns)
                self._control.put("max_data", MaxDataFrame(self._window.limit))
        if receiving.read == receiving.final_size:
            self._forget_if_done(stream)
        elif receiving.read == receiving.next:
            stream.readable_told = False
        return data

    def at_end(self, stream_id: int) -> bool:
        """Whether everything was read up to the end, or no more is wanted, or it is gone."""
        stream = self._streams.get(stream_id)
        if stream is None or (receiving := stream.receiving) is None:
            return True
        whole = receiving.read == receiving.final_size
        return whole or stream.stop_code is not None or stream.peer_reset

    # --- what the peer does ---

    def _from_peer(self, stream_id: int) -> Stream | None:
        """The stream that a frame is about; None if it was forgotten. Opens those of the peer."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            return stream
        one_way, number = stream_id >> 1 & 1, stream_id >> 2
        if stream_id & 1 == self._side:
            if number >= self._opened[one_way]:
                raise RemoteProtocolError(CloseCode.STREAM_STATE, "a frame for an unopened stream")
            return None
        if number < self._peer_opened[one_way]:
            return None
        if number >= self._peer_may[one_way]:
            raise RemoteProtocolError(CloseCode.STREAMS, "more streams than allowed")
        for each in range(self._peer_opened[one_way], number + 1):
            opened = each << 2 | stream_id & 3
            stream = self._add(opened)
            self._emit(StreamOpened(opened))
        self._peer_opened[one_way] = number + 1
        return stream

    def on_data(self, stream_id: int, offset: int, data: bytes, fin: bool) -> bool:
        """A STREAM frame came.

        Returns:
            False if it cannot be kept: its packet must count as lost.

        Raises:
            RemoteProtocolError: the peer broke a rule.
        """
        stream = self._streams.get(stream_id) or self._from_peer(stream_id)
        if stream is None:
            return True
        receiving = stream.receiving
        if receiving is None:
            raise RemoteProtocolError(CloseCode.STREAM_STATE, "data on a stream that only sends")
        end = offset + len(data)
        final_size = receiving.final_size
        if fin or final_size is not None:
            self._check_final_size(receiving, end if fin else final_size or 0, end)
        if stream.peer_reset:
            return True
        highest = receiving.highest
        if end > highest and (
            end > stream.window.limit or self.received + end - highest > self._window.limit
        ):
            raise RemoteProtocolError(CloseCode.FLOW, "more data than allowed")
        if not receiving.insert(offset, data):
            return False
        if end > highest:
            self.received += receiving.highest - highest
        if fin:
            receiving.final_size = end
        if stream.stop_code is not None:
            self._discard(receiving.skip())
            self._forget_if_done(stream)
        elif not stream.readable_told and (receiving.next > receiving.read or receiving.whole):
            stream.readable_told = True
            self._emit(StreamReadable(stream_id))
        return True

    def expects(self, stream_id: int) -> tuple[int, int]:
        """What a run of packets may bring of a stream: (from where on, at most so many bytes)."""
        stream = self._streams.get(stream_id)
        receiving = stream.receiving if stream is not None else None
        if (
            stream is None
            or receiving is None
            or receiving.highest > receiving.next
            or receiving.final_size is not None
            or stream.peer_reset
            or stream.stop_code is not None
        ):
            return -1, 0
        start = receiving.next
        return start, min(stream.window.limit - start, self._window.limit - self.received)

    def on_alone(self, stream: Stream, data: bytes, end: int) -> None:
        """The same of a single part, of which the caller tells the reader."""
        receiving = stream.receiving
        assert receiving is not None
        self.received += len(data)
        receiving.extend((data,), end)

    def tell_readable(self, stream: Stream) -> None:
        """The event of what came alone, if nobody was waiting for it."""
        if not stream.readable_told:
            stream.readable_told = True
            self._emit(StreamReadable(stream.stream_id))

    def on_run(self, stream_id: int, parts: list[bytes | memoryview], end: int) -> None:
        """What was expected has come, in parts, as far as `end`."""
        stream = self._streams[stream_id]
        receiving = stream.receiving
        assert receiving is not None
        self.received += end - receiving.next
        receiving.extend(parts, end)
        if not stream.readable_told:
            stream.readable_told = True
            self._emit(StreamReadable(stream_id))

    @staticmethod
    def _check_final_size(receiving: ReceiveBuffer, final_size: int, end: int) -> None:
        known = receiving.final_size
        if (
            (known is not None and known != final_size)
            or end > final_size
            or receiving.highest > final_size
        ):
            raise RemoteProtocolError(CloseCode.FINAL_SIZE, "a stream with two ends")

    def on_reset(self, frame: ResetStreamFrame) -> None:
        """RESET_STREAM came. Raises RemoteProtocolError."""
        stream = self._from_peer(frame.stream_id)
        if stream is None:
            return
        receiving = stream.receiving
        if receiving is None:
            raise RemoteProtocolError(CloseCode.STREAM_STATE, "reset of a stream that only sends")
        self._check_final_size(receiving, frame.final_size, frame.final_size)
        more = frame.final_size - receiving.highest
        if frame.final_size > stream.window.limit or self.received + more > self._window.limit:
            raise RemoteProtocolError(CloseCode.FLOW, "more data than allowed")
        if stream.peer_reset or receiving.finished:
            return
        self.received += more
        self._discard(frame.final_size - receiving.read)
        receiving.final_size = receiving.highest = frame.final_size
        receiving.clear()
        stream.peer_reset = True
        if stream.stop_code is None:
            self._emit(StreamReset(frame.stream_id, frame.code))
        self._forget_if_done(stream)

    def on_stop(self, frame: StopSendingFrame) -> None:
        """STOP_SENDING came. Raises RemoteProtocolError."""
        stream = self._from_peer(frame.stream_id)
        if stream is None:
            return
        if stream.sending is None:
            raise RemoteProtocolError(CloseCode.STREAM_STATE, "stop of a stream that we only read")
        if stream.reset_code is None and not stream.sending.done:
            self._emit(SendingStopped(frame.stream_id, frame.code))
            self.reset(frame.stream_id, frame.code)

    def on_max_data(self, maximum: int) -> None:
        """MAX_DATA came."""
        if maximum > self.data_limit:
            self.data_limit = maximum
            for stream in self._streams.values():
                self._wake(stream)

    def on_max_stream_data(self, frame: MaxStreamDataFrame) -> None:
        """MAX_STREAM_DATA came. Raises RemoteProtocolError."""
        stream = self._from_peer(frame.stream_id)
        if stream is None:
            return
        if stream.sending is None:
            raise RemoteProtocolError(CloseCode.STREAM_STATE, "a limit for what we only read")
        if frame.maximum > stream.send_limit:
            stream.send_limit = frame.maximum
            self._wake(stream)

    def on_max_streams(self, frame: MaxStreamsFrame) -> None:
        """MAX_STREAMS came. Raises RemoteProtocolError."""
        if frame.direction > 1:
            raise RemoteProtocolError(CloseCode.FRAME, "streams of a third direction")
        if frame.maximum > self._may_open[frame.direction]:
            self._may_open[frame.direction] = min(frame.maximum, 1 << 30)
            self._emit(StreamsAllowed())

    # --- what becomes of what was sent ---

    def take(self, room: int) -> tuple[Stream, int, Piece, int] | None:
        """The next data to send, `room` bytes at most: (stream, where, bytes, where it ends)."""
        ready = self.ready
        while ready:
            stream = ready[0]
            sending = stream.sending
            if sending is not None and stream.reset_code is None:
                limit = sending.next + self.data_limit - self.sent
                if limit > stream.send_limit:
                    limit = stream.send_limit
                if sending.pending(limit):
                    new = sending.next
                    start, data, end = sending.take(room, limit)
                    if sending.next > new:
                        self.sent += min(sending.next, sending.end) - new
                    else:
                        self.resent += 1
                    if len(ready) > 1:
                        ready.append(ready.pop(0))
                    elif sending.all_sent:
                        ready.pop().queued = False
                    return stream, start, data, end
            ready.pop(0).queued = False
        return None

    def take_whole(self, share: int, count: int) -> tuple[Stream, int, list[Piece]] | None:
        """New data for up to `count` packets of `share` bytes, if only one stream has any.

        Returns:
            (stream, where it begins, the shares), None for nothing.
        """
        if len(self.ready) != 1:
            return None
        stream = self.ready[0]
        sending = stream.sending
        if sending is None or stream.reset_code is not None:
            return None
        start = sending.next
        limit = min(stream.send_limit, start + self.data_limit - self.sent)
        shares = sending.take_whole(share, count, limit)
        if not shares:
            return None
        self.sent += sending.next - start
        return stream, start, shares

    def write_alone(self, stream: Stream, data: bytes) -> int:
        """Takes in data that leaves at once, if nothing else is to be sent or acknowledged.

        Returns:
            Where it begins; -1 if that is not so, and nothing was taken in.
        """
        sending = stream.sending
        if self.ready or sending is None or stream.reset_code is not None or sending.ended:
            return -1
        start, size = sending.next, len(data)
        if (
            sending.base != start
            or sending.end != start
            or start + size > stream.send_limit
            or self.sent + size > self.data_limit
        ):
            return -1
        sending.write_sent(data)
        self.sent += size
        return start

    def has_data(self) -> bool:
        """Whether `take` would find something; forgets those that have nothing."""
        ready = self.ready
        while ready:
            stream = ready[0]
            sending = stream.sending
            if sending is not None and stream.reset_code is None:
                start = sending.next
                limit = start + self.data_limit - self.sent
                if limit > stream.send_limit:
                    limit = stream.send_limit
                if start < sending.end and start < limit:  # nearly always
                    return True
                if sending.pending(limit):
                    return True
            ready.pop(0).queued = False
        return False

    def on_acked(self, stream: Stream, start: int, end: int, low_water: int) -> None:
        """Data of ours arrived."""
        sending = stream.sending
        if sending is None or stream.reset_code is not None:
            return
        sending.on_acked(start, end)
        most = self._config.max_window_bytes
        if (
            stream.full
            and sending.unsent <= low_water
            and sending.unacked + min(low_water, most // 2) <= most
        ):
            stream.full = False
            self._emit(StreamWritable(stream.stream_id))
        if sending.done:
            self._forget_if_done(stream)

    def on_lost(self, stream: Stream, start: int, end: int) -> None:
        """Data of ours has to be sent again."""
        if stream.sending is not None and stream.reset_code is None:
            stream.sending.on_lost(start, end)
            self._wake(stream)

    def on_control_acked(self, key: Hashable) -> None:
        """A control frame of a stream's arrived."""
        if isinstance(key, tuple) and key[0] == "reset":
            stream = self._streams.get(key[1])
            if stream is not None:
                stream.reset_acked = True
                self._forget_if_done(stream)

    def again(self, key: Hashable) -> Frame | None:
        """What a control frame that was lost should say now, None for nothing any more."""
        if key == "max_data":
            return MaxDataFrame(self._window.limit)
        if not isinstance(key, tuple):
            return None
        if key[0] == "max_streams":
            return MaxStreamsFrame(key[1], self._peer_may[key[1]])
        stream = self._streams.get(key[1])
        if stream is None:
            return None
        if key[0] == "reset":
            return ResetStreamFrame(key[1], stream.reset_code or 0, key[2])
        receiving = stream.receiving
        if receiving is None or receiving.final_size is not None:
            return None
        if key[0] == "stop":
            return StopSendingFrame(key[1], stream.stop_code or 0)
        return MaxStreamDataFrame(key[1], stream.window.limit)

    def _forget_if_done(self, stream: Stream) -> None:
        if not stream.done or self._streams.pop(stream.stream_id, None) is None:
            return
        if self._growth is not None:
            self._growth.left += stream.window.grown
        if stream.stream_id & 1 != self._side:
            direction = stream.stream_id >> 1 & 1
            self._peer_may[direction] = may = self._peer_may[direction] + 1
            # Not with each: what opens and ends streams all the time would get a packet for each.
            if not may % max(self._config.max_streams // _STREAM_STEPS, 1):
                self._control.put(("max_streams", direction), MaxStreamsFrame(direction, may))

    def _sendings(self) -> Iterator[SendBuffer]:
        """What is to be sent, on all streams."""
        for stream in self._streams.values():
            if stream.sending is not None and stream.reset_code is None:
                yield stream.sending

    @property
    def all_acked(self) -> bool:
        """Whether everything that was to be sent arrived, the ends of streams too."""
        return not any(each.unacked or (each.ended and not each.done) for each in self._sendings())

    @property
    def bytes_acked(self) -> bool:
        """Whether every byte that was to be sent arrived."""
        return not any(each.unacked for each in self._sendings())
