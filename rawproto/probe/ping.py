"""The ping machine: echo requests out, round-trip times in (read RFC 792, RFC 4443).

One machine pings any number of targets, each with a run of its own, under one
identifier. It follows the contract of `rawproto.machine`; after each turn
`poll_event` tells what happened, and `statistics` counts it. The round-trip time
is the receive stamp minus the time at which the driver took the probe.

It knows no sockets and no clock, resolves no names and prints nothing.
"""

from __future__ import annotations

import errno
import heapq
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rawproto.errors import LinkError
from rawproto.machine import Datagram, ICMPError, StampSource, Transmit
from rawproto.probe.echo import EchoBuilder
from rawproto.probe.match import EchoMatch, echo_request, error_words, match_echo
from rawproto.probe.pacing import Pace
from rawproto.probe.ping_events import (
    PingConfig,
    PingError,
    PingEvent,
    PingLost,
    PingOutstanding,
    PingReply,
    PingSent,
    PingTarget,
)
from rawproto.probe.run import ANSWERED, GIVEN_UP, REFUSED, WAITING, Probe, Run
from rawproto.probe.stats import PingStatistics
from rawproto.wire.ipv4 import IPv4Header

if TYPE_CHECKING:
    import random

    from rawproto.wire.ipv4_options import IPv4Option

__all__ = ["DEFAULT_TIMEOUT_NS", "FLOOD_INTERVAL_NS", "Ping"]

DEFAULT_TIMEOUT_NS = 10_000_000_000
FLOOD_INTERVAL_NS = 10_000_000
SPREAD_NS = 1_000_000
"""Targets start at most so far apart, so that their probes do not leave in one burst."""
RETRY_NS = 1_000_000
"""How long a probe waits for which this host's queue had no room."""

REDIRECT = 5
MIN_MTU, MIN_MTU_V6 = 576, 1280
"""No ICMP error makes us cut smaller than what every path carries in practice."""


