"""Reading pcapng, the capture format of blocks (draft-ietf-opsawg-pcapng).

An enhanced packet block, the usual one::

    +---------------------------------------------------------------+
    |  block type: 6                                                |
    |  total length                                                 |
    |  interface, counted from 0 within the section                 |
    |  time, upper 32 bits                                          |
    |  time, lower 32 bits, in units of the interface's resolution  |
    |  captured length                                              |
    |  original length                                              |
    |  data, padded to 32 bits ...                                  |
    |  options: comment 1, flags 2 (direction), drop count 4 ...    |
    |  total length                                                 |
    +---------------------------------------------------------------+

Sections of either byte order may follow one another. Blocks that are not known are
skipped, as the format wants it, and counted; a block that contradicts itself ends
the reading, because where the next one begins cannot be believed any more.

It decrypts nothing and resolves no names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import chain
from math import gcd
from typing import ClassVar, Literal, NamedTuple

from rawproto.capture import blocks
from rawproto.capture.blocks import (
    CustomBlock,
    InterfaceStatistics,
    Secrets,
    Section,
    UnknownBlock,
    options,
    text_of,
)
from rawproto.capture.packet import CapturedPacket, Direction, Interface
from rawproto.capture.reader import MAX_RECORD_BYTES, Reader
from rawproto.capture.source import Source
from rawproto.errors import MalformedError, TruncatedError, WireError
from rawproto.wire.address import unpack_mac

__all__ = ["Block", "PcapngReader"]

Block = (
    CapturedPacket
    | Interface
    | Section
    | InterfaceStatistics
    | Secrets
    | CustomBlock
    | UnknownBlock
)

_MAX_INTERFACES = 65_536
_MAX_SECRETS_BYTES = 1 << 24
_LOOK_AHEAD = 16
"""How many blocks are read when a file is opened, to know its first interface."""

_DIRECTIONS: tuple[Direction, ...] = ("", "in", "out", "")

_SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDER_MAGIC = b"\x4d\x3c\x2b\x1a"
"""As a little-endian section has it."""

_new = object.__new__


class _Clock(NamedTuple):
    """An interface as its packets need it: time in ns is ticks * times // by + offset_ns.

    `plain` says that the ticks are nanoseconds already.
    """

    interface: int
    link_type: int
    plain: bool
    snaplen: int
    times: int
    by: int
    offset_ns: int

    def time_ns(self, ticks: int) -> int:
        return ticks * self.times // self.by + self.offset_ns


class PcapngReader(Reader):
    """Packets of a pcapng file; see `Reader`. `blocks` gives all the rest too, in order.

    Args:
        source: at its beginning.

    Attributes:
        secrets: those read so far.
        statistics: interface -> the latest of its statistics so far.
        dropped: how many packets the file says, packet by packet, were lost before it.
        skipped_blocks: how many blocks were skipped: name resolution, unknown ones.

    Raises:
        WireError: the first block is no sound section header.
    """

    format: ClassVar[str] = "pcapng"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.secrets: list[Secrets] = []
        self.statistics: dict[int | str, InterfaceStatistics] = {}
        self.dropped = 0
        self.skipped_blocks = 0
        self._secrets_bytes = 0
        self._byte_order: Literal["little", "big"] = "little"
        self._order = "<"
        self._unpack_u32 = struct.Struct("<I").unpack_from
        self._unpack_packet = struct.Struct("<IIIIIII").unpack_from
        self._clocks: list[_Clock] = []  # the section's own interfaces
        self._options_seen: dict[bytes, tuple[Direction, str, int]] = {}
        read = self._read()
        ahead: list[Block] = []
        for block in read:
            ahead.append(block)
            if self.interfaces or len(ahead) == _LOOK_AHEAD:
                break
        if not ahead:
            raise self.damage or TruncatedError("pcapng", 0, 12, 0)
        self._blocks = chain(ahead, read)
        self._packets = (block for block in self._blocks if isinstance(block, CapturedPacket))

    def blocks(self) -> Iterator[Block]:
        """Everything in the file that has not been read, one value a block, packets too."""
        return self._blocks

    def _read(self) -> Iterator[Block]:
        """Cuts the source into blocks and reads each; the one place where damage ends it."""
        buffer, base, at = b"", 0, 0  # `buffer` is what the file has from `base` on
        try:
            while True:
                # Nearly all blocks are enhanced packets, and this loop is what reading costs.
                # It takes those that are whole and sound, and leaves the rest to what follows.
                unpack_packet, unpack_u32, clocks = (
                    self._unpack_packet,
                    self._unpack_u32,
                    self._clocks,
                )
                before, interface, link_type, plain = -1, 0, 0, True
                try:
                    while True:
                        block_type, total, number, high, low, captured, original = unpack_packet(
                            buffer, at
                        )
                        start, end = at + 28, at + total
                        data_end = start + captured
                        if block_type != blocks.ENHANCED_PACKET or data_end > end - 4 or total & 3:
                            break
                        if unpack_u32(buffer, end - 4)[0] != total:
                            break
                        if number != before:
                            clock = clocks[number]
                            interface, link_type, plain = clock[:3]
                            before = number
                        packet = _new(CapturedPacket)
                        time_ns = high << 32 | low
                        packet.time_ns = time_ns if plain else clock.time_ns(time_ns)
                        packet.data = buffer[start:data_end]
                        packet.original_length = original
                        packet.link_type = link_type
                        packet.interface = interface
                        packet.direction = ""
                        packet.comment = ""
                        data_end += -captured & 3
                        if data_end < end - 4:
                            self._packet_options(
                                packet, buffer[data_end : end - 4], base + data_end
                            )
                        yield packet
                        at = end
                except (struct.error, IndexError):
                    pass  # it is not all in the buffer, or names no interface

                needed = 12
                while True:
                    if len(buffer) - at < needed:
                        base += at
                        buffer, at = self._source.more(buffer[at:], needed), 0
                        if len(buffer) < needed:
                            self._ended(base, needed, len(buffer))
                            return
                    total = self._total(buffer[at : at + 12], base + at)
                    if total == needed:
                        break
                    needed = total
                end = at + total
                if self._unpack_u32(buffer, end - 4)[0] != total:
                    raise _malformed(base + end - 4, f"a block of {total} bytes ends otherwise")
                (block_type,) = self._unpack_u32(buffer, at)
                body, offset = buffer[at + 8 : end - 4], base + at + 8
                if block_type == blocks.ENHANCED_PACKET:
                    self._check_packet(body, offset)
                    continue
                yield _PARSERS.get(block_type, PcapngReader._unknown)(
                    self, body, offset, block_type
                )
                at = end
        except WireError as error:
            self.damage = error
        finally:
            self.close()

    def _total(self, start: bytes, offset: int) -> int:
        """The total length of a block from its first 12 bytes; a section's tell its byte order."""
        if start.startswith(_SECTION_MAGIC):
            self._begin_section(start[8:12], offset + 8)
        elif offset == 0:
            raise _malformed(0, f"no pcapng file begins with {start[:4].hex()}")
        total: int = self._unpack_u32(start, 4)[0]
        if total < 12 or total & 3 or total > MAX_RECORD_BYTES:
            raise _malformed(offset + 4, f"a block of {total} bytes")
        return total

    def _begin_section(self, magic: bytes, offset: int) -> None:
        """What the byte-order magic tells, and that interfaces are numbered anew."""
        if magic == _BYTE_ORDER_MAGIC:
            self._order, self._byte_order = "<", "little"
        elif magic == _BYTE_ORDER_MAGIC[::-1]:
            self._order, self._byte_order = ">", "big"
        else:
            raise _malformed(offset, f"no byte-order magic: {magic.hex()}")
        self._unpack_u32 = struct.Struct(self._order + "I").unpack_from
        self._unpack_packet = struct.Struct(self._order + "IIIIIII").unpack_from
        self._clocks = []
        self._options_seen = {}

    def _check_packet(self, body: bytes, offset: int) -> None:
        """Raises what is wrong with an enhanced packet block that the loop above left."""
        number, _, _, captured, _ = self._fields("IIIII", body, offset)
        if captured > len(body) - 20:
            raise _malformed(offset + 12, f"{captured} bytes in a block of {len(body) + 12}")
        self._clock(number, offset)

    def _old_packet(self, body: bytes, offset: int, _: int) -> CapturedPacket:
        """The obsolete packet block: the interface has 16 bits, and so have the drops."""
        number, drops, high, low, captured, original = self._fields("HHIIII", body, offset)
        if captured > len(body) - 20:
            raise _malformed(offset + 12, f"{captured} bytes in a block of {len(body) + 12}")
        clock = self._clock(number, offset)
        if drops != 0xFFFF:  # that is "unknown"
            self.dropped += drops
        packet = CapturedPacket(
            time_ns=clock.time_ns(high << 32 | low),
            data=body[20 : 20 + captured],
            original_length=original,
            link_type=clock.link_type,
            interface=clock.interface,
        )
        behind = 20 + captured + (-captured & 3)
        self._packet_options(packet, body[behind:], offset + behind)
        return packet

    def _simple_packet(self, body: bytes, offset: int, _: int) -> CapturedPacket:
        """A packet of the first interface, without a time."""
        (original,) = self._fields("I", body, offset)
        clock = self._clock(0, offset)
        captured = min(original, clock.snaplen or original)
        if captured > len(body) - 4:
            raise _malformed(offset, f"{captured} bytes in a block of {len(body) + 12}")
        return CapturedPacket(
            time_ns=0,
            data=body[4 : 4 + captured],
            original_length=original,
            link_type=clock.link_type,
            interface=clock.interface,
        )

    def _packet_options(self, packet: CapturedPacket, data: bytes, offset: int) -> None:
        """Fills in what the options of a packet being read say."""
        # Those without a comment are the same from packet to packet.
        known = self._options_seen.get(data)
        if known is None:
            values = self._options(data, offset)
            flags, drops = self._number(values.get(2, b"")), self._number(values.get(4, b""))
            known = _DIRECTIONS[flags & 3], text_of(values[1]), drops
            if len(data) <= 32 and len(self._options_seen) < 64:
                self._options_seen[data] = known
        packet.direction, packet.comment, drops = known
        self.dropped += drops

    def _section(self, body: bytes, offset: int, _: int) -> Section:
        _, major, minor, _ = self._fields("IHHQ", body, offset)
        if major != 1:
            raise _malformed(offset + 4, f"version {major}.{minor}, not 1.0")
        values = self._options(body[16:], offset + 16)
        return Section(
            byte_order=self._byte_order,
            comment=text_of(values[1]),
            hardware=text_of(values.get(2, b"")),
            os=text_of(values.get(3, b"")),
            application=text_of(values.get(4, b"")),
        )

    def _interface(self, body: bytes, offset: int, _: int) -> Interface:
        link_type, _, snaplen = self._fields("HHI", body, offset)
        if len(self.interfaces) == _MAX_INTERFACES:
            raise _malformed(offset, f"more than {_MAX_INTERFACES} interfaces")
        values = self._options(body[8:], offset + 8)
        resolution = values.get(9, b"\x06")[:1]
        exponent = self._number(resolution)
        ticks_per_second = 1 << (exponent & 0x7F) if exponent & 0x80 else 10**exponent
        offset_s = int.from_bytes(values.get(14, b"")[:8], self._byte_order, signed=True)
        shared = gcd(10**9, ticks_per_second)
        self._clocks.append(
            _Clock(
                interface=len(self.interfaces),
                link_type=link_type,
                plain=ticks_per_second == 10**9 and not offset_s,
                snaplen=snaplen,
                times=10**9 // shared,
                by=ticks_per_second // shared,
                offset_ns=offset_s * 10**9,
            )
        )
        mac_addr = values.get(6, b"")
        interface = Interface(
            link_type=link_type,
            snaplen=snaplen,
            ticks_per_second=ticks_per_second,
            name=text_of(values.get(2, b"")),
            description=text_of(values.get(3, b"")),
            mac_addr=unpack_mac(mac_addr) if len(mac_addr) == 6 else "",
            speed_bps=self._number(values.get(8, b"")),
            filter=text_of(values.get(11, b"")[1:]),  # behind a byte that says it is text
            os=text_of(values.get(12, b"")),
            hardware=text_of(values.get(15, b"")),
            comment=text_of(values[1]),
        )
        self.interfaces.append(interface)
        return interface

    def _statistics(self, body: bytes, offset: int, _: int) -> InterfaceStatistics:
        number, high, low = self._fields("III", body, offset)
        clock = self._clock(number, offset)
        values = self._options(body[12:], offset + 12)
        counts = {code: self._number(value) for code, value in values.items() if 4 <= code <= 8}
        statistics = InterfaceStatistics(
            interface=clock.interface,
            time_ns=clock.time_ns(high << 32 | low),
            received=counts.get(4),
            dropped_by_interface=counts.get(5),
            accepted_by_filter=counts.get(6),
            dropped_by_os=counts.get(7),
            delivered=counts.get(8),
            comment=text_of(values[1]),
        )
        self.statistics[clock.interface] = statistics
        return statistics

    def _secrets(self, body: bytes, offset: int, _: int) -> Secrets:
        secrets_type, length = self._fields("II", body, offset)
        if length > len(body) - 8:
            raise _malformed(offset + 4, f"{length} bytes in a block of {len(body) + 12}")
        self._secrets_bytes += length
        if self._secrets_bytes > _MAX_SECRETS_BYTES:
            raise _malformed(offset, f"more than {_MAX_SECRETS_BYTES} bytes of secrets")
        secrets = Secrets(secrets_type=secrets_type, data=body[8 : 8 + length])
        self.secrets.append(secrets)
        return secrets

    def _custom(self, body: bytes, offset: int, block_type: int) -> CustomBlock:
        (number,) = self._fields("I", body, offset)
        return CustomBlock(
            enterprise_number=number, data=body[4:], copy=block_type == blocks.CUSTOM
        )

    def _unknown(self, body: bytes, offset: int, block_type: int) -> UnknownBlock:
        self.skipped_blocks += 1
        return UnknownBlock(block_type=block_type, body=body)

    def _clock(self, number: int, offset: int) -> _Clock:
        try:
            return self._clocks[number]
        except IndexError:
            known = len(self._clocks)
            raise _malformed(offset, f"interface {number}, but only {known} there") from None

    def _fields(self, layout: str, body: bytes, offset: int) -> tuple[int, ...]:
        """The fixed fields that a block's body begins with."""
        try:
            return struct.unpack_from(self._order + layout, body)
        except struct.error:
            needed = struct.calcsize("<" + layout)
            raise TruncatedError("pcapng", offset, needed, len(body)) from None

    def _options(self, data: bytes, offset: int) -> dict[int, bytes]:
        """Options by code; comments, of which there may be several, in one."""
        values: dict[int, bytes] = {}
        comments = []
        for code, value in options("pcapng", self._order, data, offset):
            values[code] = value
            if code == 1:
                comments.append(value)
        values[1] = b"\n".join(comments)
        return values

    def _number(self, value: bytes) -> int:
        """The value of an option that is a number."""
        return int.from_bytes(value[:8], self._byte_order)


def _malformed(offset: int, reason: str) -> MalformedError:
    return MalformedError("pcapng", offset, reason)


_PARSERS: dict[int, Callable[[PcapngReader, bytes, int, int], Block]] = {
    blocks.SECTION: PcapngReader._section,
    blocks.INTERFACE: PcapngReader._interface,
    blocks.OLD_PACKET: PcapngReader._old_packet,
    blocks.SIMPLE_PACKET: PcapngReader._simple_packet,
    blocks.STATISTICS: PcapngReader._statistics,
    blocks.SECRETS: PcapngReader._secrets,
    blocks.CUSTOM: PcapngReader._custom,
    blocks.CUSTOM_NOT_TO_COPY: PcapngReader._custom,
}
"""Block type -> how its body is read: (reader, body, where that is in the file, type)."""
