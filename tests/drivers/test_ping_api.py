"""ping as a function: what it refuses before it opens anything. (What it sends: tests/live.)"""

from __future__ import annotations

import asyncio
import threading

import pytest

from rawproto.drivers import target
from rawproto.drivers.ping import ping, ping_async
from rawproto.drivers.ping_session import PingOptions
from rawproto.drivers.traceroute import traceroute_async
from rawproto.errors import UsageError
from tests.drivers.scripted import descriptors


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"count": None}, "needs a count or a deadline_ms"),
        ({"count": 0}, "count 0: must be 1 to"),
        ({"ttl": 0}, "ttl 0: must be 1 to 255"),
        ({"size": -1}, "size -1: must be 0 to 65527"),
        ({"timeout_ms": 0}, "timeout in ms 0: must be 0.001 to"),
        ({"deadline_ms": float("nan")}, "deadline in ms nan: must be"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options: dict, told: str) -> None:
    before = descriptors()
    with pytest.raises(UsageError, match=told):
        ping("127.0.0.1", **options)
    with pytest.raises(UsageError, match=told):
        asyncio.run(ping_async("127.0.0.1", **options))
    assert descriptors() == before


def test_an_option_that_does_not_exist_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        ping("127.0.0.1", colour="red")


def test_options_that_are_left_alone_are_pings() -> None:
    options = PingOptions()
    options.check()
    assert (options.count, options.interval_ms, options.size, options.ttl) == (4, 1000, 56, None)


def test_names_are_looked_up_while_the_loop_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer = threading.Event()

    def resolve_all(name: str, family: int | None = None) -> list[str]:
        assert may_answer.wait(5), "the loop stood still"
        raise UsageError(f"{name}: no such host")

    monkeypatch.setattr(target, "resolve_all", resolve_all)

    async def scenario() -> None:
        waiting = [ping_async("www", count=1), traceroute_async("www")]
        tasks = [asyncio.ensure_future(each) for each in waiting]
        await asyncio.sleep(0)
        may_answer.set()
        for task in tasks:
            with pytest.raises(UsageError, match="www: no such host"):
                await task

    asyncio.run(scenario())
