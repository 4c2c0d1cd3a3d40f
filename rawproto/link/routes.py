"""Which way to a host: source address, next hop, interface and MTU, as the kernel decides.

RTM_GETROUTE (rtnetlink(7)) runs the same decision as a packet would: policy rules,
all routing tables, multipath, metrics. So nothing here reads a routing table, and
nothing can disagree with what the kernel does. The neighbour of a next hop comes from
RTM_GETNEIGH (ARP, RFC 826, and neighbour discovery, RFC 4861, are the kernel's).

It knows neither names nor packets.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Literal, cast

from rawproto.errors import EmitError, LinkError, UsageError
from rawproto.link.interfaces import IFF_LOOPBACK, IFF_NOARP, Interface, split_scope
from rawproto.link.interfaces import interface as find_interface
from rawproto.link.netlink import NLM_F_ACK, NetlinkSocket, emit_attribute, parse_attributes
from rawproto.link.options import bind_to_device
from rawproto.wire.address import pack_address

__all__ = ["PATIENCE_NS", "Route", "lookup", "resolve_neighbor"]

PATIENCE_NS = 10**9
"""How long a neighbour may take to answer."""

RouteKind = Literal["unicast", "local", "broadcast", "anycast", "multicast"]

_RTM_GETROUTE = 26
_RTM_NEWNEIGH, _RTM_GETNEIGH = 28, 30
_RTMGRP_NEIGH = 4
_RTM_F_LOOKUP_TABLE = 0x1000
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 2, 4, 5, 7
_RTA_METRICS, _RTA_CACHEINFO, _RTA_TABLE, _RTA_MARK, _RTA_VIA = 8, 12, 15, 16, 18
_RTAX_MTU = 2
_KINDS: dict[int, str] = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast"}
_REFUSALS = {6: errno.EINVAL, 7: errno.EHOSTUNREACH, 8: errno.EACCES}
"""What blackhole, unreachable and prohibit routes answer."""

_NDA_DST, _NDA_LLADDR = 1, 2
_NTF_USE = 0x01
_NUD_NONE, _NUD_FAILED = 0x00, 0x20
_NUD_VALID = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80
"""REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT: the address is there to be used."""

_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOR = struct.Struct("=BxxxiHBB")
_CACHEINFO_ERROR = struct.Struct("=12xi")
_DISCARD = 9
_NLM_F_CREATE = 0x400
_UINT = struct.Struct("=I")


@dataclass(slots=True, kw_only=True)
class Route:
    """The way to one destination.

    Attributes:
        dst_addr: whereto, without a scope.
        src_addr: the address to send from, "" where the kernel has none to offer.
        gateway: the next hop, of either family; None where the destination is on the link.
        interface: name of the interface to send by.
        interface_index: its index.
        mtu: of the path as the kernel knows it, at most that of the interface; bytes.
        interface_mtu: of the interface alone, bytes.
        table: number of the routing table that decided.
        kind: `local` is this host itself.
    """

    dst_addr: str
    src_addr: str
    gateway: str | None
    interface: str
    interface_index: int
    mtu: int
    interface_mtu: int
    table: int
    kind: RouteKind

    @property
    def next_hop(self) -> str:
        """The gateway, or the destination where there is none."""
        return self.gateway or self.dst_addr


def lookup(
    dst_addr: str,
    *,
    src_addr: str | None = None,
    interface: str | int | None = None,
    mark: int = 0,
    dscp: int = 0,
) -> Route:
    """Asks the kernel for the way to a host.

    Args:
        dst_addr: IPv4 or IPv6, which may carry a scope (`fe80::1%eth0`).
        src_addr: the source that rules shall see; None lets the kernel choose.
        interface: name or index of the interface to leave by, None for any.
        mark: the firewall mark that rules shall see.
        dscp: 0 to 63, which rules and routes may tell apart.

    Returns:
        The route; of several equal paths the one that the kernel picks for these addresses.

    Raises:
        LinkError: there is no way (ENETUNREACH, EHOSTUNREACH, EACCES, ...), no such
            interface (ENODEV), or a link-local destination without an interface (EINVAL).
        UsageError: an address is none, or the families differ.
    """
    bare, index = split_scope(dst_addr)
    if interface is not None:
        wanted = find_interface(interface).index
        if index and index != wanted:
            raise UsageError(f"{dst_addr} is not on interface {interface}")
        index = wanted
    try:
        packed = pack_address(bare)
        source = pack_address(src_addr.partition("%")[0]) if src_addr else b""
    except EmitError as error:
        raise UsageError(f"not an address: {error.value}") from None
    if source and len(source) != len(packed):
        raise UsageError(f"{src_addr} and {bare} are of different families")
    if not index and _needs_scope(packed):
        raise LinkError(
            "route to", dst_addr, errno.EINVAL, f"needs an interface, as in {bare}%eth0"
        )
    bits, source_bits, tos = 8 * len(packed), 8 * len(source), dscp << 2
    header = _ROUTE.pack(_family(packed), bits, source_bits, tos, 0, 0, 0, 0, _RTM_F_LOOKUP_TABLE)
    body = header + emit_attribute(_RTA_DST, packed)
    if source:
        body += emit_attribute(_RTA_SRC, source)
    if index:
        body += emit_attribute(_RTA_OIF, _UINT.pack(index))
    if mark:
        body += emit_attribute(_RTA_MARK, _UINT.pack(mark))
    try:
        with NetlinkSocket() as netlink:
            answer = netlink.request(_RTM_GETROUTE, body)[0][1]
    except OSError as error:
        reason = None
        if src_addr and error.errno in (errno.EINVAL, errno.ENETUNREACH):
            reason = f"{os.strerror(error.errno)} (is {src_addr} an address of this host's?)"
        raise LinkError("route to", dst_addr, error.errno, reason) from None
    return _read_route(answer, bare, src_addr)


def _read_route(answer: bytes, dst_addr: str, src_addr: str | None) -> Route:
    family, _, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(answer)
    attributes = parse_attributes(answer[_ROUTE.size :])
    if kind not in _KINDS:
        # IPv6 answers with a route that refuses, and the error stands beside it.
        number = -_CACHEINFO_ERROR.unpack_from(attributes.get(_RTA_CACHEINFO, bytes(16)))[0]
        raise LinkError("route to", dst_addr, number or _REFUSALS.get(kind, errno.ENETUNREACH))
    gateway = None
    if _RTA_GATEWAY in attributes:
        gateway = socket.inet_ntop(family, attributes[_RTA_GATEWAY])
    elif _RTA_VIA in attributes:  # RFC 8950: an IPv4 route through an IPv6 next hop
        via = attributes[_RTA_VIA]
        gateway = socket.inet_ntop(int.from_bytes(via[:2], sys.byteorder), via[2:])
    if src_addr is None and _RTA_PREFSRC in attributes:
        src_addr = socket.inet_ntop(family, attributes[_RTA_PREFSRC])
    device = find_interface(_UINT.unpack(attributes[_RTA_OIF])[0])
    metrics = parse_attributes(attributes.get(_RTA_METRICS, b""))
    mtu = _UINT.unpack(metrics[_RTAX_MTU])[0] if _RTAX_MTU in metrics else device.mtu
    return Route(
        dst_addr=dst_addr,
        src_addr=src_addr or "",
        gateway=gateway,
        interface=device.name,
        interface_index=device.index,
        mtu=min(mtu or device.mtu, device.mtu),
        interface_mtu=device.mtu,
        table=_UINT.unpack(attributes[_RTA_TABLE])[0] if _RTA_TABLE in attributes else table,
        kind=cast(RouteKind, _KINDS[kind]),
    )


def resolve_neighbor(next_hop: str, interface: str | int, *, timeout_ns: int = PATIENCE_NS) -> str:
    """The MAC address of a next hop on the link, found out by the kernel if need be.

    Args:
        next_hop: an address that is on the link of `interface`; groups and broadcasts
            have addresses by rule (RFC 1112 section 6.4, RFC 2464 section 7).
        interface: name or index.
        timeout_ns: how long to wait for the neighbour's answer.

    Returns:
        The MAC; of zeros where the interface resolves nothing (loopback, tunnels).

    Raises:
        LinkError: nobody answers (EHOSTUNREACH), or no such interface.
    """
    device = find_interface(interface)
    packed = pack_address(next_hop)
    if device.flags & (IFF_LOOPBACK | IFF_NOARP):
        return "00:00:00:00:00:00"
    if packed[0] == 0xFF and len(packed) == 16:
        return (b"\x33\x33" + packed[12:]).hex(":")
    if packed[0] >> 4 == 0xE and len(packed) == 4:
        return bytes((0x01, 0x00, 0x5E, packed[1] & 0x7F, packed[2], packed[3])).hex(":")
    if len(packed) == 4 and lookup(next_hop, interface=device.index).kind == "broadcast":
        return "ff:ff:ff:ff:ff:ff"
    mac = _ask_neighbor(device.index, packed)
    if mac is None:
        with NetlinkSocket(_RTMGRP_NEIGH) as notices:
            _provoke(device, next_hop, packed)
            # What came in between has been told to nobody.
            mac = _ask_neighbor(device.index, packed)
            if mac is None:
                mac = _await_neighbor(notices, device.index, packed, timeout_ns)
    if mac is None:
        raise LinkError("resolve", f"{next_hop} on {device.name}", errno.EHOSTUNREACH)
    return mac


def _ask_neighbor(index: int, packed: bytes) -> str | None:
    """What the kernel's table says, None where the neighbour isn't in it or has no address yet."""
    try:
        with NetlinkSocket() as netlink:
            answers = netlink.request(_RTM_GETNEIGH, _emit_neighbor(index, packed, _NUD_NONE, 0))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise LinkError("resolve", "", error.errno) from None
    return _read_neighbor(answers[0][1], index, packed)[0]


def _await_neighbor(
    notices: NetlinkSocket, index: int, packed: bytes, timeout_ns: int
) -> str | None:
    for kind, data in notices.notices(timeout_ns / 1e9):
        if kind == _RTM_NEWNEIGH:
            mac, failed = _read_neighbor(data, index, packed)
            if mac is not None or failed:
                return mac
    return None


def _provoke(device: Interface, next_hop: str, packed: bytes) -> None:
    """Makes the kernel resolve: by asking for it where that works, else by an empty datagram."""
    if len(packed) == 4:
        body = _emit_neighbor(device.index, packed, _NUD_NONE, _NTF_USE)
        try:
            with NetlinkSocket() as netlink:
                netlink.request(_RTM_NEWNEIGH, body, NLM_F_ACK | _NLM_F_CREATE)
            return
        except OSError:
            pass  # needs CAP_NET_ADMIN
    # For IPv6 the kernel solicits from a link-local address when asked, from the address of
    # the packet when there is one; only the latter is sure to be there.
    address: tuple[str, int] | tuple[str, int, int, int] = (next_hop, _DISCARD)
    if len(packed) == 16:
        address = (next_hop, _DISCARD, 0, device.index)
    with socket.socket(_family(packed), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            bind_to_device(sock, device.name)
            sock.sendto(b"", address)
        except OSError as error:
            raise LinkError("resolve", next_hop, error.errno) from None


def _emit_neighbor(index: int, packed: bytes, state: int, flags: int) -> bytes:
    return _NEIGHBOR.pack(_family(packed), index, state, flags, 0) + emit_attribute(
        _NDA_DST, packed
    )


def _read_neighbor(data: bytes, index: int, packed: bytes) -> tuple[str | None, bool]:
    """(its MAC or None, whether resolution has failed) if the notice is about this neighbour."""
    _, at, state, _, _ = _NEIGHBOR.unpack_from(data)
    attributes = parse_attributes(data[_NEIGHBOR.size :])
    if at != index or attributes.get(_NDA_DST) != packed:
        return None, False
    mac = attributes.get(_NDA_LLADDR, b"")
    if state & _NUD_VALID and len(mac) == 6:
        return mac.hex(":"), False
    return None, bool(state & _NUD_FAILED)


def _family(packed: bytes) -> int:
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6


def _needs_scope(packed: bytes) -> bool:
    """Whether an IPv6 address means nothing without an interface (RFC 4007 section 4)."""
    if len(packed) != 16:
        return False
    link_local = packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
    return link_local or (packed[0] == 0xFF and packed[1] & 0x0F in (1, 2))
