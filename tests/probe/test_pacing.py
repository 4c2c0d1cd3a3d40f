"""Beats, floods and pauses, in virtual time."""

from __future__ import annotations

from rawproto.probe.pacing import CATCH_UP, Pace


def test_lateness_never_adds_up() -> None:
    pace = Pace(1000, 100)
    pace.on_sent(1000)
    dues = []
    for _ in range(4):
        dues.append(pace.next_ns)
        pace.on_sent(pace.next_ns + 37)
    assert dues == [1100, 1200, 1300, 1400]


def test_beat_begins_when_the_first_probe_really_leaves() -> None:
    pace = Pace(1000, 100)
    pace.on_sent(1060)
    assert pace.next_ns == 1160


def test_preload_goes_out_at_once_and_then_the_beat_begins() -> None:
    pace = Pace(0, 100, preload=3)
    dues = []
    for _ in range(5):
        dues.append(pace.next_ns)
        pace.on_sent(pace.next_ns)
    assert dues == [0, 0, 0, 100, 200]


def test_long_pause_is_not_followed_by_a_burst_of_all_that_was_missed() -> None:
    pace = Pace(0, 100)
    pace.on_sent(0)
    now, burst = 100_050, 0
    while pace.next_ns <= now:
        burst += 1
        pace.on_sent(now)
    assert burst == CATCH_UP
    assert pace.next_ns == 100_100, "the beat keeps its phase"


def test_answer_calls_for_the_next_probe_and_silence_for_one_after_the_interval() -> None:
    pace = Pace(0, 1000, answer_driven=True)
    pace.on_sent(0)
    assert pace.next_ns == 1000
    pace.on_answer(40)
    assert pace.next_ns == 40
    pace.on_sent(41)
    assert pace.next_ns == 1041


def test_floor_holds_back_an_answer_that_is_too_quick() -> None:
    pace = Pace(0, 1000, answer_driven=True, floor_ns=200)
    pace.on_sent(0)
    pace.on_answer(40)
    assert pace.next_ns == 200


def test_retried_probe_leaves_the_beat_as_it_was() -> None:
    pace = Pace(0, 100)
    pace.on_sent(0)
    pace.retry(30)
    assert pace.next_ns == 30
    pace.on_sent(31)
    assert pace.next_ns == 100
