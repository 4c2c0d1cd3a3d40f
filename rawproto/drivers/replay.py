"""Sends the packets of a capture again, each when it is due.

When is a matter of `Pace`, which computes and waits for nothing; how of `open_outlet`: whole
frames by a packet socket of one interface, or the IP packets inside by the kernel's routes,
under a header to the next hop where they need one. `Replay` joins the two: it makes a packet
ready, sleeps until shortly before it is due, looks at the clock again and again until it is,
and sends. How late each went is part of the result.

    reader = rawproto.capture.read("trace.pcap")
    with contextlib.closing(open_outlet("eth0")) as outlet:
        print(Replay([reader], Pace(), outlet).run())
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from rawproto.capture.packet import CapturedPacket
from rawproto.drivers.blocking import exact_timers
from rawproto.drivers.send import FULL_WAIT_NS, wait_for_room
from rawproto.errors import LinkError, UsageError
from rawproto.link.bench import BenchLink
from rawproto.link.interfaces import interface as find_interface
from rawproto.link.outlet import Outlet
from rawproto.machine import Transmit
from rawproto.packets.rewrite import Rewrite
from rawproto.probe.stats import RTTSamples
from rawproto.wire.dissect import ETHERNET, dissect
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header

__all__ = [
    "Pace",
    "PaperOutlet",
    "Replay",
    "ReplayOutlet",
    "ReplayResult",
    "Unsendable",
    "open_outlet",
]

EARLY_NS = 150_000
"""How long before a packet is due to wake and watch the clock: a sleep may be late by less."""
_GONE = frozenset({errno.ENETDOWN, errno.ENXIO, errno.ENODEV})
"""Errors that the next packet would meet too."""
PATIENCE_NS = 500_000_000
"""How long all neighbours together may keep a schedule waiting that do not answer."""
LEAST_PATIENCE_NS = 10_000_000
"""How long each of them may, once that is used up."""
MOST_SILENT = 4096
"""Destinations remembered as silent."""
FAST_BURST = 64
"""Packets that are sent between two looks at the clock where none waits for it."""


class Pace:
    """When each packet is due, in ns from the first one on.

    Args:
        speed: a multiple of the original timing; 2 is twice as fast.
        rate_pps: packets a second, whatever the original timing.
        rate_bps: bits a second, likewise, of what is sent.
        fast: all at once.
        max_gap_ns: a longer pause between two packets of the original is as long as this.

    Raises:
        UsageError: several of them are given, or one is out of range.
    """

    def __init__(
        self,
        *,
        speed: float | None = None,
        rate_pps: float | None = None,
        rate_bps: float | None = None,
        fast: bool = False,
        max_gap_ns: int | None = None,
    ) -> None:
        given = {"speed": speed, "rate": rate_pps, "bits": rate_bps}
        wanted = [name for name, value in given.items() if value is not None]
        if len(wanted) + fast > 1:
            raise UsageError("speed, rate, bits and fast: give one of them")
        for name in wanted:
            if not 0 < (given[name] or 0) < float("inf"):
                raise UsageError(f"{name} {given[name]:g}: must be more than 0")
        if max_gap_ns is not None and max_gap_ns < 0:
            raise UsageError("the longest pause cannot be negative")
        self.fast = fast
        self._speed = speed or 1.0
        self._rate_pps = rate_pps
        self._rate_bps = rate_bps
        self._max_gap_ns = max_gap_ns
        self._packets = self._bits = 0
        self._original_ns = self._last_ns = self._gap_ns = 0

    def due_ns(self, time_ns: int, size: int) -> int:
        """When the next packet is due; never before the one before it.

        Args:
            time_ns: when it was captured. A clock that was set back is no pause.
            size: its bytes.
        """
        number, bits = self._packets, self._bits
        self._packets += 1
        self._bits += 8 * size
        if self.fast:
            return 0
        if self._rate_pps is not None:
            return int(number * 1e9 / self._rate_pps)
        if self._rate_bps is not None:
            return int(bits * 1e9 / self._rate_bps)
        if number:
            self._gap_ns = max(0, time_ns - self._last_ns)
            self._original_ns += self._capped(self._gap_ns)
        self._last_ns = time_ns
        return int(self._original_ns / self._speed)

    def again(self, first_ns: int) -> None:
        """The capture begins anew, as long after its last packet as that was after the one before.

        Args:
            first_ns: when its first packet was captured.
        """
        self._last_ns = first_ns - self._gap_ns

    def _capped(self, gap_ns: int) -> int:
        return gap_ns if self._max_gap_ns is None else min(gap_ns, self._max_gap_ns)


class Unsendable(Exception):
    """A packet that this outlet has no way for, and why."""


class ReplayOutlet(Protocol):
    """Where packets go: made ready ahead of time, and sent when they are due."""

    def ready(self, data: bytes, link_type: int) -> bytes | Transmit:
        """What `send` takes. Raises Unsendable."""

    def send(self, ready: bytes | Transmit) -> None:
        """Sends one packet. Raises LinkError."""

    def close(self) -> None:
        """Gives every descriptor back."""


class PaperOutlet:
    """Makes packets ready as the others do, and sends nothing: for a look beforehand.

    Args:
        frames: whether there is an interface to send Ethernet frames by.
    """

    def __init__(self, *, frames: bool) -> None:
        self._frames = frames

    def ready(self, data: bytes, link_type: int) -> bytes | Transmit:
        """An Ethernet frame as it is where that can be sent, else the IP packet inside."""
        if self._frames and link_type == ETHERNET:
            return data
        found = dissect(data, link_type)
        for layer, offset in zip(found.layers, found.offsets, strict=True):
            if isinstance(layer, IPv4Header | IPv6Header):
                # What stands behind it, such as padding, belonged to the frame.
                packet = data[offset : len(data) - len(found.trailer)]
                return Transmit(data=packet, dst_addr=layer.dst_addr, token=0)
        words = "not Ethernet, and no IP" if self._frames else "no IP, and no interface for frames"
        raise Unsendable(words)

    def send(self, ready: bytes | Transmit) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _Outlet(PaperOutlet):
    """Frames by one interface; IP packets by it or, without one, by the kernel's routes."""

    def __init__(self, interface: str | None) -> None:
        self._interface = interface
        self._frame_outlet: Outlet | None = None
        if interface is not None and find_interface(interface).has_ethernet_header:
            self._frame_outlet = Outlet(interface)
        # Opened with the first IP packet; where all are, so that a lack of privilege shows now.
        self._link = None if self._frame_outlet else BenchLink(interface, listen=False)
        self._silent: set[str] = set()
        self._patience_ns = PATIENCE_NS
        super().__init__(frames=self._frame_outlet is not None)

    def send(self, ready: bytes | Transmit) -> None:
        if isinstance(ready, bytes):
            assert self._frame_outlet is not None
            self._frame_outlet.send(ready)
            return
        if self._link is None:
            self._link = BenchLink(self._interface, listen=False)
        dst_addr, until_ns = ready.dst_addr, 0
        # The kernel asks for who was silent once, too; it is only not waited for any more.
        patience_ns = 0 if dst_addr in self._silent else max(self._patience_ns, LEAST_PATIENCE_NS)
        while True:
            asked_ns = time.monotonic_ns()
            try:
                self._link.send_packet(ready, patience_ns=patience_ns)
                self._silent.discard(dst_addr)
                return
            except LinkError as error:
                if error.errno == errno.EHOSTUNREACH and error.operation == "resolve":
                    self._patience_ns -= time.monotonic_ns() - asked_ns
                    if len(self._silent) >= MOST_SILENT:
                        self._silent.clear()
                    self._silent.add(dst_addr)
                    raise LinkError(
                        "send to", dst_addr, error.errno, "nobody on the link answers for them"
                    ) from None
                until_ns = wait_for_room(error, until_ns)
            time.sleep(FULL_WAIT_NS / 1e9)

    def close(self) -> None:
        for each in (self._frame_outlet, self._link):
            if each is not None:
                each.close()


