"""A link whose packets are written to a capture file, both ways."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rawproto.capture import CapturedPacket, open_writer
from rawproto.link.base import Link
from rawproto.link.tap import TapLink

__all__ = ["RecordingLink"]


class RecordingLink(TapLink):
    """Wraps a link; closing it closes the file, and the link inside."""

    def __init__(self, link: Link, path: str | os.PathLike[str]) -> None:
        """
        Args:
            link: what carries the packets; owned from here on.
            path: of the file, its suffix says which format: `.pcapng`, `.pcap` or `.cap`.

        Raises:
            UsageError: the suffix names no format.
            OSError: the file cannot be opened; the link stays open.
        """
        self._path = os.fspath(path)
        self._writer = open_writer(path)
        super().__init__(link, self._write)

    def close(self) -> None:
        """Writes what is left and closes both."""
        try:
            super().close()
        finally:
            with self._named():
                self._writer.close()

    def _write(self, packet: CapturedPacket) -> None:
        with self._named():
            self._writer.write(packet)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What goes wrong with the file says with which: the kernel does not."""
        try:
            yield
        except OSError as error:
            error.filename = self._path
            raise
