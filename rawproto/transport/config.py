"""What a side of RPT chooses for itself: time-outs, windows, limits.

All times are in nanoseconds, all sizes in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from rawproto.transport.constants import Kind

__all__ = ["Config"]

SECOND = 1_000_000_000
KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of a connection.

    Attributes:
        kind: streams, messages or datagrams; both sides must agree.
        congestion: name of the controller, one of `congestion.CONTROLLERS`.
        cipher: `"AESGCM"` or `"ChaChaPoly"`, the client's choice.
        handshake_timeout_ns: until when a handshake must be done.
        idle_timeout_ns: silence after which a connection is forgotten, 0 for never.
        dead_path_ns: silence after which it is lost although something is in flight.
        keep_alive_ns: after so much silence a PING is sent, 0 for never.
        linger_ns: after so much silence `close` waits no longer for what was sent to be
            acknowledged; of kind DGRAM after 3 s at most.
        linger_most_ns: it waits so long at most, whatever the peer says.
        window_bytes: flow control's first window, of a stream and of a connection.
        max_window_bytes: what it grows to.
        shared_window_bytes: the window of a connection, once and for all, so that streams that
            nobody reads leave room for others: windows of streams grow by what half of it has
            beyond the first ones of all that may be open. 0: it begins and grows as a stream's.
        max_streams: how many streams of each sort the peer may have open at once.
        send_buffer_bytes: what a stream takes in before its sender has to wait, at least.
        max_message_bytes: the longest message taken, in SEQPACKET.
        max_datagram_bytes: the largest datagram taken, 0 for none.
        datagram_queue: datagrams kept in either direction; what comes above is lost.
        max_packet_bytes: the largest packet sent and taken.
    """

    kind: Kind = Kind.STREAM
    congestion: str = "bbr"
    cipher: str = "AESGCM"
    handshake_timeout_ns: int = 10 * SECOND
    idle_timeout_ns: int = 30 * SECOND
    dead_path_ns: int = 16 * SECOND
    keep_alive_ns: int = 0
    linger_ns: int = 10 * SECOND
    linger_most_ns: int = 120 * SECOND
    window_bytes: int = 2 * MIB
    max_window_bytes: int = 16 * MIB
    shared_window_bytes: int = 0
    max_streams: int = 128
    send_buffer_bytes: int = MIB
    max_message_bytes: int = 16 * MIB
    max_datagram_bytes: int = 65_000
    datagram_queue: int = 64
    max_packet_bytes: int = 65_507
