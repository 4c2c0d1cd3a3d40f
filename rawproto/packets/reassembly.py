"""Putting fragments together (read RFC 791 section 3.2 and RFC 8200 section 4.5; RFC 815).

::

    fragments, in any order                        the packet that was cut
    +----+-----------+                             +----+---------------------------+
    | IP | 0    1479 |                             | IP | 0                    2999 |
    +----+-----------+-----------+          --->   +----+---------------------------+
               | IP  | 1480 2959 |                   ^ the first fragment's header, less
               +-----+-----+-----+-----+               what made it a fragment
                           | IP  | 2999| MF = 0
                           +-----+-----+

Fragments of one packet share addresses, identification and, in IPv4, the protocol; the
VLANs and tunnels around them belong to the key too, so that networks with the same
addresses do not mix. A packet with an atomic fragment header (RFC 6946) is whole and
none of this room's business.

Of fragments that overlap nobody can tell what the receiver made, which is what those
who send them are after. So neither do we: in both families the whole packet is given
up, with what is still to come of it (RFC 5722; Linux does so for IPv4 too). A fragment
that brings only bytes already there is a duplicate and changes nothing.

Everything is bounded, because fragments come from strangers: packets under way, the
bytes they hold, and how long they may take, by the capture's clock. What was given up
and why is told by `poll_trouble`. It knows no clock of its own, sends no ICMP errors,
and reads nothing inside the packet: `dissect(whole.packet, RAW)` does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Literal, get_args

from rawproto.wire.checksum import internet_checksum
from rawproto.wire.dissect import RAW, Dissection, dissect
from rawproto.wire.ethernet import VLANTag
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import FragmentHeader

__all__ = ["FragmentTrouble", "Reason", "Reassembled", "Reassembler"]

MAX_PACKET = 65_535
"""What the length of an IPv4 packet, or the payload length of an IPv6 one, can say."""

_UNTOLD = 1024
# What a fragment costs beside its bytes: a list entry, a bytes object.
_OVERHEAD = 64

Reason = Literal["overlap", "too long", "two ends", "bad length", "cut short", "timeout", "evicted"]
"""Why a packet was not put together; `FragmentTrouble` words them."""

_WORDS: dict[Reason, str] = {
    "overlap": "fragments overlap",
    "too long": f"ends behind byte {MAX_PACKET}",
    "two ends": "fragments disagree on where it ends",
    "bad length": "a fragment is empty, or not the last and no multiple of 8 bytes",
    "cut short": "a fragment was captured in part",
    "timeout": "fragments are missing",
    "evicted": "fragments are missing, and others needed its room",
}


@dataclass(slots=True, kw_only=True)
class Reassembled:
    """A packet that came in fragments.

    Attributes:
        packet: from its IP header on, to be read by `dissect(packet, RAW)`. The header is
            the first fragment's, lengths and checksum are right, no fragment header is left.
        fragments: of how many it was made, duplicates not counted.
        first_ns: when the first of them to come came.
    """

    packet: bytes
    fragments: int
    first_ns: int


@dataclass(slots=True, kw_only=True)
class FragmentTrouble:
    """A packet that could not be put together; `str()` words it.

    Attributes:
        reason: one of `Reason`.
        src_addr: of the fragments.
        dst_addr: likewise.
        identification: likewise.
        fragments: how many were seen by then.
        offset: where in the packet the fragment stood that was too much, None where the
            trouble is that none came.
        time_ns: when it was noticed.
    """

    reason: Reason
    src_addr: str
    dst_addr: str
    identification: int
    fragments: int
    offset: int | None
    time_ns: int

    def __str__(self) -> str:
        where = "" if self.offset is None else f", at byte {self.offset}"
        return (
            f"fragments of packet {self.identification} {self.src_addr} > {self.dst_addr}: "
            f"{_WORDS[self.reason]}{where} ({self.fragments} seen)"
        )


class Reassembler:
    """Takes packets as they come, gives back those that were cut once they are whole.

    Call `add` with every packet; when it answers None and the packet was a fragment, more
    are to come. `poll_trouble` tells what was given up, `end` gives up what is left.

    Attributes:
        given_up: how many packets for each reason.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 4 << 20,
        max_packets: int = 1024,
        timeout_ns: int = 60_000_000_000,
    ) -> None:
        """
        Args:
            max_bytes: held at most, over all packets; beyond it the oldest is given up.
            max_packets: under way at most, likewise.
            timeout_ns: from the first fragment seen to the last (RFC 8200: 60 seconds).
        """
        self.given_up: dict[Reason, int] = dict.fromkeys(get_args(Reason), 0)
        self._max_bytes = max_bytes
        self._max_packets = max_packets
        self._timeout_ns = timeout_ns
        # In the order of their first fragments, so the oldest stands first.
        self._underway: dict[tuple[object, ...], _Packet] = {}
        self._held_bytes = 0
        self._troubles: deque[FragmentTrouble] = deque(maxlen=_UNTOLD)

    def __len__(self) -> int:
        """How many packets are under way."""
        return len(self._underway)

    @property
    def held_bytes(self) -> int:
        """What the fragments held cost, in bytes."""
        return self._held_bytes

    def add(self, found: Dissection, time_ns: int) -> Reassembled | None:
        """Takes a packet; answers the whole one if this fragment was the last that it lacked.

        Args:
            found: what `dissect` made of it; what is no fragment is left alone.
            time_ns: when it was captured. A clock that steps back expires nothing.
        """
        if not found.fragment:
            return None
        self._expire(time_ns)
        piece = _Fragment(found)
        packet = self._underway.get(piece.key)
        if packet is None:
            packet = self._underway[piece.key] = _Packet(piece, time_ns)
        packet.seen += 1
        if packet.given_up:
            return None
        held = packet.held_bytes
        reason = packet.take(piece)
        self._held_bytes += packet.held_bytes - held
        if reason:
            self._give_up(piece.key, reason, time_ns, piece.offset)
        elif packet.is_whole:
            del self._underway[piece.key]
            self._held_bytes -= packet.held_bytes
            return Reassembled(
                packet=packet.emit(), fragments=len(packet.starts), first_ns=packet.first_ns
            )
        while len(self._underway) > self._max_packets or self._held_bytes > self._max_bytes:
            self._remove(next(iter(self._underway)), "evicted", time_ns)
        return None

    def whole(self, found: Dissection, time_ns: int) -> Dissection | None:
        """What to look into: the packet itself, put together if it was the last fragment.

        Args:
            found: what `dissect` made of it.
            time_ns: when it was captured.

        Returns:
            None while fragments are missing. What was put together begins with its IP
            header; a tunnel may have carried fragments in fragments.
        """
        while found.fragment:
            made = self.add(found, time_ns)
            if made is None:
                return None
            found = dissect(made.packet, RAW)
        return found

    def end(self, time_ns: int) -> None:
        """No more will come: what is under way is given up."""
        for key in list(self._underway):
            self._remove(key, "timeout", time_ns)

    def poll_trouble(self) -> FragmentTrouble | None:
        """The next thing to tell, oldest first; of many untold the oldest are dropped."""
        return self._troubles.popleft() if self._troubles else None

    def _expire(self, now_ns: int) -> None:
        while self._underway:
            key = next(iter(self._underway))
            if now_ns - self._underway[key].first_ns <= self._timeout_ns:
                return
            self._remove(key, "timeout", now_ns)

    def _give_up(
        self, key: tuple[object, ...], reason: Reason, time_ns: int, offset: int | None = None
    ) -> None:
        """Tells it, once; the key is kept, because what is still to come goes the same way."""
        packet = self._underway[key]
        if packet.given_up:
            return
        self.given_up[reason] += 1
        self._troubles.append(
            FragmentTrouble(
                reason=reason,
                src_addr=packet.src_addr,
                dst_addr=packet.dst_addr,
                identification=packet.identification,
                fragments=packet.seen,
                offset=offset,
                time_ns=time_ns,
            )
        )
        self._held_bytes -= packet.held_bytes
        packet.drop()

    def _remove(self, key: tuple[object, ...], reason: Reason, time_ns: int) -> None:
        self._give_up(key, reason, time_ns)
        del self._underway[key]


