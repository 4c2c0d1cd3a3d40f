"""Ethernet headers and VLAN tags (read IEEE 802.3 section 3, 802.1Q section 9; RFC 894, RFC 5342).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------------------------------------------------------+
    |                           dst_addr                            |
    +                               +-------------------------------+
    |                               |                               |
    +-------------------------------+                               +
    |                           src_addr                            |
    +-------------------------------+-------------------------------+
    |           ethertype           |    payload, or a VLAN tag:
    +-----+-+-----------------------+-------------------------------+
    | pcp |d|          vid          |           ethertype           |
    +-----+-+-----------------------+-------------------------------+

The field behind the addresses is an EtherType from 1536 on; up to 1500 it is the
length of an IEEE 802.3 frame, and what stands in it is data too. A VLAN tag is
announced by an EtherType as if it were a protocol (its TPID, 0x8100 for 802.1Q
and 0x88a8 for the outer tag of 802.1ad), so tags nest like any other layers.

It knows neither preamble nor frame check sequence, which the hardware keeps, nor
LLC; and it pads nothing: the hardware does where a frame is shorter than 60 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from rawproto.errors import EmitError, TruncatedError
from rawproto.wire.address import pack_mac
from rawproto.wire.layer import Layer

__all__ = ["BROADCAST", "ETHERTYPES", "EthernetHeader", "VLANTag", "ethertype_within"]

BROADCAST = "ff:ff:ff:ff:ff:ff"
"""The address that every host on the link hears."""

ETHERTYPES: dict[int, str] = {
    0x0800: "ipv4",
    0x0806: "arp",
    0x6558: "transparent-ethernet",
    0x8035: "rarp",
    0x8100: "802.1q",
    0x8137: "ipx",
    0x86DD: "ipv6",
    0x8808: "flow-control",
    0x8809: "slow-protocols",
    0x8847: "mpls",
    0x8848: "mpls-upstream",
    0x8863: "pppoe-discovery",
    0x8864: "pppoe-session",
    0x888E: "eapol",
    0x8892: "profinet",
    0x88A8: "802.1ad",
    0x88CC: "lldp",
    0x88E5: "macsec",
    0x88F7: "ptp",
    0x9000: "loopback",
}
"""EtherTypes by name, from IANA's and the IEEE's lists."""

_HEADER = struct.Struct("!6s6sH")
_TAG = struct.Struct("!HH")
_MAX_LENGTH = 1500
# IANA keeps 0xFFFF reserved (RFC 1701), so no receiver takes it for a protocol.
_RESERVED_ETHERTYPE = 0xFFFF

_new = object.__new__


def ethertype_within(inner: Layer | None) -> int:
    """The EtherType that announces `inner`: 0xFFFF (reserved) for plain bytes and strangers."""
    if isinstance(inner, VLANTag):
        return inner.tpid
    if inner is None or inner.ether_protocol is None:
        return _RESERVED_ETHERTYPE
    return inner.ether_protocol


@dataclass(slots=True, kw_only=True)
class EthernetHeader(Layer):
    """An Ethernet header.

    Attributes:
        dst_addr: MAC address.
        src_addr: MAC address.
        ethertype: from 1536 on the protocol inside, up to 1500 the length of an IEEE 802.3
            frame. None takes that of the layer inside, 0xFFFF (reserved) where it has none.
    """

    dst_addr: str = "00:00:00:00:00:00"
    src_addr: str = "00:00:00:00:00:00"
    ethertype: int | None = None

    layer: ClassVar[str] = "ethernet"
    ether_protocol: ClassVar[int | None] = 0x6558
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("dst_addr", 48),
        ("src_addr", 48),
        ("ethertype", 16),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {"ethertype": ETHERTYPES}

    @property
    def length(self) -> int | None:
        """Bytes behind the header as an IEEE 802.3 frame counts them, None where it doesn't."""
        return self.ethertype if (self.ethertype or 0xFFFF) <= _MAX_LENGTH else None

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a header: (header, payload).

        The payload of an IEEE 802.3 frame ends where its length says, so that no padding
        is taken for data; that of any other goes on to the end, padding included.

        Raises:
            TruncatedError: fewer than 14 bytes.
        """
        try:
            dst, src, ethertype = _HEADER.unpack_from(data)
        except struct.error:
            raise TruncatedError("ethernet", 0, 14, len(data)) from None
        self = _new(cls)
        self.dst_addr = dst.hex(":")
        self.src_addr = src.hex(":")
        self.ethertype = ethertype
        if 0 < ethertype <= _MAX_LENGTH:
            return self, data[14 : 14 + ethertype]
        return self, data[14:]

    def emit(self, payload: bytes = b"") -> bytes:
        return self._emit(payload, _RESERVED_ETHERTYPE)

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        return self._emit(payload, ethertype_within(inner))

    def _emit(self, payload: bytes, announced: int) -> bytes:
        ethertype = announced if self.ethertype is None else self.ethertype
        try:
            return (
                _HEADER.pack(pack_mac(self.dst_addr), pack_mac(self.src_addr), ethertype) + payload
            )
        except struct.error:
            raise self.emit_error() from None


@dataclass(slots=True, kw_only=True)
class VLANTag(Layer):
    """A VLAN tag (IEEE 802.1Q section 9.6), from behind its own TPID on.

    Attributes:
        tpid: the EtherType that announces this tag: 0x8100, or 0x88a8 for the outer of two.
            It stands in the layer outside, which takes it from here when it is built.
        pcp: priority code point, 0 to 7.
        dei: drop eligible indicator, 0 or 1.
        vid: VLAN identifier, 0 (priority only) to 4095 (reserved).
        ethertype: as in `EthernetHeader`.
    """

    tpid: int = 0x8100
    pcp: int = 0
    dei: int = 0
    vid: int = 0
    ethertype: int | None = None

    layer: ClassVar[str] = "ethernet"
    ether_protocol: ClassVar[int | None] = 0x8100
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("pcp", 3),
        ("dei", 1),
        ("vid", 12),
        ("ethertype", 16),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "tpid": ETHERTYPES,
        "ethertype": ETHERTYPES,
    }

    @classmethod
    def parse(cls, data: bytes, *, tpid: int = 0x8100) -> tuple[Self, bytes]:
        """Reads a tag: (tag, payload), the payload as in `EthernetHeader.parse`.

        Args:
            data: from behind the TPID on.
            tpid: what announced the tag.

        Raises:
            TruncatedError: fewer than 4 bytes.
        """
        try:
            control, ethertype = _TAG.unpack_from(data)
        except struct.error:
            raise TruncatedError("ethernet", 0, 4, len(data)) from None
        self = _new(cls)
        self.tpid = tpid
        self.pcp = control >> 13
        self.dei = control >> 12 & 1
        self.vid = control & 0x0FFF
        self.ethertype = ethertype
        if 0 < ethertype <= _MAX_LENGTH:
            return self, data[4 : 4 + ethertype]
        return self, data[4:]

    def emit(self, payload: bytes = b"") -> bytes:
        return self._emit(payload, _RESERVED_ETHERTYPE)

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        return self._emit(payload, ethertype_within(inner))

    def _emit(self, payload: bytes, announced: int) -> bytes:
        ethertype = announced if self.ethertype is None else self.ethertype
        try:
            if self.tpid >> 16:
                raise EmitError("VLANTag.tpid", self.tpid, "must be 0 to 65535")
            if self.dei >> 1 or self.vid >> 12:
                raise struct.error
            return _TAG.pack(self.pcp << 13 | self.dei << 12 | self.vid, ethertype) + payload
        except (struct.error, TypeError):
            raise self.emit_error() from None
