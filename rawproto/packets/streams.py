"""The bytes of a TCP conversation in their order (read RFC 9293 section 3.4 first).

::

    segments as captured:    [0    ][   1460 ]            [2920 ]   (2920 came too early)
                                    [   1460 ]                      (sent again)
                                              [2000 ]               (the rest of the hole)
    what comes out:          0 .......................... 4380, each byte once

Sequence numbers are of 32 bits and wrap around; here they become offsets from the first
byte after the SYN, or from the first byte seen where the capture began later. A segment
that comes too early is kept until those before it have come. They never will if its
receiver acknowledges them all the same (it has them, the capture does not), if too many
bytes wait, or if the capture ends: then a `StreamGap` says how many bytes are missing.

Of bytes sent twice the first that could be handed out count; where the second time they
differ, they are counted as conflicting. RST's data is none, and a keep-alive's single
old byte (RFC 1122 section 4.2.3.6) neither. What is more than the largest window
(RFC 7323: 1 GiB) away from what is expected belongs to no stream. Checksums are not
judged, because a host's own captures hold them before its device filled them in.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from rawproto.wire.tcp import ACK, FIN, RST, SYN, TCPHeader

__all__ = ["StreamData", "StreamGap", "StreamSide", "TCPStream", "distance"]

MAX_WINDOW = 1 << 30
"""No receiver takes what is farther ahead (RFC 7323 section 2.3)."""

_COMPARED = 1 << 16
# What a waiting segment costs beside its bytes.
_OVERHEAD = 128


def distance(number: int, origin: int) -> int:
    """How far a sequence number is from another, negative if before it (RFC 9293, 3.4)."""
    return ((number - origin + 0x80000000) & 0xFFFFFFFF) - 0x80000000


@dataclass(slots=True, kw_only=True)
class StreamData:
    """Bytes in order.

    Attributes:
        side: who sent them: 0 him who began the conversation, 1 the other.
        time_ns: when they were captured.
        offset: of the first of them in what this side sent.
        data: themselves.
    """

    side: int
    time_ns: int
    offset: int
    data: bytes


@dataclass(slots=True, kw_only=True)
class StreamGap:
    """Bytes that the capture does not have.

    Attributes:
        side: who sent them.
        time_ns: when it was clear that they would not come.
        offset: of the first of them.
        length: how many.
    """

    side: int
    time_ns: int
    offset: int
    length: int


class StreamSide:
    """What one side sent, as far as it is known.

    Attributes:
        offset: of the next byte wanted; how many bytes were handed out or are missing.
        missing_bytes: how many of them the capture does not have.
        retransmitted_bytes: how many came although they had come.
        conflicting_bytes: how many of those differ from what came first.
        early_segments: how many came before those in front of them.
        keep_alives: how many there were.
        strays: segments too far from what was expected.
        syn: whether its SYN was seen, and the stream's beginning with it.
        fin_at: the offset at which it has no more to send, None before its FIN.
        rst: whether it broke the connection off.
    """

    def __init__(self) -> None:
        self.offset = 0
        self.missing_bytes = 0
        self.retransmitted_bytes = 0
        self.conflicting_bytes = 0
        self.early_segments = 0
        self.keep_alives = 0
        self.strays = 0
        self.syn = self.rst = False
        self._next: int | None = None  # the sequence number of `offset`
        self._starts: list[int] = []
        self._waiting: list[tuple[bytes, int, int]] = []  # data, length, time
        self.waiting_bytes = 0
        self.fin_at: int | None = None
        self._recent = bytearray()  # the last bytes handed out, to compare what comes again with

    @property
    def is_placed(self) -> bool:
        """Whether the beginning is settled: there was a SYN, or data already."""
        return self.syn or self.offset > 0

    def position(self, number: int) -> int | None:
        """The offset that a sequence number means, None where it cannot be of this stream."""
        if self._next is None or (not self.is_placed and not self._starts):
            self._next = number
        ahead = distance(number, self._next)
        return self.offset + ahead if -MAX_WINDOW <= ahead <= MAX_WINDOW else None

    def place(self, number: int) -> None:
        """Settles where the stream begins: behind its SYN."""
        if not self.syn and not self.is_placed:
            self._next = number
        self.syn = True

    def keep(self, begin: int, data: bytes, length: int, time_ns: int) -> None:
        """Takes a segment, old, early or just right; `drain` hands out what is then in order."""
        if begin + length <= self.offset:
            self.retransmitted_bytes += length
            self._compare(begin, data)
            return
        at = bisect_left(self._starts, begin)
        if at < len(self._starts) and self._starts[at] == begin:
            known, known_length, _ = self._waiting[at]
            self.conflicting_bytes += _differing(known, data)
            self.retransmitted_bytes += min(length, known_length)
            if length <= known_length:
                return
            self.waiting_bytes -= len(known) + _OVERHEAD
            self._waiting[at] = known + data[len(known) :], length, time_ns
            self.waiting_bytes += len(self._waiting[at][0]) + _OVERHEAD
            return
        if begin > self.offset:
            self.early_segments += 1
        self._starts.insert(at, begin)
        self._waiting.insert(at, (data, length, time_ns))
        self.waiting_bytes += len(data) + _OVERHEAD

    def drain(self, side: int) -> list[StreamData | StreamGap]:
        """What is in order by now."""
        out: list[StreamData | StreamGap] = []
        while self._starts and self._starts[0] <= self.offset:
            begin = self._starts.pop(0)
            data, length, time_ns = self._waiting.pop(0)
            self.waiting_bytes -= len(data) + _OVERHEAD
            old = self.offset - begin
            if old:
                self._compare(begin, data[:old])
                self.retransmitted_bytes += min(old, length)
            data, length = data[old:], length - old
            if data:
                out.append(StreamData(side=side, time_ns=time_ns, offset=self.offset, data=data))
                self._recent += data
                if len(self._recent) > 2 * _COMPARED:
                    del self._recent[:-_COMPARED]
                self._advance(len(data))
            if length > len(data):
                out += self.skip(side, self.offset + length - len(data), time_ns)
        return out

    def skip(self, side: int, upto: int, time_ns: int) -> list[StreamData | StreamGap]:
        """Gives up what lies before an offset, as far as nothing is waiting there."""
        if self._starts:
            upto = min(upto, self._starts[0])
        length = upto - self.offset
        if length <= 0:
            return []
        gap = StreamGap(side=side, time_ns=time_ns, offset=self.offset, length=length)
        self.missing_bytes += length
        self._recent.clear()
        self._advance(length)
        return [gap]

    def skip_to_waiting(self, side: int, time_ns: int) -> list[StreamData | StreamGap]:
        """Gives up what is missing before the first segment that waits, and hands that out."""
        return self.skip(side, self._starts[0], time_ns) + self.drain(side)

    @property
    def first_waiting(self) -> int | None:
        """The offset of the first segment that came too early."""
        return self._starts[0] if self._starts else None

    def _advance(self, length: int) -> None:
        self.offset += length
        self._next = ((self._next or 0) + length) & 0xFFFFFFFF

    def _compare(self, begin: int, data: bytes) -> None:
        kept = self.offset - len(self._recent)
        if begin < kept:
            begin, data = kept, data[kept - begin :]
        self.conflicting_bytes += _differing(bytes(self._recent[begin - kept :][: len(data)]), data)


def _differing(one: bytes, other: bytes) -> int:
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return 0
    return sum(a != b for a, b in zip(one, other, strict=False))


class TCPStream:
    """One TCP conversation: its segments go in as captured, its bytes come out in order.

    Attributes:
        sides: what is known of (who began it, the other).
    """

    def __init__(self, *, max_waiting_bytes: int = 4 << 20) -> None:
        """
        Args:
            max_waiting_bytes: kept at most of each side, of what came too early.
        """
        self.sides = (StreamSide(), StreamSide())
        self._max = max_waiting_bytes

    def add(
        self, side: int, header: TCPHeader, data: bytes, length: int, time_ns: int
    ) -> list[StreamData | StreamGap]:
        """Takes a segment; answers what is in order by it, of both sides.

        Args:
            side: who sent it: 0 him who began the conversation, 1 the other.
            header: its header.
            data: what was captured of its payload.
            length: of the payload on the wire, in bytes.
            time_ns: when it was captured.
        """
        sender, flags = self.sides[side], header.flags
        out: list[StreamData | StreamGap] = []
        number = header.sequence_number
        if flags & SYN:
            number = (number + 1) & 0xFFFFFFFF
            sender.place(number)
        if flags & ACK and not (flags & RST):
            out += self._acknowledge(1 - side, header.acknowledgment_number, length > 0, time_ns)
        begin = sender.position(number)
        if begin is None:
            sender.strays += 1
            return out
        if flags & RST:
            sender.rst = True
            return out
        if flags & FIN:
            sender.fin_at = begin + length
        if length <= 1 and begin == sender.offset - 1 and not flags & (SYN | FIN):
            sender.keep_alives += 1
        elif length:
            sender.keep(begin, data, length, time_ns)
            out += sender.drain(side)
            while sender.waiting_bytes > self._max:
                out += sender.skip_to_waiting(side, time_ns)
        return out

    def end(self, time_ns: int) -> list[StreamData | StreamGap]:
        """No more will come: what is still missing is given up, what waits handed out."""
        out: list[StreamData | StreamGap] = []
        for side, sender in enumerate(self.sides):
            while sender.first_waiting is not None:
                out += sender.skip_to_waiting(side, time_ns)
        return out

    def _acknowledge(
        self, side: int, number: int, with_data: bool, time_ns: int
    ) -> list[StreamData | StreamGap]:
        """The other has everything before `number`, so what is missing of it will not come.

        An acknowledgment alone may have been captured a little before what it is for, so
        that is believed only if later data waits, or if data comes with it: an answer.
        """
        sender = self.sides[side]
        acknowledged = sender.position(number)
        out: list[StreamData | StreamGap] = []
        if acknowledged is None:
            return out
        if sender.fin_at is not None:  # a FIN is acknowledged like a byte, and is none
            acknowledged = min(acknowledged, sender.fin_at)
        while sender.first_waiting is not None and sender.first_waiting < acknowledged:
            out += sender.skip_to_waiting(side, time_ns)
        if with_data and acknowledged > sender.offset:
            out += sender.skip(side, acknowledged, time_ns)
        return out
