"""The sans-IO contract: what a measurement or a connection shares with whatever pumps it.

A machine opens no socket, reads no clock and draws no chance of its own. Bytes
and the kernel's notices go in, bytes and events come out, and time is an
argument. The same machine therefore runs under the blocking driver, under
asyncio, in tests and in the simulator, unchanged.

One turn of a driver, in this order:

1. Feed what has arrived: `handle_transmitted` for transmit stamps first (so that
   a reply finds its probe stamped), then `handle_error`, then `handle_datagram`.
2. If `poll_timeout()` names a time that has come, call `handle_timeout(now_ns)`.
3. Drain `poll_transmit(now_ns)` until it answers None, handing each to the link; a
   transmit that the link refuses goes back in through `handle_unsent`.
4. Drain `poll_event()` until it answers None.
5. Sleep until something arrives or `poll_timeout()` comes; None means that only
   an arrival can go on. A machine whose `finished` is true wants no more turns.

All times are monotonic nanoseconds. Kernel stamps are brought to that clock by
the link before a machine sees them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

__all__ = ["Datagram", "ICMPError", "Machine", "StampSource", "Transmit"]

StampSource = Literal["kernel", "user"]
"""Who took a time stamp: the kernel at the driver, or this process around its system call."""


@dataclass(slots=True, kw_only=True)
class Datagram:
    """One packet that arrived.

    Attributes:
        data: from the first byte behind the IP header (and IPv6 extension headers) on.
        src_addr: who sent it; link-local IPv6 addresses carry no scope, see `interface`.
        dst_addr: whom it was sent to; "" where the carrier doesn't tell.
        interface: index of the interface it came in by, 0 where unknown.
        ttl: TTL or hop limit on arrival, None where unknown.
        ecn: the two ECN bits, 0 to 3.
        received_ns: when it arrived, monotonic.
        stamp_source: who took `received_ns`.
        protocol: IP protocol of `data`, as the carrier knows it.
        header: the IPv4 header as it arrived, b"" where the kernel keeps it (IPv6 always does).
    """

    data: bytes
    src_addr: str
    received_ns: int
    dst_addr: str = ""
    interface: int = 0
    ttl: int | None = None
    ecn: int = 0
    stamp_source: StampSource = "user"
    protocol: int = 0
    header: bytes = b""


@dataclass(slots=True, kw_only=True)
class Transmit:
    """One packet to be sent.

    Attributes:
        data: for a measurement the whole IP packet, header included, laid out by `wire/`.
            A link that cannot send headers (the unprivileged one) takes the header's
            fields from it and asks the kernel to set the same.
        dst_addr: where to; may carry an IPv6 scope (`fe80::1%eth0`).
        token: the machine's name for this packet; stamps and errors come back under it.
        ttl: as in the header, for links that need it apart.
        ecn: likewise.
    """

    data: bytes
    dst_addr: str
    token: int
    ttl: int | None = None
    ecn: int = 0


@dataclass(slots=True, kw_only=True)
class ICMPError:
    """An ICMP error about a packet of ours, as the kernel's error queue reports it.

    Raw links deliver ICMP errors as datagrams, which the machine reads by itself;
    this is for links whose kernel keeps the message and tells only its gist.

    Attributes:
        src_addr: who sent the error; "" where this host itself did.
        dst_addr: where our packet was going.
        icmp_type: ICMP or ICMPv6 type, by the family of `dst_addr`.
        code: its code.
        original: what is known of our packet, from its transport or ICMP header on; of a
            UDP socket's, from behind the UDP header on.
        received_ns: when it arrived, monotonic.
        ttl: TTL or hop limit of the error itself on arrival, None where unknown.
        mtu: next-hop MTU of "fragmentation needed" and "packet too big", else None.
        gateway_addr: the next hop that a redirect advises, "" in other errors.
        extensions: the RFC 4884 extension structure, b"" where there is none.
        stamp_source: who took `received_ns`.
    """

    src_addr: str
    dst_addr: str
    icmp_type: int
    code: int
    original: bytes
    received_ns: int
    ttl: int | None = None
    mtu: int | None = None
    gateway_addr: str = ""
    extensions: bytes = b""
    stamp_source: StampSource = "user"


E_co = TypeVar("E_co", covariant=True)


class Machine(Protocol, Generic[E_co]):
    """What drivers call; see the module's docstring for the order."""

    @property
    def finished(self) -> bool:
        """True when the machine wants no more turns (events may still be waiting)."""
        ...

    def handle_datagram(self, datagram: Datagram, now_ns: int) -> None:
        """A packet arrived; whatever is in it, this raises nothing."""
        ...

    def handle_transmitted(
        self, token: int, sched_ns: int | None, sent_ns: int, stamp_source: StampSource
    ) -> None:
        """A packet left: `sched_ns` into the queue, `sent_ns` out of it.

        Called at least once per packet (user stamp), and again as better stamps come.
        """
        ...

    def handle_error(self, error: ICMPError, now_ns: int) -> None:
        """The kernel reports an ICMP error about a packet of ours."""
        ...

    def handle_unsent(self, token: int, error: OSError, now_ns: int) -> None:
        """The link could not send the packet; `error` is usually a LinkError."""
        ...

    def handle_timeout(self, now_ns: int) -> None:
        """The time that `poll_timeout` named has come (calling early does no harm)."""
        ...

    def poll_transmit(self, now_ns: int) -> Transmit | None:
        """The next packet to send, or None."""
        ...

    def poll_event(self) -> E_co | None:
        """The next thing to tell the user, or None."""
        ...

    def poll_timeout(self) -> int | None:
        """The next deadline, monotonic ns; a pure read. None: only an arrival can go on."""
        ...
