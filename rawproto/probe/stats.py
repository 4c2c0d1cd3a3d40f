"""What a measurement counts: round-trip times in integer nanoseconds, and answers.

Minimum, maximum, mean and deviation are exact however long the run; percentiles
are exact up to `RESERVOIR` samples and from then on those of a uniform random
sample of that size (Vitter's algorithm R), so that a ping of a month needs no
more memory than one of a minute. Jitter is RFC 3550's, section 6.4.1.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

__all__ = ["RESERVOIR", "PingStatistics", "RTTSamples"]

RESERVOIR = 65_536
"""How many round-trip times are kept for percentiles."""


class RTTSamples:
    """Round-trip times as they come in, all in nanoseconds.

    Attributes:
        count: how many there were.
        min_ns: the smallest, 0 before the first.
        max_ns: the largest, 0 before the first.
        smoothed_ns: exponential average with weight 1/8 (RFC 6298's smoothed_rtt).
        jitter_ns: interarrival jitter (RFC 3550), from the order of arrival.
    """

    __slots__ = (
        "_last",
        "_rng",
        "_samples",
        "_squares",
        "_total",
        "count",
        "jitter_ns",
        "max_ns",
        "min_ns",
        "smoothed_ns",
    )

    def __init__(self, rng: random.Random) -> None:
        self.count = 0
        self.min_ns = 0
        self.max_ns = 0
        self.smoothed_ns = 0.0
        self.jitter_ns = 0.0
        self._total = 0
        self._squares = 0
        self._last = 0
        self._samples = array("q")
        self._rng = rng

    def add(self, rtt_ns: int) -> None:
        """Takes one round-trip time, in ns."""
        self.count += 1
        self._total += rtt_ns
        self._squares += rtt_ns * rtt_ns
        if self.count == 1:
            self.min_ns = self.max_ns = rtt_ns
            self.smoothed_ns = rtt_ns
        else:
            self.min_ns = min(self.min_ns, rtt_ns)
            self.max_ns = max(self.max_ns, rtt_ns)
            self.smoothed_ns += (rtt_ns - self.smoothed_ns) / 8
            # Two packets' transit times differ as their round-trip times do.
            self.jitter_ns += (abs(rtt_ns - self._last) - self.jitter_ns) / 16
        self._last = rtt_ns
        if self.count <= RESERVOIR:
            self._samples.append(rtt_ns)
        else:
            slot = self._rng.randrange(self.count)
            if slot < RESERVOIR:
                self._samples[slot] = rtt_ns

    @property
    def mean_ns(self) -> float:
        """Arithmetic mean, 0 before the first."""
        return self._total / self.count if self.count else 0.0

    @property
    def mdev_ns(self) -> float:
        """Standard deviation of the population, which ping calls mdev."""
        if not self.count:
            return 0.0
        # In integers: a difference of squares of ns loses every digit in floats.
        return math.sqrt(self._squares * self.count - self._total**2) / self.count

    def percentiles_ns(self, percents: Sequence[float]) -> list[int]:
        """The smallest sample that at least so many per cent do not exceed (nearest rank).

        Args:
            percents: each above 0 and at most 100.

        Returns:
            One per item of `percents`; zeros before the first sample.
        """
        ordered = sorted(self._samples)
        size = len(ordered)
        if not size:
            return [0] * len(percents)
        return [ordered[max(0, math.ceil(size * percent / 100) - 1)] for percent in percents]


@dataclass(slots=True, kw_only=True)
class PingStatistics:
    """The counts of one target.

    Attributes:
        rtt: round-trip times of every first reply, late ones too.
        sent: probes sent, those that this host could not send included.
        received: probes that were answered, late ones included, duplicates not.
        duplicates: further replies to an answered probe.
        late: replies that came after their probe had been given up.
        errors: ICMP errors and local refusals, redirects not.
        corrupted: replies whose payload or checksum was wrong.
        reordered: replies that a reply to a later probe had overtaken.
        dropped_by_host: packets that this host's socket dropped unread, for all targets.
        stamped: answered probes that the kernel stamped on their way out.
        queued_total_ns: how long those waited in this host, from SCHED to SND stamp.
        queued_max_ns: the longest of them.
        started_ns: when the first probe was sent, None before.
        last_sent_ns: when the last probe was sent.
        ended_ns: when the last thing happened.
    """

    rtt: RTTSamples
    sent: int = 0
    received: int = 0
    duplicates: int = 0
    late: int = 0
    errors: int = 0
    corrupted: int = 0
    reordered: int = 0
    dropped_by_host: int = 0
    stamped: int = 0
    queued_total_ns: int = 0
    queued_max_ns: int = 0
    started_ns: int | None = None
    last_sent_ns: int = 0
    ended_ns: int = 0

    @property
    def loss_pct(self) -> float:
        """Share of probes never answered, in per cent; 0 before the first."""
        return 100.0 * (self.sent - self.received) / self.sent if self.sent else 0.0

    @property
    def queued_mean_ns(self) -> float:
        """Mean wait in this host, 0 without kernel stamps."""
        return self.queued_total_ns / self.stamped if self.stamped else 0.0

    @property
    def duration_ns(self) -> int:
        """From the first probe to the last event."""
        return 0 if self.started_ns is None else self.ended_ns - self.started_ns

    @property
    def sending_ns(self) -> int:
        """From the first probe to the last, which ping calls time."""
        return 0 if self.started_ns is None else self.last_sent_ns - self.started_ns
