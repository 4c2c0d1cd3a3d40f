"""From a ring's block to the records of a capture file, without an object for a packet.

A record of a pcap file with nanoseconds begins with the four numbers that stand in the
kernel's own record, in the same order, so it is two slices out of the block::

    block  | ... | seconds, nanoseconds, captured, length | ... | frame | ...
    pcap         | seconds, nanoseconds, captured, length |       frame |

The file is therefore in the host's byte order, which its magic tells. pcapng has another
head, one `pack` a packet, and behind the frame what hardly changes: padding, direction,
length. What is rare takes the slow way through `CapturedPacket` and the writers of
`capture`: the first packet of an interface, a VLAN tag to be put back, odd hardware.
"""

from __future__ import annotations

import io
import struct
import time
from dataclasses import replace
from typing import Protocol

from rawproto.capture import PcapngWriter
from rawproto.capture.blocks import InterfaceStatistics, Section
from rawproto.capture.packet import Interface
from rawproto.drivers.capture_source import CaptureSource
from rawproto.drivers.sniff import cooked_frame, packets_in
from rawproto.link.admission import COOKED
from rawproto.link.ring import (
    LARGEST_FRAME,
    PACKET_OUTGOING,
    VLAN_VALID,
    Block,
    Record,
    frame_of,
)

__all__ = ["CookedRecords", "PcapRecords", "PcapngRecords", "Records"]

_FILE_HEADER = struct.Struct("=IHHIIII")
_PCAP_RECORD = struct.Struct("=IIII")
_NANOSECOND_MAGIC = 0xA1B23C4D

# Of the ring's record, what these loops need; `Record` has all of it.
_FOR_PCAP = struct.Struct("@I8xI4xIH")
_FOR_PCAPNG = struct.Struct("@IIIIIIH26xi2xB")

_ENHANCED_PACKET = 6
_PACKET_HEAD = struct.Struct("<IIIIIII")
# Option 2 (flags) of four bytes, the end of options, and the block's length again.
_PACKET_TAIL = struct.Struct("<HHIII")
_IN, _OUT = 1, 2


class Records(Protocol):
    """What makes records out of blocks, for one file after the other.

    Attributes:
        parts_per_record: of how many pieces of bytes each record consists.
    """

    parts_per_record: int

    def begin(self) -> bytes:
        """What stands at the head of a file."""
        ...

    def encode(self, block: Block, limit: int) -> list[bytes]:
        """The next `limit` records of a block, fewer if there are fewer, as pieces."""
        ...

    def end(self, received: int, dropped: int) -> bytes:
        """What stands at the end of a file.

        Args:
            received: packets so far that passed the filter, the dropped ones included.
            dropped: those for which the kernel had no room.
        """
        ...


class PcapRecords:
    """Frames of one link type, as a pcap file has them.

    Args:
        link_type: theirs.
        snaplen: how many bytes of each are kept at most.
    """

    parts_per_record = 2

    def __init__(self, link_type: int, snaplen: int) -> None:
        self._link_type = link_type
        self._snaplen = snaplen

    def begin(self) -> bytes:
        return _FILE_HEADER.pack(_NANOSECOND_MAGIC, 2, 4, 0, 0, LARGEST_FRAME, self._link_type)

    def encode(self, block: Block, limit: int) -> list[bytes]:
        # This loop is what a capture costs: locals only, and one test a packet.
        data, at, unpack = block.data, block.at, _FOR_PCAP.unpack_from
        parts: list[bytes] = []
        append = parts.append
        count = min(limit, block.left)
        for _ in range(count):
            following, captured, status, frame = unpack(data, at)
            if status & VLAN_VALID:
                parts += self._slow(data, at)
            else:
                start = at + frame
                append(data[at + 4 : at + 20])
                append(data[start : start + captured])
            at += following
        block.at = at
        block.left -= count
        return parts

    def end(self, received: int, dropped: int) -> bytes:
        return b""

    def _slow(self, data: bytes, at: int) -> tuple[bytes, bytes]:
        record = Record.parse(data, at)
        frame, length = self._frame(record, data, at)
        header = _PCAP_RECORD.pack(record.seconds, record.nanoseconds, len(frame), length)
        return header, frame

    def _frame(self, record: Record, data: bytes, at: int) -> tuple[bytes, int]:
        return frame_of(record, data, at, self._snaplen)


