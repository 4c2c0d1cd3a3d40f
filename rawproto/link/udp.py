"""An ordinary UDP socket: datagrams without privilege, and the ICMP errors about them (udp(7)).

It takes the same whole packets as a raw link and hands the kernel what is behind the UDP
header; both headers are laid out anew by the kernel (see `link/unprivileged.py`).
Addresses, ports and data being equal, so are length and checksum; a datagram whose own are
others is refused:

    Transmit   | IP header | UDP header | data |
    the kernel   fields by     ports by   ^^^^ as it is
                 options       address

Of what comes back the kernel shows the data alone. A datagram's header is laid out anew,
its checksum computed; an `ICMPError` quotes our packet from behind the UDP header on,
which is nothing where a router quotes no more than 8 bytes (RFC 792).
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from rawproto.link.timestamps import Ancillary, ClockBridge
from rawproto.link.unprivileged import UnprivilegedLink
from rawproto.machine import Datagram, Transmit
from rawproto.wire.address import pack_address
from rawproto.wire.udp import UDPHeader

__all__ = ["UDPLink"]

_UDP = 17
_HEADER = struct.Struct("!HHHH")


class UDPLink(UnprivilegedLink):
    """UDP datagrams of one address and port, over a socket that anybody may open.

    Args:
        sock: bound to both, as `reserve_port("udp", ...)` gives it; the link owns it from
            here on.
        interface: send and receive by this interface only.
        timestamps: whether the kernel stamps both ways.
        receive_bytes: size of the receive buffer.
        bridge: brings the stamps to the monotonic clock; None makes one.

    Attributes:
        src_addr: what all packets are from.
        src_port: likewise.

    Raises:
        LinkError: no such interface.
    """

    _carries = "only sound UDP datagrams from the link's own port"

    def __init__(
        self,
        sock: socket.socket,
        *,
        interface: str | None = None,
        timestamps: bool = True,
        receive_bytes: int = 1 << 20,
        bridge: ClockBridge | None = None,
    ) -> None:
        address, self.src_port, *rest = sock.getsockname()
        self.src_addr: str = address.partition("%")[0]
        try:
            super().__init__(
                sock,
                6 if sock.family == socket.AF_INET6 else 4,
                _UDP,
                source=pack_address(self.src_addr),
                # A link-local address has bound it already, which may be done once only.
                interface=None if rest and rest[1] else interface,
                cuts_ipv6=False,
                timestamps=timestamps,
                receive_bytes=receive_bytes,
                bridge=bridge,
            )
        except BaseException:
            sock.close()
            raise

    def _message(self, transmit: Transmit, start: int) -> tuple[bytes, int] | None:
        datagram = bytes(transmit.data[start:])
        src_port, dst_port, length, _ = _HEADER.unpack_from(datagram)
        dst_addr = transmit.dst_addr.partition("%")[0]
        if (
            src_port != self.src_port
            or length != len(datagram)
            or not UDPHeader.verify(datagram, src_addr=self.src_addr, dst_addr=dst_addr)
        ):
            return None
        return datagram[8:], dst_port

    def _read_datagram(self, size: int, ancillary: Ancillary, address: tuple[Any, ...]) -> Datagram:
        datagram = super()._read_datagram(size, ancillary, address)
        header = UDPHeader(src_port=address[1], dst_port=self.src_port)
        datagram.data = header.emit(
            datagram.data, src_addr=datagram.src_addr, dst_addr=self.src_addr
        )
        return datagram
