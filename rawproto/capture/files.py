"""Capture files by name: which format, read and written.

A reader tells the format by how a file begins, a writer by its suffix.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import BinaryIO, Literal

from rawproto.capture.packet import CapturedPacket, Interface
from rawproto.capture.pcap import PcapReader, PcapWriter
from rawproto.capture.pcapng import PcapngReader
from rawproto.capture.pcapng_writer import PcapngWriter
from rawproto.capture.reader import Reader
from rawproto.capture.source import Source
from rawproto.capture.writer import Writer
from rawproto.errors import UsageError

__all__ = ["Format", "open_writer", "read", "write"]

Format = Literal["pcap", "pcapng"]

_SUFFIXES: dict[str, Format] = {".pcap": "pcap", ".cap": "pcap", ".pcapng": "pcapng"}
_PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"


def read(file: str | os.PathLike[str] | BinaryIO) -> Reader:
    """Opens a capture for reading.

    Iterate over the reader for its packets. Reading ends at the first damage, with what
    came before it read; look at the reader's `damage` afterwards.

    Args:
        file: a path, or something opened for binary reading, gzipped or not, a pipe too.

    Returns:
        A `PcapReader` or a `PcapngReader`, as the file begins.

    Raises:
        OSError: the file cannot be opened or read.
        WireError: it is no capture, or is cut short within its header.
    """
    if not isinstance(file, str | os.PathLike):
        return _reader(Source(file))
    opened = open(file, "rb", buffering=0)  # noqa: SIM115 the reader closes it
    try:
        return _reader(Source(opened, owned=True))
    except BaseException:
        opened.close()
        raise


def _reader(source: Source) -> Reader:
    return PcapngReader(source) if source.peek(4) == _PCAPNG_MAGIC else PcapReader(source)


def open_writer(
    file: str | os.PathLike[str] | BinaryIO,
    *,
    format: Format | None = None,
    interfaces: Sequence[Interface] = (),
) -> Writer:
    """Opens a capture to be written packet by packet.

    Args:
        file: a path, or something opened for binary writing, which stays open.
        format: None tells it by the path's suffix: `.pcapng`, `.pcap` or `.cap`.
        interfaces: those that packets name by index (pcapng only).

    Raises:
        UsageError: no format is given and the suffix names none.
        OSError: the file cannot be opened or written.
    """
    name = os.fspath(file) if isinstance(file, str | os.PathLike) else ""
    format = format or _SUFFIXES.get(os.path.splitext(name)[1].lower())
    if format not in ("pcap", "pcapng"):
        raise UsageError(f"{name or 'a file'}: name it .pcap or .pcapng, or give the format")
    if isinstance(file, str | os.PathLike):
        return _writer(open(file, "wb"), format, interfaces, owned=True)
    return _writer(file, format, interfaces, owned=False)


def _writer(
    file: BinaryIO, format: Format, interfaces: Sequence[Interface], *, owned: bool
) -> Writer:
    if format == "pcap":
        return PcapWriter(file, owned=owned)
    return PcapngWriter(file, interfaces, owned=owned)


def write(
    file: str | os.PathLike[str] | BinaryIO,
    packets: Iterable[CapturedPacket],
    *,
    format: Format | None = None,
    interfaces: Sequence[Interface] | None = None,
) -> int:
    """Writes packets to a capture file.

    Should something fail half-way, what was written by then is a whole file. Of a reader
    the packets and their interfaces are copied, not its secrets and statistics.

    Args:
        file: as for `open_writer`.
        packets: in the order of the file; a reader's will do.
        format: as for `open_writer`.
        interfaces: those that packets name by index; None takes the reader's, if
            `packets` is one. Only pcapng can say them.

    Returns:
        How many bytes were written.

    Raises:
        UsageError: no format is given and the suffix names none.
        EmitError: a packet cannot be said in this format.
        OSError: the file cannot be opened or written.
    """
    if interfaces is None:
        interfaces = packets.interfaces if isinstance(packets, Reader) else ()
    with open_writer(file, format=format, interfaces=interfaces) as writer:
        writer.write_all(packets)
    return writer.bytes_written
