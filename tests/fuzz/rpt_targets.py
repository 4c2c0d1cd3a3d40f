"""What is fuzzed of RPT's machines: handshakes, endpoints, and a connection with a hostile peer.

The promises: nothing is raised whatever arrives, what is held and what is sent is bounded,
and a connection that ends says so once. The peer of `connection` has the keys, so what
it seals opens; the other targets are on the path and have none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from itertools import count, repeat
from zlib import crc32

from rawproto.errors import LocalProtocolError, WireError
from rawproto.transport.config import Config
from rawproto.transport.connection import Connection, State
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.events import ConnectionClosed, StreamOpened, StreamReadable
from rawproto.transport.halfopen import MOST_HALF_OPEN, Listener
from rawproto.transport.handshake import (
    Agreement,
    ClientHandshake,
    Ports,
    ServerHandshake,
    suite_number,
)
from rawproto.transport.noise import AES_GCM, PATTERNS, X25519, NoiseError
from rawproto.transport.parameters import Parameters
from rawproto.transport.protection import Keys
from rawproto.transport.refusals import refusal
from rawproto.transport.tokens import RetryTokens
from rawproto.wire.rpt import KEY_PHASE, LONG, SHORT, VERSION_1, RPTHandshake, RPTInit, RPTLong
from tests.sim.operations import Pair

__all__ = ["RPT_TARGETS", "genuine_handshakes", "genuine_token"]

RPT_TARGETS: dict[str, Callable[[bytes], None]] = {}

_CLIENT, _LISTENER, _EPHEMERAL, _OTHER = (bytes([each]) * 32 for each in (1, 2, 3, 4))
_PSK = bytes(range(32))
_PEER = ("10.0.0.1", 0)
_ELSEWHERE = ("10.0.0.9", 0)
_SECOND = 1_000_000_000
_PATTERNS = sorted(PATTERNS)


def target(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Lists a function as a target, under its name."""
    RPT_TARGETS[function.__name__] = function
    return function


def _parameters(cid: int, original_cid: int | None = None) -> Parameters:
    return Parameters(
        connection_id=cid,
        reset_token=bytes(16),
        original_cid=original_cid,
        max_data=1 << 20,
        max_stream_data=1 << 20,
        max_streams_two_way=8,
        max_streams_one_way=8,
        max_datagram_bytes=1000,
    )


@target
def rpt_parameters(data: bytes) -> None:
    try:
        found = Parameters.parse(data)
    except WireError as error:
        assert error.layer == "parameters"
        assert error.offset >= 0
        return
    assert Parameters.parse(found.emit()) == found


@cache
def _tokens() -> RetryTokens:
    return RetryTokens(bytes(32), bytes)


def genuine_token() -> bytes:
    """The one token that `rpt_tokens` must take."""
    return _tokens().make("10.0.0.1", 5, 6, 7, _SECOND)


@target
def rpt_tokens(data: bytes) -> None:
    taken = _tokens().valid(data, "10.0.0.1", 5, 6, 7, 2 * _SECOND)
    assert taken == (data == genuine_token())


def _client(pattern: str) -> ClientHandshake:
    return ClientHandshake(
        suite_number(pattern, "AESGCM"),
        Ports(50_000, 4000, 1, 2),
        static=_CLIENT,
        ephemeral=_EPHEMERAL,
        parameters=_parameters(1),
        peer_key=X25519.public_of(_LISTENER) if pattern.startswith("IK") else None,
        psk=_PSK if "psk" in pattern else b"",
    )


def _server(pattern: str, packet: RPTInit, data: bytes) -> ServerHandshake:
    return ServerHandshake(
        packet,
        data,
        static=_LISTENER,
        ephemeral=lambda: _OTHER,
        parameters=_parameters(3, 2),
        psk=_PSK if "psk" in pattern else b"",
    )


@cache
def genuine_handshakes() -> dict[str, tuple[bytes, bytes, bytes]]:
    """The three packets of each pattern; the last is empty where there are two."""
    found = {}
    for pattern in _PATTERNS:
        client = _client(pattern)
        server = _server(pattern, RPTInit.parse(client.init)[0], client.init)
        client.read(RPTHandshake.parse(server.answer)[0])
        found[pattern] = client.init, server.answer, client.finish or b""
    return found


