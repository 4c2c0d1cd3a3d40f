"""IPv4 headers and their options (read RFC 791 first; RFC 2113, RFC 2474, RFC 3168).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------+-------+-----------+---+-------------------------------+
    |version|  ihl  |   dscp    |ecn|         total_length          |
    +-------+-------+-----------+---+-----+-------------------------+
    |        identification         |flags|     fragment_offset     |
    +---------------+---------------+-----+-------------------------+
    |      ttl      |   protocol    |           checksum            |
    +---------------+---------------+-------------------------------+
    |                           src_addr                            |
    +---------------------------------------------------------------+
    |                           dst_addr                            |
    +---------------------------------------------------------------+
    |                options, padded to 32 bits ...                 |
    +---------------------------------------------------------------+

It knows neither what it carries nor how fragments are put together; its options
are read and laid out by `ipv4_options`, which is loaded with the first of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from socket import AF_INET, inet_pton
from typing import TYPE_CHECKING, ClassVar, Self

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.address import pack_ipv4, unpack_ipv4
from rawproto.wire.checksum import internet_checksum
from rawproto.wire.layer import Layer

if TYPE_CHECKING:
    from rawproto.wire.ipv4_options import IPv4Option

__all__ = ["DF", "MF", "IPv4Header"]

MF = 0b001
"""Flag: more fragments follow."""
DF = 0b010
"""Flag: don't fragment."""

_HEADER = struct.Struct("!BBHHHBBH4s4s")
_RESERVED_PROTOCOL = 255

_new = object.__new__


