"""What every trace needs before its first packet: name resolved, route asked, sockets opened."""

from __future__ import annotations

import errno
import os
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal, Self

from rawproto.drivers.target import (
    Destination,
    check_range,
    find_destination,
    own_source,
    scoped,
)
from rawproto.errors import LinkError, UsageError
from rawproto.link.base import Link
from rawproto.link.open import open_flow_link, open_icmp_link
from rawproto.link.ports import reserve_port
from rawproto.link.unprivileged import UnprivilegedLink
from rawproto.probe.trace_events import TraceConfig, TraceMethod
from rawproto.probe.traceroute import Traceroute

__all__ = ["TraceOptions", "TraceSession"]

UDP_PORT, TCP_PORT = 33_434, 80
DEFAULT_SIZE, DEFAULT_SIZE_V6 = 60, 80


@dataclass(slots=True, kw_only=True)
class TraceOptions:
    """How to trace; `traceroute` takes the same as keywords.

    Attributes:
        method: `udp`, `icmp` (echo requests) or `tcp` (SYNs).
        family: 4 or 6, None for what the name resolves to first.
        first_ttl: where to begin, 1 to 255.
        max_ttl: where to stop if nothing else does, 1 to 255.
        queries: probes to each hop, 1 to 10.
        window: probes under way at once, overdue ones not counted, 1 to 1000.
        wait_ms: after which a probe is given up when nothing is known.
        here_times: ... or after so many round trips of an answer from the same hop,
        near_times: ... or of one from a farther hop.
        send_gap_ms: between two probes.
        port: destination port of all UDP or TCP probes, None for 33434 or 80.
        source_port: of all UDP or TCP probes, 0 for any that is free.
        source: address to send from, "" for the route's.
        interface: to send by, "" for the route's.
        size: of a whole probe in bytes, None for 60 (80 over IPv6).
        tos: IPv4's TOS byte or IPv6's traffic class; its DSCP is used.
        flow_label: 20 bits, IPv6 only.
        find_mtu: whether to look for the path's MTU with probes that fill the link.
    """

    method: TraceMethod = "udp"
    family: Literal[4, 6] | None = None
    first_ttl: int = 1
    max_ttl: int = 30
    queries: int = 3
    window: int = 32
    wait_ms: float = 5000.0
    here_times: float = 3.0
    near_times: float = 2.0
    send_gap_ms: float = 0.0
    port: int | None = None
    source_port: int = 0
    source: str = ""
    interface: str = ""
    size: int | None = None
    tos: int = 0
    flow_label: int = 0
    find_mtu: bool = False

    def check(self) -> None:
        """Raises UsageError where a value is out of range."""
        check_range("first hop", self.first_ttl, 1, 255)
        check_range("last hop", self.max_ttl, 1, 255)
        if self.first_ttl > self.max_ttl:
            raise UsageError(f"first hop {self.first_ttl} is past the last, {self.max_ttl}")
        check_range("queries", self.queries, 1, 10)
        check_range("window", self.window, 1, 1000)
        check_range("wait in ms", self.wait_ms, 1, 1e6)
        check_range("here", self.here_times, 0.1, 1e6)
        check_range("near", self.near_times, 0.1, 1e6)
        check_range("gap in ms", self.send_gap_ms, 0, 1e6)
        check_range("port", self.port, 1, 65_535)
        check_range("source port", self.source_port, 0, 65_535)
        check_range("size", self.size, 28, 65_000)
        check_range("tos", self.tos, 0, 255)
        check_range("flow label", self.flow_label, 0, (1 << 20) - 1)