@target
def rpt_handshake(data: bytes) -> None:
    """The first byte picks pattern and message; the rest stands in its place."""
    which = (data or b"\0")[0]
    pattern, data = _PATTERNS[which % 4], data[1:]
    init, answer, finish = genuine_handshakes()[pattern]
    first = RPTInit.parse(init)[0]
    match which // 4 % 3:
        case 0:
            packet = RPTInit(suite=first.suite, src_cid=1, dst_cid=2, message=data)
            with suppress(NoiseError, WireError):
                _server(pattern, packet, packet.emit())
        case 1:
            message = RPTHandshake.parse(answer)[0]
            forged = RPTHandshake(suite=first.suite, src_cid=3, dst_cid=1, message=data)
            client = _client(pattern)
            assert (client.read(forged) is not None) == (data == message.message)
            assert data == message.message or client.read(message) is not None
        case _:
            if not finish:
                return
            message = RPTHandshake.parse(finish)[0]
            forged = RPTHandshake(suite=first.suite, src_cid=1, dst_cid=3, message=data)
            server = _server(pattern, first, init)
            try:
                server.read(forged)
            except (NoiseError, WireError):
                assert server.read(message).peer_key == X25519.public_of(_CLIENT)
            else:
                assert data == message.message


def _packets(data: bytes) -> Iterator[bytes]:
    """Packets one behind the other, each with its length in two bytes before it."""
    for _ in range(64):
        if len(data) <= 2:
            return
        end = 2 + int.from_bytes(data[:2], "big")
        yield data[2:end]
        data = data[end:]


def _let_in(packet: bytes) -> bytes:
    """A long packet with the length, the CRC and the padding without which nobody reads it."""
    if len(packet) < LONG.size or not packet[0] & 0x80:
        return packet
    if packet[0] & 0x70 == 0:
        packet = packet.ljust(1196, b"\0")
    packet = packet[: LONG.size - 2] + (len(packet) - LONG.size).to_bytes(2, "big") + packet[24:]
    return packet + crc32(packet).to_bytes(4, "big")


@target
def rpt_endpoint(data: bytes) -> None:
    """The first byte tells whether CRCs are set right; then packets for a listening port."""
    rng = random.Random(1)
    config = Config()
    listener = Listener(static=_LISTENER, config=config, token_key=bytes(32))
    endpoint = Endpoint(
        4000, config, entropy=rng.randbytes, ceiling=1480, listener=listener, reset_key=bytes(32)
    )
    got = sent = 0
    now_ns = _SECOND
    for packet in _packets(data[1:]):
        packet = _let_in(packet) if (data[0] & 1) else packet
        refusal(packet, _PEER[0])
        got += len(packet)
        now_ns += 300_000_000
        endpoint.receive([(packet, _PEER, packet[0] & 3 if packet else 0)], now_ns)
        endpoint.on_refused(packet, 1300, now_ns)
        endpoint.handle_timeout(now_ns)
        for answers, _, _ in endpoint.transmit(now_ns):
            sent += sum([len(answer) for answer in answers])
            assert all(not answer[0] & 0x80 or RPTLong.verify(answer) for answer in answers)
        assert sent <= 3 * got or endpoint.connections
        assert len(listener.by_cid) <= MOST_HALF_OPEN
        endpoint.poll_timeout()


