"""Packets for people and for programs: a line, a picture, a dictionary, a dump of bytes.

- `summary`: one line a packet, as readers of tcpdump expect.
- `diagram`: a header as the RFCs draw it, with its values in the boxes.
- `values`: a layer's fields by name, each value as text.
- `fields`: a layer as a dictionary that JSON can carry.
- `hexdump`: bytes as hexadecimal and as text.

Text from the network is escaped where it would steer a terminal. There is no colour
here: that is `cli.render`'s.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from rawproto.wire.diagram import diagram
from rawproto.wire.layer import Layer
from rawproto.wire.summary import summary
from rawproto.wire.words import (
    FIRM,
    field_names,
    field_names_of,
    kebab,
    option_parts,
    parts_text,
    printable,
    set_flags,
    value_name,
    value_texts,
)

if TYPE_CHECKING:
    from rawproto.wire.rpt_frames import Frame

__all__ = ["diagram", "fields", "hexdump", "summary", "values"]

_BYTES_PER_LINE = 16


def fields(layer: Layer | Frame) -> dict[str, Any]:
    """A layer, or a frame of RPT, as JSON can carry it, under the names of its class, in its order.

    `layer` is the name of its module and `class` that of its class. Bytes are
    hexadecimal, sets of flags lists of names (what has no name is hexadecimal), and an
    enumerated number has its name beside it under `..._name`, None where it has none.
    An option is `{"kind", "kind_name", "value"}`: its one field, several under their
    names, or None. Other objects are dictionaries with `class` first.
    """
    return {"layer": layer.layer, **_object(layer)}


def _object(value: object) -> dict[str, Any]:
    found: dict[str, Any] = {"class": type(value).__name__}
    kind: Any = type(value)
    for name, is_flags, word in _field_plan(kind):
        each = getattr(value, name)
        flags = set_flags(value, name, each) if is_flags else None
        found[name] = _plain(each) if flags is None else flags
        if word:
            found[word] = value_name(value, name, each)
    return found


@cache
def _field_plan(kind: Any) -> list[tuple[str, bool, str]]:
    """For each field of a class: (name, whether it is a set of flags, under what its word goes)."""
    named, flagged = getattr(kind, "value_names", {}), getattr(kind, "flag_names", {})
    return [
        (name, name in flagged, f"{name}_name" if name in named else "")
        for name in field_names_of(kind)
    ]


def _plain(value: object) -> Any:
    """A field's value as JSON can carry it."""
    if value is None or isinstance(value, int | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Layer):
        return fields(value)
    if hasattr(value, "kind"):
        return _option(value)
    return _object(value) if field_names(value) else value


def _option(option: object) -> dict[str, Any]:
    kind, parts = option_parts(option)
    plain = {name: _plain(part) for name, part in parts}
    value = plain if len(plain) > 1 else next(iter(plain.values()), None)
    return {"kind": kind, "kind_name": kebab(type(option).__name__), "value": value}


def values(layer: Layer | Frame) -> list[tuple[str, str]]:
    """A layer's fields in order: (name, value as text). Long bytes are shown as they begin."""
    found = []
    for name in field_names(layer):
        value = getattr(layer, name)
        if isinstance(value, tuple):
            text = ", ".join([_item_text(each) for each in value]) or "none"
        elif isinstance(value, bytes):
            text = f"{len(value)} bytes {value_texts(layer, name, value)[0]}".rstrip()
        else:
            text = value_texts(layer, name, value)[0]
        found.append((name, text.replace(FIRM, " ")))
    return found


def _item_text(item: object) -> str:
    """An option, an address or a record, one of several."""
    if not field_names(item) and not hasattr(item, "kind"):
        return printable(str(item))
    parts = parts_text(item)
    title = kebab(type(item).__name__)
    return f"{title} ({parts})" if "," in parts else f"{title} {parts}".rstrip()


def hexdump(data: bytes, *, offset: int = 0) -> str:
    """Bytes as hexadecimal and as text, 16 a line, each line with the offset it begins at.

    Args:
        data: any bytes; of none nothing is said.
        offset: what the first byte's offset is called.
    """
    lines = []
    for at in range(0, len(data), _BYTES_PER_LINE):
        part = data[at : at + _BYTES_PER_LINE]
        half = _BYTES_PER_LINE // 2
        shown = f"{part[:half].hex(' '):<23}  {part[half:].hex(' '):<23}"
        text = "".join([chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part])
        lines.append(f"0x{offset + at:04x}  {shown}  {text}")
    return "\n".join(lines)
