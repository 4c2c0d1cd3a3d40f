"""The extension structure behind an ICMP error (read RFC 4884 first).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------+-----------------------+-------------------------------+
    |version|       reserved        |           checksum            |
    +-------+-----------------------+---------------+---------------+
    |            length             |   class_num   |    c_type     |  an object:
    +-------------------------------+---------------+---------------+  header and
    |                           data ...                            |  data, repeated
    +---------------------------------------------------------------+

An error quotes the packet that caused it, and the structure stands behind the
quote. Two forms are in use, and `split_original` tells them apart:

- compliant: the error's `length` says how long the quote is, which was padded
  with zeros to at least 128 bytes;
- that of routers older than RFC 4884: `length` is 0 and the quote is exactly
  128 bytes, so only a structure with the right version, a right checksum and
  objects that fill it is taken for one (section 5.5).

What the objects mean is in `icmp_objects`; the errors themselves are in `icmp`
and `icmpv6`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from rawproto.errors import EmitError, TruncatedError
from rawproto.wire.checksum import internet_checksum
from rawproto.wire.icmp_objects import ICMPObject, RawObjects, parse_objects
from rawproto.wire.layer import Layer

__all__ = ["ICMPExtensions", "join_original", "split_original"]

_HEADER = struct.Struct("!HH")
_VERSION = 2
_QUOTE_BYTES = 128

_new = object.__new__


@dataclass(slots=True, kw_only=True)
class ICMPExtensions(Layer):
    """An extension structure (RFC 4884 section 7).

    Attributes:
        version: 2.
        reserved: 12 bits.
        checksum: over the structure; None computes, 0 says there is none.
        objects: in order.
    """

    version: int = _VERSION
    reserved: int = 0
    checksum: int | None = None
    objects: tuple[ICMPObject, ...] = ()

    layer: ClassVar[str] = "icmp_ext"
    computed: ClassVar[tuple[str, ...]] = ("checksum",)
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("version", 4),
        ("reserved", 12),
        ("checksum", 16),
    )

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a structure that ends where `data` does: (structure, b"").

        Of another version's structure only the header is understood.

        Raises:
            TruncatedError: fewer than 4 bytes.
        """
        try:
            first, checksum = _HEADER.unpack_from(data)
        except struct.error:
            raise TruncatedError("icmp_ext", 0, 4, len(data)) from None
        self = _new(cls)
        self.version = first >> 12
        self.reserved = first & 0x0FFF
        self.checksum = checksum
        if self.version == _VERSION:
            self.objects = parse_objects(data[4:])
        else:
            self.objects = (RawObjects(data=data[4:]),) if len(data) > 4 else ()
        return self, b""

    def emit(self, payload: bytes = b"") -> bytes:
        """The structure's bytes; its checksum covers `payload` too, were there any."""
        body = b"".join([each.emit() for each in self.objects]) + payload
        checksum = self.checksum
        try:
            if self.reserved >> 12:
                raise struct.error
            first = self.version << 12 | self.reserved
            if checksum is None:
                checksum = internet_checksum(body, first)
            return _HEADER.pack(first, checksum) + body
        except (struct.error, TypeError):
            raise self.emit_error() from None

    @staticmethod
    def verify(data: bytes) -> bool | None:
        """Whether a structure's checksum is right; None where it carries none.

        Args:
            data: the whole structure, nothing behind it.

        Raises:
            TruncatedError: fewer than 4 bytes.
        """
        if len(data) < 4:
            raise TruncatedError("icmp_ext", 0, 4, len(data))
        if data[2:4] == b"\x00\x00":
            return None
        return internet_checksum(data) == 0


def split_original(data: bytes, length: int) -> tuple[bytes, ICMPExtensions | None]:
    """What stands behind an error's header, to (original datagram, extensions).

    The original datagram keeps its padding: its own header says where it ends.
    Fewer than 4 bytes behind it are no structure and stay with it.

    Args:
        data: the message from byte 8 on.
        length: of the original datagram as the error states it, in bytes; 0 if it doesn't.
    """
    if length:
        if len(data) - length < 4:
            return data, None
        return data[:length], ICMPExtensions.parse(data[length:])[0]
    tail = data[_QUOTE_BYTES:]
    if len(tail) >= 4 and tail[0] >> 4 == _VERSION and ICMPExtensions.verify(tail):
        extensions = ICMPExtensions.parse(tail)[0]
        if not any(isinstance(each, RawObjects) for each in extensions.objects):
            return data[:_QUOTE_BYTES], extensions
    return data, None


def join_original(
    original: bytes, extensions: ICMPExtensions | None, length: int | None, unit: int
) -> tuple[int, bytes]:
    """The reverse of `split_original`: (the `length` field, the bytes from byte 8 on).

    Args:
        original: the original datagram, padded here as far as needed.
        extensions: None for none.
        length: the field, in units; None computes, 0 makes the form of old routers.
        unit: bytes that one unit of `length` counts: 4 in ICMP, 8 in ICMPv6.

    Raises:
        EmitError: too long an original datagram to be counted, or an object doesn't fit.
    """
    if extensions is None:
        return length or 0, original
    if length is None:
        wanted = max(len(original) + -len(original) % unit, _QUOTE_BYTES)
        length = wanted // unit
        if length > 255:
            raise EmitError(
                "original_datagram", original, f"more than {255 * unit} bytes before extensions"
            )
    else:
        wanted = length * unit or _QUOTE_BYTES
    return length, original.ljust(wanted, b"\x00") + extensions.emit()
