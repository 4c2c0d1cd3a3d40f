"""The pace in virtual time: bursts, and the rate in the long run (specification 8.2)."""

from __future__ import annotations

import pytest

from rawproto.transport.pacing import MAX_BURST, MIN_BURST, Pacer

SECOND = 1_000_000_000
PACKET = 1200


def sent_in(pacer: Pacer, start_ns: int, seconds: float) -> tuple[int, int]:
    """Sends all that it may whenever it may: (bytes sent, the largest burst)."""
    now_ns, end_ns, sent, largest = start_ns, start_ns + int(seconds * SECOND), 0, 0
    while now_ns < end_ns:
        burst = pacer.allowance(now_ns) // PACKET * PACKET
        assert burst >= 0
        pacer.on_sent(burst)
        sent, largest = sent + burst, max(largest, burst)
        following = pacer.next_ns()
        assert following > now_ns or burst, "what is told to wait has a time to wait for"
        now_ns = max(following, now_ns)
    return sent, largest


def test_without_a_rate_a_whole_burst_leaves_at_once() -> None:
    pacer = Pacer(PACKET)
    assert pacer.allowance(0) == MAX_BURST * PACKET
    assert pacer.next_ns() == 0


@pytest.mark.parametrize("rate", [100, 10_000, 1_000_000, 50_000_000, 1_000_000_000])
def test_rate_is_kept_in_the_long_run_and_bursts_are_small(rate: int) -> None:
    pacer = Pacer(PACKET)
    pacer.set_rate(rate, PACKET)
    pacer.allowance(SECOND)
    pacer.on_sent(pacer.allowance(SECOND))
    seconds = max(0.2, 20 * PACKET / rate)
    sent, largest = sent_in(pacer, SECOND, seconds)
    expected = rate * seconds
    limit = min(max(rate // 1000, MIN_BURST * PACKET), MAX_BURST * PACKET)
    assert largest <= limit
    assert expected - 2 * limit <= sent <= expected + limit


@pytest.mark.parametrize(
    ("rate", "packets"), [(1_000, 2), (4_800_000, 4), (19_200_000, 16), (10**9, 32)]
)
def test_burst_is_what_a_millisecond_of_the_rate_holds(rate: int, packets: int) -> None:
    pacer = Pacer(PACKET)
    pacer.set_rate(rate, PACKET)
    assert pacer.burst == packets


def test_rest_saves_up_one_burst_and_no_more() -> None:
    pacer = Pacer(PACKET)
    pacer.set_rate(4_800_000, PACKET)
    pacer.on_sent(pacer.allowance(SECOND))
    assert pacer.allowance(SECOND) == 0
    assert pacer.allowance(100 * SECOND) == 4 * PACKET


def test_credit_gained_in_steps_that_are_less_than_a_byte_is_not_lost() -> None:
    pacer = Pacer(PACKET)
    pacer.set_rate(1_000_000, PACKET)
    pacer.on_sent(pacer.allowance(SECOND))
    for step in range(1, 3001):
        pacer.allowance(SECOND + 500 * step)  # half a byte each
    assert pacer.allowance(SECOND + 500 * 3000) >= PACKET


def test_who_is_woken_late_finds_what_it_missed_up_to_64_packets() -> None:
    pacer = Pacer(PACKET)
    pacer.set_rate(4_800_000, PACKET)
    pacer.on_sent(pacer.allowance(SECOND))
    for late_ms, packets in ((0, 4), (5, 4 + 5 * 4), (100, 4 + 64)):
        now_ns = pacer.next_ns() + late_ms * SECOND // 1000
        assert pacer.allowance(now_ns) // PACKET == packets
        pacer.on_sent(pacer.allowance(now_ns))


@pytest.mark.parametrize("late_us", [100, 1000, 5000])
def test_rate_is_kept_although_all_timers_are_late(late_us: int) -> None:
    pacer = Pacer(PACKET)
    pacer.set_rate(12_000_000, PACKET)
    now_ns, sent = SECOND, 0
    while now_ns < 2 * SECOND:
        burst = pacer.allowance(now_ns) // PACKET * PACKET
        pacer.on_sent(burst)
        sent += burst
        now_ns = pacer.next_ns() + late_us * 1000
    assert sent == pytest.approx(12_000_000, rel=0.01)
