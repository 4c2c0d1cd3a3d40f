"""The figures of the benches: quantiles, turns, tables and verdicts."""

from __future__ import annotations

import pytest

from tests.bench.report import (
    at_least,
    at_most,
    conclude,
    interleave,
    measure_cpu_ns,
    median_ratio,
    options,
    quantile,
    table,
    too_late,
)


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(500, 0.99, 495), (100, 0.99, 99), (100, 0.07, 7), (3, 0.99, 3), (3, 0.0, 1), (4, 0.5, 2)],
)
def test_quantile_is_the_smallest_value_not_below_its_share(
    count: int, share: float, expected: int
) -> None:
    assert quantile(range(count, 0, -1), share) == expected


def test_quantile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_peers_take_turns_and_none_is_always_first() -> None:
    called: list[str] = []

    def peer(name: str) -> float:
        called.append(name)
        return len(called)

    results = interleave({name: lambda name=name: peer(name) for name in "ab"}, 3)
    assert "".join(called) == "abbaab"
    assert results == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_slow_round_cancels_out_of_a_ratio() -> None:
    assert median_ratio([3, 300, 3.1], [1, 100, 1]) == 3


def test_cpu_time_counts_every_call() -> None:
    calls: list[int] = []
    assert measure_cpu_ns(lambda: calls.append(1), 7) >= 0
    assert len(calls) == 7


def test_table_sets_names_to_the_left_and_figures_to_the_right() -> None:
    assert table(["name", "us"], [["a", "10.0"], ["longer", "9"]]).splitlines() == [
        "name      us",
        "------  ----",
        "a       10.0",
        "longer     9",
    ]


def test_bound_itself_is_kept() -> None:
    assert at_most("x", 0.6, 0.6).passed
    assert not at_most("x", 0.61, 0.6).passed
    assert at_least("x", 99, 99).passed
    assert not at_least("x", 98.9, 99).passed


def test_failed_criterion_is_an_error_only_when_strict(capsys: pytest.CaptureFixture[str]) -> None:
    kept, broken = at_most("kept", 1, 2), at_most("broken", 3, 2)
    assert conclude([kept, broken], strict=False) == 0
    assert conclude([kept, broken], strict=True) == 1
    assert conclude([kept], strict=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("kept")).endswith("PASS")
    assert next(line for line in lines if line.startswith("broken")).endswith("FAIL")


@pytest.mark.parametrize(("value", "quick"), [("1", True), ("", False)])
def test_quick_comes_from_the_environment_too(
    monkeypatch: pytest.MonkeyPatch, value: str, quick: bool
) -> None:
    monkeypatch.setenv("QUICK", value)
    assert options("a bench").parse_args([]).quick is quick
    assert options("a bench").parse_args(["--quick"]).quick


def test_links_that_were_late_by_more_than_a_millisecond_are_worth_no_figure() -> None:
    assert not too_late(1.0)
    assert too_late(1.000001)
