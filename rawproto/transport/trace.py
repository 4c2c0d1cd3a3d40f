"""What a connection tells whoever wants to see inside it; nobody listens by default.

`connection.trace(tracer)` puts one there at any time; `qlog` has one that writes what qvis
draws. A listener's program knows of a connection only when its handshake is over, so the few
packets of a handshake are remembered until a tracer comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from rawproto.wire.rpt import RPTHandshake, RPTInit, RPTLong, RPTRetry, parse_rpt

if TYPE_CHECKING:
    from rawproto.transport.recovery import Recovery

__all__ = ["History", "LongPacket", "Tracer"]

_MOST = 16


class LongPacket(NamedTuple):
    """A packet of a handshake.

    Attributes:
        now_ns: when, monotonic.
        sent: by this side.
        packet_type: as on the wire.
        size: bytes of the whole packet.
        src_cid: in its header.
        dst_cid: likewise.
        token_bytes: of INIT's or RETRY's token, 0 for none.
        message_bytes: of the Noise message in it, 0 for none.
    """

    now_ns: int
    sent: bool
    packet_type: int
    size: int
    src_cid: int
    dst_cid: int
    token_bytes: int
    message_bytes: int


class Tracer(Protocol):
    """Told as it happens; times in monotonic ns, sizes in bytes of whole packets."""

    def handshake_packet(self, packet: LongPacket) -> None:
        """A long packet was sent or came; perhaps some time ago."""

    def packet_sent(self, now_ns: int, number: int, size: int, frames: bytes) -> None:
        """A packet was sealed, with these frames in it."""

    def packet_received(self, now_ns: int, number: int, size: int, frames: bytes) -> None:
        """A packet opened, and was new."""

    def packet_lost(
        self, now_ns: int, number: int, size: int, *, overtaken: bool, probe: bool
    ) -> None:
        """A packet counts as lost.

        Args:
            now_ns: by now.
            number: its number.
            size: in bytes.
            overtaken: enough later ones came; else too much time passed.
            probe: it only tried a larger size.
        """

    def metrics_updated(self, now_ns: int, recovery: Recovery) -> None:
        """RTT, window and what is in flight may have changed."""


class History:
    """The packets of a handshake: told to a tracer, or kept for one to come, 16 at most.

    Attributes:
        tracer: who is told.
        packets: those kept.
    """

    __slots__ = ("packets", "tracer")

    def __init__(self) -> None:
        self.tracer: Tracer | None = None
        self.packets: list[LongPacket] = []

    def note(self, now_ns: int, data: bytes, *, sent: bool) -> None:
        """A packet, well-formed, was sent or came."""
        packet, _ = parse_rpt(data)
        if len(self.packets) >= _MOST or not isinstance(packet, RPTLong):
            return
        token = packet.token if isinstance(packet, RPTInit | RPTRetry) else b""
        message = packet.message if isinstance(packet, RPTInit | RPTHandshake) else b""
        kept = LongPacket(
            now_ns,
            sent,
            packet.packet_type,
            len(data),
            packet.src_cid,
            packet.dst_cid,
            len(token),
            len(message),
        )
        if self.tracer is None:
            self.packets.append(kept)
        else:
            self.tracer.handshake_packet(kept)

    def tell(self, tracer: Tracer) -> None:
        """Somebody wants to know, from now on too."""
        self.tracer = tracer
        for packet in self.packets:
            tracer.handshake_packet(packet)
        self.packets.clear()
