"""What a capture says: a line a packet, a JSON record a packet, or how far it is.

::

    05:14:00.123456 IP 10.0.0.1.40000 > 10.0.0.2.53: 4660+ A? example.org. (29)
    05:14:00.123456 eth0 out IP 10.0.0.1.40000 > 10.0.0.2.53: 4660+ A? example.org. (29)

The second form is for several interfaces. Times are local, as tcpdump has them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from rawproto.capture.packet import CapturedPacket
from rawproto.cli.render import json_line
from rawproto.drivers.capture_source import CaptureSource
from rawproto.drivers.sniff import packets_in
from rawproto.link.ring import Block
from rawproto.wire.dissect import dissect
from rawproto.wire.show import summary

if TYPE_CHECKING:
    from rawproto.drivers.capture_session import CaptureSession

__all__ = ["JSONLines", "Progress", "TextLines"]

PROGRESS_NS = 250_000_000


class TextLines:
    """A line a packet.

    Args:
        stream: where to.
        source: where the packets come from.

    Attributes:
        count: packets told so far.
    """

    def __init__(self, stream: TextIO, source: CaptureSource) -> None:
        self.count = 0
        self._stream = stream
        self._source = source
        self._names_interfaces = len(source.watched) != 1
        self._second, self._clock = -1, ""

    def tell(self, block: Block, limit: int | None) -> None:
        """Tells the packets of a block, `limit` in all at most."""
        for packet in packets_in(block, self._source):
            self.count += 1
            self._stream.write(self._line(packet))
            if self.count == limit:
                return

    def _line(self, packet: CapturedPacket) -> str:
        words = [self._time(packet.time_ns)]
        if self._names_interfaces:
            words += [f"{packet.interface:<5}", f"{packet.direction:<3}"]
        words.append(summary(dissect(packet.data, packet.link_type)))
        return " ".join(words) + "\n"

    def _time(self, time_ns: int) -> str:
        second, rest_ns = divmod(time_ns, 1_000_000_000)
        if second != self._second:
            self._second, self._clock = second, time.strftime("%H:%M:%S", time.localtime(second))
        return f"{self._clock}.{rest_ns // 1000:06}"


class JSONLines(TextLines):
    """A JSON record a packet, as `decode --json` has them."""

    def _line(self, packet: CapturedPacket) -> str:
        from rawproto.packets.json import packet_fields

        found = dissect(packet.data, packet.link_type)
        interface = str(packet.interface)
        return json_line("packet", packet_fields(self.count, packet, found, interface=interface))


class Progress:
    """One line on a terminal that says how far a capture into a file is.

    Args:
        stream: a terminal, or something else, to which nothing is said unasked.
        session: the capture.
    """

    def __init__(self, stream: TextIO, session: CaptureSession) -> None:
        self._stream = stream
        self._session = session
        self._shows = stream.isatty()
        self._told_ns = 0

    def refresh(self) -> None:
        """Says it again, four times a second at most."""
        now_ns = time.monotonic_ns()
        if self._shows and now_ns - self._told_ns >= PROGRESS_NS:
            self._told_ns = now_ns
            self._stream.write(f"\r{self._line()}\x1b[K")
            self._stream.flush()

    def tell(self) -> None:
        """Says it because somebody asked, on any stream."""
        self._stream.write(f"\r\x1b[K{self._line()}\n" if self._shows else f"{self._line()}\n")
        self._stream.flush()

    def end(self) -> None:
        """Takes the line away, for what comes last."""
        if self._shows:
            self._stream.write("\r\x1b[K")

    def _line(self) -> str:
        session = self._session
        line = f"{session.captured} packets"
        if session.files > 1:
            line += f", {session.files} files"
        dropped = session.source.ring.dropped
        return f"{line}, {dropped} dropped by kernel" if dropped else line