def open_outlet(interface: str | None = None) -> ReplayOutlet:
    """Opens what packets can be sent by. Needs CAP_NET_RAW.

    Args:
        interface: by name: Ethernet frames leave by it as they are, and what was captured
            without an Ethernet header gets one to its next hop there. None: the IP packets
            inside go where the kernel's routes lead, and nothing else does.

    Raises:
        PrivilegeError: the process may not open raw or packet sockets.
        LinkError: no such interface.
    """
    return _Outlet(interface)


@dataclass(slots=True, kw_only=True)
class ReplayResult:
    """What became of a capture.

    Attributes:
        packets: how many were sent.
        bytes: how many, link-layer headers included as far as they were captured.
        duration_ns: from the first packet to the last.
        rounds: how often the capture was begun.
        truncated: packets sent as short as the capture has them.
        unsendable: packets that nothing here can send, by reason.
        refused: packets that the kernel did not take, by its words.
        lateness: how long after they were due packets were sent; of none where all goes at once.
    """

    packets: int = 0
    bytes: int = 0
    duration_ns: int = 0
    rounds: int = 0
    truncated: int = 0
    unsendable: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    lateness: RTTSamples = field(default_factory=lambda: RTTSamples(Random(0)))


class Replay:
    """One run.

    Args:
        rounds: the capture, once for each round; of captured packets in the order of the file.
        pace: when each is due; used by this run alone.
        outlet: where they go; it stays open.
        rewrite: what becomes of their addresses, None for nothing.
        max_packets: how many to send at most, None for all.
        max_ns: how long to go on at most, None for as long as it takes.
        clock: monotonic ns.
        sleep: waits for that many seconds.

    Attributes:
        result: as far as it has come; whole when `run` has returned or raised.
    """

    def __init__(
        self,
        rounds: Iterable[Iterable[CapturedPacket]],
        pace: Pace,
        outlet: ReplayOutlet,
        *,
        rewrite: Rewrite | None = None,
        max_packets: int | None = None,
        max_ns: int | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.result = ReplayResult()
        self._rounds = rounds
        self._pace = pace
        self._outlet = outlet
        self._rewrite = rewrite
        self._max_packets = max_packets
        self._max_ns = max_ns
        self._clock = clock
        self._sleep = sleep

    def run(self) -> ReplayResult:
        """Sends until the packets end or a limit is reached.

        Raises:
            LinkError: the interface is down or gone. What the kernel refuses of a single
                packet is counted, and the next one follows.
        """
        if self._pace.fast:
            self._run_fast()
        else:
            with exact_timers():
                self._run_timed()
        return self.result

    def _run_timed(self) -> None:
        result, late = self.result, self.result.lateness.add
        first_ns: int | None = None
        for ready, size, due_ns in self._due():
            if first_ns is None:
                first_ns = self._clock()
            if self._max_ns is not None and due_ns > self._max_ns:
                return
            elapsed_ns = self._wait(first_ns + due_ns) - first_ns
            if self._max_ns is not None and elapsed_ns > self._max_ns:
                return
            result.duration_ns = elapsed_ns
            try:
                self._outlet.send(ready)
            except LinkError as error:
                self._note(error)
                continue
            late(elapsed_ns - due_ns)
            result.packets += 1
            result.bytes += size
            if result.packets == self._max_packets:
                return

    def _run_fast(self) -> None:
        result, clock = self.result, self._clock
        most, send = self._max_packets or 0, self._outlet.send
        first_ns = clock()
        last_ns = None if self._max_ns is None else first_ns + self._max_ns
        packets = octets = 0
        try:
            for ready, size, _ in self._due():
                try:
                    send(ready)
                except LinkError as error:
                    self._note(error)
                    continue
                packets += 1
                octets += size
                if packets == most:
                    return
                if last_ns is not None and not packets % FAST_BURST and clock() > last_ns:
                    return
        finally:
            result.packets, result.bytes = packets, octets
            result.duration_ns = clock() - first_ns

    def _note(self, error: LinkError) -> None:
        """Counts a packet that the kernel did not take, unless it would take no other either."""
        if error.errno in _GONE:
            raise error
        refused = self.result.refused
        refused[error.reason] = refused.get(error.reason, 0) + 1

    def plan(self) -> Iterator[tuple[bytes | Transmit, int]]:
        """What `run` would send, (ready, when in ns), within the same limits; sends none."""
        result = self.result
        for ready, size, due_ns in self._due():
            if self._max_ns is not None and due_ns > self._max_ns:
                return
            result.packets += 1
            result.bytes += size
            result.duration_ns = due_ns
            yield ready, due_ns
            if result.packets == self._max_packets:
                return

    def _due(self) -> Iterator[tuple[bytes | Transmit, int, int]]:
        """Every packet that can be sent: ready, with its bytes and when it is due."""
        result, pace, ready, fast = self.result, self._pace, self._outlet.ready, self._pace.fast
        rewrite = self._rewrite.apply if self._rewrite is not None else None
        for packets in self._rounds:
            begun = False
            for packet in packets:
                if not begun:
                    begun = True
                    if result.rounds:
                        pace.again(packet.time_ns)
                    result.rounds += 1
                data, link_type = packet.data, packet.link_type
                if rewrite is not None:
                    data = rewrite(data, link_type)
                try:
                    made = ready(data, link_type)
                except Unsendable as error:
                    words = str(error)
                    result.unsendable[words] = result.unsendable.get(words, 0) + 1
                    continue
                size = len(data)
                if size < packet.original_length:
                    result.truncated += 1
                yield made, size, 0 if fast else pace.due_ns(packet.time_ns, size)
            if not begun:
                return

    def _wait(self, due_ns: int) -> int:
        """Sleeps, then watches the clock until the time has come: what it shows then."""
        clock = self._clock
        left_ns = due_ns - clock()
        if left_ns > EARLY_NS:
            self._sleep((left_ns - EARLY_NS) / 1e9)
        now_ns = clock()
        while now_ns < due_ns:
            now_ns = clock()
        return now_ns
