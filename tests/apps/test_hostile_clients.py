"""Clients that mean harm, against each server, while an honest one is served: all over loopback.

A server has to stay what it was: the honest client gets what it came for, and once the other is
gone nothing of it is left, no task and no stream.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest

from rawproto.apps.chat.hub import Hub
from rawproto.apps.chat.service import ERRORS as CHAT_ERRORS
from rawproto.apps.chat.service import ChatService
from rawproto.apps.chat.store import Store
from rawproto.apps.files.beneath import Root
from rawproto.apps.files.client import FileClient
from rawproto.apps.files.service import FileService
from rawproto.apps.http.service import HTTPService
from rawproto.apps.http.site import Site
from rawproto.apps.proxy.allow import AllowList, parse_rule
from rawproto.apps.proxy.channels import opened
from rawproto.apps.proxy.service import ExitService
from rawproto.apps.relay.ends import parse_end
from rawproto.apps.relay.openers import Doors, Listening, opener
from rawproto.apps.relay.relay import Relay
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.drivers.rpt.stream import RPTStream
from rawproto.errors import ConnectionLostError, ProtocolError, RemoteProtocolError
from rawproto.rpc import Method, RPCPeer
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode

OVER = (ConnectionLostError, ProtocolError)
PATIENCE_S = 20
LONG_ENOUGH_S = 0.5
"""For a client that is held back: nothing tells that it will be for ever."""
STREAMS = 10_000
ADDRESS = "rpt+udp://127.0.0.1:0"

Honest = Callable[[RPTConnection], Awaitable[None]]
Hostile = Callable[[RPTConnection], Awaitable[None]]
Server = Callable[[Path], AbstractAsyncContextManager[tuple[str, Honest]]]


# --- servers, and what an honest client wants of each -----------------------------------------


@asynccontextmanager
async def calls(methods: Callable[[RPTConnection], dict[str, Method]]) -> AsyncIterator[str]:
    async def handle(connection: RPTConnection) -> None:
        peer = RPCPeer(connection, methods(connection))
        await connection.wait_closed()
        await peer.close()

    server = await serve(ADDRESS, handle)
    try:
        yield str(server.address)
    finally:
        await server.close()


@asynccontextmanager
async def chat(tmp_path: Path) -> AsyncIterator[tuple[str, Honest]]:
    store = Store(None)
    hub = Hub(store)

    async def honest(connection: RPTConnection) -> None:
        peer = RPCPeer(connection, errors=CHAT_ERRORS)
        params = {"room": "lobby", "nick": "ada", "history": 0}
        async with peer.open("join", params) as call:
            while (await anext(call))["kind"] != "here":
                pass
            await peer.call("say", {"room": "lobby", "text": "hello", "id": os.urandom(8).hex()})
            assert (await anext(call))["text"] == "hello"
        await peer.close()

    async with calls(lambda each: ChatService(hub, store, each.peer_key).methods) as address:
        yield address, honest
    hub.close()


@asynccontextmanager
async def files(tmp_path: Path) -> AsyncIterator[tuple[str, Honest]]:
    (tmp_path / "file").write_bytes(b"what it came for")
    root = Root(str(tmp_path))
    service = FileService(root, writable=True)

    async def honest(connection: RPTConnection) -> None:
        async with FileClient(connection) as client:
            told = [entry.path async for some in client.entries("") for entry in some]
            assert told == ["", "file"]

    async with calls(lambda each: service.methods) as address:
        yield address, honest
    root.close()


@asynccontextmanager
async def relay(tmp_path: Path) -> AsyncIterator[tuple[str, Honest]]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(await reader.read())
            await writer.drain()
        writer.close()

    async def listen(
        address: str, datagrams: bool, handle: Callable[[RPTConnection], Awaitable[None]]
    ) -> Listening:
        return await serve(address, handle)

    async def no_connection(address: str, datagrams: bool) -> RPTConnection:
        raise AssertionError

    async def honest(connection: RPTConnection) -> None:
        await connection.stream.send(b"there and back")
        await connection.stream.send_eof()
        assert b"".join([data async for data in connection.stream]) == b"there and back"

    def no_tls() -> None:
        raise AssertionError

    behind = await asyncio.start_server(echo, "127.0.0.1", 0)
    doors = Doors(connect=no_connection, listen=listen, tls_client=no_tls, tls_server=no_tls)  # type: ignore[arg-type]
    near = await opener(parse_end("rpt+udp-listen:127.0.0.1:0"), doors, datagrams=False)
    port = behind.sockets[0].getsockname()[1]
    far = await opener(parse_end(f"tcp:127.0.0.1:{port}"), doors, datagrams=False)
    relaying = Relay(near, far, lambda session: None)
    running = asyncio.create_task(relaying.run())
    yield near.name.replace("rpt+udp-listen:", "rpt+udp://"), honest
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await relaying.close(0)
    behind.close()
    await behind.wait_closed()


@asynccontextmanager
async def proxy(tmp_path: Path) -> AsyncIterator[tuple[str, Honest]]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(await reader.read())
            await writer.drain()
        writer.close()

    behind = await asyncio.start_server(echo, "127.0.0.1", 0)
    params = {"host": "127.0.0.1", "port": behind.sockets[0].getsockname()[1]}
    allow = AllowList([parse_rule("127.0.0.1:*")])

    async def honest(connection: RPTConnection) -> None:
        peer = RPCPeer(connection)
        async with opened(peer, params, "echo", PATIENCE_S) as channel:
            await channel.send(b"there and back")
            await channel.send_eof()
            assert await channel.receive() == b"there and back"
            assert await channel.receive() is None
            await channel.close()
        await peer.close()

    async with calls(lambda each: ExitService(allow).methods) as address:
        yield address, honest
    behind.close()
    await behind.wait_closed()


@asynccontextmanager
async def http(tmp_path: Path) -> AsyncIterator[tuple[str, Honest]]:
    (tmp_path / "file").write_bytes(b"what it came for")
    root = Root(str(tmp_path))
    service = HTTPService(Site(root), lifespan=False)

    async def honest(connection: RPTConnection) -> None:
        await connection.stream.send(b"GET /file HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        answer = b"".join([data async for data in connection.stream])
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.endswith(b"what it came for")

    server = await serve(ADDRESS, service.carry, config=Config(max_streams=1), life=service)
    yield str(server.address), honest
    await server.close()
    root.close()


# --- what the others do -----------------------------------------------------------------------


async def stall(connection: RPTConnection) -> None:
    """Begins a message on each stream that it may open, and never ends one."""
    for _ in range(127):
        stream = await connection.open_stream()
        await stream.send(b"\0\0\1\0{")
    await connection.stream.send(b"\0\0")


async def flood(connection: RPTConnection) -> None:
    """Sends on all streams as much as is taken, and reads nothing."""

    async def pour(stream: RPTStream) -> None:
        for _ in range(200):
            await stream.send(b"\0\0\x40\0\1" + b"[" * 0x3FFF)

    streams = [connection.stream, *[await connection.open_stream() for _ in range(20)]]
    await asyncio.gather(*map(pour, streams))


async def garbage(connection: RPTConnection) -> None:
    """Sends what is no message, no JSON, no request, on stream after stream."""
    rng = random.Random(7)
    pieces = [rng.randbytes(rng.randrange(1, 300)) for _ in range(40)]
    pieces += [b"\0\0\0\2" + bytes([kind]) + b"{" for kind in range(256)]
    pieces += [b"\0\0\x40\0\0" + b"[" * 0x3FFF, b'\0\0\0\3\0""', b"\0\0\0\0", b"\xff\xff\xff\xff"]
    rng.shuffle(pieces)
    for piece in pieces:
        stream = await connection.open_stream()
        await stream.send(piece)
        await stream.send_eof()
        stream.stop()


async def half_close_all(connection: RPTConnection) -> None:
    """Ends its side of each stream at once, and waits for what the others say."""
    await connection.stream.send_eof()
    for _ in range(127):
        await (await connection.open_stream()).send_eof()


async def come_and_go(connection: RPTConnection) -> None:
    """10,000 streams, each given up as soon as it is open."""
    for _ in range(STREAMS):
        stream = await connection.open_stream()
        stream.reset()
        stream.stop()


async def too_many(connection: RPTConnection) -> None:
    """1,000 streams at once, whatever it may."""
    connection.machine.streams._may_open = [1000, 1000]
    for _ in range(999):
        await (await connection.open_stream()).send(b"\0")
    await connection.wait_closed()


SERVERS = (chat, files, http, proxy, relay)
HOSTILE = (stall, flood, garbage, half_close_all, come_and_go, too_many)


@pytest.mark.parametrize("server", SERVERS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda each: each.__name__)
def test_others_are_served_and_nothing_stays(
    server: Server, hostile: Hostile, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with asyncio.timeout(PATIENCE_S), server(tmp_path) as (address, honest):
            await visit(address, honest)
            before = {task.get_name() for task in asyncio.all_tasks()}
            with suppress(*OVER):
                async with connect(address) as theirs:
                    harm = asyncio.create_task(hostile(theirs))
                    await asyncio.wait({harm}, timeout=LONG_ENOUGH_S)  # it may be held back
                    await visit(address, honest)
                    harm.cancel()
                    await asyncio.gather(harm, return_exceptions=True)
                    theirs.abort()
            while {task.get_name() for task in asyncio.all_tasks()} - before:
                await asyncio.sleep(0.01)  # nobody tells that a server has forgotten a client

    asyncio.run(scene())


async def visit(address: str, honest: Honest) -> None:
    async with connect(address, static=bytes(31) + b"1") as connection:
        await honest(connection)


def test_ten_thousand_streams_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            chat(tmp_path) as (address, honest),
            connect(address) as connection,
        ):
            await come_and_go(connection)
            assert len(connection.machine.streams.by_id) < 200
            await honest(connection)

    asyncio.run(scene())


def test_more_streams_at_once_than_allowed_end_the_connection(tmp_path: Path) -> None:
    async def scene() -> None:
        async with asyncio.timeout(PATIENCE_S), chat(tmp_path) as (address, _):
            connection = await connect(address)
            with suppress(RemoteProtocolError):
                await too_many(connection)
            assert isinstance(connection.error, RemoteProtocolError)
            assert connection.error.code == CloseCode.STREAMS

    asyncio.run(scene())
