"""Round-trip times of a path, and the time-outs that follow (RFC 9002 sections 5 and 6)."""

from __future__ import annotations

from rawproto.transport.constants import MAX_ACK_DELAY_NS

__all__ = ["GRANULARITY_NS", "RTT"]

INITIAL_RTT_NS = 250_000_000
GRANULARITY_NS = 1_000_000
MAX_PTO_NS = 8_000_000_000


class RTT:
    """The estimates, all in nanoseconds.

    Attributes:
        latest_rtt: the last sample.
        smoothed_rtt: their moving average.
        rttvar: their mean deviation.
        min_rtt: the least one.
        sampled: whether there was a sample yet.
        pto: the probe time-out, before any doubling.
        loss_delay: how much later than an acknowledged packet one may be before it counts as lost.
    """

    __slots__ = (
        "latest_rtt",
        "loss_delay",
        "min_rtt",
        "pto",
        "rttvar",
        "sampled",
        "smoothed_rtt",
    )

    def __init__(self) -> None:
        self.latest_rtt = self.smoothed_rtt = INITIAL_RTT_NS
        self.rttvar = INITIAL_RTT_NS // 2
        self.min_rtt = 0
        self.sampled = False
        self._set_timeouts()

    def on_sample(self, rtt_ns: int, ack_delay_ns: int) -> None:
        """Takes in a sample.

        Args:
            rtt_ns: from sending a packet to its ACK.
            ack_delay_ns: of that, what the peer says that it waited.
        """
        if rtt_ns < 1:
            rtt_ns = 1
        self.latest_rtt = rtt_ns
        if not self.sampled:
            self.sampled = True
            self.min_rtt = self.smoothed_rtt = rtt_ns
            self.rttvar = rtt_ns // 2
        else:
            if rtt_ns < self.min_rtt:
                self.min_rtt = rtt_ns
            if ack_delay_ns > MAX_ACK_DELAY_NS:
                ack_delay_ns = MAX_ACK_DELAY_NS
            if rtt_ns >= self.min_rtt + ack_delay_ns:
                rtt_ns -= ack_delay_ns
            self.rttvar += (abs(self.smoothed_rtt - rtt_ns) - self.rttvar) // 4
            self.smoothed_rtt += (rtt_ns - self.smoothed_rtt) // 8
        self._set_timeouts()

    def _set_timeouts(self) -> None:
        """What follows from the estimates is asked for far more often than they change."""
        smoothed, variance = self.smoothed_rtt, 4 * self.rttvar
        if variance < GRANULARITY_NS:
            variance = GRANULARITY_NS
        pto = smoothed + variance + MAX_ACK_DELAY_NS
        self.pto = pto if pto < MAX_PTO_NS else MAX_PTO_NS
        longest = smoothed if smoothed > self.latest_rtt else self.latest_rtt
        delay = 9 * longest // 8
        self.loss_delay = delay if delay > GRANULARITY_NS else GRANULARITY_NS
