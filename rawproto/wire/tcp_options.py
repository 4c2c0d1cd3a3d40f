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
from dataclasses import dataclass, field

from rawproto.errors import EmitError

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


class TCPOption:
    """The base of the options: each knows its own bytes, which begin with its kind."""

    __slots__ = ()

    @property
    def kind(self) -> int:
        """The option kind, 0 to 255."""
        return int.from_bytes(self.emit()[:1], "big")  # 0 where there are no bytes

    def emit(self) -> bytes:
        """Kind, length and data, without padding. Raises EmitError."""
        raise NotImplementedError


@dataclass(slots=True, kw_only=True)
class EndOfOptions(TCPOption):
    """Kind 0: nothing after it is an option. `padding` is what stands there all the same."""

    padding: bytes = b""

    def emit(self) -> bytes:
        return b"\x00" + self.padding


@dataclass(slots=True, kw_only=True)
class NoOperation(TCPOption):
    """Kind 1: one byte, to align what follows."""

    def emit(self) -> bytes:
        return b"\x01"


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
        return _emit_option("MD5Signature.digest", 19, self.digest)


@dataclass(slots=True, kw_only=True)
class FastOpen(TCPOption):
    """Kind 34 (RFC 7413 section 4.1.1): a cookie of 4 to 16 bytes; empty, it asks for one."""

    cookie: bytes = b""

    def emit(self) -> bytes:
        return _emit_option("FastOpen.cookie", 34, self.cookie)


@dataclass(slots=True, kw_only=True)
class UnknownOption(TCPOption):
    """Any other kind, well formed: `data` is what follows kind and length."""

    kind: int = field()
    data: bytes = b""

    def emit(self) -> bytes:
        return _emit_option("UnknownOption", self.kind, self.data)


@dataclass(slots=True, kw_only=True)
class RawOptions(TCPOption):
    """The rest of an option field from the first option that cannot be read; emitted as it is."""

    data: bytes = b""

    def emit(self) -> bytes:
        return self.data


_NOP = NoOperation()
_SACK_PERMITTED = SACKPermitted()


def _emit_option(name: str, kind: int, data: bytes) -> bytes:
    try:
        return bytes((kind, 2 + len(data))) + data
    except (ValueError, TypeError):
        raise EmitError(name, data, "a byte of kind and at most 253 bytes of data") from None


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
    """An option field to its options; never raises, emitting gives `data` again.

    Up to three zero bytes at the end are the padding to 32 bits and no option.
    """
    options: list[TCPOption] = []
    at, end = 0, len(data)
    while at < end:
        kind = data[at]
        if kind == 1:
            options.append(_NOP)
            at += 1
            continue
        if kind == 0:
            if end - at > 3 or any(data[at:]):
                options.append(EndOfOptions(padding=data[at + 1 :]))
            break
        length = data[at + 1] if at + 1 < end else 0
        if not 2 <= length <= end - at:
            options.append(RawOptions(data=data[at:]))
            break
        body = data[at + 2 : at + length]
        parse = _PARSERS.get((kind, length - 2))
        options.append(parse(body) if parse else UnknownOption(kind=kind, data=body))
        at += length
    return tuple(options)


def emit_options(options: tuple[TCPOption, ...]) -> bytes:
    """Options to an option field, padded with zeros to 32 bits. Raises EmitError."""
    data = b"".join([option.emit() for option in options])
    return data + bytes(-len(data) % 4)