class _Fragment:
    """What one packet says as a fragment.

    Attributes:
        key: what the fragments of one packet share.
        head: the headers in front of the fragmented part, as they stand in the whole packet
            but for lengths and checksum.
        offset: of `data` in the fragmented part, in bytes.
        more: whether it is not the last.
        data: its part.
        whole: whether all of it was captured.
        room: how long the fragmented part may be behind these headers.
    """

    __slots__ = (
        "data",
        "dst_addr",
        "head",
        "identification",
        "key",
        "more",
        "offset",
        "room",
        "src_addr",
        "whole",
    )

    def __init__(self, found: Dissection) -> None:
        data = found.data
        around: list[object] = []
        start, outer = 0, -1
        for index, layer in enumerate(found.layers):
            at = found.offsets[index]
            if isinstance(layer, VLANTag):
                around.append(layer.vid)
            elif isinstance(layer, IPv4Header | IPv6Header):
                self.src_addr, self.dst_addr = layer.src_addr, layer.dst_addr
                around += (layer.src_addr, layer.dst_addr)
                start, outer = at, index
            if not isinstance(layer, IPv4Header | FragmentHeader):
                continue
            if not (layer.fragment_offset or layer.flags & MF):
                continue
            if isinstance(layer, IPv4Header):
                around.append(layer.protocol)
                behind = at + (layer.ihl or 5) * 4
                head = bytearray(data[at:behind])
                head[6] &= 0xC0  # the DF flag and the reserved one stay
                head[7] = 0
                end = at + layer.total_length if layer.total_length else len(data)
                self.room = MAX_PACKET - len(head)
            else:
                behind = at + 8
                head = bytearray(data[start:at])
                # The header in front announces what the fragment header did: in its first
                # byte, or in the seventh of IPv6's own.
                announcer = 6 if outer == index - 1 else found.offsets[index - 1] - start
                head[announcer] = data[at]
                length = int.from_bytes(data[start + 4 : start + 6], "big")
                end = start + 40 + length if length else len(data)
                self.room = MAX_PACKET - (len(head) - 40)
            self.identification = layer.identification
            self.key = (*around, layer.identification)
            self.head = bytes(head)
            self.offset = layer.fragment_offset * 8
            self.more = bool(layer.flags & MF)
            self.data = data[behind:end]
            self.whole = end <= len(data)
            return
        raise AssertionError("a dissection is a fragment only by one of its headers")


