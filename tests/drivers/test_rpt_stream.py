"""A stream's handle: what becomes of a stream that nobody holds any more."""

from __future__ import annotations

import asyncio
import gc

from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.transport.config import Config

FEW = Config(max_streams=4)


async def _each(connection: RPTConnection, end: bool) -> None:
    """Answers the peer's streams, and reads none to its end."""
    while True:
        stream = await connection.accept_stream()
        await stream.send_message(await stream.receive_message() or b"nothing")
        if end:
            await stream.send_eof()
        del stream


def _answered(*, end: bool) -> None:
    async def handler(connection: RPTConnection) -> None:
        await _each(connection, end)

    async def body() -> None:
        async with (
            asyncio.timeout(20),
            serve("rpt+udp://127.0.0.1:0", handler, config=FEW) as server,
            connect(str(server.address)) as client,
        ):
            for number in range(20):
                stream = await client.open_stream()
                await stream.send_message(b"%d" % number)
                assert await stream.receive_message() == b"%d" % number
                await stream.send_eof()
                assert await stream.receive() == b""
                assert stream.stopped_by is None

    asyncio.run(body())


def test_stream_whose_end_nobody_read_gives_its_place_to_the_next() -> None:
    _answered(end=True)


def test_stream_that_nobody_ended_ends_when_nobody_holds_it() -> None:
    _answered(end=False)


def test_peer_that_sends_on_hears_that_nobody_reads() -> None:
    async def handler(connection: RPTConnection) -> None:
        stream = await connection.accept_stream()
        await stream.receive(1)
        del stream
        await connection.wait_closed()

    async def body() -> None:
        async with (
            asyncio.timeout(20),
            serve("rpt+udp://127.0.0.1:0", handler, config=FEW) as server,
            connect(str(server.address)) as client,
        ):
            stream = await client.open_stream()
            while stream.stopped_by is None:
                await stream.send(b"more")
                await asyncio.sleep(0)
            assert await stream.receive() == b""

    asyncio.run(body())


def test_connection_that_is_dropped_in_a_cycle_leaves_its_streams_alone() -> None:
    async def body() -> None:
        async def handler(connection: RPTConnection) -> None:
            await connection.wait_closed()

        async with serve("rpt+udp://127.0.0.1:0", handler) as server:
            async with connect(str(server.address)) as client:
                stream = await client.open_stream()
                await stream.send(b"more")
            del client, stream
            gc.collect()

    asyncio.run(body())
    gc.collect()