class CookedRecords(PcapRecords):
    """Frames of all kinds of interface under one link type, Linux cooked v2, as pcap wants it."""

    def __init__(self, snaplen: int) -> None:
        super().__init__(COOKED, snaplen)

    def encode(self, block: Block, limit: int) -> list[bytes]:
        data, at = block.data, block.at
        parts: list[bytes] = []
        count = min(limit, block.left)
        for _ in range(count):
            parts += self._slow(data, at)
            at += _FOR_PCAP.unpack_from(data, at)[0]
        block.at = at
        block.left -= count
        return parts

    def _frame(self, record: Record, data: bytes, at: int) -> tuple[bytes, int]:
        return cooked_frame(record, data, at, self._snaplen)


class PcapngRecords:
    """Frames as a pcapng file has them, each with its interface and direction.

    Args:
        source: where they come from; those of its interfaces that were named are described
            at the head of a file, others before their first packet.
        comment: about the whole capture.
    """

    parts_per_record = 3

    def __init__(self, source: CaptureSource, comment: str = "") -> None:
        self._source = source
        self._section = Section(application="rawproto", comment=comment)
        self._sink = io.BytesIO()
        self._writer = PcapngWriter(self._sink)
        self._interfaces: list[Interface] = []
        self._numbers: dict[int, int] = {}  # index -> place in `_interfaces`, as in the file
        self._introduced: set[int] = set()  # indexes whose packets may go the fast way
        self._delivered = 0
        self._tails: dict[tuple[int, bool], tuple[int, bytes]] = {}

    def begin(self) -> bytes:
        self._sink = io.BytesIO()
        self._introduced.clear()
        self._writer = PcapngWriter(self._sink, self._interfaces, section=self._section)
        for index in self._source.watched:
            self._writer.describe(self._number(index))
        return self._taken()

    def encode(self, block: Block, limit: int) -> list[bytes]:
        data, at, unpack, pack = block.data, block.at, _FOR_PCAPNG.unpack_from, _PACKET_HEAD.pack
        numbers, introduced, tails = self._numbers, self._introduced, self._tails
        parts: list[bytes] = []
        append = parts.append
        count = min(limit, block.left)
        block.left -= count
        self._delivered += count
        for _ in range(count):
            following, seconds, rest_ns, captured, length, status, frame, index, kind = unpack(
                data, at
            )
            if status & VLAN_VALID or index not in introduced:
                parts += self._slow(data, at, index)
            else:
                time_ns = seconds * 1_000_000_000 + rest_ns
                start = at + frame
                key = (captured, kind == PACKET_OUTGOING)
                total, tail = tails.get(key) or self._tail(*key)
                append(
                    pack(
                        _ENHANCED_PACKET,
                        total,
                        numbers[index],
                        time_ns >> 32,
                        time_ns & 0xFFFF_FFFF,
                        captured,
                        length,
                    )
                )
                append(data[start : start + captured])
                append(tail)
            at += following
        block.at = at
        return parts

    def end(self, received: int, dropped: int) -> bytes:
        single = len(self._numbers) == 1
        for place in range(len(self._numbers)):
            # One ring is for all of them, so what it dropped is none's in particular.
            self._writer.write_statistics(
                InterfaceStatistics(
                    interface=place,
                    time_ns=time.time_ns(),
                    accepted_by_filter=received if single else None,
                    dropped_by_os=dropped if place == 0 else None,
                    delivered=self._delivered if single else None,
                    comment="" if single or place else "drops are those of all interfaces",
                )
            )
        return self._taken()

    def _slow(self, data: bytes, at: int, index: int) -> tuple[bytes, bytes, bytes]:
        """One packet through the writer, with the description of its interface if need be."""
        (packet,) = packets_in(Block(data, at, 1, 0), self._source)
        packet.interface = number = self._number(index, packet.link_type)
        self._writer.write(packet)
        if self._interfaces[number].link_type != COOKED:
            self._introduced.add(index)
        return self._taken(), b"", b""

    def _number(self, index: int, link_type: int | None = None) -> int:
        number = self._numbers.get(index)
        if number is None:
            number = self._numbers[index] = len(self._interfaces)
            described = self._source.describe(index)
            if link_type is not None:  # it may be gone, but this is what its packets are
                described = replace(described, link_type=link_type)
            self._interfaces.append(described)
        return number

    def _tail(self, captured: int, outgoing: bool) -> tuple[int, bytes]:
        """(total length, what stands behind the frame) of a packet's block."""
        padding = bytes(-captured & 3)
        total = 28 + captured + len(padding) + _PACKET_TAIL.size
        tail = padding + _PACKET_TAIL.pack(2, 4, _OUT if outgoing else _IN, 0, total)
        if len(self._tails) > 4096:
            self._tails.clear()
        self._tails[captured, outgoing] = total, tail
        return total, tail

    def _taken(self) -> bytes:
        """What the writer has written since."""
        data = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return data
