"""BBR, version 3: as much as the path delivers, by a model of it instead of by its losses.

Read draft-ietf-ccwg-bbr-06; `bbr_model` measures the path, `bbr_bounds` minds losses, and this
module decides: at what rate, and how much may be in flight.

::

    STARTUP ---> DRAIN ---> DOWN ---> CRUISE ---> REFILL ---> UP        from any: PROBE_RTT,
    2.77 x       0.5 x      0.9 x     1 x         1 x         1.25 x    every 5 s if the RTT
    the rate                ^                                 |         was never as low; back
                            '---------------------------------'         to CRUISE, or STARTUP

The names of what it knows are the draft's, so that one can be read beside the other. Where
this differs, docs/deviations.md says why.
"""

from __future__ import annotations

from collections.abc import Callable

from rawproto.transport.congestion.bbr_bounds import (
    BETA,
    UNBOUND,
    Bounds,
    above_threshold,
    in_flight_at_loss,
)
from rawproto.transport.congestion.bbr_model import SECOND_NS, PathModel
from rawproto.transport.congestion.sample import Acked, Lost
from rawproto.transport.pacing import MAX_BURST, burst_packets

__all__ = ["BBR"]

STARTUP, DRAIN, PROBE_RTT = "startup", "drain", "probe_rtt"
DOWN, CRUISE, REFILL, UP = "down", "cruise", "refill", "up"
_PROBE_BW = (DOWN, CRUISE, REFILL, UP)
_PROBING = (STARTUP, REFILL, UP)

# State -> share of the bandwidth to send at, share of the BDP to have in flight (section 5.6.1)
_GAINS = {
    STARTUP: (2.77, 2.0),
    DRAIN: (0.5, 2.0),
    DOWN: (0.9, 2.0),
    CRUISE: (1.0, 2.0),
    REFILL: (1.0, 2.0),
    UP: (1.25, 2.25),
    PROBE_RTT: (1.0, 0.5),
}

# What the ACKs that come tell of: what a probe for bandwidth sent, or not (yet, any more)
_NO_FEEDBACK, _REFILLING, _STARTING, _FEEDBACK, _STOPPING = range(5)

_INITIAL_PACKETS = 10
_MIN_PACKETS = 4
_PACING_SHARE = 0.99
_HEADROOM = 0.15
_DRAIN_ROUNDS = 3
_STARTUP_LOSS_EVENTS = 6
_MAX_RENO_ROUNDS = 63
_PROBE_WAIT_NS = 2 * SECOND_NS
_PROBE_RTT_NS = 200_000_000
_MOST_DOUBLINGS = 30


