"""Question and answer: one packet goes to and fro, and nothing else happens on a connection.

::

    question   STREAM                  ->
                                      <-   ACK, STREAM   answer
    question   ACK, STREAM             ->
                                      <-   ACK, STREAM   answer

Who asks and waits for the answer pays for each packet what a bulk transfer pays for a run of
them (`runs`). So as long as it goes on like this, a `Dialogue` looks after both packets: what was
found to be so once (keys, address, state, limits of time and of numbers) is not asked again, and a
packet is compared with the only one that is expected. Anything else goes the long way, and nothing
of it is judged here. Whoever does anything else to the connection ends its dialogue first.

The packets are those of the long way, to the byte. RTT and controller hear of the path when there
is something new to tell (`Recovery.on_alone_acked`), and that goes the longer way too (`lone`).

This knows the insides of all parts of a connection: that is what it is for.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from rawproto.transport.acks import CE
from rawproto.transport.constants import MAX_ACK_DELAY_NS, TAG_BYTES
from rawproto.transport.ecn import Stage
from rawproto.transport.lone import FLAGS
from rawproto.transport.stream import Stream
from rawproto.wire.rpt import SHORT
from rawproto.wire.rpt_frames import ACK_HEAD, ECN_COUNTS, STREAM_HEAD, FrameType

if TYPE_CHECKING:
    from rawproto.transport.connection import Arrival, Connection

__all__ = ["MOST_ALONE", "Dialogue"]

MOST_ALONE = 1024
"""Data that fits into any packet, in bytes, whatever goes along with it."""

_STREAM, _ACK_ECN = FrameType.STREAM, FrameType.ACK_ECN
_FRAMES = struct.Struct("!BQIBIQQQBIQH")  # ACK_ECN of one range, STREAM
_HEAD_BYTES = ACK_HEAD.size + ECN_COUNTS.size + STREAM_HEAD.size
_HEADER_BYTES = SHORT.size
_OVERHEAD_BYTES = _HEADER_BYTES + _HEAD_BYTES + TAG_BYTES
_LOW = 0xFFFFFFFF
_LONGEST_NS = 1_000_000_000
_CAPABLE = Stage.CAPABLE
_pack, _unpack = _FRAMES.pack, _FRAMES.unpack_from


class Dialogue:
    """What is so for as long as the dialogue goes on.

    Args:
        connection: one of which `begins` is true.
        stream: of which all data is.
        now_ns: by now.

    Attributes:
        found: the connection and the stream, which a packet makes readable.
        stream: the latter.
        address: where packets go.
        mark: their ECN bits.
    """

    __slots__ = (
        "_acks",
        "_burst",
        "_connection",
        "_control",
        "_counts",
        "_decrypt",
        "_encrypt",
        "_ends",
        "_flags",
        "_floor",
        "_incoming",
        "_iv_in",
        "_iv_out",
        "_last",
        "_marked",
        "_outgoing",
        "_pacer",
        "_peer_counts",
        "_pieces",
        "_prefix",
        "_ready",
        "_receive_limit",
        "_receiving",
        "_recovery",
        "_rtt_least",
        "_rtt_most",
        "_send_limit",
        "_sender",
        "_sending",
        "_sent",
        "_silence",
        "_size",
        "_starts",
        "_stream_id",
        "_told_rtt",
        "_until_ns",
        "address",
        "found",
        "mark",
        "stream",
    )

    def __init__(self, connection: Connection, stream: Stream, now_ns: int) -> None:
        protection, sender, outgoing = connection.protection, connection.sender, connection.outgoing
        acks, recovery, sending = connection.acks, sender.recovery, stream.sending
        receiving = stream.receiving
        assert protection is not None
        assert sending is not None
        assert receiving is not None
        self.found = connection, stream
        self.stream, self._stream_id = stream, stream.stream_id
        self.address = connection.paths.address
        self._connection, self._acks, self._sender = connection, acks, sender
        self._outgoing, self._incoming = outgoing, connection.incoming
        self._recovery, self._silence = recovery, connection.silence
        self._control, self._pacer, self._ready = sender.control, sender.pacer, outgoing.ready
        self._sending, self._receiving, self._pieces = sending, receiving, sending.data
        self._starts, self._ends = acks.received.starts, acks.received.ends
        self._counts = acks.counts
        # what is sealed how
        self._flags = FLAGS[protection.opener.phase]
        self._encrypt, self._iv_out = protection.sealer.aead.encrypt, protection.sealer.iv
        self._decrypt, self._iv_in = protection.opener.aead.decrypt, protection.opener.iv
        self._prefix = sender.prefix
        self._last = sender.last_plain
        # what leaves, and what the peer says of it
        self._sent = recovery.sent
        self._burst, self._size = recovery.sent[recovery.alone][:2]
        self.mark = recovery.ecn.mark
        self._marked = 0
        self._peer_counts = recovery.ecn.counts
        self._floor = recovery.floor
        self._told_rtt = recovery.told_rtt
        self._rtt_least, self._rtt_most = recovery.usual_rtt
        # how long, and how far
        probe_ns = sender.mtu.next_ns
        until_ns = min(recovery.tell_ns, now_ns + _LONGEST_NS)
        self._until_ns = until_ns if probe_ns is None or until_ns < probe_ns else probe_ns
        credit = outgoing.data_limit - outgoing.sent
        self._send_limit = min(stream.send_limit, sending.next + credit)
        start, room = connection.incoming.expects(stream.stream_id)
        self._receive_limit = start + room

    @staticmethod
    def begins(connection: Connection, stream: Stream, now_ns: int) -> bool:
        """Whether a packet that has just left with a stream's data and an ACK, and is the only
        one that is under way, is such as a dialogue sends."""
        protection, recovery = connection.protection, connection.sender.recovery
        acks, packet = connection.acks, recovery.sent.get(recovery.alone)
        return (
            packet is not None
            and len(recovery.sent) == 1
            and packet[5] is not None
            and protection is not None
            and protection.acked
            and len(acks.received.starts) == 1
            and acks.counts[2] > 0
            and recovery.ecn.stage is _CAPABLE
            and recovery.tracer is None
            and recovery.tell_ns > now_ns
            and not connection.has_events
            and stream.receiving is not None
            and not stream.full
        )

    def send(self, data: bytes, now_ns: int) -> bytes | None:
        """The packet that takes `data` away; None if it is not the turn of one that is expected,
        and nothing has happened. See `Sender.transmit_alone`."""
        sender, acks, recovery = self._sender, self._acks, self._recovery
        sending, pieces = self._sending, self._pieces
        number, start, length = sender.number, sending.next, len(data)
        size, end = length + _OVERHEAD_BYTES, start + length
        if (
            recovery.in_flight
            or acks.due_ns is None
            or number >= self._last
            or now_ns >= self._until_ns
            or end > self._send_limit
            or self._ready
            or self._control.waiting
            or sender.datagrams
            or not self._pacer.spend(size, now_ns)
        ):
            return None
        largest, (_, ect1, ect0, ce) = acks.largest, self._counts
        frames = (
            _pack(
                _ACK_ECN,
                largest,
                (now_ns - acks.largest_ns) // 1000,
                0,
                self._ends[-1] - self._starts[-1],
                ect0,
                ect1,
                ce,
                _STREAM,
                self._stream_id,
                start,
                length,
            )
            + data
        )
        header = self._prefix + (number & _LOW).to_bytes(4, "big")
        nonce = (self._iv_out ^ number).to_bytes(12, "big")
        packet: bytes = header + self._encrypt(nonce, frames, header)
        acks.due_ns = None
        acks.waiting = 0
        burst, delivered = self._burst, recovery.delivered
        burst.sent_ns = burst.delivered_ns = burst.first_sent_ns = now_ns
        burst.delivered = delivered
        burst.in_flight = self._size = size
        self._sent[number] = (burst, size, self.stream, start, end, [("ack", largest)])
        recovery.alone = number
        recovery.in_flight = size
        recovery.app_limited_until = delivered + size
        recovery.last_eliciting_ns = sender.active_ns = now_ns
        recovery.ecn.sent += 1
        sender.number = number + 1
        sender.packets += 1
        sending.next = sending.end = end
        pieces.pieces[0], pieces.starts[0], pieces.end = data, start, end
        self._outgoing.sent += length
        return packet

    def take(self, packet: Arrival, flags: int, every: int, low: int, now_ns: int) -> bool:
        """Takes in the packet that is expected: False if it is another, and nothing has happened.
        See `take_lone`."""
        data, address, ecn = packet
        acks, recovery, receiving = self._acks, self._recovery, self._receiving
        number, rtt_ns = acks.largest + 1, now_ns - self._burst.sent_ns
        if (
            low != number & _LOW
            or flags != self._flags
            or not recovery.in_flight
            or address != self.address
            or ecn == CE
            or now_ns >= self._until_ns
            or rtt_ns < self._told_rtt
        ):
            return False
        try:
            nonce = (self._iv_in ^ number).to_bytes(12, "big")
            frames = self._decrypt(nonce, data[_HEADER_BYTES:], data[:_HEADER_BYTES])
        except InvalidTag:
            return False
        length = len(frames) - _HEAD_BYTES
        if length <= 0:
            return False
        kind, largest, delay_us, count, first, ect0, ect1, ce, other, stream_id, offset, size = (
            _unpack(frames)
        )
        alone, counts, end = recovery.alone, self._peer_counts, offset + length
        if (
            kind != _ACK_ECN
            or other != _STREAM
            or largest != alone
            or count
            or not 0 < first <= alone - self._floor
            or ect0 != counts[0] + 1
            or ect1 != counts[1]
            or ce != counts[2]
            or stream_id != self._stream_id
            or size != length
            or offset != receiving.next
            or end > self._receive_limit
        ):
            return False
        if not self._rtt_least <= rtt_ns < self._rtt_most:
            recovery.rtt.on_sample(rtt_ns, delay_us * 1000)
        del self._sent[alone]
        size, sending = self._size, self._sending
        recovery.largest_acked = alone
        recovery.in_flight = 0
        recovery.delivered += size
        recovery.untold += size
        sending.base = sending.next
        self._peer_counts = ect0, ect1, ce
        self._marked += 1
        # The ACK that was acknowledged said all up to the packet before this one.
        self._starts[0] = number - 1
        self._ends[0] = number + 1
        acks.floor = number
        acks.largest = number
        acks.largest_ns = self._silence.heard_ns = self._sender.active_ns = now_ns
        acks.waiting = 1
        acks.due_ns = 0 if every <= 1 else now_ns + MAX_ACK_DELAY_NS
        if ecn:
            self._counts[ecn] += 1
        self._connection.packets_received += 1
        self._incoming.received += length
        receiving.ready.append(frames[_HEAD_BYTES:])
        receiving.next = receiving.highest = end
        return True

    def end(self) -> None:
        """Something else happens: all parts get to know what only they need."""
        recovery = self._recovery
        if recovery.in_flight:
            recovery.on_left_alone(self._burst.sent_ns)
        else:
            self._pieces.drop_below(self._sending.base)
        if self._marked:
            recovery.ecn.on_ack(self._marked, self._peer_counts)
