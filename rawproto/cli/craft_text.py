"""Made packets, shown: a line each, diagrams, bytes, library code, JSON, a capture file.

What is shown is what a receiver would make of the bytes, so that computed fields have
their values. Only diagrams show the layers that were given, also where no receiver would
find them (behind a protocol number that was forced); where a length lies, so that not even
we can read them again, they are drawn as given. It sends nothing.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Literal

from rawproto.capture import CapturedPacket, PcapngWriter, Writer, open_writer
from rawproto.cli.render import json_line
from rawproto.errors import UsageError, WireError
from rawproto.packets.made import captured, framed
from rawproto.wire.dissect import dissect
from rawproto.wire.ethernet import VLANTag
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.layer import Layer, Packet
from rawproto.wire.show import diagram, hexdump, summary
from rawproto.wire.words import field_names

__all__ = ["Shown", "show"]

Shown = Literal["line", "diagram", "hexdump", "hex", "python", "json"]

MAX_PYTHON_PACKETS = 4096
"""How many packets one script may hold: it is read, not only run."""


def show(packets: Iterable[Packet], form: Shown, pcap: str | None) -> None:
    """Writes packets to stdout in a form, and to a capture file.

    Args:
        packets: taken one by one, and not kept.
        form: what to write of each; with a capture file "line" writes nothing.
        pcap: the file's name, `-` for stdout; None for none.

    Raises:
        UsageError: a packet that begins with a layer that can't come first; too many for
            a script; stdout asked to hold both a capture and text.
        EmitError: a field does not fit.
        OSError: the file cannot be written.
    """
    with ExitStack() as stack:
        if pcap is not None:
            if pcap == "-" and form != "line":
                raise UsageError(f"--pcap - and --{form} both write to stdout")
            packets = _saved(packets, stack.enter_context(_writer(pcap)))
        if form == "python":
            _show_python(packets)
            return
        tell = _FORMS[form] if pcap is None or form != "line" else None
        for number, packet in enumerate(packets, 1):
            if tell is not None:
                sys.stdout.write(tell(number, packet))


def _writer(name: str) -> Writer:
    if name == "-":
        # Not sys.stdout.buffer, which PYTHONUNBUFFERED makes a raw file.
        return PcapngWriter(open(sys.stdout.fileno(), "wb", closefd=False), owned=True)
    return open_writer(name)


def _saved(packets: Iterable[Packet], writer: Writer) -> Iterator[Packet]:
    for packet in packets:
        writer.write(captured(packet))
        yield packet


def _line(number: int, packet: Packet) -> str:
    made = captured(packet)
    return summary(dissect(made.data, made.link_type)) + "\n"


def _hex(number: int, packet: Packet) -> str:
    return captured(packet).data.hex() + "\n"


def _hexdump(number: int, packet: Packet) -> str:
    made = captured(packet)
    head = summary(dissect(made.data, made.link_type))
    dump = hexdump(made.data)
    return "".join([f"{head}\n", *(f"    {line}\n" for line in dump.splitlines())])


def _json(number: int, packet: Packet) -> str:
    from rawproto.packets.json import packet_fields

    made = captured(packet)
    found = dissect(made.data, made.link_type)
    return json_line("packet", packet_fields(number, made, found))


def _diagram(number: int, packet: Packet) -> str:
    made = captured(packet)
    head = summary(dissect(made.data, made.link_type))
    parts = [head if number == 1 else f"\n{head}"]
    for what in _drawn(packet, made):
        name = type(what).__name__ if isinstance(what, Layer) else f"{len(what)} bytes of data"
        parts += ["", name, diagram(what)]
    return "\n".join(parts) + "\n"


def _drawn(packet: Packet, made: CapturedPacket) -> Iterator[Layer | bytes]:
    """The layers as they are read from the bytes, computed fields filled in, or else as given."""
    rest, readable = made.data, True
    layers = framed(packet)[0].layers
    for number, layer in enumerate(layers, 1):
        if isinstance(layer, bytes):
            rest = rest[len(layer) :]
            if layer:
                yield layer
            continue
        found: Any
        try:
            if isinstance(layer, VLANTag):
                found, rest = VLANTag.parse(rest, tpid=layer.tpid)
            else:
                found, rest = type(layer).parse(rest)
            readable = readable and _is_filled(layer, found)
        except WireError:
            readable = False
        if readable and hasattr(layer, "original_datagram") and number < len(layers):
            # It took what stands inside it, and is drawn below, for more of what it quotes.
            rest = found.original_datagram[len(layer.original_datagram) :]
            found = dataclasses.replace(found, original_datagram=layer.original_datagram)
        yield found if readable else layer


def _is_filled(given: Layer, found: Layer) -> bool:
    """Whether all that was given was found again: else lengths lied, and it is another's bytes."""
    for name in field_names(given):
        value, there = getattr(given, name), getattr(found, name)
        same = there.startswith(value) if name == "original_datagram" else value == there
        # The checksum of an extension structure computes too.
        if value is not None and not same and not isinstance(value, ICMPExtensions):
            return False
    return True


_FORMS: dict[str, Callable[[int, Packet], str]] = {
    "line": _line,
    "diagram": _diagram,
    "hexdump": _hexdump,
    "hex": _hex,
    "json": _json,
}


def _show_python(packets: Iterable[Packet]) -> None:
    from rawproto.packets.python import python_code

    kept = []
    for packet in packets:
        packet.emit()  # what can't be made is told here, and not by the script
        kept.append(packet)
        if len(kept) > MAX_PYTHON_PACKETS:
            raise UsageError(f"--python: more than {MAX_PYTHON_PACKETS} packets for one script")
    sys.stdout.write(python_code(kept))
