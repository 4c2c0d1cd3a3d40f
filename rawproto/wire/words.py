"""Numbers of headers in words: what diagrams, JSON and one-line summaries share.

Layers and records name their numbers themselves (`value_names`, `flag_names`); this only
reads those tables, and takes options apart into kind and fields. It knows no protocol.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

__all__ = ["field_names", "kebab", "option_parts", "printable", "set_flags", "value_name"]

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


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
    return _field_names(kind)


@cache
def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple([field.name for field in fields(kind)]) if is_dataclass(kind) else ()


def option_parts(option: object) -> tuple[int | None, list[tuple[str, object]]]:
    """An option, object or record as (kind, its other fields); the kind is None if it has none."""
    names = [name for name in field_names(option) if name != "kind"]
    return getattr(option, "kind", None), [(name, getattr(option, name)) for name in names]
