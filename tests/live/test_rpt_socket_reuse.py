"""SO_REUSEADDR: a port whose former socket is closed, though its connections are not over."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import rawproto
from tests.live.rpt_sockets import RAW, WAYS, impatient, listening, raises

pytestmark = pytest.mark.live
__all__ = ["impatient"]

SOL, REUSE = socket.SOL_SOCKET, socket.SO_REUSEADDR


@contextmanager
def left_over(
    family: socket.AddressFamily = socket.AF_INET, proto: int = RAW
) -> Iterator[tuple[rawproto.RPTSocket, rawproto.RPTSocket]]:
    """(client, server) of a listener that is closed."""
    with listening(family, proto) as listener:
        client = rawproto.create_connection(listener.getsockname()[:2], 10, proto=proto)
        server, _ = listener.accept()
    with client, server:
        yield client, server


@pytest.mark.parametrize(("family", "proto"), WAYS)
def test_server_is_started_anew_while_connections_of_the_former_go_on(
    family: socket.AddressFamily, proto: int
) -> None:
    with left_over(family, proto) as (client, server):
        address = server.getsockname()
        with rawproto.create_server(address[:2], family=family, proto=proto) as again:
            assert again.getsockname() == address
            with rawproto.create_connection(address[:2], 10, proto=proto) as newcomer:
                accepted, _ = again.accept()
                with accepted:
                    newcomer.send(b"to the new one")
                    assert accepted.recv(100) == b"to the new one"
            client.send(b"to the old one")
            assert server.recv(100) == b"to the old one"


def test_without_it_connections_have_the_port_in_use() -> None:
    with left_over() as (_, server), rawproto.socket() as sock:
        raises(errno.EADDRINUSE, sock.bind, server.getsockname())
        sock.setsockopt(SOL, REUSE, 1)
        sock.bind(server.getsockname())
        sock.listen()


def test_port_of_a_socket_that_is_bound_or_listens_is_in_use_for_all() -> None:
    with listening() as listener, rawproto.socket() as sock:
        sock.setsockopt(SOL, REUSE, 1)
        raises(errno.EADDRINUSE, sock.bind, listener.getsockname())
        assert sock.getsockname() == ("0.0.0.0", 0)
    with rawproto.socket() as bound, rawproto.socket() as sock:
        bound.bind(("127.0.0.1", 0))
        sock.setsockopt(SOL, REUSE, 1)
        raises(errno.EADDRINUSE, sock.bind, bound.getsockname())


def test_who_is_accepted_anew_has_the_new_sockets_keys_and_options() -> None:
    with left_over() as (_, server):
        address = server.getsockname()
        with rawproto.create_server(address, psk=b"s" * 32) as again:
            again.setsockopt(SOL, socket.SO_SNDBUF, 20_000)
            with pytest.raises(rawproto.HandshakeError):
                rawproto.create_connection(address, 10)
            with rawproto.create_connection(address, 10, psk=b"s" * 32):
                accepted, _ = again.accept()
                with accepted:
                    assert accepted.getsockopt(SOL, socket.SO_SNDBUF) == 20_000


def test_socket_of_datagrams_takes_over_likewise() -> None:
    kind = socket.SOCK_DGRAM
    with rawproto.socket(type=kind) as client:
        with rawproto.create_server(("127.0.0.1", 0), type=kind) as former:
            address = former.getsockname()
            client.sendto(b"first", address)
            assert former.recvfrom(100)[0] == b"first"
        with rawproto.create_server(address, type=kind) as again, rawproto.socket(type=kind) as new:
            new.sendto(b"second", address)
            assert again.recvfrom(100)[0] == b"second"
