"""How a server of coroutines ends."""

from __future__ import annotations

import asyncio

import pytest

from rawproto.drivers.rpt import coroutines
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.drivers.rpt.node import Node


def test_server_does_not_wait_for_ever_for_peers_that_do_not_answer_its_farewell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(node: Node) -> None:
        await asyncio.Event().wait()

    async def handler(connection: RPTConnection) -> None:
        await connection.wait_closed()

    async def body() -> None:
        async with asyncio.timeout(20), serve("rpt+udp://127.0.0.1:0", handler) as server:
            address = str(server.address)
            async with connect(address):
                with monkeypatch.context() as patched:
                    patched.setattr(Node, "drained", never)
                    patched.setattr(coroutines, "_FAREWELL_S", 0.01)
                    await server.close()
            async with serve(address, handler):
                pass  # the port is free

    asyncio.run(body())
