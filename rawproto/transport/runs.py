"""Packets in a row that hold nothing but a stream in a row: nearly all of a bulk transfer.

::

    number        7        8        9        10              11
    holds         STREAM   STREAM   STREAM   STREAM, ACK     STREAM
                  `--------- a run --------' `- opened, and left to the connection

What is the same for all of them is looked at and noted once: keys, address, stream, flow
control, what to acknowledge. Whatever is not as expected ends the run, and nothing of it is
judged here. `Sender._seal_run` is the other end.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from rawproto.transport.acks import CE, Acks
from rawproto.transport.incoming import Incoming
from rawproto.transport.lifecycle import State
from rawproto.transport.protection import Opener
from rawproto.wire.rpt_frames import STREAM_HEAD, FrameType

if TYPE_CHECKING:
    from rawproto.transport.connection import Arrival, Connection

__all__ = ["take_shorts"]

_ESTABLISHED = State.ESTABLISHED
_WORTH_A_RUN = 4
_STREAM = int(FrameType.STREAM)
_HEAD = STREAM_HEAD.size
# Of packets above this, a view of a part costs less than a copy of it.
_LARGE_BYTES = 4096


def take_run(
    packets: Sequence[tuple[bytes, tuple[str, int], int]],
    at: int,
    opener: Opener,
    acks: Acks,
    incoming: Incoming,
    now_ns: int,
) -> tuple[int, tuple[int, bytes] | None]:
    """Takes in packets of one connection, as far as each is what the one before lets expect.

    Args:
        packets: as they came, each as (data, from where, ECN bits).
        at: which is the first; a short packet, its header looked at.
        opener: of the connection.
        acks: likewise.
        incoming: likewise.
        now_ns: when they came.

    Returns:
        How many were taken in; and number and frames of a packet behind them that opened and
        holds something else, None if the next one was not opened.
    """
    first, address, ecn = packets[at]
    number = acks.largest + 1
    if not number or first[0] >> 6 != opener.phase or ecn == CE:
        return 0, None
    constant, every = first[:14], first[1]
    iv, decrypt, unpack = opener.iv, opener.aead.decrypt, STREAM_HEAD.unpack_from
    large = len(first) > _LARGE_BYTES
    parts: list[bytes | memoryview] = []
    opened = None
    stream_id, offset, room = -1, -1, 0
    for data, source, mark in islice(packets, at, None):
        header = constant + (number & 0xFFFFFFFF).to_bytes(4, "big")
        if not data.startswith(header) or mark != ecn or source != address:
            break
        try:
            sealed = memoryview(data)[18:] if large else data[18:]
            frames = decrypt((iv ^ number).to_bytes(12, "big"), sealed, header)
        except InvalidTag:
            break
        size = len(frames) - _HEAD
        if size > 0 and frames[0] == _STREAM:
            _, its_id, start, length = unpack(frames)
            if not parts:
                stream_id = its_id
                offset, room = incoming.expects(its_id)
            if its_id == stream_id and start == offset and length == size <= room:
                parts.append(memoryview(frames)[_HEAD:] if large else frames[_HEAD:])
                offset += size
                room -= size
                number += 1
                continue
        if frames:  # or the packet is too short to be one (2.1.6)
            opened = number, frames
        break
    if parts:
        acks.on_run(len(parts), every, ecn, now_ns)
        incoming.on_run(stream_id, parts, offset)
    return len(parts), opened


def take_shorts(connection: Connection, packets: Sequence[Arrival], at: int, now_ns: int) -> int:
    """Short packets came, of which the one at `at` is for a connection: a run, or one.

    Returns:
        How many of those from there on are taken in, 1 at least. See `Connection.handle_short`.
    """
    data, address, ecn = packets[at]
    taken, opened = 0, None
    protection = connection.protection
    connection.end_dialogue()
    if (
        len(packets) - at >= _WORTH_A_RUN
        and connection.state is _ESTABLISHED
        and connection.attempt is None
        and address == connection.paths.usual
        and protection is not None
        and connection.sender.recovery.tracer is None
    ):
        taken, opened = take_run(
            packets, at, protection.opener, connection.acks, connection.incoming, now_ns
        )
    if taken:
        connection.packets_received += taken
        connection.silence.heard_ns = connection.sender.active_ns = now_ns
    if opened is not None:
        data, address, ecn = packets[at + taken]
        connection.take_in(*opened, data, address, ecn, now_ns)
        taken += 1
    elif not taken:
        connection.handle_short(data, address, ecn, now_ns)
        taken = 1
    return taken
