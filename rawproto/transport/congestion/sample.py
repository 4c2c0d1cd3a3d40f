"""What a congestion controller is told: bursts sent, packets acknowledged, packets lost."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Acked", "Burst", "Lost"]


@dataclass(slots=True)
class Burst:
    """What all packets that were sent together have in common.

    Attributes:
        sent_ns: when.
        delivered: bytes acknowledged on this path by then.
        delivered_ns: when the last of those were.
        first_sent_ns: when the packet acknowledged last by then was sent.
        app_limited: the sender had run out of data before, and what it lacked still shows.
        lost: bytes lost on this path by then.
        in_flight: bytes that were once all of them had left.
        marked: they left as ECT(0).
    """

    sent_ns: int
    delivered: int
    delivered_ns: int
    first_sent_ns: int
    app_limited: bool
    lost: int = 0
    in_flight: int = 0
    marked: bool = False


@dataclass(slots=True)
class Acked:
    """What one ACK newly acknowledged.

    Attributes:
        now_ns: when it came.
        size: bytes.
        in_flight: bytes that were, before it came.
        burst: of the latest packet in it.
        rtt_ns: of that packet, None where it gave no sample.
        smoothed_rtt: by now, in ns.
        min_rtt: likewise.
        delivered: bytes acknowledged on this path, these included.
        delivery_rate: bytes a second between that packet's sending and now; 0 where unknown.
        window_limited: the window was what kept the sender from sending more.
        remaining: bytes that are in flight still.
        lost: bytes lost on this path, those that this ACK shows included.
    """

    now_ns: int
    size: int
    in_flight: int
    burst: Burst
    rtt_ns: int | None
    smoothed_rtt: int
    min_rtt: int
    delivered: int
    delivery_rate: int
    window_limited: bool
    remaining: int = 0
    lost: int = 0


@dataclass(slots=True)
class Lost:
    """What was found lost at one time.

    Attributes:
        now_ns: when.
        size: bytes; 0 if packets were only marked CE.
        burst: of the latest packet lost, or marked.
        in_flight: bytes that are still.
        min_rtt: in ns.
        lost: bytes lost on this path, these included.
    """

    now_ns: int
    size: int
    burst: Burst
    in_flight: int
    min_rtt: int
    lost: int = 0
