"""What a connection tells whoever wants to see inside it; nobody listens by default.

A tracer is put at `connection.sender.recovery.tracer`. `qlog` has one that writes what
qvis draws. Data packets alone are told of: a handshake has its own, in the clear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rawproto.transport.recovery import Recovery

__all__ = ["Tracer"]


class Tracer(Protocol):
    """Told as it happens; times in monotonic ns, sizes in bytes of whole packets."""

    def packet_sent(self, now_ns: int, number: int, size: int, frames: bytes) -> None:
        """A packet was sealed, with these frames in it."""

    def packet_received(self, now_ns: int, number: int, size: int, frames: bytes) -> None:
        """A packet opened, and was new."""

    def packet_lost(self, now_ns: int, number: int, size: int) -> None:
        """A packet counts as lost."""

    def metrics_updated(self, now_ns: int, recovery: Recovery) -> None:
        """RTT, window and what is in flight may have changed."""
