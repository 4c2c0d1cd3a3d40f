"""A link that is listened in on: each packet, both ways, as a capture would have it.

It wraps any link and calls back with a `CapturedPacket`; the `write` of a pcap or
pcapng writer will do as the callback. What was sent is told with the kernel's stamp
where there is one, so it waits for the `receive` that brings the stamp.

Packets begin with their IP header (LINKTYPE_RAW). Where the kernel keeps the header
of what arrives, one is rebuilt from what it tells beside the data: addresses, hop
limit, ECN and lengths are true then, flow label and extension headers are not known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from rawproto.capture.packet import CapturedPacket, Direction
from rawproto.link.base import Arrival, Link, Transmitted
from rawproto.machine import Datagram, Transmit
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header

__all__ = ["TapLink"]

LINKTYPE_RAW = 101

_MAX_UNSTAMPED = 4096


class TapLink:
    """A link, and a callback that hears all of it.

    Args:
        link: what carries the packets; owned from here on.
        on_packet: called with each packet, in order of the calls.
        interface: what the packets say they were captured on, as `CapturedPacket` takes it.
        monotonic: the clock of the link's stamps, ns.
        realtime: the clock of capture files, ns since the epoch.
    """

    def __init__(
        self,
        link: Link,
        on_packet: Callable[[CapturedPacket], None],
        *,
        interface: int | str = 0,
        monotonic: Callable[[], int] = time.monotonic_ns,
        realtime: Callable[[], int] = time.time_ns,
    ) -> None:
        self.link = link
        self._on_packet = on_packet
        self._interface = interface
        # Taken once: a capture whose clock is stepped midway has its packets out of order.
        self._offset_ns = realtime() - monotonic()
        # Sent, and not yet told: (token, when the system call was entered, packet).
        self._unstamped: list[tuple[int, int, bytes]] = []

    @property
    def dropped(self) -> int:
        """As of the link inside."""
        return self.link.dropped

    def fileno(self) -> int:
        """As of the link inside."""
        return self.link.fileno()

    def send(self, transmit: Transmit) -> int:
        """Sends through the link inside; what it refuses was no packet."""
        entered_ns = self.link.send(transmit)
        if len(self._unstamped) >= _MAX_UNSTAMPED:
            self._tell_sent({})
        self._unstamped.append((transmit.token, entered_ns, transmit.data))
        return entered_ns

    def receive(self, limit: int = 64) -> list[Arrival]:
        """Receives from the link inside."""
        arrivals = self.link.receive(limit)
        if self._unstamped:
            self._tell_sent(
                {each.token: each.sent_ns for each in arrivals if isinstance(each, Transmitted)}
            )
        for arrival in arrivals:
            if isinstance(arrival, Datagram):
                self._tell(_packet_of(arrival), arrival.received_ns, "in")
        return arrivals

    def poll_timeout(self) -> int | None:
        """As of the link inside."""
        return self.link.poll_timeout()

    def close(self) -> None:
        """Tells what has not been told, and closes the link inside."""
        try:
            self._tell_sent({})
        finally:
            self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell_sent(self, stamps: dict[int, int]) -> None:
        unstamped, self._unstamped = self._unstamped, []
        for token, entered_ns, packet in unstamped:
            self._tell(packet, stamps.get(token, entered_ns), "out")

    def _tell(self, packet: bytes, at_ns: int, direction: Direction) -> None:
        self._on_packet(
            CapturedPacket(
                time_ns=at_ns + self._offset_ns,
                data=packet,
                link_type=LINKTYPE_RAW,
                interface=self._interface,
                direction=direction,
            )
        )


def _packet_of(datagram: Datagram) -> bytes:
    """The packet that a datagram was, its header rebuilt where the kernel kept it."""
    if datagram.header:
        return datagram.header + datagram.data
    ttl = 64 if datagram.ttl is None else datagram.ttl
    if ":" in datagram.src_addr:
        return IPv6Header(
            traffic_class=datagram.ecn,
            next_header=datagram.protocol,
            hop_limit=ttl,
            src_addr=datagram.src_addr,
            dst_addr=datagram.dst_addr or "::",
        ).emit(datagram.data)
    return IPv4Header(
        ecn=datagram.ecn,
        ttl=ttl,
        protocol=datagram.protocol,
        src_addr=datagram.src_addr,
        dst_addr=datagram.dst_addr or "0.0.0.0",
    ).emit(datagram.data)
