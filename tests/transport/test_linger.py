"""Who closes waits for a peer that reads slowly, and neither for a dead one nor for ever."""

from __future__ import annotations

from rawproto.errors import ConnectionLostError
from rawproto.transport.config import Config
from rawproto.transport.connection import Connection, State
from rawproto.transport.constants import Kind
from tests.transport.pair import Pair

SIZE = 3 << 20  # three windows
PIECE = 1 << 16


def closing() -> tuple[Pair, Connection, Connection]:
    """A client that has written and closed, while nobody reads; and its peer."""
    pair = Pair(config=Config(send_buffer_bytes=SIZE))
    connection = pair.connect()
    pair.run(0.1)
    (accepted,) = pair.accepted
    assert connection.write(0, bytes(SIZE)) == SIZE
    connection.finish(0)
    connection.close(pair.now_ns)
    pair.client.touch(connection)
    return pair, connection, accepted


def test_peer_that_reads_slowly_gets_all_of_it() -> None:
    pair, connection, accepted = closing()
    got = 0
    for _ in range(SIZE // PIECE):
        pair.run(2)
        got += len(accepted.read(0, PIECE, pair.now_ns))
        pair.server.touch(accepted)
    assert got == SIZE
    pair.run(1)
    assert pair.error_of(connection) is None


def test_peer_that_pauses_longer_than_the_silence_allowed_gets_all_of_it() -> None:
    pair, connection, accepted = closing()
    pair.run(60)
    got = 0
    while data := accepted.read(0, PIECE, pair.now_ns):
        got += len(data)
        pair.server.touch(accepted)
        pair.run(0.1)
    assert got == SIZE
    assert pair.error_of(connection) is None


def test_peer_that_never_reads_is_waited_for_two_minutes() -> None:
    pair, connection, _ = closing()
    pair.run(119)
    assert connection.state is State.ESTABLISHED
    pair.run(2)
    assert isinstance(pair.error_of(connection), ConnectionLostError)


def test_peer_that_falls_silent_is_waited_for_ten_seconds() -> None:
    pair, connection, _ = closing()
    pair.run(60)
    pair.change = lambda from_client, data: data if from_client else None
    pair.run(5)
    assert connection.state is State.ESTABLISHED
    pair.run(10.5)
    assert isinstance(pair.error_of(connection), ConnectionLostError)


def closing_datagrams() -> tuple[Pair, Connection, Connection]:
    """A client that has closed while more datagrams wait than the window takes; and its peer."""
    pair = Pair(config=Config(kind=Kind.DGRAM))
    connection = pair.connect()
    pair.run(0.1)
    (accepted,) = pair.accepted
    for _ in range(64):
        assert connection.send_datagram(bytes(1000))
    connection.close(pair.now_ns)
    pair.client.touch(connection)
    return pair, connection, accepted


def test_datagrams_that_wait_still_leave() -> None:
    pair, connection, accepted = closing_datagrams()
    pair.run(1)
    assert pair.error_of(connection) is None
    assert len(list(iter(accepted.datagrams.receive, None))) == 64


def test_silent_peer_is_waited_for_three_seconds_by_who_has_datagrams_only() -> None:
    pair, connection, _ = closing_datagrams()
    pair.change = lambda from_client, data: data if from_client else None
    pair.run(2.9)
    assert connection.state is State.ESTABLISHED
    pair.run(0.2)
    assert connection.state is State.CLOSING
    assert isinstance(pair.error_of(connection), ConnectionLostError)
    pair.run(3)
    assert connection.state is State.CLOSED
