"""IPv6 headers (read RFC 8200 first; RFC 2474 and RFC 3168 for the traffic class, RFC 6437).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------+---------------+---------------------------------------+
    |version| traffic_class |              flow_label               |
    +-------+---------------+-------+---------------+---------------+
    |        payload_length         |  next_header  |   hop_limit   |
    +-------------------------------+---------------+---------------+
    |                                                               |
    +                           src_addr                            +
    |                                                               |
    +                                                               +
    |                                                               |
    +                                                               +
    |                                                               |
    +---------------------------------------------------------------+
    |                                                               |
    +                           dst_addr                            +
    |                                                               |
    +                                                               +
    |                                                               |
    +                                                               +
    |                                                               |
    +---------------------------------------------------------------+

It knows no extension header (see `ipv6_ext`) and no scope: `fe80::1%eth0` is an
address and an interface, and only the address is on the wire.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from socket import AF_INET6, inet_pton
from typing import ClassVar, Self

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.address import pack_ipv6, unpack_ipv6
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.layer import Layer

__all__ = ["IP_PROTOCOLS", "IPv6Header", "next_header_within"]

IP_PROTOCOLS = IPv4Header.value_names["protocol"]
"""IP protocols and IPv6 next headers by name: one registry."""

_HEADER = struct.Struct("!IHBB16s16s")
_NO_NEXT_HEADER = 59
_RESERVED_PROTOCOL = 255

_new = object.__new__


def next_header_within(payload: bytes, inner: Layer | None) -> int:
    """What announces `payload`: 59 for nothing at all, 255 (reserved) for plain bytes.

    A receiver must pass over whatever stands behind 59 (RFC 8200 section 4.7), so
    bytes that are there to be seen get a number that says so.
    """
    if inner is not None and inner.ip_protocol is not None:
        return inner.ip_protocol
    return _RESERVED_PROTOCOL if payload else _NO_NEXT_HEADER


@dataclass(slots=True, kw_only=True)
class IPv6Header(Layer):
    """An IPv6 header (RFC 8200 section 3).

    Attributes:
        version: 6.
        traffic_class: 8 bits: `dscp` and `ecn`.
        flow_label: 20 bits (RFC 6437).
        payload_length: bytes behind this header, extension headers included; None
            computes, 0 with a payload is a jumbogram's (RFC 2675).
        next_header: None takes that of the layer inside, 59 where there is nothing and
            255 (reserved) where there are plain bytes.
        hop_limit: 0 to 255.
        src_addr: without scope.
        dst_addr: without scope.
    """

    version: int = 6
    traffic_class: int = 0
    flow_label: int = 0
    payload_length: int | None = None
    next_header: int | None = None
    hop_limit: int = 64
    src_addr: str = "::"
    dst_addr: str = "::"

    layer: ClassVar[str] = "ipv6"
    ether_protocol: ClassVar[int | None] = 0x86DD
    ip_protocol: ClassVar[int | None] = 41
    computed: ClassVar[tuple[str, ...]] = ("payload_length",)
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("version", 4),
        ("traffic_class", 8),
        ("flow_label", 20),
        ("payload_length", 16),
        ("next_header", 8),
        ("hop_limit", 8),
        ("src_addr", 128),
        ("dst_addr", 128),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {"next_header": IP_PROTOCOLS}

    @property
    def dscp(self) -> int:
        """The upper 6 bits of the traffic class (RFC 2474)."""
        return self.traffic_class >> 2

    @property
    def ecn(self) -> int:
        """The lower 2 bits of the traffic class (RFC 3168)."""
        return self.traffic_class & 3

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a header: (header, payload).

        The payload ends where `payload_length` says, or where the bytes do if that is
        earlier (a capture cut short) or the length is 0 (a jumbogram, or left to the device).

        Raises:
            TruncatedError: fewer than 40 bytes.
            MalformedError: another version.
        """
        try:
            first, length, next_header, hop_limit, src, dst = _HEADER.unpack_from(data)
        except struct.error:
            raise TruncatedError("ipv6", 0, 40, len(data)) from None
        if first >> 28 != 6:
            raise MalformedError("ipv6", 0, f"version {first >> 28}")
        self = _new(cls)
        self.version = 6
        self.traffic_class = first >> 20 & 0xFF
        self.flow_label = first & 0xFFFFF
        self.payload_length = length
        self.next_header = next_header
        self.hop_limit = hop_limit
        self.src_addr = unpack_ipv6(src)
        self.dst_addr = unpack_ipv6(dst)
        return self, data[40 : 40 + length if length else None]

    def emit(self, payload: bytes = b"") -> bytes:
        return self.emit_within(payload, None, None, None)

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        length = self.payload_length
        if length is None:
            length = len(payload)
        next_header = self.next_header
        if next_header is None:
            next_header = next_header_within(payload, inner)
        traffic_class, flow_label = self.traffic_class, self.flow_label
        try:
            if traffic_class >> 8 or flow_label >> 20:
                raise struct.error
            return (
                _HEADER.pack(
                    self.version << 28 | traffic_class << 20 | flow_label,
                    length,
                    next_header,
                    self.hop_limit,
                    inet_pton(AF_INET6, self.src_addr),
                    inet_pton(AF_INET6, self.dst_addr),
                )
                + payload
            )
        except (struct.error, OSError, ValueError, TypeError):
            raise self._error(length) from None

    def _error(self, length: int) -> EmitError:
        pack_ipv6(self.src_addr)
        pack_ipv6(self.dst_addr)
        if self.payload_length is None and length > 0xFFFF:
            reason = "more than 65535 bytes; a jumbogram has payload_length=0 (RFC 2675)"
            return EmitError("IPv6Header.payload_length", length, reason)
        return self.emit_error()

    def addresses_within(
        self, src_addr: str | None, dst_addr: str | None
    ) -> tuple[str | None, str | None]:
        return self.src_addr, self.dst_addr
