"""Coming, being cut off, coming back: nothing missed, nothing twice, no leaving that was none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rawproto.apps.chat.hub import Hub
from rawproto.errors import ConnectionLostError
from tests.apps.chat.people import Person, Rooms, run


def test_who_comes_sees_what_was_last_and_who_comes_back_what_it_missed() -> None:
    async def scene(rooms: Rooms) -> None:
        ada = await Person(rooms, "ada").come()
        bob = await Person(rooms, "bob").come()
        for number in range(20):
            await ada.member.say(str(number))
        await bob.until(lambda: bob.count("message") == 20)
        await bob.go()
        for number in range(20, 30):
            await ada.member.say(str(number))
        await ada.until(lambda: ada.count("message") == 30)
        await bob.come()
        await bob.until(lambda: bob.count("message") == 30)
        assert [text for _, text in bob.texts()] == [str(number) for number in range(30)]
        eve = await Person(rooms, "eve", history=5).come()
        assert [text for _, text in eve.texts()] == ["25", "26", "27", "28", "29"]
        for each in (ada, bob, eve):
            await each.go()

    run(scene)


def test_what_is_said_over_a_broken_connection_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server takes a text in, and the connection breaks before its answer."""

    async def scene(rooms: Rooms) -> None:
        happen = Hub.happen
        broke = False

        def breaking(hub: Hub, *arguments: Any, **named: Any) -> int:
            nonlocal broke
            sequence = happen(hub, *arguments, **named)
            if named.get("text") == "once" and not broke:
                broke = True
                rooms.connections[-1].abort()
            return sequence

        monkeypatch.setattr(Hub, "happen", breaking)
        ada = await Person(rooms, "ada").come()
        await ada.member.say("once")
        assert ada.task is not None
        await asyncio.gather(ada.task, return_exceptions=True)
        assert broke
        await ada.come()
        await ada.member.say("twice")
        await ada.until(lambda: ada.count("message") >= 2)
        await ada.member.said()
        assert [text for _, text in ada.texts()] == ["once", "twice"]
        await ada.go()

    run(scene)


def test_being_cut_off_for_a_moment_is_not_leaving() -> None:
    async def scene(rooms: Rooms) -> None:
        ada, bob = await Person(rooms, "ada").come(), await Person(rooms, "bob").come()
        await bob.be_cut_off()
        await bob.come()
        await ada.member.say("now")
        await ada.until(lambda: ada.count("message") == 1)
        assert (ada.count("join"), ada.count("leave")) == (2, 0)
        for each in (ada, bob):
            await each.go()

    run(scene)


def test_who_stays_away_has_left() -> None:
    async def scene(rooms: Rooms) -> None:
        ada, bob = await Person(rooms, "ada").come(), await Person(rooms, "bob").come()
        await bob.be_cut_off()
        await ada.until(lambda: ada.count("leave") == 1)
        assert ada.texts("leave") == [("bob", "")]
        await ada.go()

    run(scene, away_s=0.05)


def test_who_goes_has_left_at_once_unless_it_is_there_twice() -> None:
    async def scene(rooms: Rooms) -> None:
        ada, bob = await Person(rooms, "ada").come(), await Person(rooms, "bob").come()
        again = await Person(rooms, "bob").come()
        await again.go()
        await bob.member.say("still here")
        await ada.until(lambda: ada.count("message") == 1)
        assert ada.count("leave") == 0
        await bob.go()
        await ada.until(lambda: ada.count("leave") == 1)
        await bob.come()
        await ada.until(lambda: ada.count("join") == 3)
        await ada.go()

    run(scene)


def test_nobody_has_left_whom_a_server_that_ends_sends_away() -> None:
    async def scene(rooms: Rooms) -> None:
        ada = await Person(rooms, "ada").come()
        rooms.hub.ending()
        await rooms.server.close()
        await ada.go()
        assert rooms.store.last == 1, "she came"

    run(scene)


def test_lost_connection_ends_a_members_run() -> None:
    async def scene(rooms: Rooms) -> None:
        ada = await Person(rooms, "ada").come()
        rooms.connections[0].abort()
        assert ada.task is not None
        with pytest.raises(ConnectionLostError):
            await ada.task

    run(scene)
