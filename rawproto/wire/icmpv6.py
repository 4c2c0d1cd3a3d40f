"""ICMPv6 (read RFC 4443 first; RFC 4884 for extensions, RFC 8335 for extended echo).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |   icmp_type   |     code      |           checksum            |  all
    +---------------+---------------+-------------------------------+
    |    length     |                   unused                      |  unreachable,
    +---------------+-----------------------------------------------+  time exceeded
    |                              mtu                              |  packet too big
    +---------------------------------------------------------------+
    |                            pointer                            |  parameter problem
    +---------------------------------------------------------------+

An error's original datagram follows from byte 8 on. Neighbour and router
discovery are in `ndp`; `parse_icmpv6` reads those messages too. Multicast
listener discovery and all other types come as `ICMPv6Unknown`, nothing lost.

It does not read the packet that an error quotes: `original_datagram` goes to `ipv6`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

from rawproto.errors import TruncatedError
from rawproto.wire.icmp_echo import ICMPv6Echo, peek_echo
from rawproto.wire.icmp_error import ExtensibleError
from rawproto.wire.icmp_extended_echo import ICMPv6ExtendedEcho, ICMPv6ExtendedEchoReply
from rawproto.wire.icmp_message import FIRST_WORD, ICMPv6Message
from rawproto.wire.icmp_words import describe_icmpv6 as describe
from rawproto.wire.ndp import (
    ICMPv6Redirect,
    NeighborAdvertisement,
    NeighborSolicitation,
    RouterAdvertisement,
    RouterSolicitation,
)

__all__ = [
    "ICMPv6DestinationUnreachable",
    "ICMPv6Echo",
    "ICMPv6ExtendedEcho",
    "ICMPv6ExtendedEchoReply",
    "ICMPv6Message",
    "ICMPv6PacketTooBig",
    "ICMPv6ParameterProblem",
    "ICMPv6TimeExceeded",
    "ICMPv6Unknown",
    "describe",
    "parse_icmpv6",
    "peek_echo",
    "peek_error",
]

_WORD = struct.Struct("!I")


@dataclass(slots=True, kw_only=True)
class ICMPv6Unknown(ICMPv6Message):
    """A message of any other type: all behind its checksum is payload."""

    fixed_bytes: ClassVar[int] = 4
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {
            130: "mld-query",
            131: "mld-report",
            132: "mld-done",
            143: "mldv2-report",
        }
    }

    def _read(self, data: bytes) -> bytes:
        return data[4:]

    def _write(self, payload: bytes) -> bytes:
        return payload


@dataclass(slots=True, kw_only=True, init=False, repr=False, eq=False)
class _LengthFirst(ExtensibleError):
    """An extensible error of ICMPv6: its length is the fifth byte, in units of 8.

    Attributes:
        unused: 24 bits.
    """

    unused: int = 0

    length_unit: ClassVar[int] = 8
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *FIRST_WORD,
        ("length", 8),
        ("unused", 24),
    )

    def _read(self, data: bytes) -> bytes:
        self.length = data[4]
        self.unused = int.from_bytes(data[5:8], "big")
        self._split(data)
        return b""

    def _write(self, payload: bytes) -> bytes:
        length, original = self._join(payload)
        if self.unused >> 24:
            raise struct.error
        return _WORD.pack(length << 24 | self.unused) + original


@dataclass(slots=True, kw_only=True)
class ICMPv6DestinationUnreachable(ICMPv6Message, _LengthFirst):
    """Destination unreachable (1)."""

    icmp_type: int = 1

    icmp_types: ClassVar[frozenset[int]] = frozenset({1})
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {1: "destination-unreachable"},
        "code": {
            0: "no-route",
            1: "administratively-prohibited",
            2: "beyond-scope-of-source-address",
            3: "address-unreachable",
            4: "port-unreachable",
            5: "source-address-failed-policy",
            6: "reject-route",
        },
    }


@dataclass(slots=True, kw_only=True)
class ICMPv6TimeExceeded(ICMPv6Message, _LengthFirst):
    """Time exceeded (3): hop limit in transit (code 0) or fragment reassembly (code 1)."""

    icmp_type: int = 3

    icmp_types: ClassVar[frozenset[int]] = frozenset({3})
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {3: "time-exceeded"},
        "code": {0: "hop-limit-exceeded-in-transit", 1: "fragment-reassembly-time-exceeded"},
    }


@dataclass(slots=True, kw_only=True)
class ICMPv6PacketTooBig(ICMPv6Message):
    """Packet too big (2).

    Attributes:
        mtu: of the next hop, in bytes.
        original_datagram: as much of the packet as came back, from its IP header on; what
            stands inside this layer in a stack joins it.
    """

    icmp_type: int = 2
    mtu: int = 1280
    original_datagram: bytes = b""

    icmp_types: ClassVar[frozenset[int]] = frozenset({2})
    layout: ClassVar[tuple[tuple[str, int], ...]] = (*FIRST_WORD, ("mtu", 32))
    value_names: ClassVar[dict[str, dict[int, str]]] = {"icmp_type": {2: "packet-too-big"}}

    def _read(self, data: bytes) -> bytes:
        (self.mtu,) = _WORD.unpack_from(data, 4)
        self.original_datagram = data[8:]
        return b""

    def _write(self, payload: bytes) -> bytes:
        return _WORD.pack(self.mtu) + self.original_datagram + payload


@dataclass(slots=True, kw_only=True)
class ICMPv6ParameterProblem(ICMPv6Message):
    """Parameter problem (4).

    Attributes:
        pointer: the byte of the original datagram that is wrong; may lie behind its end.
        original_datagram: as much of the packet as came back, from its IP header on; what
            stands inside this layer in a stack joins it.
    """

    icmp_type: int = 4
    pointer: int = 0
    original_datagram: bytes = b""

    icmp_types: ClassVar[frozenset[int]] = frozenset({4})
    layout: ClassVar[tuple[tuple[str, int], ...]] = (*FIRST_WORD, ("pointer", 32))
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {4: "parameter-problem"},
        "code": {
            0: "erroneous-header-field",
            1: "unrecognized-next-header",
            2: "unrecognized-option",
            3: "incomplete-header-chain",
        },
    }

    def _read(self, data: bytes) -> bytes:
        (self.pointer,) = _WORD.unpack_from(data, 4)
        self.original_datagram = data[8:]
        return b""

    def _write(self, payload: bytes) -> bytes:
        return _WORD.pack(self.pointer) + self.original_datagram + payload


_CLASSES: dict[int, type[ICMPv6Message]] = {
    icmp_type: kind
    for kind in (
        ICMPv6Echo,
        ICMPv6DestinationUnreachable,
        ICMPv6PacketTooBig,
        ICMPv6TimeExceeded,
        ICMPv6ParameterProblem,
        RouterSolicitation,
        RouterAdvertisement,
        NeighborSolicitation,
        NeighborAdvertisement,
        ICMPv6Redirect,
        ICMPv6ExtendedEcho,
        ICMPv6ExtendedEchoReply,
    )
    for icmp_type in kind.icmp_types
}


def parse_icmpv6(data: bytes) -> tuple[ICMPv6Message, bytes]:
    """Reads a message of any type: (message, payload).

    Raises:
        TruncatedError: fewer bytes than the type's fixed part has.
    """
    if not data:
        raise TruncatedError("icmpv6", 0, 4, 0)
    return _CLASSES.get(data[0], ICMPv6Unknown).parse(data)


def peek_error(data: bytes | memoryview) -> tuple[int, int] | None:
    """(icmp_type, code) of an error, whose original datagram begins at byte 8; else None.

    All types below 128 are errors (RFC 4443 section 2.1), known or not.
    """
    if len(data) < 8 or data[0] >= 128:
        return None
    return data[0], data[1]
