"""A NAT without sockets: source addresses rewritten on the way out, and back again.

Read RFC 3022 and RFC 4787 first, RFC 5508 for ICMP, RFC 6296 for why nobody should do this
to IPv6. A mapping stands for one endpoint inside, whomever it talks to, and is kept
until others need its room::

    inside (protocol, 10.99.1.1, 40001)  <-->  outside (protocol, 10.99.4.1, 40001)

The identifier is the source port of TCP and UDP, or that of an ICMP echo; it stays as it
is while nobody else has it. Other protocols have none, nor have later fragments: there the
last one that sent is the one who gets the answers.

An ICMP error quotes a packet as it was beyond the NAT. What becomes of the quote is what
tools find a NAT by, and NATs differ::

    full        addresses, identifiers and checksums as they were when the packet was sent
    addresses   addresses and identifiers, but no checksum in the quote
    plain       nothing: the quote is of a packet that nobody inside has sent

It puts no fragments together, and forgets no mapping by time.
"""

from __future__ import annotations

from typing import NamedTuple

from rawproto.wire import icmp, icmpv6
from rawproto.wire.checksum import update_checksum
from rawproto.wire.ipv6_chain import upper_layer

__all__ = ["MAX_MAPPINGS", "NAT"]

MAX_MAPPINGS = 4096
FIRST_IDENTIFIER = 1024

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58

SRC, DST = "src", "dst"

_ADDRESS_AT = {(4, SRC): 12, (4, DST): 16, (6, SRC): 8, (6, DST): 24}
_PORT_AT = {SRC: 0, DST: 2}
_CHECKSUM_AT = {ICMP: 2, TCP: 16, UDP: 6, ICMPV6: 2}
# By which message of a pair one end is known: requests by their source, replies by their target.
_ECHOES = {
    (ICMP, SRC): b"\x08",
    (ICMP, DST): b"\x00",
    (ICMPV6, SRC): b"\x80",
    (ICMPV6, DST): b"\x81",
}


class Upper(NamedTuple):
    """Where in a packet stands what a NAT looks at behind the IP header.

    Attributes:
        protocol: its number.
        offset: where it begins.
        identifier_at: where the identifier of one end stands; None where there is none.
        whole: whether this is the packet's first part, so that its header is here.
    """

    protocol: int
    offset: int
    identifier_at: int | None
    whole: bool


class NAT:
    """The mappings of one router.

    Args:
        quotes: `"full"`, `"addresses"` or `"plain"`: what of a quote is put right.
    """

    def __init__(self, quotes: str = "full") -> None:
        self._quotes = quotes
        # (protocol, inside address, identifier, outside address) -> outside identifier
        self._out: dict[tuple[int, bytes, int, bytes], int] = {}
        # (protocol, outside address, identifier) -> inside address, identifier
        self._back: dict[tuple[int, bytes, int], tuple[bytes, int]] = {}

    def outbound(self, packet: bytes, address: bytes) -> bytes | None:
        """A packet from inside, as it is outside; None if there is no identifier left for it.

        Args:
            packet: a whole IP packet.
            address: the router's on the side where it leaves, packed.
        """
        upper = find_upper(packet, SRC)
        at = error_at(packet, upper)
        if at is not None:
            return self._error_outbound(packet, address, upper, at)
        key = (upper.protocol, source(packet), read_identifier(packet, upper), address)
        identifier = self._out.pop(key, None)
        if identifier is None:
            identifier = self._free_identifier(key)
        if identifier is None:
            return None
        self._out[key] = identifier  # now the last to be forgotten
        self._back[key[0], address, identifier] = key[1:3]
        if len(self._out) > MAX_MAPPINGS:
            oldest = next(iter(self._out))
            self._back.pop((oldest[0], oldest[3], self._out.pop(oldest)), None)
        return rewritten(packet, SRC, address, upper, identifier)

    def inbound(self, packet: bytes) -> bytes:
        """A packet for one of the router's outside addresses, as it is inside.

        It is answered as it came where no mapping fits: it is for the router then.
        """
        upper = find_upper(packet, DST)
        at = error_at(packet, upper)
        if at is not None:
            return self._error_inbound(packet, upper, at)
        inside = self._back.get(
            (upper.protocol, destination(packet), read_identifier(packet, upper))
        )
        if inside is None:
            return packet
        return rewritten(packet, DST, inside[0], upper, inside[1])

    def _error_inbound(self, packet: bytes, upper: Upper, at: int) -> bytes:
        """An error about what has gone out; its quote is of the packet outside."""
        quote = packet[at:]
        if not _is_quote(quote, packet):
            return packet
        about = find_upper(quote, SRC)
        key = (about.protocol, source(quote), read_identifier(quote, about))
        inside = self._back.get(key)
        if inside is None:
            return packet
        if self._quotes != "plain":
            mend = self._quotes == "full"
            quote = rewritten(quote, SRC, inside[0], about, inside[1], mend=mend)
        return rewritten(with_quote(packet, upper, at, quote), DST, inside[0], upper, None)

    def _error_outbound(self, packet: bytes, address: bytes, upper: Upper, at: int) -> bytes:
        """An error from inside about what has come in; its quote is of the packet inside."""
        quote = packet[at:]
        if _is_quote(quote, packet):
            about = find_upper(quote, DST)
            key = (about.protocol, destination(quote), read_identifier(quote, about), address)
            identifier = self._out.get(key)
            if identifier is not None and self._quotes != "plain":
                mend = self._quotes == "full"
                quote = rewritten(quote, DST, address, about, identifier, mend=mend)
        return rewritten(with_quote(packet, upper, at, quote), SRC, address, upper, None)

    def _free_identifier(self, key: tuple[int, bytes, int, bytes]) -> int | None:
        """What an endpoint is to be known by outside: its own identifier, or the next free one."""
        protocol, _, wanted, address = key
        if not wanted or (protocol, address, wanted) not in self._back:
            return wanted
        for identifier in range(FIRST_IDENTIFIER, 0x10000):
            if (protocol, address, identifier) not in self._back:
                return identifier
        return None


