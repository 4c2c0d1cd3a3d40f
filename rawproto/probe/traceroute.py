"""The traceroute machine: one flow of probes, all hops at once, told in order.

Probes go out in rounds, one to each hop before a second to any, because the first
round finds out how far the target is. Within the window all are under way at once.
How long to wait is learned: an answer from the same hop, or from a farther one,
tells how long an answer takes at all; only where nothing is known is the whole
time-out waited for.

It knows no sockets and no clock, resolves no names and prints nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rawproto.machine import Datagram, ICMPError, StampSource, Transmit
from rawproto.probe.flow import FlowPackets
from rawproto.probe.match import Quote, read_error
from rawproto.probe.trace_events import (
    TraceAnswer,
    TraceConfig,
    TraceEvent,
    TraceHop,
    TraceMTU,
    TraceSummary,
)
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import InterfaceInformation, MPLSLabel, MPLSLabelStack
from rawproto.wire.ipv4 import IPv4Header

if TYPE_CHECKING:
    import random

__all__ = ["Traceroute"]

LEAST_WAIT_NS = 100_000_000
"""However fast other answers came, a router may take so long to answer."""
LEAST_MTU, LEAST_MTU_V6 = 68, 1280
"""No smaller one is believed (RFC 791, RFC 8200)."""
TIME_EXCEEDED, TIME_EXCEEDED_V6 = 11, 3


class _Probe:
    __slots__ = ("answer", "done", "number", "sent_ns", "size", "stamp_source", "ttl")

    def __init__(self, number: int, ttl: int, size: int, sent_ns: int) -> None:
        self.number = number
        self.ttl = ttl
        self.size = size
        self.sent_ns = sent_ns
        self.stamp_source: StampSource = "user"
        self.answer: TraceAnswer | None = None
        self.done = False


class Traceroute:
    """Traces the way to one target; see `rawproto.machine` for how it is driven."""

    def __init__(self, config: TraceConfig, start_ns: int, rng: random.Random) -> None:
        """
        Args:
            config: whither and how.
            start_ns: monotonic.
            rng: for numbers that strangers must not guess.
        """
        self.config = config
        self._v6 = ":" in config.dst_addr
        self._packets = FlowPackets(config, rng)
        self._base = rng.randrange(1, 0xFFFE - config.queries * 256)
        self._probes: dict[int, _Probe] = {}  # by number
        self._hops: dict[int, list[_Probe]] = {}  # by TTL
        self._plan = deque(
            ttl
            for _ in range(config.queries)
            for ttl in range(config.first_ttl, config.max_ttl + 1)
        )
        self._under_way: list[_Probe] = []
        self._last_ttl = config.max_ttl
        self._told_ttl = config.first_ttl - 1
        self._size = config.size
        self._next_ns = start_ns
        self._first_ns: int | None = None
        self._events: deque[TraceEvent] = deque()
        self._finished = False

    # -- what a driver calls -----------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self._finished

    def handle_datagram(self, datagram: Datagram, now_ns: int) -> None:
        number = self._packets.answered(datagram)
        if number is not None:
            probe = self._probes.get(number)
            if probe is not None:
                is_icmp = datagram.protocol in (1, 58)
                self._on_answer(
                    probe,
                    datagram,
                    TraceAnswer(
                        src_addr=datagram.src_addr,
                        rtt_ns=max(0, datagram.received_ns - probe.sent_ns),
                        icmp_type=datagram.data[0] if is_icmp else None,
                        code=datagram.data[1] if is_icmp else None,
                        reply_ttl=datagram.ttl,
                        tx_stamp=probe.stamp_source,
                        rx_stamp=datagram.stamp_source,
                    ),
                    last=True,
                )
        else:
            self._on_error(datagram)
        self._tidy(now_ns)

    def handle_transmitted(
        self, token: int, sched_ns: int | None, sent_ns: int, stamp_source: StampSource
    ) -> None:
        probe = self._probes.get(token)
        if probe is not None and not (stamp_source == "user" and probe.stamp_source == "kernel"):
            probe.sent_ns = sent_ns
            probe.stamp_source = stamp_source

    def handle_error(self, error: ICMPError, now_ns: int) -> None:
        self._tidy(now_ns)

    def handle_timeout(self, now_ns: int) -> None:
        self._tidy(now_ns)

    def handle_unsent(self, token: int, error: OSError, now_ns: int) -> None:
        probe = self._probes.get(token)
        if probe is not None:
            # Nothing will come of it; the hop shows it as unanswered.
            self._close(probe)
            self._tidy(now_ns)

    def poll_transmit(self, now_ns: int) -> Transmit | None:
        if self._finished or len(self._under_way) >= self.config.window or now_ns < self._next_ns:
            return None
        while self._plan:
            ttl = self._plan.popleft()
            if ttl <= self._last_ttl:
                return self._send(ttl, now_ns)
        return None

    def poll_event(self) -> TraceEvent | None:
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> int | None:
        if self._finished:
            return None
        times = [self._deadline_ns(probe) for probe in self._under_way]
        if self._plan and len(self._under_way) < self.config.window:
            times.append(self._next_ns)
        return min(times, default=self._next_ns)

    # -- what its user calls -----------------------------------------------------------------

    def stop(self, now_ns: int) -> None:
        """Ends it now: hops are told as far as they are known."""
        if not self._finished:
            self._plan.clear()
            self._last_ttl = min(self._last_ttl, max(self._hops, default=0))
            for probe in list(self._under_way):
                self._close(probe)
            self._tidy(now_ns)

    # -- sending -----------------------------------------------------------------------------

    def _send(self, ttl: int, now_ns: int) -> Transmit:
        number = self._base + len(self._probes)
        probe = _Probe(number, ttl, self._size, now_ns)
        self._probes[number] = probe
        self._hops.setdefault(ttl, []).append(probe)
        self._under_way.append(probe)
        self._next_ns = now_ns + self.config.send_gap_ns
        if self._first_ns is None:
            self._first_ns = now_ns
        config = self.config
        return Transmit(
            data=self._packets.packet(number, ttl, self._size),
            dst_addr=f"{config.dst_addr}%{config.scope}" if config.scope else config.dst_addr,
            token=number,
            ttl=ttl,
        )

    # -- answers -----------------------------------------------------------------------------

    def _on_error(self, datagram: Datagram) -> None:
        found = read_error(datagram) if datagram.protocol in (1, 58) else None
        if found is None:
            return
        error, quote = found
        read = self._packets.read_quote(quote)
        probe = self._probes.get(read[0]) if read else None
        if read is None or probe is None:
            return
        if error.mtu and self.config.find_mtu:
            self._shrink(probe, error.mtu, datagram.src_addr)
            return
        icmp_type = error.icmp_type
        exceeded = icmp_type == (TIME_EXCEEDED_V6 if self._v6 else TIME_EXCEEDED)
        self._on_answer(
            probe,
            datagram,
            _answer_of(probe, datagram, error, quote, read[1]),
            # Whatever else an error says, no later probe will get farther.
            last=not exceeded,
        )

    def _shrink(self, probe: _Probe, mtu: int, src_addr: str) -> None:
        """A probe did not fit: it is sent again, and all after it, as large as would."""
        if mtu < self._size:
            self._size = max(mtu, LEAST_MTU_V6 if self._v6 else LEAST_MTU)
            self._events.append(TraceMTU(mtu=mtu, src_addr=src_addr, ttl=probe.ttl))
        if not probe.done and probe.size > self._size:
            self._close(probe)
            self._hops[probe.ttl].remove(probe)
            self._plan.appendleft(probe.ttl)

    def _on_answer(
        self, probe: _Probe, datagram: Datagram, answer: TraceAnswer, *, last: bool
    ) -> None:
        if probe.answer is not None or probe.ttl <= self._told_ttl:
            return
        probe.answer = answer
        self._close(probe)
        if last:
            self._last_ttl = min(self._last_ttl, probe.ttl)
            for other in list(self._under_way):
                if other.ttl > self._last_ttl:
                    self._close(other)

    def _close(self, probe: _Probe) -> None:
        probe.done = True
        if probe in self._under_way:
            self._under_way.remove(probe)

    # -- waiting and telling -----------------------------------------------------------------

    def _deadline_ns(self, probe: _Probe) -> int:
        """When to give a probe up, by what answers have told so far."""
        config = self.config
        known_ns = _slowest_ns(self._hops.get(probe.ttl, ())) * config.here_times
        if not known_ns:
            for ttl in range(probe.ttl + 1, self._last_ttl + 1):
                slowest_ns = _slowest_ns(self._hops.get(ttl, ()))
                if slowest_ns:
                    known_ns = slowest_ns * config.near_times
                    break
        if not known_ns:
            return probe.sent_ns + config.wait_ns
        return probe.sent_ns + min(config.wait_ns, max(LEAST_WAIT_NS, round(known_ns)))

    def _tidy(self, now_ns: int) -> None:
        if self._finished:
            return
        for probe in list(self._under_way):
            if self._deadline_ns(probe) <= now_ns:
                self._close(probe)
        while self._told_ttl < self._last_ttl:
            probes = self._hops.get(self._told_ttl + 1, [])
            if len(probes) < self._queries_of(probes) or not all(each.done for each in probes):
                return
            rate_limited = self._is_rate_limited(self._told_ttl + 1, probes)
            if rate_limited is None:
                return
            self._told_ttl += 1
            self._events.append(
                TraceHop(
                    ttl=self._told_ttl,
                    answers=tuple(each.answer for each in probes),
                    rate_limited=rate_limited,
                )
            )
        self._finished = True
        self._events.append(
            TraceSummary(
                reached=any(
                    each.answer is not None and each.answer.src_addr == self.config.dst_addr
                    for each in self._hops.get(self._last_ttl, ())
                ),
                hops=self._told_ttl,
                mtu=self._size if self.config.find_mtu else None,
                duration_ns=0 if self._first_ns is None else now_ns - self._first_ns,
            )
        )

    def _queries_of(self, probes: list[_Probe]) -> int:
        """How many probes a hop gets in all; fewer once it was stopped."""
        return self.config.queries if self._plan else len(probes)

    def _is_rate_limited(self, ttl: int, probes: list[_Probe]) -> bool | None:
        """Whether a hop lost only its own answers; None while farther hops may still tell."""
        lost = sum(each.answer is None for each in probes)
        if not lost or lost == len(probes):
            return False
        farther = [
            each
            for other in range(ttl + 1, self._last_ttl + 1)
            for each in self._hops.get(other, ())
        ]
        if not all(each.done for each in farther):
            return None
        return bool(farther) and all(each.answer is not None for each in farther)


def _slowest_ns(probes: list[_Probe] | tuple[()]) -> int:
    return max((each.answer.rtt_ns for each in probes if each.answer), default=0)


def _answer_of(
    probe: _Probe, datagram: Datagram, error: ICMPError, quote: Quote, rewritten: tuple[str, ...]
) -> TraceAnswer:
    labels: tuple[MPLSLabel, ...] = ()
    interfaces: list[InterfaceInformation] = []
    if error.extensions:
        for each in ICMPExtensions.parse(error.extensions)[0].objects:
            if isinstance(each, MPLSLabelStack):
                labels += each.labels
            elif isinstance(each, InterfaceInformation):
                interfaces.append(each)
    header = quote.header
    return TraceAnswer(
        src_addr=datagram.src_addr,
        rtt_ns=max(0, datagram.received_ns - probe.sent_ns),
        icmp_type=error.icmp_type,
        code=error.code,
        reply_ttl=datagram.ttl,
        mtu=error.mtu,
        labels=labels,
        interfaces=tuple(interfaces),
        quoted_ttl=header.ttl if isinstance(header, IPv4Header) else header.hop_limit,
        rewritten=rewritten,
        tx_stamp=probe.stamp_source,
        rx_stamp=datagram.stamp_source,
    )
