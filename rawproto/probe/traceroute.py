"""The traceroute machine: one flow of probes, many hops at once, told in order.

Probes go out hop by hop, all of a hop's together, as many as the window holds: those to
nearer hops are first everywhere, so what is sent past a target takes nothing away from
what was meant for it. A probe that is overdue makes room for another, and is still
waited for; `trace_hops` says how long, and `flow` how one probe is told from the next.

Without privilege the kernel may show nothing of the probe that an error quotes. Such an
error counts for the only probe that it can be about; where there are several, these are
asked again, and from then on one probe is sent after the other.

It knows no sockets and no clock, resolves no names and prints nothing.
"""

from __future__ import annotations

import errno
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
from rawproto.probe.trace_hops import Hops, Probe
from rawproto.wire.checksum import internet_checksum
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import InterfaceInformation, MPLSLabel, MPLSLabelStack

if TYPE_CHECKING:
    import random

__all__ = ["Traceroute"]

LEAST_MTU, LEAST_MTU_V6 = 68, 1280
"""No smaller one is believed (RFC 791, RFC 8200)."""
PLATEAUS = (32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68)
"""What to try where a router tells no MTU (RFC 1191 section 7)."""
MOST_NARROWINGS = 64
"""Nobody tells of more without meaning harm: every one has probes sent again."""
RETRY_NS, MOST_RETRIES = 5_000_000, 1000
"""How soon to try again while this host has no room for a packet, and how often in a trace."""
ICMP = 1
TIME_EXCEEDED, TIME_EXCEEDED_V6 = 11, 3
TOO_BIG, TOO_BIG_V6 = (3, 4), 2
ENDINGS, ENDINGS_V6 = {3, 11, 12}, {1, 2, 3, 4}
"""Types of errors that say that a packet was dropped; it lives on when one redirects it."""


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
        self._probes: dict[int, Probe] = {}  # by number
        self._hops = Hops(config)
        self._plan = deque(
            ttl
            for ttl in range(config.first_ttl, config.max_ttl + 1)
            for _ in range(config.queries)
        )
        self._under_way: list[Probe] = []
        self._last_ttl = config.max_ttl
        self._told_ttl = config.first_ttl - 1
        self._settled_ns = 0
        self._look_ns: int | None = None
        self._size = config.size
        self._narrowings: deque[TraceMTU] = deque()
        self._narrowed = 0
        self._retries = 0
        self._one_by_one = False
        self._unclear = 0  # errors about one of these, nobody knows which:
        self._suspects: dict[int, Probe] = {}
        self._next_ns = start_ns
        self._first_ns: int | None = None
        self._events: deque[TraceEvent] = deque()
        self._finished = False
        self.failure: OSError | None = None
        """Why this host sends no more probes, where it does not."""

    # -- what a driver calls -----------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self._finished

    def handle_datagram(self, datagram: Datagram, now_ns: int) -> None:
        if datagram.protocol == ICMP and internet_checksum(datagram.data):
            return  # damaged on the way; the kernel judges ICMPv6 alone before raw sockets get it
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
            read = found and self._packets.read_quote(found[1], self._probes)
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
        probe = self._probes.get(token)
        if probe is None or probe.done:
            return
        self._ask_again(probe)
        if error.errno in (errno.EAGAIN, errno.ENOBUFS) and self._retries < MOST_RETRIES:
            self._retries += 1
            self._next_ns = max(self._next_ns, now_ns + RETRY_NS)
        else:
            # The next would fare no better. What is under way may still be answered.
            self.failure = self.failure or error
            self._plan.clear()
            self._last_ttl = min(self._last_ttl, self._hops.farthest)
        self._tidy(now_ns)

    def poll_transmit(self, now_ns: int) -> Transmit | None:
        if self._finished or now_ns < max(self._next_ns, self._room_ns()):
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
        if self._plan:
            times.append(max(self._next_ns, self._room_ns()))
        if self._look_ns is not None:
            times.append(self._look_ns)
        return min(times, default=self._next_ns)

    # -- what its user calls -----------------------------------------------------------------

    def stop(self, now_ns: int) -> None:
        """Ends it now: hops are told as far as they are known."""
        if not self._finished:
            self._plan.clear()
            self._last_ttl = min(self._last_ttl, self._hops.farthest)
            for probe in list(self._under_way):
                self._close(probe)
            self._tidy(now_ns)

    # -- sending -----------------------------------------------------------------------------

    def _room_ns(self) -> int:
        """When the window has room for one more."""
        if self._one_by_one:
            return self._deadline_ns(self._under_way[-1]) if self._under_way else 0
        if len(self._under_way) < self.config.window:
            return 0
        return self._under_way[-self.config.window].sent_ns + self._hops.overdue_ns

    def _send(self, ttl: int, now_ns: int) -> Transmit:
        number = self._number
        self._number = number % 0xFFFE + 1
        probe = Probe(number, ttl, self._size, now_ns)
        self._probes[number] = probe
        self._hops.add(probe)
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
        probe: Probe,
        error: ICMPError,
        quoted_ttl: int | None,
        rewritten: tuple[str, ...] | None,
    ) -> None:
        icmp_type = error.icmp_type
        too_big = icmp_type == TOO_BIG_V6 if self._v6 else (icmp_type, error.code) == TOO_BIG
        if too_big and self.config.find_mtu and self._narrowed < MOST_NARROWINGS:
            mtu = error.mtu or next(size for size in (*PLATEAUS, 0) if size < probe.size)
            self._narrow(probe, mtu, error.src_addr)
        elif icmp_type in (ENDINGS_V6 if self._v6 else ENDINGS):
            self._on_answer(
                probe,
                _answer_of(probe, error, quoted_ttl, rewritten),
                # Whatever else an error says, no later probe will get farther.
                last=icmp_type != (TIME_EXCEEDED_V6 if self._v6 else TIME_EXCEEDED),
            )

    def _only_one(self, error: ICMPError) -> Probe | None:
        """The probe that an error is about which quotes none, where it can be but one."""
        awaited = self._awaited(error.received_ns)
        if len(awaited) == 1:
            return awaited[0]
        if awaited:
            self._one_by_one = True
            self._unclear += 1
            self._suspects.update((probe.number, probe) for probe in awaited)
        return None

    def _awaited(self, at_ns: int) -> list[Probe]:
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

    def _narrow(self, probe: Probe, mtu: int, src_addr: str) -> None:
        """A probe did not fit: it is sent again, with all that go as far, as large as would."""
        size = max(mtu, LEAST_MTU_V6 if self._v6 else LEAST_MTU)
        if size < self._size:
            self._size = size
            self._narrowed += 1
            self._narrowings.append(TraceMTU(mtu=mtu, src_addr=src_addr, ttl=probe.ttl))
        elif self._narrowings and probe.size > size == self._size:
            # The nearer the probe, the better is known where the router is.
            self._narrowings[-1].ttl = min(self._narrowings[-1].ttl, probe.ttl)
        for each in reversed(self._under_way[:]):
            if each.ttl >= probe.ttl and each.size > self._size:
                self._ask_again(each)
        if probe.number in self._probes and probe.size > self._size:
            self._ask_again(probe)

    def _ask_again(self, probe: Probe) -> None:
        """No answer to this probe counts any more; one that was not given up is sent anew."""
        del self._probes[probe.number]
        if not probe.done:
            self._close(probe)
            self._hops.remove(probe)
            self._plan.appendleft(probe.ttl)

    def _on_answer(self, probe: Probe, answer: TraceAnswer, *, last: bool) -> None:
        if probe.answer is not None or probe.ttl <= self._told_ttl:
            return
        probe.answer = answer
        self._hops.learn(probe.ttl, answer.rtt_ns)
        self._close(probe)
        if last:
            self._last_ttl = min(self._last_ttl, probe.ttl)
            for other in list(self._under_way):
                if other.ttl > self._last_ttl:
                    self._close(other)

    def _close(self, probe: Probe) -> None:
        probe.done = True
        if probe in self._under_way:
            self._under_way.remove(probe)

    # -- waiting and telling -----------------------------------------------------------------

    def _deadline_ns(self, probe: Probe) -> int:
        """When to give a probe up, by what answers have told so far."""
        if self._one_by_one:
            # Else a late answer would be taken for one to the next probe.
            return probe.sent_ns + self.config.wait_ns
        return probe.sent_ns + self._hops.wait_ns(probe.ttl)

    def _tidy(self, now_ns: int) -> None:
        if self._finished:
            return
        if self._suspects:
            self._clear_suspects()
        for probe in self._under_way[:]:
            if self._deadline_ns(probe) <= now_ns:
                if probe.number in self._suspects:
                    self._ask_again(probe)
                else:
                    self._close(probe)
        while self._told_ttl < self._last_ttl:
            if not self._is_settled(self._told_ttl + 1, now_ns):
                return
            self._told_ttl += 1
            self._settled_ns = 0
            self._tell(self._told_ttl, now_ns)
        self._finish(now_ns)

    def _is_settled(self, ttl: int, now_ns: int) -> bool:
        """Whether nothing more will be learned of a hop."""
        probes = self._hops.at(ttl)
        # Fewer where it was stopped.
        if (self._plan and len(probes) < self.config.queries) or not all(p.done for p in probes):
            return False
        self._settled_ns = self._settled_ns or now_ns
        self._look_ns = self._hops.awaited_ns(ttl, self._last_ttl, self._settled_ns, now_ns)
        return self._look_ns is None

    def _tell(self, ttl: int, now_ns: int) -> None:
        while self._narrowings and self._narrowings[0].ttl <= ttl:
            self._tell_narrowing(self._narrowings.popleft())
        self._events.append(
            TraceHop(
                ttl=ttl,
                answers=tuple(each.answer for each in self._hops.at(ttl)),
                rate_limited=self._hops.is_rate_limited(ttl, self._last_ttl, now_ns),
            )
        )

    def _tell_narrowing(self, narrowing: TraceMTU) -> None:
        """Now that all nearer hops are told it is known which of them it was."""
        narrowing.ttl -= 1
        for ttl in range(narrowing.ttl, 0, -1):
            if narrowing.src_addr in {p.answer.src_addr for p in self._hops.at(ttl) if p.answer}:
                narrowing.ttl = ttl
                break
        self._events.append(narrowing)

    def _finish(self, now_ns: int) -> None:
        while self._narrowings:
            self._tell_narrowing(self._narrowings.popleft())
        reached = any(
            each.answer is not None and each.answer.src_addr == self.config.dst_addr
            for each in self._hops.at(self._last_ttl)
        )
        self._finished = True
        self._events.append(
            TraceSummary(
                reached=reached,
                hops=self._told_ttl,
                mtu=self._size if self.config.find_mtu and reached else None,
                duration_ns=0 if self._first_ns is None else now_ns - self._first_ns,
            )
        )


def _answer_of(
    probe: Probe, error: ICMPError, quoted_ttl: int | None, rewritten: tuple[str, ...] | None
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
