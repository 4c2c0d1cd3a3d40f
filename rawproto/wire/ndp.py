"""Neighbour and router discovery, messages of ICMPv6 (read RFC 4861; RFC 4191, RFC 5175 for flags).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |   icmp_type   |     code      |           checksum            |  all
    +---------------+---------------+-------------------------------+
    |                           reserved                            |  all solicitations,
    +---------------+---------------+-------------------------------+  redirect
    | cur_hop_limit |     flags     |       router_lifetime_s       |  router
    +---------------+---------------+-------------------------------+  advertisement
    |                       reachable_time_ms                       |
    +---------------------------------------------------------------+
    |                       retrans_timer_ms                        |
    +-----+---------------------------------------------------------+
    |flags|                       reserved                          |  neighbour
    +-----+---------------------------------------------------------+  advertisement
    |              target_addr, and a redirect's destination_addr   |
    +---------------------------------------------------------------+
    |                          options ...                          |
    +---------------------------------------------------------------+

Options are in `ndp_options`. It knows no neighbours and no timers, and does not
judge what RFC 4861 asks of a receiver (a hop limit of 255, a code of 0).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

from rawproto.wire.address import pack_ipv6, unpack_ipv6
from rawproto.wire.icmp_message import FIRST_WORD, ICMPv6Message
from rawproto.wire.ndp_options import NDPOption, emit_options, parse_options

__all__ = [
    "ICMPv6Redirect",
    "NeighborAdvertisement",
    "NeighborSolicitation",
    "RouterAdvertisement",
    "RouterSolicitation",
]

_WORD = struct.Struct("!I")
_ADVERTISEMENT = struct.Struct("!BBHII")


@dataclass(slots=True, kw_only=True)
class RouterSolicitation(ICMPv6Message):
    """A host asks for router advertisements (type 133, RFC 4861 section 4.1).

    Attributes:
        reserved: 32 bits.
        options: in order.
    """

    icmp_type: int = 133
    reserved: int = 0
    options: tuple[NDPOption, ...] = ()

    icmp_types: ClassVar[frozenset[int]] = frozenset({133})
    layout: ClassVar[tuple[tuple[str, int], ...]] = (*FIRST_WORD, ("reserved", 32))
    value_names: ClassVar[dict[str, dict[int, str]]] = {"icmp_type": {133: "router-solicitation"}}

    def _read(self, data: bytes) -> bytes:
        (self.reserved,) = _WORD.unpack_from(data, 4)
        self.options = parse_options(data[8:])
        return b""

    def _write(self, payload: bytes) -> bytes:
        return _WORD.pack(self.reserved) + emit_options(self.options) + payload


@dataclass(slots=True, kw_only=True)
class RouterAdvertisement(ICMPv6Message):
    """A router tells what it offers (type 134, RFC 4861 section 4.2).

    Attributes:
        cur_hop_limit: what hosts should send with, 0 for not told.
        flags: 8 bits: M, O, H (RFC 6275), two bits of preference, P (RFC 4389).
        router_lifetime_s: as a default router; 0 for none.
        reachable_time_ms: how long a neighbour counts as reachable, 0 for not told.
        retrans_timer_ms: between solicitations sent again, 0 for not told.
        options: in order.
    """

    icmp_type: int = 134
    cur_hop_limit: int = 0
    flags: int = 0
    router_lifetime_s: int = 0
    reachable_time_ms: int = 0
    retrans_timer_ms: int = 0
    options: tuple[NDPOption, ...] = ()

    icmp_types: ClassVar[frozenset[int]] = frozenset({134})
    fixed_bytes: ClassVar[int] = 16
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *FIRST_WORD,
        ("cur_hop_limit", 8),
        ("flags", 8),
        ("router_lifetime_s", 16),
        ("reachable_time_ms", 32),
        ("retrans_timer_ms", 32),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {134: "router-advertisement"},
        "preference": {-1: "low", 0: "medium", 1: "high", -2: "reserved"},
    }
    flag_names: ClassVar[dict[str, dict[int, str]]] = {
        "flags": {0x80: "M", 0x40: "O", 0x20: "H", 0x04: "P"}
    }

    @property
    def preference(self) -> int:
        """As a default router (RFC 4191 section 2.1): 1 high, 0 medium, -1 low, -2 reserved."""
        bits = self.flags >> 3 & 3
        return bits - 4 if bits & 2 else bits

    def _read(self, data: bytes) -> bytes:
        (
            self.cur_hop_limit,
            self.flags,
            self.router_lifetime_s,
            self.reachable_time_ms,
            self.retrans_timer_ms,
        ) = _ADVERTISEMENT.unpack_from(data, 4)
        self.options = parse_options(data[16:])
        return b""

    def _write(self, payload: bytes) -> bytes:
        fixed = _ADVERTISEMENT.pack(
            self.cur_hop_limit,
            self.flags,
            self.router_lifetime_s,
            self.reachable_time_ms,
            self.retrans_timer_ms,
        )
        return fixed + emit_options(self.options) + payload


@dataclass(slots=True, kw_only=True)
class NeighborSolicitation(ICMPv6Message):
    """Who has this address? (type 135, RFC 4861 section 4.3).

    Attributes:
        reserved: 32 bits.
        target_addr: the address asked for.
        options: in order.
    """

    icmp_type: int = 135
    reserved: int = 0
    target_addr: str = "::"
    options: tuple[NDPOption, ...] = ()

    icmp_types: ClassVar[frozenset[int]] = frozenset({135})
    fixed_bytes: ClassVar[int] = 24
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *FIRST_WORD,
        ("reserved", 32),
        ("target_addr", 128),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {"icmp_type": {135: "neighbor-solicitation"}}

    def _read(self, data: bytes) -> bytes:
        (self.reserved,) = _WORD.unpack_from(data, 4)
        self.target_addr = unpack_ipv6(data[8:24])
        self.options = parse_options(data[24:])
        return b""

    def _write(self, payload: bytes) -> bytes:
        fixed = _WORD.pack(self.reserved) + pack_ipv6(self.target_addr)
        return fixed + emit_options(self.options) + payload


@dataclass(slots=True, kw_only=True)
class NeighborAdvertisement(ICMPv6Message):
    """A node tells its link-layer address (type 136, RFC 4861 section 4.4).

    Attributes:
        flags: 3 bits: R router, S solicited, O override.
        reserved: 29 bits.
        target_addr: the address whose link-layer address is told.
        options: in order.
    """

    icmp_type: int = 136
    flags: int = 0
    reserved: int = 0
    target_addr: str = "::"
    options: tuple[NDPOption, ...] = ()

    icmp_types: ClassVar[frozenset[int]] = frozenset({136})
    fixed_bytes: ClassVar[int] = 24
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *FIRST_WORD,
        ("flags", 3),
        ("reserved", 29),
        ("target_addr", 128),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {136: "neighbor-advertisement"}
    }
    flag_names: ClassVar[dict[str, dict[int, str]]] = {"flags": {4: "R", 2: "S", 1: "O"}}

    def _read(self, data: bytes) -> bytes:
        (word,) = _WORD.unpack_from(data, 4)
        self.flags = word >> 29
        self.reserved = word & 0x1FFFFFFF
        self.target_addr = unpack_ipv6(data[8:24])
        self.options = parse_options(data[24:])
        return b""

    def _write(self, payload: bytes) -> bytes:
        if self.reserved >> 29:
            raise struct.error
        fixed = _WORD.pack(self.flags << 29 | self.reserved) + pack_ipv6(self.target_addr)
        return fixed + emit_options(self.options) + payload


@dataclass(slots=True, kw_only=True)
class ICMPv6Redirect(ICMPv6Message):
    """A router tells a better first hop (type 137, RFC 4861 section 4.5).

    Attributes:
        reserved: 32 bits.
        target_addr: the better first hop, or `destination_addr` where that is a neighbour.
        destination_addr: the destination that is redirected.
        options: in order.
    """

    icmp_type: int = 137
    reserved: int = 0
    target_addr: str = "::"
    destination_addr: str = "::"
    options: tuple[NDPOption, ...] = ()

    icmp_types: ClassVar[frozenset[int]] = frozenset({137})
    fixed_bytes: ClassVar[int] = 40
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *FIRST_WORD,
        ("reserved", 32),
        ("target_addr", 128),
        ("destination_addr", 128),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {"icmp_type": {137: "redirect"}}

    def _read(self, data: bytes) -> bytes:
        (self.reserved,) = _WORD.unpack_from(data, 4)
        self.target_addr = unpack_ipv6(data[8:24])
        self.destination_addr = unpack_ipv6(data[24:40])
        self.options = parse_options(data[40:])
        return b""

    def _write(self, payload: bytes) -> bytes:
        addresses = pack_ipv6(self.target_addr) + pack_ipv6(self.destination_addr)
        return _WORD.pack(self.reserved) + addresses + emit_options(self.options) + payload