class Ping:
    """Pings every target by one config.

    The first probe is due at `start_ns`. Feed it through the handle_ methods, drain the
    poll_ methods, until `finished`; `stop` ends it early.
    """

    def __init__(
        self,
        targets: Sequence[PingTarget],
        config: PingConfig,
        start_ns: int,
        rng: random.Random,
    ) -> None:
        """
        Args:
            targets: different addresses, any mix of families.
            config: for all of them.
            start_ns: monotonic.
            rng: for IPv4 identifications and the statistics' sample.
        """
        self.config = config
        self._timeout_ns = config.timeout_ns or DEFAULT_TIMEOUT_NS
        self._deadline_ns: int | None = None  # counted from the first probe
        self._answer_driven = config.flood or config.adaptive
        interval_ns = FLOOD_INTERVAL_NS if config.flood else config.interval_ns
        spread_ns = min(SPREAD_NS, interval_ns // max(1, len(targets)))
        remembered = 0xFFFF
        if not self._answer_driven:
            under_way = 2 * self._timeout_ns // max(interval_ns, 1) + 2 * config.preload
            remembered = max(1024, min(0xFFFF, under_way))
        self._runs = []
        for index, target in enumerate(targets):
            pace = Pace(
                start_ns + index * spread_ns,
                interval_ns,
                preload=config.preload,
                answer_driven=self._answer_driven,
                floor_ns=config.floor_ns,
            )
            self._runs.append(Run(index, target, pace, remembered, rng))
        self._by_address = {(run.target.dst_addr, run.target.interface): run for run in self._runs}
        self._builder = EchoBuilder(config, rng)
        # (due, index of run), a heap; entries whose run is due at another time are stale.
        self._due = [(run.pace.next_ns, run.index) for run in self._runs]
        # (when given up, run, probe), in order because every probe waits as long.
        self._open: deque[tuple[int, Run, Probe]] = deque()
        self._outbox: deque[Transmit] = deque()
        self._events: deque[PingEvent] = deque()
        self._begun = False
        self._finished = not targets

    # -- what a driver calls -----------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self._finished

    def handle_datagram(self, datagram: Datagram, now_ns: int) -> None:
        match = match_echo(datagram)
        if match is None or match.identifier != self.config.identifier:
            return
        run = self._run_of(match.dst_addr, datagram.interface)
        probe = run.probes.get(match.sequence_number) if run else None
        if run is None or probe is None:
            return
        if match.error is None:
            self._on_reply(run, probe, match, datagram)
        else:
            self._on_icmp_error(run, probe, match.error)
        self._forget_settled()

    def handle_transmitted(
        self, token: int, sched_ns: int | None, sent_ns: int, stamp_source: StampSource
    ) -> None:
        _, probe = self._of_token(token)
        if probe is None or (stamp_source == "user" and probe.stamp_source == "kernel"):
            return
        probe.sent_ns = sent_ns
        probe.stamp_source = stamp_source
        if sched_ns is not None:
            probe.queued_ns = sent_ns - sched_ns

    def handle_error(self, error: ICMPError, now_ns: int) -> None:
        echo = echo_request(error.original, 58 if ":" in error.dst_addr else 1)
        run = self._run_of(error.dst_addr, 0)
        probe = run.probes.get(echo.sequence_number) if run and echo else None
        if run and probe:
            self._on_icmp_error(run, probe, error)
            self._forget_settled()

    def handle_unsent(self, token: int, error: OSError, now_ns: int) -> None:
        run, probe = self._of_token(token)
        if run is None or probe is None or probe.state != WAITING:
            return
        # The rest of its fragments would be of no use to anybody.
        self._outbox = deque(each for each in self._outbox if each.token != token)
        if error.errno in (errno.EAGAIN, errno.ENOBUFS) and probe is run.newest:
            run.take_back(probe, now_ns + RETRY_NS)
            self._schedule(run)
            return
        words = (error.reason if isinstance(error, LinkError) else error.strerror) or "not sent"
        self._refuse(run, probe, words, now_ns)

    def handle_timeout(self, now_ns: int) -> None:
        """Gives up what has waited too long, and ends when nothing is left to wait for.

        Here alone: what arrives beside an answer may be the answer to another probe.
        """
        waiting = self._open
        while waiting and (waiting[0][2].state != WAITING or waiting[0][0] <= now_ns):
            _, run, probe = waiting.popleft()
            if probe.state == WAITING:
                self._give_up(run, probe)
        if self._finished:
            return
        done = not self._sending and not self._outbox and now_ns >= self._closing_ns()
        if done or self._is_late(now_ns):
            self._finish()

    def poll_transmit(self, now_ns: int) -> Transmit | None:
        while not self._outbox and not self._finished:
            while self._due and self._is_stale(self._due[0]):
                heapq.heappop(self._due)
            if not self._due or self._due[0][0] > now_ns or self._is_late(now_ns):
                return None
            self._send(self._runs[heapq.heappop(self._due)[1]], now_ns)
        return self._outbox.popleft() if self._outbox else None

    def poll_event(self) -> PingEvent | None:
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> int | None:
        if self._finished:
            return None
        times = []
        if self._due:
            times.append(self._due[0][0])
        if self._open:
            times.append(self._open[0][0])
        if not self._sending:
            times.append(self._closing_ns())
        if self._deadline_ns is not None:
            times.append(self._deadline_ns)
        return min(times, default=None)

    # -- what its user calls -----------------------------------------------------------------

    @property
    def targets(self) -> list[PingTarget]:
        """In the order given."""
        return [run.target for run in self._runs]

    def statistics(self, target: PingTarget) -> PingStatistics:
        """The counts of one of `targets`, live."""
        return self._by_address[target.dst_addr, target.interface].statistics

    def stop(self) -> None:
        """Ends it now; probes under way are given up."""
        if not self._finished:
            self._finish()

    # -- sending -----------------------------------------------------------------------------

    @property
    def _sending(self) -> bool:
        # Without a count, or while the first target is not done, there is no need to look further.
        if self.config.count is None or not self._is_done(self._runs[0]):
            return True
        return any(not self._is_done(run) for run in self._runs)

    def _is_late(self, now_ns: int) -> bool:
        return self._deadline_ns is not None and now_ns >= self._deadline_ns

    def _is_done(self, run: Run) -> bool:
        """Whether no more probes go to a target."""
        count, counts = self.config.count, run.statistics
        if count is None:
            return False
        if self.config.deadline_ns is None:
            return counts.sent >= count
        # With a deadline, ping goes on until as many probes are answered, well or badly.
        return counts.received + counts.errors >= count

    def _is_stale(self, due: tuple[int, int]) -> bool:
        run = self._runs[due[1]]
        return due[0] != run.pace.next_ns or self._is_done(run)

    def _schedule(self, run: Run) -> None:
        if not self._is_done(run):
            heapq.heappush(self._due, (run.pace.next_ns, run.index))

    def _begin(self, run: Run, now_ns: int) -> None:
        """The first probe of all is about to leave: the other targets keep their distance."""
        late_ns = now_ns - run.pace.next_ns
        for other in self._runs:
            if other is not run:
                other.pace.shift(late_ns)
        self._due = [(other.pace.next_ns, other.index) for other in self._runs if other is not run]
        if self.config.deadline_ns is not None:
            self._deadline_ns = now_ns + self.config.deadline_ns
        self._begun = True

    def _send(self, run: Run, now_ns: int) -> None:
        if not self._begun:
            self._begin(run, now_ns)
        target, last = run.target, run.newest
        if self.config.report_outstanding and last and last.state in (WAITING, GIVEN_UP):
            self._events.append(
                PingOutstanding(target=target, sequence_number=last.sequence_number)
            )
        probe, forgotten = run.begin(now_ns)
        if forgotten:
            self._give_up(run, forgotten)
        self._schedule(run)
        self._open.append((now_ns + self._timeout_ns, run, probe))
        token = run.index << 48 | probe.number
        packets = self._builder.build(target, probe.sequence_number, run.mtu, now_ns)
        if packets is None:
            self._refuse(run, probe, f"message too long, mtu={run.mtu}", now_ns, mtu=run.mtu)
            return
        dst_addr = f"{target.dst_addr}%{target.scope}" if target.scope else target.dst_addr
        for data in packets:
            self._outbox.append(
                Transmit(
                    data=data,
                    dst_addr=dst_addr,
                    token=token,
                    ttl=self.config.ttl,
                    ecn=self.config.ecn,
                )
            )
        self._events.append(PingSent(target=target, sequence_number=probe.sequence_number))

    def _refuse(
        self, run: Run, probe: Probe, words: str, now_ns: int, *, mtu: int | None = None
    ) -> None:
        """This host does not send a probe."""
        error = PingError(
            target=run.target,
            src_addr="",
            sequence_number=probe.sequence_number,
            icmp_type=None,
            code=None,
            message=words,
            received_ns=now_ns,
            mtu=mtu,
        )
        self._on_error(run, probe, error, final=True)
        self._forget_settled()

    # -- answers -----------------------------------------------------------------------------

    def _of_token(self, token: int) -> tuple[Run, Probe] | tuple[None, None]:
        index, number = token >> 48, token & (1 << 48) - 1
        if 0 <= index < len(self._runs):
            run = self._runs[index]
            probe = run.probes.get(number & 0xFFFF)
            if probe is not None and probe.number == number:
                return run, probe
        return None, None

    def _run_of(self, dst_addr: str, interface: int) -> Run | None:
        by_address = self._by_address
        run = by_address.get((dst_addr, 0)) or by_address.get((dst_addr, interface))
        if run is not None:
            return run
        # A group's members answer from addresses of their own, and so may an anycast server.
        family = ":" in dst_addr
        runs = [run for run in self._runs if (":" in run.target.dst_addr) == family]
        many = [run for run in runs if run.target.many]
        if len(many) == 1:
            return many[0]
        return runs[0] if len(runs) == 1 else None

    def _on_reply(self, run: Run, probe: Probe, match: EchoMatch, datagram: Datagram) -> None:
        counts = run.statistics
        rtt_ns = datagram.received_ns - probe.sent_ns
        if rtt_ns < 0:
            # Looped back before the driver took it (a group's member on this host).
            rtt_ns = max(0, rtt_ns + (probe.queued_ns or 0))
        wrong_at = self._wrong_at(match.payload)
        counts.corrupted += not match.valid or wrong_at is not None
        counts.ended_ns = max(counts.ended_ns, datagram.received_ns)
        duplicate = late = reordered = False
        if match.valid:
            duplicate, late, reordered = run.answer(probe, rtt_ns)
            if not duplicate:
                self._hurry(run, datagram.received_ns)
        else:
            duplicate, late = probe.state == ANSWERED, probe.state == GIVEN_UP
        self._events.append(
            PingReply(
                target=run.target,
                src_addr=datagram.src_addr,
                sequence_number=match.sequence_number,
                identifier=match.identifier,
                size=8 + len(match.payload),
                ttl=datagram.ttl,
                rtt_ns=rtt_ns,
                queued_ns=probe.queued_ns,
                tx_stamp=probe.stamp_source,
                rx_stamp=datagram.stamp_source,
                received_ns=datagram.received_ns,
                duplicate=duplicate,
                late=late,
                reordered=reordered,
                valid=match.valid,
                wrong_at=wrong_at,
                payload=match.payload,
                options=_options_of(datagram.header),
            )
        )

    def _wrong_at(self, payload: bytes) -> int | None:
        """Where a payload differs from what was sent."""
        sent = self.config.payload
        if payload == sent:
            return None
        for at, (got, expected) in enumerate(zip(payload, sent, strict=False)):
            if got != expected:
                return at
        return min(len(payload), len(sent))

    def _on_icmp_error(self, run: Run, probe: Probe, error: ICMPError) -> None:
        v6 = ":" in error.dst_addr
        if error.mtu:
            # Later probes are cut to fit, as the kernel does for sockets of its own.
            run.mtu = min(run.mtu, max(error.mtu, MIN_MTU_V6 if v6 else MIN_MTU))
        self._on_error(
            run,
            probe,
            PingError(
                target=run.target,
                src_addr=error.src_addr,
                sequence_number=probe.sequence_number,
                icmp_type=error.icmp_type,
                code=error.code,
                message=error_words(error),
                received_ns=error.received_ns,
                mtu=error.mtu,
            ),
            # A redirect is advice: the packet that it speaks of went on.
            final=v6 or error.icmp_type != REDIRECT,
        )

    def _on_error(self, run: Run, probe: Probe, error: PingError, *, final: bool) -> None:
        self._events.append(error)
        if not final or probe.state == REFUSED:
            return
        counts = run.statistics
        counts.errors += 1
        counts.ended_ns = max(counts.ended_ns, error.received_ns)
        if probe.state == WAITING:
            run.close(probe, REFUSED)
            if error.src_addr:
                self._hurry(run, error.received_ns)

    def _hurry(self, run: Run, now_ns: int) -> None:
        """Where answers call for probes, one has come."""
        if self._answer_driven:
            run.pace.on_answer(now_ns)
            self._schedule(run)

    # -- ending ------------------------------------------------------------------------------

    def _give_up(self, run: Run, probe: Probe) -> None:
        run.close(probe, GIVEN_UP)
        self._events.append(PingLost(target=run.target, sequence_number=probe.sequence_number))

    def _forget_settled(self) -> None:
        """Probes that need not be given up any more, as far as they stand in front."""
        waiting = self._open
        while waiting and waiting[0][2].state != WAITING:
            waiting.popleft()

    def _closing_ns(self) -> int:
        """When to stop waiting for what is under way, once everything has been sent."""
        if self.config.deadline_ns is not None:
            return 0
        return max((self._patience_ns(run) for run in self._runs if run.waiting), default=0)

    def _patience_ns(self, run: Run) -> int:
        config, counts = self.config, run.statistics
        sent_ns = run.newest.sent_ns if run.newest else 0
        if config.timeout_ns is not None or not counts.received:
            return sent_ns + self._timeout_ns
        # As ping does: a target that has answered gets two of its longest round trips.
        least_ns = FLOOD_INTERVAL_NS if self._answer_driven else config.interval_ns
        longest_ns = max(2 * counts.rtt.max_ns, least_ns)
        return sent_ns + min(self._timeout_ns, longest_ns)

    def _finish(self) -> None:
        for _, run, probe in self._open:
            if probe.state == WAITING:
                self._give_up(run, probe)
        self._open.clear()
        self._outbox.clear()
        self._finished = True


def _options_of(header: bytes) -> tuple[IPv4Option, ...]:
    return IPv4Header.parse(header)[0].options if len(header) > 20 else ()
