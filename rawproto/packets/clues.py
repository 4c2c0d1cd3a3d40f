"""By what a packet and its answer know each other, read off their bytes.

A host on a busy network hears far more than its answers, so a key is taken from a few
bytes of each frame, and only what has the key of a question is dissected. Read RFC 792,
RFC 4443 and RFC 8335 (identifier, sequence number), RFC 9293 (ports, numbers), RFC 826
and RFC 4861 (the address asked for). ICMP errors quote the packet that they are about,
from its IP header on, often no more than 8 bytes behind that.

A key is `(what, remote address, bytes)`; a remote of b"" is anybody, for questions to a
group. Nothing here raises: bytes that are no packet have no clues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rawproto.wire.dissect import ETHERNET
from rawproto.wire.ipv6_chain import upper_layer

__all__ = ["Clues", "Key", "clues_of_answer", "clues_of_request"]

Key = tuple[int, bytes, bytes]

ANYBODY = b""
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
DNS_PORTS = (53, 5353, 5355)

_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_TAGS = (0x8100, 0x88A8, 0x9100)
_MOST_TAGS = 4
_WITH_PORTS = frozenset((TCP, UDP, 33, 132, 136))
"""TCP, UDP, DCCP, SCTP and UDP-Lite begin with their ports."""

_QUOTED = 1 << 16
_QUOTED_HEADER = 1 << 17
"""In keys of errors: with the protocol by what is quoted of the inside; by the IP header alone."""

_ERRORS = {ICMP: frozenset((3, 4, 5, 11, 12)), ICMPV6: frozenset((1, 2, 3, 4))}
# Type of a question: (type of its answer, what of both is equal, whether anybody may answer).
_QUESTIONS: dict[tuple[int, int], tuple[int, slice, bool]] = {
    (ICMP, 8): (0, slice(4, 8), False),
    (ICMP, 10): (9, slice(0), True),
    (ICMP, 13): (14, slice(4, 8), False),
    (ICMP, 15): (16, slice(4, 8), False),
    (ICMP, 17): (18, slice(4, 8), False),
    (ICMP, 42): (43, slice(4, 7), False),
    (ICMPV6, 128): (129, slice(4, 8), False),
    (ICMPV6, 133): (134, slice(0), True),
    (ICMPV6, 135): (136, slice(8, 24), True),
    (ICMPV6, 160): (161, slice(4, 7), False),
}
_ANSWERS = {(protocol, reply): equal for (protocol, _), (reply, equal, _) in _QUESTIONS.items()}


@dataclass(slots=True, kw_only=True)
class Clues:
    """What is known of one packet.

    Attributes:
        kind: whether an arrived one may be a reply or is an ICMP error; "" of others.
        keys: of a request, those that its answers have; of an answer, those to look under,
            the best first.
        protocol: of IP; of an error that of the packet quoted; 0 of ARP.
        identification: IPv4's, of an error that of the packet quoted; 0 for none.
        icmp_type: of an ICMP message.
        src_addr: of the IP header, packed; of an error that of the packet quoted.
        dst_addr: likewise.
        data: from the IP header (or ARP message) on.
        inside: from behind the IP headers on; of an error, what it quotes of that.
    """

    kind: Literal["reply", "error", ""] = ""
    keys: list[Key]
    protocol: int = 0
    identification: int = 0
    icmp_type: int = 0
    src_addr: bytes = b""
    dst_addr: bytes = b""
    data: bytes = b""
    inside: bytes = b""


def clues_of_request(data: bytes, link_type: int, *, group: bool = False) -> Clues:
    """By what answers to a packet of ours will be known.

    Args:
        data: the packet, from the first byte of `link_type` on.
        link_type: `ETHERNET`, or anything else for an IP header.
        group: whether anybody may answer.

    Returns:
        Clues without keys where nothing can answer: a fragment but the first, no IP.
    """
    found = _network(data, link_type)
    if found is None:
        return _arp_clues(data, link_type, request=True)
    start, protocol, src, dst, inside, identification = found
    clues = Clues(
        keys=[],
        protocol=protocol,
        src_addr=src,
        dst_addr=dst,
        identification=identification,
        data=data[start:],
        inside=inside,
    )
    if identification:
        clues.keys.append((_QUOTED_HEADER, dst, identification.to_bytes(2, "big")))
    if protocol < 0:
        return clues
    remote = ANYBODY if group else dst
    if protocol in (ICMP, ICMPV6):
        question = _QUESTIONS.get((protocol, inside[0])) if len(inside) >= 8 else None
        if question is not None:
            reply, equal, anybody = question
            key = bytes((reply,)) + inside[equal]
            clues.keys.append((protocol, ANYBODY if anybody else remote, key))
    elif protocol not in _WITH_PORTS:
        clues.keys.append((protocol, remote, b""))
    elif len(inside) >= 4:
        clues.keys.append((protocol, remote, inside[2:4] + inside[:2]))
    quoted = _quoted_key(protocol, dst, inside)
    if quoted is not None:
        clues.keys.append(quoted)
    return clues


def clues_of_answer(data: bytes, link_type: int) -> Clues | None:
    """What an arrived frame may answer; None where it is certainly no answer."""
    found = _network(data, link_type)
    if found is None:
        arp = _arp_clues(data, link_type, request=False)
        return arp if arp.keys else None
    start, protocol, src, dst, inside, _ = found
    if protocol < 0:
        return None
    key = b""
    if protocol in (ICMP, ICMPV6):
        if len(inside) < 8:
            return None
        if inside[0] in _ERRORS[protocol]:
            return _error_clues(data[start:], protocol, inside)
        equal = _ANSWERS.get((protocol, inside[0]))
        if equal is None:
            return None
        key = inside[:1] + inside[equal]
    elif protocol in _WITH_PORTS:
        if len(inside) < 8:
            return None
        key = inside[:4]
    return Clues(
        kind="reply",
        keys=[(protocol, src, key), (protocol, ANYBODY, key)],
        protocol=protocol,
        src_addr=src,
        dst_addr=dst,
        data=data[start:],
        inside=inside,
    )


def _error_clues(packet: bytes, protocol: int, message: bytes) -> Clues | None:
    version = _IPV4 if protocol == ICMP else _IPV6
    quote = _ip(message, 8, version)
    if quote is None:
        return None
    _, quoted_protocol, src, dst, inside, identification = quote
    keys = []
    if quoted_protocol >= 0:
        key = _quoted_key(quoted_protocol, dst, inside)
        if key is not None:
            keys.append(key)
    # Few bytes may be quoted, or a later fragment.
    if identification:
        keys.append((_QUOTED_HEADER, dst, identification.to_bytes(2, "big")))
    return Clues(
        kind="error",
        keys=keys,
        protocol=quoted_protocol,
        identification=identification,
        icmp_type=message[0],
        src_addr=src,
        dst_addr=dst,
        data=packet,
        inside=inside,
    )


def _quoted_key(protocol: int, dst: bytes, inside: bytes) -> Key | None:
    """By what a packet is known that an error quotes."""
    if protocol in _WITH_PORTS:
        return (_QUOTED + protocol, dst, inside[:4]) if len(inside) >= 4 else None
    if protocol in (ICMP, ICMPV6):
        return (_QUOTED + protocol, dst, inside[:1] + inside[4:8]) if len(inside) >= 8 else None
    return _QUOTED + protocol, dst, b""


def _arp_clues(data: bytes, link_type: int, *, request: bool) -> Clues:
    """ARP over Ethernet for IPv4: the address asked for is the one that answers."""
    clues = Clues(keys=[])
    start = _behind_ethernet(data)[1] if link_type == ETHERNET else len(data)
    message = data[start:]
    if link_type != ETHERNET or _behind_ethernet(data)[0] != _ARP or len(message) < 28:
        return clues
    if message[2:6] != b"\x08\x00\x06\x04":
        return clues
    clues.data = message
    operation = message[7]
    if request and operation == 1:
        clues.keys.append((0, message[24:28], b""))
    elif not request and operation == 2:
        clues.kind = "reply"
        clues.keys.append((0, message[14:18], b""))
    return clues


def _behind_ethernet(data: bytes) -> tuple[int, int]:
    """(EtherType, where what it announces begins), behind VLAN tags."""
    start = 14
    for _ in range(_MOST_TAGS):
        ethertype = int.from_bytes(data[start - 2 : start], "big")
        if ethertype not in _TAGS:
            return ethertype, start
        start += 4
    return 0, start


_Network = tuple[int, int, bytes, bytes, bytes, int]


def _network(data: bytes, link_type: int) -> _Network | None:
    if link_type == ETHERNET:
        ethertype, start = _behind_ethernet(data)
        return _ip(data, start, ethertype)
    version = data[0] >> 4 if data else 0
    return _ip(data, 0, _IPV4 if version == 4 else _IPV6 if version == 6 else 0)


def _ip(data: bytes, start: int, ethertype: int) -> _Network | None:
    """(where it begins, protocol, source, destination, inside, identification) of an IP packet.

    The protocol is -1 where what is inside can't be told: a fragment but the first.
    """
    if ethertype == _IPV4:
        if len(data) < start + 20 or data[start] >> 4 != 4:
            return None
        inside = data[start + (data[start] & 15) * 4 :]
        total = int.from_bytes(data[start + 2 : start + 4], "big")
        if total >= 20:  # what stands behind is padding
            inside = inside[: max(0, total - (data[start] & 15) * 4)]
        protocol = data[start + 9]
        if int.from_bytes(data[start + 6 : start + 8], "big") & 0x1FFF:
            protocol = -1
        identification = int.from_bytes(data[start + 4 : start + 6], "big")
        src, dst = data[start + 12 : start + 16], data[start + 16 : start + 20]
        return start, protocol, src, dst, inside, identification
    if ethertype == _IPV6:
        if len(data) < start + 40 or data[start] >> 4 != 6:
            return None
        length = int.from_bytes(data[start + 4 : start + 6], "big")
        body = data[start + 40 : start + 40 + length if length else None]
        found = upper_layer(data[start + 6], body)
        protocol, at = found if found is not None else (-1, len(body))
        src, dst = data[start + 8 : start + 24], data[start + 24 : start + 40]
        return start, protocol, src, dst, body[at:], 0
    return None
