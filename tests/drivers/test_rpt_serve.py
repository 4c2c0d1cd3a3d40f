"""How a server of coroutines ends."""

from __future__ import annotations

import asyncio
import os

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


@pytest.mark.parametrize("workers", [1, 2])
def test_port_is_given_back_where_what_is_to_be_done_with_it_open_fails(workers: int) -> None:
    def fail() -> None:
        raise PermissionError("no")

    async def body() -> None:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(PermissionError):
            await serve("rpt+udp://127.0.0.1:0", never_used, workers=workers, opened=fail)
        assert len(os.listdir("/proc/self/fd")) == before

    async def never_used(connection: RPTConnection) -> None:
        raise AssertionError(connection)

    asyncio.run(body())
