"""The frames of a packet that opened, handed to whom they concern (specification section 5).

STREAM and ACK are nearly all there is, and are read in place; so is PING, of which more fit into a
packet than anybody would want to parse. The rest is parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rawproto.errors import RemoteProtocolError
from rawproto.transport.constants import CloseCode
from rawproto.wire.rpt_frames import (
    STREAM_HEAD,
    BlockedFrame,
    CloseFrame,
    DatagramFrame,
    Frame,
    FrameType,
    HandshakeDoneFrame,
    MaxDataFrame,
    MaxStreamDataFrame,
    MaxStreamsFrame,
    NewConnectionIDFrame,
    PathChallengeFrame,
    PathResponseFrame,
    ResetStreamFrame,
    RetireConnectionIDFrame,
    StopSendingFrame,
    end_of_padding,
    parse_frame,
)

if TYPE_CHECKING:
    from rawproto.transport.connection import Connection

__all__ = ["read_frames"]

# Numbers, because each packet is compared with them and an enumeration's member costs a call.
_PADDING, _PING = int(FrameType.PADDING), int(FrameType.PING)
_STREAM_FIN = int(FrameType.STREAM_FIN)
_STREAMS = int(FrameType.STREAM), _STREAM_FIN
_ACKS = int(FrameType.ACK), int(FrameType.ACK_ECN)


def read_frames(connection: Connection, data: bytes, now_ns: int) -> bool | None:
    """Hands the frames out.

    Args:
        connection: whose parts get them.
        data: all frames of a packet.
        now_ns: when it came.

    Returns:
        Whether they want an ACK; None if the packet must count as lost.

    Raises:
        WireError, struct.error: a frame cannot be read.
        RemoteProtocolError: the peer broke a rule.
    """
    at, end = 0, len(data)
    eliciting = False
    on_data = connection.incoming.on_data
    if not end:
        raise RemoteProtocolError(CloseCode.FRAME, "a packet without a frame")
    while at < end:
        kind = data[at]
        if kind in _STREAMS:
            _, stream_id, offset, length = STREAM_HEAD.unpack_from(data, at)
            start = at + 15
            at = start + length
            if at > end:
                raise RemoteProtocolError(CloseCode.FRAME, "STREAM is cut short")
            if not on_data(stream_id, offset, data[start:at], kind == _STREAM_FIN):
                return None
            eliciting = True
        elif kind in _ACKS:
            at = connection.sender.on_ack(data, at, now_ns)
        elif kind == _PING:
            at += 1
            eliciting = True
        elif kind == _PADDING:
            at = end_of_padding(data, at)
        else:
            frame, at = parse_frame(data, at)
            handler = _HANDLERS.get(type(frame))
            if handler is not None:
                handler(connection, frame, now_ns)
            if kind == FrameType.CLOSE:
                break  # nothing comes after the end
            eliciting = True
    return eliciting


def _on_done(connection: Connection, frame: HandshakeDoneFrame, now_ns: int) -> None:
    if not connection.client:
        raise RemoteProtocolError(CloseCode.PROTOCOL, "HANDSHAKE_DONE from a client")


_HANDLERS: dict[type[Frame], Callable[[Connection, Any, int], object]] = {
    CloseFrame: lambda to, frame, now_ns: to.on_close(frame, now_ns),
    DatagramFrame: lambda to, frame, now_ns: to.datagrams.on_datagram(frame.data),
    HandshakeDoneFrame: _on_done,
    MaxDataFrame: lambda to, frame, now_ns: to.outgoing.on_max_data(frame.maximum),
    MaxStreamDataFrame: lambda to, frame, now_ns: to.outgoing.on_max_stream_data(frame),
    MaxStreamsFrame: lambda to, frame, now_ns: to.streams.on_max_streams(frame),
    NewConnectionIDFrame: lambda to, frame, now_ns: to.on_new_cid(frame),
    PathChallengeFrame: lambda to, frame, now_ns: to.paths.on_challenge(frame),
    PathResponseFrame: lambda to, frame, now_ns: to.paths.on_response(frame),
    ResetStreamFrame: lambda to, frame, now_ns: to.incoming.on_reset(frame),
    RetireConnectionIDFrame: lambda to, frame, now_ns: to.cids.on_retired(frame),
    StopSendingFrame: lambda to, frame, now_ns: to.outgoing.on_stop(frame),
    # A peer that is blocked knows why; that there is nothing to do for it is in 6.2.2.
    BlockedFrame: lambda to, frame, now_ns: None,
}
