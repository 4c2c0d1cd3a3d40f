"""What options of several protocols have in common (RFC 791 section 3.1, RFC 9293 section 3.1).

::

    +---------------+---------------+------------------
    |     kind      |    length     |  data ...            all kinds but 0 and 1,
    +---------------+---------------+------------------    which are a lone byte

In IPv4 and TCP the length counts kind and length too, and a field is padded with zeros to
32 bits. Options that cannot be read spoil nothing: the rest of the field is `RawOptions`.
It knows no kind but these; the others stand with their protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rawproto.errors import EmitError

__all__ = ["EndOfOptions", "NoOperation", "Option", "RawOptions", "UnknownOption"]
__all__ += ["emit_option", "emit_options", "parse_options"]


class Option:
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
class EndOfOptions(Option):
    """Kind 0: nothing after it is an option. `padding` is what stands there all the same."""

    padding: bytes = b""

    def emit(self) -> bytes:
        return b"\x00" + self.padding


@dataclass(slots=True, kw_only=True)
class NoOperation(Option):
    """Kind 1: one byte, to align what follows."""

    def emit(self) -> bytes:
        return b"\x01"


@dataclass(slots=True, kw_only=True)
class UnknownOption(Option):
    """Any other kind, well formed: `data` is what follows kind and length."""

    kind: int = field()
    data: bytes = b""

    def emit(self) -> bytes:
        return emit_option("UnknownOption", self.kind, self.data)


@dataclass(slots=True, kw_only=True)
class RawOptions(Option):
    """The rest of an option field from the first option that cannot be read; emitted as it is."""

    data: bytes = b""

    def emit(self) -> bytes:
        return self.data


_NOP = NoOperation()


def emit_option(name: str, kind: int, data: bytes) -> bytes:
    """An option's bytes. Raises EmitError about the field that is called `name`."""
    try:
        return bytes((kind, 2 + len(data))) + data
    except (ValueError, TypeError):
        raise EmitError(name, data, "a byte of kind and at most 253 bytes of data") from None


def parse_options(data: bytes, parse: Callable[[int, bytes], Option | None]) -> tuple[Option, ...]:
    """An option field to its options; never raises, emitting gives `data` again.

    Up to three zero bytes at the end are the padding to 32 bits and no option.

    Args:
        data: the field.
        parse: makes an option of a kind and what is behind its length; None where the one
            contradicts the other.
    """
    options: list[Option] = []
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
        option = parse(kind, data[at + 2 : at + length]) if 2 <= length <= end - at else None
        if option is None:
            options.append(RawOptions(data=data[at:]))
            break
        options.append(option)
        at += length
    return tuple(options)


def emit_options(options: tuple[Option, ...]) -> bytes:
    """Options to an option field, padded with zeros to 32 bits. Raises EmitError."""
    data = b"".join([option.emit() for option in options])
    return data + bytes(-len(data) % 4)
