"""The classic capture format, read and written (draft-ietf-opsawg-pcap).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------------------------------------------------------+
    |  magic: A1B2C3D4 microseconds, A1B23C4D nanoseconds           |   once
    +-------------------------------+-------------------------------+
    |       major version (2)       |       minor version (4)       |
    +-------------------------------+-------------------------------+
    |  reserved (was: time zone)                                    |
    |  reserved (was: accuracy)                                     |
    |  snaplen                                                      |
    +-------------------------------+-------------------------------+
    |  about the FCS                |  link type                    |
    +-------------------------------+-------------------------------+

    +---------------------------------------------------------------+
    |  seconds since the epoch                                      |   each packet
    |  microseconds or nanoseconds                                  |
    |  captured length                                              |
    |  original length                                              |
    |  data ...                                                     |
    +---------------------------------------------------------------+

All in the byte order of whoever wrote it, which the magic tells. Linux once had a
variant (magic A1B2CD34) with 8 more bytes in front of the data; they are skipped.

The format knows one link type and no interface, direction or comment: they are
lost in writing. A record cannot be told from rubbish, so damage ends the reading.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, ClassVar

from rawproto.capture.packet import CapturedPacket, Interface
from rawproto.capture.reader import MAX_RECORD_BYTES, Reader
from rawproto.capture.source import Source
from rawproto.capture.writer import MAX_PACKET_BYTES, Writer
from rawproto.errors import EmitError, MalformedError, TruncatedError, UsageError

__all__ = ["PcapReader", "PcapWriter"]

_HEADER = struct.Struct("<IHHIIII")
_pack_record = struct.Struct("<IIII").pack

# magic as bytes: byte order, layout of a record, nanoseconds per unit of its fraction
_MAGICS = {
    struct.pack(order + "I", magic): (order, order + record, unit_ns)
    for order in "<>"
    for magic, record, unit_ns in (
        (0xA1B2C3D4, "IIII", 1000),
        (0xA1B23C4D, "IIII", 1),
        (0xA1B2CD34, "IIII8x", 1000),
    )
}

_new = object.__new__


class PcapReader(Reader):
    """Packets of a pcap file; see `Reader`. It has one interface.

    Args:
        source: at its beginning.

    Raises:
        TruncatedError: it ends within the file header.
        MalformedError: it is no pcap file.
    """

    format: ClassVar[str] = "pcap"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        header = source.more(b"", _HEADER.size)
        kind = _MAGICS.get(header[:4])
        if kind is None and len(header) >= 4:
            reason = f"not a capture file: it begins with {header[:4].hex()}"
            raise MalformedError("pcap", 0, reason)
        if len(header) < _HEADER.size:
            raise TruncatedError("pcap", 0, _HEADER.size, len(header))
        assert kind is not None
        order, record, self._unit_ns = kind
        _, major, minor, _, _, snaplen, network = struct.unpack_from(order + "IHHIIII", header)
        # Before 2.4 (1998) the two lengths stood in the other order.
        if (major, minor) != (2, 4):
            raise MalformedError("pcap", 4, f"version {major}.{minor}, not 2.4")
        self.interfaces.append(
            Interface(
                link_type=network & 0xFFFF,
                snaplen=snaplen,
                ticks_per_second=10**9 // self._unit_ns,
            )
        )
        self._packets = self._read(struct.Struct(record), header)

    def _read(self, record: struct.Struct, buffer: bytes) -> Iterator[CapturedPacket]:
        # This loop is what reading costs. So: locals only, slots set one by one, whole
        # seconds remembered, and one comparison a packet; all rarer cases are below it.
        unpack_from, header = record.unpack_from, record.size
        link_type, unit_ns = self.interfaces[0].link_type, self._unit_ns
        seconds_before, whole_ns = -1, 0
        base, at = 0, _HEADER.size  # where `buffer` is in the file, where the record is in it
        try:
            while True:
                available = len(buffer)
                needed = header
                try:
                    while True:
                        seconds, fraction, captured, original = unpack_from(buffer, at)
                        start = at + header
                        end = start + captured
                        if end > available:
                            needed += captured
                            break
                        if seconds != seconds_before:
                            seconds_before, whole_ns = seconds, seconds * 1_000_000_000
                        packet = _new(CapturedPacket)
                        packet.time_ns = whole_ns + fraction * unit_ns
                        packet.data = buffer[start:end]
                        packet.original_length = original
                        packet.link_type = link_type
                        packet.interface = 0
                        packet.direction = ""
                        packet.comment = ""
                        yield packet
                        at = end
                except struct.error:
                    pass  # not even the record's header is there
                base += at
                if needed > header + MAX_RECORD_BYTES:
                    self._malformed(base + 8, f"a packet of {needed - header} bytes")
                    return
                buffer = self._source.more(buffer[at:], needed)
                at = 0
                if len(buffer) < needed:
                    self._ended(base, needed, len(buffer))
                    return
        finally:
            self.close()


class PcapWriter(Writer):
    """Packets into a pcap file; see `Writer`. Little-endian, version 2.4.

    The file header is written with the first packet, or by `close`.

    Args:
        file: opened for binary writing.
        link_type: None takes that of the first packet; all others must have it too.
        nanoseconds: time stamps are whole; else cut to microseconds, for old readers.
        owned: whether `close` closes the file.

    Raises:
        UsageError: no such link type.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        link_type: int | None = None,
        nanoseconds: bool = True,
        owned: bool = False,
    ) -> None:
        super().__init__(file, owned=owned)
        if link_type is not None and not 0 <= link_type <= 0xFFFF:
            raise UsageError(f"link type {link_type}: must be 0 to 65535")
        self.link_type = link_type
        self._said: int | None = None  # in the file header, once it is written
        self._magic, self._unit_ns = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1000)

    def _record(self, packet: CapturedPacket) -> bytes:
        if packet.link_type != self._said:
            self._admit(packet.link_type)
        data = packet.data
        seconds, rest_ns = divmod(packet.time_ns, 1_000_000_000)
        captured = len(data)
        try:
            if captured > MAX_PACKET_BYTES:
                raise struct.error
            header = _pack_record(
                seconds, rest_ns // self._unit_ns, captured, packet.original_length
            )
        except struct.error:
            raise self._refused(packet) from None
        return header + data

    def close(self) -> None:
        if not self.bytes_written:
            self._begin(1)
        super().close()

    def _admit(self, link_type: int) -> None:
        """Takes the link type of the first packet; no other one's may differ."""
        if not self.bytes_written:
            self._begin(link_type)
        if link_type != self.link_type:
            raise EmitError(
                "CapturedPacket.link_type",
                link_type,
                f"this pcap file is of link type {self.link_type}; pcapng can mix them",
            )

    def _begin(self, link_type: int) -> None:
        """Writes the file header; `link_type` holds where none was given."""
        if self.link_type is None:
            if not 0 <= link_type <= 0xFFFF:
                raise EmitError("CapturedPacket.link_type", link_type, "must be 0 to 65535")
            self.link_type = link_type
        self._put(_HEADER.pack(self._magic, 2, 4, 0, 0, MAX_PACKET_BYTES, self.link_type))
        self._said = self.link_type
