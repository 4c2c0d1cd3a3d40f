"""Data of streams that leaves: what waits, whose turn it is, how far the peer lets it go.

The peer's limits are kept to here (specification section 6.2), its own (`incoming`) are not known.
In which packet data leaves, and when, is `sender`'s; which streams there are, `streams`'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rawproto.errors import LocalProtocolError, RemoteProtocolError
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode
from rawproto.transport.control import Control
from rawproto.transport.events import Event, SendingStopped, StreamWritable
from rawproto.transport.pieces import Piece
from rawproto.transport.sendbuf import SendBuffer
from rawproto.transport.stream import Stream
from rawproto.transport.streams import Streams
from rawproto.wire.rpt_frames import MaxStreamDataFrame, ResetStreamFrame, StopSendingFrame

__all__ = ["Outgoing"]


class Outgoing:
    """The sending parts of all streams of a connection.

    Args:
        config: this side's settings.
        streams: those that there are.
        control: where frames go that have to be sent.
        emit: where events go.

    Attributes:
        ready: streams with something to send, in turn.
        sent: bytes of new data sent on all streams.
        resent: how many parts were sent again.
        data_limit: the peer takes so many.
    """

    def __init__(
        self, config: Config, streams: Streams, control: Control, emit: Callable[[Event], None]
    ) -> None:
        self._config = config
        self._streams = streams
        self._known = streams.by_id
        self._control = control
        self._emit = emit
        self.ready: list[Stream] = []
        self.sent = 0
        self.resent = 0
        self.data_limit = 0

    def _sending(self, stream_id: int) -> tuple[Stream, SendBuffer]:
        stream = self._known.get(stream_id)
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

    def on_stop(self, frame: StopSendingFrame) -> None:
        """STOP_SENDING came. Raises RemoteProtocolError."""
        stream = self._streams.of_peer(frame.stream_id)
        if stream is None:
            return
        if stream.sending is None:
            raise RemoteProtocolError(CloseCode.STREAM_STATE, "stop of a stream that we only read")
        if stream.reset_code is None and not stream.sending.done:
            self._emit(SendingStopped(frame.stream_id, frame.code))
            self.reset(frame.stream_id, frame.code)

    def on_max_data(self, maximum: int) -> None:
        """MAX_DATA came."""
        before = self.data_limit
        if maximum > before:
            self.data_limit = maximum
            if self.sent >= before:  # or nobody was kept from sending by this
                for stream in self._known.values():
                    self._wake(stream)

    def on_max_stream_data(self, frame: MaxStreamDataFrame) -> None:
        """MAX_STREAM_DATA came. Raises RemoteProtocolError."""
        stream = self._streams.of_peer(frame.stream_id)
        if stream is None:
            return
        if stream.sending is None:
            raise RemoteProtocolError(CloseCode.STREAM_STATE, "a limit for what we only read")
        if frame.maximum > stream.send_limit:
            stream.send_limit = frame.maximum
            self._wake(stream)

    # --- what leaves, and what becomes of it ---

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
            self._streams.forget_if_done(stream)

    def on_lost(self, stream: Stream, start: int, end: int) -> None:
        """Data of ours has to be sent again."""
        if stream.sending is not None and stream.reset_code is None:
            stream.sending.on_lost(start, end)
            self._wake(stream)

    def on_reset_acked(self, stream_id: int) -> None:
        """The peer knows that a stream was given up."""
        stream = self._known.get(stream_id)
        if stream is not None:
            stream.reset_acked = True
            self._streams.forget_if_done(stream)

    def reset_again(self, stream_id: int, final_size: int) -> ResetStreamFrame | None:
        """RESET_STREAM, which was lost; None where nobody needs it any more."""
        stream = self._known.get(stream_id)
        if stream is None:
            return None
        return ResetStreamFrame(stream_id, stream.reset_code or 0, final_size)

    def _sendings(self) -> Iterator[SendBuffer]:
        """What is to be sent, on all streams."""
        for stream in self._known.values():
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
