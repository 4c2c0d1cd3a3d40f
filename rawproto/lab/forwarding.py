"""A router without sockets: a packet and where it came in, in; packets and where to, out.

Read RFC 1812 section 5.2 for IPv4 and RFC 8200 sections 3 and 5 for IPv6. A packet goes
through this, and is dropped where it does not pass::

    whole, IPv4 checksum right?
    for an address that stands for hosts inside (NAT)? ----> rewritten
    for the router itself, or for nobody beyond this link? > left to the kernel
    a route?     no ------------------------------------->   network unreachable
    a neighbour? no ------------------------------------->   host unreachable
    ttl above 1? no ------------------------------------->   time exceeded
    fits?        no -- IPv4 without DF: cut;  else ------>   fragmentation needed,
    from inside to outside (NAT)? -----------------------> rewritten    packet too big
    ttl less by one, out

Errors are worded by `icmp_errors`, addresses rewritten by `nat`. What a packet's options
and extension headers ask of routers is not heeded, and nothing is ever put together.
It knows neither the lab nor Ethernet; who carries the packets is `userspace`.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from rawproto.errors import EmitError
from rawproto.lab.icmp_errors import Complaint, complain
from rawproto.lab.nat import NAT, destination
from rawproto.lab.router_config import INSIDE, Entry, Port, RouterConfig
from rawproto.wire.address import pack_address
from rawproto.wire.checksum import internet_checksum, update_checksum
from rawproto.wire.fragment import fragment_ipv4
from rawproto.wire.icmp_objects import (
    ICMPObject,
    InterfaceInformation,
    MPLSLabel,
    MPLSLabelStack,
)
from rawproto.wire.ipv4 import DF
from rawproto.wire.ipv6_chain import upper_layer

__all__ = ["ITSELF", "Departure", "Forwarder"]

ITSELF = -1
"""The port of what the router itself sends, for the kernel to route."""

INCOMING = 0
"""The role of an interface that the packet came in by (RFC 5837 section 4.1)."""

MAX_REMEMBERED = 4096
MIN_IPV6_MTU = 1280

_IPV4 = struct.Struct("!BxHxxHBx2x4s4s")
_IPV6 = struct.Struct("!IHxB16s16s")
_BITS = {4: 32, 16: 128}


class Departure(NamedTuple):
    """A packet that is to leave.

    Attributes:
        port: by number, or `ITSELF`.
        packet: from its IP header on.
    """

    port: int
    packet: bytes


class Peeked(NamedTuple):
    """What of an IP header decides where a packet goes; no IPv6 packet is cut on its way."""

    version: int
    length: int
    ttl: int
    src: bytes
    dst: bytes
    dont_fragment: bool


class Forwarder:
    """One router.

    Args:
        config: what it goes by.

    Attributes:
        ports: its interfaces; one may be replaced by itself with another MTU or index.
    """

    def __init__(self, config: RouterConfig) -> None:
        self._config = config
        self.ports = list(config.ports)
        self._own = {pack_address(one) for port in config.ports for one in port.addresses}
        self._peers = {pack_address(one) for port in config.ports for one in port.peers}
        tables: dict[tuple[int, int], dict[int, Entry]] = {}
        for entry in config.entries:
            bits, length = _BITS[len(entry.network)], entry.prefix_length
            prefix = int.from_bytes(entry.network, "big") >> bits - length
            tables.setdefault((length, bits), {}).setdefault(prefix, entry)
        # Longest first: the first table that has the destination's prefix is right.
        self._tables = sorted(tables.items(), key=lambda item: item[0], reverse=True)
        self._found: dict[bytes, Entry | None] = {}
        self._turn = 0
        self._nat = NAT(config.nat) if config.nat is not None else None
        self._outside = {
            pack_address(one) for port in config.ports[INSIDE + 1 :] for one in port.addresses
        }

    def handle(self, packet: bytes, incoming: int) -> list[Departure]:
        """What becomes of one packet, whatever it is.

        Args:
            packet: from its IP header on; what stands behind its end is dropped.
            incoming: the port it came in by.
        """
        seen = peek(packet)
        if seen is None:
            return []
        packet = arrived = packet[: seen.length]
        if self._nat is not None and incoming != INSIDE and seen.dst in self._outside:
            packet = self._nat.inbound(packet)
            seen = seen._replace(dst=destination(packet))
        if seen.dst in self._own or not (_can_pass(seen.dst) and _can_pass(seen.src)):
            return []
        if self._config.drop_ptb and _is_too_big(packet, seen.version):
            return []
        entry = self._lookup(seen.dst)
        if entry is None:
            return self._complain(Complaint.NO_ROUTE, arrived, incoming)
        if entry.on_link and seen.dst not in self._peers:
            return self._complain(Complaint.NO_HOST, arrived, incoming)
        if seen.ttl <= 1:
            return self._complain(Complaint.TIME_EXCEEDED, arrived, incoming)
        outgoing = self._choose(entry, packet)
        mtu = self._mtu(outgoing, seen.version)
        if seen.length > mtu and seen.dont_fragment:
            return self._complain(Complaint.TOO_BIG, arrived, incoming, mtu)
        if self._nat is not None and incoming == INSIDE and outgoing != INSIDE:
            address = self.ports[outgoing].address(seen.version)
            translated = self._nat.outbound(packet, pack_address(address)) if address else None
            if translated is None:
                return []
            packet = translated
        packet = decremented(packet, seen.version)
        if len(packet) <= mtu:
            return [Departure(outgoing, packet)]
        try:
            return [Departure(outgoing, piece) for piece in fragment_ipv4(packet, mtu)]
        except EmitError:  # options that leave no room for anything
            return []

    def _lookup(self, dst: bytes) -> Entry | None:
        """The entry of the longest prefix, remembered because flows repeat it."""
        if dst not in self._found:
            if len(self._found) >= MAX_REMEMBERED:
                self._found.clear()
            self._found[dst] = self._search(dst)
        return self._found[dst]

    def _search(self, dst: bytes) -> Entry | None:
        bits, value = _BITS[len(dst)], int.from_bytes(dst, "big")
        for (length, width), table in self._tables:
            if width == bits and (entry := table.get(value >> bits - length)) is not None:
                return entry
        return None

    def _choose(self, entry: Entry, packet: bytes) -> int:
        ports = entry.ports
        if len(ports) == 1:
            return ports[0]
        if self._config.per_packet:
            self._turn += 1
            return ports[self._turn % len(ports)]
        return ports[zlib.crc32(flow_key(packet)) % len(ports)]

    def _mtu(self, port: int, version: int) -> int:
        mtu = min(self.ports[port].mtu, self._config.mtu or 0xFFFF)
        return max(mtu, MIN_IPV6_MTU) if version == 6 else mtu

    def _complain(
        self, complaint: Complaint, packet: bytes, incoming: int, mtu: int = 0
    ) -> list[Departure]:
        version = packet[0] >> 4
        src = packet[12:16] if version == 4 else packet[8:24]
        back = self._lookup(src)
        leaving = self.ports[back.ports[0] if back is not None else incoming]
        # RFC 1812 section 4.3.2.4, RFC 4443 section 2.2: as of what it is sent by.
        address = leaving.address(version) or self._any_address(version)
        if address is None:
            return []
        objects = self._objects(self.ports[incoming], version)
        error = complain(complaint, packet, address, mtu=mtu, objects=objects)
        return [Departure(ITSELF, error)] if error is not None else []

    def _objects(self, incoming: Port, version: int) -> tuple[ICMPObject, ...]:
        """What its errors say beside the packet (RFC 4950, RFC 5837)."""
        objects: tuple[ICMPObject, ...] = ()
        labels = self._config.mpls
        if labels:
            stack = tuple(
                MPLSLabel(label=label, ttl=1, bottom_of_stack=depth == len(labels))
                for depth, label in enumerate(labels, 1)
            )
            objects += (MPLSLabelStack(labels=stack),)
        if self._config.interface_info:
            objects += (
                InterfaceInformation(
                    role=INCOMING,
                    if_index=incoming.if_index,
                    if_addr=incoming.address(version),
                    if_name=incoming.name,
                    mtu=incoming.mtu,
                ),
            )
        return objects

    def _any_address(self, version: int) -> str | None:
        return next(filter(None, (port.address(version) for port in self.ports)), None)


def peek(packet: bytes) -> Peeked | None:
    """What decides where a packet goes; None for none that may be forwarded.

    That is one cut short, one with a wrong IPv4 checksum (RFC 1812 section 5.2.2), and
    what is not IP.
    """
    if len(packet) < 20:
        return None
    version = packet[0] >> 4
    if version == 4:
        first, length, fragment, ttl, src, dst = _IPV4.unpack_from(packet)
        end = (first & 0x0F) * 4
        if not 20 <= end <= length <= len(packet) or internet_checksum(packet[:end]):
            return None
        return Peeked(4, length, ttl, src, dst, bool(fragment >> 13 & DF))
    if version != 6 or len(packet) < 40:
        return None
    _, length, ttl, src, dst = _IPV6.unpack_from(packet)
    if 40 + length > len(packet):
        return None
    return Peeked(6, 40 + length, ttl, src, dst, True)


def decremented(packet: bytes, version: int) -> bytes:
    """The packet with one hop less to live, its checksum put right (RFC 1624)."""
    if version == 6:
        return b"%b%c%b" % (packet[:7], packet[7] - 1, packet[8:])
    new = bytes((packet[8] - 1, packet[9]))
    checksum = update_checksum(int.from_bytes(packet[10:12], "big"), packet[8:10], new)
    return b"%b%b%b%b" % (packet[:8], new, checksum.to_bytes(2, "big"), packet[12:])


def flow_key(packet: bytes) -> bytes:
    """What routers that balance by flow look at.

    Addresses, protocol, for IPv6 the flow label (RFC 6438), and the first four bytes behind
    the IP header where this is no fragment: ports, or ICMP's type, code and checksum.
    """
    if packet[0] >> 4 == 4:
        end = (packet[0] & 0x0F) * 4
        fragment = int.from_bytes(packet[6:8], "big") & 0x3FFF
        return packet[9:10] + packet[12:20] + (b"" if fragment else packet[end : end + 4])
    upper = upper_layer(packet[6], packet[40:])
    label = bytes((packet[1] & 0x0F,)) + packet[2:4]
    if upper is None:
        return label + packet[8:40]
    protocol, offset = upper
    return label + packet[8:40] + bytes((protocol,)) + packet[40 + offset : 44 + offset]


def _can_pass(address: bytes) -> bool:
    """Whether a router forwards packets from and to an address (RFC 1812 section 5.3.7)."""
    if len(address) == 4:
        return 0 < address[0] < 224 and address[0] != 127
    if address[0] == 0xFF or address[:2] == b"\xfe\x80":
        return False
    return any(address[:15]) or address[15] > 1


def _is_too_big(packet: bytes, version: int) -> bool:
    """Whether this is fragmentation needed, or packet too big."""
    if version == 4:
        end = (packet[0] & 0x0F) * 4
        first = not int.from_bytes(packet[6:8], "big") & 0x1FFF
        return packet[9] == 1 and first and packet[end : end + 2] == b"\x03\x04"
    upper = upper_layer(packet[6], packet[40:])
    return upper is not None and upper[0] == 58 and packet[40 + upper[1] :][:1] == b"\x02"
