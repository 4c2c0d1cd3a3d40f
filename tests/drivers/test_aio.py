"""The asyncio driver alone: what wakes it, and what cancelling leaves."""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from contextlib import closing

import pytest

from rawproto.drivers.aio import open_async, run_async
from rawproto.drivers.timer import Timer
from rawproto.errors import UsageError
from tests.drivers.scripted import ScriptedLink, ScriptedMachine, descriptors

PATIENCE_S = 5


class PipeLink(ScriptedLink):
    """A link with a descriptor; what is written to `writer` has arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.descriptor, self.writer = os.pipe2(os.O_NONBLOCK)
        self.turns = 0

    def receive(self, limit: int = 64) -> list[object]:
        self.turns += 1
        if select.select([self.descriptor], [], [], 0)[0]:
            os.read(self.descriptor, 100)
        return []

    def close(self) -> None:
        os.close(self.descriptor)
        os.close(self.writer)


def test_an_arrival_is_a_turn_without_any_deadline() -> None:
    machine = ScriptedMachine()

    async def scenario() -> None:
        with PipeLink() as link:
            running = asyncio.create_task(run_async(machine, link, print))
            while not link.turns:
                await asyncio.sleep(0)
            machine.finished = True
            os.write(link.writer, b"!")
            await asyncio.wait_for(running, PATIENCE_S)
            assert link.turns == 2

    asyncio.run(scenario())


def test_a_deadline_is_a_turn_without_any_arrival() -> None:
    machine = ScriptedMachine()
    due_ns = machine.due_ns = time.monotonic_ns() + 300_000
    machine.on_timeout = lambda: setattr(machine, "finished", True)
    asyncio.run(run_async(machine, ScriptedLink(), print))
    ((_, called_ns),) = machine.calls
    assert called_ns >= due_ns


def test_cancelling_leaves_neither_reader_nor_descriptor() -> None:
    machine = ScriptedMachine()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with PipeLink() as link:
            before = descriptors()
            running = asyncio.create_task(run_async(machine, link, print))
            while not link.turns:
                await asyncio.sleep(0)
            assert len(descriptors()) == len(before) + 1
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert descriptors() == before
            assert not loop.remove_reader(link.fileno())
            os.write(link.writer, b"!")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert link.turns == 1, "nobody listens any more"

    asyncio.run(scenario())


def test_several_machines_run_side_by_side_in_one_loop() -> None:
    machines = [ScriptedMachine() for _ in range(3)]
    ended: list[int] = []
    start_ns = time.monotonic_ns()

    async def run(index: int, machine: ScriptedMachine) -> None:
        machine.due_ns = start_ns + (3 - index) * 2_000_000
        machine.on_timeout = lambda: setattr(machine, "finished", True)
        await run_async(machine, ScriptedLink(), print)
        ended.append(index)

    async def scenario() -> None:
        await asyncio.gather(*(run(index, machine) for index, machine in enumerate(machines)))

    asyncio.run(scenario())
    assert sorted(ended) == [0, 1, 2]


def readable(timer: Timer, timeout_s: float = 0) -> bool:
    return bool(select.select([timer.fileno()], [], [], timeout_s)[0])


def test_timer_becomes_readable_when_its_time_has_come() -> None:
    with closing(Timer()) as timer:
        assert not readable(timer)
        due_ns = time.monotonic_ns() + 100_000
        timer.arm(due_ns)
        assert readable(timer, PATIENCE_S)
        assert time.monotonic_ns() >= due_ns
        timer.clear()
        assert not readable(timer)
        timer.clear()  # nothing to take note of: no harm


def test_timer_comes_at_once_for_the_past_and_never_for_none() -> None:
    with closing(Timer()) as timer:
        for past_ns in (0, -5, time.monotonic_ns() - 1):
            timer.arm(past_ns)
            assert readable(timer, PATIENCE_S)
            timer.arm(None)
            assert not readable(timer)


def test_timer_gives_its_descriptor_back_once() -> None:
    before = descriptors()
    timer = Timer()
    timer.close()
    timer.close()
    assert timer.fileno() == -1
    assert descriptors() == before


class Opened:
    """Something opened that wants to be closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


def test_the_loop_runs_on_while_something_is_opened() -> None:
    may_go, opened = threading.Event(), Opened()

    def slowly() -> Opened:
        assert may_go.wait(PATIENCE_S)
        return opened

    async def scenario() -> None:
        opening = asyncio.create_task(open_async(slowly))
        await asyncio.sleep(0)
        assert not opening.done()
        may_go.set()  # only a loop that runs gets here
        assert await asyncio.wait_for(opening, PATIENCE_S) is opened

    asyncio.run(scenario())
    assert not opened.closed.is_set()


def test_what_opening_raises_is_raised() -> None:
    def fail() -> Opened:
        raise UsageError("no such host")

    with pytest.raises(UsageError, match="no such host"):
        asyncio.run(open_async(fail))


def test_nobody_waits_for_what_is_opened_too_late_and_it_is_closed() -> None:
    may_go, opened = threading.Event(), Opened()

    def slowly() -> Opened:
        assert may_go.wait(PATIENCE_S)
        return opened

    async def scenario() -> None:
        opening = asyncio.create_task(open_async(slowly))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    asyncio.run(scenario())  # and its loop is closed
    may_go.set()
    assert opened.closed.wait(PATIENCE_S)
