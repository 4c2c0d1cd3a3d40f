"""A link whose packets are written to a capture file, both ways."""

from __future__ import annotations

import os

from rawproto.capture import open_writer
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
        self._writer = open_writer(path)
        super().__init__(link, self._writer.write)

    def close(self) -> None:
        """Writes what is left and closes both."""
        try:
            super().close()
        finally:
            self._writer.close()
