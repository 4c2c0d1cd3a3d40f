"""Numbers of headers in words: what diagrams, JSON and one-line summaries share.

Layers and records name their numbers themselves (`value_names`, `flag_names`); this reads
those tables, takes options apart into kind and fields, and writes any field's value as
text. It knows no protocol.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

__all__ = [
    "FIRM",
    "field_names",
    "field_names_of",
    "hex_texts",
    "kebab",
    "option_parts",
    "parts_text",
    "printable",
    "set_flags",
    "value_name",
    "value_texts",
]

FIRM = "\N{NO-BREAK SPACE}"
"""Stands in texts where a line had better not be broken."""

_HEXADECIMAL = {
    "checksum": 4,
    "ethertype": 4,
    "flow_label": 5,
    "protocol_type": 4,
    "tpid": 4,
}
"""Fields that people know in hexadecimal, and their digits."""

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@cache
def kebab(name: str) -> str:
    """A class's name in lower case: `SACKPermitted` is `sack-permitted`."""
    return _WORD_START.sub("-", name).lower()


def printable(text: str) -> str:
    """Text from the network, fit for a terminal: control characters are escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def value_name(owner: object, field: str, value: object) -> str | None:
    """The name of an enumerated value; None where the field or the number has none."""
    names = getattr(owner, "value_names", {}).get(field, {})
    return names.get(value) if isinstance(value, int) else None


def set_flags(owner: object, field: str, value: object) -> list[str] | None:
    """The names of the flags that are set, what is left of the bits in hexadecimal behind them.

    None where `field` is no set of flags.
    """
    names = getattr(owner, "flag_names", {}).get(field)
    if names is None or not isinstance(value, int):
        return None
    found = [name for mask, name in names.items() if value & mask]
    rest = value & ~sum(names)
    return [*found, f"{rest:#x}"] if rest else found


def field_names(value: object) -> tuple[str, ...]:
    """The names of a dataclass's fields, in order; none for any other value."""
    kind: Any = type(value)  # mypy takes no type[object] for hashable
    return field_names_of(kind)


@cache
def field_names_of(kind: Any) -> tuple[str, ...]:
    """The same of a class."""
    return tuple([field.name for field in fields(kind)]) if is_dataclass(kind) else ()


def option_parts(option: object) -> tuple[int | None, list[tuple[str, object]]]:
    """An option, object or record as (kind, its other fields); the kind is None if it has none."""
    names = [name for name in field_names(option) if name != "kind"]
    return getattr(option, "kind", None), [(name, getattr(option, name)) for name in names]


def parts_text(item: object) -> str:
    """An option's fields, one alone without its name."""
    parts = [
        (name, value_texts(item, name, value)[0])
        for name, value in option_parts(item)[1]
        if value is not None and value != ()
    ]
    if len(parts) == 1:
        return parts[0][1]
    # Lines are rather broken between the fields than within one.
    named = [f"{name} {text}" for name, text in parts]
    return ", ".join(text.replace(" ", FIRM) if len(text) < 40 else text for text in named)


def value_texts(owner: object, name: str, value: object) -> list[str]:
    """How a field may be written, the most telling way first."""
    if value is None:
        return ["auto"]
    if isinstance(value, bytes):
        return hex_texts(value)
    if isinstance(value, tuple):
        inner = ["-".join(map(str, v)) if isinstance(v, tuple) else _object_text(v) for v in value]
        return [" ".join(inner)]
    if not isinstance(value, int):
        return [_object_text(value)]
    flags = set_flags(owner, name, value)
    if flags is not None:
        return [",".join(flags) or "0", ", ".join(flags)]
    digits = _HEXADECIMAL.get(name)
    number = f"0x{value:0{digits}x}" if digits else str(int(value))
    word = value_name(owner, name, value)
    return [f"{number} ({word})", number] if word else [number]


def _object_text(value: object) -> str:
    """Something within an option or a record: an address, a name, a record's data."""
    if field_names(value):
        return f"{type(value).__name__} {parts_text(value)}"
    return hex_texts(value)[0] if isinstance(value, bytes) else printable(str(value))


def hex_texts(value: bytes) -> list[str]:
    """Bytes as hexadecimal, all of them if they are few, else how they begin."""
    most = 16
    return [value[:most].hex(" ") + (" ..." if len(value) > most else ""), ""]
