"""What a connection costs on which nobody says anything: memory, and turns of its endpoint."""

from __future__ import annotations

import gc
import tracemalloc

from rawproto.transport.config import Config
from rawproto.transport.connection import State
from tests.transport.pair import SECOND, Pair

CONNECTIONS = 60
MOST_BYTES = 13 << 10
"""Of Python's own memory; ciphers (5 KiB, in C) and a driver share the rest of the 24 KiB."""


def idle(count: int, config: Config) -> Pair:
    """Connections that stand, and have found out all that they want to know of the path."""
    pair = Pair(config=config)
    for _ in range(count):
        pair.connect()
        pair.run(0.1)
    for endpoint in (pair.client, pair.server):
        for connection in endpoint.connections.values():
            connection.write(0, b"a word")
            endpoint.touch(connection)
    pair.run(5)
    for endpoint in (pair.client, pair.server):
        for connection in endpoint.connections.values():
            assert connection.state is State.ESTABLISHED
            assert connection.read(0, 100, pair.now_ns) == b"a word"
    pair.run(1)
    pair.seen.clear()
    pair.events.clear()
    return pair


def test_idle_connection_takes_less_than_a_few_pages() -> None:
    kept = idle(1, Config())  # what is made once is not counted
    gc.collect()
    tracemalloc.start()
    try:
        pair = idle(CONNECTIONS, Config())
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(pair.server.connections) == len(pair.client.connections) == CONNECTIONS
    assert len(kept.server.connections) == 1
    assert taken / (2 * CONNECTIONS) < MOST_BYTES, taken / (2 * CONNECTIONS)


def turns(pair: Pair, seconds: float) -> int:
    """How often time has to be given to a listener's endpoint."""
    end_ns, count = pair.now_ns + int(seconds * SECOND), 0
    while (due_ns := pair.server.poll_timeout()) is not None and due_ns < end_ns:
        pair.now_ns = max(due_ns, pair.now_ns)
        pair.server.handle_timeout(pair.now_ns)
        pair.exchange()
        count += 1
    return count


def test_idle_connection_needs_no_turn_until_it_is_forgotten() -> None:
    pair = idle(10, Config())
    assert turns(pair, 20) <= 10, "what was armed before may still come, once"
    assert not pair.seen
    assert len(pair.server.connections) == 10
    pair.run(30)
    assert not pair.server.connections


def test_idle_connection_speaks_only_when_it_is_to_be_kept_alive() -> None:
    pair = idle(1, Config(keep_alive_ns=10 * SECOND))
    pair.run(60)
    pings = [data for from_client, data in pair.seen if from_client]
    assert 5 <= len(pings) <= 12
    assert len(pair.server.connections) == 1


def test_connection_is_kept_alive_from_when_that_is_asked_for_and_no_longer() -> None:
    pair = idle(1, Config())
    (connection,) = pair.client.connections.values()
    for keep_alive_ns, least, most in ((SECOND, 9, 11), (0, 0, 1)):  # a turn may be armed
        connection.silence.keep_alive_ns = keep_alive_ns
        pair.client.touch(connection)
        pair.seen.clear()
        pair.run(10)
        assert least <= sum([from_client for from_client, _ in pair.seen]) <= most
