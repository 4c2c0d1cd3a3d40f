"""TCP headers (read RFC 9293 section 3.1 first; RFC 3168 for ECN, RFC 9768 for AE).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------------------------------+-------------------------------+
    |           src_port            |           dst_port            |
    +-------------------------------+-------------------------------+
    |                        sequence_number                        |
    +---------------------------------------------------------------+
    |                     acknowledgment_number                     |
    +-------+-----+-----------------+-------------------------------+
    | data_ |reser|A|C|E|U|A|P|R|S|F|                               |
    |offset | ved |E|W|C|R|C|S|S|Y|I|            window             |
    |       |     | |R|E|G|K|H|T|N|N|                               |
    +-------+-----+-----------------+-------------------------------+
    |           checksum            |        urgent_pointer         |
    +-------------------------------+-------------------------------+
    |                options, padded to 32 bits ...                 |
    +---------------------------------------------------------------+

It knows no connection, no window scale but the option's, and nothing of what it
carries. The options are in `tcp_options`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.checksum import internet_checksum, ones_complement_sum, pseudo_header_sum
from rawproto.wire.layer import Layer
from rawproto.wire.tcp_options import TCPOption, emit_options, parse_options

__all__ = ["ACK", "AE", "CWR", "ECE", "FIN", "PSH", "RST", "SYN", "URG", "TCPHeader"]

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR, AE = (1 << bit for bit in range(9))
"""The control bits; AE was called NS in RFC 3540."""

_HEADER = struct.Struct("!HHIIHHHH")
_PROTOCOL = 6

_new = object.__new__


@dataclass(slots=True, kw_only=True)
class TCPHeader(Layer):
    """A TCP header (RFC 9293).

    Attributes:
        src_port: 0 to 65535.
        dst_port: 0 to 65535.
        sequence_number: of the first byte of data, or of the SYN.
        acknowledgment_number: the next byte wanted, where the ACK flag is set.
        data_offset: header length in 32-bit words; None computes.
        reserved: 3 bits, 0.
        flags: a sum of `FIN`, `SYN`, `RST`, `PSH`, `ACK`, `URG`, `ECE`, `CWR` and `AE`.
        window: as it stands, not scaled.
        checksum: None computes.
        urgent_pointer: where the urgent data ends, where the URG flag is set.
        options: in order.
    """

    src_port: int = 0
    dst_port: int = 0
    sequence_number: int = 0
    acknowledgment_number: int = 0
    data_offset: int | None = None
    reserved: int = 0
    flags: int = 0
    window: int = 0
    checksum: int | None = None
    urgent_pointer: int = 0
    options: tuple[TCPOption, ...] = ()

    layer: ClassVar[str] = "tcp"
    ip_protocol: ClassVar[int | None] = _PROTOCOL
    computed: ClassVar[tuple[str, ...]] = ("data_offset", "checksum")
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("src_port", 16),
        ("dst_port", 16),
        ("sequence_number", 32),
        ("acknowledgment_number", 32),
        ("data_offset", 4),
        ("reserved", 3),
        ("flags", 9),
        ("window", 16),
        ("checksum", 16),
        ("urgent_pointer", 16),
    )
    flag_names: ClassVar[dict[str, dict[int, str]]] = {
        "flags": {
            AE: "AE",
            CWR: "CWR",
            ECE: "ECE",
            URG: "URG",
            ACK: "ACK",
            PSH: "PSH",
            RST: "RST",
            SYN: "SYN",
            FIN: "FIN",
        }
    }

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a header: (header, payload).

        Raises:
            TruncatedError: fewer bytes than the header has.
            MalformedError: a data offset below 5.
        """
        self = _new(cls)
        try:
            (
                self.src_port,
                self.dst_port,
                self.sequence_number,
                self.acknowledgment_number,
                control,
                self.window,
                self.checksum,
                self.urgent_pointer,
            ) = _HEADER.unpack_from(data)
        except struct.error:
            raise TruncatedError("tcp", 0, 20, len(data)) from None
        words = control >> 12
        self.data_offset = words
        self.reserved = control >> 9 & 7
        self.flags = control & 0x1FF
        if words == 5:
            self.options = ()
            return self, data[20:]
        if words < 5:
            raise MalformedError("tcp", 12, f"data_offset {words} is below 5")
        end = words * 4
        if len(data) < end:
            raise TruncatedError("tcp", 20, end - 20, len(data) - 20)
        self.options = parse_options(data[20:end])
        return self, data[end:]

    def emit(
        self, payload: bytes = b"", *, src_addr: str | None = None, dst_addr: str | None = None
    ) -> bytes:
        """The segment's bytes.

        Args:
            payload: the data.
            src_addr: for the checksum, needed unless `checksum` is given.
            dst_addr: likewise; behind a routing header the final destination.

        Raises:
            EmitError: a field does not fit, or the addresses are missing.
        """
        options = emit_options(self.options) if self.options else b""
        words = self.data_offset
        if words is None:
            words = 5 + (len(options) >> 2)
            if words > 15:
                raise EmitError("TCPHeader.options", self.options, "more than 40 bytes of options")
        reserved, flags, checksum = self.reserved, self.flags, self.checksum
        try:
            if reserved >> 3 or flags >> 9:
                raise struct.error
            header = _HEADER.pack(
                self.src_port,
                self.dst_port,
                self.sequence_number,
                self.acknowledgment_number,
                words << 12 | reserved << 9 | flags,
                self.window,
                checksum or 0,
                self.urgent_pointer,
            )
        except (struct.error, TypeError):
            raise self.emit_error() from None
        if checksum is not None:
            return header + options + payload
        if src_addr is None or dst_addr is None:
            raise EmitError("TCPHeader.checksum", None, "needs the addresses of an IP header")
        data = header + options + payload
        checksum = internet_checksum(
            data, pseudo_header_sum(src_addr, dst_addr, _PROTOCOL, len(data))
        )
        return b"%b%b%b" % (data[:16], checksum.to_bytes(2, "big"), data[18:])

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        return self.emit(payload, src_addr=src_addr, dst_addr=dst_addr)

    @staticmethod
    def verify(data: bytes, *, src_addr: str, dst_addr: str) -> bool:
        """Whether a segment's checksum is right.

        Args:
            data: the segment from its header on, not cut short.
            src_addr: of the IP header.
            dst_addr: of the IP header; behind a routing header the final destination.

        Raises:
            TruncatedError: fewer than 20 bytes.
        """
        if len(data) < 20:
            raise TruncatedError("tcp", 0, 20, len(data))
        initial = pseudo_header_sum(src_addr, dst_addr, _PROTOCOL, len(data))
        return ones_complement_sum(data, initial) == 0xFFFF
