"""Who talks with whom: packets sorted into conversations, both directions of each together.

::

    10.0.0.1:40000 -- SYN -------> 10.0.0.2:80      tcp:0, from its src_addr (side 0)
    10.0.0.1:40000 <-- SYN, ACK -- 10.0.0.2:80      tcp:0, from its dst_addr (side 1)
    10.0.0.1:40000 -- another SYN> 10.0.0.2:80      tcp:1: the ports are used again

A conversation's `src_addr` is who began it: who sent the SYN, or else who was seen
first. They are numbered from 0 on as they come, each protocol by itself, which are the
numbers that Wireshark knows as `tcp.stream` and `udp.stream`; like there, a SYN with
another initial sequence number (RFC 9293 section 3.4) begins a new one.

How many are kept is bounded; what came for others is counted. It puts no bytes in
order (`streams`) and reads no fragment: it wants the packet that `reassembly` makes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from rawproto.wire.cut import cut_tcp
from rawproto.wire.dissect import Dissection
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Layer
from rawproto.wire.tcp import ACK, SYN, TCPHeader
from rawproto.wire.udp import UDPHeader

__all__ = ["MAX_CONVERSATIONS", "Conversation", "Conversations", "Transport", "transport"]

MAX_CONVERSATIONS = 50_000
"""How many of a protocol are kept unless told otherwise."""


class Transport(NamedTuple):
    """What a packet brings from one port to another.

    Attributes:
        src_addr: of the innermost IP header.
        dst_addr: likewise.
        header: TCP or UDP.
        data: what was captured of the payload.
        length: of the payload as the headers say, in bytes; more than `data` has where the
            capture cut it short.
    """

    src_addr: str
    dst_addr: str
    header: TCPHeader | UDPHeader
    data: bytes
    length: int


def transport(found: Dissection) -> Transport | None:
    """The TCP segment or UDP datagram in a packet; None for none and for a mere fragment.

    Args:
        found: what `dissect` made of it.
    """
    if found.fragment:
        return None
    # Nothing but DNS is read behind these two, so they stand at the end.
    for index in range(len(found.layers) - 1, 0, -1):
        header = found.layers[index]
        if isinstance(header, TCPHeader | UDPHeader):
            return _carried(found, index, found.offsets[index], header)
    if (cut := cut_tcp(found)) is not None:
        return _carried(found, len(found.layers), found.payload_offset, cut)
    return None


def _carried(
    found: Dissection, index: int, start: int, header: TCPHeader | UDPHeader
) -> Transport | None:
    """What a header brings that would be layer `index` and begins at `start`."""
    for outer in range(index - 1, -1, -1):
        ip: Layer = found.layers[outer]
        if isinstance(ip, IPv4Header):
            length = ip.total_length
        elif isinstance(ip, IPv6Header):
            length = ip.payload_length and 40 + ip.payload_length
        else:
            continue
        end = found.offsets[outer] + length if length else len(found.data)
        if isinstance(header, UDPHeader):
            begin = start + 8
            if header.length and header.length >= 8:
                end = min(end, start + header.length)
        else:
            begin = start + (header.data_offset or 5) * 4
        end = max(begin, end)
        return Transport(ip.src_addr, ip.dst_addr, header, found.data[begin:end], end - begin)
    return None


@dataclass(slots=True, kw_only=True, eq=False)
class Conversation:
    """Packets between two ends.

    Attributes:
        protocol: `"tcp"`, `"udp"`, or a layer whose addresses have no ports.
        number: from 0 on, within the protocol.
        src_addr: who began it.
        src_port: None where the protocol has no ports.
        dst_addr: whom it began with.
        dst_port: likewise.
        first_ns: time of the first packet.
        last_ns: of the latest one.
        packets: how many (from src_addr, from dst_addr).
        bytes: likewise, as long as they were on the wire.
        initial: TCP's first sequence number (from src_addr, from dst_addr), None unseen.
    """

    protocol: str
    number: int
    src_addr: str
    src_port: int | None
    dst_addr: str
    dst_port: int | None
    first_ns: int
    last_ns: int
    packets: list[int] = field(default_factory=lambda: [0, 0])
    bytes: list[int] = field(default_factory=lambda: [0, 0])
    initial: list[int | None] = field(default_factory=lambda: [None, None])

    @property
    def name(self) -> str:
        """How it is called for: `tcp:0`."""
        return f"{self.protocol}:{self.number}"

    @property
    def ends(self) -> tuple[str, str]:
        """Both ends in words: `10.0.0.1:80`, `[fd00::1]:80`, or the address alone."""
        return end_words(self.src_addr, self.src_port), end_words(self.dst_addr, self.dst_port)

    def count(self, side: int, length: int, time_ns: int) -> None:
        """Counts a packet.

        Args:
            side: 0 from src_addr, 1 from dst_addr.
            length: on the wire, in bytes.
            time_ns: when.
        """
        self.packets[side] += 1
        self.bytes[side] += length
        self.first_ns = min(self.first_ns, time_ns)
        self.last_ns = max(self.last_ns, time_ns)


def end_words(addr: str, port: int | None) -> str:
    """An address with its port as one writes them (RFC 5952 section 6)."""
    if port is None:
        return addr
    return f"[{addr}]:{port}" if ":" in addr else f"{addr}:{port}"


class Conversations:
    """The conversations of one protocol, in the order in which they began.

    Attributes:
        protocol: theirs.
        all: by their numbers.
        untracked: how many packets belonged to those for which there was no room.
    """

    def __init__(self, protocol: str, *, max_conversations: int = MAX_CONVERSATIONS) -> None:
        """
        Args:
            protocol: `"tcp"`, `"udp"`, or any layer's name.
            max_conversations: kept at most.
        """
        self.protocol = protocol
        self.all: list[Conversation] = []
        self.untracked = 0
        self._max = max_conversations
        # Under both orders of its ends, so that a packet takes one look.
        self._sides: dict[tuple[str, int | None, str, int | None], tuple[Conversation, int]] = {}

    def add(
        self,
        src_addr: str,
        dst_addr: str,
        time_ns: int,
        header: TCPHeader | UDPHeader | None = None,
    ) -> tuple[Conversation, int] | None:
        """The conversation of a packet, begun if need be; nothing is counted in it yet.

        Args:
            src_addr: of the packet.
            dst_addr: likewise.
            time_ns: when it was captured.
            header: with the ports, None where there are none.

        Returns:
            (the conversation, 0 if the packet is from its src_addr and 1 if not), or None
            where there is no room for another one.
        """
        src_port = dst_port = None
        if header is not None:
            src_port, dst_port = header.src_port, header.dst_port
        known = self._sides.get((src_addr, src_port, dst_addr, dst_port))
        if isinstance(header, TCPHeader):
            if known is None or _is_new(known, header):
                # A SYN-ACK answers him who began.
                turned = header.flags & (SYN | ACK) == SYN | ACK
                known = self._begin(src_addr, src_port, dst_addr, dst_port, time_ns, turned=turned)
            if known is not None and known[0].initial[known[1]] is None:
                first = header.sequence_number - (0 if header.flags & SYN else 1)
                known[0].initial[known[1]] = first & 0xFFFFFFFF
        elif known is None:
            known = self._begin(src_addr, src_port, dst_addr, dst_port, time_ns)
        if known is None:
            self.untracked += 1
        return known

    def _begin(
        self,
        src_addr: str,
        src_port: int | None,
        dst_addr: str,
        dst_port: int | None,
        time_ns: int,
        *,
        turned: bool = False,
    ) -> tuple[Conversation, int] | None:
        if len(self.all) >= self._max:
            return None
        there, back = (src_addr, src_port), (dst_addr, dst_port)
        one, other = (back, there) if turned else (there, back)
        begun = Conversation(
            protocol=self.protocol,
            number=len(self.all),
            src_addr=one[0],
            src_port=one[1],
            dst_addr=other[0],
            dst_port=other[1],
            first_ns=time_ns,
            last_ns=time_ns,
        )
        self.all.append(begun)
        # Who talks with himself is his own src_addr: side 0 is written last.
        self._sides[(*other, *one)] = begun, 1
        self._sides[(*one, *other)] = begun, 0
        return self._sides[(*there, *back)]


def _is_new(known: tuple[Conversation, int], header: TCPHeader) -> bool:
    """Whether a SYN begins another conversation between the same ports."""
    initial = known[0].initial[known[1]]
    return (
        header.flags & (SYN | ACK) == SYN
        and initial is not None
        and initial != header.sequence_number
    )
