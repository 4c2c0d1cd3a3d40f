"""Messages keep their borders (SOCK_SEQPACKET); datagrams find many peers (SOCK_DGRAM)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import rawproto
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import RemoteProtocolError
from rawproto.transport.config import Config
from rawproto.transport.constants import Kind
from tests.live.rpt_sockets import HOSTS, WAYS, impatient, in_thread, joined, listening, raises

pytestmark = pytest.mark.live
__all__ = ["impatient"]

Talk = Callable[[RPTConnection], Awaitable[Any]]
SEQ, DGRAM = socket.SOCK_SEQPACKET, socket.SOCK_DGRAM
SMALL = Config(window_bytes=1 << 16, max_window_bytes=1 << 16, send_buffer_bytes=1 << 16)


# --- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "proto"), WAYS)
def test_each_send_is_a_message(family: int, proto: int) -> None:
    with joined(family, proto, type=SEQ) as (client, server):
        for size in (1, 3, 70_000):
            assert client.send(b"x" * size) == size
        client.sendall(b"all of it")
        assert [len(server.recv(100_000)) for _ in range(4)] == [1, 3, 70_000, 9]
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""


def test_rest_of_a_message_is_lost_and_that_is_told() -> None:
    with joined(type=SEQ) as (client, server):
        for word in (b"truncated", b"whole", b"peeked"):
            client.send(word)
        data, _, flags, _ = server.recvmsg(5)
        assert (data, flags) == (b"trunc", socket.MSG_TRUNC | socket.MSG_EOR)
        assert server.recvmsg(5)[2] == socket.MSG_EOR
        buffer = bytearray(3)
        peeked = socket.MSG_PEEK | socket.MSG_TRUNC
        assert server.recv_into(buffer, 3, peeked) == 6
        assert buffer == b"pee"
        assert server.recv(10) == b"peeked"


def test_empty_message_is_a_message_and_no_end() -> None:
    with joined(type=SEQ) as (client, server):
        client.send(b"")
        assert server.recvmsg(1) == (b"", [], socket.MSG_EOR, None)
        client.close()
        assert server.recvmsg(1) == (b"", [], 0, None)


def test_message_larger_than_the_window_passes_whole() -> None:
    data = os.urandom(3_000_000)
    with joined(type=SEQ, config=SMALL) as (client, server):
        with in_thread(lambda: client.send(data)) as sent:
            assert server.recv(len(data)) == data
        assert sent() == len(data)
        raises(errno.EMSGSIZE, client.send, bytes((16 << 20) + 1))


def test_message_is_taken_whole_or_not_at_all() -> None:
    with joined(type=SEQ, config=SMALL) as (client, server):
        client.setblocking(False)
        sent = []
        for number in range(1000):
            try:
                assert client.send(bytes([number % 256]) * 9000) == 9000
            except BlockingIOError:
                break
            sent.append(number)
        assert 0 < len(sent) < 100
        for number in sent:
            assert server.recv(10_000) == bytes([number % 256]) * 9000
        raises(errno.EAGAIN, server.recv, 1, socket.MSG_DONTWAIT)


def test_kinds_that_differ_do_not_meet() -> None:
    with listening(type=SEQ) as listener, rawproto.socket() as client:
        client.settimeout(10)
        error = raises(errno.ECONNRESET, client.connect, listener.getsockname())
        assert "kind" in str(error)


# --- who speaks to a socket without being one ---


def spoken_to(sock: rawproto.RPTSocket, config: Config, talk: Talk) -> Any:
    """What comes of a talk with a socket that listens, by who is no socket."""

    async def connect() -> Any:
        host, port = sock.getsockname()[:2]
        async with rawproto.connect(f"rpt://{host}:{port}", config=config) as connection:
            assert await connection.stream.receive() != b""
            await asyncio.sleep(0.2)  # or what else is under way takes the answer along
            async with asyncio.timeout(5):
                return await talk(connection)

    return asyncio.run(connect())


async def open_second_stream(connection: RPTConnection) -> int:
    stream = await connection.open_stream()
    await stream.send(b"second")
    while stream.stopped_by is None:
        await asyncio.sleep(0.01)
    return stream.stopped_by.code


async def send_too_much(connection: RPTConnection) -> None:
    await connection.stream.send(b"\xff\xff\xff\xff and more")
    await connection.wait_closed()
    connection.check()


def test_second_stream_is_stopped_at_once() -> None:
    with (
        listening() as listener,
        in_thread(lambda: spoken_to(listener, Config(), open_second_stream)) as code,
        listener.accept()[0] as server,
    ):
        server.send(b"there is one stream")
        assert server.recv(100) == b""
        assert code() == 256


def test_message_that_is_too_long_ends_the_connection_though_nobody_reads_it() -> None:
    config = Config(kind=Kind.SEQPACKET)
    with (
        listening(type=SEQ) as listener,
        in_thread(lambda: spoken_to(listener, config, send_too_much)) as ended,
        listener.accept()[0] as server,
    ):
        server.fileno()  # so it is looked at whoever pumps
        server.send(b"say something")
        with pytest.raises(RemoteProtocolError, match="longer than allowed"):
            ended()
        raises(errno.ECONNRESET, server.recv, 100)


# --- datagrams -----------------------------------------------------------------------------------


def receiver(family: int = socket.AF_INET, proto: int = 0) -> rawproto.RPTSocket:
    sock = rawproto.create_server((HOSTS[family], 0), family=family, type=DGRAM, proto=proto)
    sock.settimeout(10)
    return sock


@pytest.mark.parametrize(("family", "proto"), WAYS)
def test_first_datagram_shakes_hands_and_answers_go_back(family: int, proto: int) -> None:
    with receiver(family, proto) as server, rawproto.socket(family, DGRAM, proto) as client:
        client.settimeout(10)
        for word in (b"one", b"two"):
            assert client.sendto(word, server.getsockname()) == 3
            data, address = server.recvfrom(100)
            assert (data, address[1]) == (word, client.getsockname()[1])
            server.sendto(word.upper(), address)
            assert client.recvfrom(100) == (word.upper(), server.getsockname())


def test_one_socket_has_many_peers_and_tells_them_apart() -> None:
    with receiver() as server:
        clients = [rawproto.socket(type=DGRAM) for _ in range(6)]
        for number, client in enumerate(clients):
            client.settimeout(10)
            client.sendto(b"%d" % number, server.getsockname())
        seen = dict(server.recvfrom(10) for _ in clients)
        assert sorted(seen) == [b"%d" % number for number in range(6)]
        for word, address in seen.items():
            server.sendto(word * 2, address)
        for number, client in enumerate(clients):
            assert client.recv(10) == b"%d" % number * 2
            client.close()


def test_connected_socket_hears_one_peer_alone_and_needs_no_address() -> None:
    with receiver() as server, receiver() as other, receiver() as client:
        raises(errno.EDESTADDRREQ, client.send, b"x")
        raises(errno.ENOTCONN, client.getpeername)
        client.connect(server.getsockname())
        assert client.getpeername() == server.getsockname()
        client.send(b"mine")
        data, address = server.recvfrom(10)
        assert data == b"mine"
        other.sendto(b"a stranger's", client.getsockname())
        other.sendto(b"to the server", server.getsockname())
        assert server.recv(100) == b"to the server"
        server.sendto(b"for me", address)
        assert client.recv(100) == b"for me"


def test_datagram_sent_just_before_close_arrives() -> None:
    with receiver() as server:
        client = rawproto.socket(type=DGRAM)
        client.sendto(b"farewell", server.getsockname())
        client.close()
        assert server.recv(100) == b"farewell"


def test_datagram_that_comes_together_with_the_end_is_read() -> None:
    with receiver() as server, rawproto.socket(type=DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"hello", server.getsockname())
        _, address = server.recvfrom(100)
        with client._end.pump.lock:  # it takes in nothing meanwhile
            server.sendto(b"bye", address)
            server.close()
        assert client.recv(100) == b"bye"


def test_sixty_four_wait_for_the_handshake_and_no_more() -> None:
    silent = socket.socket(socket.AF_INET, DGRAM)
    with silent, rawproto.socket(type=DGRAM, proto=socket.IPPROTO_UDP) as client:
        silent.bind(("127.0.0.1", 0))
        client.setblocking(False)
        for _ in range(64):
            client.sendto(b"x", silent.getsockname())
        raises(errno.EAGAIN, client.sendto, b"x", silent.getsockname())


def test_refusal_is_told_to_who_is_connected_alone() -> None:
    with receiver() as connected, receiver() as free:
        connected.connect(("127.0.0.1", 4999))
        connected.send(b"x")
        raises(errno.ECONNREFUSED, connected.recv, 1)
        free.sendto(b"x", ("127.0.0.1", 4999))
        free.settimeout(0.1)
        with pytest.raises(TimeoutError):
            free.recv(1)


def test_datagram_too_large_for_a_packet_is_refused_and_long_ones_are_cut() -> None:
    with receiver() as server, rawproto.socket(type=DGRAM) as client:
        raises(errno.EMSGSIZE, client.sendto, bytes(1164), server.getsockname())
        client.sendto(bytes(1163), server.getsockname())
        data, _, flags, _ = server.recvmsg(1000)
        assert (len(data), flags) == (1000, socket.MSG_TRUNC)
        raises(errno.EOPNOTSUPP, server.listen)
        raises(errno.EOPNOTSUPP, server.accept)