class TraceSession:
    """A machine and its link, ready to be pumped; a context manager that closes all it opened.

    Attributes:
        machine: the traceroute machine.
        link: where it sends. May be wrapped.
        destination: the target and the way there.
        privileged: whether packets go out as laid out, through raw sockets; if not, the
            kernel shows no header of what is quoted (`TraceAnswer.rewritten` is None).
    """

    def __init__(self, name: str, options: TraceOptions, *, pcap: str | None = None) -> None:
        """
        Args:
            name: host or address.
            options: how.
            pcap: a capture file to write all packets to, `.pcapng` or `.pcap`.

        Raises:
            UsageError: a name without address, an option out of range.
            LinkError: no route, no such interface, a port in use, a size above the interface's MTU.
            PrivilegeError: the method needs raw sockets, which may not be opened.
        """
        options.check()
        if options.source:
            source, interface = own_source(options.source, options.interface)
            options = replace(options, source=source, interface=interface)
        self.destination = found = find_destination(
            name,
            family=options.family,
            source=options.source,
            interface=options.interface,
            dscp=options.tos >> 2,
        )
        if options.flow_label and ":" not in found.dst_addr:
            raise UsageError("a flow label is a field of IPv6 alone")
        _refuse_too_large(name, found, options)
        rng = random.Random(int.from_bytes(os.urandom(16), "big"))
        with ExitStack() as opened:
            self.link: Link
            if options.method == "icmp":
                self.link, src_port = _open_icmp(opened, options, found, rng.randrange(1, 0x10000))
            else:
                self.link, src_port = _open_flow(opened, options, found)
            self.privileged = not isinstance(self.link, UnprivilegedLink)
            if pcap is not None:
                from rawproto.link.record import RecordingLink

                self.link = RecordingLink(self.link, pcap)
                opened.callback(self.link.close)
            config = _config(found, options, src_port)
            self.machine = Traceroute(config, time.monotonic_ns(), rng)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Gives every descriptor and the port back."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_icmp(
    opened: ExitStack, options: TraceOptions, found: Destination, identifier: int
) -> tuple[Link, int]:
    """The best link for echoes that there is, and the identifier that it wants."""
    link = open_icmp_link(
        6 if ":" in found.dst_addr else 4,
        identifier=identifier,
        interface=options.interface or None,
        src_addr=scoped(found.route.src_addr, found.route.interface),
        cuts_ipv6=False,
    )
    opened.callback(link.close)
    return link, link.identifier or identifier


def _open_flow(opened: ExitStack, options: TraceOptions, found: Destination) -> tuple[Link, int]:
    """The best link for UDP or TCP that there is, and the source port, taken meanwhile."""
    reserved = reserve_port(
        "tcp" if options.method == "tcp" else "udp",
        found.route.src_addr,
        options.source_port,
        scope=found.route.interface_index,
    )
    opened.callback(reserved.close)
    link = open_flow_link(reserved, _dst_port(options), interface=options.interface or None)
    opened.callback(link.close)
    return link, reserved.getsockname()[1]


def _refuse_too_large(name: str, found: Destination, options: TraceOptions) -> None:
    """No probe may be cut: its pieces would be several, and those behind the first no flow's."""
    size, mtu = options.size or 0, found.route.interface_mtu
    if size > mtu and options.method != "tcp" and not options.find_mtu:
        reason = (
            f"a probe of {size} bytes is above the MTU of {mtu} and must not be cut; "
            "--mtu sends what fits"
        )
        raise LinkError("send to", name, errno.EMSGSIZE, reason)


def _dst_port(options: TraceOptions) -> int:
    return options.port or (TCP_PORT if options.method == "tcp" else UDP_PORT)


def _config(found: Destination, options: TraceOptions, src_port: int) -> TraceConfig:
    size = options.size
    if size is None:
        size = DEFAULT_SIZE_V6 if ":" in found.dst_addr else DEFAULT_SIZE
    if options.find_mtu:
        size = found.route.interface_mtu
    return TraceConfig(
        method=options.method,
        dst_addr=found.dst_addr,
        src_addr=found.route.src_addr,
        scope=found.scope,
        src_port=src_port,
        dst_port=_dst_port(options),
        first_ttl=options.first_ttl,
        max_ttl=options.max_ttl,
        queries=options.queries,
        window=options.window,
        wait_ns=round(options.wait_ms * 1e6),
        here_times=options.here_times,
        near_times=options.near_times,
        send_gap_ns=round(options.send_gap_ms * 1e6),
        size=size,
        find_mtu=options.find_mtu,
        dscp=options.tos >> 2,
        flow_label=options.flow_label,
    )
