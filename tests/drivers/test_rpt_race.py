"""Of a host's addresses the first to answer is taken, and of what goes wrong the most telling."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from rawproto.drivers.rpt import race
from rawproto.drivers.rpt.race import first_to_answer
from rawproto.drivers.rpt.refusals import most_telling
from rawproto.errors import ConnectionLostError, LinkError, PeerMismatchError, RefusedError

V6, V6B, V4, V4B = "fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"
NO_ROUTE = LinkError("route to", V6, errno.ENETUNREACH)
SILENT = ConnectionLostError("nobody answered")
REFUSED = RefusedError("nobody listens there")
STRANGER = PeerMismatchError("another key", b"k" * 32)
TOO_BIG = LinkError("connect", V4, errno.EMSGSIZE)


class Hosts:
    """What comes of connecting to each address: an error, a connection, or nothing ever."""

    def __init__(self, **outcomes: Exception | str | None) -> None:
        self.outcomes = outcomes
        self.tried: list[str] = []
        self.given_up: list[str] = []
        self.discarded: list[str] = []

    async def connect(self, host: str) -> str:
        self.tried.append(host)
        outcome = self.outcomes[host]
        try:
            if outcome is None:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_up.append(host)
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    async def discard(self, connection: str) -> None:
        self.discarded.append(connection)

    def race(self, *order: str) -> str:
        return asyncio.run(asyncio.wait_for(first_to_answer(order, self.connect, self.discard), 10))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "_DELAY_S", 0.001)


def test_address_that_does_not_answer_is_passed_by_and_given_up() -> None:
    hosts = Hosts(**{V6: None, V4: "connected"})
    assert hosts.race(V6, V4) == "connected"
    assert (hosts.tried, hosts.given_up) == ([V6, V4], [V6])


def test_families_take_turns_from_the_preferred_one_on() -> None:
    hosts = Hosts(**{host: RefusedError("nobody") for host in (V6, V6B, V4, V4B)})
    with pytest.raises(RefusedError):
        hosts.race(V6, V6B, V4, V4B)
    assert hosts.tried == [V6, V4, V6B, V4B]
    hosts.tried.clear()
    with pytest.raises(RefusedError):
        hosts.race(V4, V4B, V6)
    assert hosts.tried == [V4, V6, V4B]


def test_refusal_has_the_next_one_tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "_DELAY_S", 3600)
    hosts = Hosts(**{V6: NO_ROUTE, V4: "connected"})
    assert hosts.race(V6, V4) == "connected"


def test_who_is_somebody_else_ends_the_race() -> None:
    hosts = Hosts(**{V6: STRANGER, V4: "connected"})
    with pytest.raises(PeerMismatchError):
        hosts.race(V6, V4)
    assert hosts.tried == [V6]


def test_second_that_answers_in_the_same_moment_is_discarded() -> None:
    gate = asyncio.Event()

    async def connect(host: str) -> str:
        if host == V4:
            gate.set()
        await gate.wait()
        return host

    hosts = Hosts()
    won = asyncio.run(first_to_answer((V6, V4), connect, hosts.discard))
    assert {won, *hosts.discarded} == {V6, V4}


@pytest.mark.parametrize("order", [(V6, V4), (V4, V6)])
def test_no_error_hides_a_more_telling_one_and_all_can_be_seen(order: tuple[str, str]) -> None:
    hosts = Hosts(**{V6: NO_ROUTE, V4: REFUSED})
    with pytest.raises(RefusedError) as caught:
        hosts.race(*order)
    assert caught.value.__notes__[-1] == f"connecting to {V4}"
    others = caught.value.__cause__
    assert isinstance(others, ExceptionGroup)
    assert others.exceptions == (NO_ROUTE,)


@pytest.mark.parametrize("turned", [list, lambda errors: errors[::-1]])
def test_errors_are_ranked_by_what_they_tell(
    turned: Callable[[list[Exception]], list[Exception]],
) -> None:
    ranks: list[Exception] = [NO_ROUTE, SILENT, TOO_BIG, REFUSED, STRANGER]
    for at in range(1, len(ranks) + 1):
        assert most_telling(turned(ranks[:at])) is ranks[at - 1]
    sockets = [OSError(errno.EHOSTUNREACH, ""), TimeoutError(), OSError(errno.ECONNREFUSED, "")]
    for at in range(1, len(sockets) + 1):
        assert most_telling(turned([*sockets[:at]])) is sockets[at - 1]


def test_race_that_is_cancelled_leaves_no_attempt() -> None:
    hosts = Hosts(**{V6: None, V4: None})

    async def run() -> None:
        made: Coroutine[Any, Any, str] = first_to_answer((V6, V4), hosts.connect, hosts.discard)
        task = asyncio.create_task(made)
        while len(hosts.tried) < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert hosts.given_up == [V6, V4]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
