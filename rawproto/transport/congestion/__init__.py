"""Congestion control: what a controller is, and which ones there are.

A controller is told by bursts, not by packets: what one ACK newly acknowledged, what one
look for losses found. It answers with two numbers, `window` and, if it wants to pace by
itself, `pacing_rate`. To try another one (docs/congestion.md), write a module with a class
of these methods, name it in `CONTROLLERS`, and run it: `rawproto sim --congestion NAME`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rawproto.transport.congestion.bbr import BBR
from rawproto.transport.congestion.cubic import Cubic
from rawproto.transport.congestion.newreno import NewReno
from rawproto.transport.congestion.sample import Acked, Burst, Lost

__all__ = ["CONTROLLERS", "Acked", "Burst", "Controller", "Entropy", "Lost"]


class Controller(Protocol):
    """What recovery asks of a congestion controller. Times in ns, amounts in bytes.

    Attributes:
        window: how much may be in flight.
        pacing_rate: bytes a second to send at; None leaves it to window and RTT.
        slow_start: whether the window is still looking for its size.
    """

    @property
    def window(self) -> int: ...

    @property
    def pacing_rate(self) -> int | None: ...

    @property
    def slow_start(self) -> bool: ...

    def on_acked(self, acked: Acked) -> None:
        """An ACK acknowledged packets for the first time."""

    def on_lost(self, lost: Lost) -> None:
        """Packets were lost, or (with no bytes) marked CE on their way."""

    def on_restart(self, now_ns: int) -> None:
        """Something leaves after the program had nothing to send and nothing was in flight."""

    def on_spurious(self) -> None:
        """All that was thought lost since the last reduction had come: it is taken back."""

    def on_persistent_congestion(self) -> None:
        """Nothing got through for long (RFC 9002 section 7.6)."""

    def on_packet_size(self, size: int) -> None:
        """The size of packets changed."""


Entropy = Callable[[int], bytes]
CONTROLLERS: dict[str, Callable[[int, Entropy], Controller]] = {
    "newreno": lambda packet, entropy: NewReno(packet),
    "cubic": lambda packet, entropy: Cubic(packet),
    "bbr": BBR,
}
"""By name: made with the size of packets, in bytes, and a source of so many random bytes."""
