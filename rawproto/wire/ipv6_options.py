"""The options of IPv6 hop-by-hop and destination headers (read RFC 8200 section 4.2 first).

::

    +---------------+---------------+------------------
    |     kind      |    length     |  data ...            all kinds but Pad1, which is
    +---------------+---------------+------------------    a lone zero byte

The two upper bits of a kind say what a host does that doesn't know it (0 skip,
1 drop, 2 drop and answer, 3 drop and answer unless multicast), the third whether
a router may change the data. Padding is an option like others and is kept, so
that what was parsed emits as it was; an option that cannot be read leaves the
rest to `RawOptions`.

Known are Pad1 and PadN (RFC 8200), Router Alert (RFC 2711) and Jumbo Payload
(RFC 2675). It knows no alignment but that of the whole to 8 bytes: who needs
more puts PadN where it belongs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from rawproto.errors import EmitError
from rawproto.wire.options import Option, RawOptions

__all__ = [
    "IPv6Option",
    "JumboPayload",
    "Pad1",
    "PadN",
    "RawOptions",
    "RouterAlert",
    "UnknownOption",
    "emit_options",
    "parse_options",
]


IPv6Option = Option
"""Any of them."""


@dataclass(slots=True, kw_only=True)
class Pad1(IPv6Option):
    """Kind 0: one byte of padding."""

    def emit(self) -> bytes:
        return b"\x00"


@dataclass(slots=True, kw_only=True)
class PadN(IPv6Option):
    """Kind 1: two bytes of padding and `data`, which should be zeros and is kept if it isn't."""

    data: bytes = b""

    def emit(self) -> bytes:
        return _emit_option("PadN", 1, self.data)


@dataclass(slots=True, kw_only=True)
class RouterAlert(IPv6Option):
    """Kind 5 (RFC 2711): every router looks at the packet; 0 is MLD, 1 RSVP, 2 active networks."""

    value: int = 0

    def emit(self) -> bytes:
        try:
            return struct.pack("!BBH", 5, 2, self.value)
        except struct.error:
            raise EmitError("RouterAlert.value", self.value, "must be 0 to 65535") from None


@dataclass(slots=True, kw_only=True)
class JumboPayload(IPv6Option):
    """Kind 0xC2 (RFC 2675): `length` is the payload's in bytes, where the header says 0."""

    length: int = 0

    def emit(self) -> bytes:
        try:
            return struct.pack("!BBI", 0xC2, 4, self.length)
        except struct.error:
            raise EmitError("JumboPayload.length", self.length, "must be 0 to 2**32-1") from None


@dataclass(slots=True, kw_only=True)
class UnknownOption(IPv6Option):
    """Any other kind, well formed: `data` is what follows kind and length."""

    kind: int = field()
    data: bytes = b""

    def emit(self) -> bytes:
        return _emit_option("UnknownOption", self.kind, self.data)


_PAD1 = Pad1()


def _emit_option(name: str, kind: int, data: bytes) -> bytes:
    try:
        return bytes((kind, len(data))) + data
    except ValueError:
        raise EmitError(name, (kind, data), "kind must be 0 to 255, data at most 255 bytes") from (
            None
        )


def _parse_option(kind: int, data: bytes) -> IPv6Option:
    if kind == 1:
        return PadN(data=data)
    if kind == 5 and len(data) == 2:
        return RouterAlert(value=int.from_bytes(data, "big"))
    if kind == 0xC2 and len(data) == 4:
        return JumboPayload(length=int.from_bytes(data, "big"))
    return UnknownOption(kind=kind, data=data)


def parse_options(data: bytes) -> tuple[IPv6Option, ...]:
    """An option field to its options; never raises, emitting them gives `data` again."""
    options: list[IPv6Option] = []
    at, end = 0, len(data)
    while at < end:
        kind = data[at]
        if kind == 0:
            options.append(_PAD1)
            at += 1
            continue
        stop = at + 2 + data[at + 1] if at + 1 < end else end + 1
        if stop > end:
            options.append(RawOptions(data=data[at:]))
            break
        options.append(_parse_option(kind, data[at + 2 : stop]))
        at = stop
    return tuple(options)


def emit_options(options: tuple[IPv6Option, ...]) -> bytes:
    """Options to an option field, padded so that header and field are a multiple of 8 bytes.

    Raises:
        EmitError: an option does not fit its layout.
    """
    data = b"".join([option.emit() for option in options])
    missing = -(2 + len(data)) % 8
    if missing == 1:
        return data + b"\x00"
    return data + PadN(data=bytes(missing - 2)).emit() if missing else data
