"""Where a listener sends when its client moves: what proves an address, and what does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rawproto.transport.config import Config
from rawproto.transport.connection import Connection, State
from rawproto.transport.noise import X25519
from rawproto.wire.rpt import RPTHandshake, parse_rpt
from tests.transport.pair import CLIENT, SECOND, STATIC, Pair, departing

PORT_MOVED = (CLIENT[0], 4711)
ELSEWHERE = ("10.0.0.66", 0)


def joined(keep_alive_ns: int = 0) -> tuple[Pair, Connection, Connection]:
    pair = Pair(config=Config(keep_alive_ns=keep_alive_ns))
    connection = pair.connect()
    pair.run(1)
    (accepted,) = pair.accepted
    return pair, connection, accepted


def say(pair: Pair, connection: Connection, data: bytes) -> None:
    connection.write(0, data)
    endpoint = pair.client if connection.client else pair.server
    endpoint.touch(connection)


@pytest.mark.parametrize("address", [PORT_MOVED, ELSEWHERE])
def test_idle_client_that_moved_is_reached_at_its_new_address(address: tuple[str, int]) -> None:
    pair, connection, accepted = joined(keep_alive_ns=10 * SECOND)
    pair.address = address
    pair.run(11)  # the keep-alive tells
    assert accepted.address == accepted.paths.usual == address
    say(pair, accepted, b"there you are")
    pair.exchange()
    assert connection.read(0, 100, pair.now_ns) == b"there you are"


def test_client_that_knows_that_it_moved_says_so_at_once() -> None:
    pair, connection, accepted = joined()
    cid = connection.sender.peer_cid
    pair.address = ELSEWHERE
    connection.on_moved(1480, pair.now_ns)
    pair.client.touch(connection)
    pair.exchange()
    assert accepted.address == ELSEWHERE
    assert connection.sender.peer_cid != cid
    pair.run(1)
    assert accepted.paths.usual == ELSEWHERE


def test_client_moves_as_often_as_it_likes_and_never_runs_out_of_connection_ids() -> None:
    pair, connection, accepted = joined()
    used = {connection.sender.peer_cid}
    for number in range(20):
        pair.address = f"10.0.1.{number}", 0
        connection.on_moved(1480, pair.now_ns)
        say(pair, connection, b"x")
        pair.run(1)
        used.add(connection.sender.peer_cid)
        assert accepted.paths.usual == pair.address
    assert len(used) == 21
    assert len(pair.server._routes) == 4 + 4, "those to be used, and the last four retired"
    assert accepted.read(0, 100, pair.now_ns) == b"x" * 20


def test_listener_that_was_silent_for_long_goes_on_as_soon_as_its_client_is_back() -> None:
    pair, connection, accepted = joined(keep_alive_ns=5 * SECOND)
    pair.change = lambda from_client, data: None
    say(pair, accepted, bytes(100_000))
    pair.run(4)  # several time-outs, each twice the last one
    pair.change = lambda from_client, data: data
    pair.address = PORT_MOVED
    connection.ping()
    pair.client.touch(connection)
    pair.run(0.1)
    assert len(connection.read(0, 1 << 20, pair.now_ns)) == 100_000


@pytest.mark.parametrize("pinned", [False, True])
def test_handshake_whose_last_packet_comes_from_elsewhere_proves_that_address_too(
    pinned: bool,
) -> None:
    pair = Pair()
    connection = pair.connect(peer_key=X25519.public_of(STATIC) if pinned else None)
    stolen: list[bytes] = []

    def steal(from_client: bool, data: bytes) -> bytes | None:
        last = not data[0] & 0x80 or isinstance(parse_rpt(data)[0], RPTHandshake)
        if from_client and last and not stolen:
            stolen.append(data)
            return None
        return data

    pair.change = steal
    pair.run(0.01)
    if pinned:
        say(pair, connection, b"first")
        pair.run(0.01)
    pair.change = lambda from_client, data: None if from_client else data
    pair.server.receive([(stolen[0], ELSEWHERE, 0)], pair.now_ns)
    (accepted,) = [pair.server.accept()]
    assert accepted is not None
    accepted.write(0, bytes(100_000))
    pair.server.touch(accepted)
    there = sum(len(data) for data, to in departing(pair.server, pair.now_ns) if to == ELSEWHERE)
    assert 0 < there <= 3 * len(stolen[0])
    pair.run(3)
    assert accepted.address == CLIENT, "which INIT came from, and was answered at"


def narrow(width: int) -> Callable[[bool, bytes], bytes | None]:
    return lambda from_client, data: data if len(data) <= width else None


def test_path_that_grows_is_found_out_in_ten_minutes_and_one_that_shrinks_by_its_losses() -> None:
    pair, connection, accepted = joined(keep_alive_ns=10 * SECOND)
    found = []
    for width, seconds in ((1480, 1), (1280, 5), (1480, 620)):
        pair.change = narrow(width)
        say(pair, connection, bytes(200_000))
        for _ in range(seconds):
            pair.run(1)
            accepted.read(0, 1 << 20, pair.now_ns)
            pair.server.touch(accepted)
        found.append(connection.sender.mtu.size)
    assert found[0] == found[2] == 1480
    assert 1264 < found[1] <= 1280
    assert connection.state is State.ESTABLISHED


def test_probe_by_another_implementation_from_a_new_address_is_answered_there() -> None:
    pair, connection, accepted = joined()
    probe = connection.sender.stray(b"\x0f" + b"whoisit?", 1200, pair.now_ns)
    pair.server.receive([(probe, ELSEWHERE, 0)], pair.now_ns)
    answers = departing(pair.server, pair.now_ns)
    assert [(len(data), to) for data, to in answers if to == ELSEWHERE] == [(1200, ELSEWHERE)]
    assert accepted.address == CLIENT


def test_every_connection_id_of_a_worker_is_its_own_modulo_the_workers() -> None:
    pair = Pair()
    pair.server._cid_of = lambda bits: bits - bits % 3 + 1
    connection = pair.connect()
    pair.run(1)
    for number in range(5):
        pair.address = f"10.0.1.{number}", 0
        connection.on_moved(1480, pair.now_ns)
        pair.client.touch(connection)
        pair.run(1)
    assert {cid % 3 for cid in pair.server._routes} == {1}
    assert len(pair.server._routes) == 8
