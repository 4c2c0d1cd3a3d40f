"""decode as text: one line a packet, and under it what was asked for of its inside.

::

    12:00:00.000001 IP 192.0.2.1.1024 > 198.51.100.2.9: UDP, length 3 [wrong UDP checksum]
        EthernetHeader: dst_addr 02:00:00:00:00:02, ...                             -v
        0x0000 EthernetHeader, 0x000e IPv4Header, 0x0022 UDPHeader, 0x002a payload  -x
        0x0000  02 00 00 00 00 02 02 00  00 00 00 01 08 00 45 00  ..............E.

The line is `wire.summary`'s, with the checksums that are wrong behind it. One that the
sending host left to its device holds the pseudo-header's sum; it is wrong too, but no
news, and only -v tells it. A packet of a link type that nobody knows is shown as bytes.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

from rawproto.capture.packet import CapturedPacket, Interface
from rawproto.capture.reader import Reader
from rawproto.cli.decode_files import Captures, Found
from rawproto.cli.decode_rpt import RPTView, opened_words
from rawproto.cli.decode_sequences import Sequences
from rawproto.cli.decode_time import Clock
from rawproto.cli.render import Style
from rawproto.packets.reassembly import Reassembled, Reassembler
from rawproto.wire.diagram import diagram
from rawproto.wire.dissect import LINK_TYPES, RAW, Dissection, checksums, dissect, left_to_device
from rawproto.wire.ethernet import ETHERTYPES, EthernetHeader
from rawproto.wire.show import hexdump, values
from rawproto.wire.summary import summary
from rawproto.wire.words import field_names, printable

if TYPE_CHECKING:
    from rawproto.transport.opened import Reading

__all__ = ["TextReport"]

_INDENT = "    "

_Run = tuple[int, str, tuple[str, ...]]
"""Bytes that belong together: (offset of the first, whose they are, their colour)."""

_LAYER_COLOURS = ("cyan", "green", "yellow")
_NAMES = {
    "arp": "ARP",
    "ipv4": "IPv4",
    "ipv6": "IPv6",
    "802.1q": "802.1Q",
    "802.1ad": "802.1Q-QinQ",
}
_MICROSECONDS = 10**6


class TextReport:
    """Writes packets as they come."""

    def __init__(
        self,
        stream: TextIO,
        arguments: argparse.Namespace,
        rpt: RPTView,
        *,
        several: bool = False,
    ) -> None:
        """
        Args:
            stream: where to.
            arguments: the options of the verb.
            rpt: finds RPT's packets, and opens those that it has keys for.
            several: whether packets of more than one file come, which then are headed by its name.
        """
        self._write = stream.write
        self._style = Style(stream, arguments.color)
        self._arguments = arguments
        self._rpt = rpt
        self._several = several
        self._inside = arguments.verbose or arguments.hex or arguments.diagram
        self._width = shutil.get_terminal_size((100, 24)).columns if stream.isatty() else 100
        self._file = ""
        self._clock = Clock(arguments.time)
        self._interfaces_told = 0
        self._sequences = Sequences()
        self._reassembler = Reassembler()

    def tell(self, captures: Captures) -> None:
        """Writes all that come, and in the end which packets stayed in fragments."""
        time_ns = 0
        for found in captures:
            if found.file != self._file:
                self._begin(found)
            time_ns = found.packet.time_ns
            self._tell(found)
        self._reassembler.end(time_ns)
        self._tell_troubles()

    def _begin(self, found: Found) -> None:
        """A file's first packet: its clock starts anew."""
        if self._several:
            self._write(("\n" if self._file else "") + f"==> {printable(found.file)} <==\n")
        self._file = found.file
        self._clock = Clock(self._arguments.time)
        self._interfaces_told = 0

    def _tell(self, found: Found) -> None:
        packet, reader = found.packet, found.reader
        if self._arguments.verbose and self._interfaces_told < len(reader.interfaces):
            self._tell_interfaces(reader)
        seen = dissect(packet.data, packet.link_type)
        reading = self._rpt.look(found, seen)
        index = packet.interface if isinstance(packet.interface, int) else 0
        fine = reader.interfaces[index].ticks_per_second > _MICROSECONDS
        front = self._clock.stamp(packet.time_ns, 9 if fine else 6)
        if self._arguments.number:
            front = f"{found.number:5d}  {front}"
        if front and self._style.on:
            front = self._style(front, "dim")
        verdicts = checksums(seen)
        base = (0, 0) if self._arguments.absolute else self._sequences.base(seen)
        line = summary(seen, sequence_base=base)
        if self._arguments.ethernet:
            line = _ethernet_words(seen, packet) + line
        if reading is not None and (opened := opened_words(reading)):
            line += f" | {self._style(opened, 'green')}"
        self._write(f"{front}{line}{self._wrong(seen, verdicts)}\n")
        if self._inside:
            if self._arguments.verbose:
                self._tell_circumstances(found)
            self._tell_inside(seen, verdicts)
            if reading is not None:
                self._tell_opened(reading)
        elif packet.link_type not in LINK_TYPES:
            self._indented(hexdump(packet.data))
        if seen.fragment:
            self._tell_whole(self._reassembler.add(seen, packet.time_ns))

    def _wrong(self, seen: Dissection, verdicts: list[tuple[int, bool | None]]) -> str:
        """Words on the checksums that are wrong, "" where none is."""
        wrong = [index for index, valid in verdicts if valid is False]
        if not wrong:
            return ""
        wrong = [index for index in wrong if index not in left_to_device(seen)]
        names = [seen.layers[index].layer for index in wrong]
        return "".join([" " + self._style(f"[wrong {name} checksum]", "red") for name in names])

    def _tell_whole(self, whole: Reassembled | None) -> None:
        """The packet that a fragment completed, and what is wrong with fragments."""
        if whole:
            seen = dissect(whole.packet, RAW)
            verdicts = checksums(seen)
            head = self._style(f"{whole.fragments} fragments make", "bold")
            self._write(f"{_INDENT}{head} {summary(seen)}{self._wrong(seen, verdicts)}\n")
            if self._inside:
                self._tell_inside(seen, verdicts)
        self._tell_troubles()

    def _tell_troubles(self) -> None:
        while trouble := self._reassembler.poll_trouble():
            self._write(_INDENT + self._style(str(trouble), "yellow") + "\n")

    # --- -v ----------------------------------------------------------------------------------

    def _tell_interfaces(self, reader: Reader) -> None:
        for interface in reader.interfaces[self._interfaces_told :]:
            words = f"interface {self._interfaces_told}: {_interface_words(interface)}"
            self._write(self._style(words, "dim") + "\n")
            self._interfaces_told += 1

    def _tell_circumstances(self, found: Found) -> None:
        """What the capture says of a packet beside its bytes."""
        packet, parts = found.packet, []
        if found.interface:
            parts.append(f"on {found.interface}")
        if packet.direction:
            parts.append(packet.direction)
        if packet.original_length != len(packet.data):
            parts.append(f"{len(packet.data)} of {packet.original_length} bytes captured")
        if parts:
            self._write(f"{_INDENT}{printable(', '.join(parts))}\n")
        for line in packet.comment.splitlines():
            self._write(f"{_INDENT}# {printable(line)}\n")

    def _tell_inside(self, seen: Dissection, verdicts: list[tuple[int, bool | None]]) -> None:
        if self._arguments.verbose:
            self._tell_values(seen, dict(verdicts))
        if self._arguments.diagram:
            for layer in seen.layers:
                self._indented(f"{type(layer).__name__}\n{diagram(layer)}")
            if seen.payload:
                self._indented(f"payload, {len(seen.payload)} bytes\n{diagram(seen.payload)}")
        if self._arguments.hex:
            self._tell_bytes(seen)

    def _tell_values(self, seen: Dissection, verdicts: dict[int, bool | None]) -> None:
        device = left_to_device(seen) if False in verdicts.values() else frozenset()
        words = {True: "right", False: self._style("wrong", "red"), None: "not verified"}
        for index, layer in enumerate(seen.layers):
            pieces = []
            for name, text in values(layer):
                if name == "checksum" and index in verdicts:
                    verdict = "left to the device" if index in device else words[verdicts[index]]
                    text = f"{text} ({verdict})"
                elif name == "original_datagram" and (original := getattr(layer, name)):
                    text = f"{len(original)} bytes ({summary(dissect(original, RAW))})"
                pieces.append(f"{name} {text}")
            self._paragraph(type(layer).__name__, pieces)
        for name, data in (("payload", seen.payload), ("trailer", seen.trailer)):
            if data:
                start = data[:24].hex(" ") + (" ..." if len(data) > 24 else "")
                self._paragraph(name, [f"{len(data)} bytes", start])
        if seen.damage:
            self._paragraph("damage", [self._style(str(seen.damage), "red")])

    def _tell_opened(self, reading: Reading) -> None:
        """What stood sealed in an RPT packet: its frames, and their bytes."""
        if self._arguments.verbose:
            if reading.sealed:
                self._paragraph("sealed", [reading.sealed])
            for frame in reading.frames:
                pieces = [f"{name} {text}" for name, text in values(frame) if text != "auto"]
                self._paragraph(type(frame).__name__, pieces or ["no fields"])
            if reading.damage:
                self._paragraph("damage", [self._style(str(reading.damage), "red")])
        if self._arguments.hex and reading.plaintext:
            self._write(f"{_INDENT}opened, {len(reading.plaintext)} bytes\n")
            self._indented(hexdump(reading.plaintext))

    def _paragraph(self, head: str, pieces: Iterable[str]) -> None:
        """`head: piece, piece, ...`, broken between the pieces."""
        line = f"{_INDENT}{self._style(f'{head}:', 'bold')}"
        used = len(_INDENT) + len(head) + 1
        separator = " "
        for piece in pieces:
            if used + len(separator) + len(piece) >= self._width and separator != " ":
                line += f",\n{_INDENT * 2}{piece}"
                used = 2 * len(_INDENT) + len(piece)
            else:
                line += separator + piece
                used += len(separator) + len(piece)
            separator = ", "
        self._write(line + "\n")

    # --- -x ----------------------------------------------------------------------------------

    def _tell_bytes(self, seen: Dissection) -> None:
        """A legend of where each layer begins, and the bytes in the layers' colours."""
        if not seen.data:
            return
        runs: list[_Run] = [
            (start, type(layer).__name__, (_LAYER_COLOURS[index % len(_LAYER_COLOURS)],))
            for index, (layer, start) in enumerate(zip(seen.layers, seen.offsets, strict=True))
        ]
        end = seen.payload_offset + len(seen.payload)
        if seen.payload:
            runs.append((seen.payload_offset, "payload", ()))
        if seen.trailer:
            runs.append((end, "trailer", ("dim",)))
        legend = [self._style(f"{start:#06x} {name}", *colour) for start, name, colour in runs]
        self._write(f"{_INDENT}{', '.join(legend)}\n")
        text = hexdump(seen.data)
        self._indented(self._coloured(text, runs) if self._style.on else text)

    def _coloured(self, dump: str, runs: list[_Run]) -> str:
        """A hexdump whose bytes, as numbers and as text, are coloured by the layer they are of."""
        colours: list[tuple[str, ...]] = []
        for (start, _, colour), end in zip(
            runs, [*(start for start, _, _ in runs[1:]), 16 * dump.count("\n") + 16], strict=True
        ):
            colours += [colour] * (end - start)
        lines = []
        for at, line in enumerate(dump.split("\n")):
            row = colours[16 * at : 16 * at + 16]
            head, numbers, text = line[:8], line[8:56], line[58:]
            words, letters, byte = "", "", 0
            for colour, run in groupby(row[: len(text)]):
                size = len(list(run))
                begin, end = _column(byte), _column(byte + size)
                words += self._style(numbers[begin:end], *colour)
                letters += self._style(text[byte : byte + size], *colour)
                byte += size
            lines.append(f"{head}{words}{numbers[_column(byte) :]}  {letters}")
        return "\n".join(lines)

    def _indented(self, text: str) -> None:
        self._write("".join([f"{_INDENT}{line}\n" for line in text.split("\n")]))


def _column(byte: int) -> int:
    """Where a byte's number stands in a line of the hexdump, whose halves are a space apart."""
    return 3 * byte + (byte >= 8)


def _ethernet_words(seen: Dissection, packet: CapturedPacket) -> str:
    """tcpdump's -e: an Ethernet header in words, "" where the packet begins with another."""
    header = seen.layers[0] if seen.layers else None
    if not isinstance(header, EthernetHeader):
        return ""
    number = header.ethertype or 0
    name = ETHERTYPES.get(number, "unknown")
    kind = "802.3" if number <= 1500 else f"ethertype {_NAMES.get(name, name)} ({number:#06x})"
    return f"{header.src_addr} > {header.dst_addr}, {kind}, length {packet.original_length}: "


def _interface_words(interface: Interface) -> str:
    """What a capture says of where it was made, as far as it says anything."""
    link_type = interface.link_type
    parts = [f"link type {link_type} ({LINK_TYPES.get(link_type, 'unknown')})"]
    for name in field_names(interface):
        value = getattr(interface, name)
        if value and name not in ("link_type", "name", "ticks_per_second"):
            parts.append(f"{name} {value}")
    return printable(", ".join([interface.name, *parts] if interface.name else parts))