@dataclass(slots=True, kw_only=True)
class IPv4Header(Layer):
    """An IPv4 header (RFC 791).

    Attributes:
        version: 4.
        ihl: header length in 32-bit words; None computes.
        dscp: 6 bits (RFC 2474).
        ecn: 2 bits (RFC 3168): 0 not capable, 1 ECT(1), 2 ECT(0), 3 CE.
        total_length: header and payload, in bytes; None computes.
        identification: 16 bits; the kernel replaces 0 on raw sockets.
        flags: `DF`, `MF`, and 0b100, which is reserved.
        fragment_offset: in units of 8 bytes.
        ttl: 0 to 255.
        protocol: None takes that of the layer inside, 255 (reserved) where it has none.
        checksum: of the header; None computes.
        src_addr: `0.0.0.0` is what the sending side fills in.
        dst_addr: nobody fills it in.
        options: in order.
    """

    version: int = 4
    ihl: int | None = None
    dscp: int = 0
    ecn: int = 0
    total_length: int | None = None
    identification: int = 0
    flags: int = 0
    fragment_offset: int = 0
    ttl: int = 64
    protocol: int | None = None
    checksum: int | None = None
    src_addr: str = "0.0.0.0"
    dst_addr: str = "0.0.0.0"
    options: tuple[IPv4Option, ...] = ()

    layer: ClassVar[str] = "ipv4"
    ether_protocol: ClassVar[int | None] = 0x0800
    ip_protocol: ClassVar[int | None] = 4
    computed: ClassVar[tuple[str, ...]] = ("ihl", "total_length", "checksum")
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("version", 4),
        ("ihl", 4),
        ("dscp", 6),
        ("ecn", 2),
        ("total_length", 16),
        ("identification", 16),
        ("flags", 3),
        ("fragment_offset", 13),
        ("ttl", 8),
        ("protocol", 8),
        ("checksum", 16),
        ("src_addr", 32),
        ("dst_addr", 32),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "protocol": {
            0: "hop-by-hop",
            1: "icmp",
            2: "igmp",
            4: "ipv4",
            6: "tcp",
            17: "udp",
            41: "ipv6",
            43: "routing",
            44: "fragment",
            47: "gre",
            50: "esp",
            51: "ah",
            58: "icmpv6",
            59: "no-next-header",
            60: "destination-options",
            132: "sctp",
            253: "rpt",
        },
        "ecn": {0: "not-ECT", 1: "ECT(1)", 2: "ECT(0)", 3: "CE"},
    }
    flag_names: ClassVar[dict[str, dict[int, str]]] = {"flags": {4: "RF", 2: "DF", 1: "MF"}}

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a header: (header, payload).

        The payload ends where `total_length` says, or where the bytes do if that is
        earlier (a capture cut short) or `total_length` is 0 (left to the device).

        Raises:
            TruncatedError: fewer bytes than the header has.
            MalformedError: another version, or lengths below the header's own.
        """
        try:
            first, tos, total, ident, fragment, ttl, protocol, checksum, src, dst = (
                _HEADER.unpack_from(data)
            )
        except struct.error:
            raise TruncatedError("ipv4", 0, 20, len(data)) from None
        self = _new(cls)
        if first == 0x45:
            end = 20
            self.options = ()
        else:
            end = (first & 0x0F) * 4
            if first >> 4 != 4:
                raise MalformedError("ipv4", 0, f"version {first >> 4}")
            if end < 20:
                raise MalformedError("ipv4", 0, f"ihl {first & 0x0F} is below 5")
            if len(data) < end:
                raise TruncatedError("ipv4", 20, end - 20, len(data) - 20)
            from rawproto.wire.ipv4_options import parse_options

            self.options = parse_options(data[20:end])
        if total < end and total:
            raise MalformedError("ipv4", 2, f"total_length {total} is below the header's {end}")
        # Slots are set one by one because a keyword call costs five times as much.
        self.version = 4
        self.ihl = end >> 2
        self.dscp = tos >> 2
        self.ecn = tos & 3
        self.total_length = total
        self.identification = ident
        self.flags = fragment >> 13
        self.fragment_offset = fragment & 0x1FFF
        self.ttl = ttl
        self.protocol = protocol
        self.checksum = checksum
        self.src_addr = unpack_ipv4(src)
        self.dst_addr = unpack_ipv4(dst)
        return self, data[end : total or None]

    def emit(self, payload: bytes = b"") -> bytes:
        return self._emit(payload, self.protocol)

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        protocol = self.protocol
        if protocol is None and inner is not None:
            protocol = inner.ip_protocol
        return self._emit(payload, protocol)

    def _emit(self, payload: bytes, protocol: int | None) -> bytes:
        options = b""
        if self.options:
            from rawproto.wire.ipv4_options import emit_options

            options = emit_options(self.options)
        ihl = self.ihl
        if ihl is None:
            ihl = 5 + (len(options) >> 2)
        total = self.total_length
        if total is None:
            total = 20 + len(options) + len(payload)
        ecn, fragment_offset = self.ecn, self.fragment_offset
        try:
            if ecn >> 2 or fragment_offset >> 13 or ihl >> 4:
                raise struct.error
            header = _HEADER.pack(
                self.version << 4 | ihl,
                self.dscp << 2 | ecn,
                total,
                self.identification,
                self.flags << 13 | fragment_offset,
                self.ttl,
                _RESERVED_PROTOCOL if protocol is None else protocol,
                self.checksum or 0,
                inet_pton(AF_INET, self.src_addr),
                inet_pton(AF_INET, self.dst_addr),
            )
        except (struct.error, OSError, ValueError, TypeError):
            raise self._error(ihl, total) from None
        if options:
            header += options
        if self.checksum is None:
            size = len(header)
            number = int.from_bytes(header, "big")
            checksum = 0xFFFF - (number % 0xFFFF or 0xFFFF)
            header = (number | checksum << (size - 12) * 8).to_bytes(size, "big")
        return header + payload

    def _error(self, ihl: int, total: int) -> EmitError:
        pack_ipv4(self.src_addr)
        pack_ipv4(self.dst_addr)
        if self.ihl is None and ihl > 15:
            return EmitError("IPv4Header.options", self.options, "more than 40 bytes of options")
        if self.total_length is None and total > 0xFFFF:
            return EmitError("IPv4Header.total_length", total, "more than 65535 bytes")
        return self.emit_error()

    def addresses_within(
        self, src_addr: str | None, dst_addr: str | None
    ) -> tuple[str | None, str | None]:
        if self.options:
            from rawproto.wire.ipv4_options import final_addr

            return self.src_addr, final_addr(self.options) or self.dst_addr
        return self.src_addr, self.dst_addr

    @staticmethod
    def verify(data: bytes) -> bool:
        """Whether the header at the front of `data` carries the right checksum (RFC 791).

        Raises:
            TruncatedError: the header is not all there.
        """
        end = (data[0] & 0x0F) * 4 if data else 20
        if len(data) < max(end, 20):
            raise TruncatedError("ipv4", 0, max(end, 20), len(data))
        return internet_checksum(data[:end]) == 0
