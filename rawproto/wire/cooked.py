"""Link layers that captures make up: Linux "cooked" v1 and v2, and the BSD loopback header.

They stand in capture files where the device had no link layer of its own or where
several devices were captured at once (`tcpdump -i any`); no wire ever carried them.
Read https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html, ..._SLL2.html and
LINKTYPE_NULL in https://www.tcpdump.org/linktypes.html::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------------------------------+-------------------------------+
    |          packet_type          |          arphrd_type          |   v1
    +-------------------------------+-------------------------------+
    |        address_length         |                               |
    +-------------------------------+                               +
    |                            address                            |
    +                               +-------------------------------+
    |                               |         protocol_type         |
    +-------------------------------+-------------------------------+

    +-------------------------------+-------------------------------+
    |         protocol_type         |           reserved            |   v2
    +-------------------------------+-------------------------------+
    |                        interface_index                        |
    +-------------------------------+---------------+---------------+
    |          arphrd_type          |  packet_type  |address_length |
    +-------------------------------+---------------+---------------+
    |                            address                            |
    +                                                               +
    |                                                               |
    +---------------------------------------------------------------+

    +---------------------------------------------------------------+
    |              family (byte order of the capturer)              |   BSD loopback
    +---------------------------------------------------------------+

They know nothing of the devices: what a protocol type means under an unusual
`arphrd_type` is not theirs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from rawproto.errors import EmitError, TruncatedError
from rawproto.wire.ethernet import ETHERTYPES, ethertype_within
from rawproto.wire.layer import Layer

__all__ = ["LinuxCooked", "LinuxCooked2", "LoopbackHeader"]

_COOKED = struct.Struct("!HHH8sH")
_COOKED2 = struct.Struct("!HHIHBB8s")

_ETHERNET = 1
"""ARPHRD_ETHER, the usual device."""

_NAMES: dict[str, dict[int, str]] = {
    "packet_type": {0: "host", 1: "broadcast", 2: "multicast", 3: "otherhost", 4: "outgoing"},
    "arphrd_type": {
        1: "ethernet",
        512: "ppp",
        768: "ipip",
        769: "ip6ip6",
        772: "loopback",
        776: "sit",
        778: "gre",
        803: "radiotap",
        823: "ip6gre",
        824: "netlink",
        65534: "none",
    },
    # Numbers below 1536 are Linux's own.
    "protocol_type": {**ETHERTYPES, 1: "802.3-raw", 4: "802.2"},
}

_new = object.__new__


def _address_text(address: bytes, length: int) -> str:
    return address[:length].hex(":")


@dataclass(slots=True, kw_only=True)
class LinuxCooked(Layer):
    """The Linux cooked header, version 1 (LINKTYPE_LINUX_SLL, 113).

    Attributes:
        packet_type: 0 to us, 1 broadcast, 2 multicast, 3 to another host, 4 from us.
        arphrd_type: kind of the device, Linux's ARPHRD_ number.
        address_length: bytes of `address` that count; may be more than the 8 kept.
        address: the sender's link-layer address, all 8 bytes as they stand.
        protocol_type: EtherType; None takes that of the layer inside, 0xFFFF without one.
    """

    packet_type: int = 0
    arphrd_type: int = _ETHERNET
    address_length: int = 6
    address: bytes = bytes(8)
    protocol_type: int | None = None

    layer: ClassVar[str] = "cooked"
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("packet_type", 16),
        ("arphrd_type", 16),
        ("address_length", 16),
        ("address", 64),
        ("protocol_type", 16),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = _NAMES

    @property
    def src_addr(self) -> str:
        """The sender's address as text: a MAC address where it has 6 bytes."""
        return _address_text(self.address, self.address_length)

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a header: (header, payload).

        Raises:
            TruncatedError: fewer than 16 bytes.
        """
        self = _new(cls)
        try:
            (
                self.packet_type,
                self.arphrd_type,
                self.address_length,
                self.address,
                self.protocol_type,
            ) = _COOKED.unpack_from(data)
        except struct.error:
            raise TruncatedError("cooked", 0, 16, len(data)) from None
        return self, data[16:]

    def emit(self, payload: bytes = b"") -> bytes:
        return self.emit_within(payload, None, None, None)

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        protocol = ethertype_within(inner) if self.protocol_type is None else self.protocol_type
        _check_address("LinuxCooked", self.address)
        try:
            header = _COOKED.pack(
                self.packet_type, self.arphrd_type, self.address_length, self.address, protocol
            )
        except struct.error:
            raise self.emit_error() from None
        return header + payload


@dataclass(slots=True, kw_only=True)
class LinuxCooked2(Layer):
    """The Linux cooked header, version 2 (LINKTYPE_LINUX_SLL2, 276): the device is named.

    Attributes:
        protocol_type: as in `LinuxCooked`.
        reserved: 0, 16 bits.
        interface_index: of the device on the host that captured.
        arphrd_type: as in `LinuxCooked`.
        packet_type: likewise, 8 bits.
        address_length: likewise, 8 bits.
        address: likewise.
    """

    protocol_type: int | None = None
    reserved: int = 0
    interface_index: int = 0
    arphrd_type: int = _ETHERNET
    packet_type: int = 0
    address_length: int = 6
    address: bytes = bytes(8)

    layer: ClassVar[str] = "cooked"
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("protocol_type", 16),
        ("reserved", 16),
        ("interface_index", 32),
        ("arphrd_type", 16),
        ("packet_type", 8),
        ("address_length", 8),
        ("address", 64),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = _NAMES

    @property
    def src_addr(self) -> str:
        """The sender's address as text: a MAC address where it has 6 bytes."""
        return _address_text(self.address, self.address_length)

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a header: (header, payload).

        Raises:
            TruncatedError: fewer than 20 bytes.
        """
        self = _new(cls)
        try:
            (
                self.protocol_type,
                self.reserved,
                self.interface_index,
                self.arphrd_type,
                self.packet_type,
                self.address_length,
                self.address,
            ) = _COOKED2.unpack_from(data)
        except struct.error:
            raise TruncatedError("cooked", 0, 20, len(data)) from None
        return self, data[20:]

    def emit(self, payload: bytes = b"") -> bytes:
        return self.emit_within(payload, None, None, None)

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        protocol = ethertype_within(inner) if self.protocol_type is None else self.protocol_type
        _check_address("LinuxCooked2", self.address)
        try:
            header = _COOKED2.pack(
                protocol,
                self.reserved,
                self.interface_index,
                self.arphrd_type,
                self.packet_type,
                self.address_length,
                self.address,
            )
        except struct.error:
            raise self.emit_error() from None
        return header + payload


def _check_address(name: str, address: bytes) -> None:
    if not isinstance(address, bytes) or len(address) != 8:
        raise EmitError(f"{name}.address", address, "must be 8 bytes")


@dataclass(slots=True, kw_only=True)
class LoopbackHeader(Layer):
    """The BSD loopback header (LINKTYPE_NULL, 0, and LINKTYPE_LOOP, 108).

    Attributes:
        family: address family by the capturing system's own numbers: 2 is IPv4 everywhere,
            IPv6 is 24 (NetBSD, OpenBSD), 28 (FreeBSD), 30 (macOS) or 10 (Linux). None takes
            2 or 30 by the layer inside, 0 where it is neither.
        byte_order: of `family`: the capturing system's (0), always "big" (108).
    """

    family: int | None = None
    byte_order: Literal["little", "big"] = "little"

    layer: ClassVar[str] = "cooked"
    layout: ClassVar[tuple[tuple[str, int], ...]] = (("family", 32),)
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "family": {2: "ipv4", 10: "ipv6", 24: "ipv6", 28: "ipv6", 30: "ipv6"}
    }

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a header: (header, payload).

        Families are small numbers, so the byte order shows itself: it is the one in
        which the number is the smaller.

        Raises:
            TruncatedError: fewer than 4 bytes.
        """
        if len(data) < 4:
            raise TruncatedError("cooked", 0, 4, len(data))
        little, big = int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big")
        if little <= big:
            return cls(family=little, byte_order="little"), data[4:]
        return cls(family=big, byte_order="big"), data[4:]

    def emit(self, payload: bytes = b"") -> bytes:
        return self.emit_within(payload, None, None, None)

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        family = self.family
        if family is None:
            families = {0x0800: 2, 0x86DD: 30}
            family = families.get(ethertype_within(inner), 0)
        try:
            return family.to_bytes(4, self.byte_order) + payload
        except (OverflowError, AttributeError):
            raise self.emit_error() from None
