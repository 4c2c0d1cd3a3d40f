"""What a ping is told to do, and what it tells: plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rawproto.machine import StampSource

if TYPE_CHECKING:
    from rawproto.wire.ipv4_options import IPv4Option

__all__ = [
    "Fragmentation",
    "PingConfig",
    "PingError",
    "PingEvent",
    "PingLost",
    "PingOutstanding",
    "PingReply",
    "PingSent",
    "PingTarget",
]

Fragmentation = Literal["do", "want", "dont", "probe"]
"""ping's -M: `do` sets DF and refuses what is too big, `want` sets DF and fragments here what
exceeds the path MTU, `dont` leaves DF clear, `probe` sets DF and heeds no path MTU."""


@dataclass(slots=True, kw_only=True)
class PingTarget:
    """One address to ping.

    Attributes:
        name: as the user gave it.
        dst_addr: IPv4 or IPv6, without scope.
        src_addr: what the packets leave with.
        scope: `eth0` of `fe80::1%eth0`, "" without one.
        interface: index of the interface that `scope` names, 0 without one.
        mtu: of the path as far as this host knows it, in bytes.
        many: a multicast or broadcast address, which several hosts may answer.
    """

    name: str
    dst_addr: str
    src_addr: str
    scope: str = ""
    interface: int = 0
    mtu: int = 1500
    many: bool = False


@dataclass(slots=True, kw_only=True)
class PingConfig:
    """How to ping; times in ns.

    Attributes:
        identifier: 16 bits, the same for all targets.
        count: probes to each target, None for no end; with a deadline, replies wanted.
        interval_ns: between probes to one target; a flood heeds it not.
        timeout_ns: after which a probe is given up, None for 10 s and an end as soon as
            two of the longest round trips have passed since the last probe.
        deadline_ns: after which everything ends, None for never.
        payload: what each request carries.
        ttl: TTL or hop limit.
        dscp: 6 bits.
        ecn: 2 bits.
        flow_label: IPv6 only.
        fragmentation: see `Fragmentation`.
        link_fragments: the link takes requests whole, and cuts them itself.
        flood: answers call for probes, at most 10 ms apart.
        adaptive: answers call for probes, at most the interval apart.
        floor_ns: the shortest time between probes of a flood or an adaptive ping.
        preload: probes that are sent at once in the beginning.
        options: of the IPv4 header; record route and timestamps get this host's entry.
        realtime_offset_ns: realtime minus monotonic, for those timestamps.
        report_outstanding: whether a probe still unanswered is told before the next (-O).
    """

    identifier: int
    count: int | None = None
    interval_ns: int = 1_000_000_000
    timeout_ns: int | None = None
    deadline_ns: int | None = None
    payload: bytes = b""
    ttl: int = 64
    dscp: int = 0
    ecn: int = 0
    flow_label: int = 0
    fragmentation: Fragmentation = "want"
    link_fragments: bool = False
    flood: bool = False
    adaptive: bool = False
    floor_ns: int = 0
    preload: int = 1
    options: tuple[IPv4Option, ...] = ()
    realtime_offset_ns: int = 0
    report_outstanding: bool = False


@dataclass(slots=True, kw_only=True)
class PingSent:
    """A probe is on its way."""

    target: PingTarget
    sequence_number: int


@dataclass(slots=True, kw_only=True)
class PingReply:
    """An echo reply.

    Attributes:
        target: whose probe it answers.
        src_addr: who answered.
        sequence_number: 16 bits, as on the wire.
        identifier: likewise.
        size: of the ICMP message, header and payload, in bytes.
        ttl: on arrival, None where unknown.
        rtt_ns: receive stamp minus transmit stamp.
        queued_ns: how long the probe waited in this host, None without kernel stamps.
        tx_stamp: who took the transmit stamp.
        rx_stamp: who took the receive stamp.
        received_ns: when it came, monotonic.
        duplicate: whether the probe had been answered before.
        late: whether the probe had been given up before.
        reordered: whether a later probe's reply came before.
        valid: whether its checksum is right.
        wrong_at: offset of the first payload byte that is not what was sent, None if none;
            the payload's end where it came back shorter.
        payload: what came back.
        options: of the reply's IPv4 header.
    """

    target: PingTarget
    src_addr: str
    sequence_number: int
    identifier: int
    size: int
    ttl: int | None
    rtt_ns: int
    queued_ns: int | None
    tx_stamp: StampSource
    rx_stamp: StampSource
    received_ns: int
    duplicate: bool
    late: bool
    reordered: bool
    valid: bool
    wrong_at: int | None
    payload: bytes
    options: tuple[IPv4Option, ...]


@dataclass(slots=True, kw_only=True)
class PingLost:
    """A probe was given up."""

    target: PingTarget
    sequence_number: int


@dataclass(slots=True, kw_only=True)
class PingOutstanding:
    """The probe before the one that is about to go has no answer yet."""

    target: PingTarget
    sequence_number: int


@dataclass(slots=True, kw_only=True)
class PingError:
    """An ICMP error about a probe, or this host's refusal to send it.

    Attributes:
        target: whose probe it was.
        src_addr: who says so, "" for this host.
        sequence_number: of the probe.
        icmp_type: None for this host's own refusal.
        code: likewise.
        message: in words.
        mtu: that would fit, where the error tells.
        received_ns: when it came, monotonic.
    """

    target: PingTarget
    src_addr: str
    sequence_number: int
    icmp_type: int | None
    code: int | None
    message: str
    received_ns: int
    mtu: int | None = None


PingEvent = PingSent | PingReply | PingLost | PingOutstanding | PingError
