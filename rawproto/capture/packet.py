"""What a capture file is about: packets, and the interfaces they were seen on.

Plain values that both formats share. They know neither format, and nothing of what
is inside a packet: `wire.dissect` reads that, told the `link_type`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CapturedPacket", "Direction", "Interface"]

Direction = Literal["in", "out", ""]
"""Which way a packet went by the capturing host; "" where the file doesn't tell."""


@dataclass(slots=True, kw_only=True, init=False)
class CapturedPacket:
    """One packet of a capture.

    Attributes:
        time_ns: when it was captured, nanoseconds since the epoch (UTC); 0 where the
            file doesn't tell.
        data: its bytes as captured, from the first of the link layer on.
        original_length: how many bytes it had on the wire; more than `data` when cut short.
        link_type: what `data` begins with (https://www.tcpdump.org/linktypes.html).
        interface: read from a file, an index into the reader's `interfaces`; to be
            written, that or a name.
        direction: which way it went.
        comment: free text; several of one packet are joined by newlines.
    """

    time_ns: int
    data: bytes
    original_length: int
    link_type: int
    interface: int | str
    direction: Direction
    comment: str

    def __init__(
        self,
        *,
        time_ns: int,
        data: bytes,
        original_length: int | None = None,
        link_type: int = 1,
        interface: int | str = 0,
        direction: Direction = "",
        comment: str = "",
    ) -> None:
        """An `original_length` of None is that of `data`: nothing was cut off."""
        self.time_ns = time_ns
        self.data = data
        self.original_length = len(data) if original_length is None else original_length
        self.link_type = link_type
        self.interface = interface
        self.direction = direction
        self.comment = comment


@dataclass(slots=True, kw_only=True)
class Interface:
    """Where packets were captured. Texts and numbers that the file doesn't tell are empty or 0.

    Attributes:
        link_type: of its packets.
        name: `eth0` and the like.
        description: free text.
        snaplen: how many bytes of a packet were kept at most; 0 for no limit.
        ticks_per_second: how fine its time stamps are; what we write is always 10**9.
        mac_addr: lower case with colons.
        speed_bps: bits a second.
        filter: the capture filter, as text.
        os: operating system of the host.
        hardware: of the interface.
        comment: free text.
    """

    link_type: int
    name: str = ""
    description: str = ""
    snaplen: int = 0
    ticks_per_second: int = 10**9
    mac_addr: str = ""
    speed_bps: int = 0
    filter: str = ""
    os: str = ""
    hardware: str = ""
    comment: str = ""
