"""Packets sent from a host of a lab as they are, and the packets that come back, read by scapy."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Self

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Packet, Raw

from rawproto.lab import LiveHost
from rawproto.link.packet import ETH_P_IP, ETH_P_IPV6, Frame, PacketLink

PATIENCE_S = 5.0
IPPROTO_RAW = 255
FIRST_PORT = 33434
ENDS = 3
CLOSED_PORT = 9
"""Nobody listens there: the destination's answer is the end of what is waited for."""


class Prober:
    """Sends from one host towards another, and hears what comes in by its eth0.

    Args:
        here: who sends.
        there: to whom.
        family: `"ipv4"` or `"ipv6"`.

    Attributes:
        sent: how many probes were made, which is what the next one is told by.
    """

    def __init__(self, here: LiveHost, there: LiveHost, family: str) -> None:
        self.family = family
        self.src, self.dst = getattr(here, family), getattr(there, family)
        self._stack = ExitStack()
        with here.entered():
            kind = socket.AF_INET if family == "ipv4" else socket.AF_INET6
            self._out = self._stack.enter_context(socket.socket(kind, socket.SOCK_RAW, IPPROTO_RAW))
            ethertype = ETH_P_IP if family == "ipv4" else ETH_P_IPV6
            self._in = self._stack.enter_context(
                PacketLink("eth0", ethertype=ethertype, timestamps=False)
            )
        self._frames: deque[Frame] = deque()
        self.sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ip(self, ttl: int = 64, **fields: object) -> Packet:
        """A header towards the other host."""
        if self.family == "ipv4":
            return IP(src=self.src, dst=self.dst, ttl=ttl, id=self.sent % 0xFFFF + 1, **fields)
        return IPv6(src=self.src, dst=self.dst, hlim=ttl, **fields)

    def udp(self, ttl: int = 64, size: int = 8, sport: int = 40000, **fields: object) -> bytes:
        """A datagram to a port that no other has had."""
        self.sent += 1
        port = FIRST_PORT + self.sent
        return bytes(self.ip(ttl, **fields) / UDP(sport=sport, dport=port) / Raw(bytes(size)))

    def echo(self, ttl: int, identifier: int, payload: bytes) -> bytes:
        """An echo request."""
        self.sent += 1
        if self.family == "ipv4":
            return bytes(self.ip(ttl) / ICMP(id=identifier, seq=self.sent) / payload)
        message = ICMPv6EchoRequest(id=identifier, seq=self.sent, data=payload)
        return bytes(self.ip(ttl) / message)

    def send(self, packet: bytes) -> None:
        """Sends a packet as it is."""
        self._out.sendto(packet, (self.dst, 0))

    def heard(self) -> Iterator[Packet]:
        """What comes in, but for what keeps the link running, until nothing does for long."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                packet = (IP if self.family == "ipv4" else IPv6)(frame.data[14:])
                if frame.direction == "in" and not _keeps_link_running(packet):
                    yield packet
            assert select.select([self._in], [], [], PATIENCE_S)[0], "nothing comes any more"
            self._frames += self._in.receive_frames()

    def until(self, last: bytes) -> list[Packet]:
        """What comes in up to the error about `last`, which is not among it."""
        found = []
        for packet in self.heard():
            if is_about(packet, last):
                break
            found.append(packet)
        return found

    def answers(self, *probes: bytes) -> list[Packet]:
        """All that comes in for these, in any order.

        It ends with the destination's answer to one more; asked for again and again, as a
        router of our own takes what waits on one port before it comes to the next.
        """
        found = []
        for sport in range(50000, 50000 + ENDS):
            end = bytes(self.ip() / UDP(sport=sport, dport=CLOSED_PORT))
            for packet in (*probes, end):
                self.send(packet)
            found += self.until(end)
            probes = ()
        return found

    def routers(self, *probes: bytes) -> list[str | None]:
        """Who sends an error about each of these; None for nobody."""
        errors = self.answers(*probes)
        return [
            next((error.src for error in errors if is_about(error, probe)), None)
            for probe in probes
        ]

    def trace(self, hops: int) -> list[str | None]:
        """Who says that time is exceeded for 1, 2, ... hops."""
        return self.routers(*(self.udp(ttl=ttl) for ttl in range(1, hops + 1)))


def _keeps_link_running(packet: Packet) -> bool:
    """Neighbour discovery and group memberships, which come when they like."""
    if packet.version == 4:
        return packet.proto == 2
    groups = packet.dst.startswith("ff")
    return groups or (packet.nh == 58 and packet.payload.type in range(133, 138))


def quote_of(packet: Packet) -> bytes:
    """What an ICMP error quotes, b"" for what is none."""
    data = bytes(packet)
    if packet.version == 4:
        return data[28:] if packet.proto == 1 and data[20] in (3, 4, 5, 11, 12) else b""
    return data[48:] if packet.nh == 58 and data[40] < 128 else b""


def is_about(packet: Packet, sent: bytes) -> bool:
    """Whether a packet is an error that quotes another, however its addresses were changed."""
    quote = quote_of(packet)
    return len(quote) >= 28 and _mark(quote) == _mark(sent)


def _mark(packet: bytes) -> bytes:
    """Ports, or an echo's identifier and sequence number."""
    protocol, start = (packet[9], 20) if packet[0] >> 4 == 4 else (packet[6], 40)
    return packet[start : start + 4] if protocol == 17 else packet[start + 4 : start + 8]
