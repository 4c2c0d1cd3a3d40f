"""Hypothesis strategies of values beside the text that the notation has for them.

Drawn from the catalogue, so that a new layer, field or option is tested by being there.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from hypothesis import strategies as st

from rawproto.packets.catalogue import LayerEntry
from rawproto.packets.shapes import REQUIRED, Field, Form, Items, Row, Scalar, Shape
from rawproto.packets.values import spelled

__all__ = ["Written", "arguments", "layers", "values"]

Written = tuple[str, Any]
"""(the text, the value that it stands for)"""

_LABELS = st.text("abcxyz019-", min_size=1, max_size=8)


def _quoted(data: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'


def _bytes(size: int | None = None) -> st.SearchStrategy[Written]:
    data = st.binary(min_size=size or 0, max_size=12 if size is None else size)
    forms = (
        lambda each: f"hex:{each.hex()}" if each else '""',
        lambda each: f'hex:"{each.hex(" ")}"',
        lambda each: f"0x{each.hex()}" if each else "text:''",
        _quoted,
        lambda each: f"text:{_quoted(each)}",
    )
    return st.tuples(data, st.sampled_from(forms)).map(lambda both: (both[1](both[0]), both[0]))


def _numbers(shape: Scalar) -> st.SearchStrategy[Written]:
    high = (1 << (shape.bits or 8)) - 1
    plain = st.tuples(st.integers(0, high), st.sampled_from(("{}", "{:#x}", "{:#b}"))).map(
        lambda both: (both[1].format(both[0]), both[0])
    )
    if shape.flags:
        masks = st.lists(st.sampled_from(sorted(shape.flags)), min_size=1, unique=True)
        flags = shape.flags
        return plain | masks.map(lambda each: ("+".join(flags[mask] for mask in each), sum(each)))
    named = [(spelled(name), number) for number, name in shape.names.items()]
    firsts = dict(reversed(named))  # of equal names the first counts
    return plain | st.sampled_from(sorted(firsts.items())) if firsts else plain


def _mac() -> st.SearchStrategy[Written]:
    return st.binary(min_size=6, max_size=6).map(lambda data: (data.hex(":"),) * 2)


_IPV4 = st.integers(0, 2**32 - 1).map(lambda number: (str(IPv4Address(number)),) * 2)
_IPV6 = st.integers(2**96, 2**128 - 1).map(lambda number: (str(IPv6Address(number)),) * 2)


def _scalars(shape: Scalar) -> st.SearchStrategy[Written]:
    match shape.kind:
        case "number":
            found = _numbers(shape)
        case "boolean":
            found = st.sampled_from((("true", True), ("no", False), ("1", True), ("off", False)))
        case "bytes":
            found = _bytes(shape.bits and shape.bits // 8)
        case "ipv4":
            found = _IPV4
        case "ipv6":
            found = _IPV6
        case "address":
            found = _IPV4 | _IPV6
        case "mac":
            found = _mac()
        case "arp":
            found = _mac() if shape.bits == 48 else _IPV4
        case "domain":
            found = st.lists(_LABELS, min_size=1, max_size=4).map(
                lambda each: (".".join(each),) * 2
            )
        case _:
            words = shape.words or ("eth0", "a.b", "tag-1")
            found = st.sampled_from(words).map(lambda word: (word, word))
    return found | st.just(("none", None)) if shape.optional else found


def values(shape: Shape) -> st.SearchStrategy[Written]:
    """Values of a shape, anywhere but at the top of a layer."""
    if isinstance(shape, Scalar):
        return _scalars(shape)
    if isinstance(shape, Row):
        cells = st.tuples(*map(_scalars, shape.columns))
        return cells.map(
            lambda each: (f"({','.join(text for text, _ in each)})", tuple(v for _, v in each))
        )
    if isinstance(shape, Items):
        return st.lists(values(shape.item), max_size=3).map(
            lambda each: (f"[{', '.join(text for text, _ in each)}]", tuple(v for _, v in each))
        )
    lone = len(shape.forms) == 1
    return st.sampled_from(list(shape.forms.values())).flatmap(lambda form: _structs(form, lone))


def _structs(form: Form, lone: bool) -> st.SearchStrategy[Written]:
    def written(given: Mapping[str, Written]) -> Written:
        inner = ", ".join(f"{name}={text}" for name, (text, _) in given.items())
        return f"{'' if lone else form.name}({inner})", form.make(
            **{name: value for name, (_, value) in given.items()}
        )

    return arguments(form.fields).map(written)


def arguments(fields: Mapping[str, Field]) -> st.SearchStrategy[dict[str, Written]]:
    """Some of the fields with values, those that are required always."""
    required = {n: values(f.shape) for n, f in fields.items() if f.default is REQUIRED}
    optional = {n: values(f.shape) for n, f in fields.items() if f.default is not REQUIRED}
    return st.fixed_dictionaries(required, optional=optional)


def layers(entry: LayerEntry, form: Form) -> st.SearchStrategy[Written]:
    """A layer of one form with some of its fields, and what its class makes of them."""

    def written(given: dict[str, Written]) -> Written:
        if entry.selector:
            number = given.get(entry.selector, ("", form.fields[entry.selector].default))[1]
            if number not in form.numbers:
                number = min(form.numbers) if form.numbers else 250
            given[entry.selector] = (str(number), number)
        text = " ".join([entry.name, *(f"{name}={text}" for name, (text, _) in given.items())])
        return text, form.make(**{name: value for name, (_, value) in given.items()})

    return arguments(form.fields).map(written)
