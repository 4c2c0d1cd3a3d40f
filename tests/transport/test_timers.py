"""Time-outs of many: who is woken when, and how much is kept of what was put off."""

from __future__ import annotations

from rawproto.transport.timers import Timers


def test_each_is_woken_once_in_the_order_of_time() -> None:
    timers = Timers()
    for who, due_ns in ((1, 30), (2, 10), (3, 20)):
        timers.arm(who, due_ns)
    assert timers.next_ns() == 10
    assert timers.take(9) == []
    assert timers.take(20) == [2, 3]
    assert timers.take(20) == []
    assert timers.next_ns() == 30


def test_an_earlier_time_counts_and_a_later_one_is_let_come() -> None:
    timers = Timers()
    timers.arm(1, 50)
    timers.arm(1, 40)
    for later in range(60, 1000):
        timers.arm(1, later)
    assert timers.due_ns == {1: 40}
    assert len(timers._heap) == 2, "what is put off takes no room"
    assert timers.take(1000) == [1]
    assert timers.next_ns() is None


def test_who_is_woken_early_time_and_again_takes_no_more_room() -> None:
    timers = Timers()
    for now in range(10_000):  # as one who soon has to acknowledge, and then rests
        timers.arm(1, now + 20_000)
        timers.arm(1, now + 1)
        timers.arm(2, now + 30_000)
        assert timers.take(now + 1) == [1]
    assert len(timers._heap) < 100
    timers.arm(1, 30_000)
    assert timers.next_ns() == 30_000
    assert sorted(timers.take(30_000)) == [1, 2]


def test_who_is_forgotten_is_not_woken() -> None:
    timers = Timers()
    timers.arm(1, 10)
    timers.arm(2, 20)
    timers.forget(1)
    assert timers.next_ns() == 20
    assert timers.take(99) == [2]
