"""Packets as library code: what `craft --python` prints, to go on with in a script.

    from rawproto import IPv4Header, UDPHeader

    packet = IPv4Header(ttl=3, dst_addr="10.0.0.2") / UDPHeader(dst_port=53) / b"hello"

Only what differs from a class's defaults is written, so that what was left to be computed
computes itself in the script too. Layers come from the shop window; RPT's, options, objects
and records from their modules, whose names say whose they are (`tcp_options.MSS`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from rawproto.wire.layer import Layer, Packet

__all__ = ["python_code"]

_WIDTH = 88
_HEXADECIMAL = frozenset({"checksum", "ethertype", "flags", "flow_label", "protocol_type", "tpid"})
"""Fields whose numbers people know in hexadecimal."""
_HEX_DIGITS_PER_LINE = 64


def python_code(packets: Iterable[Packet]) -> str:
    """A script that makes the packets: `packet` of one, a list `packets` of any other number.

    A packet that was parsed gives equal bytes too, but for DNS names, which go out whole
    and not compressed.
    """
    code = _Code()
    stacks = [code.stack(packet) for packet in packets]
    if len(stacks) == 1:
        body = f"packet = {_broken(stacks[0], 0, len('packet = '))}"
    else:
        lines = "".join([f"    {_broken(stack, 4)},\n" for stack in stacks])
        body = f"packets = [\n{lines}]"
    return f"{code.imports()}\n\n{body}\n"


# Source is kept as a tree, to be broken where it gets too long: a text, or the opening,
# the parts, what stands between them, and the closing.
_Source = str | tuple[str, "list[_Source]", str, str]


class _Code:
    """Turns values into source, and notes what has to be imported for it."""

    def __init__(self) -> None:
        self._layers: set[str] = set()
        self._modules: set[str] = set()

    def imports(self) -> str:
        """The import lines."""
        lines = []
        for module, names in (("rawproto", self._layers), ("rawproto.wire", self._modules)):
            if names:
                one = f"from {module} import {', '.join(sorted(names))}"
                many = "".join([f"    {name},\n" for name in sorted(names)])
                lines.append(one if len(one) <= _WIDTH else f"from {module} import (\n{many})")
        return "\n".join(lines)

    def stack(self, packet: Packet) -> _Source:
        """A packet as layers with slashes between them."""
        parts = [self.value(layer) for layer in packet.layers]
        if len(parts) < 2 or not isinstance(packet.layers[0], Layer):
            # Plain bytes begin nothing with a slash, and one layer alone is no packet.
            self._layers.add("Packet")
            return ("Packet((", parts, ", ", ",))")
        return ("", parts, " / ", "")

    def value(self, value: Any, name: str = "") -> _Source:
        """One value; `name` is that of the field it stands in."""
        if isinstance(value, bytes):
            return _bytes(value)
        if isinstance(value, tuple):
            return ("(", [self.value(each) for each in value], ", ", ",)" if value else ")")
        if dataclasses.is_dataclass(value):
            return self._object(value)
        if isinstance(value, int) and not isinstance(value, bool) and name in _HEXADECIMAL:
            return f"{value:#x}"
        return _text(value) if isinstance(value, str) else repr(value)

    def _object(self, value: Any) -> _Source:
        kind = type(value)
        called = kind.__name__
        if isinstance(value, Layer) and value.layer != "rpt":
            self._layers.add(called)
        else:
            module = kind.__module__.rpartition(".")[2]
            self._modules.add(module)
            called = f"{module}.{called}"
        arguments: list[_Source] = []
        for field in dataclasses.fields(kind):
            each = getattr(value, field.name)
            if field.default is dataclasses.MISSING or each != field.default:
                arguments.append(("", [f"{field.name}=", self.value(each, field.name)], "", ""))
        return (f"{called}(", arguments, ", ", ")")


def _text(value: str) -> str:
    shown = repr(value)
    return shown if '"' in shown else f'"{shown[1:-1]}"'


def _bytes(value: bytes) -> _Source:
    if all(0x20 <= byte < 0x7F for byte in value) and len(value) <= _HEX_DIGITS_PER_LINE:
        return f"b{_text(value.decode())}"
    if len(value) > 8 and not any(value):
        return f"bytes({len(value)})"
    digits = value.hex()
    lines: list[_Source] = [
        f'"{digits[at : at + _HEX_DIGITS_PER_LINE]}"'
        for at in range(0, len(digits), _HEX_DIGITS_PER_LINE)
    ]
    return ("bytes.fromhex(", lines, " ", ")")


def _flat(source: _Source) -> str:
    """Source on one line."""
    if isinstance(source, str):
        return source
    opening, parts, between, closing = source
    if closing.startswith(",") and len(parts) > 1:
        closing = closing[1:]  # only a tuple of one needs its comma
    return opening + between.join(map(_flat, parts)) + closing


def _broken(source: _Source, indent: int, before: int = 0) -> str:
    """Source with a line for each of its parts, wherever one line would be too long.

    Args:
        source: what to write.
        indent: of the line that it stands on.
        before: how much stands before it on that line.
    """
    flat = _flat(source)
    if isinstance(source, str) or indent + before + len(flat) < _WIDTH:
        return flat
    opening, parts, between, closing = source
    if between == "":
        name, value = parts
        return _flat(name) + _broken(value, indent, len(_flat(name)))
    inner = " " * (indent + 4)
    lines = [inner + _broken(part, indent + 4) for part in parts]
    end = "\n" + " " * indent
    if between == " / ":
        return (
            "(\n" + f"\n{inner}/ ".join([line.strip() for line in lines]).join((inner, end)) + ")"
        )
    if between == ", ":
        return opening + "\n" + ",\n".join(lines) + ",\n" + " " * indent + closing.lstrip(",")
    return opening + "\n" + "\n".join(lines) + end + closing
