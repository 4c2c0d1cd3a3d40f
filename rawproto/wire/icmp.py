"""ICMP for IPv4 (read RFC 792 first; RFC 1191, RFC 4884 for errors, RFC 8335 for extended echo).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |   icmp_type   |     code      |           checksum            |  all
    +---------------+---------------+-------------------------------+
    |          identifier           |        sequence_number        |  echo, timestamp
    +---------------+---------------+-------------------------------+
    |    unused     |    length     |         next_hop_mtu          |  unreachable
    +---------------+---------------+-------------------------------+
    |    unused     |    length     |          unused_low           |  time exceeded
    +---------------+---------------+-------------------------------+
    |    pointer    |    length     |            unused             |  parameter problem
    +---------------+---------------+-------------------------------+
    |                         gateway_addr                          |  redirect
    +---------------------------------------------------------------+

`parse_icmp` reads any message; types without a class of their own come as
`ICMPUnknown`, nothing lost. The checksum covers the message and nothing else.

It does not read the packet that an error quotes: `original_datagram` goes to
`ipv4`, and what follows that header is often only its first 8 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from socket import inet_ntoa
from typing import ClassVar

from rawproto.errors import TruncatedError
from rawproto.wire.address import pack_ipv4
from rawproto.wire.icmp_echo import ICMPEcho, peek_echo
from rawproto.wire.icmp_error import ExtensibleError
from rawproto.wire.icmp_extended_echo import ICMPExtendedEcho, ICMPExtendedEchoReply
from rawproto.wire.icmp_message import FIRST_WORD, ICMPMessage
from rawproto.wire.icmp_words import describe_icmp as describe

__all__ = [
    "ICMPDestinationUnreachable",
    "ICMPEcho",
    "ICMPExtendedEcho",
    "ICMPExtendedEchoReply",
    "ICMPMessage",
    "ICMPParameterProblem",
    "ICMPRedirect",
    "ICMPTimeExceeded",
    "ICMPTimestamp",
    "ICMPUnknown",
    "describe",
    "parse_icmp",
    "peek_echo",
    "peek_error",
]

_TIMESTAMP = struct.Struct("!HHIII")
_ERROR = struct.Struct("!BBH")

_ERRORS = frozenset({3, 4, 5, 11, 12})


@dataclass(slots=True, kw_only=True)
class ICMPUnknown(ICMPMessage):
    """A message of any other type: all behind its checksum is payload."""

    fixed_bytes: ClassVar[int] = 4
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {
            4: "source-quench",
            9: "router-advertisement",
            10: "router-solicitation",
            15: "information-request",
            16: "information-reply",
            17: "address-mask-request",
            18: "address-mask-reply",
        }
    }

    def _read(self, data: bytes) -> bytes:
        return data[4:]

    def _write(self, payload: bytes) -> bytes:
        return payload


@dataclass(slots=True, kw_only=True)
class ICMPTimestamp(ICMPMessage):
    """Timestamp (13) and its reply (14); times are ms since midnight UT, non-standard ones
    with the high bit set.

    Attributes:
        identifier: 16 bits.
        sequence_number: 16 bits.
        originate_timestamp: when the sender last touched the request.
        receive_timestamp: when the echoer first touched it.
        transmit_timestamp: when the echoer last touched it.
    """

    icmp_type: int = 13
    identifier: int = 0
    sequence_number: int = 0
    originate_timestamp: int = 0
    receive_timestamp: int = 0
    transmit_timestamp: int = 0

    icmp_types: ClassVar[frozenset[int]] = frozenset({13, 14})
    fixed_bytes: ClassVar[int] = 20
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *ICMPEcho.layout,
        ("originate_timestamp", 32),
        ("receive_timestamp", 32),
        ("transmit_timestamp", 32),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {13: "timestamp-request", 14: "timestamp-reply"}
    }

    def _read(self, data: bytes) -> bytes:
        (
            self.identifier,
            self.sequence_number,
            self.originate_timestamp,
            self.receive_timestamp,
            self.transmit_timestamp,
        ) = _TIMESTAMP.unpack_from(data, 4)
        return data[20:]

    def _write(self, payload: bytes) -> bytes:
        fixed = _TIMESTAMP.pack(
            self.identifier,
            self.sequence_number,
            self.originate_timestamp,
            self.receive_timestamp,
            self.transmit_timestamp,
        )
        return fixed + payload


@dataclass(slots=True, kw_only=True)
class ICMPDestinationUnreachable(ICMPMessage, ExtensibleError):
    """Destination unreachable (3).

    Attributes:
        next_hop_mtu: in bytes, with code 4, fragmentation needed (RFC 1191); else 0.
        unused: 8 bits.
    """

    icmp_type: int = 3
    next_hop_mtu: int = 0
    unused: int = 0

    icmp_types: ClassVar[frozenset[int]] = frozenset({3})
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *FIRST_WORD,
        ("unused", 8),
        ("length", 8),
        ("next_hop_mtu", 16),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {3: "destination-unreachable"},
        "code": {
            0: "network-unreachable",
            1: "host-unreachable",
            2: "protocol-unreachable",
            3: "port-unreachable",
            4: "fragmentation-needed",
            5: "source-route-failed",
            6: "network-unknown",
            7: "host-unknown",
            8: "source-host-isolated",
            9: "network-prohibited",
            10: "host-prohibited",
            11: "network-unreachable-for-tos",
            12: "host-unreachable-for-tos",
            13: "communication-prohibited",
            14: "host-precedence-violation",
            15: "precedence-cutoff",
        },
    }

    def _read(self, data: bytes) -> bytes:
        self.unused, self.length, self.next_hop_mtu = _ERROR.unpack_from(data, 4)
        self._split(data)
        return b""

    def _write(self, payload: bytes) -> bytes:
        length, original = self._join(payload)
        return _ERROR.pack(self.unused, length, self.next_hop_mtu) + original


@dataclass(slots=True, kw_only=True)
class ICMPTimeExceeded(ICMPMessage, ExtensibleError):
    """Time exceeded (11): TTL in transit (code 0) or fragment reassembly (code 1).

    Attributes:
        unused: 8 bits before the length.
        unused_low: 16 bits behind it.
    """

    icmp_type: int = 11
    unused: int = 0
    unused_low: int = 0

    icmp_types: ClassVar[frozenset[int]] = frozenset({11})
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *FIRST_WORD,
        ("unused", 8),
        ("length", 8),
        ("unused_low", 16),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {11: "time-exceeded"},
        "code": {0: "ttl-exceeded-in-transit", 1: "fragment-reassembly-time-exceeded"},
    }

    def _read(self, data: bytes) -> bytes:
        self.unused, self.length, self.unused_low = _ERROR.unpack_from(data, 4)
        self._split(data)
        return b""

    def _write(self, payload: bytes) -> bytes:
        length, original = self._join(payload)
        return _ERROR.pack(self.unused, length, self.unused_low) + original


@dataclass(slots=True, kw_only=True)
class ICMPParameterProblem(ICMPMessage, ExtensibleError):
    """Parameter problem (12).

    Attributes:
        pointer: with code 0 the byte of the original datagram that is wrong.
        unused: 16 bits.
    """

    icmp_type: int = 12
    pointer: int = 0
    unused: int = 0

    icmp_types: ClassVar[frozenset[int]] = frozenset({12})
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *FIRST_WORD,
        ("pointer", 8),
        ("length", 8),
        ("unused", 16),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {12: "parameter-problem"},
        "code": {0: "pointer-indicates-error", 1: "missing-option", 2: "bad-length"},
    }

    def _read(self, data: bytes) -> bytes:
        self.pointer, self.length, self.unused = _ERROR.unpack_from(data, 4)
        self._split(data)
        return b""

    def _write(self, payload: bytes) -> bytes:
        length, original = self._join(payload)
        return _ERROR.pack(self.pointer, length, self.unused) + original


@dataclass(slots=True, kw_only=True)
class ICMPRedirect(ICMPMessage):
    """Redirect (5): send packets like this one to another gateway.

    Attributes:
        gateway_addr: where to.
        original_datagram: as much of the packet as came back, from its IP header on; what
            stands inside this layer in a stack joins it.
    """

    icmp_type: int = 5
    gateway_addr: str = "0.0.0.0"
    original_datagram: bytes = b""

    icmp_types: ClassVar[frozenset[int]] = frozenset({5})
    layout: ClassVar[tuple[tuple[str, int], ...]] = (*FIRST_WORD, ("gateway_addr", 32))
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {5: "redirect"},
        "code": {0: "network", 1: "host", 2: "tos-and-network", 3: "tos-and-host"},
    }

    def _read(self, data: bytes) -> bytes:
        self.gateway_addr = inet_ntoa(data[4:8])
        self.original_datagram = data[8:]
        return b""

    def _write(self, payload: bytes) -> bytes:
        return pack_ipv4(self.gateway_addr) + self.original_datagram + payload


_CLASSES: dict[int, type[ICMPMessage]] = {
    icmp_type: kind
    for kind in (
        ICMPEcho,
        ICMPTimestamp,
        ICMPDestinationUnreachable,
        ICMPTimeExceeded,
        ICMPParameterProblem,
        ICMPRedirect,
        ICMPExtendedEcho,
        ICMPExtendedEchoReply,
    )
    for icmp_type in kind.icmp_types
}


def parse_icmp(data: bytes) -> tuple[ICMPMessage, bytes]:
    """Reads a message of any type: (message, payload).

    Raises:
        TruncatedError: fewer bytes than the type's fixed part has.
    """
    if not data:
        raise TruncatedError("icmp", 0, 4, 0)
    return _CLASSES.get(data[0], ICMPUnknown).parse(data)


def peek_error(data: bytes | memoryview) -> tuple[int, int] | None:
    """(icmp_type, code) of an error, whose original datagram begins at byte 8; else None."""
    if len(data) < 8 or data[0] not in _ERRORS:
        return None
    return data[0], data[1]
