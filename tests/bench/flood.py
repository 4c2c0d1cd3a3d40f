"""Sends numbered 64-byte UDP frames by an interface, evenly: the load for captures.

    python flood.py INTERFACE PACKETS PACKETS_PER_SECOND

One core must send more than another can capture. So what is handed to the kernel is one
large UDP datagram behind a virtio header (PACKET_VNET_HDR, linux/virtio_net.h) that asks
it to cut: each piece becomes a frame of its own before the device, which is to have its
segmentation offload off. The frames are for a MAC that nobody has, and no host answers.

Behind the UDP header stands the packet's number, in four bytes. What is printed at the end
is the seconds that it took.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

from rawproto.wire.ethernet import EthernetHeader
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.udp import UDPHeader

FRAME_BYTES = 64
NUMBER_AT = 42
PAYLOAD_BYTES = FRAME_BYTES - NUMBER_AT
BATCH = 64
MOST_SECONDS = 60

_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_NEEDS_CHECKSUM, _GSO_UDP_L4 = 1, 5
_VIRTIO = struct.Struct("<BBHHHH")
_SOURCE, _TARGET = "192.0.2.1", "192.0.2.2"


def batch(first: int, count: int) -> bytes:
    """`count` packets from number `first` on, as one, with the virtio header in front."""
    payload = b"".join(
        number.to_bytes(4, "big").ljust(PAYLOAD_BYTES, b"\xa5")
        for number in range(first, first + count)
    )
    length = 8 + len(payload)
    # Of the pseudo-header alone, as whoever adds the rest wants it (RFC 768).
    addresses = socket.inet_aton(_SOURCE) + socket.inet_aton(_TARGET)
    pseudo = int.from_bytes(addresses + struct.pack("!HH", 17, length), "big") % 0xFFFF
    packet = (
        EthernetHeader(dst_addr="02:00:00:00:00:99", src_addr="02:00:00:00:00:98")
        / IPv4Header(src_addr=_SOURCE, dst_addr=_TARGET)
        / UDPHeader(src_port=9, dst_port=9, checksum=pseudo)
        / payload
    )
    gso = (_NEEDS_CHECKSUM, _GSO_UDP_L4) if count > 1 else (0, 0)
    return _VIRTIO.pack(*gso, NUMBER_AT, PAYLOAD_BYTES, NUMBER_AT - 8, 6) + packet.emit()


def flood(interface: str, packets: int, packets_per_second: int) -> float:
    """Sends them: the seconds that it took."""
    batches = [batch(at, min(BATCH, packets - at)) for at in range(0, packets, BATCH)]
    gap_ns = 10**9 * BATCH // packets_per_second
    if len(batches) * gap_ns > MOST_SECONDS * 10**9:
        raise SystemExit("flood: that would take too long")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        sock.bind((interface, 0))
        begin_ns = due_ns = time.monotonic_ns()
        for each in batches:
            while time.monotonic_ns() < due_ns:
                pass
            sock.send(each)
            due_ns += gap_ns
        return (time.monotonic_ns() - begin_ns) / 1e9


if __name__ == "__main__":
    print(flood(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