class _Packet:
    """A packet of which fragments have come.

    Attributes:
        starts: where the pieces begin, ascending; they never overlap.
        seen: how many fragments came, good or not.
        size: of the fragmented part, None until the last fragment told it.
        held_bytes: what the pieces cost.
    """

    __slots__ = (
        "dst_addr",
        "first_ns",
        "given_up",
        "head",
        "held_bytes",
        "identification",
        "pieces",
        "room",
        "seen",
        "size",
        "src_addr",
        "starts",
    )

    def __init__(self, first: _Fragment, time_ns: int) -> None:
        self.src_addr, self.dst_addr = first.src_addr, first.dst_addr
        self.identification = first.identification
        self.first_ns = time_ns
        self.given_up = False
        self.seen = 0
        self.head = b""
        self.room = MAX_PACKET
        self.size: int | None = None
        self.starts: list[int] = []
        self.pieces: list[bytes] = []
        self.held_bytes = 0

    def drop(self) -> None:
        """Forgets the pieces."""
        self.given_up = True
        self.head, self.starts, self.pieces, self.held_bytes = b"", [], [], 0

    @property
    def is_whole(self) -> bool:
        held = self.held_bytes - _OVERHEAD * len(self.starts)
        return self.size is not None and held == self.size + len(self.head)

    def take(self, piece: _Fragment) -> Reason | None:
        """Takes a fragment in, or says why the packet cannot be put together with it."""
        begin, end = piece.offset, piece.offset + len(piece.data)
        if not piece.whole:
            return "cut short"
        if begin == end or (piece.more and len(piece.data) % 8):
            return "bad length"
        last = self.starts[-1] + len(self.pieces[-1]) if self.starts else 0
        self.room = piece.room if not begin else self.room
        if max(end, last) > min(piece.room, self.room):
            return "too long"
        if self.size is not None and (end > self.size or (not piece.more and end != self.size)):
            return "two ends"
        if not piece.more and end < last:
            return "two ends"
        at = bisect_right(self.starts, begin)
        before = self.starts[at - 1] + len(self.pieces[at - 1]) if at else 0
        after = self.starts[at] if at < len(self.starts) else end
        if before > begin or after < end:
            return None if self._covers(begin, piece.data) else "overlap"
        if not begin:
            self.head = piece.head
            self.held_bytes += len(piece.head)
        if not piece.more:
            self.size = end
        self.starts.insert(at, begin)
        self.pieces.insert(at, piece.data)
        self.held_bytes += _OVERHEAD + len(piece.data)
        return None

    def _covers(self, begin: int, data: bytes) -> bool:
        """Whether all of these bytes are there already, and are the same."""
        end = begin + len(data)
        covered = begin
        for start, piece in zip(self.starts, self.pieces, strict=True):
            if covered < end and start <= covered < start + len(piece):
                upto = min(end, start + len(piece))
                if piece[covered - start : upto - start] != data[covered - begin : upto - begin]:
                    return False
                covered = upto
        return covered == end

    def emit(self) -> bytes:
        """The whole packet."""
        head = bytearray(self.head)
        if head[0] >> 4 == 6:
            head[4:6] = (len(head) - 40 + (self.size or 0)).to_bytes(2, "big")
        else:
            head[2:4] = (len(head) + (self.size or 0)).to_bytes(2, "big")
            head[10:12] = bytes(2)
            head[10:12] = internet_checksum(bytes(head)).to_bytes(2, "big")
        return b"".join((head, *self.pieces))
