"""Other addresses, ports and MACs in packets that were captured, their checksums mended.

Wherever an address stands in a layer that `wire` knows, it is replaced: in headers, in ARP
and neighbour discovery, in IPv4 options and routing headers, and in the packet that an
ICMP error quotes, so that the error still is about a packet of that flow. Ports are those
of TCP and UDP. What applications wrote into their data is left alone.

A checksum is not computed anew but follows what changed (RFC 1624): one that was right stays
right, one that was wrong stays wrong by as much. So it is mended in a packet that was cut
short, too, and in the first fragment of one. `mend_all` computes all anew where what
they cover is there.

It knows no sockets and no files; it gives as many bytes as it takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from rawproto.errors import EmitError, UsageError
from rawproto.wire.address import pack_address, pack_mac, unpack_mac
from rawproto.wire.checksum import update_checksum
from rawproto.wire.dissect import ETHERNET, RAW, Dissection, checksums, dissect
from rawproto.wire.dns import DNSMessage
from rawproto.wire.ethernet import EthernetHeader
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_message import ICMPMessage, ICMPv6Message
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Layer, Packet
from rawproto.wire.tcp import TCPHeader
from rawproto.wire.udp import UDPHeader

__all__ = ["Rewrite"]

_CHECKSUM_AT: dict[type[Layer], int] = {
    IPv4Header: 10,
    ICMPMessage: 2,
    ICMPv6Message: 2,
    TCPHeader: 16,
    UDPHeader: 6,
}
_TCP = 6
_MOST_REMEMBERED = 65_536
_QUOTES_DEEP = 2
"""An error about an error is not sent; one that is made by hand is followed so far."""

_Network = IPv4Network | IPv6Network


class Rewrite:
    """What becomes what.

    Args:
        addresses: `OLD=NEW` each, hosts or networks of one family (`10.0.0.0/24=10.1.0.0/24`):
            of two networks of one size the hosts keep their numbers; of a NEW that is a
            host all of OLD becomes that. The first that matches holds.
        macs: `OLD=NEW` each; OLD may be `src` or `dst`, whatever stands there.
        ports: `OLD=NEW` each, of TCP and UDP, at either end.
        mend_all: whether checksums that were wrong, too, go out right.

    Raises:
        UsageError: one of them is no such pair.
    """

    def __init__(
        self,
        *,
        addresses: Iterable[str] = (),
        macs: Iterable[str] = (),
        ports: Iterable[str] = (),
        mend_all: bool = False,
    ) -> None:
        self._networks = [_networks(text) for text in addresses]
        self._texts: dict[str, str] = {}
        self._ends: dict[str, str] = {}
        for text in macs:
            old, new = _pair(text, "MAC=MAC, src=MAC or dst=MAC")
            if old in ("src", "dst"):
                self._ends[f"{old}_addr"] = _mac(new, text)
            else:
                self._texts[_mac(old, text)] = _mac(new, text)
        self._macs = dict(self._texts)
        self._ports = dict(_ports(text) for text in ports)
        self._mend_all = mend_all

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._networks or self._macs or self._ends or self._ports or self._mend_all)

    def apply(self, data: bytes, link_type: int = ETHERNET) -> bytes:
        """A packet with everything replaced, as long as it was; of what can't be read nothing.

        Args:
            data: from the first byte of the link layer on, as captured.
            link_type: what stands there.
        """
        found = dissect(data, link_type)
        changed = self._apply(found, _QUOTES_DEEP)
        if self._ends and found.layers and isinstance(found.layers[0], EthernetHeader):
            for name, at in (("dst_addr", 0), ("src_addr", 6)):
                if name in self._ends:
                    changed[at : at + 6] = pack_mac(self._ends[name])
        result = bytes(changed)
        return _mended(result, link_type) if self._mend_all else result

    def _apply(self, found: Dissection, quotes: int) -> bytearray:
        """The packet with its layers replaced, and those of packets that it quotes."""
        changed = bytearray(found.data)
        outer: tuple[str | None, str | None] = (None, None)
        for layer, (start, end) in zip(found.layers, found.spans, strict=True):
            before = found.data[start:end]
            new = self._inside(layer, quotes)
            # Emitted without its payload a layer gives its own bytes: all is set, nothing computed.
            after = before if new is layer else new.emit()
            if len(after) != len(before):  # never of what was parsed
                after = before
            kind: Any = type(layer)  # mypy takes no type[Layer] for hashable
            at = _checksum_at(kind)
            if at is not None:
                covered = [(before, after)] if after is not before else []
                if not isinstance(layer, IPv4Header | ICMPMessage):
                    covered += self._moved(outer)
                after = _follow(layer, after, at, covered)
            if after is not before:
                changed[start:end] = after
            outer = layer.addresses_within(*outer)
        self._cut_ports(found, changed)
        return changed

    def _moved(self, outer: tuple[str | None, ...]) -> list[tuple[bytes, bytes]]:
        """What changes of the addresses in a pseudo-header."""
        return [
            (pack_address(old), pack_address(new))
            for old in outer
            if old is not None and (new := self._address(old)) != old
        ]

    def _inside(self, value: Any, quotes: int) -> Any:
        """A layer, an option or the like with its fields replaced; itself where none is."""
        changes: dict[str, Any] = {}
        of: Any = type(value)  # mypy takes no type[object] for hashable
        for name, kind in _places(of):
            old = getattr(value, name)
            new = self._field(old, kind, quotes)
            if new != old:
                changes[name] = new
        return _replaced(value, changes)

    def _field(self, value: Any, kind: str, quotes: int) -> Any:
        if isinstance(value, tuple):
            return tuple([self._field(each, kind, quotes) for each in value])
        if isinstance(value, str):
            return self._address(value) if kind == "address" else value
        if isinstance(value, int):
            return self._ports.get(value, value) if kind == "port" else value
        if isinstance(value, bytes):
            if kind == "quote" and quotes:
                return bytes(self._apply(dissect(value, RAW), quotes - 1))
            return value
        return value if value is None else self._inside(value, quotes)

    def _address(self, text: str) -> str:
        """What becomes of an IP address or a MAC; remembered, because flows repeat them."""
        known = self._texts.get(text)
        if known is None:
            if len(self._texts) >= _MOST_REMEMBERED:
                self._texts = dict(self._macs)
            known = self._texts[text] = self._mapped(text)
        return known

    def _mapped(self, text: str) -> str:
        try:
            packed = pack_address(text)
        except EmitError:  # a MAC that stays, or an address of another protocol
            return text
        number, version = int.from_bytes(packed, "big"), 4 if len(packed) == 4 else 6
        for old, new in self._networks:
            if old.version == version and number & int(old.netmask) == int(old.network_address):
                host = number & int(old.hostmask) if old.prefixlen == new.prefixlen else 0
                return str(new.network_address + host)
        return text

    def _cut_ports(self, found: Dissection, changed: bytearray) -> None:
        """Of a TCP header that is cut short, as RFC 792 has it quoted, the ports are there."""
        last = found.layers[-1] if found.layers else None
        if isinstance(last, IPv4Header) and not last.fragment_offset:
            protocol = last.protocol
        else:
            protocol = last.next_header if isinstance(last, IPv6Header) else None
        if protocol == _TCP and len(found.payload) >= 4:
            for at in (found.payload_offset, found.payload_offset + 2):
                port = int.from_bytes(changed[at : at + 2], "big")
                changed[at : at + 2] = self._ports.get(port, port).to_bytes(2, "big")


def _replaced(value: Any, changes: dict[str, Any]) -> Any:
    """A copy with other fields; the object itself where there are none."""
    if not changes:
        return value
    new = dataclasses.replace(value, **changes)
    if isinstance(value, ICMPExtensions) and value.checksum:
        # The structure has a checksum of its own (RFC 4884 section 7).
        checksum = _updated(value.checksum, value.emit(), new.emit())
        new = dataclasses.replace(new, checksum=checksum)
    return new


@cache
def _places(kind: Any) -> tuple[tuple[str, str], ...]:
    """The fields of a class in which there is something to replace: (name, what it holds)."""
    if issubclass(kind, DNSMessage):  # an application's data
        return ()
    places = []
    for name in [field.name for field in dataclasses.fields(kind)]:
        if name.endswith("_addr") or name in ("addresses", "entries", "prefix", "segment_list"):
            places.append((name, "address"))
        elif name in ("src_port", "dst_port"):
            places.append((name, "port"))
        elif name == "original_datagram":
            places.append((name, "quote"))
        elif name in ("options", "extensions", "objects", "interface"):
            places.append((name, "inside"))
    return tuple(places)


@cache
def _checksum_at(kind: Any) -> int | None:
    """Where the checksum of such a layer stands, None where it has none."""
    return next((at for summed, at in _CHECKSUM_AT.items() if issubclass(kind, summed)), None)


def _follow(layer: Layer, data: bytes, at: int, covered: list[tuple[bytes, bytes]]) -> bytes:
    """A layer's bytes with its checksum brought up to date with what changed of what it covers."""
    if not covered:
        return data
    checksum = int.from_bytes(data[at : at + 2], "big")
    if isinstance(layer, UDPHeader) and not checksum:  # none is carried
        return data
    for old, new in covered:
        checksum = _updated(checksum, old, new)
    if isinstance(layer, UDPHeader):
        checksum = checksum or 0xFFFF
    return data[:at] + checksum.to_bytes(2, "big") + data[at + 2 :]


