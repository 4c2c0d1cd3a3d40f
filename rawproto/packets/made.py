"""From a stack of layers to what a file or a wire takes: with a link type, in fragments.

A stack may begin at any layer, but a capture file and the readers of packets want to know
what its first byte is. Begun at IP it is a packet without a link layer; ARP and VLAN tags,
which stand nowhere but on Ethernet, get an Ethernet header in front.

It fills in nothing else (`complete` does, from routes) and puts no fragments together.
"""

from __future__ import annotations

import dataclasses

from rawproto.capture.packet import CapturedPacket
from rawproto.errors import UsageError
from rawproto.wire.arp import REQUEST, ARPMessage
from rawproto.wire.cooked import LinuxCooked, LinuxCooked2, LoopbackHeader
from rawproto.wire.dissect import ETHERNET, RAW, dissect
from rawproto.wire.ethernet import BROADCAST, EthernetHeader, VLANTag
from rawproto.wire.fragment import fragment_ipv4, fragment_ipv6
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import FragmentHeader
from rawproto.wire.layer import Layer, Packet

__all__ = ["captured", "fragments", "framed"]

_LINK_TYPES: dict[type[Layer], int] = {
    EthernetHeader: ETHERNET,
    IPv4Header: RAW,
    IPv6Header: RAW,
    LinuxCooked: 113,
    LinuxCooked2: 276,
}
_NULL, _LOOP = 0, 108


def framed(packet: Packet) -> tuple[Packet, int]:
    """A packet from its link layer on: (the packet, its link type).

    Plain bytes in front are an IP packet if they look like one, else an Ethernet frame.

    Raises:
        UsageError: it begins with a layer that stands in another.
    """
    first = packet.layers[0] if packet.layers else b""
    if isinstance(first, bytes):
        return packet, RAW if first[:1] and first[0] >> 4 in (4, 6) else ETHERNET
    if isinstance(first, ARPMessage):
        dst_addr = BROADCAST if first.operation == REQUEST else first.target_hardware_addr
        if len(dst_addr) != len(BROADCAST):  # of another kind of hardware
            dst_addr = BROADCAST
        src_addr = first.sender_hardware_addr
        header = EthernetHeader(dst_addr=dst_addr)
        if len(src_addr) == len(BROADCAST):
            header = EthernetHeader(dst_addr=dst_addr, src_addr=src_addr)
        return header / packet, ETHERNET
    if isinstance(first, VLANTag):
        return EthernetHeader() / packet, ETHERNET
    if isinstance(first, LoopbackHeader):
        return packet, _LOOP if first.byte_order == "big" else _NULL
    link_type = _LINK_TYPES.get(type(first))
    if link_type is None:
        raise UsageError(
            f"a packet begins with ethernet, arp, ipv4 or ipv6; {first.layer} stands in one of them"
        )
    return packet, link_type


def captured(packet: Packet) -> CapturedPacket:
    """A packet as if it had been captured, at no time: all its `time_ns` is 0.

    Raises:
        UsageError: as of `framed`.
        EmitError: a field does not fit.
    """
    whole, link_type = framed(packet)
    return CapturedPacket(time_ns=0, data=whole.emit(), link_type=link_type)


def fragments(packet: Packet, size: int, *, identification: int) -> list[Packet]:
    """A packet cut at its outermost IP header; itself alone if it fits. DF is not heeded.

    Each fragment has what stood outside the IP header, so Ethernet headers repeat. Its
    lengths and header checksum are left to be computed, what it carries is bytes.

    Args:
        packet: with an IP header in it.
        size: of each fragment from its IP header on, in bytes, at most.
        identification: that of the fragments, where an IPv4 header has none (0) and for
            IPv6; the receiver knows by it which fragments belong together.

    Raises:
        UsageError: there is no IP header.
        EmitError: a field does not fit, or the size has no room for 8 bytes of payload.
        WireError: the header was made such that it can't be read again.
    """
    at = next(
        (i for i, each in enumerate(packet.layers) if isinstance(each, IPv4Header | IPv6Header)),
        None,
    )
    if at is None:
        raise UsageError("only a packet with an IP header can be fragmented")
    outside, inside = packet.layers[:at], Packet(packet.layers[at:])
    if len(inside.emit()) <= size:
        return [packet]
    header = inside.layers[0]
    if isinstance(header, IPv4Header):
        if not header.identification:
            header = dataclasses.replace(header, identification=identification & 0xFFFF or 1)
        pieces = fragment_ipv4(Packet((header, *inside.layers[1:])).emit(), size)
    else:
        pieces = fragment_ipv6(inside.emit(), size, identification)
    return [Packet((*outside, *_stack(piece))) for piece in pieces]


def _stack(piece: bytes) -> list[Layer | bytes]:
    """A fragment's headers up to where its part of the payload begins, and that."""
    found = dissect(piece, RAW)
    layers: list[Layer | bytes] = []
    for layer, (_, end) in zip(found.layers, found.spans, strict=True):
        layers.append(layer.recomputed())
        if isinstance(layer, IPv4Header | FragmentHeader):
            layers.append(piece[end:])
            return layers
    return [piece]
