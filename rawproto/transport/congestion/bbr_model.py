"""What BBR knows of the path: bandwidth, round-trip time, aggregation, and if the pipe is full.

Read draft-ietf-ccwg-bbr-06, sections 4.1 (delivery rate samples, which `recovery` takes) and 5.5.

::

    delivery rates ---> max_bw       the largest of this cycle of probing and the one before
    RTTs -------------> min_rtt      the least of 10 s; due to be measured anew after 5 s
    bytes over time --> extra_acked  how much more comes at once than max_bw explains
    rates by round ---> full_bw_now  three rounds without a quarter more: the pipe is full

Nothing in here decides how much to send: that is `bbr`.
"""

from __future__ import annotations

from rawproto.transport.congestion.sample import Acked

__all__ = ["SECOND_NS", "PathModel", "WindowedMax"]

SECOND_NS = 1_000_000_000
_MIN_RTT_NS = 10 * SECOND_NS
_PROBE_RTT_NS = 5 * SECOND_NS
_AS_LOW = 1 + 1 / 32
_BW_CYCLES = 2
_AGGREGATION_ROUNDS = 10
_GROWTH, _FLAT_ROUNDS = 1.25, 3


class WindowedMax:
    """The largest value of the last ticks.

    Of values that a later one exceeds nothing is kept, so there is at most one for each tick.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[tuple[int, int]] = []  # few; an empty deque takes 700 bytes

    def update(self, tick: int, value: int, length: int) -> int:
        """Takes in a value.

        Args:
            tick: when; never less than the last time.
            value: what.
            length: how many ticks count, this one included.

        Returns:
            The largest one of those.
        """
        kept = self._kept
        while kept and kept[0][0] <= tick - length:
            kept.pop(0)
        while kept and kept[-1][1] <= value:
            kept.pop()
        if not kept or kept[-1][0] != tick:
            kept.append((tick, value))
        return kept[0][1]


class PathModel:
    """The estimates. Times in ns, amounts in bytes, rates in bytes a second.

    Attributes:
        delivered: acknowledged so far.
        round_count: round trips, each from a packet's sending to its ACK.
        round_start: whether this ACK began one.
        cycle: of probing for bandwidth, counted by who probes.
        max_bw: the bandwidth; 0 before there is a sample.
        min_rtt: the round trip through empty queues; 0 before there is a sample.
        probe_rtt_due: no RTT about as low as the lowest was seen for 5 s.
        extra_acked: how much is acknowledged at once beyond what the bandwidth would explain.
        full_bw_now: rates have stopped growing since `look_for_full` was last called.
        full_bw_reached: they had at some time.
    """

    __slots__ = (
        "_aggregated",
        "_aggregation",
        "_aggregation_start_ns",
        "_bandwidth",
        "_full_bw",
        "_full_bw_rounds",
        "_min_rtt_ns",
        "_next_round",
        "_probe_rtt_min",
        "_probe_rtt_min_ns",
        "cycle",
        "delivered",
        "extra_acked",
        "full_bw_now",
        "full_bw_reached",
        "max_bw",
        "min_rtt",
        "probe_rtt_due",
        "round_count",
        "round_start",
    )

    def __init__(self) -> None:
        self.delivered = 0
        self.round_count = self._next_round = 0
        self.round_start = False
        self.cycle = 0
        self.max_bw = 0
        self._bandwidth = WindowedMax()
        self.min_rtt = self._min_rtt_ns = 0
        self._probe_rtt_min = self._probe_rtt_min_ns = 0
        self.probe_rtt_due = False
        self.extra_acked = 0
        self._aggregation = WindowedMax()
        self._aggregated = self._aggregation_start_ns = 0
        self.full_bw_reached = self.full_bw_now = False
        self._full_bw = self._full_bw_rounds = 0

    def on_acked(self, acked: Acked, app_limited: bool, bw: int, window: int) -> None:
        """Takes in what an ACK tells.

        Args:
            acked: it.
            app_limited: its rate was limited by what there was to send.
            bw: what is held to be the bandwidth for now.
            window: what may be in flight for now.
        """
        self.delivered = acked.delivered
        self.round_start = acked.burst.delivered >= self._next_round
        if self.round_start:
            self.start_round()
            self.round_count += 1
        rate = acked.delivery_rate
        # A rate for want of data tells nothing, unless it is higher than all others.
        if rate and (not app_limited or rate >= self.max_bw):
            self.max_bw = self._bandwidth.update(self.cycle, rate, _BW_CYCLES)
        self._on_aggregation(acked, bw, window)
        if self.round_start and not self.full_bw_now and not app_limited:
            self._on_full_round(rate)
        self._on_rtt(acked.now_ns, acked.rtt_ns)

    def start_round(self) -> None:
        """A round begins with what is sent from now on."""
        self._next_round = self.delivered

    def look_for_full(self, rate: int = 0) -> None:
        """Begins to look for the rate that does not grow any more, from `rate` on."""
        self.full_bw_now = False
        self._full_bw, self._full_bw_rounds = rate, 0

    def on_rtt_probed(self, now_ns: int) -> None:
        """The queues were given time to drain: the next time is due in 5 s."""
        self._probe_rtt_min_ns = now_ns

    def bdp(self, bw: int) -> int:
        """What `bw` keeps in flight with empty queues."""
        return bw * self.min_rtt // SECOND_NS

    def _on_full_round(self, rate: int) -> None:
        """Section 5.3.1.2: a round that was not for want of data has begun."""
        if rate >= self._full_bw * _GROWTH:
            self.look_for_full(rate)
            return
        self._full_bw_rounds += 1
        if self._full_bw_rounds >= _FLAT_ROUNDS:
            self.full_bw_now = self.full_bw_reached = True

    def _on_aggregation(self, acked: Acked, bw: int, window: int) -> None:
        """Section 5.5.9: how far what came is ahead of the bandwidth, since it last was behind."""
        now_ns = acked.now_ns
        expected = bw * (now_ns - self._aggregation_start_ns) // SECOND_NS
        if self._aggregated <= expected:
            self._aggregated = expected = 0
            self._aggregation_start_ns = now_ns
        self._aggregated += acked.size
        extra = self._aggregated - expected
        if extra > window:
            extra = window
        rounds = _AGGREGATION_ROUNDS if self.full_bw_reached else 1
        self.extra_acked = self._aggregation.update(self.round_count, extra, rounds)

    def _on_rtt(self, now_ns: int, rtt_ns: int | None) -> None:
        """Section 5.3.4.3: the least of 5 s tells when to probe, that of 10 s is believed.

        Docs/deviations.md says why what is a little more counts as well.
        """
        self.probe_rtt_due = self.min_rtt > 0 and now_ns > self._probe_rtt_min_ns + _PROBE_RTT_NS
        if rtt_ns is not None and (
            self.probe_rtt_due or not self.min_rtt or rtt_ns < self._probe_rtt_min
        ):
            self._probe_rtt_min, self._probe_rtt_min_ns = rtt_ns, now_ns
        elif rtt_ns is not None and rtt_ns <= self._probe_rtt_min * _AS_LOW:
            self._probe_rtt_min_ns = now_ns  # the queues are empty without a probe
        if self._probe_rtt_min and (
            not self.min_rtt
            or self._probe_rtt_min < self.min_rtt
            or now_ns > self._min_rtt_ns + _MIN_RTT_NS
        ):
            self.min_rtt, self._min_rtt_ns = self._probe_rtt_min, self._probe_rtt_min_ns
