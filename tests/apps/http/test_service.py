"""An application's life around its connections, over RPT on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rawproto.apps.http.service import Exchange, HTTPService, StartError
from rawproto.drivers.rpt.coroutines import Server, serve
from rawproto.drivers.rpt.transport_api import open_rpt_connection
from rawproto.transport.config import Config

Told = list[str]


class App:
    """Writes down what it is asked; a request for /slow waits until it is let go."""

    def __init__(self, *, fails: bool = False) -> None:
        self.heard: Told = []
        self.scopes: list[dict[str, Any]] = []
        self.go = asyncio.Event()
        self.fails = fails

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                self.heard.append(kind)
                if self.fails:
                    await send({"type": "lifespan.startup.failed", "message": "no database"})
                    return
                scope["state"]["mine"] = "kept"
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        self.scopes.append(scope)
        self.heard.append(scope["path"])
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            self.heard.append((await receive())["type"])
            return
        if scope["path"] == "/slow":
            await self.go.wait()
        if scope["path"] == "/broken":
            raise ZeroDivisionError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})
        if scope["path"] == "/later":
            await asyncio.sleep(0.05)
            self.heard.append("background")


async def asked(address: object, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await open_rpt_connection(str(address))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    return reader, writer


async def answered(reader: asyncio.StreamReader) -> bytes:
    return (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]


def scene(
    play: Callable[[App, Server, HTTPService], Awaitable[None]],
    tell: Callable[[Exchange], None] | None = None,
    *,
    fails: bool = False,
) -> App:
    """An application that is served while `play` runs; then SIGTERM's grace is two seconds."""

    async def run() -> App:
        app = App(fails=fails)
        service = HTTPService(app, grace_s=2.0, tell=tell)
        server = await serve(
            "rpt+udp://127.0.0.1:0", service.carry, config=Config(max_streams=1), life=service
        )
        assert isinstance(server, Server)
        try:
            await play(app, server, service)
        finally:
            await server.close(2.0)
        return app

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_application_hears_of_its_start_before_all_and_of_its_end_after_all() -> None:
    async def play(app: App, server: Server, service: HTTPService) -> None:
        assert app.heard == ["lifespan.startup"]
        reader, writer = await asked(server.address, "/")
        assert await answered(reader) == b"HTTP/1.1 200 OK"
        writer.close()
        await writer.wait_closed()

    assert scene(play).heard == ["lifespan.startup", "/", "lifespan.shutdown"]


def test_application_that_does_not_start_is_not_served() -> None:
    async def play(app: App, server: Server, service: HTTPService) -> None:
        raise AssertionError

    with pytest.raises(StartError):
        scene(play, fails=True)


def test_application_is_told_who_asks() -> None:
    async def play(app: App, server: Server, service: HTTPService) -> None:
        reader, writer = await asked(server.address, "/a?b")
        await answered(reader)
        writer.close()
        await writer.wait_closed()

    (scope,) = scene(play).scopes
    assert scope["client"][0] == "127.0.0.1"
    assert len(scope["state"]["rpt_peer_key"]) == 32
    assert scope["state"]["mine"] == "kept"
    assert (scope["path"], scope["query_string"]) == ("/a", b"b")


def test_header_that_names_another_client_is_not_believed() -> None:
    async def play(app: App, server: Server, service: HTTPService) -> None:
        reader, writer = await open_rpt_connection(str(server.address))
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
        await answered(reader)
        writer.close()
        await writer.wait_closed()

    (scope,) = scene(play).scopes
    assert scope["client"][0] == "127.0.0.1"


def test_end_closes_idle_connections_at_once_and_lets_others_answer() -> None:
    async def play(app: App, server: Server, service: HTTPService) -> None:
        idle, idle_writer = await asked(server.address, "/")
        await answered(idle)
        slow, slow_writer = await asked(server.address, "/slow")
        while "/slow" not in app.heard:
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(server.close(10.0))
        assert await idle.read() == b"done\r\n0\r\n\r\n" or idle.at_eof()
        assert not closing.done()
        app.go.set()
        assert await answered(slow) == b"HTTP/1.1 200 OK"
        await closing
        for writer in (idle_writer, slow_writer):
            writer.close()

    assert scene(play).heard[-1] == "lifespan.shutdown"


def test_end_leaves_a_websocket_alone_that_is_closing_and_closes_all_others() -> None:
    # uvicorn 0.54 sends such a one a second close, and websockets refuses.
    async def play(app: App, server: Server, service: HTTPService) -> None:
        idle, idle_writer = await asked(server.address, "/")
        await answered(idle)
        reader, writer = await open_rpt_connection(str(server.address))
        writer.write(
            b"GET /socket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22 + b"==\r\n\r\n"
        )
        assert await answered(reader) == b"HTTP/1.1 101 Switching Protocols"
        writer.write(b"\x88\x80" + bytes(4))  # close, by RFC 6455, section 5.5.1
        while "websocket.disconnect" not in app.heard:  # told together with the answer
            await asyncio.sleep(0)
        assert len(service._server.server_state.connections) == 2  # the peer does not know yet
        service.ending()
        assert await reader.read() == b"\x88\x00"
        assert await idle.read() == b"4\r\ndone\r\n0\r\n\r\n"
        for each in (idle_writer, writer):
            each.close()

    scene(play)


def test_background_tasks_end_before_the_application_does() -> None:
    async def play(app: App, server: Server, service: HTTPService) -> None:
        reader, writer = await asked(server.address, "/later")
        await answered(reader)
        writer.close()
        await writer.wait_closed()

    assert scene(play).heard == ["lifespan.startup", "/later", "background", "lifespan.shutdown"]


def test_each_exchange_is_told() -> None:
    told: list[Exchange] = []

    async def play(app: App, server: Server, service: HTTPService) -> None:
        reader, writer = await asked(server.address, "/a?b=%20")
        await answered(reader)
        reader2, writer2 = await asked(server.address, "/broken")
        assert await answered(reader2) == b"HTTP/1.1 500 Internal Server Error"
        writer.write(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n")
        await reader.readuntil(b"done\r\n0\r\n\r\n")
        assert await answered(reader) == b"HTTP/1.1 200 OK"
        for each in (writer, writer2):
            each.close()
            await each.wait_closed()

    scene(play, told.append)
    found = [(each.method, each.target, each.status, each.body_bytes) for each in told]
    assert found == [
        ("GET", "/a?b=%20", 200, 4), ("GET", "/broken", 500, 0), ("HEAD", "/a", 200, 0),
    ]  # fmt: skip
    assert {each.peer_addr for each in told} == {"127.0.0.1"}
    assert all(len(each.peer_key) == 32 and each.duration_s >= 0 for each in told)
