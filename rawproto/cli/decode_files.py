"""Packets out of several captures, one after another: filtered, counted, damage told.

A file that cannot be opened or is damaged ends nothing but itself: it is told in one line
on stderr, behind what was read of it, and the next file follows. A filter is compiled
for each link type when the first packet of that type comes. Memory does not grow
with the files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rawproto.capture import CapturedPacket, read
from rawproto.capture.reader import Reader
from rawproto.cli.file_filter import FileFilter
from rawproto.errors import TruncatedError, UsageError, WireError
from rawproto.wire.dissect import LINK_TYPES

__all__ = ["Captures", "Found", "open_capture", "unreadable"]


class Found(NamedTuple):
    """One packet of a file.

    Attributes:
        file: its name, as given.
        reader: which knows its interface.
        number: of the packet in its file, from 1 on, those that no filter let through too.
        packet: as captured.
    """

    file: str
    reader: Reader
    number: int
    packet: CapturedPacket

    @property
    def interface(self) -> str:
        """The name of where it was captured, "" where the file doesn't tell."""
        interfaces, index = self.reader.interfaces, self.packet.interface
        return interfaces[index].name if isinstance(index, int) else index


class Captures:
    """An iterator over the packets that were asked for.

    Attributes:
        failed: whether a file so far could not be opened, or not be read to its end.
    """

    def __init__(
        self, files: Sequence[str], *, expression: str = "", count: int | None = None
    ) -> None:
        """
        Args:
            files: names; `-` is standard input.
            expression: a filter, "" for none.
            count: of packets, None for all.

        Raises:
            UsageError: the filter is none (`FilterError`).
        """
        self.failed = False
        self._files = files
        # Made before a file is opened, so that what is wrong with it shows first.
        self._passes = FileFilter(expression) if expression else None
        self._left = count
        self._strange: set[int] = set()

    def __iter__(self) -> Iterator[Found]:
        for name in self._files:
            try:
                reader = open_capture(name)
            except OSError as error:
                self._fail(name, error.strerror or str(error))
                continue
            except WireError as error:
                self._fail(name, unreadable(error))
                continue
            number = 0
            try:
                with reader:
                    for number, packet in enumerate(reader, 1):
                        if packet.link_type not in LINK_TYPES:
                            self._wonder(name, packet.link_type)
                        if self._passes is not None and not self._passes(packet):
                            continue
                        yield Found(name, reader, number, packet)
                        if self._left is not None:
                            self._left -= 1
                            if not self._left:
                                return
            except OSError as error:  # the disk, or a directory that was opened like a file
                self._fail(name, f"{error.strerror or error} ({number} packets read)")
            if reader.damage:
                self._fail(name, f"{reader.damage} ({number} packets read)")

    def _wonder(self, name: str, link_type: int) -> None:
        if link_type not in self._strange:
            self._strange.add(link_type)
            _complain(f"{name}: link type {link_type} is not known, its packets are but bytes")

    def _fail(self, name: str, reason: str) -> None:
        self.failed = True
        _complain(f"{'standard input' if name == '-' else name}: {reason}")


def open_capture(name: str) -> Reader:
    """Opens a file, or standard input for `-`.

    Raises:
        UsageError: standard input is a terminal.
        OSError: it cannot be opened.
        WireError: it is no capture; `unreadable` words it.
    """
    if name != "-":
        return read(name)
    if sys.stdin.isatty():
        raise UsageError("-: standard input is a terminal, no capture")
    return read(sys.stdin.buffer)


def unreadable(error: WireError) -> str:
    """Why a file is no capture, in words."""
    if isinstance(error, TruncatedError) and not (error.offset or error.got):
        return "not a capture file: it is empty"
    return str(error)


def _complain(words: str) -> None:
    """One line on stderr, behind everything that was shown before."""
    sys.stdout.flush()
    sys.stderr.write(f"rawproto decode: {words}\n")
