"""What the writers of both formats have in common: bytes go out in order, and are counted."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import islice
from typing import BinaryIO, Self

from rawproto.capture.packet import CapturedPacket
from rawproto.errors import EmitError, UsageError

__all__ = ["MAX_PACKET_BYTES", "Writer"]

MAX_PACKET_BYTES = 262_144
"""The longest packet that libpcap reads (its MAXIMUM_SNAPLEN), so we write none longer."""

_PIECE = 256
"""How many packets go to the file at once: many enough to save calls, few to be held."""


class Writer:
    """Packets into a file, as they come; also a context manager that closes it.

    Nothing is seeked or rewritten, so a pipe will do. What was flushed is a whole file.

    Args:
        file: opened for binary writing, buffered.
        owned: whether `close` closes it.

    Attributes:
        bytes_written: so far, those not yet flushed included.

    Raises:
        UsageError: the file is a raw one.
    """

    def __init__(self, file: BinaryIO, *, owned: bool = False) -> None:
        if isinstance(file, io.RawIOBase):
            raise UsageError("a capture needs a buffered file: a raw one may take half a packet")
        self._file = file
        self._owned = owned
        self.bytes_written = 0

    def write(self, packet: CapturedPacket) -> None:
        """Writes one packet.

        Raises:
            EmitError: it cannot be said in this format.
            OSError: the file took it ill.
        """
        self._put(self._record(packet))

    def write_all(self, packets: Iterable[CapturedPacket]) -> None:
        """Writes many packets, faster than one by one: they go to the file in large pieces.

        Should one of them, or where they come from, raise something, those before it are written.

        Raises:
            EmitError: as `write`.
            OSError: likewise.
        """
        source, records = iter(packets), list[bytes]()
        try:
            while True:
                # Should something raise, `extend` has kept the records before it.
                records.extend(map(self._record, islice(source, _PIECE)))
                if not records:
                    break
                piece, records = b"".join(records), []
                self._put(piece)
        finally:
            self._put(b"".join(records))

    def _record(self, packet: CapturedPacket) -> bytes:
        """A packet as it stands in the file; what must stand before it is written at once.

        Raises:
            EmitError: as `write`.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Hands everything to the operating system, so that others see it."""
        self._file.flush()

    def close(self) -> None:
        """Flushes, and closes the file if `open_writer` opened it. May be called twice."""
        if self._owned:
            self._file.close()
        else:
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self.bytes_written += len(data)

    @staticmethod
    def _refused(packet: CapturedPacket) -> EmitError:
        """Why no record could be made of a packet."""
        if len(packet.data) > MAX_PACKET_BYTES:
            return EmitError(
                "CapturedPacket.data", f"<{len(packet.data)} bytes>", "more than readers take"
            )
        if not 0 <= packet.original_length <= 0xFFFF_FFFF:
            return EmitError(
                "CapturedPacket.original_length", packet.original_length, "not 32 bits"
            )
        return EmitError(
            "CapturedPacket.time_ns", packet.time_ns, "outside what the format can say"
        )
