"""From bytes to a stack of layers, whatever the bytes: nothing raises, nothing is lost.

`dissect` reads layer after layer, each announced by the one before it, until it
meets one that it doesn't know. What it could not read is kept, and where the
bytes contradict themselves the first contradiction is kept too, as `damage`::

    +----------+------+-----+---------------------+---------+
    | ethernet | ipv4 | tcp |       payload       | trailer |
    +----------+------+-----+---------------------+---------+
    ^ offsets[0]      ^ [2] ^ payload_offset      ^ padding and the like: behind what
               ^ [1]                                the lengths of the layers cover

Headers, payload and trailer are all of `data`, in this order. A later fragment
is no transport header and is left alone; behind the first fragment's nothing more
is read, because it may end anywhere.

The numbers of link types are those of https://www.tcpdump.org/linktypes.html. It
knows no state: it puts no fragments and no streams together, it looks into no packet that an
ICMP error quotes (`dissect(original, RAW)` does), and of RPT it reads what is not sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from rawproto.errors import MalformedError, TruncatedError, WireError
from rawproto.wire.arp import ARPMessage
from rawproto.wire.checksum import ones_complement_sum, pseudo_header_sum
from rawproto.wire.cooked import LinuxCooked, LinuxCooked2, LoopbackHeader
from rawproto.wire.dns import DNSMessage
from rawproto.wire.ethernet import EthernetHeader, VLANTag
from rawproto.wire.icmp import ICMPMessage, parse_icmp
from rawproto.wire.icmpv6 import ICMPv6Message, parse_icmpv6
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import (
    DestinationOptions,
    FragmentHeader,
    HopByHopOptions,
    parse_routing,
)
from rawproto.wire.layer import Layer, Packet
from rawproto.wire.tcp import TCPHeader
from rawproto.wire.udp import UDPHeader

__all__ = [
    "ETHERNET",
    "LINK_TYPES",
    "MAX_LAYERS",
    "RAW",
    "Dissection",
    "checksums",
    "dissect",
    "left_to_device",
]

ETHERNET = 1
"""Link type: frames from the Ethernet header on."""
RAW = 101
"""Link type: packets from the IP header on, of either version."""

MAX_LAYERS = 24
"""How deep a stack is followed: tunnels, tags and extension headers may nest without end."""

_NETLINK = 824
_DNS_PORTS = (53, 5353, 5355)

L = TypeVar("L", bound=Layer)


class Dissection:
    """What was found in one packet.

    Attributes:
        data: the whole packet, as given.
        layers: outermost first.
        offsets: where each layer begins in `data`.
        payload: what is left inside the innermost layer, undecoded.
        payload_offset: where `payload` begins in `data`; the innermost layer ends here.
        damage: the first contradiction met, None for none. Its offset counts from the
            beginning of the layer it names.
        fragment: whether this is one fragment of a packet, the first one included.
    """

    __slots__ = ("damage", "data", "fragment", "layers", "offsets", "payload", "payload_offset")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.layers: list[Layer] = []
        self.offsets: list[int] = []
        self.payload = data
        self.payload_offset = 0
        self.damage: WireError | None = None
        self.fragment = False

    @property
    def trailer(self) -> bytes:
        """What stands behind everything that the layers' lengths cover, such as padding."""
        return self.data[self.payload_offset + len(self.payload) :]

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The (beginning, end) in `data` of each layer's own bytes."""
        ends = [*self.offsets, self.payload_offset][1:]
        return list(zip(self.offsets, ends, strict=True))

    @property
    def packet(self) -> Packet:
        """The stack to change and emit again; as it is, it emits `data` less the trailer."""
        return Packet((*self.layers, self.payload) if self.payload else tuple(self.layers))

    def __contains__(self, kind: type[Layer]) -> bool:
        return any(isinstance(layer, kind) for layer in self.layers)

    def __getitem__(self, kind: type[L]) -> L:
        """The outermost layer of class `kind`. Raises KeyError."""
        for layer in self.layers:
            if isinstance(layer, kind):
                return layer
        raise KeyError(kind.__name__)

    def __repr__(self) -> str:
        stack = " / ".join([type(layer).__name__ for layer in self.layers] or ["nothing"])
        damage = f", damage: {self.damage}" if self.damage else ""
        return f"<Dissection {stack}, payload of {len(self.payload)} bytes{damage}>"


