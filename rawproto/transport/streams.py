"""The streams that a connection has: who opens how many, which are forgotten (section 6.1).

::

    id:  bit 0  who opened it: 0 client, 1 listener        two-way   client 0 4 8   listener 1 5 9
         bit 1  1: it goes one way, from who opened it     one-way          2 6 10           3 7 11

What goes through them is not looked at here: `outgoing` has what leaves, `incoming` what comes,
and `stream` the record of each one, which both keep.
"""

from __future__ import annotations

from collections.abc import Callable

from rawproto.errors import LocalProtocolError, RemoteProtocolError
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode
from rawproto.transport.control import Control
from rawproto.transport.events import Event, StreamOpened, StreamsAllowed
from rawproto.transport.parameters import Parameters
from rawproto.transport.recvbuf import ReceiveBuffer
from rawproto.transport.sendbuf import SendBuffer
from rawproto.transport.stream import Stream
from rawproto.transport.window import Growth, Window
from rawproto.wire.rpt_frames import MaxStreamsFrame

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
        by_id: those that are not forgotten.
    """

    def __init__(
        self, config: Config, *, client: bool, control: Control, emit: Callable[[Event], None]
    ) -> None:
        self._config = config
        self._side = 0 if client else 1
        self._control = control
        self._emit = emit
        self.by_id: dict[int, Stream] = {}
        self._stream_limit = 0
        # Either side opens so many; of its window, a connection may have half used up (6.2.2).
        shared, first = config.shared_window_bytes, 2 * config.max_streams * config.window_bytes
        self._growth = Growth(max(shared // 2 - first, 0)) if shared else None
        # By direction, 0 two-way and 1 one-way: how many we opened and may, the peer did and may.
        self._opened = [0, 0]
        self._may_open = [0, 0]
        self._peer_opened = [0, 0]
        self._peer_may = [config.max_streams, config.max_streams]

    def start(self, peer: Parameters) -> None:
        """The peer's limits are known; stream 0 is open."""
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
        self.by_id[stream_id] = stream
        return stream

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
        return self.by_id.get(stream_id)

    def of_peer(self, stream_id: int) -> Stream | None:
        """The stream that a frame is about; None if it was forgotten. Opens those of the peer.

        Raises:
            RemoteProtocolError: we did not open it, or the peer may not.
        """
        stream = self.by_id.get(stream_id)
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

    def on_max_streams(self, frame: MaxStreamsFrame) -> None:
        """MAX_STREAMS came. Raises RemoteProtocolError."""
        if frame.direction > 1:
            raise RemoteProtocolError(CloseCode.FRAME, "streams of a third direction")
        if frame.maximum > self._may_open[frame.direction]:
            self._may_open[frame.direction] = min(frame.maximum, 1 << 30)
            self._emit(StreamsAllowed())

    def forget_if_done(self, stream: Stream) -> None:
        """A part of a stream has come to its end, perhaps the last."""
        if not stream.done or self.by_id.pop(stream.stream_id, None) is None:
            return
        # A peer that lets nothing leave could have one wait for each stream that it ends.
        self._control.drop(("stop", stream.stream_id))
        if self._growth is not None:
            self._growth.left += stream.window.grown
        if stream.stream_id & 1 != self._side:
            direction = stream.stream_id >> 1 & 1
            self._peer_may[direction] = may = self._peer_may[direction] + 1
            # Not with each: what opens and ends streams all the time would get a packet for each.
            if not may % max(self._config.max_streams // _STREAM_STEPS, 1):
                self._control.put(("max_streams", direction), MaxStreamsFrame(direction, may))

    def max_streams(self, direction: int) -> MaxStreamsFrame:
        """How many of 0, two-way, or 1, one-way, streams the peer may open by now."""
        return MaxStreamsFrame(direction, self._peer_may[direction])
