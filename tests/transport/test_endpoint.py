"""Two endpoints that hand each other packets: who is let in, who is refused, and how."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

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
from rawproto.transport import halfopen
from rawproto.transport.attempt import Credentials
from rawproto.transport.config import Config
from rawproto.transport.connection import Address, Connection, State
from rawproto.transport.constants import Kind
from rawproto.transport.endpoint import Endpoint, refusal
from rawproto.transport.events import ConnectionClosed, ConnectionEstablished, DatagramReadable
from rawproto.transport.halfopen import MOST_HALF_OPEN, UNDER_LOAD, Listener
from rawproto.transport.noise import X25519
from rawproto.transport.tokens import reset_token
from rawproto.wire.rpt import (
    SHORT,
    VERSION_1,
    RPTHandshake,
    RPTInit,
    RPTLong,
    RPTReset,
    RPTRetry,
    parse_rpt,
)

CLIENT, SERVER = ("10.0.0.1", 0), ("10.0.0.2", 0)
SECOND = 1_000_000_000
STATIC = bytes([9]) * 32
PSK = bytes([7]) * 32


def departing(endpoint: Endpoint, now_ns: int) -> list[tuple[bytes, Address]]:
    """The packets that leave now, each with where to."""
    return [(data, to) for packets, to, _ in endpoint.transmit(now_ns) for data in packets]


def departed(endpoint: Endpoint, now_ns: int) -> list[bytes]:
    """The packets that leave now, wherever to."""
    return [data for data, _ in departing(endpoint, now_ns)]


class Pair:
    """A client's endpoint and a listener's, and the time between them.

    `change` may look at each packet, change it (by what it returns) or drop it (None);
    `address` is the client's by now.
    """

    def __init__(self, *, config: Config | None = None, seed: int = 1, **listener: Any) -> None:
        self.rng = random.Random(seed)
        self.config = config or Config()
        self.now_ns = SECOND
        self.listener_settings = listener
        self.client = Endpoint(50_000, self.config, entropy=self.rng.randbytes, ceiling=1480)
        self.server = self.make_server()
        self.address = CLIENT
        self.change: Callable[[bool, bytes], bytes | None] = lambda from_client, data: data
        self.seen: list[tuple[bool, bytes]] = []
        self.accepted: list[Connection] = []
        self.events: dict[Connection, list[Any]] = {}

    def make_server(self, reset_key: bytes = bytes(32)) -> Endpoint:
        settings = {"static": STATIC, **self.listener_settings}
        return Endpoint(
            4000,
            self.config,
            entropy=self.rng.randbytes,
            ceiling=1480,
            listener=Listener(config=self.config, **settings),
            reset_key=reset_key,
        )

    def connect(self, **credentials: Any) -> Connection:
        settings = {"static": bytes([8]) * 32, **credentials}
        return self.client.connect(SERVER, 4000, Credentials(**settings), self.now_ns)

    def exchange(self) -> None:
        """All that happens without time passing."""
        for _ in range(1000):
            busy = False
            for endpoint, other, source in (
                (self.client, self.server, self.address),
                (self.server, self.client, SERVER),
            ):
                for data, target in departing(endpoint, self.now_ns):
                    busy = True
                    changed = self.change(endpoint is self.client, data)
                    if target not in (self.address, SERVER):
                        continue  # nobody is there
                    self.seen.append((endpoint is self.client, data))
                    if changed is not None:
                        other.receive([(changed, source, 0)], self.now_ns)
                for connection in endpoint.active():
                    while (event := connection.poll_event()) is not None:
                        self.events.setdefault(connection, []).append(event)
            while (accepted := self.server.accept()) is not None:
                self.accepted.append(accepted)
            if not busy:
                return
        raise AssertionError("no end of packets")

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        end_ns = self.now_ns + int(seconds * SECOND)
        while True:
            self.exchange()
            times = [self.client.poll_timeout(), self.server.poll_timeout()]
            following = min([each for each in times if each is not None], default=end_ns)
            if following >= end_ns:
                break
            self.now_ns = max(following, self.now_ns)
            self.client.handle_timeout(self.now_ns)
            self.server.handle_timeout(self.now_ns)
        self.now_ns = end_ns

    def error_of(self, connection: Connection) -> Exception | None:
        """What ended a connection; an AssertionError if nothing did."""
        for event in self.events.get(connection, []):
            if isinstance(event, ConnectionClosed):
                return event.error
        raise AssertionError(f"still {connection.state}")

    def longs(self, kind: type[RPTLong]) -> list[RPTLong]:
        """The long packets of a type that were sent."""
        packets = [parse_rpt(data)[0] for _, data in self.seen if data[0] & 0x80]
        return [packet for packet in packets if isinstance(packet, kind)]


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
    for data, addr in ((init[:-1], "10.0.0.1"), (reset, "10.0.0.1"), (init, "224.0.0.1")):
        assert refusal(data, addr) is None


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


def init_from(pair: Pair, number: int) -> bytes:
    """An INIT as a flood has it: another each time."""
    ephemeral = X25519.public_of(pair.rng.randbytes(32))
    packet = RPTInit(
        suite=0x01,
        dst_port=4000,
        src_port=1 + number % 60_000,
        dst_cid=pair.rng.getrandbits(64),
        src_cid=pair.rng.getrandbits(64),
        message=ephemeral,
    )
    return replace(packet, padding=bytes(1200 - len(packet.emit()))).emit()


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
    listener = pair.server._listener
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
    listener = pair.server._listener
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
    while (data := accepted.receive_datagram()) is not None:
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
