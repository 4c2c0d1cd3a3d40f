"""The ICMP errors of a router (read RFC 1812 sections 4.3 and 5.2.7, RFC 4443 section 3).

What is quoted: as much as fits in 576 bytes, or in 1280 with IPv6; but 128 bytes where
extensions follow, so that those are found by readers older than RFC 4884 too (its
section 5). About some packets a router says nothing, `deserves_an_error` tells which.

It does not know whether an error will be sent: who is silent, or limits the rate,
drops it on its way out.
"""

from __future__ import annotations

from enum import Enum
from itertools import count

from rawproto.wire import icmp, icmpv6
from rawproto.wire.address import unpack_ipv4, unpack_ipv6
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import ICMPObject
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_chain import upper_layer

__all__ = ["Complaint", "complain", "deserves_an_error"]

INTERNETWORK_CONTROL = 48
"""The DSCP of precedence 6, which RFC 1812 section 4.3.2.5 asks for."""

MAX_ERROR_BYTES = {4: 576, 6: 1280}
EXTENDED_QUOTE_BYTES = 128
REDIRECT = 137

_identifications = count(1)


class Complaint(Enum):
    """Why a router drops a packet, where it says so."""

    NO_ROUTE = "no route"
    NO_HOST = "nobody there"
    TIME_EXCEEDED = "time exceeded"
    TOO_BIG = "too big"


UNREACHABLE_CODES = {
    4: {Complaint.NO_ROUTE: 0, Complaint.NO_HOST: 1, Complaint.TOO_BIG: 4},
    6: {Complaint.NO_ROUTE: 0, Complaint.NO_HOST: 3},
}


def complain(
    complaint: Complaint,
    packet: bytes,
    src_addr: str,
    *,
    mtu: int = 0,
    objects: tuple[ICMPObject, ...] = (),
) -> bytes | None:
    """The error about a packet, from its IP header on; None if none may be sent.

    Args:
        complaint: what is wrong.
        packet: a whole IP packet.
        src_addr: the router's address, of the same family.
        mtu: of the next hop, where the packet is too big for it.
        objects: what to tell beside; nothing can be said beside packet too big of IPv6.
    """
    if not deserves_an_error(packet):
        return None
    extensions = ICMPExtensions(objects=objects) if objects else None
    if packet[0] >> 4 == 4:
        return _icmp(complaint, packet, src_addr, mtu, extensions)
    return _icmpv6(complaint, packet, src_addr, mtu, extensions)


def _icmp(
    complaint: Complaint,
    packet: bytes,
    src_addr: str,
    mtu: int,
    extensions: ICMPExtensions | None,
) -> bytes:
    quote = packet[: EXTENDED_QUOTE_BYTES if extensions else MAX_ERROR_BYTES[4] - 28]
    message: icmp.ICMPMessage
    if complaint is Complaint.TIME_EXCEEDED:
        message = icmp.ICMPTimeExceeded(original_datagram=quote, extensions=extensions)
    else:
        message = icmp.ICMPDestinationUnreachable(
            code=UNREACHABLE_CODES[4][complaint],
            next_hop_mtu=mtu,
            original_datagram=quote,
            extensions=extensions,
        )
    header = IPv4Header(
        dscp=INTERNETWORK_CONTROL,
        # A raw socket would fill in 0 by itself.
        identification=next(_identifications) % 0xFFFF + 1,
        src_addr=src_addr,
        dst_addr=unpack_ipv4(packet[12:16]),
    )
    return (header / message).emit()


def _icmpv6(
    complaint: Complaint,
    packet: bytes,
    src_addr: str,
    mtu: int,
    extensions: ICMPExtensions | None,
) -> bytes:
    quote = packet[: EXTENDED_QUOTE_BYTES if extensions else MAX_ERROR_BYTES[6] - 48]
    message: icmpv6.ICMPv6Message
    if complaint is Complaint.TOO_BIG:
        whole = packet[: MAX_ERROR_BYTES[6] - 48]
        message = icmpv6.ICMPv6PacketTooBig(mtu=mtu, original_datagram=whole)
    elif complaint is Complaint.TIME_EXCEEDED:
        message = icmpv6.ICMPv6TimeExceeded(original_datagram=quote, extensions=extensions)
    else:
        message = icmpv6.ICMPv6DestinationUnreachable(
            code=UNREACHABLE_CODES[6][complaint], original_datagram=quote, extensions=extensions
        )
    header = IPv6Header(src_addr=src_addr, dst_addr=unpack_ipv6(packet[8:24]))
    return (header / message).emit()


def deserves_an_error(packet: bytes) -> bool:
    """Whether a router may complain about a packet that came from and goes to one host each.

    Never about another ICMP error, or errors would breed (RFC 1122 section 3.2.2, RFC 4443
    section 2.4(e)), and never about a fragment of IPv4 that is not the first.
    """
    if packet[0] >> 4 == 4:
        if int.from_bytes(packet[6:8], "big") & 0x1FFF:
            return False
        return packet[9] != 1 or icmp.peek_error(packet[(packet[0] & 0x0F) * 4 :]) is None
    upper = upper_layer(packet[6], packet[40:])
    if upper is None or upper[0] != 58:
        return True
    message = packet[40 + upper[1] :]
    return icmpv6.peek_error(message) is None and message[:1] != bytes((REDIRECT,))
