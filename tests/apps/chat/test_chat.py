"""Rooms over loopback: one order for all, names that are keys', bounds that hold."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rawproto.apps.chat.client import ChatMember
from rawproto.apps.chat.hub import Hub, Member, SlowReaderError
from rawproto.apps.chat.service import (
    ERRORS,
    MOST_TEXT_BYTES,
    NameTakenError,
    NobodyError,
    VersionError,
)
from rawproto.apps.chat.store import Event, HistoryError, Store, folded
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.rpc import BadRequestError, Call, RPCPeer
from tests.apps.chat.people import Person, Rooms, run


def test_everybody_hears_everything_in_one_order() -> None:
    async def scene(rooms: Rooms) -> None:
        people = [await Person(rooms, name).come() for name in ("ada", "bob", "eve")]
        for number in range(5):
            await asyncio.gather(*[each.member.say(f"{each.nick} {number}") for each in people])
        for each in people:
            await each.until(lambda each=each: each.count("message") == 15)
        orders = [
            [event["sequence"] for event in each.heard if event["sequence"]] for each in people
        ]
        assert orders[0][-15:] == orders[1][-15:] == orders[2][-15:]
        assert orders[0] == sorted(orders[0])
        own = [text for nick, text in people[0].texts() if nick == "bob"]
        assert own == [f"bob {number}" for number in range(5)], "each keeps its own order"
        assert await people[1].member.who() == ["ada", "bob", "eve"]
        for each in people:
            await each.go()

    run(scene)


def test_rooms_do_not_hear_each_other() -> None:
    async def scene(rooms: Rooms) -> None:
        ada = await Person(rooms, "ada", "one").come()
        bob = await Person(rooms, "bob", "two").come()
        await bob.member.say("here")
        await bob.until(lambda: bob.count("message") == 1)
        await ada.member.say("there")
        await ada.until(lambda: ada.count("message") == 1)
        assert ada.texts() == [("ada", "there")]
        assert ada.texts("join") == [("ada", "")]
        for each in (ada, bob):
            await each.go()

    run(scene)


def test_private_messages_reach_their_two_and_nobody_else() -> None:
    async def scene(rooms: Rooms) -> None:
        ada, bob = await Person(rooms, "ada").come(), await Person(rooms, "bob", "other").come()
        eve = await Person(rooms, "eve").come()
        await ada.member.say("psst", "BOB")
        await bob.until(lambda: bob.count("private") == 1)
        await ada.until(lambda: ada.count("private") == 1)
        await bob.go()
        await ada.member.say("are you there?", "bob")
        await ada.member.say("to all")
        await eve.until(lambda: eve.count("message") == 1)
        await bob.come()
        await bob.until(lambda: bob.count("private") == 2)
        assert bob.texts("private") == [("ada", "psst"), ("ada", "are you there?")]
        assert eve.count("private") == 0
        late = await Person(rooms, "eve").come()
        assert late.count("private") == 0
        await ada.member.say("hello?", "nobody")
        await ada.member.said()
        assert ada.complaints == ["nobody: nobody has that name"]
        for each in (ada, bob, eve, late):
            await each.go()

    run(scene)


def test_name_is_its_keys(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "history"))

    async def scene(rooms: Rooms) -> None:
        ada = await Person(rooms, "ada").come()
        await ada.go()
        async with rooms.peer_of("somebody else") as connection:
            peer = RPCPeer(connection, errors=ERRORS)
            for nick in ("ada", "ADA", "\uff41da", "ada\ufe0f", "a\u034fda", "\u3164ada"):
                with pytest.raises(NameTakenError):
                    await peer.call("join", {"room": "lobby", "nick": nick})
            for nick in (
                "",
                " ada",
                "a\u202eda",
                "a\nb",
                "x" * 33,
                7,
                None,
                "\ud800",
                "\u3164",
                "\u2800",
            ):
                with pytest.raises(BadRequestError):
                    await peer.call("join", {"room": "lobby", "nick": nick})
            await peer.close()

    run(scene, store=store)
    store.close()
    run(scene, store=Store(str(tmp_path / "history")))


def test_letters_that_fold_into_several_are_alike_in_either_case() -> None:
    assert folded("\u03aa\u0301") == folded("\u0390")


def test_a_key_cannot_take_all_names() -> None:
    store = Store(None)
    assert [store.claim(str(number), b"k") for number in range(20)] == [True] * 16 + [False] * 4
    assert store.claim("3", b"k")
    assert store.claim("17", b"other")


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("x" * MOST_TEXT_BYTES, True),
        ("ünïcode ✓ 漢字 \u202e\0\x1b[31m", True),
        ("x" * (MOST_TEXT_BYTES + 1), False),
        ("", False),
        ("\ud800", False),
    ],
)
def test_text_of_any_script_passes_as_it_is_and_bounds_hold(text: str, fits: bool) -> None:
    async def scene(rooms: Rooms) -> None:
        ada = await Person(rooms, "ada").come()
        await ada.member.say(text)
        await ada.member.said()
        if fits:
            await ada.until(lambda: ada.count("message") == 1)
            assert ada.texts() == [("ada", text)]
        else:
            assert ada.complaints == [f"a text has 1 to {MOST_TEXT_BYTES} bytes"]
        await ada.go()

    run(scene)


def test_text_that_grows_in_its_event_locks_nobody_out() -> None:
    """Its event was longer than a message may be, and so broke the call of each who was there, and
    of each who came later and was told it again."""

    async def scene(rooms: Rooms) -> None:
        nick, room = "\N{GRINNING FACE}" * 32, "\N{GRINNING FACE}" * 64
        ada = await Person(rooms, nick, room).come()
        await ada.member.say("\1" * 43_500)
        await ada.member.say("\1" * 43_000)
        await ada.until(lambda: ada.count("message") == 1)
        assert ada.complaints == ["a text of too many control characters"]
        bob = await Person(rooms, "bob", room).come()
        assert len(bob.texts()[0][1]) == 43_000
        for each in (ada, bob):
            await each.go()

    run(scene)


def test_crowd_with_long_names_locks_nobody_out() -> None:
    """The list of who is there was longer than a message may be: nobody could come any more."""

    async def scene(rooms: Rooms) -> None:
        with rooms.store.together():
            for number in range(1200):
                nick = f"{number:04}" + "\N{GRINNING FACE}" * 28
                rooms.store.come(0, "lobby", nick, b"%d" % number)
        ada = await Person(rooms, "ada").come()
        assert len(ada.heard[-1]["names"]) == 601
        assert (await ada.member.who())[-1] == "and 601 more"
        await ada.go()

    run(scene)


def test_slow_reader_is_dropped_with_a_word_and_nobody_else() -> None:
    async def scene(rooms: Rooms) -> None:
        bob = await Person(rooms, "bob").come()
        async with rooms.peer_of("ada") as connection:
            peer = RPCPeer(connection, errors=ERRORS)
            async with peer.open("join", {"room": "lobby", "nick": "ada"}) as call:
                async for event in call:
                    if event["kind"] == "here":
                        break
                for number in range(400):  # 40 KiB each, and none is read
                    rooms.hub.happen("message", "lobby", "bob", b"", text=str(number) * 14_000)
                    if number % 20 == 0:
                        await bob.until(lambda n=number: bob.count("message") > n)  # type: ignore[misc]
                with pytest.raises(SlowReaderError, match="too slowly"):
                    async for _ in call:
                        pass
            await peer.close()
        await bob.until(lambda: bob.count("message") == 400)
        await bob.go()

    run(scene)


def test_member_counts_what_waits() -> None:
    async def scene() -> None:
        member = Member("r", "n", b"k", 0)
        store = Store(None)
        hub = Hub(store)
        hub.enter(member)
        while hub.catch_up(member):
            pass
        for number in range(1001):
            hub.happen("message", "r", "n", b"o", text=str(number))
        with pytest.raises(SlowReaderError):
            await member.next()
        hub.close()

    asyncio.run(scene())


def test_flood_waits_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float, result: Any = None) -> Any:
        waits.append(seconds)
        return await sleep(0, result)

    async def scene(rooms: Rooms) -> None:
        ada = await Person(rooms, "ada").come()
        monkeypatch.setattr("rawproto.apps.chat.service.asyncio.sleep", noted)
        for number in range(80):
            await ada.member.say(str(number))
        await ada.member.said()
        monkeypatch.undo()
        assert waits == [number / 20 for number in range(1, 32)], "the clock stands still"
        await ada.go()

    run(scene)


def test_who_comes_and_goes_too_fast_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each coming is an event that is kept: it counts as something said."""
    waits: list[float] = []

    async def noted(seconds: float) -> None:
        waits.append(seconds)

    async def scene(rooms: Rooms) -> None:
        async with rooms.peer_of("ada") as connection:
            peer = RPCPeer(connection, errors=ERRORS)
            monkeypatch.setattr("rawproto.apps.chat.service.asyncio.sleep", noted)
            for number in range(60):
                params: dict[str, Any] = {"room": f"room {number}", "nick": "ada", "history": 0}
                async with peer.open("join", params) as call:
                    assert await call.receive()
            monkeypatch.undo()
            await peer.close()
        assert waits == [number / 20 for number in range(1, 11)]

    run(scene)