def dissect(data: bytes, link_type: int = ETHERNET) -> Dissection:
    """Reads a packet as far as it can be read. Raises nothing, whatever the bytes.

    Args:
        data: from the first byte of the link layer on, as captured.
        link_type: what stands there; of a type not in `LINK_TYPES` all is payload.
    """
    found = Dissection(data)
    layers, offsets = found.layers, found.offsets
    step = _LINK_STEPS.get(link_type)
    rest, offset = data, 0
    try:
        while step is not None:
            if len(layers) == MAX_LAYERS:
                raise MalformedError("dissect", 0, f"more than {MAX_LAYERS} layers")
            layer, rest, size, step = step(rest, found)
            layers.append(layer)
            offsets.append(offset)
            offset += size
    except _Foreign:
        pass
    except WireError as error:
        # A packet that was cut short mostly breaks its inner layers too: the first damage says why.
        found.damage = found.damage or error
    found.payload = rest
    found.payload_offset = offset
    return found


class _Foreign(Exception):
    """What stands behind a number is not what the number says."""


# A step reads one layer: (layer, what is inside it, its own length in bytes, the next step).
# Lengths are compared here and not in the parsers, to which a packet cut short is no error.
_Step = Callable[[bytes, Dissection], "tuple[Layer, bytes, int, _Step | None]"]
_Read = tuple[Layer, bytes, int, _Step | None]


def _expect(found: Dissection, layer: str, needed: int, data: bytes) -> None:
    """Notes that a layer is shorter than it says; a fragment's inner layers always are."""
    if not found.fragment and found.damage is None:
        found.damage = TruncatedError(layer, 0, needed, len(data))


def _ethernet(data: bytes, found: Dissection) -> _Read:
    header, rest = EthernetHeader.parse(data)
    ethertype = header.ethertype or 0
    if ethertype <= 1500 and 14 + ethertype > len(data):
        _expect(found, "ethernet", 14 + ethertype, data)
    return header, rest, 14, _ETHERTYPES.get(ethertype)


def _vlan(tpid: int) -> _Step:
    def step(data: bytes, found: Dissection) -> _Read:
        tag, rest = VLANTag.parse(data, tpid=tpid)
        ethertype = tag.ethertype or 0
        if ethertype <= 1500 and 4 + ethertype > len(data):
            _expect(found, "ethernet", 4 + ethertype, data)
        return tag, rest, 4, _ETHERTYPES.get(ethertype)

    return step


def _cooked(data: bytes, found: Dissection) -> _Read:
    header, rest = LinuxCooked.parse(data)
    return header, rest, 16, _by_protocol_type(header)


def _cooked2(data: bytes, found: Dissection) -> _Read:
    header, rest = LinuxCooked2.parse(data)
    return header, rest, 20, _by_protocol_type(header)


def _by_protocol_type(header: LinuxCooked | LinuxCooked2) -> _Step | None:
    if header.arphrd_type == _NETLINK:  # its protocol type is a netlink family
        return None
    return _ETHERTYPES.get(header.protocol_type or 0)


def _loopback(data: bytes, found: Dissection) -> _Read:
    header, rest = LoopbackHeader.parse(data)
    return header, rest, 4, _FAMILIES.get(header.family or 0)


def _raw(data: bytes, found: Dissection) -> _Read:
    return (_ipv6 if data[:1] and data[0] >> 4 == 6 else _ipv4)(data, found)


def _arp(data: bytes, found: Dissection) -> _Read:
    message, rest = ARPMessage.parse(data)
    return message, b"", len(data) - len(rest), None


