"""Which probe an arrived packet speaks of: an answer to it, or an ICMP error that quotes it.

ICMP errors carry the packet that caused them, from its IP header on, but often
no more than 8 bytes behind that (RFC 792; RFC 4443 allows more), and with
lengths that speak of the whole. So a quote is read leniently and a probe must be
known by the first 8 bytes behind its IP header.

Nothing here raises: what is no answer to a probe is None.
"""

from __future__ import annotations

from dataclasses import dataclass

from rawproto.errors import WireError
from rawproto.machine import Datagram, ICMPError
from rawproto.wire.checksum import internet_checksum
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_chain import upper_layer
from rawproto.wire.layer import Layer

__all__ = [
    "EchoMatch",
    "Quote",
    "echo_request",
    "error_words",
    "match_echo",
    "read_error",
    "read_quote",
]

ICMP = 1
ICMPV6 = 58
FRAGMENTATION_NEEDED = 4


@dataclass(slots=True, kw_only=True)
class Quote:
    """A packet of ours as an ICMP error quotes it.

    Attributes:
        header: its IP header, as the sender of the error saw it.
        protocol: of what follows it (and any IPv6 extension headers).
        data: from its transport or ICMP header on.
    """

    header: IPv4Header | IPv6Header
    protocol: int
    data: bytes

    @property
    def ttl(self) -> int:
        """The TTL or hop limit that it had left."""
        header = self.header
        return header.ttl if isinstance(header, IPv4Header) else header.hop_limit


@dataclass(slots=True, kw_only=True)
class EchoMatch:
    """What an ICMP message says of an echo request.

    Attributes:
        identifier: of the echo request.
        sequence_number: of the echo request.
        dst_addr: whom the request was sent to: for a reply whoever answered.
        payload: of the reply.
        valid: whether a reply's checksum is right.
        error: the ICMP error, None for a reply.
    """

    identifier: int
    sequence_number: int
    dst_addr: str
    payload: bytes = b""
    valid: bool = True
    error: ICMPError | None = None


def read_quote(original: bytes, protocol: int) -> Quote | None:
    """The packet that an ICMP error quotes, None where it cannot be told.

    Args:
        original: the error's original datagram, from its IP header on.
        protocol: of the error itself, 1 (ICMP) or 58 (ICMPv6).
    """
    try:
        if protocol == ICMP:
            header, data = IPv4Header.parse(original)
            # Behind the first fragment there is no transport header to know a probe by.
            if header.fragment_offset:
                return None
            return Quote(header=header, protocol=header.protocol or 0, data=data)
        outer, data = IPv6Header.parse(original)
        found = upper_layer(outer.next_header or 0, data)
        return found and Quote(header=outer, protocol=found[0], data=data[found[1] :])
    except WireError:
        return None


def echo_request(data: bytes, protocol: int) -> ICMPEcho | ICMPv6Echo | None:
    """The echo request that `data` begins with, None where it is something else."""
    try:
        if protocol == ICMP and data[:1] == b"\x08":
            return ICMPEcho.parse(data)[0]
        if protocol == ICMPV6 and data[:1] == b"\x80":
            return ICMPv6Echo.parse(data)[0]
    except WireError:
        pass
    return None


def match_echo(datagram: Datagram) -> EchoMatch | None:
    """What a datagram says of an echo request, None where it is about something else.

    Args:
        datagram: whose `protocol` is 1 or 58 and whose `data` begins at the ICMP header.
    """
    data, protocol = datagram.data, datagram.protocol
    echo: ICMPEcho | ICMPv6Echo
    valid = True
    try:
        if protocol == ICMP and data[:1] == b"\x00":
            echo, payload = ICMPEcho.parse(data)
            # The kernel hands raw sockets what it has not verified yet, but for ICMPv6.
            valid = internet_checksum(data) == 0
        elif protocol == ICMPV6 and data[:1] == b"\x81":
            echo, payload = ICMPv6Echo.parse(data)
        else:
            return _match_error(datagram)
    except WireError:
        return None
    return EchoMatch(
        identifier=echo.identifier,
        sequence_number=echo.sequence_number,
        dst_addr=datagram.src_addr,
        payload=payload,
        valid=valid,
    )


def read_error(datagram: Datagram) -> tuple[ICMPError, Quote] | None:
    """The ICMP error that a datagram is, and the packet it quotes; None where it is none."""
    # Loaded with the first packet that is no reply: most runs see none.
    from rawproto.wire.icmp import parse_icmp
    from rawproto.wire.icmpv6 import parse_icmpv6

    try:
        if datagram.protocol == ICMP:
            message: Layer = parse_icmp(datagram.data)[0]
        else:
            message = parse_icmpv6(datagram.data)[0]
    except WireError:
        return None
    quote = read_quote(getattr(message, "original_datagram", b""), datagram.protocol)
    if quote is None:
        return None
    extensions = getattr(message, "extensions", None)
    error = ICMPError(
        src_addr=datagram.src_addr,
        dst_addr=quote.header.dst_addr,
        icmp_type=datagram.data[0],
        code=datagram.data[1],
        original=quote.data,
        received_ns=datagram.received_ns,
        ttl=datagram.ttl,
        mtu=_mtu_of(message),
        gateway_addr=getattr(message, "gateway_addr", ""),
        extensions=extensions.emit() if extensions else b"",
        stamp_source=datagram.stamp_source,
    )
    return error, quote


def _mtu_of(message: Layer) -> int | None:
    """What would fit, of the two errors that tell (RFC 1191, RFC 4443 section 3.2)."""
    if getattr(message, "code", None) == FRAGMENTATION_NEEDED:
        return getattr(message, "next_hop_mtu", None) or None
    return getattr(message, "mtu", None)


def _match_error(datagram: Datagram) -> EchoMatch | None:
    if datagram.protocol not in (ICMP, ICMPV6):
        return None
    found = read_error(datagram)
    echo = found and echo_request(found[1].data, found[1].protocol)
    if not found or not echo:
        return None
    return EchoMatch(
        identifier=echo.identifier,
        sequence_number=echo.sequence_number,
        dst_addr=found[0].dst_addr,
        error=found[0],
    )


def error_words(error: ICMPError) -> str:
    """An ICMP error as ping words it."""
    from rawproto.wire.icmp_words import describe_icmp, describe_icmpv6

    describe = describe_icmpv6 if ":" in error.dst_addr else describe_icmp
    words = describe(error.icmp_type, error.code)
    if error.mtu:
        words += f": mtu={error.mtu}" if ":" in error.dst_addr else f" (mtu = {error.mtu})"
    if error.gateway_addr:
        words += f"(New nexthop: {error.gateway_addr})"
    return words
