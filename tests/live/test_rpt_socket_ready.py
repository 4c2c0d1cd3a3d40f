"""A socket's descriptor is as ready as the socket: for select, poll, epoll, selectors."""

from __future__ import annotations

import errno
import select
import selectors
import socket

import pytest

import rawproto
from rawproto.transport.config import Config
from tests.live.rpt_sockets import UDP, impatient, in_thread, joined, listening, raises

pytestmark = pytest.mark.live
__all__ = ["impatient"]

SMALL = Config(window_bytes=1 << 16, max_window_bytes=1 << 16, send_buffer_bytes=1 << 16)


def ready(sock: rawproto.RPTSocket, seconds: float = 0) -> tuple[bool, bool]:
    """Whether it is readable, and writable."""
    readable, writable, _ = select.select([sock], [sock], [], seconds)
    return bool(readable), bool(writable)


def until_readable(sock: rawproto.RPTSocket) -> None:
    assert select.select([sock], [], [], 10)[0]


def fill(sock: rawproto.RPTSocket) -> int:
    """Sends until that would block: how many bytes."""
    sock.setblocking(False)
    sent = 0
    while True:
        try:
            sent += sock.send(bytes(1 << 15))
        except BlockingIOError:
            return sent


def test_readable_is_who_would_not_block_in_recv() -> None:
    with joined() as (client, server):
        assert ready(client) == (False, True)
        server.send(b"ab")
        until_readable(client)
        assert client.recv(1) == b"a"
        assert ready(client) == (True, True)
        assert client.recv(1) == b"b"
        assert ready(client) == (False, True)
        raises(errno.EAGAIN, client.recv, 1, socket.MSG_DONTWAIT)
        server.shutdown(socket.SHUT_WR)
        until_readable(client)
        assert client.recv(1) == b""
        assert ready(client) == (True, True)


def test_writable_is_who_would_not_block_in_send() -> None:
    with joined(config=SMALL) as (client, server):
        sent = fill(client)
        assert ready(client) == (False, False)
        raises(errno.EAGAIN, client.send, b"x")
        got = 0
        while got < sent:
            got += len(server.recv(1 << 16))
        assert select.select([], [client], [], 10)[1]
        assert client.send(b"x") == 1


@pytest.mark.parametrize("proto", [0, UDP])
def test_listener_is_readable_while_somebody_waits_to_be_accepted(proto: int) -> None:
    with listening(proto=proto) as listener:
        assert ready(listener) == (False, False)
        with rawproto.create_connection(listener.getsockname(), 10, proto=proto):
            until_readable(listener)
            accepted, _ = listener.accept()
            accepted.close()
            assert ready(listener) == (False, False)


def test_connecting_ends_with_being_writable() -> None:
    with listening() as listener, rawproto.socket() as sock:
        sock.setblocking(False)
        descriptor = sock.fileno()
        assert ready(sock) == (True, True), "calls fail, and so would not block"
        raises(errno.EINPROGRESS, sock.connect, listener.getsockname())
        assert sock.fileno() == descriptor
        assert select.select([], [sock], [], 10)[1]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert sock.getpeername() == listener.getsockname()
        assert ready(sock) == (False, True)


def test_connecting_to_nobody_ends_with_so_error() -> None:
    with rawproto.socket() as sock:
        sock.setblocking(False)
        raises(errno.EINPROGRESS, sock.connect, ("127.0.0.1", 4999))
        assert select.select([], [sock], [], 10)[1]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_reset_shows_as_readable_and_writable() -> None:
    with joined() as (client, server):
        assert ready(client) == (False, True)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.close()
        until_readable(client)
        assert ready(client) == (True, True)
        raises(errno.ECONNRESET, client.recv, 1)


def test_poll_and_epoll_tell_the_same_and_edges_come_with_new_data() -> None:
    with joined() as (client, server), select.epoll() as level, select.epoll() as edge:
        poll = select.poll()
        poll.register(client, select.POLLIN)
        level.register(client, select.EPOLLIN)
        edge.register(client, select.EPOLLIN | select.EPOLLET)
        for word in (b"one", b"two"):
            assert (poll.poll(0), level.poll(0), edge.poll(0)) == ([], [], [])
            server.send(word)
            assert poll.poll(10_000) == [(client.fileno(), select.POLLIN)]
            assert level.poll(0) == edge.poll(0) == [(client.fileno(), select.EPOLLIN)]
            assert client.recv(100) == word


def test_one_thread_serves_many_sockets_with_selectors() -> None:
    with listening() as listener, selectors.DefaultSelector() as selector:
        address = listener.getsockname()
        selector.register(listener, selectors.EVENT_READ)

        def serve(until: int) -> None:
            served = 0
            while served < until:
                for key, _ in selector.select(10):
                    if key.fileobj is listener:
                        accepted, _ = listener.accept()
                        accepted.setblocking(False)
                        selector.register(accepted, selectors.EVENT_READ)
                    elif data := key.fileobj.recv(1000):
                        key.fileobj.sendall(data.upper())
                    else:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                        served += 1

        with in_thread(lambda: serve(4)):
            clients = [rawproto.create_connection(address, 10) for _ in range(4)]
            for turn in range(5):
                for number, client in enumerate(clients):
                    client.send(b"abc"[number % 3 :] * (turn + 1))
                for number, client in enumerate(clients):
                    assert client.recv(1000) == b"ABC"[number % 3 :] * (turn + 1)
            for client in clients:
                client.close()


def test_descriptor_that_was_asked_for_early_is_the_same_all_along() -> None:
    with rawproto.socket() as sock:
        descriptor = sock.fileno()
        sock.bind(("127.0.0.1", 0))
        assert ready(sock) == (True, True)
        sock.listen()
        assert (sock.fileno(), ready(sock)) == (descriptor, (False, False))


def test_datagrams_show_too() -> None:
    with (
        rawproto.socket(type=socket.SOCK_DGRAM) as one,
        rawproto.socket(type=socket.SOCK_DGRAM) as other,
    ):
        other.bind(("127.0.0.1", 0))
        assert ready(other) == (False, True)
        one.sendto(b"x", other.getsockname())
        until_readable(other)
        assert other.recv(10) == b"x"
        assert ready(other) == (False, True)
