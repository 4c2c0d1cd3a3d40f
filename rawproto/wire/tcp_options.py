"""TCP options (read RFC 9293 section 3.2 first; RFC 7323, RFC 2018, RFC 7413, RFC 2385).

::

    +---------------+---------------+------------------
    |     kind      |    length     |  data ...            all kinds but 0 and 1,
    +---------------+---------------+------------------    which are a lone byte

The length counts kind and length too. Known are end of options, no-operation,
maximum segment size, window scale, SACK permitted, SACK, timestamps, fast open and
the MD5 signature. A known kind of another length comes as `UnknownOption`; from the
first option that cannot be read on, the rest is kept as `RawOptions`.

It knows no connection: whether an option may stand in a segment is not its business.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from rawproto.errors import EmitError
from rawproto.wire import options
from rawproto.wire.options import (
    EndOfOptions,
    NoOperation,
    Option,
    RawOptions,
    UnknownOption,
    emit_option,
    emit_options,
)

__all__ = [
    "MSS",
    "SACK",
    "EndOfOptions",
    "FastOpen",
    "MD5Signature",
    "NoOperation",
    "RawOptions",
    "SACKPermitted",
    "TCPOption",
    "Timestamps",
    "UnknownOption",
    "WindowScale",
    "emit_options",
    "parse_options",
]

_TIMESTAMPS = struct.Struct("!BBII")
_TWO_WORDS = struct.Struct("!II")

_new = object.__new__

TCPOption = Option
"""Any of them."""


@dataclass(slots=True, kw_only=True)
class MSS(TCPOption):
    """Kind 2, maximum segment size: the largest segment wanted, in bytes behind the header."""

    mss: int = 1460

    def emit(self) -> bytes:
        try:
            return struct.pack("!BBH", 2, 4, self.mss)
        except struct.error:
            raise EmitError("MSS.mss", self.mss, "must be 0 to 65535") from None


@dataclass(slots=True, kw_only=True)
class WindowScale(TCPOption):
    """Kind 3 (RFC 7323 section 2): windows count units of 1 << `shift` bytes; 14 at most."""

    shift: int = 7

    def emit(self) -> bytes:
        try:
            return bytes((3, 3, self.shift))
        except (ValueError, TypeError):
            raise EmitError("WindowScale.shift", self.shift, "must be 0 to 255") from None


@dataclass(slots=True, kw_only=True)
class SACKPermitted(TCPOption):
    """Kind 4 (RFC 2018 section 2): selective acknowledgments may be sent."""

    def emit(self) -> bytes:
        return b"\x04\x02"


@dataclass(slots=True, kw_only=True)
class SACK(TCPOption):
    """Kind 5 (RFC 2018 section 3), selective acknowledgment.

    Attributes:
        blocks: (left edge, right edge) of what arrived out of order; the right edge is the
            sequence number just behind it. At most 4 fit.
    """

    blocks: tuple[tuple[int, int], ...] = ()

    def emit(self) -> bytes:
        try:
            edges = b"".join([_TWO_WORDS.pack(left, right) for left, right in self.blocks])
            return bytes((5, 2 + len(edges))) + edges
        except (struct.error, ValueError, TypeError):
            reason = "must be pairs of 0 to 2**32-1"
            raise EmitError("SACK.blocks", self.blocks, reason) from None


@dataclass(slots=True, kw_only=True)
class Timestamps(TCPOption):
    """Kind 8 (RFC 7323 section 3).

    Attributes:
        tsval: the sender's clock, in units of its own.
        tsecr: the peer's `tsval` sent back; 0 where there is no acknowledgment.
    """

    tsval: int = 0
    tsecr: int = 0

    def emit(self) -> bytes:
        try:
            return _TIMESTAMPS.pack(8, 10, self.tsval, self.tsecr)
        except struct.error:
            raise EmitError("Timestamps", self, "both must be 0 to 2**32-1") from None


@dataclass(slots=True, kw_only=True)
class MD5Signature(TCPOption):
    """Kind 19 (RFC 2385): 16 bytes that sign the segment under a key both sides know."""

    digest: bytes = bytes(16)

    def emit(self) -> bytes:
        return emit_option("MD5Signature.digest", 19, self.digest)


@dataclass(slots=True, kw_only=True)
class FastOpen(TCPOption):
    """Kind 34 (RFC 7413 section 4.1.1): a cookie of 4 to 16 bytes; empty, it asks for one."""

    cookie: bytes = b""

    def emit(self) -> bytes:
        return emit_option("FastOpen.cookie", 34, self.cookie)


_SACK_PERMITTED = SACKPermitted()


def _timestamps(data: bytes) -> TCPOption:
    option = _new(Timestamps)
    option.tsval, option.tsecr = _TWO_WORDS.unpack(data)
    return option


# By (kind, length of the data): a known kind of another length is an unknown option.
_PARSERS: dict[tuple[int, int], Callable[[bytes], TCPOption]] = {
    (2, 2): lambda data: MSS(mss=data[0] << 8 | data[1]),
    (3, 1): lambda data: WindowScale(shift=data[0]),
    (4, 0): lambda data: _SACK_PERMITTED,
    **{(5, 8 * n): lambda data: SACK(blocks=tuple(_TWO_WORDS.iter_unpack(data))) for n in range(5)},
    (8, 8): _timestamps,
    (19, 16): lambda data: MD5Signature(digest=data),
    **{(34, n): lambda data: FastOpen(cookie=data) for n in range(39)},
}


def parse_options(data: bytes) -> tuple[TCPOption, ...]:
    """An option field to its options; never raises, emitting gives `data` again."""
    return options.parse_options(data, _parse)


def _parse(kind: int, data: bytes) -> TCPOption:
    parse = _PARSERS.get((kind, len(data)))
    return parse(data) if parse else UnknownOption(kind=kind, data=data)
