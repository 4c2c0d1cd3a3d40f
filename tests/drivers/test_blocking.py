"""The blocking driver alone: how it sleeps, how it is woken, what it leaves as it was."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawproto.drivers.blocking import EARLY_NS, NEAR_NS, BlockingDriver
from tests.drivers.scripted import ScriptedLink, ScriptedMachine, VirtualTime, descriptors

MS = 1_000_000


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    time = VirtualTime()
    time.install(monkeypatch)
    return time


def waits_until(due_in_ns: int, time: VirtualTime) -> list[float | None]:
    """How the driver sleeps until a deadline."""
    machine = ScriptedMachine()
    machine.due_ns = time() + due_in_ns
    machine.on_timeout = lambda: setattr(machine, "finished", True)
    with BlockingDriver(machine, ScriptedLink(), lambda event: None, time) as driver:
        driver.run()
    assert machine.calls[0][1] >= 1000 + due_in_ns, "never early"
    return time.waits


def test_a_far_deadline_is_slept_for_at_once(time: VirtualTime) -> None:
    assert waits_until(10 * MS, time) == [0.010]


def test_before_a_near_deadline_it_wakes_early_and_looks_again(time: VirtualTime) -> None:
    waits = waits_until(NEAR_NS // 2, time)
    assert waits[0] == pytest.approx((NEAR_NS / 2 - EARLY_NS) / 1e9)
    assert set(waits[1:]) == {0.0}
    assert len(waits) > 10, "it looked again and again"


def test_a_deadline_that_has_passed_is_not_slept_for(time: VirtualTime) -> None:
    assert waits_until(0, time) == []


def test_wake_makes_a_sleeping_driver_take_a_turn() -> None:
    machine, woken = ScriptedMachine(), []

    def on_wake() -> None:
        woken.append(threading.current_thread())
        machine.finished = True

    driver = BlockingDriver(machine, ScriptedLink(), lambda event: None, on_wake=on_wake)
    with driver:
        waker = threading.Thread(target=driver.wake)
        waker.start()
        driver.run()  # without a deadline: nothing else could end it
        waker.join()
    assert woken == [threading.current_thread()], "carried out by the thread that runs"


def test_a_signal_handler_may_wake_it_in_the_middle_of_a_turn() -> None:
    machine = ScriptedMachine()
    machine.events = ["the turn in which the signal comes"]
    order: list[str] = []

    def on_event(event: object) -> None:
        signal.raise_signal(signal.SIGUSR1)
        order.append("the event is told to its end")

    def on_wake() -> None:
        order.append("the wish is granted")
        machine.finished = True

    with BlockingDriver(machine, ScriptedLink(), on_event, on_wake=on_wake) as driver:
        before = signal.signal(signal.SIGUSR1, lambda number, frame: driver.wake())
        try:
            driver.run()
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert order == ["the event is told to its end", "the wish is granted"]


def test_it_may_be_woken_more_often_than_its_pipe_holds() -> None:
    machine = ScriptedMachine()

    def on_wake() -> None:
        machine.finished = True

    with BlockingDriver(machine, ScriptedLink(), print, on_wake=on_wake) as driver:
        for _ in range(100_000):
            driver.wake()
        driver.run()


def test_close_gives_its_descriptors_back_and_may_be_called_twice() -> None:
    before = descriptors()
    driver = BlockingDriver(ScriptedMachine(), ScriptedLink(), print)
    assert len(descriptors()) == len(before) + 2
    driver.close()
    driver.close()
    assert descriptors() == before


@pytest.fixture
def high_descriptor() -> Iterator[tuple[int, int]]:
    """A pipe whose reading end has a number beyond what select can count."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip("this process may not open so many descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    reader, writer = os.pipe()
    high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 1500)
    try:
        yield high, writer
    finally:
        for descriptor in (reader, writer, high):
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_link_whose_descriptor_select_cannot_count_wakes_it_too(
    high_descriptor: tuple[int, int],
) -> None:
    machine, link = ScriptedMachine(), ScriptedLink()
    link.descriptor, writer = high_descriptor
    turns = 0

    def receive() -> list[object]:
        nonlocal turns
        turns += 1
        machine.finished = turns == 2
        return []

    link.receive = receive  # type: ignore[method-assign]
    os.write(writer, b"!")
    with BlockingDriver(machine, link, print) as driver:
        driver.run()
    assert turns == 2


def slack_of(thread: int) -> int:
    return int(Path(f"/proc/{thread}/timerslack_ns").read_text())


@pytest.mark.skipif(
    not Path("/proc/self/timerslack_ns").exists(), reason="this kernel has no timer slack to set"
)
def test_timers_are_exact_in_the_thread_where_it_runs_and_afterwards_as_they_were() -> None:
    main, seen = threading.get_native_id(), []
    before = slack_of(main)

    def note(event: object) -> None:
        mine = threading.get_native_id()
        seen.append((mine == main, slack_of(mine), slack_of(main)))

    def run() -> None:
        machine = ScriptedMachine()
        machine.events = ["now"]
        machine.finished = True
        with BlockingDriver(machine, ScriptedLink(), note) as driver:
            driver.run()
        seen.append(slack_of(threading.get_native_id()))

    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert before > 1
    assert seen == [(True, 1, 1), before, (False, 1, before), before]