class BBR:
    """A window in bytes and a rate in bytes a second.

    Args:
        packet: the size of packets.
        entropy: gives so many random bytes.

    Attributes:
        window: how much may be in flight.
        pacing_rate: at which to send; None before the first RTT.
        state: a name, such as "cruise".
        path: what is known of the path.
        bounds: what losses tell.
        bw: what is held to be the bandwidth for now.
    """

    # Every idle connection has one, and past 30 attributes instances share no keys.
    __slots__ = (
        "_ack_phase",
        "_app_limited",
        "_cwnd_limited",
        "_cycle_ns",
        "_drain_start_round",
        "_entropy",
        "_idle_restart",
        "_initial",
        "_pacing_gain",
        "_precautionary",
        "_prior_window",
        "_probe_rtt_done_ns",
        "_probe_rtt_round",
        "_probe_sample",
        "_probe_wait_ns",
        "_rounds_since_up",
        "_too_high",
        "_undo_state",
        "_unmeasured",
        "_up_acked",
        "_up_acked_per_packet",
        "_up_doublings",
        "_was_cwnd_limited",
        "_window_gain",
        "bounds",
        "bw",
        "pacing_rate",
        "packet",
        "path",
        "state",
        "window",
    )

    def __init__(self, packet: int, entropy: Callable[[int], bytes]) -> None:
        self.packet = packet
        self._entropy = entropy
        self.window = self._initial = _INITIAL_PACKETS * packet
        self.pacing_rate: int | None = None
        self.path = PathModel()
        self.bounds = Bounds()
        self.bw = 0
        self._enter(STARTUP)
        self._app_limited = False
        self._cwnd_limited = self._was_cwnd_limited = False
        self._idle_restart = False
        self._drain_start_round = 0
        # the cycle of probing for bandwidth
        self._ack_phase = _NO_FEEDBACK
        self._probe_sample = False
        self._cycle_ns = self._probe_wait_ns = 0
        self._rounds_since_up = 0
        self._up_doublings = self._up_acked = 0
        self._up_acked_per_packet = UNBOUND
        self._too_high = self._precautionary = False
        # the probe for the RTT
        self._probe_rtt_done_ns: int | None = None
        self._probe_rtt_round = False
        self._unmeasured = -1
        self._prior_window = 0
        self._undo_state = ""

    @property
    def slow_start(self) -> bool:
        """Whether it still looks for the bandwidth of the path."""
        return self.state == STARTUP

    # --- what recovery tells ---

    def on_acked(self, acked: Acked) -> None:
        path, bounds = self.path, self.bounds
        burst = acked.burst
        # What a probe for the RTT held back tells as little of the path as a lack of data.
        self._app_limited = burst.app_limited or burst.delivered <= self._unmeasured
        if self.pacing_rate is None:
            self.pacing_rate = self._rate_of(self.window * SECOND_NS // max(acked.smoothed_rtt, 1))

        bounds.begin_ack(acked)
        path.on_acked(acked, self._app_limited, self.bw, self.window)
        self._note_limit(acked)
        if bounds.round_start:
            self._on_loss_round(acked)
        self._step(acked)
        if bounds.round_start:
            bounds.begin_round(acked)

        most = bounds.bw_shortterm
        self.bw = path.max_bw if path.max_bw < most else most
        rate = self._rate_of(self.bw)
        if path.full_bw_reached or rate > self.pacing_rate:
            self.pacing_rate = rate
        self._set_window(acked.size)

    def on_lost(self, lost: Lost) -> None:
        marked = not lost.size
        if self.bounds.on_lost(self.path.delivered, marked):
            if self.state != PROBE_RTT:
                self._prior_window = self.window
            self._undo_state = ""
        if not self._probe_sample:
            return
        burst = lost.burst
        if marked:
            self._on_too_high(burst.in_flight, burst.app_limited, lost.now_ns)
        elif above_threshold(lost.lost, burst, self.packet):
            level = in_flight_at_loss(lost.lost, burst, lost.size)
            self._on_too_high(level, burst.app_limited, lost.now_ns)

    def on_restart(self, now_ns: int) -> None:
        """Section 5.4.1: at the bandwidth, not faster; an idle path needs no probe for its RTT."""
        self._idle_restart = True
        if self.state in _PROBE_BW:
            self.pacing_rate = max(int(self.bw * _PACING_SHARE), 1)
        elif self.state == PROBE_RTT:
            self._check_probe_rtt_done(now_ns)

    def on_spurious(self) -> None:
        """Section 5.5.11.2."""
        self.window = max(self.window, self._prior_window)
        self.bounds.on_spurious()
        self.path.look_for_full()
        state, self._undo_state = self._undo_state, ""
        if state == STARTUP and self.state != STARTUP:
            self.path.full_bw_reached = False
            if self.state != PROBE_RTT:
                self._enter(STARTUP)
        elif state == UP and self.state not in (UP, PROBE_RTT):
            self._start_refill()

    def on_persistent_congestion(self) -> None:
        """The window is as small as can be; ACKs let it grow back to what the model says."""
        self.window = _MIN_PACKETS * self.packet

    def on_packet_size(self, size: int) -> None:
        if self.window == self._initial:
            self.window = _INITIAL_PACKETS * size
        self._initial = _INITIAL_PACKETS * size
        self.packet = size
        self.window = max(self.window, _MIN_PACKETS * size)

    # --- the states ---

    def _enter(self, state: str) -> None:
        self.state = state
        self._pacing_gain, self._window_gain = _GAINS[state]

    def _step(self, acked: Acked) -> None:
        """The draft's order: Startup, Drain, the cycle of probing, the probe for the RTT."""
        path, now_ns = self.path, acked.now_ns
        if self.state == STARTUP and path.full_bw_reached:
            self._enter(DRAIN)
            self._drain_start_round = path.round_count
        if self.state == DRAIN:
            rounds = path.round_count - self._drain_start_round
            if acked.remaining <= self._target(1.0) or rounds > _DRAIN_ROUNDS:
                self._start_down(now_ns)
        if path.full_bw_reached:
            self._step_probe_bw(acked)
        if path.probe_rtt_due and self.state != PROBE_RTT and not self._idle_restart:
            self._start_probe_rtt()
        if self.state == PROBE_RTT:
            self._step_probe_rtt(acked)
        self._idle_restart = False

    def _on_loss_round(self, acked: Acked) -> None:
        """A round of counting losses is over: were they too many? (sections 5.3.1.3, 5.5.10.3)"""
        path, bounds = self.path, self.bounds
        many = bounds.events and above_threshold(acked.lost, acked.burst, self.packet)
        if self.state == STARTUP:
            # Not all in one place: a burst may be lost to other things than a full queue.
            if bounds.marked or (many and bounds.events >= _STARTUP_LOSS_EVENTS):
                path.full_bw_reached = True
                self._undo_state = STARTUP
                bounds.inflight_longterm = max(path.bdp(self.bw), bounds.inflight_latest)
        elif self.state not in _PROBING and (many or bounds.marked):
            bounds.lower(path.max_bw, self.window)
        bounds.end_round()

    def _step_probe_bw(self, acked: Acked) -> None:
        """Section 5.3.3.9."""
        path, now_ns = self.path, acked.now_ns
        if path.round_start:
            self._rounds_since_up += 1
        if self._adapt_longterm(acked):
            return
        state = self.state
        if state in (DOWN, CRUISE):
            if self._is_time_to_probe(now_ns):
                self._start_refill()
            elif state == DOWN and acked.remaining <= min(
                self._with_headroom(), self._target(1.0, path.max_bw)
            ):
                self._enter(CRUISE)
        elif state == REFILL:
            if path.round_start:
                self._probe_sample = True
                self._start_up(acked)
        elif state == UP and self._is_time_to_go_down(acked):
            self._too_high = False  # as far as is known by now
            self._start_down(now_ns)

    def _start_down(self, now_ns: int) -> None:
        self.bounds.forget_signals()
        self._up_acked_per_packet = UNBOUND
        chance = self._entropy(3)
        self._rounds_since_up = chance[0] & 1
        self._probe_wait_ns = (
            _PROBE_WAIT_NS + int.from_bytes(chance[1:], "big") * SECOND_NS // 65536
        )
        self._cycle_ns = now_ns
        self._ack_phase = _STOPPING
        self.path.start_round()
        self._enter(DOWN)

    def _start_refill(self) -> None:
        self.bounds.forget_shortterm()
        self._up_doublings = self._up_acked = 0
        self._precautionary = False
        self._ack_phase = _REFILLING
        self.path.start_round()
        self._enter(REFILL)

    def _start_up(self, acked: Acked) -> None:
        self._ack_phase = _STARTING
        self.path.start_round()
        self.path.look_for_full(acked.delivery_rate)
        self._enter(UP)
        self._raise_slope()

    def _is_time_to_probe(self, now_ns: int) -> bool:
        """After 2 to 3 s, or sooner where Reno would need fewer rounds to grow as much."""
        rounds = min(self._inflight_target() // self.packet, _MAX_RENO_ROUNDS)
        return now_ns > self._cycle_ns + self._probe_wait_ns or self._rounds_since_up >= rounds

    def _is_time_to_go_down(self, acked: Acked) -> bool:
        """Section 5.3.3.7; losses are minded in `on_lost`."""
        longterm = self.bounds.inflight_longterm
        if self._too_high and acked.remaining >= longterm:
            self._precautionary = True
            return True
        if self._is_cwnd_limited and self.window >= longterm:
            self.path.look_for_full(acked.delivery_rate)
            return False
        return self.path.full_bw_now

    def _adapt_longterm(self, acked: Acked) -> bool:
        """Follows what ACKs of a probe say; whether it goes on to REFILL by that."""
        path, bounds = self.path, self.bounds
        probing_bw = self.state in _PROBE_BW
        if path.round_start:
            if self._ack_phase == _STARTING:
                self._ack_phase = _FEEDBACK
            elif self._ack_phase == _STOPPING:
                self._ack_phase = _NO_FEEDBACK
                self._probe_sample = False
                if probing_bw and not self._app_limited:
                    path.cycle += 1
                if probing_bw and self._precautionary and not self._too_high:
                    self._start_refill()
                    return True
        if bounds.inflight_longterm == UNBOUND or above_threshold(
            acked.lost, acked.burst, self.packet
        ):
            return False
        bounds.inflight_longterm = max(bounds.inflight_longterm, acked.burst.in_flight)
        if self.state == UP:
            self._raise_longterm(acked.size)
        return False

    def _raise_longterm(self, size: int) -> None:
        """By 1, 2, 4, ... packets a round, as long as the bound is what limits the flow."""
        if not self._is_cwnd_limited or self.window < self.bounds.inflight_longterm:
            return
        self._up_acked += size
        packets, self._up_acked = divmod(self._up_acked, self._up_acked_per_packet)
        self.bounds.inflight_longterm += packets * self.packet
        if self.path.round_start:
            self._raise_slope()

    def _raise_slope(self) -> None:
        share = self.window >> self._up_doublings
        self._up_doublings = min(self._up_doublings + 1, _MOST_DOUBLINGS)
        self._up_acked_per_packet = max(share, self.packet)

    def _on_too_high(self, level: int, app_limited: bool, now_ns: int) -> None:
        """A probe lost too much, with `level` in flight: once for each probe."""
        self._too_high = True
        self._probe_sample = False
        if not app_limited:
            least = int(self._inflight_target() * BETA)
            self.bounds.inflight_longterm = max(level, least)
        if self.state == UP:
            self._undo_state = UP
            self._start_down(now_ns)

    def _start_probe_rtt(self) -> None:
        self._prior_window = self.window
        self._probe_rtt_done_ns = None
        self._ack_phase = _STOPPING
        self.path.start_round()
        self._enter(PROBE_RTT)

    def _step_probe_rtt(self, acked: Acked) -> None:
        """Section 5.3.4.3: 200 ms and a round with half of the BDP in flight."""
        self._unmeasured = acked.delivered + acked.remaining
        if self._probe_rtt_done_ns is None:
            if acked.remaining <= self._probe_rtt_window():
                self._probe_rtt_done_ns = acked.now_ns + _PROBE_RTT_NS
                self._probe_rtt_round = False
                self.path.start_round()
            return
        self._probe_rtt_round |= self.path.round_start
        if self._probe_rtt_round:
            self._check_probe_rtt_done(acked.now_ns)

    def _check_probe_rtt_done(self, now_ns: int) -> None:
        if self._probe_rtt_done_ns is None or now_ns <= self._probe_rtt_done_ns:
            return
        self.path.on_rtt_probed(now_ns)
        self.window = max(self.window, self._prior_window)
        self.bounds.forget_shortterm()
        if self.path.full_bw_reached:
            self._start_down(now_ns)
            self._enter(CRUISE)  # there is no queue now
        else:
            self._enter(STARTUP)

    # --- how much, how fast ---

    def _rate_of(self, bw: int) -> int:
        """A little less than the gain says: queues shall become shorter (section 5.6.2)."""
        return int(self._pacing_gain * bw * _PACING_SHARE) or 1

    def _note_limit(self, acked: Acked) -> None:
        """Whether the window was what held the flow back, in this round or the last."""
        if self.path.round_start:
            self._was_cwnd_limited, self._cwnd_limited = self._cwnd_limited, False
        if acked.in_flight + self.packet > self.window:
            self._cwnd_limited = True

    @property
    def _is_cwnd_limited(self) -> bool:
        return self._cwnd_limited or self._was_cwnd_limited

    def _inflight_target(self) -> int:
        """What shall be in flight, unless congestion allows less."""
        return min(self.path.bdp(self.bw), self.window)

    def _target(self, gain: float, bw: int | None = None, extra: int = 0) -> int:
        """So many BDPs, but what a burst and an ACK need at least (sections 5.5.8, 5.6.4.2)."""
        path, packet = self.path, self.packet
        if not path.min_rtt:
            return self._initial
        inflight = int(gain * path.bdp(self.bw if bw is None else bw)) + extra
        if inflight < MAX_BURST * packet:
            quantum = burst_packets(self.pacing_rate or 0, packet)
            inflight = max(inflight, max(quantum, _MIN_PACKETS) * packet)
        return inflight + 2 * packet if self.state == UP else inflight

    def _with_headroom(self) -> int:
        """The long-term bound, with some room left to others."""
        longterm = self.bounds.inflight_longterm
        if longterm == UNBOUND:
            return UNBOUND
        room = max(self.packet, int(longterm * _HEADROOM))
        return max(longterm - room, _MIN_PACKETS * self.packet)

    def _probe_rtt_window(self) -> int:
        return max(self.path.bdp(self.bw) // 2, _MIN_PACKETS * self.packet)

    def _set_window(self, acked: int) -> None:
        """Section 5.6.4: down at once, up by what was acknowledged."""
        most = self._target(self._window_gain, extra=self.path.extra_acked)
        window, least = self.window, _MIN_PACKETS * self.packet
        if self.path.full_bw_reached:
            window += acked
            if window > most:
                window = most
        elif window < most or self.path.delivered < self._initial:
            window += acked
        cap = self.bounds.inflight_shortterm
        state = self.state
        if state in (CRUISE, PROBE_RTT):
            cap = min(cap, self._with_headroom())
        elif state in (DOWN, REFILL, UP):
            cap = min(cap, self.bounds.inflight_longterm)
        if state == PROBE_RTT:
            cap = min(cap, self._probe_rtt_window())
        if window > cap:
            window = cap
        self.window = window if window > least else least
