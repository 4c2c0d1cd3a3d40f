"""Probes of a trace as scapy reads them."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Packet

_COMPUTED = {IP: "chksum", UDP: "chksum", TCP: "chksum", ICMP: "chksum", ICMPv6EchoRequest: "cksum"}


def judged_probe(data: bytes) -> Packet:
    """A probe as scapy reads it, after scapy has computed the same lengths and checksums."""
    packet = (IP if data[0] >> 4 == 4 else IPv6)(data)
    again = packet.copy()
    for layer, name in _COMPUTED.items():
        if layer in again:
            delattr(again[layer], name)
    if IP in again:
        del again[IP].len
    else:
        del again[IPv6].plen
    assert bytes(again) == data
    return packet


def flow_of(packet: Packet) -> tuple[str, str, int, bytes]:
    """What a router that balances by flow looks at (for IPv6 the flow label too)."""
    if IP in packet:
        return packet.src, packet.dst, packet.proto, bytes(packet)[20:24]
    return packet.src, packet.dst, packet.fl, bytes(packet)[40:44]
