"""Raw sockets: whole IP packets out, headers and all; datagrams in (raw(7), ipv6(7)).

Out goes exactly what `wire/` laid out. The kernel has a mind of its own under
IP_HDRINCL: it computes IPv4's checksum and total length anew, fills in an
identification of 0 and a source of 0.0.0.0, whatever stood there. A packet to
which it would do so is refused here, and goes out through a packet socket
(`link/packet.py`) instead. IPv6 headers it leaves alone. What it has learned of path
MTUs is not heeded: a packet is refused only where the interface cannot take it.

What comes in: the kernel has put fragments together and judged the IP header.
IPv4 messages begin with it; for IPv6 it keeps the headers and tells hop limit,
traffic class and destination beside the data. An IPv4 filter sees a packet from its
IP header on, an IPv6 filter from behind the IPv6 headers on.

It knows neither what it carries nor who waits for it.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any, Literal

from rawproto.errors import LinkError
from rawproto.link.interfaces import interface_index
from rawproto.link.options import (
    IP_MTU_DISCOVER,
    IPV6_HDRINCL,
    IPV6_MTU_DISCOVER,
    PMTUDISC_PROBE,
    attach_filter,
    bind_to_device,
    leave_loop,
    set_mark,
)
from rawproto.link.privileges import raw_socket_refused
from rawproto.link.sockets import SocketLink
from rawproto.link.timestamps import Ancillary, ClockBridge
from rawproto.machine import Datagram, Transmit
from rawproto.wire.checksum import internet_checksum

__all__ = ["RawLink", "RewriteError"]

_PKTINFO = struct.Struct("@16sI")
_INT = struct.Struct("@i")

_new = object.__new__


class RewriteError(LinkError):
    """The kernel would not send this IPv4 header as it is; a packet socket does."""


class RawLink(SocketLink):
    """Whole IP packets over a raw socket. Needs CAP_NET_RAW.

    Args:
        family: 4 or 6.
        protocol: which packets to receive, by IP protocol number; what is sent may carry
            any. 255 receives none.
        interface: send and receive by this interface only.
        bpf: classic BPF that a packet must pass, as bytes in the host's order.
        timestamps: whether the kernel stamps both ways.
        mark: firewall mark, which policy rules match; needs CAP_NET_ADMIN.
        broadcast: whether packets may go to a broadcast address.
        multicast_loop: whether this host hears what it sends to groups that it is in.
        receive_bytes: size of the receive buffer.
        bridge: brings the stamps to the monotonic clock; None makes one.

    Attributes:
        identifier: None: the ICMP identifier goes out as laid out.

    Raises:
        PrivilegeError: the process may not open raw sockets.
        LinkError: no such interface, a filter that the kernel refuses.
    """

    identifier: None = None

    def __init__(
        self,
        family: Literal[4, 6],
        protocol: int,
        *,
        interface: str | None = None,
        bpf: bytes | None = None,
        timestamps: bool = True,
        mark: int = 0,
        broadcast: bool = False,
        multicast_loop: bool = True,
        receive_bytes: int = 4 << 20,
        bridge: ClockBridge | None = None,
    ) -> None:
        self.family = family
        self.protocol = protocol
        sock = _open(family, protocol)
        try:
            super().__init__(
                sock, timestamps=timestamps, receive_bytes=receive_bytes, bridge=bridge
            )
            self._interface = interface_index(interface) if interface else 0
            if interface:
                bind_to_device(sock, interface)
            if mark:
                set_mark(sock, mark)
            if broadcast:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if not multicast_loop:
                leave_loop(sock, family)
            if family == 4:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
                sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
            else:
                for option in (
                    IPV6_HDRINCL,
                    socket.IPV6_RECVPKTINFO,
                    socket.IPV6_RECVHOPLIMIT,
                    socket.IPV6_RECVTCLASS,
                ):
                    sock.setsockopt(socket.IPPROTO_IPV6, option, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
            if bpf is not None:
                attach_filter(sock, bpf)
        except BaseException:
            sock.close()
            raise

    def send(self, transmit: Transmit) -> int:
        """Sends one packet exactly as it is: when the system call was entered, monotonic ns.

        Raises:
            RewriteError: the kernel would change the packet's header.
            LinkError: it refuses the packet.
        """
        data = transmit.data
        if self.family == 4:
            refusal = _kernel_would_change(data)
            if refusal is not None:
                raise RewriteError("send to", transmit.dst_addr, errno.EINVAL, refusal)
        address = self._addresses.get(transmit.dst_addr) or self._sockaddr(transmit.dst_addr)
        entered_ns = self._bridge.sample()
        try:
            self._socket.sendto(data, address)
        except OSError as error:
            raise self._refused(error, transmit) from None
        if self._timestamps:
            self._stamps.sent(transmit.token, entered_ns)
        return entered_ns

    def _read_datagram(
        self, size: int, ancillary: Ancillary, address: tuple[Any, ...]
    ) -> Datagram | None:
        if self.family == 6:
            return self._read_ipv6(size, ancillary, address)
        buffer, view = self._buffer, self._view
        start = (buffer[0] & 0x0F) * 4
        if not 20 <= start <= size:
            return None
        datagram = _new(Datagram)
        datagram.data = bytes(view[start:size])
        datagram.src_addr = address[0]
        datagram.received_ns, datagram.stamp_source = self._received_at(ancillary)
        datagram.dst_addr = socket.inet_ntoa(view[16:20])
        datagram.interface = self._interface
        datagram.ttl = buffer[8]
        datagram.ecn = buffer[1] & 3
        datagram.protocol = buffer[9]
        datagram.header = bytes(view[:start])
        return datagram

    def _read_ipv6(self, size: int, ancillary: Ancillary, address: tuple[Any, ...]) -> Datagram:
        datagram = _new(Datagram)
        datagram.data = bytes(self._view[:size])
        datagram.src_addr = address[0].partition("%")[0]
        datagram.received_ns, datagram.stamp_source = self._received_at(ancillary)
        datagram.protocol = self.protocol
        datagram.header = b""
        read_ipv6_ancillary(datagram, ancillary)
        return datagram


def read_ipv6_ancillary(datagram: Datagram, ancillary: Ancillary) -> None:
    """Fills in what IPv6 tells beside the data: destination, interface, hop limit, ECN."""
    datagram.dst_addr, datagram.interface, datagram.ttl, datagram.ecn = "", 0, None, 0
    for level, kind, value in ancillary:
        if level != socket.IPPROTO_IPV6:
            continue
        if kind == socket.IPV6_HOPLIMIT:
            (datagram.ttl,) = _INT.unpack_from(value)
        elif kind == socket.IPV6_PKTINFO:
            dst, datagram.interface = _PKTINFO.unpack_from(value)
            datagram.dst_addr = socket.inet_ntop(socket.AF_INET6, dst)
        elif kind == socket.IPV6_TCLASS:
            datagram.ecn = _INT.unpack_from(value)[0] & 3


def _open(family: int, protocol: int) -> socket.socket:
    try:
        return socket.socket(
            socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_RAW, protocol
        )
    except PermissionError:
        raise raw_socket_refused("open raw socket") from None
    except OSError as error:
        raise LinkError("open raw socket", f"IPv{family}", error.errno) from None


def _kernel_would_change(packet: bytes) -> str | None:
    """What the kernel would rewrite in an IPv4 header, in words; None for nothing."""
    if len(packet) < 20:
        return "no whole IPv4 header"
    end = (packet[0] & 0x0F) * 4
    if not 20 <= end <= len(packet):
        field = "ihl"
    elif packet[2] << 8 | packet[3] != len(packet):
        field = "total_length"
    elif internet_checksum(packet[:end]):
        field = "checksum"
    elif packet[12:16] == b"\0\0\0\0":
        field = "src_addr"
    # With DF set the kernel leaves an identification of 0 alone (RFC 6864: it means nothing).
    elif packet[4:6] == b"\0\0" and not packet[6] & 0x40:
        field = "identification"
    else:
        return None
    return f"a raw socket would rewrite the {field} of this header; a packet socket would not"
