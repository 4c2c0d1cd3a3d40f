"""List the layers that craft builds, or the fields of one: names, widths, types, defaults.

examples:
  rawproto layers                     every layer
  rawproto layers tcp                 its fields, flags and options
  rawproto layers icmp                an echo request, and which other messages there are
  rawproto layers icmp time_exceeded  that message, by the name or the number of its type

exit code: 0, 2 error
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator

from rawproto.errors import UsageError
from rawproto.packets.catalogue import LAYERS, LayerEntry, layer_entry
from rawproto.packets.shapes import REQUIRED, Field, Form, Items, Row, Scalar, Shape, Struct
from rawproto.packets.synonyms import layer_name
from rawproto.packets.values import nearest, parse_value, spelled

__all__ = ["add_arguments", "run"]

_KINDS = {
    "number": "number",
    "boolean": "true or false",
    "bytes": "bytes",
    "ipv4": "IPv4 address",
    "ipv6": "IPv6 address",
    "address": "IP address",
    "mac": "MAC address",
    "arp": "address",
    "domain": "domain name",
    "text": "text",
}
_HEXADECIMAL = ("ethertype", "protocol_type", "tpid")
"""Fields whose numbers people know in hexadecimal."""
_WIDEST = 120
_NARROWEST = 72


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which layer, and which of its messages."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a layer; all without one")
    parser.add_argument(
        "form", nargs="?", metavar="TYPE", help="of icmp, icmpv6 or ipv6_routing: which one"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the list or the layer."""
    if arguments.name is None:
        lines: Iterator[str] = (f"{name:<22}{title}" for name, title in LAYERS.items())
    else:
        name = layer_name(arguments.name)
        if name not in LAYERS:
            near = nearest(arguments.name, LAYERS) or "; without a name all are listed"
            raise UsageError(f"unknown layer {arguments.name}{near}")
        entry = layer_entry(name)
        width = min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
        lines = _layer(entry, _form(entry, arguments.form), width)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in lines)
    return 0


def _form(entry: LayerEntry, word: str | None) -> Form:
    if word is None:
        return entry.forms[0]
    if not entry.selector:
        raise UsageError(f"{entry.name} is of one form only, there is no {word}")
    shape = Scalar(kind="number", bits=8, names=entry.selector_names)
    try:
        return entry.form_for(parse_value(shape, word))
    except ValueError as error:
        raise UsageError(f"{entry.name} {word}: {entry.selector} {error}") from None


def _layer(entry: LayerEntry, form: Form, width: int) -> Iterator[str]:
    yield from textwrap.wrap(f"{entry.name}: {form.title}", width)
    yield ""
    rows = [
        (field.name, _bits(field), _kind(field.shape), _default(field), field.meaning)
        for field in form.fields.values()
    ]
    yield from _table([("field", "bits", "takes", "default", "meaning"), *rows], width)
    for field in form.fields.values():
        names = entry.selector_names if field.name == entry.selector else None
        yield from _names(field, names, width)
    for fields, shape in _structures(form).items():
        yield ""
        yield f"{fields}:"
        yield from _parts(shape, width)
    if entry.selector:
        yield ""
        yield f"{entry.selector} picks the form; `rawproto layers {entry.name} TYPE` shows one:"
        for each in entry.forms:
            number = each.fields[entry.selector].default
            named = entry.selector_names.get(number) if isinstance(number, int) else None
            name = spelled(named) if named else "any other"
            yield from _entry(name, each.title, 28, width)


def _table(rows: list[tuple[str, str, str, str, str]], width: int) -> Iterator[str]:
    """Rows in columns, the last column wrapped."""
    columns = [max(len(row[at]) for row in rows) for at in range(4)]
    left = sum(columns) + 2 * len(columns)
    for name, bits, kind, default, meaning in rows:
        head = f"{name:<{columns[0]}}  {bits:>{columns[1]}}  {kind:<{columns[2]}}  "
        head += f"{default:<{columns[3]}}  "
        first, *more = textwrap.wrap(meaning, max(width - left, 30)) or [""]
        yield head + first
        for line in more:
            yield " " * left + line