def _updated(checksum: int, old: bytes, new: bytes) -> int:
    """As `update_checksum`, of an odd number of bytes too."""
    odd = b"\0" * (len(old) & 1)
    return update_checksum(checksum, old + odd, new + odd)


def _mended(data: bytes, link_type: int) -> bytes:
    """The packet with every checksum computed that is wrong and covers what is there."""
    found = dissect(data, link_type)
    layers: list[Layer | bytes] = [*found.layers]
    for index, right in checksums(found):
        if right is False:
            layers[index] = dataclasses.replace(found.layers[index], checksum=None)  # type: ignore[type-var]
    return Packet((*layers, found.payload)).emit() + found.trailer


# --- what a user wrote ---------------------------------------------------------------------------


def _pair(text: str, wanted: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise UsageError(f"{text}: must be {wanted}")
    return old.strip(), new.strip()


def _networks(text: str) -> tuple[_Network, _Network]:
    old, new = (_network(each, text) for each in _pair(text, "ADDRESS=ADDRESS, or networks"))
    if old.version != new.version:
        raise UsageError(f"{text}: the addresses are of different families")
    if new.prefixlen != old.prefixlen and new.prefixlen != new.max_prefixlen:
        raise UsageError(f"{text}: the networks must be of one size")
    return old, new


def _network(text: str, whole: str) -> _Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise UsageError(f"{whole}: {error}") from None


def _mac(text: str, whole: str) -> str:
    try:
        return unpack_mac(pack_mac(text))
    except EmitError:
        raise UsageError(f"{whole}: {text} is not a MAC address") from None


def _ports(text: str) -> tuple[int, int]:
    old, new = _pair(text, "PORT=PORT")
    for each in (old, new):
        if not (each.isascii() and each.isdecimal() and int(each) <= 0xFFFF):
            raise UsageError(f"{text}: a port is a number from 0 to 65535")
    return int(old), int(new)
