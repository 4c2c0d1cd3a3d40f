"""Statistics against the standard library's, and their bounds."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.probe import stats
from rawproto.probe.stats import PingStatistics, RTTSamples


def filled(values: list[int]) -> RTTSamples:
    samples = RTTSamples(random.Random(1))
    for value in values:
        samples.add(value)
    return samples


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=200))
def test_moments_equal_the_standard_librarys(values: list[int]) -> None:
    samples = filled(values)
    assert (samples.min_ns, samples.max_ns) == (min(values), max(values))
    assert samples.mean_ns == pytest.approx(statistics.fmean(values))
    assert samples.mdev_ns == pytest.approx(statistics.pstdev(values), abs=1e-3)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=200), st.integers(1, 100))
def test_percentile_is_the_nearest_rank(values: list[int], percent: int) -> None:
    (found,) = filled(values).percentiles_ns([percent])
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    below = [value for value in values if value < found]
    assert len(below) * 100 < percent * len(values)


def test_tiny_deviation_on_a_long_round_trip_is_not_lost() -> None:
    assert filled([10**11, 10**11 + 2]).mdev_ns == pytest.approx(1.0)


def test_jitter_follows_rfc_3550() -> None:
    # |D| = 16 each time: J moves by a sixteenth of what is missing.
    samples = filled([100, 116, 100])
    assert samples.jitter_ns == pytest.approx(1 + (16 - 1) / 16)
    assert filled([5, 5, 5]).jitter_ns == 0


def test_memory_is_bounded_and_percentiles_stay_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESERVOIR", 1000)
    samples = filled([value % 10_000 for value in range(100_000)])
    assert len(samples._samples) == 1000
    median, high = samples.percentiles_ns([50, 99])
    assert median == pytest.approx(5000, abs=500)
    assert high == pytest.approx(9900, abs=100)
    assert samples.count == 100_000


def test_nothing_received_is_all_zeros() -> None:
    samples = filled([])
    assert samples.percentiles_ns([50, 99]) == [0, 0]
    assert (samples.mean_ns, samples.mdev_ns, samples.jitter_ns) == (0, 0, 0)


def test_loss_counts_what_was_never_answered() -> None:
    counts = PingStatistics(rtt=filled([]), sent=8, received=6, late=1)
    assert counts.loss_pct == 25.0
    assert PingStatistics(rtt=filled([])).loss_pct == 0.0


def test_wait_in_this_host_is_averaged_over_what_was_stamped() -> None:
    counts = PingStatistics(rtt=filled([]), stamped=4, queued_total_ns=10)
    assert counts.queued_mean_ns == 2.5
    assert PingStatistics(rtt=filled([])).queued_mean_ns == 0