def _ipv4(data: bytes, found: Dissection) -> _Read:
    header, rest = IPv4Header.parse(data)
    total = header.total_length or 0
    if total > len(data):
        _expect(found, "ipv4", total, data)
    size = (data[0] & 0x0F) << 2
    if header.fragment_offset or header.flags & MF:
        found.fragment = True
        if header.fragment_offset:
            return header, rest, size, None
    return header, rest, size, _IPV4_PROTOCOLS.get(data[9])


def _ipv6(data: bytes, found: Dissection) -> _Read:
    header, rest = IPv6Header.parse(data)
    total = 40 + (header.payload_length or 0)
    if total > len(data):
        _expect(found, "ipv6", total, data)
    return header, rest, 40, _IPV6_PROTOCOLS.get(data[6])


def _hop_by_hop(data: bytes, found: Dissection) -> _Read:
    header, rest = HopByHopOptions.parse(data)
    return header, rest, len(data) - len(rest), _IPV6_PROTOCOLS.get(data[0])


def _destination(data: bytes, found: Dissection) -> _Read:
    header, rest = DestinationOptions.parse(data)
    return header, rest, len(data) - len(rest), _IPV6_PROTOCOLS.get(data[0])


def _routing(data: bytes, found: Dissection) -> _Read:
    header, rest = parse_routing(data)
    return header, rest, len(data) - len(rest), _IPV6_PROTOCOLS.get(data[0])


def _fragment(data: bytes, found: Dissection) -> _Read:
    header, rest = FragmentHeader.parse(data)
    if header.fragment_offset or header.flags & MF:
        found.fragment = True
        if header.fragment_offset:
            return header, rest, 8, None
    return header, rest, 8, _IPV6_PROTOCOLS.get(data[0])


def _icmp(data: bytes, found: Dissection) -> _Read:
    message, rest = parse_icmp(data)
    return message, rest, len(data) - len(rest), None


def _icmpv6(data: bytes, found: Dissection) -> _Read:
    message, rest = parse_icmpv6(data)
    return message, rest, len(data) - len(rest), None


def _tcp(data: bytes, found: Dissection) -> _Read:
    header, rest = TCPHeader.parse(data)
    return header, rest, (data[12] & 0xF0) >> 2, None


def _udp(data: bytes, found: Dissection) -> _Read:
    header, rest = UDPHeader.parse(data)
    length = header.length or 0
    if length > len(data):
        _expect(found, "udp", length, data)
    if found.fragment or not rest:
        return header, rest, 8, None
    step = _UDP_PORTS.get(header.dst_port) or _UDP_PORTS.get(header.src_port)
    return header, rest, 8, step


def _dns(data: bytes, found: Dissection) -> _Read:
    message, rest = DNSMessage.parse(data)
    return message, rest, len(data) - len(rest), None


def _rpt(data: bytes, found: Dissection) -> _Read:
    from rawproto.wire.rpt import LONG_FORM, VERSION_1, RPTLong, parse_rpt  # few captures need it

    # Its number is for everybody's experiments (RFC 3692): these may be somebody else's.
    flags = data[0] if data else 0
    if flags & LONG_FORM:
        foreign = flags & 0x0F != VERSION_1 and not RPTLong.verify(data)
    else:
        foreign = flags & 0x3F != VERSION_1
    if foreign:
        raise _Foreign
    packet, rest = parse_rpt(data)
    return packet, rest, len(data) - len(rest), None


_ETHERTYPES: dict[int, _Step] = {
    0x0800: _ipv4,
    0x0806: _arp,
    0x86DD: _ipv6,
    **{tpid: _vlan(tpid) for tpid in (0x8100, 0x88A8, 0x9100)},
}
_FAMILIES: dict[int, _Step] = {2: _ipv4, 10: _ipv6, 24: _ipv6, 28: _ipv6, 30: _ipv6}
_IPV4_PROTOCOLS: dict[int, _Step] = {
    1: _icmp,
    4: _ipv4,
    6: _tcp,
    17: _udp,
    41: _ipv6,
    253: _rpt,
}
_IPV6_PROTOCOLS: dict[int, _Step] = {
    0: _hop_by_hop,
    4: _ipv4,
    6: _tcp,
    17: _udp,
    41: _ipv6,
    43: _routing,
    44: _fragment,
    58: _icmpv6,
    60: _destination,
    253: _rpt,
}
_UDP_PORTS: dict[int, _Step] = dict.fromkeys(_DNS_PORTS, _dns)
_LINK_STEPS: dict[int, _Step] = {
    0: _loopback,
    1: _ethernet,
    12: _raw,
    14: _raw,
    101: _raw,
    108: _loopback,
    113: _cooked,
    228: _ipv4,
    229: _ipv6,
    276: _cooked2,
}

