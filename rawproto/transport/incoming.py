"""Data of streams that comes: how far the peer may send, what is there to be read.

Its own limits a side raises as its user reads (specification section 6.2); those of the peer
(`outgoing`) are not known here. Which streams there are is `streams`'.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from rawproto.errors import RemoteProtocolError
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode
from rawproto.transport.control import Control
from rawproto.transport.events import Event, StreamReadable, StreamReset
from rawproto.transport.recvbuf import ReceiveBuffer
from rawproto.transport.stream import Stream
from rawproto.transport.streams import Streams
from rawproto.transport.window import Window
from rawproto.wire.rpt_frames import (
    Frame,
    MaxDataFrame,
    MaxStreamDataFrame,
    ResetStreamFrame,
    StopSendingFrame,
)

__all__ = ["Incoming"]


class Incoming:
    """The receiving parts of all streams of a connection.

    Args:
        config: this side's settings.
        streams: those that there are.
        control: where frames go that have to be sent.
        emit: where events go.

    Attributes:
        received: bytes that came on all streams, holes among them.
    """

    def __init__(
        self, config: Config, streams: Streams, control: Control, emit: Callable[[Event], None]
    ) -> None:
        self._streams = streams
        self._known = streams.by_id
        self._control = control
        self._emit = emit
        self.received = 0
        self._read = 0
        shared = config.shared_window_bytes
        self._window = Window(shared or config.window_bytes, shared or config.max_window_bytes)

    def stop(self, stream_id: int, code: int) -> None:
        """Asks the peer to stop sending, and throws away what is there."""
        stream = self._known.get(stream_id)
        if stream is None or stream.receiving is None or stream.stop_code is not None:
            return
        self._want_no_more(stream, stream.receiving, code)
        if not stream.receiving.whole:
            self._ask_to_stop(stream)

    def abandon(self, stream_id: int) -> None:
        """Nobody will read on. Mostly the end alone is missing then, and a peer that has sent it
        is not to hear that it should stop: it is asked to if more than the end comes."""
        stream = self._known.get(stream_id)
        if stream is not None and stream.receiving is not None and stream.stop_code is None:
            stream.stop_due = True
            self._want_no_more(stream, stream.receiving, 0)

    def _want_no_more(self, stream: Stream, receiving: ReceiveBuffer, code: int) -> None:
        stream.stop_code = code
        self._discard(receiving.skip())
        if receiving.whole:
            self._streams.forget_if_done(stream)

    def _ask_to_stop(self, stream: Stream) -> None:
        stream.stop_due = False
        frame = StopSendingFrame(stream.stream_id, stream.stop_code or 0)
        self._control.put(("stop", stream.stream_id), frame)

    def _discard(self, size: int) -> None:
        """Bytes that nobody will read: on other streams there is room for as many."""
        self._read += size
        if size and self._window.slide(self._read):
            self._control.put("max_data", MaxDataFrame(self._window.limit))

    def read(self, stream_id: int, limit: int, now_ns: int, rtt_ns: int) -> bytes:
        """Up to `limit` bytes that have come, in order; b"" for none now, or at the end."""
        stream = self._known.get(stream_id)
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
            self._streams.forget_if_done(stream)
        elif receiving.read == receiving.next:
            stream.readable_told = False
        return data

    def at_end(self, stream_id: int) -> bool:
        """Whether everything was read up to the end, or no more is wanted, or it is gone."""
        stream = self._known.get(stream_id)
        if stream is None or (receiving := stream.receiving) is None:
            return True
        whole = receiving.read == receiving.final_size
        return whole or stream.stop_code is not None or stream.peer_reset

    # --- what the peer does ---

    def on_data(self, stream_id: int, offset: int, data: bytes, fin: bool) -> bool:
        """A STREAM frame came.

        Returns:
            False if it cannot be kept: its packet must count as lost.

        Raises:
            RemoteProtocolError: the peer broke a rule.
        """
        stream = self._known.get(stream_id) or self._streams.of_peer(stream_id)
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
            self._streams.forget_if_done(stream)
            if stream.stop_due and final_size is None and not fin:
                self._ask_to_stop(stream)
        elif not stream.readable_told and (receiving.next > receiving.read or receiving.whole):
            stream.readable_told = True
            self._emit(StreamReadable(stream_id))
            if receiving.finished:  # by its end alone, which nobody may come to read
                self._streams.forget_if_done(stream)
        return True

    def expects(self, stream_id: int) -> tuple[int, int]:
        """What a run of packets may bring of a stream: (from where on, at most so many bytes)."""
        stream = self._known.get(stream_id)
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

    def on_run(self, stream_id: int, parts: list[bytes | memoryview], end: int) -> None:
        """What was expected has come, in parts, as far as `end`."""
        stream = self._known[stream_id]
        receiving = stream.receiving
        assert receiving is not None
        self.received += end - receiving.next
        receiving.extend(parts, end)
        if not stream.readable_told:
            stream.readable_told = True
            self._emit(StreamReadable(stream_id))

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
        stream = self._streams.of_peer(frame.stream_id)
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
        self._streams.forget_if_done(stream)

    def again(self, key: Hashable) -> Frame | None:
        """What a control frame that was lost should say now, None for nothing any more."""
        match key:
            case "max_data":
                return MaxDataFrame(self._window.limit)
            case ("stop" | "max_stream_data") as kind, int(stream_id):
                stream = self._known.get(stream_id)
                receiving = stream.receiving if stream is not None else None
                if stream is None or receiving is None or receiving.final_size is not None:
                    return None
                if kind == "stop":
                    return StopSendingFrame(stream_id, stream.stop_code or 0)
                return MaxStreamDataFrame(stream_id, stream.window.limit)
            case "max_streams", int(direction):
                return self._streams.max_streams(direction)
        return None
