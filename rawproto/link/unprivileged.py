"""Sockets for which the kernel lays out the IP header: no privilege needed (ip(7), ipv6(7)).

The common part of ICMP's (`link/dgram.py`) and UDP's (`link/udp.py`). They take the same
whole packets as a raw link, read the header's fields, and ask the kernel to set the same:
source, TTL, DSCP, ECN, DF, flow label. What cannot be had so (fragments, IP options,
extension headers) is refused. The identification is the kernel's to choose.

ICMP errors the kernel keeps to itself and tells their gist through the error queue; they
are `ICMPError`: who sent it, type and code, and what it quotes of our packet from where
the socket's own data begins.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from contextlib import suppress
from typing import Any, Literal

from rawproto.errors import LinkError
from rawproto.link.interfaces import interface_index
from rawproto.link.options import (
    IP_MTU_DISCOVER,
    IP_PKTINFO,
    IP_RECVERR,
    IP_RECVERR_RFC4884,
    IP_RECVTTL,
    IPV6_AUTOFLOWLABEL,
    IPV6_FLOWINFO_SEND,
    IPV6_MTU_DISCOVER,
    IPV6_RECVERR,
    IPV6_RECVERR_RFC4884,
    PMTUDISC_DONT,
    PMTUDISC_PROBE,
    bind_to_device,
    leave_loop,
    set_mark,
)
from rawproto.link.raw import read_ipv6_ancillary
from rawproto.link.sockets import SocketLink
from rawproto.link.timestamps import (
    EXTENDED_ERROR,
    ORIGIN_ICMP,
    ORIGIN_ICMPV6,
    Ancillary,
    ClockBridge,
)
from rawproto.machine import Datagram, ICMPError, Transmit

__all__ = ["UnprivilegedLink"]

_INT = struct.Struct("@i")
_PKTINFO = struct.Struct("@I4s4s")
_RFC4884 = struct.Struct("@HBx")
_UINT = struct.Struct("@I")
_RFC4884_INVALID = 1
_MAX_ATTEMPTS = 64

_new = object.__new__


class UnprivilegedLink(SocketLink):
    """The base of DgramLink and UDPLink.

    A subclass opens its socket, and says what of a packet it hands to the kernel.

    Args:
        sock: open; the link owns it from here on.
        family: 4 or 6.
        protocol: IP protocol of all packets.
        source: packets are from this packed address only, None for any.
        interface: send and receive by this interface only.
        cuts_ipv6: whether the kernel may cut IPv6 packets that are larger than the MTU.
        timestamps: whether the kernel stamps both ways.
        mark: firewall mark, which policy rules match; needs CAP_NET_ADMIN.
        broadcast: whether packets may go to a broadcast address.
        multicast_loop: whether this host hears what it sends to groups that it is in.
        receive_bytes: size of the receive buffer.
        bridge: brings the stamps to the monotonic clock; None makes one.

    Raises:
        LinkError: no such interface.
    """

    _reads_errors = True
    _uncounted = frozenset()  # before Linux 6.9 each took one, whatever became of it
    _error_bytes = 2048
    _carries = ""
    """What the kernel sends through such a socket, in words."""

    def __init__(
        self,
        sock: socket.socket,
        family: Literal[4, 6],
        protocol: int,
        *,
        source: bytes | None,
        interface: str | None,
        cuts_ipv6: bool,
        timestamps: bool,
        mark: int = 0,
        broadcast: bool = False,
        multicast_loop: bool = True,
        receive_bytes: int,
        bridge: ClockBridge | None,
    ) -> None:
        super().__init__(sock, timestamps=timestamps, receive_bytes=receive_bytes, bridge=bridge)
        self.family = family
        self._protocol = protocol
        self._source = source
        self._interface = interface_index(interface) if interface else 0
        self._df: int | None = None
        if interface:
            bind_to_device(sock, interface)
        if mark:
            set_mark(sock, mark)
        if broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if not multicast_loop:
            leave_loop(sock, family)
        self._ask_for_ancillary(PMTUDISC_DONT if cuts_ipv6 else PMTUDISC_PROBE)

    def _ask_for_ancillary(self, ipv6_discovery: int) -> None:
        sock = self._socket
        if self.family == 4:
            level, newer = socket.IPPROTO_IP, IP_RECVERR_RFC4884
            options = [IP_RECVERR, IP_RECVTTL, socket.IP_RECVTOS, IP_PKTINFO]
        else:
            level, newer = socket.IPPROTO_IPV6, IPV6_RECVERR_RFC4884
            options = [
                IPV6_RECVERR,
                socket.IPV6_RECVHOPLIMIT,
                socket.IPV6_RECVTCLASS,
                socket.IPV6_RECVPKTINFO,
                IPV6_FLOWINFO_SEND,
            ]
            # No label of the kernel's own where the header says 0.
            sock.setsockopt(level, IPV6_AUTOFLOWLABEL, 0)
            sock.setsockopt(level, IPV6_MTU_DISCOVER, ipv6_discovery)
        for option in options:
            sock.setsockopt(level, option, 1)
        with suppress(OSError):  # before Linux 5.9 errors come without their extensions
            sock.setsockopt(level, newer, 1)

    def _message(self, transmit: Transmit, start: int) -> tuple[bytes, int] | None:
        """What to hand to the kernel, and the port to send it to.

        Args:
            transmit: whose IP header has been found good.
            start: where in its data that header ends; at least 8 bytes follow.

        Returns:
            None where the kernel would not send such a packet through this socket.
        """
        raise NotImplementedError

    def send(self, transmit: Transmit) -> int:
        """Sends one packet: when the system call was entered, monotonic ns.

        Raises:
            LinkError: the kernel refuses, or could not send this packet as it is laid out.
        """
        flow_label = 0
        if self.family == 4:
            ancillary, start = self._read_ipv4(transmit), 20
        else:
            ancillary, flow_label = self._read_ipv6(transmit)
            start = 40
        found = self._message(transmit, start)
        if found is None:
            raise self._needs_raw(transmit, self._carries)
        message, port = found
        address: tuple[Any, ...] = self._sockaddr(transmit.dst_addr)
        if self.family == 4:
            address = (address[0], port)
        else:
            address = (address[0], port, flow_label, address[3])
        try:
            if self.family == 4:
                self._set_df(transmit.data[6] & 0x40)
            entered_ns = self._send_message(message, ancillary, address)
        except OSError as error:
            raise self._refused(error, transmit) from None
        if self._timestamps:
            self._stamps.sent(transmit.token, entered_ns)
        return entered_ns

    def _send_message(self, message: bytes, ancillary: Ancillary, address: tuple[Any, ...]) -> int:
        """Sends what is not refused for another packet's sake; raises OSError.

        An ICMP error about an earlier packet is told to whichever call comes next, once. It
        stands in the error queue too, a moment before, and may have been read from there: a
        refusal is believed when it comes twice and the queue holds nothing new.
        """
        fruitless = 0
        for _ in range(_MAX_ATTEMPTS):
            entered_ns = self._bridge.sample()
            try:
                self._socket.sendmsg((message,), ancillary, 0, address)
                return entered_ns
            except OSError as error:
                refusal = error
            fruitless = 0 if self._collect_errors() else fruitless + 1
            if fruitless == 2:
                break
        raise refusal

    def _set_df(self, df: int) -> None:
        """DF is an option of the socket; probes seldom change theirs."""
        if df != self._df:
            value = PMTUDISC_PROBE if df else PMTUDISC_DONT
            self._socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, value)
            self._df = df

    def _collect_errors(self) -> bool:
        """Reads the error queue ahead after a failed send: whether ICMP errors were in it."""
        known = len(self._early)
        self._read_error_queue(self._early)
        if self._timestamps:
            self._restart_stamps()
        return any(isinstance(arrival, ICMPError) for arrival in self._early[known:])

    def _read_ipv4(self, transmit: Transmit) -> Ancillary:
        """An IPv4 header's fields as control messages."""
        data = transmit.data
        if len(data) < 28 or data[0] != 0x45 or data[9] != self._protocol:
            raise self._needs_raw(transmit, f"{self._carries} without IP options")
        if data[6] & 0xBF or data[7]:
            raise self._needs_raw(transmit, "no fragments")
        source = bytes(data[12:16])
        self._check_source(transmit, source)
        ancillary = [
            (socket.IPPROTO_IP, socket.IP_TTL, _INT.pack(data[8])),
            (socket.IPPROTO_IP, socket.IP_TOS, _INT.pack(data[1])),
        ]
        if source != b"\0\0\0\0":
            info = _PKTINFO.pack(self._interface, source, b"\0\0\0\0")
            ancillary.append((socket.IPPROTO_IP, IP_PKTINFO, info))
        return ancillary

    def _read_ipv6(self, transmit: Transmit) -> tuple[Ancillary, int]:
        """An IPv6 header's fields as control messages, and its flow label."""
        data = transmit.data
        if len(data) < 48 or data[0] >> 4 != 6 or data[6] != self._protocol:
            raise self._needs_raw(transmit, f"{self._carries} without extension headers")
        first = int.from_bytes(data[:4], "big")
        self._check_source(transmit, bytes(data[8:24]))
        ancillary = [
            (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, _INT.pack(data[7])),
            (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _INT.pack(first >> 20 & 0xFF)),
        ]
        return ancillary, first & 0xFFFFF

    def _check_source(self, transmit: Transmit, source: bytes) -> None:
        if self._source is not None and any(source) and source != self._source:
            raise self._needs_raw(transmit, "from the one address that the link was opened with")

    def _needs_raw(self, transmit: Transmit, what: str) -> LinkError:
        return LinkError(
            "send to",
            transmit.dst_addr,
            errno.EOPNOTSUPP,
            f"without privilege the kernel sends {what}; the rest needs a raw socket",
        )

    def _read_datagram(self, size: int, ancillary: Ancillary, address: tuple[Any, ...]) -> Datagram:
        datagram = _new(Datagram)
        datagram.data = bytes(self._view[:size])
        datagram.src_addr = address[0].partition("%")[0]
        datagram.received_ns, datagram.stamp_source = self._received_at(ancillary)
        datagram.header = b""
        datagram.protocol = self._protocol
        if self.family == 6:
            read_ipv6_ancillary(datagram, ancillary)
        else:
            _read_ipv4_ancillary(datagram, ancillary)
        return datagram

    def _read_error(
        self, extended: bytes, data: bytes, ancillary: Ancillary, address: tuple[Any, ...] | None
    ) -> ICMPError | None:
        """An ICMP error; what this host found out while sending, `send` has raised itself."""
        _, origin, icmp_type, code, _, info, extra = EXTENDED_ERROR.unpack_from(extended)
        if origin not in (ORIGIN_ICMP, ORIGIN_ICMPV6):
            return None
        too_big = (icmp_type, code) == (3, 4) if origin == ORIGIN_ICMP else icmp_type == 2
        length, flags = _RFC4884.unpack(_UINT.pack(extra))
        extensions = b""
        if length and not flags & _RFC4884_INVALID:
            data, extensions = data[:length], data[length:]
        received_ns, stamp_source = self._received_at(ancillary)
        return ICMPError(
            src_addr=_read_sockaddr(extended[EXTENDED_ERROR.size :]),
            dst_addr=address[0].partition("%")[0] if address else "",
            icmp_type=icmp_type,
            code=code,
            original=data,
            received_ns=received_ns,
            ttl=_ttl_in(ancillary),
            mtu=info if too_big else None,
            extensions=extensions,
            stamp_source=stamp_source,
        )

    def _receive_failed(self, error: OSError) -> LinkError | None:
        """An ICMP error is told here too, but stands in the error queue with all it says."""
        return super()._receive_failed(error) if error.errno == errno.EBADF else None


