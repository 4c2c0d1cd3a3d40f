"""One target's side of a ping: its probes, their states, its beat and its counts.

::

    waiting --reply--> answered --reply--> answered (a duplicate)
       |  `--error, refusal--> refused
       `--timeout--> given up --reply--> answered (late)

A run remembers its last probes by the 16 bits of their number that are on the
wire, so that duplicates and late replies are known for what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawproto.machine import StampSource
from rawproto.probe.pacing import Pace
from rawproto.probe.ping_events import PingTarget
from rawproto.probe.stats import PingStatistics, RTTSamples

if TYPE_CHECKING:
    import random

__all__ = ["ANSWERED", "GIVEN_UP", "REFUSED", "WAITING", "Probe", "Run"]

WAITING, ANSWERED, GIVEN_UP, REFUSED = range(4)


class Probe:
    """One probe.

    Attributes:
        number: counted from 1 without end; its low 16 bits are the sequence number.
        sent_ns: when it left, as well as is known by now.
        queued_ns: how long it waited in this host, None without kernel stamps.
        stamp_source: who took `sent_ns`.
        state: see the module's docstring.
    """

    __slots__ = ("number", "queued_ns", "sent_ns", "stamp_source", "state")

    def __init__(self, number: int, sent_ns: int) -> None:
        self.number = number
        self.sent_ns = sent_ns
        self.queued_ns: int | None = None
        self.stamp_source: StampSource = "user"
        self.state = WAITING

    @property
    def sequence_number(self) -> int:
        """The 16 bits on the wire."""
        return self.number & 0xFFFF


class Run:
    """One target's run.

    Attributes:
        index: among the targets.
        target: whom it pings.
        mtu: of the path, as far as ICMP errors have told.
        pace: when its next probe is due.
        statistics: its counts.
        probes: remembered ones by sequence number, oldest first.
        newest: the newest probe, None before the first.
        waiting: how many probes are in that state.
    """

    __slots__ = (
        "_highest",
        "index",
        "mtu",
        "newest",
        "pace",
        "probes",
        "remembered",
        "statistics",
        "target",
        "waiting",
    )

    def __init__(
        self, index: int, target: PingTarget, pace: Pace, remembered: int, rng: random.Random
    ) -> None:
        """
        Args:
            index: among the targets.
            target: whom it pings.
            pace: its beat.
            remembered: how many probes to remember, at most 65535.
            rng: for the statistics' sample.
        """
        self.index = index
        self.target = target
        self.mtu = target.mtu
        self.pace = pace
        self.remembered = remembered
        self.statistics = PingStatistics(rtt=RTTSamples(rng))
        self.probes: dict[int, Probe] = {}
        self.newest: Probe | None = None
        self.waiting = 0
        self._highest = 0

    def begin(self, now_ns: int) -> tuple[Probe, Probe | None]:
        """The next probe, and one still waiting that must be forgotten for it."""
        probe = Probe(self.newest.number + 1 if self.newest else 1, now_ns)
        # Numbers are consecutive, so the one that falls out of memory is known.
        forgotten = self.probes.pop(probe.number - self.remembered & 0xFFFF, None)
        self.probes[probe.sequence_number] = probe
        self.newest = probe
        self.waiting += 1
        self.pace.on_sent(now_ns)
        counts = self.statistics
        counts.sent += 1
        counts.ended_ns = counts.last_sent_ns = now_ns
        if counts.started_ns is None:
            counts.started_ns = now_ns
        return probe, forgotten if forgotten and forgotten.state == WAITING else None

    def take_back(self, probe: Probe, retry_ns: int) -> None:
        """The newest probe never left: its number goes to the next, due at `retry_ns`."""
        del self.probes[probe.sequence_number]
        self.close(probe, REFUSED)
        self.statistics.sent -= 1
        self.newest = self.probes.get(probe.sequence_number - 1 & 0xFFFF)
        self.pace.retry(retry_ns)

    def close(self, probe: Probe, state: int) -> None:
        """A waiting probe goes to another state."""
        self.waiting -= probe.state == WAITING
        probe.state = state

    def answer(self, probe: Probe, rtt_ns: int) -> tuple[bool, bool, bool]:
        """Counts a sound reply: whether it is (a duplicate, late, overtaken by a later one)."""
        counts = self.statistics
        if probe.state == ANSWERED:
            counts.duplicates += 1
            return True, False, False
        late = probe.state == GIVEN_UP
        overtaken = probe.number < self._highest
        self._highest = max(self._highest, probe.number)
        counts.received += 1
        counts.late += late
        counts.reordered += overtaken
        counts.rtt.add(rtt_ns)
        if probe.queued_ns is not None:
            counts.stamped += 1
            counts.queued_total_ns += probe.queued_ns
            counts.queued_max_ns = max(counts.queued_max_ns, probe.queued_ns)
        self.close(probe, ANSWERED)
        return False, late, overtaken
