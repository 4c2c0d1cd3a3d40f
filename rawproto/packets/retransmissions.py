"""What a capture shows of how a TCP conversation fared (read RFC 9293 3.8, RFC 6298).

A segment whose bytes were all seen before was sent again. One that fills a hole was
either sent again, because the first was lost before it came by, or overtaken by later
ones. Who sends again learns of the hole first, which takes a round trip wherever on the
path one listens: a filler that comes within half of one (3 ms where the handshake did not
show it) was overtaken, it is out of order. tshark counts the two together as we do; how
it tells them apart is another rule, which takes many retransmissions for reordering.

The handshake's round trip is from the SYN to the ACK of its answer: of the path's two
halves around the host that captured, one after the other, it takes both.

Only numbers are kept, and few holes. It holds no data: `streams` puts that in order.
"""

from __future__ import annotations

from rawproto.packets.streams import MAX_WINDOW, distance
from rawproto.wire.tcp import ACK, FIN, RST, SYN, TCPHeader

__all__ = ["TCPConduct", "TCPSideConduct"]

_ROUND_TRIP_NS = 6_000_000
_MAX_HOLES = 64


class TCPSideConduct:
    """How one side fared.

    Attributes:
        segments: that carried data, SYN or FIN.
        data_bytes: in them, sent again or not.
        retransmissions: segments sent again.
        retransmitted_bytes: of data in them.
        out_of_order: segments that later ones overtook.
        unseen: holes: how often bytes did not come when it was their turn.
        keep_alives: see RFC 1122 section 4.2.3.6.
        window_probes: a byte sent into a closed window.
    """

    __slots__ = (
        "_holes",
        "_next",
        "_window",
        "data_bytes",
        "keep_alives",
        "out_of_order",
        "retransmissions",
        "retransmitted_bytes",
        "segments",
        "unseen",
        "window_probes",
    )

    def __init__(self) -> None:
        self.segments = self.data_bytes = 0
        self.retransmissions = self.retransmitted_bytes = 0
        self.out_of_order = self.unseen = self.keep_alives = self.window_probes = 0
        self._next: int | None = None  # the sequence number behind the highest seen
        # First sequence number, the one behind the last, when it opened.
        self._holes: list[tuple[int, int, int]] = []
        self._window = -1

    def _send(
        self, header: TCPHeader, length: int, time_ns: int, overtaken_ns: int, probed: bool
    ) -> None:
        """Judges a segment.

        Args:
            header: its header.
            length: of its data.
            time_ns: when.
            overtaken_ns: how late one may be that was overtaken.
            probed: whether the other side's window is closed.
        """
        flags, first = header.flags, header.sequence_number
        span = length + bool(flags & SYN) + bool(flags & FIN)
        if self._next is None:
            self._next = (first + span) & 0xFFFFFFFF
            self._count(span, length)
            return
        ahead = distance(first, self._next)
        if length <= 1 and ahead == -1 and not flags & (SYN | FIN | RST):
            self.keep_alives += 1
            return
        if not span or abs(ahead) > MAX_WINDOW:
            return
        self._count(span, length)
        if probed and length == 1 and ahead == 0:
            self.window_probes += 1
            return
        if ahead > 0:
            self.unseen += 1
            self._holes = [*self._holes, (self._next, first, time_ns)][-_MAX_HOLES:]
        if ahead >= 0:
            self._next = (first + span) & 0xFFFFFFFF
            return
        opened_ns = self._fill(first, span)
        if opened_ns is not None and time_ns - opened_ns < overtaken_ns:
            self.out_of_order += 1
        else:
            self.retransmissions += 1
            self.retransmitted_bytes += length
        if ahead + span > 0:
            self._next = (first + span) & 0xFFFFFFFF

    def _count(self, span: int, length: int) -> None:
        self.segments += bool(span)
        self.data_bytes += length

    def _fill(self, first: int, span: int) -> int | None:
        """Takes a segment out of the holes: when the oldest that it was in opened."""
        left: list[tuple[int, int, int]] = []
        oldest_ns: int | None = None
        for begin, end, opened_ns in self._holes:
            # The segment within the hole, as offsets from the hole's beginning.
            size = distance(end, begin)
            low = max(0, distance(first, begin))
            high = min(size, distance(first, begin) + span)
            if low >= high:
                left.append((begin, end, opened_ns))
                continue
            oldest_ns = opened_ns if oldest_ns is None else min(oldest_ns, opened_ns)
            if low > 0:
                left.append((begin, (begin + low) & 0xFFFFFFFF, opened_ns))
            if high < size:
                left.append(((begin + high) & 0xFFFFFFFF, end, opened_ns))
        self._holes = left[-_MAX_HOLES:]
        return oldest_ns


class TCPConduct:
    """How a conversation fared.

    Attributes:
        sides: (who began it, the other).
        handshake_rtt_ns: from the latest SYN to the ACK of its answer, None if not all seen.
        resets: segments with RST.
    """

    __slots__ = ("_answer", "_syn_ns", "handshake_rtt_ns", "resets", "sides")

    def __init__(self) -> None:
        self.sides = (TCPSideConduct(), TCPSideConduct())
        self.handshake_rtt_ns: int | None = None
        self.resets = 0
        self._syn_ns: int | None = None
        self._answer: int | None = None  # what acknowledges the SYN's answer

    def add(self, side: int, header: TCPHeader, length: int, time_ns: int) -> None:
        """Takes a segment.

        Args:
            side: who sent it: 0 him who began the conversation, 1 the other.
            header: its header.
            length: of its data, in bytes.
            time_ns: when it was captured.
        """
        flags = header.flags
        sender, receiver = self.sides[side], self.sides[1 - side]
        if flags & RST:
            self.resets += 1
        elif self.handshake_rtt_ns is None:
            self._shake_hands(side, header, time_ns)
        overtaken_ns = (self.handshake_rtt_ns or _ROUND_TRIP_NS) // 2
        sender._send(header, length, time_ns, overtaken_ns, receiver._window == 0)
        if not flags & (SYN | FIN | RST):
            sender._window = header.window

    def _shake_hands(self, side: int, header: TCPHeader, time_ns: int) -> None:
        flags = header.flags
        if flags & SYN and not flags & ACK:
            self._syn_ns = time_ns
        elif flags & SYN:
            self._answer = (header.sequence_number + 1) & 0xFFFFFFFF
        elif self._syn_ns is not None and flags & ACK and not side:
            if self._answer == header.acknowledgment_number:
                self.handshake_rtt_ns = time_ns - self._syn_ns
            self._syn_ns = None