def _read_ipv4_ancillary(datagram: Datagram, ancillary: Ancillary) -> None:
    datagram.dst_addr, datagram.interface, datagram.ttl, datagram.ecn = "", 0, None, 0
    for level, kind, value in ancillary:
        if level != socket.IPPROTO_IP:
            continue
        if kind == socket.IP_TTL:
            (datagram.ttl,) = _INT.unpack_from(value)
        elif kind == socket.IP_TOS:
            datagram.ecn = value[0] & 3
        elif kind == IP_PKTINFO:
            datagram.interface, _, dst = _PKTINFO.unpack_from(value)
            datagram.dst_addr = socket.inet_ntoa(dst)


def _ttl_in(ancillary: Ancillary) -> int | None:
    """TTL or hop limit of what the control messages stand beside."""
    for level, kind, value in ancillary:
        if (level, kind) in _TTLS:
            return int(_INT.unpack_from(value)[0])
    return None


_TTLS = {
    (socket.IPPROTO_IP, socket.IP_TTL),
    (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT),
}


def _read_sockaddr(data: bytes) -> str:
    """The address in a sockaddr, "" where there is none."""
    family = int.from_bytes(data[:2], sys.byteorder)
    if family == socket.AF_INET and len(data) >= 8:
        return socket.inet_ntoa(data[4:8])
    if family == socket.AF_INET6 and len(data) >= 24:
        return socket.inet_ntop(socket.AF_INET6, data[8:24])
    return ""
