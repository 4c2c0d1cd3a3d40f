"""What a peer, or a stranger, can have us compute and keep: no more than what it sends is worth."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from unittest.mock import patch

from rawproto.transport import endpoint, halfopen, paths
from rawproto.transport import farewell as farewell_module
from rawproto.transport.config import Config
from rawproto.transport.connection import Connection, State
from rawproto.transport.constants import Kind
from rawproto.transport.events import Queue, StreamOpened
from rawproto.transport.farewell import Farewell
from rawproto.transport.halfopen import HalfOpen
from rawproto.transport.noise import X25519
from rawproto.transport.tokens import reset_token
from rawproto.wire.rpt import (
    KEY_PHASE,
    SHORT,
    VERSION_1,
    RPTInit,
    RPTReset,
    RPTRetry,
    parse_rpt,
)
from rawproto.wire.rpt_frames import (
    CloseFrame,
    Frame,
    MaxDataFrame,
    NewConnectionIDFrame,
    PaddingFrame,
    PathChallengeFrame,
    PathResponseFrame,
    ResetStreamFrame,
    StreamFrame,
    parse_frame,
)
from tests.sim.liar import forge
from tests.transport.pair import CLIENT, SECOND, STATIC, Pair, departed

MS = 1_000_000


def established(**settings: object) -> tuple[Pair, Connection, Connection]:
    """Two endpoints, and both sides of their connection."""
    pair = Pair(config=Config(**settings))  # type: ignore[arg-type]
    client = pair.connect()
    pair.run(0.5)
    return pair, client, pair.accepted[0]


def tell(pair: Pair, client: Connection, *frames: Frame) -> None:
    """The listener gets a packet of the client's, of which the client remembers nothing."""
    packet = forge(client, list(frames), pair.now_ns)
    client.sender.recovery.sent.clear()
    client.sender.recovery.in_flight = 0
    pair.server.receive([(packet, CLIENT, 0)], pair.now_ns)


def test_acks_that_nobody_acknowledges_are_not_kept_for_ever() -> None:
    pair, client, server = established(kind=Kind.DGRAM)
    for _ in range(5000):  # one way, so that nothing is ever said that has to be acknowledged
        client.send_datagram(b"x")
        pair.client.touch(client)
        pair.exchange()
        assert server.datagrams.receive() == b"x"
        pair.now_ns += 30 * MS
        pair.server.handle_timeout(pair.now_ns)
        pair.client.handle_timeout(pair.now_ns)
    assert server.sender.packets > 2000
    assert len(server.sender.recovery.sent) < 1100
    assert client.state is server.state is State.ESTABLISHED


def test_answers_that_may_not_leave_are_not_made() -> None:
    pair = Pair()
    stranger = SHORT.pack(VERSION_1, 1, 4000, 9, 77, 0) + bytes(40)
    with patch.object(endpoint, "reset_token", wraps=reset_token) as made:
        pair.server.receive([(stranger, CLIENT, 0)] * 3000, pair.now_ns)
        assert made.call_count == 1000
        pair.now_ns += 10 * SECOND
        pair.server.receive([(stranger, ("224.0.0.1", 0), 0)], pair.now_ns)
        pair.server.receive([(stranger[:44], CLIENT, 0)], pair.now_ns)  # a RESET would be larger
        assert made.call_count == 1000
    assert len(departed(pair.server, pair.now_ns)) == 1000


def half_open_ik(pair: Pair) -> tuple[Connection, HalfOpen]:
    """A client that knows the listener's key, and what the listener has of it after its INIT."""
    client = pair.connect(peer_key=X25519.public_of(STATIC))
    (init,) = departed(pair.client, pair.now_ns)
    pair.server.receive([(init, CLIENT, 0)], pair.now_ns)
    listener = pair.server._reception.listener
    assert listener is not None
    (half_open,) = listener.by_cid.values()
    return client, half_open


def test_forged_packets_for_a_half_open_handshake_make_no_connections() -> None:
    pair = Pair()
    client, half_open = half_open_ik(pair)
    with patch.object(endpoint, "Connection", wraps=Connection) as made:
        for flags in (VERSION_1, VERSION_1 | KEY_PHASE):
            for number in (0, 1 << 31):
                header = SHORT.pack(flags, 1, 4000, 50_000, half_open.cid, number)
                pair.server.receive([(header + bytes(40), CLIENT, 0)] * 10, pair.now_ns)
        assert not made.call_count
        pair.exchange()
        client.write(0, b"hello")
        pair.client.touch(client)
        pair.exchange()
        assert made.call_count == 1
    assert pair.accepted[0].read(0, 9, pair.now_ns) == b"hello"


