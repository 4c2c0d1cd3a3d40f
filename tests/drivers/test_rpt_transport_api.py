"""Clients and servers of transports: asyncio's functions and its server, restated over RPT."""

from __future__ import annotations

import asyncio
import gc
import queue
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.drivers.rpt.stream import RPTStream
from rawproto.drivers.rpt.transport import RPTTransport
from rawproto.drivers.rpt.transport_api import (
    TransportServer,
    create_rpt_connection,
    create_rpt_server,
    create_stream_transport,
    open_rpt_connection,
    start_rpt_server,
)
from rawproto.errors import (
    LinkError,
    NotAuthorizedError,
    RefusedError,
    RemoteProtocolError,
    UsageError,
)
from rawproto.transport.config import Config
from rawproto.transport.constants import Kind
from tests.drivers.rpt_protocols import ADDRESS, BufferedRecorder, Recorder, joined, run

Keeper = partial(Recorder, keeps_open=True)


# --- readers and writers -------------------------------------------------------------------------


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_readers_and_writers_talk_in_lines_and_end_each_direction() -> None:
    async def body() -> None:
        server = await start_rpt_server(echo, ADDRESS, limit=100)
        async with server:
            reader, writer = await open_rpt_connection(str(server.address), limit=100)
            writer.writelines([b"one\n", b"two\n"])
            await writer.drain()
            assert await reader.readline() == b"one\n"
            assert await reader.readexactly(4) == b"two\n"
            assert writer.can_write_eof()
            writer.write_eof()
            assert await reader.read() == b""
            assert reader.at_eof()
            writer.close()
            await writer.wait_closed()

    run(body())


