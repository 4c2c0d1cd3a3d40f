"""What a connection can make uvicorn's protocols hold, over RPT on loopback."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rawproto.apps.http.bounds import MOST_HEAD_BYTES
from rawproto.apps.http.service import HTTPService
from rawproto.drivers.rpt.coroutines import Server, serve
from rawproto.drivers.rpt.transport_api import open_rpt_connection
from rawproto.transport.config import Config

PARSERS = ("h11", "httptools")
UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TRAILER = b"a: b\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers at once, whatever is still to come; tells messages back."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        return
    headers = [(b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"done"})


def scene(
    parser: str, play: Callable[[HTTPService, Streams], Awaitable[None]], served: Any = app
) -> None:
    """A client of the application; `play` is what it does."""

    async def run() -> None:
        service = HTTPService(served, parser=parser, lifespan=False)
        server = await serve(
            "rpt+udp://127.0.0.1:0", service.carry, config=Config(max_streams=1), life=service
        )
        assert isinstance(server, Server)
        reader, writer = await open_rpt_connection(str(server.address))
        try:
            await play(service, (reader, writer))
        finally:
            writer.transport.abort()
            await server.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def protocol_of(service: HTTPService) -> Any:
    (protocol,) = service._server.server_state.connections
    return protocol


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"GET /", b"a" * 50),
        (b"GET / HTTP/1.1\r\nHost: h\r\n", b"a: b\r\n" * 5),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: ", b"a" * 50),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: h\r\n\r\n0\r\n", TRAILER),
    ],
)
def test_head_or_trailer_without_end_is_not_taken_in(
    first: bytes, then: bytes, parser: str
) -> None:
    async def play(service: HTTPService, streams: Streams) -> None:
        reader, writer = streams
        writer.write(first + then * (3 * MOST_HEAD_BYTES // len(then)))
        try:
            said = await reader.read()
        except ConnectionResetError:  # what comes behind its last answer h11 has no other for
            assert (parser, then) == ("h11", TRAILER)
        else:
            assert said.endswith(b"\r\n\r\nInvalid HTTP request received.")

    scene(parser, play)


@pytest.mark.parametrize("parser", PARSERS)
def test_long_head_of_a_body_in_many_parts_is_taken_in(parser: str) -> None:
    async def play(service: HTTPService, streams: Streams) -> None:
        reader, writer = streams
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX: ")
        writer.write(b"x" * 10_000 + b"\r\n\r\n" + b"1\r\na\r\n" * 100_000)
        writer.write(b"0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 2

    scene(parser, play)


@pytest.mark.parametrize("parser", PARSERS)
def test_pipeline_is_read_as_it_is_answered(parser: str) -> None:
    """One request that waits takes a hundred times its bytes."""
    request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    count = 5000
    waited: list[int] = []
    services: list[HTTPService] = []

    async def play(service: HTTPService, streams: Streams) -> None:
        services.append(service)
        reader, writer = streams
        writer.write(
            request * (count - 1) + request.replace(b"h\r\n", b"h\r\nConnection: close\r\n")
        )
        assert (await reader.read()).count(b"HTTP/1.1 200 OK") == count

    async def noting(scope: dict[str, Any], receive: Any, send: Any) -> None:
        waited.append(len(getattr(protocol_of(services[0]), "pipeline", ())))
        await app(scope, receive, send)

    scene(parser, play, noting)
    assert len(waited) == count
    assert max(waited) < 1000


def frame(opcode: int, data: bytes, fin: bool = True) -> bytes:
    """A websocket's frame as a client sends it, masked with zeros."""
    return bytes([opcode | fin << 7, 0x80 | len(data)]) + bytes(4) + data


def test_websocket_message_of_many_fragments_is_kept_in_one() -> None:
    async def play(service: HTTPService, streams: Streams) -> None:
        reader, writer = streams
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        for first in (b"x", b"y"):
            writer.write(frame(2, first, fin=False) + frame(0, b"a", fin=False) * 20_000)
            while len(getattr(protocol_of(service), "_rest", b"")) < 20_000:
                await asyncio.sleep(0.001)
            assert protocol_of(service).frames == [first]
            writer.write(frame(0, b"", fin=False) + frame(0, b"z"))
            head = await reader.readexactly(4)
            (size,) = struct.unpack(">H", head[2:])
            assert await reader.readexactly(size) == first + b"a" * 20_000 + b"z"

    scene("h11", play)


def test_pings_are_not_all_answered_to_who_reads_nothing() -> None:
    async def play(service: HTTPService, streams: Streams) -> None:
        reader, writer = streams
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        count = 40_000
        pings = [frame(9, b"%08d" % number + b"p" * 100) for number in range(count)]
        for at in range(0, count, 1000):  # by 4 MB, more than all windows and buffers
            writer.write(b"".join(pings[at : at + 1000]))
            await writer.drain()
        protocol = protocol_of(service)
        last = b"%08d" % (count - 1)
        while last not in protocol._pong:
            await asyncio.sleep(0.001)
        assert protocol.transport.get_write_buffer_size() < 100_000
        pongs = 0
        while not (await reader.readexactly(110))[2:].startswith(last):
            pongs += 1
        assert pongs < count - 1

    scene("h11", play)
