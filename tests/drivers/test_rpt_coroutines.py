"""What a connection of coroutines keeps for a peer that wants it to keep much."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.transport.config import Config

FEW = Config(max_streams=4)


def test_streams_that_a_peer_opens_and_gives_up_are_not_kept_for_who_accepts_none() -> None:
    accepted: asyncio.Future[RPTConnection]

    async def handler(connection: RPTConnection) -> None:
        accepted.set_result(connection)
        await connection.wait_closed()

    async def body() -> None:
        nonlocal accepted
        accepted = asyncio.get_running_loop().create_future()
        async with (
            asyncio.timeout(20),
            serve("rpt+udp://127.0.0.1:0", handler, config=FEW) as server,
            connect(str(server.address)) as client,
        ):
            for _ in range(200):
                (await client.open_stream(one_way=True)).reset()
            last = await client.open_stream(one_way=True)
            await last.send(b"that has something to say")
            connection = await accepted
            assert len(connection._opened) <= 16
            while (stream := await connection.accept_stream()).stream_id != last.stream_id:
                assert len(connection._streams) <= 18
            assert await stream.receive() == b"that has something to say"

    asyncio.run(body())


def test_who_asks_again_and_again_with_a_time_out_leaves_nothing() -> None:
    async def handler(connection: RPTConnection) -> None:
        await connection.wait_closed()

    async def body() -> None:
        async with (
            asyncio.timeout(20),
            serve("rpt+udp://127.0.0.1:0", handler) as server,
            connect(str(server.address)) as client,
        ):
            for wait in (client.stream.receive, client.accept_stream, client.receive_datagram):
                for _ in range(20):
                    with suppress(TimeoutError):
                        await asyncio.wait_for(wait(), 0.001)
            assert not client.stream.bell.is_heard
            assert not client._bell.is_heard

    asyncio.run(body())
