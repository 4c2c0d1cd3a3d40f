"""Echo request and reply of both families, ping's hot path (read RFC 792, RFC 4443 section 4).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |   icmp_type   |     code      |           checksum            |
    +---------------+---------------+-------------------------------+
    |          identifier           |        sequence_number        |
    +---------------+---------------+-------------------------------+
    |                      data, which a reply returns ...          |

It stands apart from the other messages so that who only sends echoes need not
load them, and keeps its own `parse` and `emit` because they are called once a
packet. What the data holds is the sender's business.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.checksum import internet_checksum, pseudo_header_sum
from rawproto.wire.icmp_message import FIRST_WORD, ICMPMessage, ICMPv6Message

__all__ = ["ICMPEcho", "ICMPv6Echo", "peek_echo"]

_ECHO = struct.Struct("!BBHHH")
_WORDS = struct.Struct("!HH")

_REPLY, _REQUEST = 0, 8
_REPLY_V6, _REQUEST_V6 = 129, 128
_ALL = frozenset({_REPLY, _REQUEST, _REPLY_V6, _REQUEST_V6})

_new = object.__new__


@dataclass(slots=True, kw_only=True)
class ICMPEcho(ICMPMessage):
    """Echo request (8) and reply (0); the payload is the data.

    Attributes:
        icmp_type: 8 or 0.
        code: 0.
        checksum: None computes.
        identifier: 16 bits, to tell one process's echoes from another's.
        sequence_number: 16 bits.
    """

    icmp_type: int = _REQUEST
    identifier: int = 0
    sequence_number: int = 0

    icmp_types: ClassVar[frozenset[int]] = frozenset({_REPLY, _REQUEST})
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *FIRST_WORD,
        ("identifier", 16),
        ("sequence_number", 16),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {_REPLY: "echo-reply", _REQUEST: "echo-request"}
    }

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        try:
            icmp_type, code, checksum, identifier, sequence_number = _ECHO.unpack_from(data)
        except struct.error:
            raise TruncatedError("icmp", 0, 8, len(data)) from None
        if icmp_type != _REPLY and icmp_type != _REQUEST:
            raise MalformedError("icmp", 0, f"type {icmp_type} is no ICMPEcho")
        self = _new(cls)
        self.icmp_type = icmp_type
        self.code = code
        self.checksum = checksum
        self.identifier = identifier
        self.sequence_number = sequence_number
        return self, data[8:]

    def emit(self, payload: bytes = b"") -> bytes:
        icmp_type, code, checksum = self.icmp_type, self.code, self.checksum
        identifier, sequence_number = self.identifier, self.sequence_number
        try:
            if checksum is None:
                # The header's words are added as numbers: no bytes are joined only to be summed.
                words = (icmp_type << 8) + code + identifier + sequence_number
                checksum = internet_checksum(payload, words)
            return _ECHO.pack(icmp_type, code, checksum, identifier, sequence_number) + payload
        except (struct.error, TypeError):
            raise self.emit_error() from None


@dataclass(slots=True, kw_only=True)
class ICMPv6Echo(ICMPv6Message):
    """Echo request (128) and reply (129); the payload is the data.

    Attributes:
        icmp_type: 128 or 129.
        code: 0.
        checksum: None computes.
        identifier: 16 bits, to tell one process's echoes from another's.
        sequence_number: 16 bits.
    """

    icmp_type: int = _REQUEST_V6
    identifier: int = 0
    sequence_number: int = 0

    icmp_types: ClassVar[frozenset[int]] = frozenset({_REQUEST_V6, _REPLY_V6})
    layout: ClassVar[tuple[tuple[str, int], ...]] = ICMPEcho.layout
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {_REQUEST_V6: "echo-request", _REPLY_V6: "echo-reply"}
    }

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        try:
            icmp_type, code, checksum, identifier, sequence_number = _ECHO.unpack_from(data)
        except struct.error:
            raise TruncatedError("icmpv6", 0, 8, len(data)) from None
        if icmp_type != _REQUEST_V6 and icmp_type != _REPLY_V6:
            raise MalformedError("icmpv6", 0, f"type {icmp_type} is no ICMPv6Echo")
        self = _new(cls)
        self.icmp_type = icmp_type
        self.code = code
        self.checksum = checksum
        self.identifier = identifier
        self.sequence_number = sequence_number
        return self, data[8:]

    def emit(
        self, payload: bytes = b"", *, src_addr: str | None = None, dst_addr: str | None = None
    ) -> bytes:
        icmp_type, code, checksum = self.icmp_type, self.code, self.checksum
        identifier, sequence_number = self.identifier, self.sequence_number
        try:
            if checksum is None:
                if src_addr is None or dst_addr is None:
                    raise EmitError("ICMPv6Echo.checksum", None, "needs an IPv6 header's addresses")
                words = (icmp_type << 8) + code + identifier + sequence_number
                words += pseudo_header_sum(src_addr, dst_addr, 58, 8 + len(payload))
                checksum = internet_checksum(payload, words)
            return _ECHO.pack(icmp_type, code, checksum, identifier, sequence_number) + payload
        except (struct.error, TypeError):
            raise self.emit_error() from None


def peek_echo(data: bytes | memoryview) -> tuple[int, int, int] | None:
    """(icmp_type, identifier, sequence_number) of an echo of either family, else None.

    The types of the two families differ, so who knows his family compares the type.
    """
    if len(data) < 8 or data[0] not in _ALL:
        return None
    identifier, sequence_number = _WORDS.unpack_from(data, 4)
    return data[0], identifier, sequence_number
