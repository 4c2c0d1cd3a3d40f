"""What losses tell BBR: how fast and how much is safe, for the moment and for longer.

Read draft-ietf-ccwg-bbr-06, section 5.5.10. Two models, each only an upper bound:

- the short term: while the flow keeps to what it knows, a round that lost more than 2 % lowers
  rate and volume to what it delivered, by 30 % at most. The next probe forgets it.
- the long term: while the flow tries for more, losses above 2 % of what was in flight show
  how much was too much. Only probes that go well raise it again.

CE marks count as losses of which nobody knows how many (RFC 3168 section 5); the draft leaves
that open.
"""

from __future__ import annotations

from math import sqrt

from rawproto.transport.congestion.sample import Acked, Burst

__all__ = ["BETA", "UNBOUND", "Bounds", "above_threshold", "in_flight_at_loss"]

UNBOUND = 1 << 62
BETA = 0.7
_LOSS_THRESHOLD = 0.02
_ECN_BETA = 0.85  # RFC 8511 section 3: less than for a loss, as a mark comes sooner


class Bounds:
    """The bounds of both models. Amounts in bytes, rates in bytes a second.

    Attributes:
        bw_shortterm: the rate, `UNBOUND` for none; so are all of these.
        inflight_shortterm: the volume.
        inflight_longterm: likewise, from probes that went too high.
        inflight_latest: the largest volume that a round trip delivered in this round.
        round_start: whether this ACK ended a round of counting losses.
        events: how often losses were found in this round.
        marked: whether packets came marked CE in this round.
    """

    __slots__ = (
        "_bw_latest",
        "_lossy",
        "_next_round",
        "_saved",
        "bw_shortterm",
        "events",
        "inflight_latest",
        "inflight_longterm",
        "inflight_shortterm",
        "marked",
        "round_start",
    )

    def __init__(self) -> None:
        self.bw_shortterm = self.inflight_shortterm = self.inflight_longterm = UNBOUND
        self.inflight_latest = self._bw_latest = 0
        self.round_start = self._lossy = self.marked = False
        self.events = 0
        self._next_round = 0
        self._saved = (UNBOUND, UNBOUND, UNBOUND)

    def begin_ack(self, acked: Acked) -> None:
        """First thing of an ACK: what the latest round trip delivered."""
        before = acked.burst.delivered
        gained = acked.delivered - before
        if acked.delivery_rate > self._bw_latest:
            self._bw_latest = acked.delivery_rate
        if gained > self.inflight_latest:
            self.inflight_latest = gained
        self.round_start = before >= self._next_round
        if self.round_start:
            self._next_round = acked.delivered

    def lower(self, max_bw: int, window: int) -> None:
        """The short term goes down to what was delivered in the round that is over.

        Args:
            max_bw: of the path, where there is no bound yet.
            window: what may be in flight, likewise.
        """
        rate = max_bw if self.bw_shortterm == UNBOUND else self.bw_shortterm
        volume = window if self.inflight_shortterm == UNBOUND else self.inflight_shortterm
        self.bw_shortterm = max(self._bw_latest, int(rate * BETA))
        self.inflight_shortterm = max(self.inflight_latest, int(volume * BETA))
        if self.marked:  # all was delivered, and yet it was too much
            self.bw_shortterm = min(self.bw_shortterm, int(rate * _ECN_BETA))
            self.inflight_shortterm = min(self.inflight_shortterm, int(volume * _ECN_BETA))

    def end_round(self) -> None:
        """The losses of this round have had their answer."""
        self._lossy = self.marked = False
        self.events = 0

    def begin_round(self, acked: Acked) -> None:
        """Last thing of an ACK that ended a round: the new one has only this ACK to show."""
        self._bw_latest = acked.delivery_rate
        self.inflight_latest = acked.delivered - acked.burst.delivered

    def on_lost(self, delivered: int, marked: bool) -> bool:
        """Packets were lost, or marked CE, after so much was delivered: the first of a round?"""
        first = not self._lossy
        if first:
            self._next_round = delivered
            self._saved = self.bw_shortterm, self.inflight_shortterm, self.inflight_longterm
        self._lossy = True
        self.marked |= marked
        self.events += 1
        return first

    def on_spurious(self) -> None:
        """Nothing was lost since the first of the last round: the bounds are as before."""
        rate, volume, longterm = self._saved
        self._lossy = self.marked = False
        self.bw_shortterm = max(self.bw_shortterm, rate)
        self.inflight_shortterm = max(self.inflight_shortterm, volume)
        self.inflight_longterm = max(self.inflight_longterm, longterm)

    def forget_signals(self) -> None:
        """What was delivered and lost while probing says nothing of what comes after."""
        self.events = 0
        self.marked = False
        self._bw_latest = self.inflight_latest = 0

    def forget_shortterm(self) -> None:
        """The short term is over."""
        self.bw_shortterm = self.inflight_shortterm = UNBOUND


def above_threshold(lost: int, burst: Burst, packet: int) -> bool:
    """Whether more than 2 % of what was in flight with a burst was lost since it left.

    Few losses say little of a share: of 400 packets 8 are 2 %, but 9 are also what one round in
    30 loses of a path that loses 1 %. So it takes one standard deviation more: 12.

    Args:
        lost: bytes lost on the path by now.
        burst: it.
        packet: the size of packets: one was in flight at least.
    """
    since = lost - burst.lost
    if not since:
        return False
    expected = max(burst.in_flight / packet, 1) * _LOSS_THRESHOLD
    return since > (expected + sqrt(expected)) * packet


def in_flight_at_loss(lost: int, burst: Burst, size: int) -> int:
    """How much was in flight when the share of losses went above 2 %.

    A burst holds many packets, and those at its end may have been too many; section 5.5.10.2
    solves for how far one would have come.

    Args:
        lost: bytes lost on the path by now.
        burst: that of the latest packet lost.
        size: bytes of it that were lost.
    """
    before = max(burst.in_flight - size, 0)
    lost_before = max(lost - burst.lost - size, 0)
    prefix = (_LOSS_THRESHOLD * before - lost_before) / (1 - _LOSS_THRESHOLD)
    return before + max(int(prefix), 0)
