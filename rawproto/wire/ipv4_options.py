"""The options of IPv4 headers (read RFC 791 section 3.1; RFC 2113 for router alert).

::

    +--------+--------+----------- ...     an option: all but kinds 0 and 1, which are
    |  kind  | length | data               one byte alone, say their length, which counts
    +--------+--------+----------- ...     kind and length too

A kind is a copied flag (into every fragment), a class and a number. Options that
cannot be read do not spoil a header: what is left of them is kept as `RawOptions`.

They stand apart from the header so that who sees none, as nearly everybody, need
not load them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from socket import inet_ntoa

from rawproto.errors import EmitError
from rawproto.wire import options
from rawproto.wire.address import pack_ipv4
from rawproto.wire.options import (
    EndOfOptions,
    NoOperation,
    Option,
    RawOptions,
    UnknownOption,
    emit_options,
)

__all__ = [
    "EndOfOptions",
    "IPv4Option",
    "NoOperation",
    "RawOptions",
    "RecordRoute",
    "RouterAlert",
    "SourceRoute",
    "Timestamp",
    "UnknownOption",
    "emit_options",
    "final_addr",
    "parse_options",
]


IPv4Option = Option
"""Any of them."""


@dataclass(slots=True, kw_only=True)
class RecordRoute(IPv4Option):
    """Kind 7: each router writes the address it sends from into the next slot.

    Attributes:
        addresses: all the slots, filled or `0.0.0.0`; at most 9 fit.
        pointer: where the next address goes, counted from 1 at the kind; 4 is the first slot.
    """

    addresses: tuple[str, ...] = ("0.0.0.0",) * 9
    pointer: int = 4

    @property
    def recorded(self) -> tuple[str, ...]:
        """The slots that have been filled."""
        return self.addresses[: max(0, self.pointer - 4) // 4]

    def emit(self) -> bytes:
        return _emit_route(7, self.pointer, self.addresses)


@dataclass(slots=True, kw_only=True)
class SourceRoute(IPv4Option):
    """Kinds 131 (loose) and 137 (strict): the addresses to go by, and those gone by.

    Attributes:
        strict: whether no other router may stand between them.
        addresses: all the slots.
        pointer: the next address to go to, counted from 1 at the kind.
    """

    strict: bool = False
    addresses: tuple[str, ...] = ()
    pointer: int = 4

    def emit(self) -> bytes:
        return _emit_route(137 if self.strict else 131, self.pointer, self.addresses)


@dataclass(slots=True, kw_only=True)
class Timestamp(IPv4Option):
    """Kind 68, the Internet timestamp.

    Attributes:
        flag: 0 times only, 1 addresses and times, 3 times at the addresses given.
        overflow: how many hosts found no slot, 0 to 15.
        pointer: the next slot, counted from 1 at the kind; 5 is the first.
        entries: the slots, (address or None, time): milliseconds since midnight UT, the
            high bit set where the time is not standard. The address is None with flag 0.
    """

    flag: int = 0
    overflow: int = 0
    pointer: int = 5
    entries: tuple[tuple[str | None, int], ...] = ((None, 0),) * 9

    @property
    def recorded(self) -> tuple[tuple[str | None, int], ...]:
        """The slots that have been filled."""
        return self.entries[: max(0, self.pointer - 5) // (4 if self.flag == 0 else 8)]

    def emit(self) -> bytes:
        if self.flag >> 4:
            raise EmitError("Timestamp.flag", self.flag, "must be 0 to 15")
        body = b""
        try:
            for address, time in self.entries:
                body += (b"" if address is None else pack_ipv4(address)) + struct.pack("!I", time)
            flags = self.overflow << 4 | self.flag
            return struct.pack("!BBBB", 68, 4 + len(body), self.pointer, flags) + body
        except struct.error:
            raise EmitError("Timestamp", self, "does not fit its layout") from None


@dataclass(slots=True, kw_only=True)
class RouterAlert(IPv4Option):
    """Kind 148 (RFC 2113): every router on the way looks at the packet; `value` 0 to 65535."""

    value: int = 0

    def emit(self) -> bytes:
        try:
            return struct.pack("!BBH", 148, 4, self.value)
        except struct.error:
            raise EmitError("RouterAlert.value", self.value, "must be 0 to 65535") from None


def _emit_route(kind: int, pointer: int, addresses: tuple[str, ...]) -> bytes:
    body = b"".join(map(pack_ipv4, addresses))
    try:
        return bytes((kind, 3 + len(body), pointer)) + body
    except ValueError:
        raise EmitError("pointer", pointer, "must be 0 to 255") from None


def _parse_option(kind: int, data: bytes) -> IPv4Option | None:
    """One option from its data (behind kind and length); None where the data contradicts it."""
    size = len(data)
    if kind in (7, 131, 137):
        if size % 4 != 1:
            return None
        addresses = tuple(inet_ntoa(data[at : at + 4]) for at in range(1, size, 4))
        if kind == 7:
            return RecordRoute(addresses=addresses, pointer=data[0])
        return SourceRoute(strict=kind == 137, addresses=addresses, pointer=data[0])
    if kind == 68:
        if size < 2:
            return None
        flag = data[1] & 0x0F
        step = 4 if flag == 0 else 8
        if (size - 2) % step:
            return None
        entries = tuple(
            (
                None if flag == 0 else inet_ntoa(data[at : at + 4]),
                int.from_bytes(data[at + step - 4 : at + step], "big"),
            )
            for at in range(2, size, step)
        )
        return Timestamp(flag=flag, overflow=data[1] >> 4, pointer=data[0], entries=entries)
    if kind == 148 and size == 2:
        return RouterAlert(value=data[0] << 8 | data[1])
    return UnknownOption(kind=kind, data=data)


def parse_options(data: bytes) -> tuple[IPv4Option, ...]:
    """An option field to its options; never raises, emitting gives `data` again."""
    return options.parse_options(data, _parse_option)


def final_addr(options: tuple[IPv4Option, ...]) -> str | None:
    """Where a source route that is not used up leads to, None without one.

    Checksums of the layers inside are computed over it (RFC 1122 section 4.1.3.5 for UDP).
    """
    for option in options:
        if isinstance(option, SourceRoute) and option.pointer <= 4 * len(option.addresses):
            return option.addresses[-1]
    return None
