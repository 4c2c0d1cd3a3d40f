"""-R PORT: SOCKS at the far side, whose way out is here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rawproto.apps.proxy.allow import AllowList, parse_rule
from rawproto.apps.proxy.faults import ERRORS
from rawproto.apps.proxy.places import Forward, parse_remote
from rawproto.apps.proxy.remote import RemoteForwards
from rawproto.apps.proxy.service import ExitService
from rawproto.apps.relay.relay import Session
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.rpc import RPCError, RPCPeer
from tests.apps.proxy.doors import run, said_to, target

GREETING = b"\5\1\0"
LOCALHOST = b"\3\x09localhost"


@asynccontextmanager
async def far_socks(told: list[Session]) -> AsyncIterator[int]:
    """A port of the exit's where SOCKS is spoken, and the entry connects."""

    async def handle(connection: RPTConnection) -> None:
        service = ExitService(AllowList(), AllowList([parse_rule("0", "localhost")]))
        peer = RPCPeer(connection, service.methods, errors=ERRORS)
        await connection.wait_closed()
        await service.close()
        await peer.close()

    stands: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def heard(forward: Forward, port: int, error: RPCError | None) -> None:
        stands.set_result(port)

    server = await serve("rpt+udp://127.0.0.1:0", handle)
    async with connect(str(server.address)) as connection:
        remote = RemoteForwards([parse_remote("0")], told.append)
        peer = RPCPeer(connection, remote.methods, errors=ERRORS)
        running = asyncio.create_task(remote.run(peer, heard))
        yield await stands
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await peer.close()
    await server.close()


def test_far_side_reaches_by_socks_what_this_side_reaches() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())

    told: list[Session] = []

    async def scene() -> None:
        async with target(echo) as port, far_socks(told) as socks:
            request = b"\5\1\0" + LOCALHOST + port.to_bytes(2, "big")
            answer = await said_to(socks, GREETING + request + b"to the end")
            assert answer[:6] == b"\5\0\5\0\0\1"
            assert answer[12:] == b"TO THE END"
            while not told:  # which comes behind the end
                await asyncio.sleep(0)
            assert told[-1].far == f"localhost:{port}"
            assert (told[-1].carried.down_bytes, told[-1].error) == (10, None)

    run(scene)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (GREETING + b"\5\1\0" + LOCALHOST + b"\0\1", b"\5\0\5\5"),
        (GREETING + b"\5\1\0\3\7invalid\0\1", b"\5\0\5\4"),
        (GREETING + b"\5\2\0" + LOCALHOST + b"\0\1", b"\5\0\5\7"),
        (GREETING + b"\5\3\0" + LOCALHOST + b"\0\1", b"\5\0\5\7"),
        (b"\5\1\2", b"\5\xff"),
    ],
    ids=["refused", "unresolved", "bind", "udp", "login"],
)
def test_far_side_hears_what_cannot_be(said: bytes, answer: bytes) -> None:
    async def scene() -> None:
        async with far_socks([]) as socks:
            assert (await said_to(socks, said))[: len(answer)] == answer

    run(scene)


def test_what_is_no_socks_is_reset() -> None:
    async def scene() -> None:
        async with far_socks([]) as socks:
            with pytest.raises(ConnectionResetError):
                await said_to(socks, b"GET / HTTP/1.1\r\n\r\n")

    run(scene)
