"""RPT for coroutines, over loopback: streams, messages, datagrams, back-pressure, cancelling."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rawproto.capture import open_writer, read
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.drivers.rpt.stream import RPTStream
from rawproto.errors import ConnectionLostError, LinkError, RefusedError, RemoteProtocolError
from rawproto.transport.config import Config
from rawproto.transport.constants import Kind
from rawproto.wire.dissect import checksums, dissect
from rawproto.wire.ipv4 import IPv4Header

pytestmark = pytest.mark.live

CARRIERS = ("rpt", "rpt+udp")
Handler = Callable[[RPTConnection], Awaitable[None]]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """In a loop of its own, 60 s at most, after which nothing of it is left."""
    before = os.listdir("/proc/self/fd")

    async def bounded() -> None:
        await asyncio.wait_for(coroutine, 60)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, others

    asyncio.run(bounded())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= len(before)


@asynccontextmanager
async def joined(
    handler: Handler, *, carrier: str = "rpt", config: Config | None = None
) -> AsyncIterator[RPTConnection]:
    """A client's connection to a listener that runs `handler`."""
    listener = serve(f"{carrier}://127.0.0.1:0", handler, config=config)
    async with listener as server, connect(str(server.address), config=config) as connection:
        yield connection


async def echo(connection: RPTConnection) -> None:
    async def serve_stream(stream: RPTStream) -> None:
        async for data in stream:
            await stream.send(data)
        await stream.send_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(serve_stream(connection.stream))
        try:
            while True:
                group.create_task(serve_stream(await connection.accept_stream()))
        except ConnectionLostError:
            pass


@pytest.mark.parametrize("carrier", CARRIERS)
def test_many_streams_are_echoed_each_whole(carrier: str) -> None:
    async def body() -> None:
        async with joined(echo, carrier=carrier) as connection:

            async def ask(number: int) -> None:
                stream = await connection.open_stream()
                data = bytes([number]) * 50_000
                await stream.send(data)
                await stream.send_eof()
                assert b"".join([part async for part in stream]) == data

            await asyncio.gather(*[ask(number) for number in range(200)])
            await connection.stream.send_eof()

    run(body())


@pytest.mark.parametrize("carrier", CARRIERS)
def test_messages_keep_their_borders_and_may_be_larger_than_the_window(carrier: str) -> None:
    config = Config(kind=Kind.SEQPACKET, window_bytes=1 << 16, max_window_bytes=1 << 16)
    sizes = (0, 1, 70_000, 3, 5_000_000)

    async def handler(connection: RPTConnection) -> None:
        while (message := await connection.receive_message()) is not None:
            await connection.send_message(len(message).to_bytes(4, "big"))
        await connection.stream.send_eof()

    async def body() -> None:
        async with joined(handler, carrier=carrier, config=config) as connection:
            for size in sizes:
                await connection.send_message(bytes(size))
                assert await connection.receive_message() == size.to_bytes(4, "big")
            await connection.stream.send_eof()
            assert await connection.receive_message() is None

    run(body())


def test_message_longer_than_allowed_ends_the_connection() -> None:
    config = Config(kind=Kind.SEQPACKET, max_message_bytes=1000)
    seen: list[Exception] = []

    async def handler(connection: RPTConnection) -> None:
        try:
            await connection.receive_message()
        except RemoteProtocolError as error:
            seen.append(error)

    async def body() -> None:
        async with joined(handler, config=config) as connection:
            await connection.send_message(bytes(1001))
            await connection.wait_closed()

    with pytest.raises(RemoteProtocolError, match="longer than allowed"):
        run(body())
    assert len(seen) == 1


def test_datagrams_are_answered() -> None:
    async def handler(connection: RPTConnection) -> None:
        while True:
            connection.send_datagram(await connection.receive_datagram() + b"!")

    async def body() -> None:
        async with joined(handler, config=Config(kind=Kind.DGRAM)) as connection:
            for number in range(20):
                assert connection.send_datagram(b"%d" % number)
                assert await connection.receive_datagram() == b"%d!" % number
            assert connection.max_datagram_bytes > 1000

    run(body())


def test_slow_reader_holds_the_sender_up() -> None:
    reading = asyncio.Event()
    total = 0

    async def handler(connection: RPTConnection) -> None:
        nonlocal total
        await reading.wait()
        async for data in connection.stream:
            total += len(data)
        await connection.stream.send_eof()

    async def body() -> None:
        config = Config(window_bytes=1 << 18, max_window_bytes=1 << 18, send_buffer_bytes=1 << 18)
        async with joined(handler, config=config) as connection:
            sending = asyncio.create_task(connection.stream.send(bytes(20 << 20)))
            done, _ = await asyncio.wait({sending}, timeout=0.3)
            assert not done
            assert connection.machine.outgoing.sent <= 1 << 18
            reading.set()
            await sending
            await connection.stream.send_eof()
            assert await connection.stream.receive() == b""
        assert total == 20 << 20

    run(body())


