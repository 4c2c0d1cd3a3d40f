"""HTTP and WebSocket libraries, unmodified, between two hosts: uvicorn, httpcore, aiohttp,
websockets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpcore
import pytest
import uvicorn
import websockets
from aiohttp import web

from rawproto import lab
from rawproto.drivers.rpt.httpcore import RPTBackend
from tests.live.frameworks import CABLES, PORT, SIZE, adapters, cable_of, run, serving

pytestmark = pytest.mark.live

BODY = os.urandom(SIZE)
CLIENT = "10.99.1.1"
LOOP = adapters("class RPTLoop").RPTLoop


@pytest.fixture(scope="module", params=list(CABLES))
def cable(request: pytest.FixtureRequest) -> Iterator[lab.Network]:
    with cable_of(request.param) as network:
        yield network


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application: who asks, his own body back, a large one, an echo of messages."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{kind}"
            await send({"type": f"lifespan.{kind}.complete"})
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            said = {name: message[name] for name in ("text", "bytes") if message.get(name)}
            await send({"type": "websocket.send", **said})
        return
    await send({"type": "http.response.start", "status": 200})
    if scope["path"] == "/":
        await send({"type": "http.response.body", "body": scope["client"][0].encode()})
        return
    more = True
    while more:
        request = await receive()
        more = request["more_body"]
        await send({"type": "http.response.body", "body": request["body"], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_uvicorns_protocol_classes_answer_httpcore(http: str, cable: lab.Network) -> None:
    serve_asgi = adapters("async def serve_asgi").serve_asgi

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        address = f"rpt://0.0.0.0:{PORT}"
        async with serving(await serve_asgi(app, address, http=http, log_level="error")):
            yield

    async def body() -> None:
        url = f"http://{cable.host('h2').ipv4}:{PORT}"
        async with httpcore.AsyncConnectionPool(network_backend=RPTBackend()) as pool:
            assert (await pool.request("GET", f"{url}/")).content == CLIENT.encode()
            answer = await pool.request("POST", f"{url}/echo", content=BODY)
            assert answer.content == BODY
            assert len(pool.connections) == 1  # it was kept
            asked = [pool.request("GET", f"{url}/") for _ in range(10)]
            assert {each.content for each in await asyncio.gather(*asked)} == {CLIENT.encode()}

    run(cable, server, body)


def test_httpcore_tells_failures_in_its_own_words(cable: lab.Network) -> None:
    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        yield

    async def body() -> None:
        pool = httpcore.AsyncConnectionPool(network_backend=RPTBackend("rpt+udp"))
        url = f"http://{cable.host('h2').ipv4}:{PORT}/"
        with pytest.raises(httpcore.ConnectError):
            await pool.request("GET", url)
        with pytest.raises(httpcore.ConnectTimeout):
            await pool.request("GET", url, extensions={"timeout": {"connect": 0.0}})

    run(cable, server, body)


def test_whole_uvicorn_serves_websockets_by_an_event_loop_that_knows_rpt(
    cable: lab.Network,
) -> None:
    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        ws = "websockets-sansio"  # the other one is deprecated by websockets
        config = uvicorn.Config(app, "rpt://0.0.0.0", PORT, ws=ws, log_level="error")
        whole = uvicorn.Server(config)
        running = asyncio.create_task(whole._serve())  # `serve` would take the signals
        while not whole.started:
            assert not running.done()
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            # At one that is still closing uvicorn 0.54 fails, over TCP too: it says it twice.
            while whole.server_state.connections:
                await asyncio.sleep(0.01)
            whole.should_exit = True
            await running

    async def body() -> None:
        host = f"rpt://{cable.host('h2').ipv4}"
        async with websockets.connect("ws://h2/", host=host, port=PORT) as websocket:
            await websocket.send("words")
            assert await websocket.recv() == "words"
            await websocket.send(BODY)
            assert await websocket.recv() == BODY
            assert websocket.remote_address == (cable.host("h2").ipv4, PORT)
        assert websocket.close_code == 1000

    run(cable, server, body, LOOP)


def test_websockets_serves_its_own_clients(cable: lab.Network) -> None:
    async def echo(websocket: websockets.ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(message)

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        async with websockets.serve(echo, "rpt://0.0.0.0", PORT):
            yield

    async def talk(number: int) -> None:
        host = f"rpt://{cable.host('h2').ipv4}"
        async with websockets.connect("ws://h2/", host=host, port=PORT) as websocket:
            for size in (1, 1000, 100_000):
                await websocket.send(BODY[number:size])
                assert await websocket.recv() == BODY[number:size]
            await (await websocket.ping())

    async def body() -> None:
        await asyncio.gather(*[talk(number) for number in range(5)])

    run(cable, server, body, LOOP)


def test_aiohttp_serves_its_own_client(cable: lab.Network, tmp_path: Path) -> None:
    adapter = adapters("class RPTConnector")
    (tmp_path / "large").write_bytes(BODY)

    async def who(request: web.Request) -> web.Response:
        return web.Response(text=str(request.remote))

    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for part in request.content.iter_any():
            await response.write(part)
        return response

    async def messages(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_bytes(message.data)
        return websocket

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        site = web.Application()
        site.router.add_get("/", who)
        site.router.add_post("/echo", echo)
        site.router.add_get("/messages", messages)
        site.router.add_static("/files", tmp_path)
        runner, listener = await adapter.serve_web(site, f"rpt://0.0.0.0:{PORT}")
        async with serving(listener):
            try:
                yield
            finally:
                listener.close()
                await runner.cleanup()

    async def body() -> None:
        url = f"http://{cable.host('h2').ipv4}:{PORT}"
        async with aiohttp.ClientSession(url, connector=adapter.RPTConnector()) as session:
            async with session.get("/") as answer:
                assert await answer.text() == CLIENT
            async with session.post("/echo", data=BODY) as answer:
                assert await answer.read() == BODY
            async with session.get("/files/large") as answer:  # by sendfile
                assert await answer.read() == BODY
            part = {"Range": "bytes=10-19"}
            async with session.get("/files/large", headers=part) as answer:
                assert (answer.status, await answer.read()) == (206, BODY[10:20])
            async with session.ws_connect("/messages") as websocket:
                await websocket.send_bytes(BODY)
                assert await websocket.receive_bytes() == BODY

    run(cable, server, body)


def test_aiohttp_tells_that_nobody_is_there(cable: lab.Network) -> None:
    connector = adapters("class RPTConnector").RPTConnector

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        yield

    async def body() -> None:
        async with aiohttp.ClientSession(connector=connector()) as session:
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(f"http://{cable.host('h2').ipv4}:{PORT}/")

    run(cable, server, body)
