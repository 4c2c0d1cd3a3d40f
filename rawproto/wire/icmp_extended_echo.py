"""Extended echo, which asks a node about one of its interfaces (read RFC 8335).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |   icmp_type   |     code      |           checksum            |
    +---------------+---------------+---------------+-------------+-+
    |          identifier           |sequence_number|  reserved   |L|  request
    +-------------------------------+---------------+-----+---+-+-+-+
    |          identifier           |sequence_number|state|res|A|4|6|  reply
    +-------------------------------+---------------+-----+---+-+-+-+

Behind the request stands an extension structure (`icmp_ext`) with the interface
in question. Both messages are the same in ICMP and ICMPv6 but for their types.
"""

from __future__ import annotations

import dataclasses
import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_message import FIRST_WORD, ControlMessage, ICMPMessage, ICMPv6Message
from rawproto.wire.icmp_objects import InterfaceIdentification

__all__ = [
    "ICMPExtendedEcho",
    "ICMPExtendedEchoReply",
    "ICMPv6ExtendedEcho",
    "ICMPv6ExtendedEchoReply",
]

_EXTENDED_ECHO = struct.Struct("!HBB")


@dataclass(slots=True, kw_only=True, init=False, repr=False, eq=False)
class _Request(ControlMessage):
    """A request for the state of one interface, perhaps of a neighbour's (RFC 8335 section 2).

    Attributes:
        identifier: 16 bits, to match replies by.
        sequence_number: 8 bits only.
        reserved: 7 bits.
        local: the L bit: the interface is the probed node's own, not a neighbour's.
        extensions: one `InterfaceIdentification`; None for none at all.
    """

    identifier: int = 0
    sequence_number: int = 0
    reserved: int = 0
    local: bool = True
    extensions: ICMPExtensions | None = None

    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *FIRST_WORD,
        ("identifier", 16),
        ("sequence_number", 8),
        ("reserved", 7),
        ("local", 1),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {42: "extended-echo-request", 160: "extended-echo-request"}
    }

    @property
    def interface(self) -> InterfaceIdentification | None:
        """The interface asked about, None where none is named."""
        for each in self.extensions.objects if self.extensions else ():
            if isinstance(each, InterfaceIdentification):
                return each
        return None

    def recomputed(self) -> Self:
        extensions = self.extensions and self.extensions.recomputed()
        return dataclasses.replace(ControlMessage.recomputed(self), extensions=extensions)

    def _read(self, data: bytes) -> bytes:
        self.identifier, self.sequence_number, last = _EXTENDED_ECHO.unpack_from(data, 4)
        self.reserved = last >> 1
        self.local = bool(last & 1)
        self.extensions = None
        if len(data) < 12:
            return data[8:]
        self.extensions, rest = ICMPExtensions.parse(data[8:])
        return rest

    def _write(self, payload: bytes) -> bytes:
        last = self.reserved << 1 | bool(self.local)
        extensions = self.extensions.emit() if self.extensions else b""
        fixed = _EXTENDED_ECHO.pack(self.identifier, self.sequence_number, last)
        return fixed + extensions + payload


@dataclass(slots=True, kw_only=True, init=False, repr=False, eq=False)
class _Reply(ControlMessage):
    """What a node says of the interface asked about (RFC 8335 section 3).

    Attributes:
        identifier: as in the request.
        sequence_number: as in the request.
        state: 3 bits, for a neighbour's interface: as `value_names` names them.
        reserved: 2 bits.
        active: the A bit, for an interface of its own: it is up.
        ipv4: the 4 bit: IPv4 runs on it.
        ipv6: the 6 bit: IPv6 runs on it.
    """

    identifier: int = 0
    sequence_number: int = 0
    state: int = 0
    reserved: int = 0
    active: bool = False
    ipv4: bool = False
    ipv6: bool = False

    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        *FIRST_WORD,
        ("identifier", 16),
        ("sequence_number", 8),
        ("state", 3),
        ("reserved", 2),
        ("active", 1),
        ("ipv4", 1),
        ("ipv6", 1),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "icmp_type": {43: "extended-echo-reply", 161: "extended-echo-reply"},
        "code": {
            0: "no-error",
            1: "malformed-query",
            2: "no-such-interface",
            3: "no-such-table-entry",
            4: "multiple-interfaces-satisfy-query",
        },
        "state": {
            0: "reserved",
            1: "incomplete",
            2: "reachable",
            3: "stale",
            4: "delay",
            5: "probe",
            6: "failed",
        },
    }

    def _read(self, data: bytes) -> bytes:
        self.identifier, self.sequence_number, last = _EXTENDED_ECHO.unpack_from(data, 4)
        self.state = last >> 5
        self.reserved = last >> 3 & 3
        self.active = bool(last & 4)
        self.ipv4 = bool(last & 2)
        self.ipv6 = bool(last & 1)
        return data[8:]

    def _write(self, payload: bytes) -> bytes:
        if self.reserved >> 2:
            raise struct.error
        bits = bool(self.active) << 2 | bool(self.ipv4) << 1 | bool(self.ipv6)
        last = self.state << 5 | self.reserved << 3 | bits
        return _EXTENDED_ECHO.pack(self.identifier, self.sequence_number, last) + payload


@dataclass(slots=True, kw_only=True)
class ICMPExtendedEcho(ICMPMessage, _Request):
    """Extended echo request of ICMP (42)."""

    icmp_type: int = 42

    icmp_types: ClassVar[frozenset[int]] = frozenset({42})


@dataclass(slots=True, kw_only=True)
class ICMPExtendedEchoReply(ICMPMessage, _Reply):
    """Extended echo reply of ICMP (43)."""

    icmp_type: int = 43

    icmp_types: ClassVar[frozenset[int]] = frozenset({43})


@dataclass(slots=True, kw_only=True)
class ICMPv6ExtendedEcho(ICMPv6Message, _Request):
    """Extended echo request of ICMPv6 (160)."""

    icmp_type: int = 160

    icmp_types: ClassVar[frozenset[int]] = frozenset({160})


@dataclass(slots=True, kw_only=True)
class ICMPv6ExtendedEchoReply(ICMPv6Message, _Reply):
    """Extended echo reply of ICMPv6 (161)."""

    icmp_type: int = 161

    icmp_types: ClassVar[frozenset[int]] = frozenset({161})