def test_receive_that_is_cancelled_loses_nothing() -> None:
    async def handler(connection: RPTConnection) -> None:
        await connection.receive_message()
        await connection.send_message(b"late")
        await connection.receive_message()

    async def body() -> None:
        async with joined(handler, config=Config(kind=Kind.SEQPACKET)) as connection:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(connection.receive_message(), 0.02)
            await connection.send_message(b"now")
            assert await connection.receive_message() == b"late"
            await connection.send_message(b"bye")

    run(body())


def test_connect_that_is_cancelled_leaves_no_port_behind() -> None:
    async def body() -> None:
        for _ in range(20):
            with pytest.raises(TimeoutError):
                # Nobody answers: 192.0.2.0/24 is for documentation, and routed nowhere.
                await asyncio.wait_for(_connected("rpt+udp://127.0.0.1:9"), 0)

    async def _connected(address: str) -> None:
        async with connect(address):
            pass

    run(body())


def test_loop_that_ends_gives_ports_back_without_the_garbage_collector() -> None:
    async def body() -> None:
        async def greet(connection: RPTConnection) -> None:
            await connection.stream.send(b"x")
            await connection.wait_closed()

        async with serve("rpt://127.0.0.1:0", greet) as server:
            for ends in (True, False):
                connection = await connect(str(server.address))
                await connection.stream.receive()
                if ends:
                    await connection.close()

    asyncio.run(body())  # what is loaded at first use
    before = os.listdir("/proc/self/fd")
    gc.collect()
    gc.disable()
    try:
        asyncio.run(body())
        assert os.listdir("/proc/self/fd") == before
    finally:
        gc.enable()


async def drain(stream: RPTStream) -> None:
    while await stream.receive():
        pass


async def flood(stream: RPTStream) -> None:
    while True:
        await stream.send(bytes(1000))
        await asyncio.sleep(0)


def test_reset_and_stop_are_told_with_their_codes() -> None:
    async def handler(connection: RPTConnection) -> None:
        stream = await connection.accept_stream()
        assert await stream.receive(3) == b"abc"
        receiving = asyncio.create_task(drain(stream))
        await asyncio.sleep(0)
        stream.stop(7)
        await receiving
        stream.reset(9)
        await connection.wait_closed()

    async def body() -> None:
        async with joined(handler) as connection:
            stream = await connection.open_stream()
            await stream.send(b"abc")
            with pytest.raises(RemoteProtocolError) as caught:
                await flood(stream)
            assert caught.value.code == 7
            with pytest.raises(RemoteProtocolError) as caught:
                await stream.receive()
            assert caught.value.code == 9

    run(body())


def test_listener_that_leaves_tells_its_clients() -> None:
    async def body() -> None:
        server = await serve("rpt://127.0.0.1:0", echo)
        connection = await connect(str(server.address))
        await connection.stream.send(b"x")
        assert await connection.stream.receive() == b"x"
        await server.close()
        await connection.wait_closed()
        with pytest.raises(RefusedError):
            await connect(str(server.address))
        await asyncio.sleep(0.3)

    run(body())


def test_port_is_held_by_one() -> None:
    async def body() -> None:
        for carrier in CARRIERS:
            async with serve(f"{carrier}://127.0.0.1:0", echo) as server:
                with pytest.raises(LinkError, match="in use"):
                    await serve(str(server.address), echo)

    run(body())


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("carrier", CARRIERS)
def test_capture_has_every_packet_as_it_was_on_the_wire(
    carrier: str, address: str, tmp_path: Path
) -> None:
    path = tmp_path / "rpt.pcapng"

    async def body() -> None:
        with open_writer(path) as capture:
            async with (
                serve(f"{carrier}://{address}:0", echo) as server,
                connect(str(server.address), capture=capture) as connection,
            ):
                await connection.stream.send(b"hello")
                assert await connection.stream.receive() == b"hello"
                await connection.stream.send_eof()

    run(body())
    packets = list(read(path))
    assert {packet.direction for packet in packets} == {"in", "out"}
    for packet in packets:
        found = dissect(packet.data, packet.link_type)
        assert found.damage is None
        assert not [index for index, verdict in checksums(found) if verdict is False]
        layer = found.layers[0]
        protocol = layer.protocol if isinstance(layer, IPv4Header) else layer.next_header
        assert protocol == (253 if carrier == "rpt" else 17)