LINK_TYPES: dict[int, str] = {
    0: "null",
    1: "ethernet",
    12: "raw",
    14: "raw",
    101: "raw",
    108: "loop",
    113: "linux-sll",
    228: "ipv4",
    229: "ipv6",
    276: "linux-sll2",
}
"""The link types that `dissect` reads, by name."""


def checksums(found: Dissection) -> list[tuple[int, bool | None]]:
    """What the checksums of a packet say: (index of the layer, verdict) for each that has one.

    True is right and False wrong; None is where none is carried (UDP over IPv4), or where
    what it covers isn't all there: a fragment, a packet cut short. A packet captured on
    the host that sent it is often wrong, because the device fills its checksums in later
    (see `left_to_device`).
    """
    verdicts: list[tuple[int, bool | None]] = []
    verdict: bool | None
    for index, layer, covered, whole, addresses in _covered(found):
        if not whole:
            verdict = None
        elif isinstance(layer, IPv4Header | ICMPMessage):
            verdict = layer.verify(covered)
        else:
            verdict = layer.verify(covered, src_addr=addresses[0], dst_addr=addresses[1])
        verdicts.append((index, verdict))
    return verdicts


def left_to_device(found: Dissection) -> frozenset[int]:
    """The layers, by index, whose checksum their host left to its device to fill in.

    Linux then puts the sum of the pseudo-header there, for the device to add the rest.
    """
    left = set()
    for index, layer, covered, whole, addresses in _covered(found):
        if whole and isinstance(layer, UDPHeader | TCPHeader):
            words = pseudo_header_sum(*addresses, layer.ip_protocol or 0, len(covered))
            if layer.checksum == ones_complement_sum(b"", words):
                left.add(index)
    return frozenset(left)


_Checked = IPv4Header | ICMPMessage | UDPHeader | TCPHeader | ICMPv6Message
_CHECKED = (UDPHeader, TCPHeader, ICMPMessage, ICMPv6Message)


def _covered(
    found: Dissection,
) -> Iterator[tuple[int, _Checked, bytes, bool, tuple[str, str]]]:
    """Each layer with a checksum: (index, layer, what it covers, is that all there, addresses)."""
    data = found.data
    addresses = "", ""
    end, cut, fragment = len(data), False, False
    for index, layer in enumerate(found.layers):
        start = found.offsets[index]
        if isinstance(layer, _CHECKED):
            if isinstance(layer, UDPHeader) and layer.length:
                # It says itself how long it is, whatever IP around it claims.
                cut = start + layer.length > end
                end = min(end, start + layer.length)
            yield index, layer, data[start:end], not cut and not fragment, addresses
            continue
        length = 0
        if isinstance(layer, IPv4Header):
            length = layer.total_length or 0
        elif isinstance(layer, IPv6Header):
            length = 40 + layer.payload_length if layer.payload_length else 0
        elif layer.ip_protocol is None:
            continue
        if length:
            cut = cut or start + length > end
            end = min(end, start + length)
        if isinstance(layer, IPv4Header):
            yield index, layer, data[start : start + (layer.ihl or 5) * 4], True, addresses
        if isinstance(layer, IPv4Header | FragmentHeader):
            fragment = fragment or bool(layer.fragment_offset or layer.flags & MF)
        src_addr, dst_addr = layer.addresses_within(*addresses)
        addresses = src_addr or "", dst_addr or ""
