"""Budgets: a second's worth at once, and then as time passes."""

from __future__ import annotations

import pytest

from rawproto.transport.budget import Budget

SECOND = 1_000_000_000


@pytest.mark.parametrize("rate", [1, 3, 1000, 50_000])
def test_second_s_worth_is_spent_at_once_and_comes_back_with_time(rate: int) -> None:
    budget = Budget(rate)
    now_ns = 7 * SECOND
    assert sum(budget.take(now_ns) for _ in range(rate + 10)) == rate
    half = sum(budget.take(now_ns + SECOND // 2) for _ in range(rate))
    assert half == rate // 2
    assert sum(budget.take(now_ns + 90 * SECOND) for _ in range(rate + 10)) == rate


def test_steady_use_up_to_the_rate_is_never_refused_and_above_it_is_cut_to_it() -> None:
    steady, greedy = Budget(1000), Budget(1000)
    assert all(steady.take(number * SECOND // 1000) for number in range(20_000))
    taken = sum(greedy.take(number * SECOND // 7000) for number in range(7000 * 10))
    assert taken == pytest.approx(1000 * 11, abs=2)
