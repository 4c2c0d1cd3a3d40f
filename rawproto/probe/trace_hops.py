"""What a trace has sent and learned: the probes of every hop, how long to wait, what a loss means.

An answer tells how long answers take: those of the same hop, and of all nearer ones,
whose way is shorter. So a probe is given up

    after MAX                      where nothing is known
    after HERE x RTT               where the same hop has answered
    after NEAR x RTT               where only farther hops have, by the nearest of them

each at least LEAST_WAIT_NS behind such an RTT, and none later than MAX.

A router that limits the rate of its answers gives the first ones and no more, while the
probes to farther hops, which all went through it, come back. See `is_cut_off` for when
that is no chance.

It knows no packets and no clock.
"""

from __future__ import annotations

from rawproto.machine import StampSource
from rawproto.probe.trace_events import TraceAnswer, TraceConfig

__all__ = ["Hops", "Probe", "is_cut_off"]

LEAST_WAIT_NS = 200_000_000
"""So much longer than others a busy router may take over an answer, however near it is."""
UNKNOWN_NS = 1_000_000_000
"""Before the first answer, a probe is overdue after this (as RFC 6298 section 2.1 has it)."""
SURE = 0.006
"""What is less likely than this by chance is none."""


class Probe:
    """One packet.

    Attributes:
        number: its name, on the wire too.
        ttl: its hop.
        size: of the whole packet, in bytes.
        sent_ns: the best stamp of when it left.
        stamp_source: who took that.
        answer: what came back, if anything.
        done: whether it is answered or given up.
    """

    __slots__ = ("answer", "done", "number", "sent_ns", "size", "stamp_source", "ttl")

    def __init__(self, number: int, ttl: int, size: int, sent_ns: int) -> None:
        self.number = number
        self.ttl = ttl
        self.size = size
        self.sent_ns = sent_ns
        self.stamp_source: StampSource = "user"
        self.answer: TraceAnswer | None = None
        self.done = False


class Hops:
    """The probes by hop, and what their answers teach."""

    def __init__(self, config: TraceConfig) -> None:
        self._config = config
        self._probes: dict[int, list[Probe]] = {}
        self._slowest: dict[int, int] = {}  # RTT by hop, of those that answered
        self._waits: dict[int, int] = {}
        self.overdue_ns = min(config.wait_ns, UNKNOWN_NS)
        """After so long without an answer a probe holds up no others."""

    def at(self, ttl: int) -> list[Probe]:
        """The probes to one hop, in the order of sending."""
        return self._probes.get(ttl, [])

    @property
    def farthest(self) -> int:
        """The hop of the farthest probe, 0 before the first."""
        return max(self._probes, default=0)

    def add(self, probe: Probe) -> None:
        """A probe goes out."""
        self._probes.setdefault(probe.ttl, []).append(probe)

    def remove(self, probe: Probe) -> None:
        """A probe is to count no more."""
        probes = self._probes[probe.ttl]
        probes.remove(probe)
        if not probes:
            del self._probes[probe.ttl]

    # -- how long to wait --------------------------------------------------------------------

    def learn(self, ttl: int, rtt_ns: int) -> None:
        """A hop has answered, after so long."""
        if rtt_ns <= self._slowest.get(ttl, -1):
            return
        self._slowest[ttl] = rtt_ns
        self.overdue_ns = self._patience_ns(max(self._slowest.values()), self._config.here_times)
        self._waits.clear()
        near_ns = self._config.wait_ns
        for hop in range(max(self._slowest), 0, -1):
            slowest_ns = self._slowest.get(hop)
            if slowest_ns is None:
                self._waits[hop] = near_ns
            else:
                self._waits[hop] = self._patience_ns(slowest_ns, self._config.here_times)
                near_ns = self._patience_ns(slowest_ns, self._config.near_times)

    def wait_ns(self, ttl: int) -> int:
        """How long to wait for the answer to a probe to this hop."""
        return self._waits.get(ttl, self._config.wait_ns)

    def _patience_ns(self, rtt_ns: int, times: float) -> int:
        return min(self._config.wait_ns, max(rtt_ns + LEAST_WAIT_NS, round(rtt_ns * times)))

    # -- what a loss means -------------------------------------------------------------------

    def awaited_ns(self, ttl: int, last_ttl: int, settled_ns: int, now_ns: int) -> int | None:
        """When farther hops will have told what they can of this hop's losses.

        Args:
            ttl: the hop.
            last_ttl: of the trace.
            settled_ns: when the hop's own last probe was answered or given up.
            now_ns: the present.

        Returns:
            None: they have, or there is nothing to ask them.
        """
        if not _ends_early([each.answer is not None for each in self.at(ttl)]):
            return None
        times = [
            each.sent_ns + self.overdue_ns
            for hop in range(ttl + 1, last_ttl + 1)
            for each in self.at(hop)
            if not each.done and each.sent_ns <= settled_ns
        ]
        return min((time for time in times if time > now_ns), default=None)

    def is_rate_limited(self, ttl: int, last_ttl: int, now_ns: int) -> bool:
        """Whether a hop lost only its own answers, by what came of all other probes.

        Silent hops tell nothing of the way to them, and those that limit their rate tell
        the wrong thing, so they are left out. What is lost beyond a hop is not its loss,
        and what is lost before it may be; so it has to stand out from what is behind it,
        and from all together.
        """
        lost = sent = 0
        stands_out = False
        for hop in range(last_ttl, 0, -1):
            answered = [
                each.answer is not None
                for each in self.at(hop)
                if each.done or each.sent_ns + self.overdue_ns <= now_ns
            ]
            cut_off = is_cut_off(answered, lost, sent)
            if hop == ttl:
                stands_out = cut_off
            if any(answered) and not cut_off:
                lost += answered.count(False)
                sent += len(answered)
        return stands_out and is_cut_off([p.answer is not None for p in self.at(ttl)], lost, sent)


def is_cut_off(answered: list[bool], others_lost: int, others_sent: int) -> bool:
    """Whether the first probes to a hop were answered and the last were not, not by chance.

    Few probes prove little: others are taken to lose a tenth, until they have shown that
    they do not. One answer lost of three is never proof; two are when no other is lost.

    Args:
        answered: for each probe to the hop, in the order of sending.
        others_lost: answers lost of other hops.
        others_sent: probes to them.
    """
    if not _ends_early(answered) or not others_sent:
        return False
    count, lost = len(answered), answered.count(False)
    share = (others_lost + 1) / (others_sent + 10)
    by_chance = (share**last * (1 - share) ** (count - last) for last in range(lost, count + 1))
    return sum(by_chance) < SURE


def _ends_early(answered: list[bool]) -> bool:
    """Whether answers came at first and none later."""
    return any(answered) and not all(answered) and not any(answered[answered.index(False) :])
