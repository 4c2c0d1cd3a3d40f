"""Two endpoints that hand each other packets: who is let in, who is refused, and how."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rawproto.errors import (
    ConnectionLostError,
    HandshakeError,
    NotAuthorizedError,
    PeerMismatchError,
    RefusedError,
    RemoteProtocolError,
    UnknownPeerError,
)
from rawproto.transport.attempt import Credentials
from rawproto.transport.config import Config
from rawproto.transport.connection import State
from rawproto.transport.constants import Kind
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.events import ConnectionEstablished, DatagramReadable
from rawproto.transport.noise import X25519
from rawproto.transport.refusals import refusal
from rawproto.wire.rpt import (
    RPTHandshake,
    RPTInit,
    parse_rpt,
)
from tests.transport.pair import (
    CLIENT,
    PSK,
    SECOND,
    SERVER,
    STATIC,
    Pair,
    departed,
)


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("psk", [b"", PSK])
@pytest.mark.parametrize("cipher", ["AESGCM", "ChaChaPoly"])
def test_both_know_each_other_after_the_handshake(pinned: bool, psk: bytes, cipher: str) -> None:
    pair = Pair(psk=psk, config=Config(cipher=cipher))
    connection = pair.connect(psk=psk, peer_key=X25519.public_of(STATIC) if pinned else None)
    pair.run(1)
    (accepted,) = pair.accepted
    assert connection.state is accepted.state is State.ESTABLISHED
    assert connection.peer_key == X25519.public_of(STATIC)
    assert accepted.peer_key == X25519.public_of(bytes([8]) * 32)
    assert connection.attempt is None
    assert len(pair.longs(RPTInit)) == 1
    assert len(pair.longs(RPTHandshake)) == (1 if pinned else 2)


def test_first_contact_that_is_not_trusted_ends_without_message_3() -> None:
    pair = Pair()
    connection = pair.connect(trust=lambda key: UnknownPeerError("who is that?", key))
    pair.run(1)
    error = pair.error_of(connection)
    assert isinstance(error, UnknownPeerError)
    assert error.public_key == X25519.public_of(STATIC)
    assert len(pair.longs(RPTHandshake)) == 1
    assert not pair.accepted


def test_changed_key_of_the_listener_is_told_with_the_new_key() -> None:
    pair = Pair()
    connection = pair.connect(peer_key=X25519.public_of(bytes([3]) * 32))
    pair.run(1)
    error = pair.error_of(connection)
    assert isinstance(error, PeerMismatchError)
    assert error.public_key == X25519.public_of(STATIC)
    assert not pair.accepted


@pytest.mark.parametrize("pinned", [False, True])
def test_wrong_shared_secret_is_named(pinned: bool) -> None:
    pair = Pair(psk=PSK)
    key = X25519.public_of(STATIC) if pinned else None
    connection = pair.connect(psk=bytes([6]) * 32, peer_key=key)
    pair.run(11)
    error = pair.error_of(connection)
    assert isinstance(error, HandshakeError)
    assert "psk" in str(error)
    assert not pair.accepted


@pytest.mark.parametrize(("ours", "theirs"), [(b"", PSK), (PSK, b"")])
def test_shared_secret_that_only_one_side_has_is_named(ours: bytes, theirs: bytes) -> None:
    pair = Pair(psk=theirs)
    connection = pair.connect(psk=ours)
    pair.run(1)
    assert "psk" in str(pair.error_of(connection))


@pytest.mark.parametrize("pinned", [False, True])
def test_key_that_is_not_authorized_is_told_so(pinned: bool) -> None:
    pair = Pair(authorize=lambda key: False)
    connection = pair.connect(peer_key=X25519.public_of(STATIC) if pinned else None)
    pair.run(1)
    assert isinstance(pair.error_of(connection), NotAuthorizedError)
    assert not pair.accepted


def test_port_without_a_listener_refuses() -> None:
    pair = Pair()
    pair.server = Endpoint(4000, Config(), entropy=pair.rng.randbytes, ceiling=1480)
    connection = pair.connect()
    pair.run(1)
    assert isinstance(pair.error_of(connection), RefusedError)


def test_who_refuses_for_all_ports_names_the_port_and_echoes_both_cids() -> None:
    pair = Pair()
    pair.connect()
    (init,) = departed(pair.client, pair.now_ns)
    refused = refusal(init, "10.0.0.1")
    assert refused is not None
    port, reset = refused
    assert port == 4000
    assert len(reset) < len(init)
    pair.client.receive([(reset, SERVER, 0)], pair.now_ns)
    pair.exchange()
    packet, _ = parse_rpt(init)
    assert isinstance(packet, RPTInit)
    short = replace(packet, padding=bytes(len(packet.padding) - 1)).emit()
    for data in (init[:-1], reset, short):
        assert refusal(data, "10.0.0.1") is None
    assert refusal(init, "224.0.0.1") is None


def test_nobody_there_is_waited_for_ten_seconds() -> None:
    pair = Pair()
    pair.change = lambda from_client, data: None
    connection = pair.connect()
    pair.run(9.9)
    assert connection not in pair.events
    pair.run(0.2)
    assert isinstance(pair.error_of(connection), ConnectionLostError)
    # 0, 250, 750 ms and then each second, the same bytes each time.
    assert len(pair.seen) == 3 + 9
    assert len({data for _, data in pair.seen}) == 1


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
@pytest.mark.parametrize("pinned", [False, True])
def test_any_packet_of_the_handshake_may_be_lost(lost: int, pinned: bool) -> None:
    pair = Pair()
    count = 0

    def drop(from_client: bool, data: bytes) -> bytes | None:
        nonlocal count
        count += 1
        return None if count - 1 == lost else data

    pair.change = drop
    connection = pair.connect(peer_key=X25519.public_of(STATIC) if pinned else None)
    pair.run(3)
    assert connection.state is State.ESTABLISHED
    assert [each.state for each in pair.accepted] == [State.ESTABLISHED]


def test_data_that_overtakes_message_3_is_held() -> None:
    pair = Pair()
    held: list[bytes] = []

    def overtake(from_client: bool, data: bytes) -> bytes | None:
        if from_client and data[0] & 0x80 and isinstance(parse_rpt(data)[0], RPTHandshake):
            held.append(data)
            return None
        return data

    pair.change = overtake
    connection = pair.connect()
    pair.exchange()
    connection.write(0, b"early")
    pair.client.touch(connection)
    pair.exchange()
    assert not pair.accepted
    pair.server.receive([(held[0], CLIENT, 0)], pair.now_ns)
    pair.change = lambda from_client, data: data
    pair.run(1)
    assert pair.accepted[0].read(0, 100, pair.now_ns) == b"early"
    assert connection.sender.recovery.lost_packets == 0


def test_silence_ends_a_connection_after_its_idle_time_and_pings_keep_it() -> None:
    for keep_alive, alive in ((0, False), (10 * SECOND, True)):
        pair = Pair(config=Config(keep_alive_ns=keep_alive))
        connection = pair.connect()
        pair.run(100)
        assert (connection.state is State.ESTABLISHED) is alive
        if not alive:
            assert isinstance(pair.error_of(connection), ConnectionLostError)


def test_peer_that_vanishes_is_given_up_after_sixteen_seconds() -> None:
    pair = Pair()
    connection = pair.connect()
    pair.run(0.1)
    pair.change = lambda from_client, data: None
    connection.write(0, b"hello?")
    pair.client.touch(connection)
    pair.run(15.5)
    assert connection.state is State.ESTABLISHED
    pair.run(1)
    assert isinstance(pair.error_of(connection), ConnectionLostError)


def test_kinds_that_differ_close_with_words() -> None:
    pair = Pair(config=Config(kind=Kind.SEQPACKET))
    settings = Credentials(static=bytes([8]) * 32)
    connection = pair.client.connect(SERVER, 4000, settings, pair.now_ns, Config())
    pair.run(1)
    assert isinstance(pair.error_of(connection), RemoteProtocolError)


def test_stale_answer_is_not_blamed_for_a_handshake_that_is_never_confirmed() -> None:
    pair = Pair()

    def lose(from_client: bool, data: bytes) -> bytes | None:
        """Message 3 and all behind it; in front of message 2 comes one for another INIT."""
        packet = parse_rpt(data)[0]
        if from_client:
            return data if isinstance(packet, RPTInit) else None
        if isinstance(packet, RPTHandshake):
            stale = replace(packet, message=bytes(len(packet.message)), checksum=None).emit()
            pair.client.receive([(stale, SERVER, 0)], pair.now_ns)
        return data

    pair.change = lose
    connection = pair.connect()
    pair.run(11)
    assert isinstance(pair.error_of(connection), ConnectionLostError)


def test_datagrams_arrive_once_and_the_queue_is_bounded() -> None:
    pair = Pair()
    connection = pair.connect()
    pair.run(0.1)
    sent = [connection.send_datagram(bytes([number])) for number in range(100)]
    assert sent == [True] * 64 + [False] * 36
    pair.client.touch(connection)
    pair.run(0.1)
    (accepted,) = pair.accepted
    assert sum(isinstance(event, DatagramReadable) for event in pair.events[accepted]) == 1
    received = []
    while (data := accepted.datagrams.receive()) is not None:
        received.append(data)
    assert received == [bytes([number]) for number in range(64)]


def test_established_is_told_once_on_both_sides() -> None:
    pair = Pair()
    pair.connect()
    pair.run(1)
    for events in pair.events.values():
        assert [type(event) for event in events].count(ConnectionEstablished) == 1
    assert len(pair.events) == 2


def test_close_with_nothing_left_to_send_is_a_clean_end_whatever_comes_first() -> None:
    pair = Pair()
    connection = pair.connect()
    pair.run(0.1)
    connection.close(pair.now_ns)
    connection.handle_timeout(pair.now_ns)
    pair.client.touch(connection)
    pair.run(0.1)
    assert pair.error_of(connection) is None


@pytest.mark.parametrize("words", [b"", b"not heard any more"])
def test_close_of_the_peer_is_an_error_only_to_who_has_bytes_left(words: bytes) -> None:
    pair = Pair()
    connection = pair.connect()
    pair.run(0.1)
    (accepted,) = pair.accepted
    accepted.close(pair.now_ns)
    pair.server.touch(accepted)
    pair.change = lambda from_client, data: None if from_client else data
    connection.write(0, words)
    connection.finish(0)
    pair.client.touch(connection)
    pair.run(1)
    error = pair.error_of(connection)
    assert isinstance(error, ConnectionLostError) if words else error is None


def test_close_that_nobody_hears_tells_that_data_may_be_lost() -> None:
    pair = Pair()
    connection = pair.connect()
    pair.run(0.1)
    pair.change = lambda from_client, data: None
    connection.write(0, b"lost")
    connection.close(pair.now_ns)
    pair.client.touch(connection)
    pair.run(11)
    assert isinstance(pair.error_of(connection), ConnectionLostError)


def test_attributes_of_a_connection_are_few_enough_to_be_kept_in_place() -> None:
    connection = Pair().connect()
    assert len(vars(connection)) <= 29, "above that each costs a look-up in a dictionary"
