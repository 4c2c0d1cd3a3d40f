"""ICMP datagram sockets: echo requests without privilege (icmp(7), ip(7), ipv6(7)).

The kernel lays out the IP header and keeps the identifier and the checksum of the
echo for itself. This link takes the same whole packets as a raw one, reads the
header's fields, and asks the kernel to set the same: source, TTL, DSCP, ECN, DF,
flow label. What cannot be had so (other messages than echo requests, fragments,
options) is refused. The identification is the kernel's to choose, and the kernel
cuts what is larger than the MTU, but for IPv4 with DF: such packets come here whole.

Replies come to the identifier that the socket is bound to. ICMP errors the kernel
keeps to itself and tells their gist through the error queue; they are `ICMPError`.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from contextlib import suppress
from typing import Any, Literal

from rawproto.errors import LinkError
from rawproto.link.interfaces import interface_index, split_scope
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
    set_mark,
)
from rawproto.link.privileges import icmp_sockets_refused
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
from rawproto.wire.address import pack_address

__all__ = ["DgramLink"]

_ICMP, _ICMPV6 = 1, 58
_INT = struct.Struct("@i")
_PKTINFO = struct.Struct("@I4s4s")
_RFC4884 = struct.Struct("@HBx")
_UINT = struct.Struct("@I")
_RFC4884_INVALID = 1

_new = object.__new__


class DgramLink(SocketLink):
    """Echo requests over an ICMP datagram socket. Needs a group in `ping_group_range`.

    Args:
        family: 4 or 6.
        identifier: the identifier wanted, 1 to 65535; 0, or one that is taken, gets another.
        src_addr: send from this address only. None takes IPv4's from each header; for IPv6
            the kernel heeds no header and no option, and takes the one that its routes name.
        interface: send and receive by this interface only.
        beside: a link of the other family, whose identifier this one is to share.
        timestamps: whether the kernel stamps both ways.
        mark: firewall mark, which policy rules match; needs CAP_NET_ADMIN.
        broadcast: whether packets may go to a broadcast address.
        receive_bytes: size of the receive buffer.
        bridge: brings the stamps to the monotonic clock; None makes one.

    Attributes:
        identifier: what the kernel puts into each echo request sent.

    Raises:
        PrivilegeError: the process may open neither these nor raw sockets.
        LinkError: no such interface, or `src_addr` is none of this host's.
    """

    _reads_errors = True
    _uncounted = frozenset()  # before Linux 6.9 each took one, whatever became of it
    _error_bytes = 2048

    def __init__(
        self,
        family: Literal[4, 6],
        *,
        identifier: int = 0,
        src_addr: str | None = None,
        interface: str | None = None,
        beside: DgramLink | None = None,
        timestamps: bool = True,
        mark: int = 0,
        broadcast: bool = False,
        receive_bytes: int = 1 << 20,
        bridge: ClockBridge | None = None,
    ) -> None:
        self.family = family
        self._interface = interface_index(interface) if interface else 0
        self._source = pack_address(split_scope(src_addr)[0]) if src_addr else None
        self._df: int | None = None
        sock = _open(family)
        try:
            super().__init__(
                sock, timestamps=timestamps, receive_bytes=receive_bytes, bridge=bridge
            )
            if interface:
                bind_to_device(sock, interface)
            if mark:
                set_mark(sock, mark)
            if broadcast:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            self._ask_for_ancillary()
            self.identifier = self._take_identifier(src_addr, identifier, beside)
        except BaseException:
            sock.close()
            raise

    def _ask_for_ancillary(self) -> None:
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
            sock.setsockopt(level, IPV6_MTU_DISCOVER, PMTUDISC_DONT)
        for option in options:
            sock.setsockopt(level, option, 1)
        with suppress(OSError):  # before Linux 5.9 errors come without their extensions
            sock.setsockopt(level, newer, 1)

    def _take_identifier(
        self, src_addr: str | None, identifier: int, beside: DgramLink | None
    ) -> int:
        """Binds to the identifier, or to any that is free: the one it got.

        One table holds those of both families, and sockets that allow it (SO_REUSEADDR, which
        these are born with) share one and steal each other's replies. So ours don't, but
        for the moment in which one joins the other.
        """
        pair = (self, beside) if beside is not None else (self,)
        for link in pair:
            link._allow_sharing(beside is not None)
        anywhere = "0.0.0.0" if self.family == 4 else "::"
        bare, scope = split_scope(src_addr or anywhere)
        rest = (0, scope) if self.family == 6 else ()
        try:
            try:
                self._socket.bind((bare, beside.identifier if beside else identifier, *rest))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or beside is not None:
                    raise
                self._socket.bind((bare, 0, *rest))
        except OSError as error:
            raise LinkError("send from", src_addr or anywhere, error.errno) from None
        finally:
            for link in pair:
                link._allow_sharing(False)
        return int(self._socket.getsockname()[1])

    def _allow_sharing(self, allowed: bool) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, allowed)

    def send(self, transmit: Transmit) -> int:
        """Sends one echo request: when the system call was entered, monotonic ns.

        Raises:
            LinkError: the kernel refuses, or could not send this packet as it is laid out.
        """
        address = self._sockaddr(transmit.dst_addr)
        if self.family == 4:
            message, ancillary = self._split_ipv4(transmit)
        else:
            message, ancillary, flow_label = self._split_ipv6(transmit)
            if flow_label:
                address = (address[0], 0, flow_label, address[3])  # type: ignore[misc]
        entered_ns = self._bridge.sample()
        try:
            if self.family == 4:
                self._set_df(transmit.data[6] & 0x40)
            try:
                self._socket.sendmsg((message,), ancillary, 0, address)
            except OSError:
                # An ICMP error about an earlier packet is told to whichever call comes
                # next. It is in the error queue too; this call deserves another try.
                if not self._collect_errors():
                    raise
                entered_ns = self._bridge.sample()
                self._socket.sendmsg((message,), ancillary, 0, address)
        except OSError as error:
            raise self._refused(error, transmit) from None
        if self._timestamps:
            self._stamps.sent(transmit.token, entered_ns)
        return entered_ns

    def _set_df(self, df: int) -> None:
        """DF is an option of the socket; probes seldom change theirs."""
        if df != self._df:
            value = PMTUDISC_PROBE if df else PMTUDISC_DONT
            self._socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, value)
            self._df = df

    def _collect_errors(self) -> bool:
        """Reads the error queue ahead: whether ICMP errors were in it."""
        known = len(self._early)
        self._read_error_queue(self._early)
        found = any(isinstance(arrival, ICMPError) for arrival in self._early[known:])
        if found and self._timestamps:
            self._restart_stamps()
        return found

    def _split_ipv4(self, transmit: Transmit) -> tuple[bytes, Ancillary]:
        data = transmit.data
        if len(data) < 28 or data[0] != 0x45 or data[9] != _ICMP or data[20:22] != b"\x08\0":
            raise _needs_raw(transmit, "only echo requests without IP options")
        if data[6] & 0xBF or data[7]:
            raise _needs_raw(transmit, "no fragments")
        source = bytes(data[12:16])
        self._check_source(transmit, source)
        ancillary = [
            (socket.IPPROTO_IP, socket.IP_TTL, _INT.pack(data[8])),
            (socket.IPPROTO_IP, socket.IP_TOS, _INT.pack(data[1])),
        ]
        if source != b"\0\0\0\0":
            info = _PKTINFO.pack(self._interface, source, b"\0\0\0\0")
            ancillary.append((socket.IPPROTO_IP, IP_PKTINFO, info))
        return bytes(data[20:]), ancillary

    def _split_ipv6(self, transmit: Transmit) -> tuple[bytes, Ancillary, int]:
        data = transmit.data
        if len(data) < 48 or data[0] >> 4 != 6 or data[6] != _ICMPV6 or data[40:42] != b"\x80\0":
            raise _needs_raw(transmit, "only echo requests without extension headers")
        first = int.from_bytes(data[:4], "big")
        self._check_source(transmit, bytes(data[8:24]))
        ancillary = [
            (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, _INT.pack(data[7])),
            (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _INT.pack(first >> 20 & 0xFF)),
        ]
        return bytes(data[40:]), ancillary, first & 0xFFFFF

    def _check_source(self, transmit: Transmit, source: bytes) -> None:
        if self._source is not None and any(source) and source != self._source:
            raise _needs_raw(transmit, "from the one address that the link was opened with")

    def _read_datagram(self, size: int, ancillary: Ancillary, address: tuple[Any, ...]) -> Datagram:
        datagram = _new(Datagram)
        datagram.data = bytes(self._view[:size])
        datagram.src_addr = address[0].partition("%")[0]
        datagram.received_ns, datagram.stamp_source = self._received_at(ancillary)
        datagram.header = b""
        if self.family == 6:
            datagram.protocol = _ICMPV6
            read_ipv6_ancillary(datagram, ancillary)
        else:
            datagram.protocol = _ICMP
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


def _read_sockaddr(data: bytes) -> str:
    """The address in a sockaddr, "" where there is none."""
    family = int.from_bytes(data[:2], sys.byteorder)
    if family == socket.AF_INET and len(data) >= 8:
        return socket.inet_ntoa(data[4:8])
    if family == socket.AF_INET6 and len(data) >= 24:
        return socket.inet_ntop(socket.AF_INET6, data[8:24])
    return ""


def _needs_raw(transmit: Transmit, what: str) -> LinkError:
    return LinkError(
        "send to",
        transmit.dst_addr,
        errno.EOPNOTSUPP,
        f"without privilege the kernel sends {what}; the rest needs a raw socket",
    )


def _open(family: int) -> socket.socket:
    kind, protocol = (socket.AF_INET, _ICMP) if family == 4 else (socket.AF_INET6, _ICMPV6)
    try:
        return socket.socket(kind, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        raise icmp_sockets_refused() from None
    except OSError as error:
        raise LinkError("open ICMP socket", f"IPv{family}", error.errno) from None
