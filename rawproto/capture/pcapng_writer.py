"""Writing pcapng, block after block, so that a file is whole whenever it is flushed.

Little-endian, one section, time stamps in whole nanoseconds (if_tsresol 9). An
interface is described just before the first packet that names it, so they need
not be known beforehand. The blocks are drawn in `blocks` and `pcapng`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from rawproto.capture import blocks
from rawproto.capture.blocks import InterfaceStatistics, Section, emit_options
from rawproto.capture.packet import CapturedPacket, Interface
from rawproto.capture.reader import MAX_RECORD_BYTES
from rawproto.capture.writer import MAX_PACKET_BYTES, Writer
from rawproto.errors import EmitError
from rawproto.wire.address import pack_mac

__all__ = ["PcapngWriter"]

_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
_PACKET = struct.Struct("<IIIIIII")
_PADDING = (b"", bytes(1), bytes(2), bytes(3))
_FLAGS = {"": 0, "in": 1, "out": 2}
_NANOSECONDS = 9


class PcapngWriter(Writer):
    """Packets into a pcapng file; see `Writer`.

    Args:
        file: opened for binary writing.
        interfaces: descriptions of those that packets name by index. It may grow while
            writing; an index beyond it, or a name, makes a description of its own.
        section: what stands at the head; None names rawproto as the application.
        owned: whether `close` closes the file.

    Raises:
        OSError: the file took it ill.
    """

    def __init__(
        self,
        file: BinaryIO,
        interfaces: Sequence[Interface] = (),
        *,
        section: Section | None = None,
        owned: bool = False,
    ) -> None:
        super().__init__(file, owned=owned)
        self._interfaces = interfaces
        self._introduced = 0  # how many of `interfaces` have been described
        self._numbers: dict[tuple[int | str, int], int] = {}  # (interface, link type) -> in file
        section = section or Section(application="rawproto")
        texts = enumerate((section.comment, section.hardware, section.os, section.application), 1)
        # The section's length is -1: not known.
        fields = (blocks.BYTE_ORDER_MAGIC, 1, 0, -1)
        self._put_block(blocks.SECTION, "<IHHq", fields, emit_options(_given(texts)))

    def _record(self, packet: CapturedPacket) -> bytes:
        number = self._numbers.get((packet.interface, packet.link_type))
        if number is None:
            number = self._introduce(packet.interface, packet.link_type)
        data = packet.data
        captured = len(data)
        padding = _PADDING[-captured & 3]
        options = b""
        if packet.direction or packet.comment:
            options = self._packet_options(packet)
        total = 32 + captured + len(padding) + len(options)
        try:
            if captured > MAX_PACKET_BYTES:
                raise struct.error
            head = _PACKET.pack(
                blocks.ENHANCED_PACKET,
                total,
                number,
                packet.time_ns >> 32,
                packet.time_ns & 0xFFFF_FFFF,
                captured,
                packet.original_length,
            )
        except struct.error:
            raise self._refused(packet) from None
        return b"".join((head, data, padding, options, _LENGTH.pack(total)))

    def describe(self, interface: int | str) -> None:
        """Writes the description of an interface, if it isn't there, before a packet names it."""
        self._introduce(interface, None)

    def write_secrets(self, secrets_type: int, data: bytes) -> None:
        """Writes keys, to stand before the packets that they are for.

        Args:
            secrets_type: `TLS_KEY_LOG`, `RPT_KEY_LOG` or another number.
            data: in that type's format.
        """
        self._put_block(blocks.SECRETS, "<II", (secrets_type, len(data)), data)

    def write_statistics(self, statistics: InterfaceStatistics) -> None:
        """Writes an interface's counts, as they are known so far or at the end."""
        number = self._introduce(statistics.interface, None)
        counts = (
            statistics.received,
            statistics.dropped_by_interface,
            statistics.accepted_by_filter,
            statistics.dropped_by_os,
            statistics.delivered,
        )
        values = _given([(1, statistics.comment)])
        for code, count in enumerate(counts, start=4):
            if count is not None:
                values.append((code, _u64("InterfaceStatistics", count)))
        time_ns = statistics.time_ns
        fields = (number, time_ns >> 32, time_ns & 0xFFFF_FFFF)
        self._put_block(blocks.STATISTICS, "<III", fields, emit_options(values))

    def write_custom(self, enterprise_number: int, data: bytes, *, copy: bool = True) -> None:
        """Writes a block of one's own.

        Args:
            enterprise_number: whose, of IANA's Private Enterprise Numbers.
            data: anything; zeros pad it to 32 bits.
            copy: whether tools may carry it over into files they write.
        """
        block_type = blocks.CUSTOM if copy else blocks.CUSTOM_NOT_TO_COPY
        self._put_block(block_type, "<I", (enterprise_number,), data)

    def _introduce(self, interface: int | str, link_type: int | None) -> int:
        """The number in the file of an interface, described if it wasn't; None: any link type."""
        described = Interface(link_type=1)
        if isinstance(interface, str):
            described = Interface(link_type=1, name=interface)
        elif 0 <= interface < len(self._interfaces):
            # Those before it come first, so that a copy of a file numbers them as the file does.
            while self._introduced <= interface:
                described = self._interfaces[self._introduced]
                self._describe(self._introduced, described.link_type, described)
                self._introduced += 1
            described = self._interfaces[interface]
        if link_type is None:
            for (named, _), number in self._numbers.items():
                if named == interface:
                    return number
            link_type = described.link_type
        known = self._numbers.get((interface, link_type))
        return self._describe(interface, link_type, described) if known is None else known

    def _describe(self, interface: int | str, link_type: int, described: Interface) -> int:
        """Writes an interface description block: the number that it has in the file."""
        values = _given(
            (
                (1, described.comment),
                (2, described.name),
                (3, described.description),
                (12, described.os),
                (15, described.hardware),
            )
        )
        if described.mac_addr:
            values.append((6, pack_mac(described.mac_addr)))
        if described.speed_bps:
            values.append((8, _u64("Interface.speed_bps", described.speed_bps)))
        if described.filter:
            values.append((11, b"\x00" + described.filter.encode()))  # 0: it is text
        values.append((9, bytes((_NANOSECONDS,))))
        fields = (link_type, 0, described.snaplen)
        self._put_block(blocks.INTERFACE, "<HHI", fields, emit_options(values))
        number = self._numbers[interface, link_type] = len(self._numbers)
        return number

    @staticmethod
    def _packet_options(packet: CapturedPacket) -> bytes:
        values = _given([(1, packet.comment)])
        if packet.direction:
            flags = _FLAGS.get(packet.direction)
            if flags is None:
                raise EmitError("CapturedPacket.direction", packet.direction, "is in, out or ''")
            values.append((2, _LENGTH.pack(flags)))
        return emit_options(values)

    def _put_block(
        self, block_type: int, layout: str, fields: tuple[int, ...], data: bytes
    ) -> None:
        """Any block but a packet's: its fixed fields, and what comes behind them."""
        try:
            body = struct.pack(layout, *fields) + data
        except struct.error:
            raise EmitError("pcapng block", fields, "a field does not fit") from None
        total = 12 + len(body) + (-len(body) & 3)
        if total > MAX_RECORD_BYTES:
            raise EmitError("pcapng block", f"<{total} bytes>", "more than readers take")
        head, tail = _HEAD.pack(block_type, total), _LENGTH.pack(total)
        self._put(b"".join((head, body, _PADDING[-len(body) & 3], tail)))


def _given(texts: Iterable[tuple[int, str]]) -> list[tuple[int, bytes]]:
    """The options among (code, text) that say something."""
    return [(code, text.encode()) for code, text in texts if text]


def _u64(field: str, value: int) -> bytes:
    try:
        return value.to_bytes(8, "little")
    except OverflowError:
        raise EmitError(field, value, "must be 0 to 2**64 - 1") from None
