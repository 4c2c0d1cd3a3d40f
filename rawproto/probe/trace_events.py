"""What a traceroute is told to do, and what it tells: plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rawproto.machine import StampSource
from rawproto.wire.icmp_objects import InterfaceInformation, MPLSLabel

__all__ = [
    "TraceAnswer",
    "TraceConfig",
    "TraceEvent",
    "TraceHop",
    "TraceMTU",
    "TraceMethod",
    "TraceSummary",
]

TraceMethod = Literal["icmp", "udp", "tcp"]


@dataclass(slots=True, kw_only=True)
class TraceConfig:
    """How to trace; times in ns.

    Attributes:
        method: what the probes are: echo requests, UDP datagrams or TCP SYNs.
        dst_addr: whither, without a scope.
        src_addr: what the probes leave with.
        scope: `eth0` of `fe80::1%eth0`, "" without one.
        src_port: of UDP and TCP probes, the same for all; ICMP's identifier.
        dst_port: of UDP and TCP probes, the same for all.
        first_ttl: where to begin.
        max_ttl: where to stop if nothing else does.
        queries: probes to each hop.
        window: probes under way at once, overdue ones not counted.
        wait_ns: after which a probe is given up when nothing is known.
        here_times: ... or after so many round trips of an answer from the same hop,
        near_times: ... or of one from a farther hop.
        send_gap_ns: between two probes, 0 for none.
        size: of the whole packet, in bytes.
        find_mtu: whether probes shrink to what a router says would fit.
        dscp: 6 bits.
        flow_label: IPv6 only, the same for all.
    """

    method: TraceMethod
    dst_addr: str
    src_addr: str
    src_port: int
    dst_port: int
    scope: str = ""
    first_ttl: int = 1
    max_ttl: int = 30
    queries: int = 3
    window: int = 32
    wait_ns: int = 5_000_000_000
    here_times: float = 3.0
    near_times: float = 2.0
    send_gap_ns: int = 0
    size: int = 60
    find_mtu: bool = False
    dscp: int = 0
    flow_label: int = 0


@dataclass(slots=True, kw_only=True)
class TraceAnswer:
    """What one probe brought.

    Attributes:
        src_addr: who answered.
        rtt_ns: receive stamp minus transmit stamp.
        icmp_type: of the ICMP message; None for a TCP segment.
        code: likewise.
        reply_ttl: TTL or hop limit of the answer on arrival, None where unknown.
        mtu: that would fit, of "fragmentation needed" and "packet too big".
        labels: the MPLS label stack that the probe carried (RFC 4950).
        interfaces: what the router told of its interfaces (RFC 5837).
        quoted_ttl: the TTL of our probe when the router dropped it, None where unknown.
        rewritten: names of the fields that the quoted packet has otherwise than we sent it;
            None where the kernel keeps its header, as it does without privilege.
        tx_stamp: who took the transmit stamp.
        rx_stamp: who took the receive stamp.
    """

    src_addr: str
    rtt_ns: int
    icmp_type: int | None
    code: int | None
    reply_ttl: int | None
    mtu: int | None = None
    labels: tuple[MPLSLabel, ...] = ()
    interfaces: tuple[InterfaceInformation, ...] = ()
    quoted_ttl: int | None = None
    rewritten: tuple[str, ...] | None = ()
    tx_stamp: StampSource = "user"
    rx_stamp: StampSource = "user"


@dataclass(slots=True, kw_only=True)
class TraceHop:
    """A hop whose probes are all answered or given up; hops come in order.

    Attributes:
        ttl: its distance.
        answers: one per probe in the order of sending, None for one given up.
        rate_limited: whether only this hop's own answers were lost: probes that went
            through it to farther hops came back.
    """

    ttl: int
    answers: tuple[TraceAnswer | None, ...]
    rate_limited: bool = False


@dataclass(slots=True, kw_only=True)
class TraceMTU:
    """A router had no room for a probe: what would fit, and who said so.

    Attributes:
        mtu: in bytes.
        src_addr: of the router.
        ttl: its distance; where it answers from no address that is known from a hop, the
            farthest that it can have.
    """

    mtu: int
    src_addr: str
    ttl: int


@dataclass(slots=True, kw_only=True)
class TraceSummary:
    """The end.

    Attributes:
        reached: whether the target itself answered.
        hops: distance of the last hop told.
        duration_ns: from the first probe to the end.
        mtu: of the path, where it was looked for and the target answered.
    """

    reached: bool
    hops: int
    duration_ns: int
    mtu: int | None = None


TraceEvent = TraceHop | TraceMTU | TraceSummary