class _Hostile:
    """A connection of ours, and a peer that has its keys and no manners."""

    def __init__(self, *, client: bool) -> None:
        self.now_ns = _SECOND
        config = Config(window_bytes=4096, max_window_bytes=8192, max_streams=8)
        self.connection = Connection(
            config,
            client=client,
            port=4000,
            peer_port=50_000,
            cid=3,
            draw_cid=partial(next, zip(count(4), repeat(bytes(16)))),
            forget_cid=lambda cid: None,
            address=_PEER,
            ceiling=1480,
            entropy=random.Random(1).randbytes,
            now_ns=self.now_ns,
        )
        secrets = bytes(32), bytes([1]) * 32
        self.connection.begin(Agreement(*secrets, AES_GCM, _CLIENT, _parameters(1)), self.now_ns)
        self._keys = Keys(secrets[1], AES_GCM)
        self._phase = 0
        self._number = 0
        self.closed = 0

    def act(self, what: int) -> None:
        """What the user, the peer's numbers and time do before the next packet."""
        connection = self.connection
        self._number += 1 + (what & 3 == 3) * 70
        self.now_ns += (0, 1_000_000, 300_000_000, 5 * _SECOND)[what >> 2 & 3]
        if what & 16:
            self._keys, self._phase = self._keys.next(), self._phase ^ 1
        if connection.state is State.ESTABLISHED and what & 32:
            connection.change_keys(self.now_ns)
            with suppress(LocalProtocolError):  # it was stopped, or is forgotten
                connection.write(0, bytes(3000))
        if what & 64:
            connection.close(self.now_ns)

    def seal(self, frames: bytes) -> bytes:
        """A packet of ours truly."""
        flags = KEY_PHASE * self._phase | VERSION_1
        header = SHORT.pack(flags, 1, 4000, 50_000, 3, self._number & 0xFFFFFFFF)
        return header + self._keys.aead.encrypt(self._keys.nonce(self._number), frames, header)

    def turn(self) -> None:
        """Events are drained, all that came is read, what leaves is bounded."""
        connection = self.connection
        while (event := connection.poll_event()) is not None:
            assert not self.closed, "nothing comes after the end"
            if isinstance(event, StreamOpened | StreamReadable):
                connection.read(event.stream_id, 1 << 20, self.now_ns)
            self.closed += isinstance(event, ConnectionClosed)
        while connection.datagrams.receive() is not None:
            pass
        for _ in range(40):
            packets = connection.transmit(self.now_ns, 32)
            assert all(46 <= len(packet) <= 1480 for packet in packets)
            assert len(connection.strays) <= 8
            connection.strays.clear()
            if not packets:
                break
        else:
            raise AssertionError("no end of packets")
        timeout = connection.poll_timeout()
        assert timeout is None or timeout >= 0
        if timeout is not None and timeout <= self.now_ns:
            connection.handle_timeout(self.now_ns)
        assert len(connection.streams.by_id) <= 40
        assert len(connection._control.waiting) <= 100


@target
def rpt_connection(data: bytes) -> None:
    """The first byte picks our side; then packets, each what happens before it, and its frames."""
    hostile = _Hostile(client=bool((data or b"\0")[0] & 1))
    for packet in _packets(data[1:]):
        what = (packet or b"\0")[0]
        hostile.act(what)
        address = _ELSEWHERE if what & 128 else _PEER
        sealed = hostile.seal(packet[1:])
        hostile.connection.handle_short(sealed, address, what & 3, hostile.now_ns)
        hostile.turn()
    hostile.now_ns += 60 * _SECOND
    for _ in range(20):
        hostile.connection.handle_timeout(hostile.now_ns)
        hostile.turn()
        hostile.now_ns += 10 * _SECOND
    assert hostile.connection.state is State.CLOSED, "silence ends all"
    assert hostile.closed == 1, "and is told once"


@target
def rpt_operations(data: bytes) -> None:
    """Two users, a path and time do what the bytes say, three for each thing done."""
    pair = Pair()
    for at in range(0, min(len(data), 300) - 2, 3):
        what, choice, size = data[at], data[at + 1], data[at + 2]
        number = what & 1
        acts: list[Callable[[], object]] = [
            partial(pair.write, number, choice, size * 160),
            partial(pair.read, number, choice, 1 + size * 200),
            partial(pair.wait, size * size * 100_000),
            partial(pair.finish, number, choice),
            partial(pair.reset, number, choice, size),
            partial(pair.stop, number, choice, size),
            partial(pair.datagram, number, size * 8),
            partial(pair.change_keys, number),
            partial(pair.ping, number),
            partial(setattr, pair, "loss", (size & 3) * 0.1),
        ]
        if not pair.over:
            acts.append(partial(pair.open, number, bool(size & 1)))
        if size == 255:
            acts += [partial(pair.close, number), partial(pair.abort, number, choice)]
        acts[(what >> 1) % len(acts)]()
    pair.settle()
