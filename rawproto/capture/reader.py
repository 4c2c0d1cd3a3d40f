"""What the readers of both formats have in common: how packets come, and how damage is told.

A capture is often cut short, by a full disk or a killed tool, and what came before
is as good as ever. So reading ends at the first damage instead of raising, and
`damage` says where it is and what; it is None where a file ends as it should.
Only a file of which nothing can be read raises, when it is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

from rawproto.capture.packet import CapturedPacket, Interface
from rawproto.capture.source import Source
from rawproto.errors import MalformedError, TruncatedError, WireError

__all__ = ["MAX_RECORD_BYTES", "Reader"]

MAX_RECORD_BYTES = 1 << 24
"""Longer packets and blocks are damage. Real ones stay far below; a lie may say 4 GiB."""


class Reader:
    """Packets out of a file, once and in order; also a context manager that closes it.

    A file that `read` opened by its name is closed at its end, too.

    Attributes:
        format: "pcap" or "pcapng".
        interfaces: where packets were captured, more as the file names them.
        damage: what ended the reading early, with the offset in the file (in what it
            inflates to, where it is gzipped); None so far or for good.
    """

    format: ClassVar[str] = ""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.interfaces: list[Interface] = []
        self.damage: WireError | None = None
        self._packets: Iterator[CapturedPacket] = iter(())

    @property
    def link_type(self) -> int | None:
        """Of the first interface; None as long as the file has named none."""
        return self.interfaces[0].link_type if self.interfaces else None

    def close(self) -> None:
        """Closes the file if `read` opened it; what was not read stays unread."""
        self._source.close()

    def __iter__(self) -> Iterator[CapturedPacket]:
        return self._packets

    def __next__(self) -> CapturedPacket:
        return next(self._packets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _malformed(self, offset: int, reason: str) -> None:
        self.damage = MalformedError(self.format, offset, reason)

    def _ended(self, offset: int, needed: int, got: int) -> None:
        """The source has ended: as it should between two records, else that is damage."""
        if self._source.fault:
            self._malformed(offset, self._source.fault)
        elif got:
            self.damage = TruncatedError(self.format, offset, needed, got)
