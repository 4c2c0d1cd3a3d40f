"""What a field of a layer takes, as values: the types that the catalogue is made of.

A field has a shape. A `Scalar` is one value, `Items` a list of one shape, a `Row` a few
values that belong together, and a `Struct` an option, an object or a record: one of several
forms, each with fields of its own.

They know no layer, and nothing of how values are written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["REQUIRED", "Field", "Form", "Items", "Kind", "Row", "Scalar", "Shape", "Struct"]

Kind = Literal[
    "number", "boolean", "bytes", "ipv4", "ipv6", "address", "mac", "arp", "domain", "text"
]

REQUIRED: Any = dataclasses.MISSING
"""The default of a field that has none."""


@dataclass(slots=True, eq=False, kw_only=True)
class Scalar:
    """One value.

    Attributes:
        kind: what it is; "address" is of either family, "arp" as `wire.arp` writes them.
        bits: how wide a number is; None where its class alone knows.
        optional: whether None is a value: compute, or leave out.
        names: numbers that have one.
        flags: bit mask to name; None where the number is no set of flags.
        letters: flag by the one letter that tcpdump has for it, where it has.
        words: the only texts that are allowed; empty for any.
    """

    kind: Kind
    bits: int | None = None
    optional: bool = False
    names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    flags: Mapping[int, str] | None = None
    letters: Mapping[str, int] = dataclasses.field(default_factory=dict)
    words: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Items:
    """Any number of values of one shape, in order."""

    item: Shape


@dataclass(slots=True, eq=False)
class Row:
    """A fixed number of values that belong together, such as the edges of a SACK block."""

    columns: tuple[Scalar, ...]


@dataclass(slots=True, eq=False)
class Struct:
    """An option, object or record, one of several forms by name; of a lone form none is needed."""

    forms: Mapping[str, Form]


Shape = Scalar | Items | Row | Struct


@dataclass(slots=True, eq=False, kw_only=True)
class Field:
    """A field of a form.

    Attributes:
        name: as in its class.
        shape: what it takes.
        default: what it is if not given, `REQUIRED` if it must be.
        computed: whether its default None is filled in when emitting.
        meaning: from the docstring of its class, "" if that says nothing.
    """

    name: str
    shape: Shape
    default: object
    computed: bool
    meaning: str


@dataclass(slots=True, eq=False, kw_only=True)
class Form:
    """One class as the notation sees it.

    Attributes:
        name: of the layer, option or record.
        title: the class's docstring, its first sentence.
        make: called with the fields that are given, by keyword.
        fields: by name, in order.
        numbers: of the layer's selector that pick this form; empty for all others.
    """

    name: str
    title: str
    make: Callable[..., Any]
    fields: Mapping[str, Field]
    numbers: frozenset[int] = frozenset()
