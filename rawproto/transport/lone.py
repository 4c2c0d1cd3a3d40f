"""A packet that comes alone: the next one, with the next data of one stream, and perhaps an ACK.

If it is what the last ones let expect, of keys, number, stream and what it acknowledges, a few
notes are taken and that is all: no event, no search, nothing is looked through. Whatever else it
is goes the long way, and nothing of it is judged here. `Sender.transmit_alone` is the other end;
where packets go to and fro like that, a `Dialogue` takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from rawproto.transport.lifecycle import State
from rawproto.transport.protection import Protection
from rawproto.transport.stream import Stream
from rawproto.wire.rpt import KEY_PHASE, VERSION_1
from rawproto.wire.rpt_frames import ACK_HEAD, ECN_COUNTS, STREAM_HEAD, FrameType

if TYPE_CHECKING:
    from rawproto.transport.connection import Arrival, Connection

__all__ = ["FLAGS", "take_lone"]

FLAGS = VERSION_1, VERSION_1 | KEY_PHASE
"""Of a short packet, by its phase of keys."""

_ESTABLISHED = State.ESTABLISHED
_STREAM, _ACK, _ACK_ECN = FrameType.STREAM, FrameType.ACK, FrameType.ACK_ECN
_ACK_BYTES, _STREAM_BYTES = ACK_HEAD.size, STREAM_HEAD.size
_ACK_ECN_BYTES = _ACK_BYTES + ECN_COUNTS.size
_LOW = 0xFFFFFFFF


def take_lone(
    connection: Connection, packet: Arrival, flags: int, every: int, low: int, now_ns: int
) -> Stream | None:
    """Takes in a packet that came alone, the short way or the long.

    Args:
        connection: it is for.
        packet: it.
        flags: of its header, as the next two.
        every: how many packets may wait for one ACK.
        low: the low half of its number.
        now_ns: when it came.

    Returns:
        By the short way, the stream that can be read now, of which no event tells; None if the
        connection's events tell what has happened.
    """
    data, address, ecn = packet
    protection, acks, sender = connection.protection, connection.acks, connection.sender
    number = acks.largest + 1
    if (
        connection.state is not _ESTABLISHED
        or connection.attempt is not None
        or protection is None
        or flags != FLAGS[protection.opener.phase]
        or low != number & _LOW
        or not number
        or address != connection.paths.usual
        or sender.recovery.tracer is not None
    ):
        connection.handle_short(data, address, ecn, now_ns)
        return None
    connection.end_dialogue()
    opener = protection.opener
    try:
        nonce = (opener.iv ^ number).to_bytes(12, "big")
        frames = opener.aead.decrypt(nonce, data[18:], data[:18])
    except InvalidTag:
        connection.handle_short(data, address, ecn, now_ns)  # which counts it
        return None
    stream = _read(connection, frames, now_ns, protection)
    if stream is None:
        connection.take_in(number, frames, data, address, ecn, now_ns)
        return None
    acks.on_next(number, every, ecn, now_ns)
    connection.packets_received += 1
    connection.silence.heard_ns = sender.active_ns = now_ns
    return stream


def _read(
    connection: Connection, frames: bytes, now_ns: int, protection: Protection
) -> Stream | None:
    """Takes in the frames if they are as expected: the stream; None if nothing was taken in."""
    size, at = len(frames), 0
    if size < _STREAM_BYTES:
        return None
    kind = frames[0]
    sender, incoming = connection.sender, connection.incoming
    recovery = sender.recovery
    acked = counts = None
    largest = delay_us = 0
    if kind != _STREAM:
        at = _ACK_ECN_BYTES if kind == _ACK_ECN else _ACK_BYTES
        if (kind != _ACK_ECN and kind != _ACK) or size < at + _STREAM_BYTES:
            return None
        _, largest, delay_us, count, first = ACK_HEAD.unpack_from(frames)
        acked = recovery.sent.get(largest)
        if (
            acked is None
            or count
            or largest != recovery.alone
            or not recovery.only_alone(largest + 1 - first)
            or not acked[2].only(acked[3], acked[4])
        ):
            return None
        if kind == _ACK_ECN:
            counts = ECN_COUNTS.unpack_from(frames, _ACK_BYTES)
    kind, stream_id, offset, length = STREAM_HEAD.unpack_from(frames, at)
    at += _STREAM_BYTES
    start, room = incoming.expects(stream_id)
    if kind != _STREAM or at + length != size or offset != start or not 0 < length <= room:
        return None
    stream = connection.streams.known(stream_id)
    assert stream is not None  # or there would be no room
    if acked is not None:
        sender.feedback.on_alone_acked(acked, delay_us, counts, now_ns)
        protection.on_acked(largest)
    incoming.on_alone(stream, frames[at:], offset + length)
    return stream
