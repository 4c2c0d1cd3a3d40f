"""What every ping needs before its first packet: names resolved, routes asked, sockets opened."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self, get_args

from rawproto.drivers.names import is_address
from rawproto.drivers.target import (
    check_range,
    find_destination,
    is_multicast,
    own_source,
    scoped,
)
from rawproto.errors import LinkError, RawprotoError, UsageError
from rawproto.link.base import Link
from rawproto.link.interfaces import interface_index
from rawproto.link.open import open_icmp_link
from rawproto.link.privileges import raw_socket_refused
from rawproto.link.routes import Route
from rawproto.probe.ping import Ping
from rawproto.probe.ping_events import Fragmentation, PingConfig, PingTarget

if TYPE_CHECKING:
    from rawproto.wire.ipv4_options import IPv4Option

__all__ = ["PingOptions", "PingSession"]

OnRefused = Callable[[str, RawprotoError], None]

MAX_SIZE = 65_527
IPV4_HEADER = 20
MIN_INTERVAL_MS = 0.1
MIN_INTERVAL_UNPRIVILEGED_MS = 2.0


@dataclass(slots=True, kw_only=True)
class PingOptions:
    """How to ping; `ping` takes the same as keywords.

    Attributes:
        count: probes to each target, None for no end.
        family: 4 or 6, None for what each name resolves to first.
        interval_ms: between probes to one target, at least 0.1 (2 without privilege); a flood
            heeds it not.
        timeout_ms: after which a probe is lost, None for 10 s and an early end (`PingConfig`).
        deadline_ms: after which everything ends, None for never.
        size: of the payload, 0 to 65507 bytes over IPv4 without options, to 65527 over IPv6.
        pattern: what the payload repeats, b"" for 0, 1, 2, ...
        ttl: TTL or hop limit, 1 to 255; None for 64, and 1 to multicast groups.
        tos: IPv4's TOS byte or IPv6's traffic class: DSCP and ECN.
        flow_label: 20 bits, IPv6 only.
        source: address of this host to send from, "" for the route's.
        interface: to send and receive by, "" for the route's.
        fragmentation: `do`, `want`, `dont` or `probe`, ping's -M.
        flood: answers call for probes, at most 10 ms apart.
        adaptive: answers call for probes, at most the interval apart.
        preload: probes sent at once in the beginning.
        options: of the IPv4 header (`RecordRoute`, `Timestamp`, ...).
        broadcast: whether broadcast addresses may be pinged.
        multicast_loop: whether this host hears what it sends to groups that it is in.
        identifier: the 16 bits of all requests, not 0; None draws one.
        mark: firewall mark, which policy rules match; needs CAP_NET_ADMIN.
        report_outstanding: whether `PingOutstanding` events are wanted.
    """

    count: int | None = 4
    family: Literal[4, 6] | None = None
    interval_ms: float = 1000.0
    timeout_ms: float | None = None
    deadline_ms: float | None = None
    size: int = 56
    pattern: bytes = b""
    ttl: int | None = None
    tos: int = 0
    flow_label: int = 0
    source: str = ""
    interface: str = ""
    fragmentation: Fragmentation = "want"
    flood: bool = False
    adaptive: bool = False
    preload: int = 1
    options: tuple[IPv4Option, ...] = ()
    broadcast: bool = False
    multicast_loop: bool = True
    identifier: int | None = None
    mark: int = 0
    report_outstanding: bool = False

    def check(self) -> None:
        """Raises UsageError where a value is out of range."""
        if self.family not in (None, 4, 6):
            raise UsageError(f"family {self.family}: must be 4, 6 or None")
        if self.fragmentation not in get_args(Fragmentation):
            raise UsageError(f"fragmentation {self.fragmentation}: must be do, want, dont or probe")
        check_range("count", self.count, 1, 1 << 48)
        check_range("interval in ms", self.interval_ms, 0, 1e9)
        check_range("timeout in ms", self.timeout_ms, 0.001, 1e9)
        check_range("deadline in ms", self.deadline_ms, 0.001, 1e12)
        check_range("size", self.size, 0, MAX_SIZE)
        check_range("ttl", self.ttl, 1, 255)
        check_range("tos", self.tos, 0, 255)
        check_range("flow label", self.flow_label, 0, (1 << 20) - 1)
        check_range("preload", self.preload, 1, 65_535)
        check_range("identifier", self.identifier, 1, 65_535)
        check_range("mark", self.mark, 0, (1 << 32) - 1)


class PingSession:
    """A machine and its link, ready to be pumped; a context manager that closes the link.

    Attributes:
        machine: the ping machine.
        link: where it sends; its `dropped` counts what this host lost. May be wrapped.
        privileged: whether packets go out as laid out, through raw sockets.
    """

    def __init__(
        self,
        names: Sequence[str],
        options: PingOptions,
        *,
        pcap: str | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        """
        Args:
            names: hosts or addresses; an address named twice is pinged once.
            options: how.
            pcap: a capture file to write all packets to, `.pcapng` or `.pcap`.
            on_refused: called with each name that cannot be pinged and why, so that the others
                are pinged all the same. Raised instead where it is None, and where none is left.

        Raises:
            UsageError: a name without address, options that contradict each other.
            LinkError: no route, no such interface, a packet that must be cut but may not.
            PrivilegeError: no socket may be opened.
        """
        options.check()
        if options.interface:
            interface_index(options.interface)
        if options.source:
            source, interface = own_source(options.source, options.interface)
            options = replace(options, source=source, interface=interface)
        targets = _find_targets(names, options, on_refused)
        families = {6 if ":" in dst_addr else 4 for dst_addr, _ in targets}
        if options.options and families != {4}:
            raise UsageError("record route and timestamp are options of IPv4 alone")
        if options.flow_label and families != {6}:
            raise UsageError("a flow label is a field of IPv6 alone")
        rng = random.Random(int.from_bytes(os.urandom(16), "big"))
        identifier = options.identifier or rng.randrange(1, 0x10000)
        family: Literal[4, 6] | None = None
        if len(families) == 1:
            family = 6 if 6 in families else 4
        opened = open_icmp_link(
            family,
            identifier=identifier,
            interface=options.interface or None,
            src_addr=scoped(options.source, options.interface) or None,
            broadcast=options.broadcast,
            multicast_loop=options.multicast_loop,
            mark=options.mark,
        )
        self.link: Link = opened
        self.privileged = opened.identifier is None
        try:
            if options.options and not self.privileged:
                raise raw_socket_refused("send IP options")
            config = self._config(list(targets.values()), opened.identifier or identifier, options)
            self.machine = Ping(list(targets.values()), config, time.monotonic_ns(), rng)
            if pcap is not None:
                from rawproto.link.record import RecordingLink

                self.link = RecordingLink(opened, pcap)
        except BaseException:
            self.close()
            raise

    def _config(
        self, targets: Sequence[PingTarget], identifier: int, options: PingOptions
    ) -> PingConfig:
        floor_ms = MIN_INTERVAL_MS if self.privileged else MIN_INTERVAL_UNPRIVILEGED_MS
        if options.interval_ms < floor_ms and not options.flood:
            raise UsageError(
                f"interval {options.interval_ms:g} ms: must be at least {floor_ms:g} ms"
                + ("" if self.privileged else " without the privilege for raw sockets")
            )
        ttl = options.ttl
        if ttl is None:
            ttl = 1 if all(is_multicast(target.dst_addr) for target in targets) else 64
        unit = options.pattern or bytes(range(256))
        return PingConfig(
            identifier=identifier,
            count=options.count,
            interval_ns=round(options.interval_ms * 1e6),
            timeout_ns=None if options.timeout_ms is None else round(options.timeout_ms * 1e6),
            deadline_ns=None if options.deadline_ms is None else round(options.deadline_ms * 1e6),
            payload=(unit * (options.size // len(unit) + 1))[: options.size],
            ttl=ttl,
            dscp=options.tos >> 2,
            ecn=options.tos & 3,
            flow_label=options.flow_label,
            fragmentation=options.fragmentation,
            link_fragments=not self.privileged,
            flood=options.flood,
            adaptive=options.adaptive,
            floor_ns=0 if self.privileged else round(MIN_INTERVAL_UNPRIVILEGED_MS * 1e6),
            preload=options.preload,
            options=options.options,
            realtime_offset_ns=time.time_ns() - time.monotonic_ns(),
            report_outstanding=options.report_outstanding,
        )

    def close(self) -> None:
        """Gives every descriptor back."""
        self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _find_targets(
    names: Sequence[str], options: PingOptions, on_refused: OnRefused | None
) -> dict[tuple[str, int], PingTarget]:
    targets: dict[tuple[str, int], PingTarget] = {}
    for left, name in zip(range(len(names) - 1, -1, -1), names, strict=True):
        try:
            target = _find_target(name, options)
        except (UsageError, LinkError) as error:
            if on_refused is None or not (targets or left):
                raise
            on_refused(name, error)
        else:
            targets.setdefault((target.dst_addr, target.interface), target)
    return targets


def _find_target(name: str, options: PingOptions) -> PingTarget:
    found = find_destination(
        name,
        family=options.family or (None if is_address(name) else _implied(options)),
        source=options.source,
        interface=options.interface,
        dscp=options.tos >> 2,
        mark=options.mark,
    )
    if ":" not in found.dst_addr:
        # IPv4's total length counts the header, IPv6's payload length does not.
        most = MAX_SIZE - IPV4_HEADER - _options_length(options.options)
        check_range("size", options.size, 0, most)
    route = found.route
    if route.kind == "broadcast" and not options.broadcast:
        raise UsageError(f"{name} is a broadcast address: -b says that this is meant")
    _refuse_uncuttable(name, found.dst_addr, route, options)
    return PingTarget(
        name=name,
        dst_addr=found.dst_addr,
        src_addr=route.src_addr,
        scope=found.scope,
        interface=found.interface,
        mtu=route.interface_mtu if options.fragmentation == "probe" else route.mtu,
        many=route.kind == "broadcast" or is_multicast(found.dst_addr),
    )


def _refuse_uncuttable(name: str, dst_addr: str, route: Route, options: PingOptions) -> None:
    headers = 48 if ":" in dst_addr else 28 + _options_length(options.options)
    mtu = {"do": route.mtu, "probe": route.interface_mtu}.get(options.fragmentation)
    size = options.size + headers
    if mtu is not None and size > mtu:
        reason = f"a packet of {size} bytes is above the MTU of {mtu} and must not be cut"
        raise LinkError("send to", name, errno.EMSGSIZE, reason)


def _options_length(options: tuple[IPv4Option, ...]) -> int:
    """Of an option field, padded to 32 bits."""
    return (sum(len(option.emit()) for option in options) + 3) // 4 * 4


def _implied(options: PingOptions) -> Literal[4, 6] | None:
    """The family that the other options leave for names."""
    if options.options:
        return 4
    return 6 if options.flow_label else None
