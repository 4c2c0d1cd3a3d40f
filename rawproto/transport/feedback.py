"""What became of packets: the peer's ACKs and the losses they show, told to whom it concerns.

::

    ACK --> recovery --.-> acknowledged --> streams, acks, mtu
                        `-> lost --> streams and control, to be sent again

What it tells them is in the last fields of the tuple that `sender` left with `recovery`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from rawproto.errors import RemoteProtocolError
from rawproto.transport.acks import Acks
from rawproto.transport.cids import LocalCIDs
from rawproto.transport.constants import BASE_PACKET_BYTES, CloseCode
from rawproto.transport.control import Control
from rawproto.transport.ecn import Counts
from rawproto.transport.incoming import Incoming
from rawproto.transport.outgoing import Outgoing
from rawproto.transport.pmtu import MTUSearch
from rawproto.transport.recovery import Recovery, Sent
from rawproto.wire.rpt_frames import (
    ACK_HEAD,
    ACK_RANGE,
    ECN_COUNTS,
    MAX_RANGES,
    Frame,
    FrameType,
    HandshakeDoneFrame,
    RetireConnectionIDFrame,
)

__all__ = ["Feedback"]

_ACK_ECN = FrameType.ACK_ECN


class Feedback:
    """What the peer and time say of packets that left.

    Args:
        recovery: of what was sent.
        mtu: the search for the size of packets.
        outgoing: whose data it was.
        incoming: what lets the peer send, which may have to be said again.
        acks: what the peer may forget.
        control: where frames wait that are to be sent again.

    Attributes:
        limited: the window is what keeps this side from sending.
        cids: those of this side, of which the peer is told.
    """

    def __init__(
        self,
        recovery: Recovery,
        mtu: MTUSearch,
        outgoing: Outgoing,
        incoming: Incoming,
        acks: Acks,
        control: Control,
    ) -> None:
        self.recovery = recovery
        self.mtu = mtu
        self._outgoing, self._incoming = outgoing, incoming
        self._acks, self._control = acks, control
        self.limited = False
        self.cids: LocalCIDs | None = None

    def on_ack(
        self, data: bytes, at: int, now_ns: int, number: int, low_water: int
    ) -> tuple[int, int]:
        """Takes in the ACK at `at`.

        Args:
            data: a packet's frames.
            at: where the ACK begins.
            now_ns: by now.
            number: that of the next packet; what is acknowledged lies below.
            low_water: a stream that holds no more bytes than that takes some again.

        Returns:
            Where it ends, and the largest packet number in it.

        Raises:
            struct.error: it is cut short.
            RemoteProtocolError: it tells of packets that cannot be.
        """
        kind, largest, delay_us, count, first = ACK_HEAD.unpack_from(data, at)
        at += ACK_HEAD.size
        end = largest + 1
        if count >= MAX_RANGES or not 0 < first <= end:
            raise RemoteProtocolError(CloseCode.FRAME, "an ACK of packets that cannot be")
        if largest >= number:
            raise RemoteProtocolError(CloseCode.PROTOCOL, "an ACK for a packet never sent")
        ranges = [(end - first, end)]
        for _ in range(count):
            gap, length = ACK_RANGE.unpack_from(data, at)
            at += ACK_RANGE.size
            end = ranges[-1][0] - gap
            if not gap or not length or length > end:
                raise RemoteProtocolError(CloseCode.FRAME, "an ACK of packets that cannot be")
            ranges.append((end - length, end))
        skipped = self.recovery.skipped
        if skipped and skipped[-1] >= ranges[-1][0]:
            self._check_skipped(skipped, ranges)
        counts: Counts | None = None
        if kind == _ACK_ECN:
            counts = ECN_COUNTS.unpack_from(data, at)
            at += ECN_COUNTS.size
        newest = largest > self.recovery.largest_acked
        acked, lost = self.recovery.on_acked(ranges, delay_us * 1000, now_ns, self.limited)
        if acked:
            self._on_acked(acked, now_ns, low_water)
            if newest:
                self._on_ecn(acked, counts, now_ns)
        if lost:
            self.on_lost(lost, now_ns)
        self.recovery.tell(now_ns)
        return at, largest

    def on_alone_acked(
        self, packet: Sent, delay_us: int, counts: Counts | None, now_ns: int
    ) -> None:
        """The packet `recovery.alone`, the only one that was left, arrived. See `on_ack`."""
        recovery = self.recovery
        recovery.on_alone_acked(packet, delay_us * 1000, now_ns)
        packet[2].sending.on_all_acked()
        rest = packet[5]
        if rest is not None:
            self._acks.on_ack_acked(rest[0][1])
        if self.mtu.large_lost:
            self.mtu.on_arrived(packet[1])
        if recovery.ecn.on_ack(packet[0].marked, counts):
            recovery.on_ce(now_ns, (packet,))

    @staticmethod
    def _check_skipped(skipped: list[int], ranges: list[tuple[int, int]]) -> None:
        """Whoever acknowledges what was left out on purpose did not see what he acknowledges."""
        for start, end in ranges:
            for number in skipped:
                if start <= number < end:
                    raise RemoteProtocolError(CloseCode.PROTOCOL, "an ACK for a packet never sent")

    def _on_ecn(self, acked: list[Sent], counts: Counts | None, now_ns: int) -> None:
        marked = 0
        for packet in acked:
            marked += packet[0].marked
        if self.recovery.ecn.on_ack(marked, counts):
            self.recovery.on_ce(now_ns, acked)

    def _on_acked(self, acked: list[Sent], now_ns: int, low_water: int) -> None:
        """Packets arrived: their parts are told."""
        outgoing = self._outgoing
        largest = 0
        # Packets in a row mostly hold one stream in a row, which hears of it once.
        run: Any = None
        run_start = run_end = 0
        for _, size, stream, start, end, rest in acked:
            if size > largest:
                largest = size
            if stream is run and start == run_end:
                run_end = end
            else:
                if run is not None:
                    outgoing.on_acked(run, run_start, run_end, low_water)
                run, run_start, run_end = stream, start, end
            for item in rest or ():
                kind = item[0]
                if kind == "ack":
                    self._acks.on_ack_acked(item[1])
                elif kind == "control":
                    self._on_control_acked(item[1])
                elif kind == "stream":
                    outgoing.on_acked(item[1], item[2], item[3], low_water)
                elif kind == "probe" and self.mtu.on_acked(item[1], now_ns):
                    self.recovery.controller.on_packet_size(self.mtu.size)
        if run is not None:
            outgoing.on_acked(run, run_start, run_end, low_water)
        mtu = self.mtu
        if mtu.large_lost:
            mtu.on_arrived(largest)
            if mtu.black_hole:
                self.fall_back(now_ns)

    def on_lost(self, lost: list[Sent], now_ns: int) -> None:
        """Packets are gone: what was in them is to be sent again."""
        large = 0
        for packet in lost:
            rest = packet[5]
            if rest and rest[0][0] == "probe":
                self.mtu.on_lost(rest[0][1], now_ns)
            else:
                self.send_again(packet)
                large += packet[1] > BASE_PACKET_BYTES
        if large:
            self.mtu.on_large_lost(large)
        self.recovery.ecn.on_lost(sum([packet[0].marked for packet in lost]))

    def send_again(self, packet: Sent) -> None:
        _, _, stream, start, end, rest = packet
        if stream is not None:
            self._outgoing.on_lost(stream, start, end)
        for item in rest or ():
            if item[0] == "stream":
                self._outgoing.on_lost(item[1], item[2], item[3])
            elif item[0] == "control":
                self._ask_again(item[1])

    def _on_control_acked(self, key: Hashable) -> None:
        match key:
            case "reset", int(stream_id), _:
                self._outgoing.on_reset_acked(stream_id)

    def _ask_again(self, key: Hashable) -> None:
        """A control frame was lost: it is sent as it should be by now, if at all."""
        frame: Frame | None
        match key:
            case "done":
                frame = HandshakeDoneFrame()
            case "retire", int(sequence):
                frame = RetireConnectionIDFrame(sequence)
            case "cid", int(sequence) if self.cids is not None:
                frame = self.cids.frame(sequence)
            case "reset", int(stream_id), int(final_size):
                frame = self._outgoing.reset_again(stream_id, final_size)
            case _:
                frame = self._incoming.again(key)
        if frame is not None:
            self._control.put(key, frame)

    def fall_back(self, now_ns: int) -> None:
        self.mtu.fall_back(now_ns)
        self.recovery.controller.on_packet_size(self.mtu.size)

    def on_refused(self, size: int, now_ns: int) -> None:
        """The carrier, or a router, takes packets of at most `size` bytes."""
        self.recovery.on_refused(size)
        if self.mtu.on_refused(size, now_ns):
            self.recovery.controller.on_packet_size(self.mtu.size)
