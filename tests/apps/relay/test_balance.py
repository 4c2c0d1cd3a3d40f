"""Which of several targets a session goes to."""

from __future__ import annotations

import asyncio

import pytest

from rawproto.apps.relay.balance import Balancer
from rawproto.apps.relay.relay import Relay, Session
from tests.apps.relay.fakes import FakeChannel, FakeOpener, settle


def run(test: object) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))  # type: ignore[operator]


def balanced(*names: str) -> tuple[Balancer, list[FakeOpener], list[tuple[str, str | None]]]:
    openers = [FakeOpener(name) for name in names]
    told: list[tuple[str, str | None]] = []
    return (
        Balancer([*openers], 0, lambda name, why: told.append((name, str(why) if why else None))),
        openers,
        told,
    )


def test_least_busy_is_chosen_and_turns_are_taken() -> None:
    async def scene() -> None:
        balancer, (a, b), _ = balanced("a", "b")
        channels = [await balancer.open("p") for _ in range(4)]
        assert (len(a.given), len(b.given)) == (2, 2)
        await channels[1].close()
        channels[3].abort()
        assert [(await balancer.open("p")).name for _ in range(2)] == ["b/2", "b/3"]
        await channels[1].close()  # once more counts once
        assert [(await balancer.open("p")).name for _ in range(2)] == ["a/2", "b/4"]

    run(scene)


def test_who_cannot_be_reached_is_left_out_until_it_answers() -> None:
    async def scene() -> None:
        balancer, (a, b), told = balanced("a", "b")
        a.failure = ConnectionRefusedError("no")
        assert [(await balancer.open("p")).name for _ in range(3)] == ["b/0", "b/1", "b/2"]
        assert told == [("a", "no")]
        b.failure = ConnectionRefusedError("neither")
        with pytest.raises(ConnectionRefusedError):
            await balancer.open("p")
        a.failure = None
        assert (await balancer.open("p")).name == "a/0", "with none that is well all are tried"
        assert told == [("a", "no"), ("b", "neither"), ("a", None)]

    run(scene)


def test_who_was_away_takes_turns_and_no_more() -> None:
    """It got all sessions until it had had as many as the others since the beginning."""

    async def one(balancer: Balancer) -> str:
        channel = await balancer.open("p")
        await channel.close()
        return channel.name[0]

    async def scene() -> None:
        balancer, (a, _), _ = balanced("a", "b")
        a.failure = ConnectionRefusedError("no")
        assert [await one(balancer) for _ in range(10)] == ["b"] * 10
        a.failure = None
        balancer._targets._targets[0].well = True  # a check found it so
        assert [await one(balancer) for _ in range(4)] == ["a", "b", "a", "b"]

    run(scene)


def test_checks_find_who_is_down_and_who_is_up_again() -> None:
    async def scene() -> None:
        before = asyncio.all_tasks()
        openers = [FakeOpener("a"), FakeOpener("b")]
        told: list[tuple[str, str | None]] = []
        changed = asyncio.Event()

        def tell(name: str, why: Exception | None) -> None:
            told.append((name, str(why) if why else None))
            changed.set()

        openers[0].failure = ConnectionRefusedError("no")
        balancer = Balancer([*openers], 0.001, tell)
        await changed.wait()
        changed.clear()
        openers[0].failure = None
        await changed.wait()
        assert told == [("a", "no"), ("a", None)]
        await balancer.close()
        assert all(each.closed for each in openers)
        assert all(channel.closed for each in openers for channel in each.given)
        assert asyncio.all_tasks() == before

    run(scene)


def test_each_channel_of_a_listener_has_its_own_session() -> None:
    async def scene() -> None:
        source, target = FakeOpener("l", once=False), FakeOpener("t")
        told: list[Session] = []
        relay = Relay(source, target, told.append, most=2)
        running = asyncio.create_task(relay.run())
        clients = [FakeChannel(f"c{number}") for number in range(3)]
        for client in clients:
            client.arrive(client.name.encode())
            source.coming.put_nowait(client)
        await settle()
        assert target.peers == ["c0", "c1"], "the third waits"
        assert [each.sent for each in target.given] == [[b"c0"], [b"c1"]]
        clients[0].arrive(None)
        target.given[0].arrive(None)
        await settle()
        assert target.peers == ["c0", "c1", "c2"]
        assert [(each.near, each.far, each.error) for each in told] == [("c0", "t/0", None)]
        running.cancel()
        await relay.close(0)
        assert clients[1].aborted
        assert clients[2].aborted
        assert source.closed
        assert target.closed

    run(scene)


def test_target_that_cannot_be_opened_breaks_the_near_side_and_nobody_elses() -> None:
    async def scene() -> None:
        source, target = FakeOpener("l", once=False), FakeOpener("t")
        target.failure = ConnectionRefusedError("no")
        told: list[Session] = []
        relay = Relay(source, target, told.append)
        running = asyncio.create_task(relay.run())
        client = FakeChannel("c")
        source.coming.put_nowait(client)
        await settle()
        assert client.aborted
        assert isinstance(told[0].error, ConnectionRefusedError)
        assert not running.done()
        running.cancel()
        await relay.close(0)

    run(scene)
