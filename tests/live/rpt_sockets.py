"""What the tests of blocking RPT sockets share: pairs of sockets, and nothing left of them."""

from __future__ import annotations

import errno
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import rawproto
from rawproto.drivers.rpt.caretaker import CARETAKER
from rawproto.link.rpt_ports import is_held
from rawproto.transport.lifecycle import State

__all__ = [
    "RAW",
    "UDP",
    "WAYS",
    "await_ports",
    "impatient",
    "in_thread",
    "joined",
    "listening",
    "port_is_free",
    "raises",
]

RAW, UDP = 0, socket.IPPROTO_UDP
WAYS = [
    pytest.param(socket.AF_INET, RAW, id="ipv4"),
    pytest.param(socket.AF_INET6, RAW, id="ipv6"),
    pytest.param(socket.AF_INET, UDP, id="udp"),
]
HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


_OVER = (State.CLOSING, State.DRAINING, State.CLOSED)


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Once all connections of a test are over, nobody waits the 3 PTO until they are forgotten.

    What a test left open stays open, and `conftest` finds it.
    """
    yield
    gc.collect()
    end = time.monotonic() + 15
    while (thread := CARETAKER._thread) is not None and time.monotonic() < end:
        for pump in list(CARETAKER._pumps):
            with pump.lock:
                states = [each.state for each in pump.port.endpoint.connections.values()]
                if not pump.ends and all(state in _OVER for state in states):
                    pump.close()
        thread.join(0.02)


def await_ports() -> None:
    """Waits, with the patience that the protocol wants, until no port of RPT is left."""
    gc.collect()
    if (thread := CARETAKER._thread) is not None:
        thread.join(15)
        assert not thread.is_alive(), "a port is left"


def raises(number: int, call: Callable[..., object], *arguments: object) -> OSError:
    """The OSError that a call raises, which has this number."""
    try:
        call(*arguments)
    except OSError as error:
        assert error.errno == number, repr(error)
        return error
    raise AssertionError(f"it raised no {errno.errorcode[number]}")


def listening(family: int = socket.AF_INET, proto: int = RAW, **options: Any) -> rawproto.RPTSocket:
    """A socket that listens on loopback."""
    return rawproto.create_server((HOSTS[family], 0), family=family, proto=proto, **options)


@contextmanager
def joined(
    family: int = socket.AF_INET, proto: int = RAW, **options: Any
) -> Iterator[tuple[rawproto.RPTSocket, rawproto.RPTSocket]]:
    """Two connected sockets: (client, server). Both are closed afterwards."""
    with listening(family, proto, **options) as listener:
        listener.settimeout(10)
        with in_thread(listener.accept) as accepted:
            address = listener.getsockname()[:2]
            client = rawproto.create_connection(address, 10, proto=proto, **options)
        server = accepted()[0]
        client.settimeout(10)
        server.settimeout(10)
        with client, server:
            yield client, server


@contextmanager
def in_thread(call: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
    """Runs a call in a thread meanwhile; what is given answers what it answered, or raises."""
    done: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(call())
        except BaseException as error:
            failed.append(error)

    def result() -> Any:
        thread.join(20)
        assert not thread.is_alive(), "it still waits"
        if failed:
            raise failed[0]
        return done[0]

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield result
    finally:
        thread.join(20)
        assert not thread.is_alive(), "it still waits"


def port_is_free(port: int) -> bool:
    """Whether nobody holds an RPT port of IPv4."""
    return not is_held(4, port)
