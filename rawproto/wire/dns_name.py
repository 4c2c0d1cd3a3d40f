"""Domain names in DNS messages, compressed or not (read RFC 1035 section 4.1.4, RFC 4343).

::

    +--+--------------------+       +-----+--------------------------+
    |00|  length, 1 to 63   | label |1 1  |   offset in the message  |  14 bits
    +--+--------------------+       +-----+--------------------------+
    a label: length and bytes       a pointer, which ends a name; a zero byte ends one too

A name is text: labels with a dot behind each, the root alone is `.`. A dot or a
backslash inside a label is written with a backslash before it, any byte that is
no printable ASCII as a backslash and three decimal digits. Names keep their case.

Pointers are how a message attacks its reader. Here each must lead before the
labels that it ends (so there are no loops and no forward pointers), at most
`MAX_POINTERS` are followed, and a name has at most 255 bytes.

`NameReader` remembers how each name was written, so that `NameWriter` can write
the names of an unchanged message the same way again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rawproto.errors import EmitError, MalformedError, TruncatedError

__all__ = ["MAX_POINTERS", "NameReader", "NameWriter", "Shape", "join_labels", "split_name"]

MAX_POINTERS = 127
"""As many labels as a name of 255 bytes can have: no pointer that serves one is refused."""

_MAX_NAME, _MAX_LABEL = 255, 63
_HEADER_BYTES = 12
_POINTER, _MAX_TARGET = 0xC0, 0x3FFF

_PLAIN = b"-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ESCAPES = {byte: chr(byte) if 0x21 <= byte <= 0x7E else f"\\{byte:03d}" for byte in range(256)} | {
    ord("."): "\\.",
    ord("\\"): "\\\\",
}


class Shape(NamedTuple):
    """How a compressed name was written.

    Attributes:
        labels: how many stood there before the pointer.
        target: where the pointer led, counted from the message's first byte.
    """

    labels: int
    target: int


def join_labels(labels: Sequence[bytes]) -> str:
    """Labels to text."""
    if not b"".join(labels).translate(None, _PLAIN):
        return b".".join(labels).decode() + "."
    return "".join([f"{each.decode('latin-1').translate(_ESCAPES)}." for each in labels])


def split_name(text: str) -> tuple[bytes, ...]:
    """Text to labels; the last dot may be left out.

    Raises:
        EmitError: an empty or too long label, too long a name, a bad escape, no ASCII.
    """
    if not isinstance(text, str) or not text.isascii():
        raise EmitError("name", text, "no ASCII text; write its A-label (xn--...)")
    labels: list[bytes] = []
    label = bytearray()
    at = 1 if text == "." else 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == ".":
            labels.append(bytes(label))
            label.clear()
        elif char != "\\":
            label.append(ord(char))
        elif text[at : at + 3].isdecimal() and len(text) >= at + 3:
            if (number := int(text[at : at + 3])) > 255:
                raise EmitError("name", text, f"\\{number} is no byte")
            label.append(number)
            at += 3
        elif at < len(text) and "\x20" < text[at] <= "\x7e" and not text[at].isdecimal():
            label.append(ord(text[at]))
            at += 1
        else:
            raise EmitError("name", text, "a backslash that escapes nothing")
    if label:
        labels.append(bytes(label))
    if not all(0 < len(each) <= _MAX_LABEL for each in labels):
        raise EmitError("name", text, f"a label has 1 to {_MAX_LABEL} bytes")
    if sum(map(len, labels)) + len(labels) + 1 > _MAX_NAME:
        raise EmitError("name", text, f"more than {_MAX_NAME} bytes")
    return tuple(labels)


class NameReader:
    """Reads the names of one message.

    Attributes:
        data: the whole message.
        shapes: of the names read so far, in order; None for one without a pointer.
    """

    __slots__ = ("_tails", "data", "shapes")

    def __init__(self, data: bytes) -> None:
        self.data = data
        # What stands at the targets of pointers: (text, bytes, pointers). A hostile message
        # has thousands of pointers to one long name.
        self._tails: dict[int, tuple[str, int, int]] = {}
        self.shapes: list[Shape | None] = []

    def read(self, at: int) -> tuple[str, int]:
        """The name at `at`: (text, where what follows it begins). Raises WireError."""
        data, size = self.data, len(self.data)
        labels: list[bytes] = []
        shape: Shape | None = None
        name_bytes = pointers = behind = 0
        start = at
        visited: list[tuple[int, int, int, int]] = []  # (target, labels, bytes, pointers before)
        tail = ""
        while True:
            if at >= size:
                raise TruncatedError("dns", at, 1, 0)
            length = data[at]
            if length == 0:
                break
            if length >= _POINTER:
                if at + 2 > size:
                    raise TruncatedError("dns", at, 2, 1)
                target = (length & 0x3F) << 8 | data[at + 1]
                if not _HEADER_BYTES <= target < start:
                    raise MalformedError(
                        "dns", at, f"pointer to {target}, where no name went before"
                    )
                pointers += 1
                if pointers > MAX_POINTERS:
                    raise MalformedError("dns", at, f"more than {MAX_POINTERS} pointers in a name")
                if shape is None:
                    shape, behind = Shape(len(labels), target), at + 2
                known = self._tails.get(target)
                if known is not None:
                    tail, tail_bytes, tail_pointers = known
                    name_bytes += tail_bytes
                    pointers += tail_pointers
                    if name_bytes >= _MAX_NAME:
                        raise MalformedError("dns", at, f"a name of more than {_MAX_NAME} bytes")
                    if pointers > MAX_POINTERS:
                        raise MalformedError(
                            "dns", at, f"more than {MAX_POINTERS} pointers in a name"
                        )
                    break
                visited.append((target, len(labels), name_bytes, pointers))
                at = start = target
                continue
            if length > _MAX_LABEL:
                raise MalformedError("dns", at, f"label type {length >> 6}")
            end = at + 1 + length
            if end > size:
                raise TruncatedError("dns", at + 1, length, size - at - 1)
            name_bytes += 1 + length
            if name_bytes >= _MAX_NAME:
                raise MalformedError("dns", at, f"a name of more than {_MAX_NAME} bytes")
            labels.append(data[at + 1 : end])
            at = end
        self.shapes.append(shape)
        for target, skip, bytes_before, pointers_before in visited:
            text = join_labels(labels[skip:]) if labels[skip:] else ""
            text += tail
            self._tails[target] = (text, name_bytes - bytes_before, pointers - pointers_before)
        text = (join_labels(labels) if labels else "") + tail
        return text or ".", behind or at + 1


class NameWriter:
    """Writes a message, its names in one of three ways: whole, compressed, or as they were.

    Attributes:
        data: the message so far, from its first byte on.
    """

    __slots__ = ("_offsets", "_shapes", "data")

    def __init__(self, *, compress: bool = False, shapes: Iterable[Shape | None] | None = None):
        """Begins an empty message.

        Args:
            compress: whether later names point to earlier ones.
            shapes: how an earlier `NameReader` found them, which goes before `compress`.
        """
        self.data = bytearray()
        self._offsets: dict[tuple[bytes, ...], int] | None = {} if compress else None
        self._shapes = None if shapes is None else iter(shapes)

    def write(self, name: str, *, compressible: bool = True) -> None:
        """Appends a name; one that is not `compressible` is whole, but may be pointed to."""
        labels = split_name(name)
        shape: Shape | None = None
        if self._shapes is not None:
            shape = next(self._shapes, None)
        elif self._offsets is not None:
            shape = self._remember(labels)
            if not compressible:
                shape = None
        for each in labels[: shape.labels] if shape else labels:
            self.data.append(len(each))
            self.data += each
        self.data += (_POINTER << 8 | shape.target).to_bytes(2, "big") if shape else b"\x00"

    def _remember(self, labels: tuple[bytes, ...]) -> Shape | None:
        """The longest tail of `labels` that was written before; notes where the rest will be."""
        assert self._offsets is not None
        at = len(self.data)
        for index, each in enumerate(labels):
            tail = labels[index:]
            if tail in self._offsets:
                return Shape(index, self._offsets[tail])
            if at <= _MAX_TARGET:
                self._offsets[tail] = at
            at += 1 + len(each)
        return None
