"""An exit and an entry in one process, over loopback, and clients of the entry's doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from rawproto.apps.proxy.allow import AllowList, parse_rule
from rawproto.apps.proxy.dynamic import DynamicForward
from rawproto.apps.proxy.faults import ERRORS
from rawproto.apps.proxy.forwards import PeerWay, Tell
from rawproto.apps.proxy.http import HTTPDoor
from rawproto.apps.proxy.places import Place
from rawproto.apps.proxy.resolve import Resolve
from rawproto.apps.proxy.service import ExitService
from rawproto.apps.relay.relay import Session
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.rpc import RPCPeer

PATIENCE_S = 20
LOCAL = ("127.0.0.0/8:*",)
LOGIN = (b"ada", b"secret")

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Proxy:
    """Both doors, and the way that is behind them."""

    def __init__(self, way: PeerWay, most: int, login: tuple[bytes, bytes] | None) -> None:
        self.way = way
        self.told: list[Session] = []
        self.exit_told: list[Session] = []
        anywhere = Place("127.0.0.1", 0)
        self.doors = [
            kind(anywhere, way, self.told.append, login=login, most=most).door
            for kind in (DynamicForward, HTTPDoor)
        ]
        self.socks, self.http = [door.bound.port for door in self.doors]


@asynccontextmanager
async def exit_peer(
    rules: Sequence[str] = LOCAL,
    resolve: Resolve | None = None,
    tell: Tell = lambda session: None,
) -> AsyncIterator[RPCPeer]:
    """A client's side of a connection to an exit."""
    allow = AllowList(map(parse_rule, rules))

    async def handle(connection: RPTConnection) -> None:
        service = ExitService(allow, resolve=resolve, tell=tell)
        peer = RPCPeer(connection, service.methods, errors=ERRORS)
        await connection.wait_closed()
        await service.close()
        await peer.close()

    server = await serve("rpt+udp://127.0.0.1:0", handle)
    try:
        async with connect(str(server.address)) as connection:
            peer = RPCPeer(connection, errors=ERRORS)
            try:
                yield peer
            finally:
                await peer.close()
    finally:
        await server.close()


@asynccontextmanager
async def proxy(
    rules: Sequence[str] = LOCAL,
    resolve: Resolve | None = None,
    *,
    most: int = 50,
    login: tuple[bytes, bytes] | None = None,
) -> AsyncIterator[Proxy]:
    told: list[Session] = []
    async with exit_peer(rules, resolve, told.append) as peer:
        way = PeerWay(peer)
        made = Proxy(way, most, login)
        made.exit_told = told
        try:
            yield made
        finally:
            for door in made.doors:
                await door.close()
            await way.close()


@asynccontextmanager
async def target(talk: Talk) -> AsyncIterator[int]:
    """A TCP server: its port."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def said_to(port: int, data: bytes, *, ends: bool = True) -> bytes:
    """What a door answers to these bytes, up to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    if ends:
        writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


def run(scene: Callable[[], Awaitable[Any]]) -> Any:
    """Runs a scene, behind which no task stays, and in which none failed unheard."""
    failed: list[Any] = []

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: failed.append(what))
        before = asyncio.all_tasks()
        async with asyncio.timeout(PATIENCE_S):
            found = await scene()
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0)
        return found

    found = asyncio.run(main())
    assert failed == []
    return found
