"""From a whole IP packet to a `Datagram`, as a raw socket would hand it over.

For links that see packets and not sockets: packet sockets and the fakes. A host
judges IP headers before a raw socket sees anything, and puts fragments together;
here fragments and what is no IP packet give no datagram at all.
"""

from __future__ import annotations

from socket import AF_INET6, inet_ntoa, inet_ntop

from rawproto.machine import Datagram, StampSource
from rawproto.wire.ipv6_chain import upper_layer

__all__ = ["datagram_from_packet"]

_new = object.__new__


def datagram_from_packet(
    packet: bytes, received_ns: int, *, interface: int = 0, stamp_source: StampSource = "user"
) -> Datagram | None:
    """Peels off the IP header, and IPv6 extension headers.

    Args:
        packet: from the IP header on; padding behind it is cut off.
        received_ns: when it arrived, monotonic.
        interface: index of the interface that it came in by.
        stamp_source: who took `received_ns`.

    Returns:
        None for a fragment, a packet cut short, and bytes that are no IP packet.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        start = (packet[0] & 0x0F) * 4
        end = packet[2] << 8 | packet[3]
        # MF and the offset; DF and the reserved bit say nothing of fragments.
        if not 20 <= start <= end <= len(packet) or packet[6] & 0x3F or packet[7]:
            return None
        datagram = _new(Datagram)
        datagram.src_addr = inet_ntoa(packet[12:16])
        datagram.dst_addr = inet_ntoa(packet[16:20])
        datagram.ttl = packet[8]
        datagram.ecn = packet[1] & 3
        datagram.protocol = packet[9]
        datagram.header = packet[:start]
    elif version == 6 and len(packet) >= 40:
        end = 40 + (packet[4] << 8 | packet[5])
        if end > len(packet):
            return None
        found = upper_layer(packet[6], packet[40:end])
        if found is None:
            return None
        datagram = _new(Datagram)
        datagram.protocol, offset = found
        start = 40 + offset
        datagram.src_addr = inet_ntop(AF_INET6, packet[8:24])
        datagram.dst_addr = inet_ntop(AF_INET6, packet[24:40])
        datagram.ttl = packet[7]
        datagram.ecn = packet[1] >> 4 & 3
        datagram.header = b""
    else:
        return None
    datagram.data = packet[start:end]
    datagram.received_ns = received_ns
    datagram.interface = interface
    datagram.stamp_source = stamp_source
    return datagram
