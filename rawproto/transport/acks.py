"""What a receiver remembers of the packets that came, and when it says so (specification 7.3)."""

from __future__ import annotations

from rawproto.transport.constants import MAX_ACK_DELAY_NS, MAX_ACK_RANGES
from rawproto.transport.ranges import Ranges
from rawproto.wire.rpt_frames import ACK_HEAD, ACK_RANGE, ECN_COUNTS, FrameType

__all__ = ["CE", "Acks"]

CE = 3
_ACK, _ACK_ECN = FrameType.ACK, FrameType.ACK_ECN
_MAX_DELAY_US = 0xFFFFFFFF


class Acks:
    """The receiver's memory of packet numbers.

    Attributes:
        received: the numbers that came.
        largest: the highest of them, -1 for none.
        due_ns: when an ACK has to leave, None for not at all; 0 for at once.
    """

    __slots__ = ("counts", "due_ns", "floor", "largest", "largest_ns", "received", "waiting")

    def __init__(self) -> None:
        self.received = Ranges()
        self.largest = -1
        self.due_ns: int | None = None
        self.largest_ns = 0
        self.waiting = 0
        self.floor = 0
        self.counts = [0, 0, 0, 0]

    def is_new(self, number: int) -> bool:
        """Whether a packet is neither a duplicate nor too old to tell."""
        return number > self.largest or (number >= self.floor and number not in self.received)

    def on_packet(self, number: int, eliciting: bool, every: int, ecn: int, now_ns: int) -> None:
        """Takes in a packet that opened.

        Args:
            number: its packet number, for which `is_new` was true.
            eliciting: whether it wants an ACK.
            every: how many of those may wait for one ACK.
            ecn: its ECN bits.
            now_ns: when it came.
        """
        received = self.received
        in_order = number == self.largest + 1
        if in_order and number:  # the last range ends with `largest`
            received.ends[-1] = number + 1
            self.largest = number
            self.largest_ns = now_ns
        else:
            self._on_disorder(number, now_ns)
        if ecn:
            self.counts[ecn] += 1
        if not eliciting:
            return
        self.waiting += 1
        if not in_order or self.waiting >= every or ecn == CE:
            self.due_ns = 0
        elif self.due_ns is None:
            self.due_ns = now_ns + MAX_ACK_DELAY_NS

    def on_next(self, number: int, every: int, ecn: int, now_ns: int) -> None:
        """Takes in the packet behind the largest, which wants an ACK; see `on_packet`."""
        self.received.ends[-1] = number + 1
        self.largest = number
        self.largest_ns = now_ns
        if ecn:
            self.counts[ecn] += 1
        self.waiting += 1
        if self.waiting >= every or ecn == CE:
            self.due_ns = 0
        elif self.due_ns is None:
            self.due_ns = now_ns + MAX_ACK_DELAY_NS

    def on_run(self, count: int, every: int, ecn: int, now_ns: int) -> None:
        """Takes in `count` packets behind the largest; see `on_packet`. None came marked CE."""
        self.received.ends[-1] += count
        self.largest += count
        self.largest_ns = now_ns
        if ecn:
            self.counts[ecn] += count
        self.waiting += count
        if self.waiting >= every:
            self.due_ns = 0
        elif self.due_ns is None:
            self.due_ns = now_ns + MAX_ACK_DELAY_NS

    def _on_disorder(self, number: int, now_ns: int) -> None:
        """A packet that is not the next one, or the first of all."""
        received = self.received
        received.add(number, number + 1)
        if len(received.starts) > MAX_ACK_RANGES:
            received.drop_oldest()
            self.floor = received.starts[0]
        if number > self.largest:
            self.largest = number
            self.largest_ns = now_ns

    def frame(self, now_ns: int, room: int) -> bytes:
        """An ACK of all that is known, as far as `room` bytes go; nothing is due any more."""
        self.due_ns = None
        self.waiting = 0
        starts, ends = self.received.starts, self.received.ends
        _, ect1, ect0, ce = self.counts
        ecn = ect0 or ect1 or ce
        count = len(starts) - 1  # of ranges below the first
        if count:
            room -= ACK_HEAD.size + (ECN_COUNTS.size if ecn else 0)
            count = min(count, room // ACK_RANGE.size)
        delay_us = (now_ns - self.largest_ns) // 1000
        if not 0 <= delay_us <= _MAX_DELAY_US:
            delay_us = 0 if delay_us < 0 else _MAX_DELAY_US
        kind = _ACK_ECN if ecn else _ACK
        frame = ACK_HEAD.pack(kind, self.largest, delay_us, count, ends[-1] - starts[-1])
        for index in range(len(starts) - 2, len(starts) - 2 - count, -1):
            gap, length = starts[index + 1] - ends[index], ends[index] - starts[index]
            frame += ACK_RANGE.pack(gap, length)
        return frame + ECN_COUNTS.pack(ect0, ect1, ce) if ecn else frame

    def on_ack_acked(self, largest: int) -> None:
        """The peer knows all up to `largest`: it need not be told again, and is not new again."""
        if largest + 1 > self.floor:
            self.floor = largest + 1
            self.received.drop_below(min(self.floor, self.largest))
