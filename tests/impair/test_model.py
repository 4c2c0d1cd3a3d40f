"""The link model: exact where it computes, within the law of chance where it draws."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import asdict, replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.errors import UsageError
from rawproto.impair import GilbertElliott, Impairment, LinkModel

MS = 1_000_000


def link(seed: int = 7, **fields: object) -> LinkModel:
    return LinkModel(Impairment(**fields), random.Random(seed))


def survivors(model: LinkModel, count: int, step_ns: int = 1000) -> list[int]:
    """Which of `count` packets arrive, by their number."""
    return [
        number
        for number in range(count)
        if model.offer(number.to_bytes(4, "big"), number * step_ns)
    ]


def test_the_default_link_is_perfect() -> None:
    model = link()
    assert model.offer(b"packet", 123) == [(123, b"packet")]
    assert model.statistics.delivered == 1


def test_delay_is_exact() -> None:
    model = link(delay_ns=25 * MS + 1)
    assert model.offer(b"a", 10) == [(25 * MS + 11, b"a")]


def test_a_packet_takes_its_time_at_the_rate() -> None:
    # 1500 bytes at 200 Mbit/s are 60 microseconds.
    model = link(rate_bps=200_000_000, delay_ns=5 * MS)
    arrivals = [model.offer(bytes(1500), 0)[0][0] for _ in range(4)]
    assert arrivals == [5 * MS + 60_000 * n for n in (1, 2, 3, 4)]


def test_an_idle_link_starts_afresh() -> None:
    model = link(rate_bps=8_000_000)
    assert model.offer(bytes(1000), 0) == [(1 * MS, bytes(1000))]
    assert model.offer(bytes(1000), 1 * MS) == [(2 * MS, bytes(1000))]
    assert model.offer(bytes(1000), 50 * MS) == [(51 * MS, bytes(1000))]


@given(
    rate=st.integers(1, 40_000_000_000),
    offers=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 10**7)), max_size=40),
)
def test_sending_never_drifts_from_the_exact_rate(rate: int, offers: list[tuple[int, int]]) -> None:
    """Against an independent model in exact fractions."""
    model = link(rate_bps=rate, queue_packets=10**6)
    now, free = 0, Fraction(0)
    for size, gap in offers:
        now += gap
        free = max(free, Fraction(now)) + Fraction(size * 8 * 10**9, rate)
        assert [at for at, _ in model.offer(bytes(size), now)] == [math.ceil(free)]


def test_the_queue_drops_at_its_tail_and_only_there() -> None:
    # 1 ms a packet; one is being sent and three may wait.
    model = link(rate_bps=8_000_000, queue_packets=3)
    fates = [bool(model.offer(bytes(1000), 0)) for _ in range(6)]
    assert fates == [True, True, True, True, False, False]
    assert model.queued(0) == (3, 3000)
    assert not model.offer(bytes(1000), 1 * MS - 1), "the first is still being sent"
    assert model.offer(bytes(1000), 1 * MS) == [(5 * MS, bytes(1000))], "now one place is free"
    assert not model.offer(bytes(1000), 1 * MS)
    assert model.statistics.queue_full == 4
    assert model.queued(4 * MS) == (0, 0)


def test_the_queue_counts_bytes_where_asked_to() -> None:
    model = link(rate_bps=8_000_000, queue_bytes=1500)
    assert model.offer(bytes(1000), 0), "sent at once, it does not wait"
    assert model.offer(bytes(1000), 0)
    assert not model.offer(bytes(501), 0)
    assert model.offer(bytes(500), 0)
    assert model.queued(0) == (2, 1500)


def test_a_link_without_a_queue_drops_whatever_meets_a_busy_sender() -> None:
    model = link(rate_bps=8_000_000, queue_packets=0)
    assert model.offer(bytes(1000), 0)
    assert not model.offer(bytes(1000), 1 * MS - 1)
    assert model.offer(bytes(1000), 1 * MS)


@given(
    rate=st.integers(1000, 10**9),
    limit=st.integers(0, 5),
    limit_bytes=st.none() | st.integers(0, 3000),
    offers=st.lists(st.tuples(st.integers(1, 1500), st.integers(0, 10**6)), max_size=60),
)
def test_drop_tail_agrees_with_a_queue_kept_in_full(
    rate: int, limit: int, limit_bytes: int | None, offers: list[tuple[int, int]]
) -> None:
    model = link(rate_bps=rate, queue_packets=limit, queue_bytes=limit_bytes)
    now, free = 0, Fraction(0)
    accepted: list[tuple[Fraction, int]] = []  # (when its sending starts, size)
    for size, gap in offers:
        now += gap
        waiting = [length for start, length in accepted if start > now]
        full = len(waiting) >= limit or (
            limit_bytes is not None and sum(waiting) + size > limit_bytes
        )
        dropped = free > now and full
        assert (model.offer(bytes(size), now) == []) is dropped
        if not dropped:
            start = max(free, Fraction(now))
            accepted.append((start, size))
            free = start + Fraction(size * 8 * 10**9, rate)


def test_longer_than_the_mtu_is_dropped_and_counted() -> None:
    model = link(mtu=1500)
    assert model.offer(bytes(1500), 0)
    assert not model.offer(bytes(1501), 0)
    assert model.statistics.too_big == 1


def test_loss_is_binomial() -> None:
    count, chance = 20_000, 0.1
    model = link(loss=chance)
    lost = count - len(survivors(model, count))
    assert model.statistics.lost == lost
    assert abs(lost - count * chance) < 4 * math.sqrt(count * chance * (1 - chance))


def test_chances_of_none_and_all_are_certain() -> None:
    assert len(survivors(link(loss=0.0), 100)) == 100
    assert survivors(link(loss=1.0), 100) == []


def test_losses_come_in_bursts_of_the_mean_length() -> None:
    count = 100_000
    model = link(burst_loss=GilbertElliott.of_mean(loss=0.1, burst=5))
    arrived = set(survivors(model, count))
    runs = [
        sum(1 for _ in run)
        for lost, run in itertools.groupby(n not in arrived for n in range(count))
        if lost
    ]
    # A burst is geometric with chance 1/5: mean 5, deviation sqrt(20).
    assert abs(sum(runs) / len(runs) - 5) < 4 * math.sqrt(20 / len(runs))
    assert model.statistics.lost_in_burst == count - len(arrived)
    assert abs(sum(runs) / count - 0.1) < 0.01


def test_elliotts_chain_loses_in_both_states() -> None:
    chain = GilbertElliott(good_to_bad=0.1, bad_to_good=0.3, loss_good=0.02, loss_bad=0.6)
    count = 50_000
    lost = count - len(survivors(link(burst_loss=chain), count))
    assert lost / count == pytest.approx(0.75 * 0.02 + 0.25 * 0.6, rel=0.05)


def test_the_same_seed_loses_the_same_packets_whatever_the_timing() -> None:
    fields = {"loss": 0.05, "burst_loss": GilbertElliott.of_mean(loss=0.05, burst=3)}
    one = survivors(link(**fields), 5000, step_ns=1)
    other = survivors(link(**fields), 5000, step_ns=1_000_003)
    assert one == other
    assert one != survivors(link(seed=8, **fields), 5000)


def test_another_effect_changes_no_loss() -> None:
    plain = link(loss=0.1)
    rich = link(
        loss=0.1, delay_ns=MS, jitter_ns=MS, duplicate=0.5, reorder=0.3, corrupt=0.5, rate_bps=10**9
    )
    assert survivors(plain, 3000) == survivors(rich, 3000)


def test_a_full_queue_changes_no_later_loss() -> None:
    free = set(survivors(link(loss=0.2), 2000, step_ns=0))
    tight = set(survivors(link(loss=0.2, rate_bps=32_000, queue_packets=50), 2000, step_ns=MS))
    late = link(loss=0.2, rate_bps=32_000, queue_packets=50)
    assert late.statistics.queue_full == 0
    assert tight == free, "1 ms a packet: the queue never fills"
    for number in range(1000):
        late.offer(number.to_bytes(4, "big"), 0)
    assert late.statistics.queue_full == 949
    after = [n for n in range(1000, 2000) if late.offer(bytes(4), (n + 10_000) * MS)]
    assert after == [n for n in range(1000, 2000) if n in free]


def test_jitter_stays_within_its_bounds_and_reaches_them() -> None:
    model = link(delay_ns=100, jitter_ns=3, keep_order=False)
    delays = {model.offer(b"", now)[0][0] - now for now in range(2000)}
    assert delays == set(range(97, 104))


def test_jitter_keeps_the_order_unless_told_otherwise() -> None:
    fields = {"delay_ns": 10 * MS, "jitter_ns": 10 * MS}
    arrivals = [link_at[0][0] for link_at in map(link(**fields).offer, [b""] * 500, range(500))]
    assert arrivals == sorted(arrivals)
    free = link(keep_order=False, **fields)
    arrivals = [free.offer(b"", now)[0][0] for now in range(500)]
    assert arrivals != sorted(arrivals)


def test_a_reordered_packet_is_overtaken_and_holds_nobody_up() -> None:
    model = link(reorder=0.1, reorder_delay_ns=5 * MS, delay_ns=MS)
    arrivals = [model.offer(b"", number * MS)[0][0] - number * MS for number in range(1000)]
    held = arrivals.count(6 * MS)
    assert arrivals.count(MS) == 1000 - held
    assert held == model.statistics.reordered
    assert 60 < held < 140


def test_a_duplicate_arrives_beside_its_original() -> None:
    model = link(duplicate=1.0, delay_ns=5)
    assert model.offer(b"twice", 0) == [(5, b"twice"), (5, b"twice")]
    assert (model.statistics.delivered, model.statistics.duplicated) == (2, 1)
    assert model.statistics.delivered_bytes == 10


def test_corruption_flips_one_bit_and_every_bit_may_be_it() -> None:
    model = link(corrupt=1.0, corrupt_from=2)
    flipped = set()
    for _ in range(400):
        [(_, data)] = model.offer(bytes(5), 0)
        assert data.count(0) == 4
        flipped.add(int.from_bytes(data, "big"))
    assert flipped == {1 << bit for bit in range(24)}
    assert model.offer(b"ab", 0) == [(0, b"ab")], "nothing there that may be touched"
    assert model.statistics.corrupted == 400


def test_every_packet_is_accounted_for() -> None:
    model = link(
        rate_bps=10_000_000,
        queue_packets=20,
        delay_ns=MS,
        jitter_ns=MS,
        loss=0.1,
        burst_loss=GilbertElliott.of_mean(loss=0.1, burst=2),
        duplicate=0.1,
        reorder=0.1,
        corrupt=0.1,
        mtu=1400,
    )
    rng = random.Random(3)
    arrived = 0
    for number in range(3000):
        arrived += len(model.offer(rng.randbytes(rng.randrange(1500)), number * 400_000))
    counts = asdict(model.statistics)
    assert all(value for name, value in counts.items() if name != "overflowed")
    assert counts["delivered"] == arrived
    dropped = sum(counts[name] for name in ("too_big", "queue_full", "lost", "lost_in_burst"))
    assert counts["offered"] + counts["duplicated"] == arrived + dropped


def test_polling_hands_out_what_offering_announces_in_the_order_of_arrival() -> None:
    fields = {"delay_ns": 5 * MS, "jitter_ns": 4 * MS, "keep_order": False, "duplicate": 0.2}
    offered, kept = link(**fields), link(**fields)
    announced = []
    for number in range(300):
        data = number.to_bytes(2, "big")
        announced += offered.offer(data, number * 10_000)
        kept.enqueue(data, number * 10_000)
    announced.sort(key=lambda arrival: arrival[0])
    assert kept.pending == len(announced)
    assert kept.poll_timeout() == announced[0][0]
    assert kept.poll(announced[0][0] - 1) == []
    handed_out = []
    for now in range(0, 20 * MS, 100_000):
        handed_out += kept.poll(now)
    assert handed_out == announced
    assert kept.poll_timeout() is None


def test_polling_stops_at_its_limit() -> None:
    model = link()
    for number in range(5):
        model.enqueue(bytes((number,)), 0)
    assert model.poll(0, limit=2) == [(0, b"\0"), (0, b"\1")]
    assert model.pending == 3


def test_what_is_kept_is_bounded_and_the_rest_counted() -> None:
    model = LinkModel(Impairment(delay_ns=10), random.Random(1), max_pending=3)
    for _ in range(5):
        model.enqueue(b"x", 0)
    assert model.pending == 3
    assert (model.statistics.overflowed, model.statistics.delivered) == (2, 3)


def test_a_batch_is_its_packets_one_by_one() -> None:
    fields = {"loss": 0.3, "duplicate": 0.3, "rate_bps": 10**7, "queue_packets": 8}
    packets = [bytes(n) for n in range(40)]
    one_by_one = link(**fields)
    assert link(**fields).offer_batch(packets, 5) == [
        arrival for data in packets for arrival in one_by_one.offer(data, 5)
    ]


def test_a_change_holds_from_the_next_packet_on() -> None:
    model = link(rate_bps=3)
    [(first_ns, _)] = model.offer(b"a", 0)
    assert first_ns == math.ceil(Fraction(8 * 10**9, 3))
    model.configure(replace(model.impairment, rate_bps=8, delay_ns=1))
    assert model.offer(b"b", 0) == [(first_ns + 10**9 + 1, b"b")]
    with pytest.raises(UsageError, match="loss"):
        model.configure(Impairment(loss=2))
    assert model.impairment.rate_bps == 8
