"""Several processes' hubs over one history: one order, one list of who is there, none forgotten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rawproto.apps.chat.hub import Hub, Member
from rawproto.apps.chat.store import Store
from rawproto.apps.siblings import Siblings

COUNT = 3


class Processes:
    """As many hubs as there would be processes, each with a view of its own of one file."""

    def __init__(self, path: Path, away_s: float = 60.0) -> None:
        self._path = path
        self._away_s = away_s
        self.siblings = Siblings(COUNT)
        self.hubs = [self.hub(number) for number in range(COUNT)]

    def hub(self, number: int) -> Hub:
        store = Store(str(self._path))
        return Hub(store, away_s=self._away_s, worker=number, siblings=self.siblings)

    def stop(self) -> None:
        for hub in self.hubs:
            hub.close()
        self.siblings.close()


def run(
    tmp_path: Path, scene: Callable[[Processes], Awaitable[None]], away_s: float = 60.0
) -> None:
    async def main() -> None:
        processes = Processes(tmp_path / "history", away_s)
        try:
            async with asyncio.timeout(20):
                await scene(processes)
        finally:
            processes.stop()

    asyncio.run(main())


def enter(hub: Hub, nick: str) -> Member:
    member = Member("lobby", nick, nick.encode(), hub._store.last)
    hub.enter(member)
    while hub.catch_up(member):
        pass
    return member


async def heard(member: Member, count: int) -> list[tuple[int, str, str]]:
    events = [json.loads((await member.next())[1:]) for _ in range(count)]
    return [(event["sequence"], event["nick"], event["text"]) for event in events]


def say(hub: Hub, nick: str, text: str, **named: Any) -> int:
    return hub.happen("message", "lobby", nick, nick.encode(), text=text, **named)


def test_members_of_all_processes_hear_the_same_in_one_order(tmp_path: Path) -> None:
    async def scene(processes: Processes) -> None:
        members = [enter(hub, f"m{number}") for number, hub in enumerate(processes.hubs)]
        for member in members[:-1]:  # those that come later are heard coming
            await heard(member, COUNT - 1 - members.index(member))
        said = []
        for number in range(30):
            hub = processes.hubs[number % COUNT]
            said.append(
                (say(hub, f"m{number % COUNT}", str(number)), f"m{number % COUNT}", str(number))
            )
            if number % 7 == 0:
                await asyncio.sleep(0)  # some is heard between, some together
        for member in members:
            assert await heard(member, 30) == said

    run(tmp_path, scene)


def test_what_two_processes_are_told_with_one_id_is_said_once(tmp_path: Path) -> None:
    async def scene(processes: Processes) -> None:
        first, second, third = processes.hubs
        eve = enter(third, "eve")
        sequence = say(first, "ada", "once", message_id="7")
        assert say(second, "ada", "once", message_id="7") == sequence
        last = say(second, "ada", "twice", message_id="8")
        assert await heard(eve, 2) == [(sequence, "ada", "once"), (last, "ada", "twice")]

    run(tmp_path, scene)


def test_private_words_cross_processes_to_their_two_alone(tmp_path: Path) -> None:
    async def scene(processes: Processes) -> None:
        ada, bob, eve = (
            enter(hub, nick)
            for hub, nick in zip(processes.hubs, ("ada", "bob", "eve"), strict=True)
        )
        await heard(ada, 2)
        await heard(bob, 1)
        first = processes.hubs[0]
        first.happen("private", "lobby", "ada", b"ada", text="psst", to_nick="bob", to_key=b"bob")
        say(first, "ada", "to all")
        assert [text for _, _, text in await heard(bob, 2)] == ["psst", "to all"]
        assert [text for _, _, text in await heard(ada, 2)] == ["psst", "to all"]
        assert [text for _, _, text in await heard(eve, 1)] == ["to all"]

    run(tmp_path, scene)


def test_who_changes_process_within_a_while_never_left(tmp_path: Path) -> None:
    async def scene(processes: Processes) -> None:
        first, second, third = processes.hubs
        eve, ada = enter(third, "eve"), enter(first, "ada")
        await heard(eve, 1)
        first.leave(ada)
        assert second.names("lobby") == ["eve"], "who is cut off is not there"
        enter(second, "ada")
        assert [hub.names("lobby") for hub in processes.hubs] == [["ada", "eve"]] * 3
        sequence = say(second, "ada", "back")
        assert await heard(eve, 1) == [(sequence, "ada", "back")], "neither left nor joined"

    run(tmp_path, scene)


def test_who_stays_away_leaves_once_for_all(tmp_path: Path) -> None:
    async def scene(processes: Processes) -> None:
        first, second, third = processes.hubs
        eve, ada, again = enter(third, "eve"), enter(first, "ada"), enter(second, "ada")
        assert len(await heard(eve, 1)) == 1
        first.leave(ada)
        second.leave(again)
        (left,) = await heard(eve, 1)
        assert left[1:] == ("ada", "")
        sequence = say(third, "eve", "alone")
        assert await heard(eve, 1) == [(sequence, "eve", "alone")]

    run(tmp_path, scene, away_s=0.05)


def test_members_of_a_process_that_died_leave_if_they_do_not_come_back(tmp_path: Path) -> None:
    async def scene(processes: Processes) -> None:
        first, second, third = processes.hubs
        eve = enter(third, "eve")
        enter(first, "ada")
        enter(first, "bob")
        await heard(eve, 2)
        enter(second, "bob")  # it comes back elsewhere, before the dead one is noticed
        processes.hubs[0] = processes.hub(0)
        (left,) = await heard(eve, 1)
        assert left[1:] == ("ada", "")
        assert third.names("lobby") == ["bob", "eve"]

    run(tmp_path, scene, away_s=0.05)


def test_a_name_is_claimed_by_one_of_many_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "history")
    Store(path).close()

    def claim(number: int) -> list[bool]:
        store = Store(path)
        try:
            return [store.claim(f"name {name}", b"%d" % number) for name in range(16)]
        finally:
            store.close()

    with ThreadPoolExecutor(4) as pool:
        claims = list(pool.map(claim, range(4)))
    assert [sum(taken) for taken in zip(*claims, strict=True)] == [1] * 16


def test_numbers_are_seen_in_order_while_many_write(tmp_path: Path) -> None:
    """Who looks never sees a number before a lower one, or it would miss the lower one."""
    path = str(tmp_path / "history")
    reader = Store(path)

    def write(number: int) -> None:
        async def scene() -> None:
            store = Store(path)
            hub = Hub(store, worker=number)
            for text in range(200):
                say(hub, f"{number}", str(text))
            store.close()

        asyncio.run(scene())

    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(write, number) for number in range(3)]
        seen: list[int] = []
        while len(seen) < 600:
            if events := reader.after(seen[-1] if seen else 0, 7):
                seen += [event.sequence for event in events]
            elif all(each.done() for each in writing):
                for each in writing:
                    each.result()
                break
        while events := reader.after(seen[-1], 7):
            seen += [event.sequence for event in events]
    assert seen == list(range(1, 601))
    reader.close()