def test_drain_waits_while_the_reader_does_not_read() -> None:
    total = 20_000_000

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reading.wait()
        size = 0
        while data := await reader.read(1 << 16):
            size += len(data)
        writer.write(b"%d" % size)
        writer.close()

    async def send(writer: asyncio.StreamWriter) -> None:
        for _ in range(total // 100_000):
            writer.write(bytes(100_000))
            await writer.drain()
        writer.write_eof()

    reading = asyncio.Event()

    async def body() -> None:
        config = Config(window_bytes=1 << 18, max_window_bytes=1 << 18)
        server = await start_rpt_server(sink, ADDRESS, config=config)
        async with server:
            reader, writer = await open_rpt_connection(str(server.address), config=config)
            sending = asyncio.create_task(send(writer))
            machine = writer.get_extra_info("rpt_connection").machine
            while machine.outgoing.sent < 1 << 18:
                await asyncio.sleep(0)
            assert not sending.done()
            assert writer.transport.get_write_buffer_size() <= 200_000
            reading.set()
            assert await reader.read() == b"%d" % total
            await sending
            writer.close()
            await writer.wait_closed()

    run(body())


def test_reader_of_a_peer_that_resets_raises() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.get_extra_info("rpt_connection").abort(300, "go away")

    async def body() -> None:
        async with await start_rpt_server(rude, ADDRESS) as server:
            reader, writer = await open_rpt_connection(str(server.address))
            writer.write(b"hello\n")
            with pytest.raises(ConnectionResetError, match="go away") as caught:
                await reader.read()
            assert isinstance(caught.value.__cause__, RemoteProtocolError)
            with pytest.raises(ConnectionResetError):
                await writer.drain()
            writer.close()

    run(body())


# --- connecting ----------------------------------------------------------------------------------


def test_nobody_there_is_a_refused_connection() -> None:
    async def body() -> None:
        server = await create_rpt_server(Recorder, ADDRESS)
        server.close()
        await server.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await create_rpt_connection(Recorder, str(server.address))

    run(body())


def test_who_is_not_authorized_gets_no_protocol() -> None:
    async def body() -> None:
        server = await create_rpt_server(Recorder, ADDRESS, authorize=lambda key: False)
        transport, protocol = await create_rpt_connection(Recorder, str(server.address))
        assert isinstance(await protocol.lost(), NotAuthorizedError)
        assert transport.is_closing()
        server.close()
        await server.wait_closed()

    run(body())


@pytest.mark.parametrize("turns", [0, 1, 3, 10, 100, 1000])
def test_connecting_that_is_cancelled_leaves_nothing_behind(turns: int) -> None:
    async def body() -> None:
        async with await create_rpt_server(Recorder, ADDRESS) as server:
            task = asyncio.create_task(create_rpt_connection(Recorder, str(server.address)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(result, BaseException):
                result[0].abort()
            server.abort_clients()

    run(body())


def test_factory_that_fails_closes_the_connection_on_either_side() -> None:
    told: list[dict[str, Any]] = []

    def fail() -> Recorder:
        raise KeyError("no protocol")

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
        async with await create_rpt_server(fail, ADDRESS) as server:
            _, protocol = await create_rpt_connection(Recorder, str(server.address))
            assert isinstance(await protocol.lost(), ConnectionResetError)
            with pytest.raises(KeyError):
                await create_rpt_connection(fail, str(server.address))

    run(body())
    assert {type(each["exception"]) for each in told} == {KeyError}


def test_transport_takes_streams_of_bytes_only() -> None:
    async def body() -> None:
        config = Config(kind=Kind.SEQPACKET)
        with pytest.raises(UsageError, match="STREAM"):
            await create_rpt_connection(Recorder, "rpt+udp://127.0.0.1:9", config=config)
        with pytest.raises(UsageError, match="STREAM"):
            await create_rpt_server(Recorder, ADDRESS, config=config)

    run(body())


# --- any stream ----------------------------------------------------------------------------------


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[RPTConnection, RPTConnection]]:
    """A client's connection and its server's."""
    accepted: asyncio.Future[RPTConnection] = asyncio.get_running_loop().create_future()

    async def handler(connection: RPTConnection) -> None:
        accepted.set_result(connection)
        await connection.wait_closed()

    async with serve(ADDRESS, handler) as server, connect(str(server.address)) as connection:
        yield connection, await accepted


def test_streams_of_one_connection_are_transports_of_their_own() -> None:
    async def body() -> None:
        async with connected() as (connection, peer):
            ours = [await connection.open_stream() for _ in range(3)]
            made = [create_stream_transport(Recorder, stream) for stream in ours]
            for number, (transport, _) in enumerate(made):
                transport.write(bytes([number]) * 100_000)
                transport.write_eof()
            for number, (_, protocol) in enumerate(made):
                _, other = create_stream_transport(Keeper, await peer.accept_stream())
                await other.until(lambda other=other: "eof" in other.calls)
                assert other.data == bytes([number]) * 100_000
                other.transport.write(b"bye")
                other.transport.close()
                assert await other.lost() is None
                assert await protocol.lost() is None
                assert protocol.data == b"bye"
            assert not connection.closed
            await connection.stream.send(b"still here")
            assert await peer.stream.receive() == b"still here"

    run(body())


def test_transport_of_a_stream_lives_though_nobody_holds_it() -> None:
    async def body() -> None:
        async with connected() as (connection, _):
            create_stream_transport(Recorder, await connection.open_stream())
            gc.collect()
            ((transport, protocol),) = [
                (each, each.get_protocol())
                for stream in connection.watched
                if isinstance(each := getattr(stream.bell.watcher, "__self__", None), RPTTransport)
            ]
            assert isinstance(protocol, Recorder)
            transport.close()
            assert await protocol.lost() is None
            assert not connection.watched

    run(body())


def test_transport_of_a_stream_that_closes_wants_no_more_of_it() -> None:
    async def body() -> None:
        async with connected() as (connection, peer):
            transport, protocol = create_stream_transport(Recorder, await connection.open_stream())
            transport.write(b"all")
            other = await peer.accept_stream()
            transport.close()
            assert await protocol.lost() is None
            assert await other.receive() == b"all"
            assert await other.receive() == b""
            with pytest.raises(RemoteProtocolError):
                await flood(other)

    run(body())


async def drain(stream: RPTStream) -> None:
    while await stream.receive():
        pass


async def flood(stream: RPTStream) -> None:
    while True:
        await stream.send(bytes(1000))
        await asyncio.sleep(0)


def test_transport_of_a_stream_that_aborts_resets_it() -> None:
    async def body() -> None:
        async with connected() as (connection, peer):
            transport, protocol = create_stream_transport(Recorder, await connection.open_stream())
            transport.write(bytes(30_000_000))
            other = await peer.accept_stream()
            transport.abort()
            assert await protocol.lost() is None
            with pytest.raises(RemoteProtocolError):
                await drain(other)
            assert not connection.closed

    run(body())


def test_stream_that_goes_one_way_is_no_transport() -> None:
    async def body() -> None:
        async with connected() as (connection, _):
            stream = await connection.open_stream(one_way=True)
            with pytest.raises(UsageError, match="one way"):
                create_stream_transport(Recorder, stream)

    run(body())


# --- the server ----------------------------------------------------------------------------------


def test_server_that_closes_refuses_newcomers_and_keeps_who_is_there() -> None:
    async def body() -> None:
        async with joined(Keeper, Keeper) as pair:
            server = pair.server
            ((family, name),) = [(each.family, each.getsockname()) for each in server.sockets]
            assert (int(family), name) == (2, ("127.0.0.1", server.address.port))
            assert server.is_serving()
            assert server.get_loop() is asyncio.get_running_loop()
            await server.start_serving()
            waiting = asyncio.create_task(server.wait_closed())
            server.close()
            server.close()
            assert not server.is_serving()
            assert server.sockets == ()
            with pytest.raises(ConnectionRefusedError):
                await create_rpt_connection(Recorder, str(server.address))
            pair.transport.write(b"still here")
            await pair.peer.until(lambda: pair.peer.data == b"still here")
            assert not waiting.done()
            with pytest.raises(LinkError, match="in use"):
                await create_rpt_server(Recorder, str(server.address))
            server.close_clients()
            await waiting
            assert await pair.peer.lost() is None
            again = await create_rpt_server(Recorder, str(server.address))
            again.close()
            await again.wait_closed()

    run(body())


def test_server_serves_until_it_is_cancelled_or_closed() -> None:
    async def body() -> None:
        for end in ("cancel", "close"):
            async with await create_rpt_server(Recorder, ADDRESS) as server:
                serving = asyncio.create_task(server.serve_forever())
                await asyncio.sleep(0)
                if end == "cancel":
                    serving.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await serving
                else:
                    server.close()
                    await serving
                assert not server.is_serving()

    run(body())


def test_loop_that_ends_while_a_closed_server_waits_tells_the_clients() -> None:
    lost: list[BaseException | None] = []

    class Waiting(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            lost.append(exc)

    async def main() -> None:
        server = await create_rpt_server(Recorder, ADDRESS)
        transport, _ = await create_rpt_connection(Waiting, str(server.address))
        transport.write(b"x")
        while not server._transports:
            await asyncio.sleep(0)
        server.close()

    asyncio.run(main())
    assert [type(each) for each in lost] == [ConnectionResetError]


def test_loop_that_ends_first_delivers_what_was_written() -> None:
    got: queue.Queue[Any] = queue.Queue()
    size = 300_000
    heard = asyncio.Event()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.put(len(await reader.read()))
        writer.close()
        heard.set()

    async def listen() -> None:
        async with await start_rpt_server(hear, ADDRESS) as server:
            got.put(str(server.address))
            await heard.wait()

    async def say(address: str) -> None:
        _, writer = await open_rpt_connection(address)
        writer.write(bytes(size))
        writer.transport.abort()

    listening = threading.Thread(target=lambda: asyncio.run(listen()))
    listening.start()
    try:
        asyncio.run(say(got.get(timeout=10)))
        assert got.get(timeout=10) == size
    finally:
        listening.join(20)


def test_many_clients_come_and_go_and_nothing_is_left() -> None:
    async def talk(server: TransportServer, number: int) -> None:
        reader, writer = await open_rpt_connection(str(server.address))
        writer.write(b"%d" % number)
        writer.write_eof()
        assert await reader.read() == b"%d" % number
        writer.close()
        await writer.wait_closed()

    async def body() -> None:
        async with await start_rpt_server(echo, ADDRESS) as server:
            await asyncio.gather(*[talk(server, number) for number in range(30)])
        assert not server._transports

    run(body())


# --- what asyncio does with a transport ----------------------------------------------------------


def contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server named localhost, and for a client who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / "both.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(encoding))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_tls_can_be_started_on_a_transport(kind: type[Any], tmp_path: Path) -> None:
    at_server, at_client = contexts(tmp_path)

    async def body() -> None:
        loop = asyncio.get_running_loop()
        async with joined(kind, kind) as pair:
            here, there = await asyncio.gather(
                loop.start_tls(pair.transport, pair.client, at_client, server_hostname="localhost"),
                loop.start_tls(pair.peer.transport, pair.peer, at_server, server_side=True),
            )
            assert here is not None
            assert there is not None
            assert here.get_extra_info("ssl_object").version() == "TLSv1.3"
            assert here.get_extra_info("peername") == pair.transport.get_extra_info("peername")
            here.write(bytes(200_000))
            await pair.peer.until(lambda: len(pair.peer.data) == 200_000)
            there.write(b"thanks")
            await pair.client.until(lambda: pair.client.data == b"thanks")
            there.close()
            assert await pair.client.lost() is None
            assert await pair.peer.lost() is None

    run(body())


def test_file_can_be_sent_on_a_transport(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 10_000)

    async def body() -> None:
        config = Config(window_bytes=1 << 16, max_window_bytes=1 << 16)
        async with joined(config=config) as pair:
            with file.open("rb") as opened:
                sent = await asyncio.get_running_loop().sendfile(pair.transport, opened, 256)
            assert sent == 2_559_744
            pair.transport.close()
            assert await pair.client.lost() is None
            assert pair.peer.data == file.read_bytes()[256:]

    run(body())


def test_server_that_is_refused_its_port_leaves_nothing_behind() -> None:
    async def body() -> None:
        async with await create_rpt_server(Recorder, ADDRESS) as server:
            with pytest.raises(LinkError, match="in use"):
                await create_rpt_server(Recorder, str(server.address))
        with pytest.raises(RefusedError):
            await open_rpt_connection(str(server.address))

    run(body())