def test_packets_held_for_message_3_are_few_and_small() -> None:
    pair = Pair()
    pair.connect()
    (init,) = departed(pair.client, pair.now_ns)
    pair.server.receive([(init, CLIENT, 0)], pair.now_ns)
    listener = pair.server._reception.listener
    assert listener is not None
    (half_open,) = listener.by_cid.values()
    header = SHORT.pack(VERSION_1, 1, 4000, 50_000, half_open.cid, 0)
    packets = [header + bytes(size - len(header)) for size in [60_000] * 10 + [1201] + [1200] * 10]
    pair.server.receive([(packet, CLIENT, 0) for packet in packets], pair.now_ns)
    assert [len(packet) for packet in half_open.held] == [1200] * 8


def test_packet_from_elsewhere_is_parsed_as_far_as_it_settles_whether_its_sender_moved() -> None:
    pair, client, server = established()
    ping = b"\1" * 60_000
    with patch.object(paths, "parse_frame", wraps=parse_frame) as parsed:
        server._look(("10.0.0.77", 0), ping, 60_000, True, pair.now_ns)
        assert parsed.call_count == 1
    assert server.address == ("10.0.0.77", 0)
    for probe in (PaddingFrame(9), PathChallengeFrame(bytes(8)), PathResponseFrame(bytes(8))):
        assert not paths._moves(probe.emit() + NewConnectionIDFrame(9, 9, 9, bytes(16)).emit())
        assert paths._moves(probe.emit() + MaxDataFrame(9).emit())
    assert client.state is State.ESTABLISHED


def test_pings_to_who_is_closing_are_not_parsed() -> None:
    farewell = Farewell(0, "", 0, 100 * MS, answer=False)
    with patch.object(farewell_module, "parse_frame", wraps=parse_frame) as parsed:
        assert not farewell.on_packet(b"\1" * 60_000)
        assert farewell.on_packet(b"\1" * 60_000 + CloseFrame(0).emit() + b"\xff")
        assert parsed.call_count == 1


def test_events_by_the_hundred_thousand_are_told_in_order_and_none_is_moved() -> None:
    queue = Queue()
    began_s = time.process_time()
    for number in range(200_000):
        queue.append(StreamOpened(number))
    assert [queue.next() for _ in range(3)] == [StreamOpened(number) for number in range(3)]
    queue.append(StreamOpened(200_000))
    told = 3
    while queue:
        assert queue.next() == StreamOpened(told)
        told += 1
    assert told == 200_001
    assert time.process_time() - began_s < 3, "or a peer that opens and ends streams stops us"
    queue.append(StreamOpened(7))
    assert queue.next() == StreamOpened(7)
    assert not queue


def test_inits_that_do_not_open_cost_a_handshake_each_up_to_64_a_second() -> None:
    pair = Pair()
    message = X25519.public_of(bytes(range(32))) + bytes(200)
    init = RPTInit(suite=0x11, dst_port=4000, src_port=9, message=message)
    init = replace(init, padding=bytes(1200 - len(init.emit())))
    flood = [
        (replace(init, src_cid=1 + number).emit(), (f"10.9.{number >> 8}.{number & 255}", 0), 0)
        for number in range(600)
    ]
    with patch.object(halfopen, "ServerHandshake", wraps=halfopen.ServerHandshake) as made:
        pair.server.receive(flood, pair.now_ns)
        assert made.call_count == 65
        answers = [parse_rpt(data)[0] for data in departed(pair.server, pair.now_ns)]
        assert Counter(type(each) for each in answers) == {RPTReset: 65, RPTRetry: 535}
        connection = pair.connect(peer_key=X25519.public_of(STATIC))
        pair.exchange()
        assert connection.state is State.ESTABLISHED
        assert len(pair.longs(RPTRetry)) == 1
        assert made.call_count == 66
    pair.run(1)
    other = pair.connect()
    pair.exchange()
    assert other.state is State.ESTABLISHED
    assert len(pair.longs(RPTRetry)) == 1


def test_streams_that_end_while_nothing_may_leave_have_nothing_wait_for_them() -> None:
    pair, client, server = established()
    server.sender.recovery.in_flight = 1 << 30  # a peer that acknowledges nothing
    for number in range(500):
        stream_id = number << 2 | 2
        tell(pair, client, StreamFrame(stream_id, 0, b"a"))
        server.incoming.abandon(stream_id)
        tell(pair, client, StreamFrame(stream_id, 1, b"b"))
        assert ("stop", stream_id) in server._control.waiting
        tell(pair, client, ResetStreamFrame(stream_id, 0, 2))
    assert len(server._control.waiting) < 10
    assert len(server.streams.by_id) == 1
    assert server.state is State.ESTABLISHED
