"""BBR by its parts, fed by hand (draft-ietf-ccwg-bbr-06); tests/sim/test_bbr has whole flows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.transport.congestion import Acked, Burst, Lost
from rawproto.transport.congestion.bbr import BBR
from rawproto.transport.congestion.bbr_bounds import (
    UNBOUND,
    Bounds,
    above_threshold,
    in_flight_at_loss,
)
from rawproto.transport.congestion.bbr_model import WindowedMax

MS = 1_000_000
SECOND = 1_000_000_000
PACKET = 1000
RATE = 1_000_000  # bytes a second
RTT = 100 * MS
BDP = 100  # packets
STEPS = 10


class Path:
    """A path of 1 MB/s and 100 ms without a queue: ten bursts a round trip, each with an ACK.

    Attributes:
        bbr: the controller that it is told to.
        now_ns: the time.
        rate: bytes a second.
        rtt_ns: its round trip.
        states: those that the controller went through.
    """

    def __init__(self, entropy: Callable[[int], bytes] = bytes) -> None:
        self.bbr = BBR(PACKET, entropy)
        self.now_ns = 10 * SECOND
        self.rate, self.rtt_ns = RATE, RTT
        self.states = [self.bbr.state]
        self.delivered = self.lost = 0
        self.flying: list[tuple[Burst, int]] = []
        for _ in range(STEPS):
            self.send(False)

    @property
    def in_flight(self) -> int:
        return sum(size for _, size in self.flying)

    def send(self, app_limited: bool) -> None:
        """A burst leaves: as much as the window and the path let through in its time."""
        size = min(self.bbr.window, self.rate * self.rtt_ns // SECOND) // STEPS
        burst = Burst(self.now_ns, self.delivered, self.now_ns, self.now_ns, app_limited, self.lost)
        self.flying.append((burst, size))
        burst.in_flight = self.in_flight

    def step(self, *, lose: float = 0.0, app_limited: bool = False) -> None:
        """The oldest burst is acknowledged, but for a share that is lost, and the next leaves."""
        self.now_ns += self.rtt_ns // STEPS
        before = self.in_flight
        burst, size = self.flying.pop(0)
        gone = round(size * lose)
        self.lost += gone
        if gone:
            self.tell_lost(burst, gone)
        self.delivered += size - gone
        rate = (self.delivered - burst.delivered) * SECOND // self.rtt_ns
        self.bbr.on_acked(
            Acked(
                self.now_ns,
                size - gone,
                before,
                burst,
                self.rtt_ns,
                self.rtt_ns,
                self.rtt_ns,
                self.delivered,
                rate,
                True,
                self.in_flight,
                self.lost,
            )
        )
        if self.bbr.state != self.states[-1]:
            self.states.append(self.bbr.state)
        self.send(app_limited)

    def tell_lost(self, burst: Burst, size: int) -> None:
        """So many bytes of a burst are lost, or it was marked CE, for 0."""
        self.bbr.on_lost(Lost(self.now_ns, size, burst, self.in_flight, self.rtt_ns, self.lost))

    def mark(self) -> None:
        self.tell_lost(self.flying[0][0], 0)

    def round(self, *, lose: float = 0.0, app_limited: bool = False) -> None:
        """A round trip goes by."""
        for _ in range(STEPS):
            self.step(lose=lose, app_limited=app_limited)

    def until(self, state: str, rounds: int = 100) -> int:
        """Goes on to a state: after how many rounds it came."""
        for number in range(rounds):
            if self.bbr.state == state:
                return number
            self.round()
        raise AssertionError(f"no {state} after {rounds} rounds: {self.states}")


def cruising(entropy: Callable[[int], bytes] = bytes) -> Path:
    path = Path(entropy)
    path.until("cruise")
    return path


# --- the model ---


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=1, max_size=60),
    st.integers(1, 5),
)
def test_windowed_max_is_the_largest_of_the_last_ticks(
    steps: list[tuple[int, int]], length: int
) -> None:
    kept, tick, seen = WindowedMax(), 0, []
    for later, value in steps:
        tick += later
        seen.append((tick, value))
        expected = max(value for at, value in seen if at > tick - length)
        assert kept.update(tick, value, length) == expected
        assert len(kept._kept) <= length


def test_startup_doubles_each_round_and_ends_when_three_rounds_bring_no_more() -> None:
    path = Path()
    windows = []
    while path.bbr.slow_start:
        windows.append(path.bbr.window // PACKET)
        path.round()
    assert all(late >= 1.7 * early for early, late in pairwise(windows[:4]))
    assert path.bbr.path.max_bw == RATE
    assert path.bbr.path.min_rtt == RTT
    flat = len(windows) - next(n for n, window in enumerate(windows) if window >= BDP)
    assert 3 <= flat <= 5
    assert path.states[1] in ("drain", "down", "cruise")


def test_startup_goes_on_as_long_as_only_the_program_holds_it_back() -> None:
    path = Path()
    for _ in range(50):
        path.round(app_limited=True)
        path.now_ns -= RTT * 9 // 10  # so quickly that no RTT grows old
    assert path.states == ["startup"]


def test_sample_for_want_of_data_counts_only_where_it_is_the_largest() -> None:
    path = cruising()
    path.rate = RATE // 2
    for _ in range(3):
        path.round(app_limited=True)
    assert path.bbr.path.max_bw == RATE
    path.rate = 2 * RATE
    for _ in range(2):
        path.round(app_limited=True)
    assert path.bbr.path.max_bw == 2 * RATE


def test_pace_is_the_bandwidth_less_one_per_cent_and_the_window_two_bdps() -> None:
    path = cruising()
    path.round()
    assert path.bbr.pacing_rate == pytest.approx(0.99 * RATE, rel=0.001)
    extra = path.bbr.path.extra_acked
    assert path.bbr.window <= 2 * BDP * PACKET + extra
    for _ in range(3):
        path.round()
    assert path.bbr.window == pytest.approx(
        2 * BDP * PACKET + path.bbr.path.extra_acked, abs=PACKET
    )


# --- the cycle ---


def test_probing_goes_round_and_is_faster_and_slower_than_the_path_for_a_while() -> None:
    path = cruising()
    path.states.clear()
    path.states.append("cruise")
    gains = {}
    for _ in range(120):
        path.round()
        rate = path.bbr.pacing_rate or 0
        gains[path.bbr.state] = round(rate / path.bbr.bw / 0.99, 2)
    assert gains["refill"] == gains["cruise"] == 1
    assert gains["up"] == 1.25
    text = " ".join(path.states)
    assert "cruise refill up down cruise refill up down" in text.replace(" probe_rtt", "")
    # down may be over with the ACK by which it began, where nothing stands in a queue


@pytest.mark.parametrize(("chance", "seconds"), [(b"\0\0\0", 2.0), (b"\1\xff\xff", 3.0)])
def test_time_between_probes_follows_from_chance(chance: bytes, seconds: float) -> None:
    path = cruising(lambda size: chance[:size])
    start_ns = path.now_ns
    path.until("refill")
    # A round goes by before it is noticed, and the wait began a round ago at most.
    assert (path.now_ns - start_ns) / SECOND == pytest.approx(seconds, abs=0.25)


def test_small_flow_probes_as_often_as_reno_would_be_back() -> None:
    path = Path()
    path.rate = RATE // 10  # 10 packets of BDP: 10 rounds are one second
    path.until("cruise")
    assert path.until("refill") <= 12


def test_ten_times_the_bandwidth_is_found_within_one_probe() -> None:
    path = cruising()
    path.rate = 10 * RATE
    path.until("refill")
    path.round()
    rounds = 0
    while path.bbr.state == "up":
        path.round()
        rounds += 1
    assert path.bbr.path.max_bw == 10 * RATE
    assert rounds < 30


def test_bandwidth_that_is_gone_is_forgotten_after_two_probes() -> None:
    path = cruising()
    path.rate = RATE // 2
    for _ in range(2):
        path.until("up")
        path.until("cruise")
        path.round()
    path.round()
    assert path.bbr.path.max_bw == RATE // 2


# --- the probe for the RTT ---


def test_rtt_is_probed_after_five_seconds_with_half_a_bdp_for_a_fifth_of_one() -> None:
    path = cruising()
    low_ns = path.now_ns
    path.rtt_ns = RTT + 4 * MS  # never as low again
    path.until("probe_rtt")
    assert 5 * SECOND < path.now_ns - low_ns < 5.3 * SECOND
    assert path.bbr.window == pytest.approx(BDP * PACKET / 2, rel=0.05)
    start_ns = path.now_ns
    path.until("cruise")
    assert path.now_ns - start_ns >= 200 * MS
    assert path.bbr.window >= BDP * PACKET, "what it was before"
    assert path.bbr.path.max_bw == RATE, "what a small window allowed is not the bandwidth"


def test_queue_that_is_as_good_as_empty_makes_the_probe_for_the_rtt_needless() -> None:
    path = cruising()
    for extra in (3 * MS, 0, 2 * MS, MS):
        path.rtt_ns = RTT + extra
        for _ in range(30):
            path.round()
    assert "probe_rtt" not in path.states
    assert path.bbr.path.min_rtt == RTT, "what is a little more is never believed"


def test_idle_time_makes_the_probe_for_the_rtt_needless() -> None:
    path = cruising()
    path.now_ns += 8 * SECOND
    path.bbr.on_restart(path.now_ns)
    path.round()
    assert path.bbr.state != "probe_rtt"
    assert "probe_rtt" not in path.states


def test_restart_is_paced_at_the_bandwidth_whatever_the_phase_was() -> None:
    path = cruising()
    path.until("up")
    assert (path.bbr.pacing_rate or 0) > 1.2 * RATE
    path.bbr.on_restart(path.now_ns + SECOND)
    assert path.bbr.pacing_rate == pytest.approx(0.99 * RATE, rel=0.001)


def test_rtt_that_became_longer_is_believed_after_ten_seconds_and_a_probe() -> None:
    path = cruising()
    path.rtt_ns = 2 * RTT
    start_ns = path.now_ns
    while path.bbr.path.min_rtt == RTT:
        assert path.now_ns < start_ns + 20 * SECOND
        path.round()
    assert path.now_ns - start_ns > 9 * SECOND
    assert "probe_rtt" in path.states
    assert path.bbr.path.min_rtt == 2 * RTT


# --- losses ---


def test_losses_below_two_per_cent_change_nothing() -> None:
    path = cruising()
    for _ in range(15):
        path.round(lose=0.015)
    assert path.bbr.bounds.bw_shortterm == UNBOUND
    assert path.bbr.bw > 0.98 * RATE


def test_losses_while_cruising_lower_rate_and_window_to_what_arrives() -> None:
    path = cruising()
    path.round()
    for _ in range(3):
        path.round(lose=0.2)
    assert 0.7 * 0.7 * RATE < path.bbr.bw < 0.85 * RATE
    assert path.bbr.window < 1.5 * BDP * PACKET
    path.until("refill")
    path.round()
    assert path.bbr.bounds.bw_shortterm == UNBOUND, "the next probe starts from what is known"
    assert path.bbr.bw == RATE


def test_probe_that_loses_much_sets_a_bound_and_the_next_one_stops_there() -> None:
    path = cruising()
    path.until("up")
    path.round(lose=0.1)
    assert path.bbr.state in ("down", "cruise")
    bound = path.bbr.bounds.inflight_longterm
    assert 0.7 * BDP * PACKET <= bound <= 2.25 * BDP * PACKET
    path.rate = RATE * 4 // 5  # as it is paced by 0.9 for now, of which this path knows nothing
    path.until("cruise")
    path.rate = RATE
    path.round()
    assert path.bbr.window <= 0.85 * bound + PACKET, "room is left for others"
    path.states.clear()
    path.states.append(path.bbr.state)
    path.until("up")
    path.until("down")
    assert path.bbr.bounds.inflight_longterm >= bound


def test_startup_ends_by_losses_in_many_places() -> None:
    path = Path()
    for _ in range(4):
        path.round()
    assert path.bbr.slow_start
    for _ in range(3):
        path.round(lose=0.1)
    assert not path.bbr.slow_start
    assert path.bbr.bounds.inflight_longterm < UNBOUND


def test_startup_does_not_end_by_losses_in_one_place() -> None:
    path = Path()
    for _ in range(3):
        path.round()
    for _ in range(3):
        path.step(lose=0.5)
    path.round()
    assert path.bbr.slow_start


def test_mark_is_a_loss_of_unknown_size() -> None:
    for state, changed in (("startup", "inflight_longterm"), ("up", "inflight_longterm")):
        path = Path()
        path.round()
        path.round()
        path.until(state)
        path.mark()
        path.round()
        path.round()
        assert path.bbr.state != state
        assert getattr(path.bbr.bounds, changed) < UNBOUND
    path = cruising()
    path.mark()
    path.round()
    path.round()
    assert path.bbr.bw == pytest.approx(0.85 * RATE, rel=0.01)


def test_spurious_losses_give_back_bounds_and_state() -> None:
    path = cruising()
    path.until("up")
    for _ in range(5):
        path.step(lose=0.2)
    assert path.bbr.bounds.inflight_longterm < UNBOUND
    path.bbr.on_spurious()
    assert path.bbr.bounds.inflight_longterm == UNBOUND
    assert path.bbr.state == "refill", "the probe begins again"
    path = Path()
    for _ in range(3):
        path.round()
    while path.bbr.slow_start:
        path.round(lose=0.1)
    path.bbr.on_spurious()
    assert path.bbr.slow_start
    assert path.bbr.bounds.inflight_longterm == UNBOUND


def test_persistent_congestion_leaves_four_packets_and_acks_bring_the_window_back() -> None:
    path = cruising()
    path.round()
    before = path.bbr.window
    path.bbr.on_persistent_congestion()
    assert path.bbr.window == 4 * PACKET
    rounds = 0
    while path.bbr.window < 0.9 * before:
        path.round()
        rounds += 1
    assert rounds <= 8


def test_window_is_ten_packets_at_first_and_four_at_least() -> None:
    bbr = BBR(PACKET, bytes)
    assert bbr.window == 10 * PACKET
    bbr.on_packet_size(9000)
    assert bbr.window == 90_000
    bbr.on_persistent_congestion()
    assert bbr.window == 36_000
    path = Path()
    path.rate = PACKET  # a tenth of a packet each round trip
    for _ in range(30):
        path.round()
    assert path.bbr.window >= 4 * PACKET


# --- the arithmetic of losses ---


@pytest.mark.parametrize(
    ("in_flight", "lost", "much"),
    [
        (400, 8, False),
        (400, 10, False),
        (400, 11, True),
        (10, 0, False),
        (10, 1, True),
        (0, 1, True),
    ],
)
def test_share_of_losses_has_to_exceed_two_per_cent_and_its_own_noise(
    in_flight: int, lost: int, much: bool
) -> None:
    burst = Burst(0, 0, 0, 0, False, 5 * PACKET, in_flight * PACKET)
    assert above_threshold((5 + lost) * PACKET, burst, PACKET) is much


def test_level_of_too_much_lies_where_the_share_was_passed() -> None:
    # 20 of 1000 were lost, all in the last 32, which left together: 980 x 2 % / 98 % of them fit.
    burst = Burst(0, 0, 0, 0, False, 0, 1000 * PACKET)
    level = in_flight_at_loss(20 * PACKET, burst, 20 * PACKET)
    assert level == 980 * PACKET + 980 * PACKET // 50 * 100 // 98
    # Lost before already: what came before these was too much by itself.
    assert in_flight_at_loss(60 * PACKET, burst, 20 * PACKET) == 980 * PACKET


def test_bound_of_a_lossy_round_is_what_arrived_and_seven_tenths_at_least() -> None:
    for delivered, expected in ((90, 90), (30, 70)):
        bounds = Bounds()
        burst = Burst(0, 0, 0, 0, False)
        acked = Acked(SECOND, 1, 1, burst, RTT, RTT, RTT, delivered, delivered, True)
        bounds.begin_ack(acked)
        bounds.lower(100, 100)
        assert (bounds.bw_shortterm, bounds.inflight_shortterm) == (expected, expected)