def test_say_needs_a_room_that_one_is_in() -> None:
    async def scene(rooms: Rooms) -> None:
        async with rooms.peer_of("ada") as connection:
            peer = RPCPeer(connection, errors=ERRORS)
            with pytest.raises(BadRequestError, match="join it first"):
                await peer.call("say", {"room": "lobby", "text": "x", "id": "1"})
            for params in (None, [], "x", {"room": 1}, {"room": "lobby"}):
                with pytest.raises((BadRequestError, NobodyError)):
                    await peer.call("say", params)
            await peer.close()

    run(scene)


def test_other_version_is_told() -> None:
    async def hello(params: Any, call: Call) -> Any:
        return {"version": 9}

    async def main() -> None:
        async def handle(connection: RPTConnection) -> None:
            peer = RPCPeer(connection, {"hello": hello})
            await connection.wait_closed()
            await peer.close()

        server = await serve("rpt+udp://127.0.0.1:0", handle)
        member = ChatMember("r", "n", history=0, hear=print, complain=print)
        try:
            async with asyncio.timeout(10), connect(str(server.address)) as connection:
                with pytest.raises(VersionError, match="version 9 of chat"):
                    await member.run(connection)
        finally:
            await server.close()

    asyncio.run(main())


def fill(store: Store) -> None:
    """The file takes nothing more."""
    (pages,) = store._base.execute("PRAGMA page_count").fetchone()
    store._base.execute(f"PRAGMA max_page_count={pages}")
    filler = Event(0, "message", "attic", "", b"", "", b"", "x", 0)
    with suppress(HistoryError):
        for _ in range(1000):
            store.add(filler, None)


def test_full_disk_is_told_to_who_speaks_and_to_who_comes(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "history"))
    why = "the server cannot keep it: database or disk is full"

    async def scene(rooms: Rooms) -> None:
        bob = await Person(rooms, "bob").come()
        ada = await Person(rooms, "ada").come()
        fill(store)
        await ada.member.say("x" * 20_000)
        await ada.member.said()
        assert ada.complaints == [why]
        with pytest.raises(HistoryError, match=why):
            await Person(rooms, "eve").come()
        assert await bob.member.who() == ["ada", "bob"], "who is there stays"
        store._base.execute("PRAGMA max_page_count=100000")
        await ada.member.say("there is room again")
        await bob.until(lambda: ("ada", "there is room again") in bob.texts())
        assert ("ada", "x" * 20_000) not in bob.texts(), "what cannot be kept is not said"
        await bob.go()
        fill(store)
        await ada.go()  # that somebody leaves cannot be kept either

    run(scene, store=store)