def source(packet: bytes) -> bytes:
    """The source address of an IP packet, packed."""
    return packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]


def destination(packet: bytes) -> bytes:
    """The destination address of an IP packet, packed."""
    return packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]


def find_upper(packet: bytes, end: str) -> Upper:
    """What is behind the IP header, as far as it is there.

    Args:
        packet: from its IP header on, which is whole.
        end: whose identifier is wanted, `SRC` or `DST`.
    """
    if packet[0] >> 4 == 4:
        protocol, offset = packet[9], (packet[0] & 0x0F) * 4
        whole = not int.from_bytes(packet[6:8], "big") & 0x1FFF
    else:
        found = upper_layer(packet[6], packet[40:])
        whole = found is not None
        protocol, offset = (found[0], 40 + found[1]) if found else (packet[6], len(packet))
    at = None
    if protocol in (TCP, UDP):
        at = offset + _PORT_AT[end]
    elif packet[offset : offset + 1] == _ECHOES.get((protocol, end)):
        at = offset + 4
    if not whole or (at is not None and at + 2 > len(packet)):
        at = None
    return Upper(protocol, offset, at, whole)


def read_identifier(packet: bytes, upper: Upper) -> int:
    """The identifier of one end, 0 where there is none."""
    at = upper.identifier_at
    return 0 if at is None else int.from_bytes(packet[at : at + 2], "big")


def error_at(packet: bytes, upper: Upper) -> int | None:
    """Where the quote of an ICMP error begins; None for what is no error."""
    if not upper.whole or upper.protocol not in (ICMP, ICMPV6):
        return None
    peek = icmp.peek_error if upper.protocol == ICMP else icmpv6.peek_error
    return upper.offset + 8 if peek(packet[upper.offset :]) is not None else None


def rewritten(
    packet: bytes,
    end: str,
    address: bytes,
    upper: Upper,
    identifier: int | None,
    *,
    mend: bool = True,
) -> bytes:
    """A packet, or the quote of one, with another address and identifier at one end.

    Args:
        packet: from its IP header on.
        end: `SRC` or `DST`.
        address: the new one, packed.
        upper: as `find_upper` says for the same end.
        identifier: the new one; None, or where there is none, leaves it alone.
        mend: whether the checksums are put right (RFC 1624).
    """
    version = packet[0] >> 4
    data = bytearray(packet)
    at = _ADDRESS_AT[version, end]
    old_address = bytes(data[at : at + len(address)])
    data[at : at + len(address)] = address
    if version == 4 and mend:
        _mend(data, 10, old_address, address)
    # ICMP's checksum has no pseudo-header, ICMPv6's has.
    old, new = (b"", b"") if upper.protocol == ICMP else (old_address, address)
    at = upper.identifier_at or 0
    if at and identifier is not None:
        old += bytes(data[at : at + 2])
        data[at : at + 2] = identifier.to_bytes(2, "big")
        new += bytes(data[at : at + 2])
    checksum_at = upper.offset + _CHECKSUM_AT.get(upper.protocol, len(data))
    if mend and upper.whole and checksum_at + 2 <= len(data):
        if upper.protocol != UDP:
            _mend(data, checksum_at, old, new)
        elif data[checksum_at : checksum_at + 2] != b"\0\0":  # which says that there is none
            _mend(data, checksum_at, old, new)
            if data[checksum_at : checksum_at + 2] == b"\0\0":
                data[checksum_at : checksum_at + 2] = b"\xff\xff"
    return bytes(data)


def with_quote(packet: bytes, upper: Upper, at: int, quote: bytes) -> bytes:
    """An ICMP error with another quote of the same length, its checksum put right."""
    data = bytearray(packet)
    even = len(quote) & ~1  # what changes in a quote are words
    _mend(data, upper.offset + 2, packet[at : at + even], quote[:even])
    data[at:] = quote
    return bytes(data)


def _is_quote(quote: bytes, packet: bytes) -> bool:
    """Whether a quote has a whole IP header, of the family of the packet that quotes it."""
    version = packet[0] >> 4
    return len(quote) >= (20 if version == 4 else 40) and quote[0] >> 4 == version


def _mend(data: bytearray, at: int, old: bytes, new: bytes) -> None:
    checksum = int.from_bytes(data[at : at + 2], "big")
    data[at : at + 2] = update_checksum(checksum, old, new).to_bytes(2, "big")
