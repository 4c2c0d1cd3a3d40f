"""Blocking sockets, as far as they go without a port: what they are given, and what they refuse."""

from __future__ import annotations

import errno
import math
import socket
import time

import pytest

import rawproto
from rawproto.drivers.rpt.sockaddr import resolve, sockaddr


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("127.0.0.1",)),
        (socket.AF_INET, ("127.0.0.1", 0, 0)),
        (socket.AF_INET, ("127.0.0.1", 0, 0, 1)),
        (socket.AF_INET, ["127.0.0.1", 0]),
        (socket.AF_INET, "127.0.0.1:0"),
        (socket.AF_INET, (b"127.0.0.1", 0)),
        (socket.AF_INET, ("127.0.0.1", "0")),
        (socket.AF_INET6, ("::1",)),
        (socket.AF_INET6, ("::1", 0, 0, 0, 0)),
    ],
)
def test_what_is_no_address_is_a_type_error(family: int, address: object) -> None:
    with rawproto.socket(family) as sock, pytest.raises(TypeError):
        sock.connect(address)


@pytest.mark.parametrize("port", [-1, 65536])
def test_port_that_is_none_is_an_overflow(port: int) -> None:
    with rawproto.socket() as sock, pytest.raises(OverflowError):
        sock.connect(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_INET6, ("::1", 0)),
        (socket.AF_INET6, ("::1", 0, 0)),
        (socket.AF_INET6, ("::1", 0, 0, 0)),
    ],
)
def test_an_address_has_the_parts_of_its_family(family: int, address: object) -> None:
    with rawproto.socket(family) as sock:
        assert sock.connect_ex(address) == errno.ECONNREFUSED  # there is no port 0


@pytest.mark.parametrize(
    ("family", "given", "peer", "told"),
    [
        (socket.AF_INET, ("127.0.0.1", 7), ("127.0.0.1", 7), ("127.0.0.1", 7)),
        (socket.AF_INET, ("", 7), ("0.0.0.0", 7), ("0.0.0.0", 7)),
        (socket.AF_INET6, ("", 7), ("::", 7), ("::", 7, 0, 0)),
        (socket.AF_INET6, ("::1", 7), ("::1", 7), ("::1", 7, 0, 0)),
        (socket.AF_INET6, ("fe80::1", 7, 0, 1), ("fe80::1%lo", 7), ("fe80::1%lo", 7, 0, 1)),
    ],
)
def test_an_address_is_told_as_it_was_given(
    family: socket.AddressFamily, given: object, peer: tuple[str, int], told: object
) -> None:
    assert resolve(given, family) == peer
    assert sockaddr(peer, family) == told
    assert resolve(told, family) == peer


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        ((socket.AF_UNIX,), errno.EAFNOSUPPORT),
        ((socket.AF_INET, socket.SOCK_RDM), errno.EPROTOTYPE),
        ((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP), errno.EPROTONOSUPPORT),
    ],
)
def test_socket_that_there_is_not(arguments: tuple[int, ...], number: int) -> None:
    with pytest.raises(OSError) as wrong:  # noqa: PT011 - by its number
        rawproto.socket(*arguments)
    assert wrong.value.errno == number


@pytest.mark.parametrize(
    ("value", "wrong"), [(-1, ValueError), (math.nan, ValueError), (1e10, OverflowError)]
)
def test_time_out_that_nobody_can_wait_for_is_refused(value: float, wrong: type[Exception]) -> None:
    with rawproto.socket() as sock, socket.socket() as usual:
        for each in (sock, usual):
            with pytest.raises(wrong):
                each.settimeout(value)
        assert sock.gettimeout() is None


def test_time_out_that_another_thread_takes_away_counts_for_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with rawproto.socket() as sock:

        def monotonic() -> float:
            sock.settimeout(None)
            return 1.0

        sock.settimeout(5)
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", monotonic)
            assert sock._until() == 6.0
        assert sock._until() is None
