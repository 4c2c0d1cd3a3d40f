"""Gives questions what tells their answers apart, where the person who asks left it out.

A source port of 0, an ICMP identifier of 0, a TCP sequence number of 0: none of these is
of use to who waits for an answer, so they are filled in; what is set stays. Where equal
questions are asked at once (a sweep of TTLs), each UDP datagram to the same port gets a
source port of its own, each echo request the next sequence number: an ICMP error quotes
little more. It opens no socket and draws no chance of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from rawproto.wire.dns import DNSMessage
from rawproto.wire.icmp import ICMPExtendedEcho, ICMPTimestamp
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.icmpv6 import ICMPv6ExtendedEcho
from rawproto.wire.layer import Packet
from rawproto.wire.tcp import SYN, TCPHeader
from rawproto.wire.udp import UDPHeader

__all__ = ["Distinguisher"]

MOST_FLOWS = 1 << 16
MOST_PORTS = 64
_QUESTION_TYPES = frozenset((8, 13, 42, 128, 160))


class Distinguisher:
    """Numbers for one run of questions.

    Args:
        port: gives a source port of this host: the n-th of "tcp" or "udp", n below 64.
        rng: where identifiers and sequence numbers come from.
    """

    def __init__(self, port: Callable[[str, int], int], rng: Random) -> None:
        self._port = port
        self._rng = rng
        self.identifier = rng.randrange(1, 1 << 16)
        self._sequence_number = 0
        self._flows: dict[tuple[object, ...], int] = {}

    def distinguish(self, packet: Packet) -> Packet:
        """The packet with what its answers are known by; itself where nothing is missing."""
        layers: list[Any] = list(packet.layers)
        changed = False
        dst_addr: object = None
        for at, layer in enumerate(layers):
            dst_addr = getattr(layer, "dst_addr", dst_addr)
            changes = self._missing(layer, dst_addr)
            if changes:
                layers[at] = replace(layer, **changes)
                changed = True
        return Packet(tuple(layers)) if changed else packet

    def _missing(self, layer: object, dst_addr: object) -> dict[str, int]:
        if isinstance(layer, UDPHeader):
            return {} if layer.src_port else {"src_port": self._udp_port(layer, dst_addr)}
        if isinstance(layer, TCPHeader):
            changes = {} if layer.src_port else {"src_port": self._port("tcp", 0)}
            if layer.flags & SYN and not layer.sequence_number:
                changes["sequence_number"] = self._rng.getrandbits(32) or 1
            return changes
        if isinstance(
            layer, ICMPEcho | ICMPTimestamp | ICMPExtendedEcho | ICMPv6Echo | ICMPv6ExtendedEcho
        ):
            return self._echo_numbers(layer)
        if isinstance(layer, DNSMessage) and not layer.identifier and not layer.qr:
            return {"identifier": self._rng.getrandbits(16) or 1}
        return {}

    def _echo_numbers(self, message: Any) -> dict[str, int]:
        if message.icmp_type not in _QUESTION_TYPES:
            return {}
        changes = {} if message.identifier else {"identifier": self.identifier}
        if not message.sequence_number:
            most = 0xFF if message.icmp_type in (42, 160) else 0xFFFF
            self._sequence_number = self._sequence_number % most + 1
            changes["sequence_number"] = self._sequence_number
        return changes

    def _udp_port(self, header: UDPHeader, dst_addr: object) -> int:
        flow = (dst_addr, header.dst_port)
        asked = self._flows.get(flow, 0)
        if len(self._flows) >= MOST_FLOWS:
            self._flows.clear()
        self._flows[flow] = asked + 1
        return self._port("udp", asked % MOST_PORTS)
