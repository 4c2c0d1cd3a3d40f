"""Which exits an entry keeps up, and how often it knocks where nobody lets it in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rawproto.apps.proxy.exits import Exit
from rawproto.apps.proxy.remote import RemoteForwards
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from tests.apps.proxy.doors import PATIENCE_S, run


def test_exit_that_ends_each_connection_at_once_is_tried_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whose key is not authorized learns so from a connection that stood already."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(delay_s: float) -> None:
        waits.append(delay_s)
        await sleep(0)

    async def handle(connection: RPTConnection) -> None:
        raise AssertionError("nobody gets in")

    async def scene() -> None:
        server = await serve("rpt+udp://127.0.0.1:0", handle, authorize=lambda key: False)
        told: list[Exception | None] = []
        enough = asyncio.Event()

        def tell(name: str, error: Exception | None) -> None:
            told.append(error)
            if sum(each is not None for each in told) == 3:
                enough.set()

        async def dial() -> RPTConnection:
            return await connect(str(server.address))

        def told_remote(*_: Any) -> None:
            raise AssertionError("there is none")

        tried = Exit(
            "e", dial, RemoteForwards([], lambda session: None),
            tell=tell, told=told_remote, timeout_s=5.0,
        )  # fmt: skip
        try:
            async with asyncio.timeout(PATIENCE_S):
                await enough.wait()
        finally:
            await tried.close()
            await server.close()

    monkeypatch.setattr("rawproto.apps.proxy.exits.asyncio.sleep", noted)
    run(scene)
    assert waits[0] < 0.3 < waits[1]
