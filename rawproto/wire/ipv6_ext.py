"""IPv6 extension headers (read RFC 8200 section 4 first; RFC 8754 for segment routing).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |  next_header  |  hdr_ext_len  |  options ...                  |  hop-by-hop (0),
    +---------------+---------------+-------------------------------+  destination (60)

    +---------------+---------------+---------------+---------------+
    |  next_header  |  hdr_ext_len  | routing_type  | segments_left |  routing (43)
    +---------------+---------------+---------------+---------------+
    |                   reserved, by routing_type                   |
    +---------------------------------------------------------------+
    |                         addresses ...                         |
    +---------------------------------------------------------------+

    +---------------+---------------+-------------------------+-----+
    |  next_header  |   reserved    |     fragment_offset     |flags|  fragment (44)
    +---------------+---------------+-------------------------+-----+
    |                        identification                         |
    +---------------------------------------------------------------+

`hdr_ext_len` counts units of 8 bytes beyond the first 8, so every header but
the fragment's is up to 2048 bytes long. A routing header with segments left moves
the final destination, which is what checksums cover (RFC 8200 section 8.1), out of
the IPv6 header: `addresses_within` answers it.

It knows neither the order in which the headers should stand, nor authentication
and encryption, nor how fragments are put together.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from socket import AF_INET6, inet_ntop
from typing import ClassVar, Self

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.address import pack_ipv6
from rawproto.wire.ipv6 import IP_PROTOCOLS, next_header_within
from rawproto.wire.ipv6_options import IPv6Option, emit_options, parse_options
from rawproto.wire.layer import Layer

__all__ = [
    "MF",
    "DestinationOptions",
    "ExtensionHeader",
    "FragmentHeader",
    "HopByHopOptions",
    "RoutingHeader",
    "SegmentRoutingHeader",
    "UnknownRoutingHeader",
    "parse_routing",
]

MF = 0b001
"""Flag of the fragment header: more fragments follow (the RFC's M)."""

_FRAGMENT = struct.Struct("!BBHI")
_SEGMENT_ROUTING = 4

_ROUTING_TYPES: dict[int, str] = {
    0: "source-route",
    1: "nimrod",
    2: "mobile-ipv6",
    3: "rpl",
    4: "segment-routing",
    5: "crh-16",
    6: "crh-32",
    253: "experiment-1",
    254: "experiment-2",
}

_new = object.__new__


@dataclass(slots=True, kw_only=True)
class ExtensionHeader(Layer):
    """What the headers with a length share (RFC 8200 section 4): the first two bytes.

    Attributes:
        next_header: as in `IPv6Header`.
        hdr_ext_len: units of 8 bytes beyond the first 8; None computes.
    """

    next_header: int | None = None
    hdr_ext_len: int | None = None

    layer: ClassVar[str] = "ipv6_ext"
    computed: ClassVar[tuple[str, ...]] = ("hdr_ext_len",)
    layout: ClassVar[tuple[tuple[str, int], ...]] = (("next_header", 8), ("hdr_ext_len", 8))
    value_names: ClassVar[dict[str, dict[int, str]]] = {"next_header": IP_PROTOCOLS}

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads one header off the front: (header, payload).

        Raises:
            TruncatedError: fewer bytes than its length says.
            MalformedError: what it holds contradicts the length.
        """
        size = len(data)
        end = (data[1] + 1) * 8 if size > 1 else 8
        if size < end:
            raise TruncatedError("ipv6_ext", 0, end, size)
        self = _new(cls)
        self.next_header = data[0]
        self.hdr_ext_len = data[1]
        self._read(data[2:end])
        return self, data[end:]

    def emit(self, payload: bytes = b"") -> bytes:
        return self.emit_within(payload, None, None, None)

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        next_header = self.next_header
        if next_header is None:
            next_header = next_header_within(payload, inner)
        body = self._body()
        length = self.hdr_ext_len
        if length is None:
            length = (len(body) - 6) // 8
            if length > 0xFF:
                raise EmitError(type(self).__name__, self, "more than 2048 bytes")
        try:
            return bytes((next_header, length)) + body + payload
        except (ValueError, TypeError):
            raise self.emit_error() from None

    def _read(self, body: bytes) -> None:
        """Fills the fields of the subclass from what stands behind the length."""
        raise NotImplementedError

    def _body(self) -> bytes:
        """What stands behind the length: a multiple of 8 bytes, less 2."""
        raise NotImplementedError


@dataclass(slots=True, kw_only=True)
class HopByHopOptions(ExtensionHeader):
    """Hop-by-hop options (RFC 8200 section 4.3), read by every router on the way.

    Attributes:
        options: in order, padding included; emitting pads what is not yet a multiple of 8.
    """

    options: tuple[IPv6Option, ...] = ()

    ip_protocol: ClassVar[int | None] = 0

    def _read(self, body: bytes) -> None:
        self.options = parse_options(body)

    def _body(self) -> bytes:
        return emit_options(self.options)


@dataclass(slots=True, kw_only=True)
class DestinationOptions(ExtensionHeader):
    """Destination options (RFC 8200 section 4.6), read where the packet is going.

    Attributes:
        options: as in `HopByHopOptions`.
    """

    options: tuple[IPv6Option, ...] = ()

    ip_protocol: ClassVar[int | None] = 60

    def _read(self, body: bytes) -> None:
        self.options = parse_options(body)

    def _body(self) -> bytes:
        return emit_options(self.options)


@dataclass(slots=True, kw_only=True)
class RoutingHeader(ExtensionHeader):
    """A routing header that lists addresses: type 0 (RFC 2460, deprecated by 5095), 2 (RFC 6275).

    Attributes:
        routing_type: 0 or 2.
        segments_left: addresses still to be visited; None is all of them.
        reserved: 32 bits, 0.
        addresses: in the order of the visit, the final destination last.
    """

    routing_type: int = 0
    segments_left: int | None = None
    reserved: int = 0
    addresses: tuple[str, ...] = ()

    ip_protocol: ClassVar[int | None] = 43
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *ExtensionHeader.layout,
        ("routing_type", 8),
        ("segments_left", 8),
        ("reserved", 32),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        **ExtensionHeader.value_names,
        "routing_type": _ROUTING_TYPES,
    }

    def _read(self, body: bytes) -> None:
        if len(body) % 16 != 6:
            raise MalformedError("ipv6_ext", 1, "hdr_ext_len holds half an address")
        self.routing_type, self.segments_left = body[0], body[1]
        self.reserved = int.from_bytes(body[2:6], "big")
        self.addresses = _unpack_addresses(body[6:])

    def _body(self) -> bytes:
        left = len(self.addresses) if self.segments_left is None else self.segments_left
        try:
            fixed = struct.pack("!BBI", self.routing_type, left, self.reserved)
        except struct.error:
            raise self.emit_error() from None
        return fixed + b"".join(map(pack_ipv6, self.addresses))

    def addresses_within(
        self, src_addr: str | None, dst_addr: str | None
    ) -> tuple[str | None, str | None]:
        if self.addresses and self.segments_left != 0:
            return src_addr, self.addresses[-1]
        return src_addr, dst_addr


@dataclass(slots=True, kw_only=True)
class SegmentRoutingHeader(ExtensionHeader):
    """A segment routing header, type 4 (RFC 8754 section 2).

    Attributes:
        routing_type: 4.
        segments_left: index of the segment that is being visited; None is the first visit.
        last_entry: index of the last element of the list; None computes.
        flags: 8 bits, none defined.
        tag: 16 bits, groups packets.
        segment_list: in the reverse order of the visit, the final destination first.
        tlvs: what stands behind the list (HMAC and padding), padded with zeros to 8 bytes.
    """

    routing_type: int = _SEGMENT_ROUTING
    segments_left: int | None = None
    last_entry: int | None = None
    flags: int = 0
    tag: int = 0
    segment_list: tuple[str, ...] = ()
    tlvs: bytes = b""

    ip_protocol: ClassVar[int | None] = 43
    computed: ClassVar[tuple[str, ...]] = ("hdr_ext_len", "last_entry")
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *ExtensionHeader.layout,
        ("routing_type", 8),
        ("segments_left", 8),
        ("last_entry", 8),
        ("flags", 8),
        ("tag", 16),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = RoutingHeader.value_names

    def _read(self, body: bytes) -> None:
        self.routing_type, self.segments_left, self.last_entry, self.flags = body[:4]
        self.tag = body[4] << 8 | body[5]
        end = 6 + 16 * (self.last_entry + 1)
        if end > len(body):
            raise MalformedError("ipv6_ext", 4, f"last_entry {self.last_entry} is not there")
        self.segment_list = _unpack_addresses(body[6:end])
        self.tlvs = body[end:]

    def _body(self) -> bytes:
        last = max(0, len(self.segment_list) - 1)
        try:
            fixed = struct.pack(
                "!BBBBH",
                self.routing_type,
                last if self.segments_left is None else self.segments_left,
                last if self.last_entry is None else self.last_entry,
                self.flags,
                self.tag,
            )
        except struct.error:
            raise self.emit_error() from None
        body = fixed + b"".join(map(pack_ipv6, self.segment_list)) + self.tlvs
        return body + bytes(-(2 + len(body)) % 8)

    def addresses_within(
        self, src_addr: str | None, dst_addr: str | None
    ) -> tuple[str | None, str | None]:
        left = len(self.segment_list) - 1 if self.segments_left is None else self.segments_left
        if self.segment_list and left:
            return src_addr, self.segment_list[0]
        return src_addr, dst_addr


@dataclass(slots=True, kw_only=True)
class UnknownRoutingHeader(ExtensionHeader):
    """A routing header of another type, or one whose contents contradict its type.

    Attributes:
        routing_type: 0 to 255.
        segments_left: 0 to 255.
        data: what stands behind them, padded with zeros to a multiple of 8 bytes less 4.
    """

    routing_type: int = 253
    segments_left: int = 0
    data: bytes = bytes(4)

    ip_protocol: ClassVar[int | None] = 43
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *ExtensionHeader.layout,
        ("routing_type", 8),
        ("segments_left", 8),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = RoutingHeader.value_names

    def _read(self, body: bytes) -> None:
        self.routing_type, self.segments_left, self.data = body[0], body[1], body[2:]

    def _body(self) -> bytes:
        try:
            body = bytes((self.routing_type, self.segments_left)) + self.data
        except (ValueError, TypeError):
            raise self.emit_error() from None
        return body + bytes(-(2 + len(body)) % 8)


def _unpack_addresses(data: bytes) -> tuple[str, ...]:
    return tuple(inet_ntop(AF_INET6, data[at : at + 16]) for at in range(0, len(data), 16))


def parse_routing(
    data: bytes,
) -> tuple[RoutingHeader | SegmentRoutingHeader | UnknownRoutingHeader, bytes]:
    """Reads a routing header of whatever type: (header, payload).

    One that contradicts its type comes as `UnknownRoutingHeader`, with all its bytes.

    Raises:
        TruncatedError: fewer bytes than its length says.
    """
    routing_type = data[2] if len(data) > 2 else -1
    try:
        if routing_type == _SEGMENT_ROUTING:
            return SegmentRoutingHeader.parse(data)
        if routing_type in (0, 2):
            return RoutingHeader.parse(data)
    except MalformedError:
        pass
    return UnknownRoutingHeader.parse(data)


@dataclass(slots=True, kw_only=True)
class FragmentHeader(Layer):
    """A fragment header (RFC 8200 section 4.5).

    Attributes:
        next_header: as in `IPv6Header`; of the fragmentable part, in every fragment.
        reserved: 8 bits, 0.
        fragment_offset: in units of 8 bytes, from where the fragmentable part begins.
        flags: `MF`, and two reserved bits above it.
        identification: 32 bits.
    """

    next_header: int | None = None
    reserved: int = 0
    fragment_offset: int = 0
    flags: int = 0
    identification: int = 0

    layer: ClassVar[str] = "ipv6_ext"
    ip_protocol: ClassVar[int | None] = 44
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("next_header", 8),
        ("reserved", 8),
        ("fragment_offset", 13),
        ("flags", 3),
        ("identification", 32),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {"next_header": IP_PROTOCOLS}
    flag_names: ClassVar[dict[str, dict[int, str]]] = {"flags": {1: "MF"}}

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a header: (header, payload, which only the first fragment begins a layer with).

        Raises:
            TruncatedError: fewer than 8 bytes.
        """
        self = _new(cls)
        try:
            self.next_header, self.reserved, fragment, self.identification = _FRAGMENT.unpack_from(
                data
            )
        except struct.error:
            raise TruncatedError("ipv6_ext", 0, 8, len(data)) from None
        self.fragment_offset = fragment >> 3
        self.flags = fragment & 7
        return self, data[8:]

    def emit(self, payload: bytes = b"") -> bytes:
        return self.emit_within(payload, None, None, None)

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        next_header = self.next_header
        if next_header is None:
            next_header = next_header_within(payload, inner)
        try:
            if self.flags >> 3:
                raise struct.error
            return (
                _FRAGMENT.pack(
                    next_header,
                    self.reserved,
                    self.fragment_offset << 3 | self.flags,
                    self.identification,
                )
                + payload
            )
        except (struct.error, TypeError):
            raise self.emit_error() from None
