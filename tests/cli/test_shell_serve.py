"""Connections to a shell server on which nobody logs in."""

from __future__ import annotations

import argparse
import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from rawproto.cli import shell_serve


class Silent:
    """A connection of somebody who says nothing."""

    peer_address = ("192.0.2.1", 4000)
    peer_key = bytes(32)
    error = None

    def __init__(self) -> None:
        self.refused = ""
        self._over = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self._over.is_set()

    def abort(self, code: int, why: str) -> None:
        self.refused = why
        self._over.set()

    async def wait_closed(self) -> None:
        await self._over.wait()

    async def accept_stream(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def clients() -> Any:
    arguments = argparse.Namespace(log="none", debug=False, no_forwards=True)
    life: Any = SimpleNamespace(porter=None)
    return shell_serve._Clients(arguments, life)


def test_who_does_not_log_in_is_sent_away(clients: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_serve, "LOGIN_S", 0)

    async def come() -> str:
        silent = Silent()
        async with asyncio.timeout(10):
            await clients.use(silent)
        return silent.refused

    assert asyncio.run(come()) == "nobody logged in"


def test_only_so_many_may_be_there_without_a_login(clients: Any) -> None:
    async def come() -> tuple[int, str, str]:
        first = [Silent() for _ in range(256)]
        tasks = [asyncio.create_task(clients.use(each)) for each in first]
        await asyncio.sleep(0)
        late = Silent()
        await clients.use(late)
        first[0].abort(0, "gone")
        await tasks[0]
        next_one = Silent()
        tasks.append(asyncio.create_task(clients.use(next_one)))
        await asyncio.sleep(0)
        waiting = sum(not each.closed for each in first)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return waiting, late.refused, next_one.refused

    assert asyncio.run(come()) == (255, "too many logins at once", "")
