"""What goes from channel to channel, and what their ends do to each other."""

from __future__ import annotations

import asyncio

import pytest

from rawproto.apps.relay.join import Carried, join
from rawproto.apps.relay.processes import ProcessChannel
from tests.apps.relay.fakes import FakeChannel, settle


async def joined(
    near: FakeChannel, far: FakeChannel, linger_s: float = 1e6
) -> tuple[asyncio.Task[None], Carried]:
    carried = Carried()
    task = asyncio.create_task(join(near, far, carried, linger_s))
    await settle()
    return task, carried


def run(test: object) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))  # type: ignore[operator]


def test_pieces_keep_their_order_and_their_borders() -> None:
    async def scene() -> None:
        near, far = FakeChannel(), FakeChannel()
        task, carried = await joined(near, far)
        near.arrive(b"a", b"", b"bc")
        far.arrive(b"xyz")
        await settle()
        assert (far.sent, near.sent) == ([b"a", b"", b"bc"], [b"xyz"])
        assert (carried.up_bytes, carried.down_bytes) == (3, 3)
        task.cancel()

    run(scene)


def test_end_of_one_way_is_passed_on_and_the_other_way_goes_on() -> None:
    async def scene() -> None:
        near, far = FakeChannel(), FakeChannel()
        task, _ = await joined(near, far)
        near.arrive(None)
        await settle()
        assert far.ended
        assert not task.done()
        assert not near.ended
        far.arrive(b"late answer", None)
        await task
        assert near.sent == [b"late answer"]
        assert near.ended
        assert near.closed
        assert far.closed
        assert not (near.aborted)
        assert not (far.aborted)

    run(scene)


@pytest.mark.parametrize("side", ["near", "far"])
def test_what_breaks_one_breaks_both(side: str) -> None:
    async def scene() -> None:
        channels = {"near": FakeChannel(), "far": FakeChannel()}
        task, _ = await joined(channels["near"], channels["far"])
        channels[side].arrive(ConnectionResetError("broken"))
        with pytest.raises(ConnectionResetError, match="broken"):
            await task
        assert channels["near"].aborted
        assert channels["far"].aborted

    run(scene)


def test_slow_reader_holds_its_own_way_up_and_not_the_other() -> None:
    async def scene() -> None:
        near, far = FakeChannel(), FakeChannel()
        far.open.clear()
        task, _ = await joined(near, far)
        near.arrive(*[b"x"] * 100)
        far.arrive(b"y")
        await settle()
        assert (far.sent, near.sent) == ([], [b"y"])
        assert near._coming.qsize() == 99, "nothing is read ahead of what is sent"
        far.open.set()
        for _ in range(10):
            await settle()
        assert len(far.sent) == 100
        task.cancel()

    run(scene)


def test_where_the_end_cannot_be_passed_on_silence_ends_it() -> None:
    async def scene() -> None:
        near, far = FakeChannel(), FakeChannel(half_closes=False)
        task, _ = await joined(near, far, linger_s=0.01)
        near.arrive(None)
        await task
        assert near.closed
        assert far.closed
        assert not far.aborted

    run(scene)


def test_who_takes_no_more_and_has_said_all_ends_it() -> None:
    async def scene() -> None:
        near, far = FakeChannel(), FakeChannel()
        left = asyncio.Event()
        far.gone = left.wait  # type: ignore[assignment]
        task, _ = await joined(near, far)
        left.set()
        await settle()
        assert not task.done(), "what it said may still be on its way"
        far.arrive(b"last words", None)
        await task
        assert near.sent == [b"last words"]

    run(scene)


def test_cancelling_breaks_both_and_leaves_no_task() -> None:
    async def scene() -> None:
        before = asyncio.all_tasks()
        near, far = FakeChannel(), FakeChannel()
        task, _ = await joined(near, far)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert near.aborted
        assert far.aborted
        assert asyncio.all_tasks() == before

    run(scene)


def test_process_that_reads_no_more_says_all_that_it_has_to() -> None:
    """What it did not read broke its pipe, and with that the session, its answer and all."""

    async def scene() -> None:
        process = await ProcessChannel.start(
            ("sh", "-c", "exec <&-; sleep 0.2; echo one; sleep 0.2; echo two"), ""
        )
        near = FakeChannel()
        near.arrive(*[b"x" * 65_536] * 20)
        await asyncio.wait_for(join(near, process, Carried(), 0.5), 20)
        assert b"".join(near.sent) == b"one\ntwo\n"
        assert near.ended
        assert near.closed
        assert not near.aborted

    asyncio.run(scene())
