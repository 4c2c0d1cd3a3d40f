"""What strangers send to an endpoint, much of it: floods, forgeries, damage, other versions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from unittest.mock import patch

from rawproto.errors import (
    ConnectionLostError,
    RefusedError,
)
from rawproto.transport import halfopen
from rawproto.transport.connection import Connection, State
from rawproto.transport.halfopen import MOST_HALF_OPEN, MOST_OF_A_PREFIX, UNDER_LOAD
from rawproto.transport.tokens import reset_token
from rawproto.wire.rpt import (
    SHORT,
    VERSION_1,
    RPTInit,
    RPTReset,
    RPTRetry,
    parse_rpt,
)
from tests.transport.pair import (
    CLIENT,
    SECOND,
    SERVER,
    Pair,
    departed,
    departing,
    init_from,
)


def test_honest_client_connects_during_a_flood_of_forged_sources() -> None:
    pair = Pair()
    one = init_from(pair, 0)
    packet = parse_rpt(one)[0]
    assert isinstance(packet, RPTInit)
    flood = [
        (
            replace(packet, src_cid=1 + number, checksum=None).emit(),
            (f"10.9.{number >> 8}.{number & 255}", 0),
            0,
        )
        for number in range(3000)
    ]
    pair.server.receive(flood[:1500], pair.now_ns)
    answered = sum(len(data) for data in departed(pair.server, pair.now_ns))
    assert answered <= 3 * sum(len(data) for data, _, _ in flood[:1500])
    listener = pair.server._reception.listener
    assert listener is not None
    assert len(listener.by_cid) == UNDER_LOAD
    pair.now_ns += SECOND
    connection = pair.connect()
    pair.exchange()
    pair.server.receive(flood[1500:], pair.now_ns)
    pair.exchange()
    assert connection.state is State.ESTABLISHED
    assert len(pair.longs(RPTRetry)) >= 1
    assert len(pair.accepted) == 1
    pair.run(12)
    assert not listener.by_cid


def test_flood_of_inits_or_of_strangers_packets_leaves_honest_clients_their_retry() -> None:
    pair = Pair()
    packet = parse_rpt(init_from(pair, 0))[0]
    assert isinstance(packet, RPTInit)
    stranger = SHORT.pack(VERSION_1, 1, 4000, 9, 77, 0) + bytes(40)
    for number in range(3000):
        forged = replace(packet, src_cid=1 + number, checksum=None).emit()
        source = (f"10.9.{number >> 8}.{number & 255}", 0)
        pair.server.receive([(forged, source, 0), (stranger, source, 0)], pair.now_ns)
    answers = [parse_rpt(data)[0] for data in departed(pair.server, pair.now_ns)]
    kinds = Counter(type(answer) for answer in answers)
    assert kinds[RPTReset] == 1000
    assert kinds[RPTRetry] == 3000 - UNDER_LOAD
    connection = pair.connect()
    pair.exchange()
    assert connection.state is State.ESTABLISHED
    assert len(pair.accepted) == 1


def test_half_open_handshakes_are_bounded_even_for_who_proves_many_addresses() -> None:
    pair = Pair()
    listener = pair.server._reception.listener
    assert listener is not None
    for number in range(UNDER_LOAD):
        pair.server.receive([(init_from(pair, number), CLIENT, 0)], pair.now_ns)
    pair.server.transmit(pair.now_ns)
    for number in range(200):
        init = parse_rpt(init_from(pair, number))[0]
        assert isinstance(init, RPTInit)
        pair.server.receive([(init.emit(), CLIENT, 0)], pair.now_ns)
        answers = departed(pair.server, pair.now_ns)
        retry = parse_rpt(answers[0])[0]
        assert isinstance(retry, RPTRetry)
        proved = replace(init, token=retry.token, checksum=None, length=None, padding=b"")
        proved = replace(proved, padding=bytes(1200 - len(proved.emit())))
        pair.server.receive([(proved.emit(), CLIENT, 0)], pair.now_ns)
        pair.server.transmit(pair.now_ns)
    assert len(listener.by_cid) == UNDER_LOAD + 32
    assert len(listener.by_cid) <= MOST_HALF_OPEN


def test_many_inits_under_one_token_end_no_handshake_and_are_bounded() -> None:
    pair = Pair()
    listener = pair.server._reception.listener
    assert listener is not None
    first = parse_rpt(init_from(pair, 0))[0]
    assert isinstance(first, RPTInit)
    with patch.object(halfopen, "UNDER_LOAD", 0):
        pair.server.receive([(first.emit(), CLIENT, 0)], pair.now_ns)
        retry = parse_rpt(departed(pair.server, pair.now_ns)[0])[0]
    assert isinstance(retry, RPTRetry)
    begun = []
    for _ in range(MOST_OF_A_PREFIX + 10):
        other = parse_rpt(init_from(pair, 0))[0]
        assert isinstance(other, RPTInit)
        proved = replace(other, src_cid=first.src_cid, dst_cid=first.dst_cid, token=retry.token)
        proved = replace(proved, checksum=None, length=None, padding=b"")
        proved = replace(proved, padding=bytes(1200 - len(proved.emit())))
        pair.server.receive([(proved.emit(), CLIENT, 0)], pair.now_ns)
        pair.server.transmit(pair.now_ns)
        begun.append(list(listener.by_cid)[-1])
    assert len(listener.by_cid) == MOST_OF_A_PREFIX
    assert begun[0] in listener.by_cid


def test_token_is_good_for_one_address_and_fifteen_seconds() -> None:
    pair = Pair()
    for number in range(UNDER_LOAD):
        pair.server.receive([(init_from(pair, number), CLIENT, 0)], pair.now_ns)
    pair.server.transmit(pair.now_ns)
    connection = pair.connect()
    (init,) = departed(pair.client, pair.now_ns)
    pair.server.receive([(init, CLIENT, 0)], pair.now_ns)
    (retry,) = departed(pair.server, pair.now_ns)
    pair.client.receive([(retry, SERVER, 0)], pair.now_ns)
    (proved,) = departed(pair.client, pair.now_ns)
    assert proved[24 + 1 :] != init[24 + 1 :]
    for source, later in ((("10.0.0.77", 0), 0), (CLIENT, 16 * SECOND)):
        pair.server.receive([(proved, source, 0)], pair.now_ns + later)
        (answer,) = departed(pair.server, pair.now_ns + later)
        assert isinstance(parse_rpt(answer)[0], RPTRetry)
    pair.server.receive([(proved, CLIENT, 0)], pair.now_ns)
    pair.exchange()
    assert connection.state is State.ESTABLISHED


def test_restarted_listener_tells_its_old_client_and_nobody_else_can() -> None:
    pair = Pair()
    connection = pair.connect()
    pair.run(0.1)
    forged = RPTReset(
        dst_port=50_000, src_port=4000, src_cid=connection.sender.peer_cid, code=2, token=bytes(16)
    )
    pair.client.receive([(forged.emit(), SERVER, 0)], pair.now_ns)
    pair.exchange()
    assert connection.state is State.ESTABLISHED
    pair.server = pair.make_server()
    connection.ping()
    pair.client.touch(connection)
    pair.exchange()
    assert isinstance(pair.error_of(connection), ConnectionLostError)


def test_flood_of_forged_resets_is_looked_at_a_thousand_times_a_second() -> None:
    pair = Pair()
    connection = pair.connect()
    pair.run(2)
    peer_cid = connection.sender.peer_cid
    forged = RPTReset(dst_port=50_000, src_port=4000, src_cid=1, code=2, token=bytes(16)).emit()
    token = reset_token(bytes(32), 4000, peer_cid)
    known = RPTReset(dst_port=50_000, src_port=4000, src_cid=peer_cid, code=2, token=token).emit()
    pair.client.receive([(forged, SERVER, 0)] * 1000 + [(known, SERVER, 0)], pair.now_ns)
    assert connection.state is State.ESTABLISHED
    pair.client.receive([(known, SERVER, 0)], pair.now_ns + SECOND)
    assert connection.state is State.CLOSED


def test_listener_of_another_version_says_which_it_speaks() -> None:
    pair = Pair()
    init = parse_rpt(init_from(pair, 1))[0]
    assert isinstance(init, RPTInit)
    pair.server.receive([(replace(init, version=2, checksum=None).emit(), CLIENT, 0)], pair.now_ns)
    ((answer, address),) = departing(pair.server, pair.now_ns)
    packet = parse_rpt(answer)[0]
    assert type(packet).__name__ == "RPTVersion"
    assert address == CLIENT
    assert (packet.dst_cid, packet.src_cid) == (init.src_cid, init.dst_cid)


def test_damaged_and_random_packets_change_nothing() -> None:
    pair = Pair()
    connection = pair.connect()
    pair.run(0.1)
    samples = [data for _, data in pair.seen]
    for sample in samples:
        for _ in range(100):
            damaged = bytearray(sample)
            damaged[pair.rng.randrange(len(damaged))] ^= 1 << pair.rng.randrange(8)
            cut = bytes(damaged[: pair.rng.randrange(len(damaged) + 1)])
            for endpoint, source in ((pair.server, CLIENT), (pair.client, SERVER)):
                endpoint.receive([(bytes(damaged), source, 0), (cut, source, 0)], pair.now_ns)
                endpoint.receive([(sample, source, 0)], pair.now_ns)
    pair.client.transmit(pair.now_ns)
    pair.server.transmit(pair.now_ns)
    pair.run(0.1)
    connection.write(0, b"still there")
    pair.client.touch(connection)
    pair.run(1)
    assert pair.accepted[0].read(0, 100, pair.now_ns) == b"still there"


def test_client_of_a_busy_listener_tries_on_and_gets_in_when_there_is_room() -> None:
    pair = Pair()
    with patch.object(halfopen, "MOST_HALF_OPEN", 0):
        connection = pair.connect()
        pair.run(3)
    assert connection.state is State.HANDSHAKE
    assert {each.code for each in pair.longs(RPTReset) if isinstance(each, RPTReset)} == {4}
    pair.run(1)
    assert connection.state is State.ESTABLISHED


def test_client_of_a_listener_that_stays_busy_is_told_so() -> None:
    pair = Pair()
    with patch.object(halfopen, "MOST_HALF_OPEN", 0):
        connection = pair.connect()
        pair.run(11)
    error = pair.error_of(connection)
    assert isinstance(error, RefusedError)
    assert "too many handshakes" in str(error)


def crossed(pair: Pair, connection: Connection) -> None:
    """A client's INIT is answered with RETRY and, sent again, with message 2."""
    init = departed(pair.client, pair.now_ns)[0]
    with patch.object(halfopen, "UNDER_LOAD", 0):
        pair.server.receive([(init, CLIENT, 0)], pair.now_ns)
    (retry,) = departed(pair.server, pair.now_ns)
    pair.server.receive([(init, CLIENT, 0)], pair.now_ns)
    (answer,) = departed(pair.server, pair.now_ns)
    pair.client.receive([(retry, SERVER, 0), (answer, SERVER, 0)], pair.now_ns)
    assert connection.state is State.HANDSHAKE


def test_handshake_of_an_init_that_crossed_its_retry_does_not_stay_half_open() -> None:
    pair = Pair()
    connection = pair.connect()
    crossed(pair, connection)
    listener = pair.server._reception.listener
    assert listener is not None
    assert len(listener.by_cid) == 1
    pair.exchange()
    assert connection.state is State.ESTABLISHED
    assert len(pair.accepted) == 1
    assert not listener.by_cid
    assert not listener._unproved


def test_answer_to_an_init_before_its_retry_is_not_taken_for_one_under_another_key() -> None:
    pair = Pair()
    connection = pair.connect()
    crossed(pair, connection)
    pair.change = lambda from_client, data: None
    pair.run(11)
    error = pair.error_of(connection)
    assert isinstance(error, ConnectionLostError)
    assert "no answer" in str(error)
