"""The traceroute machine: one flow of probes, all hops at once, told in order.

Probes go out in rounds, one to each hop before a second to any, because the first
round finds out how far the target is. Within the window all are under way at once.
How long to wait is learned: an answer from the same hop, or from a farther one,
tells how long an answer takes at all; only where nothing is known is the whole
time-out waited for.

Without privilege the kernel may show nothing of the probe that an error quotes. Such an
error counts for the only probe that it can be about; where there are several, these are
asked again, and from then on one probe is sent after the other.

It knows no sockets and no clock, resolves no names and prints nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rawproto.errors import WireError
from rawproto.machine import Datagram, ICMPError, StampSource, Transmit
from rawproto.probe.flow import CUT, FlowPackets
from rawproto.probe.match import read_error
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

if TYPE_CHECKING:
    import random

__all__ = ["Traceroute"]

LEAST_WAIT_NS = 100_000_000
"""However fast other answers came, a router may take so long to answer."""
LEAST_MTU, LEAST_MTU_V6 = 68, 1280
"""No smaller one is believed (RFC 791, RFC 8200)."""
TIME_EXCEEDED, TIME_EXCEEDED_V6 = 11, 3
ENDINGS, ENDINGS_V6 = {3, 11, 12}, {1, 2, 3, 4}
"""Types of errors that say that a packet was dropped; it lives on when one redirects it."""


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
        self._number = rng.randrange(1, 0xFFFF)
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
        self._one_by_one = False
        self._unclear = 0  # errors about one of these, nobody knows which:
        self._suspects: dict[int, _Probe] = {}
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
        elif datagram.protocol in (1, 58):
            found = read_error(datagram)
            read = found and self._packets.read_quote(found[1])
            probe = self._probes.get(read[0]) if read else None
            if found and read and probe:
                self._on_error(probe, found[0], found[1].ttl, read[1])
        self._tidy(now_ns)

    def handle_transmitted(
        self, token: int, sched_ns: int | None, sent_ns: int, stamp_source: StampSource
    ) -> None:
        probe = self._probes.get(token)
        if probe is not None and not (stamp_source == "user" and probe.stamp_source == "kernel"):
            probe.sent_ns = sent_ns
            probe.stamp_source = stamp_source

    def handle_error(self, error: ICMPError, now_ns: int) -> None:
        number = self._packets.reported(error.original)
        probe = self._only_one(error) if number == CUT else self._probes.get(number or CUT)
        if probe is not None:
            # The kernel does not show how our header looked when it was quoted.
            self._on_error(probe, error, None, None)
        self._tidy(now_ns)

    def handle_timeout(self, now_ns: int) -> None:
        self._tidy(now_ns)

    def handle_unsent(self, token: int, error: OSError, now_ns: int) -> None:
        probe = self._probes.pop(token, None)
        if probe is not None:
            # Nothing will come of it; the hop shows it as unanswered.
            self._close(probe)
            self._tidy(now_ns)

    def poll_transmit(self, now_ns: int) -> Transmit | None:
        if self._finished or not self._has_room or now_ns < self._next_ns:
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
        if self._plan and self._has_room:
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

    @property
    def _has_room(self) -> bool:
        return len(self._under_way) < (1 if self._one_by_one else self.config.window)

    def _send(self, ttl: int, now_ns: int) -> Transmit:
        number = self._number
        self._number = number % 0xFFFE + 1
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

    def _on_error(
        self,
        probe: _Probe,
        error: ICMPError,
        quoted_ttl: int | None,
        rewritten: tuple[str, ...] | None,
    ) -> None:
        if error.mtu and self.config.find_mtu:
            self._shrink(probe, error.mtu, error.src_addr)
        elif error.icmp_type in (ENDINGS_V6 if self._v6 else ENDINGS):
            self._on_answer(
                probe,
                _answer_of(probe, error, quoted_ttl, rewritten),
                # Whatever else an error says, no later probe will get farther.
                last=error.icmp_type != (TIME_EXCEEDED_V6 if self._v6 else TIME_EXCEEDED),
            )

    def _only_one(self, error: ICMPError) -> _Probe | None:
        """The probe that an error is about which quotes none, where it can be but one."""
        awaited = self._awaited(error.received_ns)
        if len(awaited) == 1:
            return awaited[0]
        if awaited:
            self._one_by_one = True
            self._unclear += 1
            self._suspects.update((probe.number, probe) for probe in awaited)
        return None

    def _awaited(self, at_ns: int) -> list[_Probe]:
        """The probes whose answers may come at that time, those given up early among them."""
        since_ns = at_ns - self.config.wait_ns
        # Those that went past the end are answered by who has been heard to quote more.
        return [
            probe
            for probe in self._probes.values()
            if probe.answer is None
            and probe.ttl <= self._last_ttl
            and since_ns < probe.sent_ns <= at_ns
        ]

    def _clear_suspects(self) -> None:
        """Where there are as many errors as probes, each has been answered by one of them."""
        suspects = [
            probe
            for probe in self._suspects.values()
            if probe.answer is None and probe.ttl <= self._last_ttl
        ]
        if self._unclear >= len(suspects):
            for probe in reversed(suspects):
                if probe.number in self._probes:
                    self._ask_again(probe)
            self._suspects.clear()
            self._unclear = 0

    def _shrink(self, probe: _Probe, mtu: int, src_addr: str) -> None:
        """A probe did not fit: it is sent again, and all after it, as large as would."""
        if mtu < self._size:
            self._size = max(mtu, LEAST_MTU_V6 if self._v6 else LEAST_MTU)
            self._events.append(TraceMTU(mtu=mtu, src_addr=src_addr, ttl=probe.ttl))
        if probe.size > self._size:
            self._ask_again(probe)

    def _ask_again(self, probe: _Probe) -> None:
        """No answer to this probe counts any more; one that was not given up is sent anew."""
        del self._probes[probe.number]
        if not probe.done:
            self._close(probe)
            self._hops[probe.ttl].remove(probe)
            self._plan.appendleft(probe.ttl)

    def _on_answer(self, probe: _Probe, answer: TraceAnswer, *, last: bool) -> None:
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
        if self._one_by_one:
            # Else a late answer would be taken for one to the next probe.
            return probe.sent_ns + config.wait_ns
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
        if self._suspects:
            self._clear_suspects()
        for probe in list(self._under_way):
            if self._deadline_ns(probe) <= now_ns:
                if probe.number in self._suspects:
                    self._ask_again(probe)
                else:
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
    probe: _Probe, error: ICMPError, quoted_ttl: int | None, rewritten: tuple[str, ...] | None
) -> TraceAnswer:
    labels: tuple[MPLSLabel, ...] = ()
    interfaces: list[InterfaceInformation] = []
    try:
        objects = ICMPExtensions.parse(error.extensions)[0].objects if error.extensions else ()
    except WireError:  # the kernel hands over what it has not read
        objects = ()
    for each in objects:
        if isinstance(each, MPLSLabelStack):
            labels += each.labels
        elif isinstance(each, InterfaceInformation):
            interfaces.append(each)
    return TraceAnswer(
        src_addr=error.src_addr,
        rtt_ns=max(0, error.received_ns - probe.sent_ns),
        icmp_type=error.icmp_type,
        code=error.code,
        reply_ttl=error.ttl,
        mtu=error.mtu,
        labels=labels,
        interfaces=tuple(interfaces),
        quoted_ttl=quoted_ttl,
        rewritten=rewritten,
        tx_stamp=probe.stamp_source,
        rx_stamp=error.stamp_source,
    )