def _entry(name: str, text: str, column: int, width: int) -> Iterator[str]:
    """A name and what it means, the text in a column of its own."""
    begin = f"  {name}".ljust(column)
    if begin[-1] != " ":
        yield from textwrap.wrap(name, width, initial_indent="  ", subsequent_indent="      ")
        begin = " " * column
    yield from textwrap.wrap(text, width, initial_indent=begin, subsequent_indent=" " * column) or [
        begin
    ]


def _names(field: Field, names: dict[int, str] | None, width: int) -> Iterator[str]:
    """The names of a field's numbers or flags."""
    shape = field.shape
    if not isinstance(shape, Scalar):
        return
    if shape.flags:
        words = [f"{name}={mask:#x}" for mask, name in sorted(shape.flags.items())]
    else:
        words = [
            f"{spelled(name)}={_number(field, number)}"
            for number, name in (names or shape.names).items()
        ]
    if words:
        yield ""
        yield f"{field.name}:"
        yield from textwrap.wrap(
            "  ".join(words), width, initial_indent="  ", subsequent_indent="  "
        )


def _structures(form: Form) -> dict[str, Struct]:
    """What the fields of a form are made of: the names of those with the same, and that."""
    found: dict[int, tuple[list[str], Struct]] = {}
    for field in form.fields.values():
        shape = field.shape.item if isinstance(field.shape, Items) else field.shape
        if isinstance(shape, Struct):
            found.setdefault(id(shape), ([], shape))[0].append(field.name)
    return {", ".join(names): shape for names, shape in found.values()}


def _parts(shape: Struct, width: int) -> Iterator[str]:
    """The forms of a structure, and what is within them."""
    for form in shape.forms.values():
        name = "" if len(shape.forms) == 1 else form.name
        yield from _entry(name + _signature(form), form.title, 30, width)
        for names, inner in _structures(form).items():
            yield f"    {names}:"
            yield from (f"    {line}" for line in _parts(inner, width - 4))


def _signature(form: Form) -> str:
    """The fields of an option as one writes them, with their defaults."""
    if not form.fields:
        return ""
    return f"({', '.join(_argument(each) for each in form.fields.values())})"


def _argument(field: Field) -> str:
    if field.default is REQUIRED:
        return f"{field.name}"
    if field.default is None:
        return f"{field.name}=auto" if field.computed else f"{field.name}=none"
    return f"{field.name}={_default(field)}"


def _bits(field: Field) -> str:
    bits = field.shape.bits if isinstance(field.shape, Scalar) else None
    return "" if bits is None else str(bits)


def _kind(shape: Shape) -> str:
    """What a field takes, in words."""
    if isinstance(shape, Items):
        inner = _kind(shape.item)
        return f"list, {inner}" if isinstance(shape.item, Struct) else f"list of {inner}"
    if isinstance(shape, Row):
        return f"({', '.join(_kind(each) for each in shape.columns)})"
    if isinstance(shape, Struct):
        return "see below"
    if shape.words:
        return " or ".join(shape.words)
    if shape.flags is not None:
        return "flags"
    return "number or name" if shape.names else _KINDS[shape.kind]


def _default(field: Field) -> str:
    """A field's default as one would write it."""
    value = field.default
    if value is REQUIRED:
        return "required"
    if value is None:
        return (
            "computed" if field.computed else "none" if isinstance(field.shape, Struct) else "auto"
        )
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return f"hex:{value.hex()}" if value else '""'
    if isinstance(value, tuple):
        return f"[{','.join(_item(each) for each in value[:1])}{',...' if value[1:] else ''}]"
    return _number(field, value) if isinstance(value, int) else str(value)


def _number(field: Field, value: int) -> str:
    return f"{value:#06x}" if field.name in _HEXADECIMAL else str(value)


def _item(value: object) -> str:
    if isinstance(value, tuple):
        return f"({','.join(map(_item, value))})"
    return "none" if value is None else '""' if value == b"" else str(value)
