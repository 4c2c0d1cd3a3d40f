"""A socket of datagrams that is closed: whom it still waits for, and who is let in no more.

Two endpoints in virtual time, and of the pump as much as an end needs.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rawproto.drivers.rpt import datagrams
from rawproto.drivers.rpt.datagrams import DatagramEnd
from rawproto.errors import ConnectionLostError, RefusedError
from rawproto.transport.config import Config
from rawproto.transport.connection import Connection, State
from rawproto.transport.constants import Kind
from rawproto.transport.endpoint import Endpoint
from tests.transport.pair import SERVER, Pair

PEER = (SERVER[0], 4000)


class Pump:
    """A port without a carrier: turns are the pair's."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.lock = threading.RLock()
        self.lock.acquire()  # as whoever calls an end
        self.port = SimpleNamespace(endpoint=endpoint)
        self.ends: set[Any] = set()
        self.join = self.ends.add
        self.touch_soon = endpoint.touch
        self.of: dict[int, Any] = {}
        self.on_accept: Any = None

    def assign(self, connection: Connection, end: Any) -> None:
        self.of[connection.cid] = end

    def kick(self) -> None:
        """Nobody leads."""


class Setting:
    """A client's socket and a server's."""

    def __init__(self) -> None:
        self.pair = Pair(config=Config(kind=Kind.DGRAM))
        self.client, self.server = self.end(self.pair.client), self.end(self.pair.server)

    def end(self, endpoint: Endpoint) -> DatagramEnd:
        pump = cast(Any, Pump(endpoint))
        return DatagramEnd(pump, None, lambda peer: self.pair.connect(), 1 << 16)

    def send(self, data: bytes) -> Connection:
        assert self.client.send(data, PEER)
        return self.client._of_peer[PEER]

    def run(self, seconds: float) -> None:
        """Lets time pass, and the server's end have who came."""
        self.pair.run(seconds)
        while self.pair.accepted:
            self.server._accepted(self.pair.accepted.pop())


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    made = Setting()
    clock = SimpleNamespace(monotonic_ns=lambda: made.pair.now_ns)
    monkeypatch.setattr(datagrams, "time", clock)
    return made


def test_closed_socket_lets_nobody_in(setting: Setting) -> None:
    """Though its port is there for as long as others have not heard that it closed."""
    setting.server.close()
    connection = setting.send(b"late")
    setting.run(0.1)
    assert isinstance(setting.pair.error_of(connection), RefusedError)


def test_who_is_in_the_middle_of_a_handshake_hears_at_once_that_nobody_is_there(
    setting: Setting,
) -> None:
    def close(from_client: bool, data: bytes) -> bytes:
        if not from_client:  # message 2
            setting.server.close()
        return data

    setting.pair.change = close
    connection = setting.send(b"late")
    setting.run(0.1)
    connection.ping()
    setting.pair.client.touch(connection)
    setting.run(0.1)
    assert isinstance(setting.pair.error_of(connection), ConnectionLostError)


def test_peer_too_many_hears_so_at_once(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = setting.send(b"too many")
    monkeypatch.setattr(datagrams, "MOST_PEERS", 0)
    setting.run(0.01)
    setting.run(0.01)
    assert setting.pair.error_of(connection) is not None


def test_first_datagrams_of_a_closed_socket_wait_three_seconds_for_a_handshake(
    setting: Setting,
) -> None:
    setting.pair.change = lambda from_client, data: None
    connection = setting.send(b"first")
    setting.run(1)
    setting.client.close()
    setting.run(2.9)
    assert connection.state is State.HANDSHAKE
    setting.run(0.2)
    assert not setting.pair.client.connections
    assert setting.pair.client.poll_timeout() is None
