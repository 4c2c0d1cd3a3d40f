"""Coming, being cut off, coming back: nothing missed, nothing twice, no leaving that was none."""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from rawproto.apps.chat.hub import Hub, SlowReaderError
from rawproto.apps.chat.service import ChatService
from rawproto.apps.chat.store import Store
from rawproto.cli import chat
from rawproto.cli.rpt_options import Trust
from rawproto.errors import ConnectionLostError
from rawproto.rpc import Call
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
        for each in (ada, bob):
            await each.go()

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


def test_who_comes_back_to_a_server_that_forgot_all_hears_what_is_new() -> None:
    """Its numbers began anew, and members were deaf until those had passed the old ones."""

    async def scene(rooms: Rooms) -> None:
        ada = await Person(rooms, "ada").come()
        for number in range(30):
            await ada.member.say(str(number))
        await ada.until(lambda: ada.count("message") == 30)
        await ada.go()
        await rooms.restart(Store(None))
        eve = await Person(rooms, "eve").come()
        await eve.member.say("while you were away")
        await eve.member.said()
        await ada.come()
        await eve.member.say("and since")
        await ada.until(lambda: ada.count("message") == 32)
        assert ada.texts()[30:] == [("eve", "while you were away"), ("eve", "and since")]
        for each in (ada, eve):
            await each.go()

    run(scene)


def test_who_has_heard_more_than_the_server_remembers_hears_what_is_new(tmp_path: Path) -> None:
    """A history that was put back, or lost its last events with the power."""
    store = Store(str(tmp_path / "history"))

    async def scene(rooms: Rooms) -> None:
        ada = await Person(rooms, "ada").come()
        with sqlite3.connect(tmp_path / "history") as base:
            base.execute("VACUUM INTO ?", (str(tmp_path / "copy"),))
        for number in range(9):
            await ada.member.say(str(number))
        await ada.until(lambda: ada.count("message") == 9)
        await ada.go()
        await rooms.restart(Store(str(tmp_path / "copy")))
        await ada.come()
        await ada.member.say("new")
        await ada.until(lambda: ada.count("message") == 10)
        assert ada.texts()[9:] == [("ada", "new")]
        await ada.go()

    run(scene, store=store)


def test_what_is_said_when_one_was_just_dropped_is_said_once_one_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(rooms: Rooms) -> None:
        say = ChatService._say
        nicks: dict[str, str] = {}

        async def dropped(service: ChatService, params: Any, call: Call) -> Any:
            if not nicks:
                nicks.update(service._nicks)
                service._nicks.clear()
                try:
                    return await say(service, params, call)
                finally:
                    service._nicks.update(nicks)
                    asyncio.get_running_loop().call_later(0.05, rooms.connections[-1].abort)
            return await say(service, params, call)

        monkeypatch.setattr(ChatService, "_say", dropped)
        ada = await Person(rooms, "ada").come()
        await ada.member.say("once")
        assert ada.task is not None
        await asyncio.gather(ada.task, return_exceptions=True)
        await ada.come()
        await ada.until(lambda: ada.count("message") == 1)
        assert (ada.texts(), ada.complaints) == ([("ada", "once")], [])
        await ada.go()

    run(scene)


def test_who_is_dropped_for_reading_slowly_comes_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The program ended instead, with the server's invitation as its last word."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    joins = 0
    again = asyncio.Event()

    async def scene(rooms: Rooms) -> None:
        join = ChatService._join

        async def dropped(service: ChatService, params: Any, call: Call) -> None:
            nonlocal joins
            joins += 1
            if joins == 1:
                await call.send({"sequence": 0, "kind": "here", "names": ["ada"]})
                raise SlowReaderError("you read too slowly")
            again.set()
            await join(service, params, call)

        monkeypatch.setattr(ChatService, "_join", dropped)
        parser = argparse.ArgumentParser()
        chat.add_arguments(parser)
        words = ["join", "--accept-new", "--stay", str(rooms.server.address), "lobby"]
        arguments = parser.parse_args([*words, "--nick", "ada"])
        trust = Trust(arguments.address, accept_new=True)
        member = asyncio.create_task(chat._join(arguments, trust))
        waiting = asyncio.create_task(again.wait())
        await asyncio.wait({member, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert not member.done() or member.result()
        member.cancel()
        await asyncio.gather(member, return_exceptions=True)

    run(scene)
    assert "--- you read too slowly; trying again" in capsys.readouterr().err
