"""UDP (read RFC 768; RFC 8200 section 8.1 for its checksum over IPv6).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------------------------------+-------------------------------+
    |           src_port            |           dst_port            |
    +-------------------------------+-------------------------------+
    |            length             |           checksum            |
    +-------------------------------+-------------------------------+

It knows no ports by name and nothing of what it carries.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.checksum import internet_checksum, ones_complement_sum, pseudo_header_sum
from rawproto.wire.layer import Layer

__all__ = ["UDPHeader"]

_HEADER = struct.Struct("!HHHH")
_PROTOCOL = 17

_new = object.__new__


@dataclass(slots=True, kw_only=True)
class UDPHeader(Layer):
    """A UDP header (RFC 768).

    Attributes:
        src_port: 0 to 65535, 0 where no reply is wanted.
        dst_port: 0 to 65535.
        length: header and data, in bytes; None computes.
        checksum: None computes (a sum of 0 is sent as 0xFFFF); 0 says there is none.
    """

    src_port: int = 0
    dst_port: int = 0
    length: int | None = None
    checksum: int | None = None

    layer: ClassVar[str] = "udp"
    ip_protocol: ClassVar[int | None] = _PROTOCOL
    computed: ClassVar[tuple[str, ...]] = ("length", "checksum")
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("src_port", 16),
        ("dst_port", 16),
        ("length", 16),
        ("checksum", 16),
    )

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a header: (header, payload).

        The payload ends where `length` says, or where the bytes do if that is
        earlier or `length` is 0 (a jumbogram, RFC 2675 section 4).

        Raises:
            TruncatedError: fewer than 8 bytes.
            MalformedError: a length of 1 to 7.
        """
        try:
            src_port, dst_port, length, checksum = _HEADER.unpack_from(data)
        except struct.error:
            raise TruncatedError("udp", 0, 8, len(data)) from None
        if length < 8 and length:
            raise MalformedError("udp", 4, f"length {length} is below 8")
        self = _new(cls)
        self.src_port = src_port
        self.dst_port = dst_port
        self.length = length
        self.checksum = checksum
        return self, data[8 : length or None]

    def emit(
        self, payload: bytes = b"", *, src_addr: str | None = None, dst_addr: str | None = None
    ) -> bytes:
        """The datagram's bytes.

        Args:
            payload: the data.
            src_addr: for the checksum, needed unless `checksum` is given.
            dst_addr: likewise.

        Raises:
            EmitError: a field does not fit, or the addresses are missing.
        """
        length = self.length
        if length is None:
            length = 8 + len(payload)
        checksum = self.checksum
        src_port, dst_port = self.src_port, self.dst_port
        try:
            if checksum is None:
                if src_addr is None or dst_addr is None:
                    raise EmitError("UDPHeader.checksum", None, "needs an IP header's addresses")
                # The header's words are added as numbers: no bytes are joined only to be summed.
                words = pseudo_header_sum(src_addr, dst_addr, _PROTOCOL, 8 + len(payload))
                checksum = internet_checksum(payload, words + src_port + dst_port + length)
                checksum = checksum or 0xFFFF
            return _HEADER.pack(src_port, dst_port, length, checksum) + payload
        except (struct.error, TypeError):
            if self.length is None and length > 0xFFFF:
                raise EmitError("UDPHeader.length", length, "more than 65535 bytes") from None
            raise self.emit_error() from None

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        return self.emit(payload, src_addr=src_addr, dst_addr=dst_addr)

    @staticmethod
    def verify(data: bytes, *, src_addr: str, dst_addr: str) -> bool | None:
        """Whether a datagram's checksum is right; None where it carries none (IPv4 only).

        Args:
            data: the datagram from its header on, not cut short.
            src_addr: of the IP header.
            dst_addr: of the IP header.

        Raises:
            TruncatedError: fewer than 8 bytes.
        """
        if len(data) < 8:
            raise TruncatedError("udp", 0, 8, len(data))
        if data[6:8] == b"\x00\x00":
            return None if ":" not in dst_addr else False
        initial = pseudo_header_sum(src_addr, dst_addr, _PROTOCOL, len(data))
        return ones_complement_sum(data, initial) == 0xFFFF
