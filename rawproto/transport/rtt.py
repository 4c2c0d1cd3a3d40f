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
    """

    __slots__ = ("latest_rtt", "min_rtt", "rttvar", "sampled", "smoothed_rtt")

    def __init__(self) -> None:
        self.latest_rtt = self.smoothed_rtt = INITIAL_RTT_NS
        self.rttvar = INITIAL_RTT_NS // 2
        self.min_rtt = 0
        self.sampled = False

    def on_sample(self, rtt_ns: int, ack_delay_ns: int) -> None:
        """Takes in a sample.

        Args:
            rtt_ns: from sending a packet to its ACK.
            ack_delay_ns: of that, what the peer says that it waited.
        """
        rtt_ns = max(rtt_ns, 1)
        self.latest_rtt = rtt_ns
        if not self.sampled:
            self.sampled = True
            self.min_rtt = self.smoothed_rtt = rtt_ns
            self.rttvar = rtt_ns // 2
            return
        self.min_rtt = min(self.min_rtt, rtt_ns)
        ack_delay_ns = min(ack_delay_ns, MAX_ACK_DELAY_NS)
        if rtt_ns >= self.min_rtt + ack_delay_ns:
            rtt_ns -= ack_delay_ns
        self.rttvar += (abs(self.smoothed_rtt - rtt_ns) - self.rttvar) // 4
        self.smoothed_rtt += (rtt_ns - self.smoothed_rtt) // 8

    @property
    def pto(self) -> int:
        """The probe time-out, before any doubling."""
        variance = max(4 * self.rttvar, GRANULARITY_NS)
        return min(self.smoothed_rtt + variance + MAX_ACK_DELAY_NS, MAX_PTO_NS)

    @property
    def loss_delay(self) -> int:
        """How much later than an acknowledged packet one may be before it counts as lost."""
        return max(9 * max(self.smoothed_rtt, self.latest_rtt) // 8, GRANULARITY_NS)
