"""A question and its answer, taken the short way, leave what the long way leaves: each packet."""

from __future__ import annotations

import random
from typing import Any
from unittest.mock import Mock, patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawproto.errors import RemoteProtocolError
from rawproto.transport.attempt import Credentials
from rawproto.transport.config import Config
from rawproto.transport.congestion import CONTROLLERS
from rawproto.transport.connection import Arrival, Connection, State
from rawproto.transport.constants import CloseCode
from rawproto.transport.dialogue import MOST_ALONE
from rawproto.transport.ecn import Stage
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.events import ConnectionClosed
from rawproto.transport.halfopen import Listener
from rawproto.transport.rtt import RTT
from rawproto.transport.stream import Stream
from tests.transport.pair import CLIENT, SERVER, STATIC

US, MS = 1_000, 1_000_000
ELSEWHERE = ("10.0.0.9", 0)


class Steady:
    """A controller that nothing moves, so that the worlds may learn of the path at other times."""

    window, pacing_rate, slow_start = 12_000, 1 << 30, False

    def __init__(self, packet: int, entropy: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.fixture(autouse=True)
def _steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTROLLERS, "steady", Steady)


class SteadyRTT(RTT):
    """Estimates that nothing moves, for the same reason."""

    def on_sample(self, rtt_ns: int, ack_delay_ns: int) -> None:
        super().on_sample(100 * US, 0)


class World:
    """A client and a listener, and a program on either side that asks and answers."""

    def __init__(self, *, short: bool, congestion: str = "steady") -> None:
        self.short = short
        self.ways = [0, 0]  # packets that left, and came, by the short one
        self.now_ns = 10**15
        config = Config(congestion=congestion, window_bytes=1 << 16, max_window_bytes=1 << 16)
        self.ends = [
            Endpoint(50_000, config, entropy=random.Random(1).randbytes, ceiling=1480),
            Endpoint(
                4000,
                config,
                entropy=random.Random(2).randbytes,
                ceiling=1480,
                listener=Listener(config=config, static=STATIC),
            ),
        ]
        credentials = Credentials(static=bytes([8]) * 32)
        asking = self.ends[0].connect(SERVER, 4000, credentials, self.now_ns)
        answering = None
        for _ in range(40):  # the search for the packet size and ECN's trial come to their end
            for side in (0, 1):
                self.arrive(1 - side, self.leave(side))
            answering = answering or self.ends[1].accept()
            self.pass_time(40 * MS if asking.state is State.ESTABLISHED else MS)
        assert answering is not None
        self.connections: list[Connection] = [asking, answering]
        self.hear()

    def pass_time(self, ns: int) -> None:
        self.now_ns += ns
        for end in self.ends:
            end.handle_timeout(self.now_ns)

    def leave(self, side: int) -> list[Arrival]:
        """What leaves in a turn."""
        source = (CLIENT, SERVER)[side]
        packets: list[Arrival] = []
        while self.ends[side].pending and (gone := self.ends[side].transmit(self.now_ns)):
            packets += [(data, source, mark) for group, _, mark in gone for data in group]
        return packets

    def stream(self, side: int) -> Stream | None:
        return self.connections[side].streams.known(0)

    def say(self, side: int, data: bytes) -> list[Arrival]:
        """The program writes; what leaves at once."""
        connection, stream = self.connections[side], self.stream(side)
        if self.short and stream is not None and len(data) <= MOST_ALONE:
            gone = self.ends[side].transmit_one(connection, stream, data, self.now_ns)
            if gone is not None:
                self.ways[0] += 1
                return [(gone[0], (CLIENT, SERVER)[side], gone[2])]
        connection.write(0, data)
        self.ends[side].touch(connection)
        return self.leave(side)

    def arrive(self, side: int, packets: list[Arrival]) -> None:
        for packet in packets:
            if self.short:
                self.ways[1] += self.ends[side].receive_one(packet, self.now_ns) is not None
            else:
                self.ends[side].receive([packet], self.now_ns)

    def read(self, side: int) -> bytes:
        return self.connections[side].read(0, 1 << 16, self.now_ns)

    def hear(self) -> None:
        for connection in self.connections:
            while connection.poll_event() is not None:
                pass

    def state(self) -> list[Any]:
        """What later packets follow from."""
        return [
            (
                each.state,
                each.packets_received,
                each.forgeries,
                list(each.acks.received),
                each.acks.due_ns,
                each.acks.counts,
                each.sender.number,
                each.sender.packets,
                list(each.sender.recovery.sent),
                each.sender.recovery.in_flight,
                each.sender.recovery.delivered,
                each.sender.recovery.ecn.stage,
                each.sender.recovery.ecn.mark,
                each.outgoing.sent,
                each.paths.address,
            )
            for each in self.connections
        ]


class Twins:
    """Two worlds that cannot be told apart but by the way that their packets take."""

    def __init__(self) -> None:
        with patch("rawproto.transport.recovery.RTT", SteadyRTT):
            self.worlds = [World(short=True), World(short=False)]
        self.same(lambda world: world.state())

    def same(self, call: Any) -> Any:
        one, other = (call(world) for world in self.worlds)
        assert one == other
        return one

    def ask(self, side: int, data: bytes, harm: random.Random | None = None) -> None:
        """One packet or more leave; the other side reads what has come of them."""
        packets = self.same(lambda world: world.say(side, data))
        if harm is not None:
            packets = harmed(packets, harm)
        self.same(lambda world: setattr(world, "now_ns", world.now_ns + 40 * US))
        self.same(lambda world: world.arrive(1 - side, packets))
        self.same(lambda world: world.read(1 - side))

    def turn(self) -> None:
        """Both sides get a turn, as often as they have something to say."""
        for _ in range(20):
            said = [self.same(lambda world, side=side: world.leave(side)) for side in (0, 1)]
            self.same(lambda world, said=said: world.arrive(1, said[0]))
            self.same(lambda world, said=said: world.arrive(0, said[1]))
            for side in (0, 1):
                self.same(lambda world, side=side: world.read(side))
            if not any(said):
                break
        for world in self.worlds:
            world.hear()


def harmed(packets: list[Arrival], rng: random.Random) -> list[Arrival]:
    """What may become of packets on their way."""
    kind = rng.randrange(6)
    if kind == 0:
        return []
    if kind == 1:
        return packets * 2
    data, address, ecn = packets[-1]
    if kind == 2:
        return [*packets[:-1], (data[:-1] + bytes([data[-1] ^ 1]), address, ecn)]
    if kind == 3:
        return [*packets[:-1], (data, address, 3)]
    if kind == 4:
        return [*packets[:-1], (data, address, 0)]
    return [*packets[:-1], (data, ELSEWHERE if address == CLIENT else address, ecn)]


def test_short_way_is_taken_and_every_packet_is_that_of_the_long_one() -> None:
    twins = Twins()
    for number in range(1500):
        twins.ask(0, bytes([number & 0xFF]) * (number % 97 + 1))
        twins.ask(1, bytes([number & 0xFF]) * 64)
        for world in twins.worlds:
            world.hear()
    twins.same(lambda world: world.state())
    # A packet number is left out now and then, and RTTs are told.
    assert min(twins.worlds[0].ways) > 2900
    assert twins.worlds[1].ways == [0, 0]


@settings(max_examples=40)
@given(st.integers(0, 1 << 32))
def test_whatever_happens_in_between_the_short_way_is_as_good_as_the_long_one(seed: int) -> None:
    rng, twins = random.Random(seed), Twins()
    for _ in range(150):
        for side in (0, 1):
            twins.ask(
                side,
                rng.randbytes(rng.choice([1, 64, 64, 64, 700, 1024, 3000])),
                rng if rng.random() < 0.03 else None,
            )
        if rng.random() < 0.1:
            twins.turn()
        if rng.random() < 0.05:
            twins.same(lambda world: world.pass_time(60 * MS))
            twins.turn()
        if rng.random() < 0.1:
            change = rng.randrange(5)
            for world in twins.worlds:
                meddle(world, change)
    for _ in range(60):
        twins.same(lambda world: world.pass_time(100 * MS))
        twins.turn()
    twins.same(lambda world: world.state())
    assert twins.worlds[0].ways[1] > 0


def meddle(world: World, change: int) -> None:
    """A command in between."""
    asking = world.connections[0]
    if asking.state is not State.ESTABLISHED:
        return
    if change == 0:
        asking.ping()
    elif change == 1:
        asking.write(asking.streams.open(), b"another stream")
    elif change == 2:
        asking.change_keys(world.now_ns)
    elif change == 3:
        asking.on_moved(1300, world.now_ns)
    else:
        asking.send_datagram(b"datagram")
    world.ends[0].touch(asking)


@pytest.mark.parametrize("congestion", ["bbr", "cubic", "newreno"])
def test_path_is_heard_of_all_the_same(congestion: str) -> None:
    world = World(short=True, congestion=congestion)
    for _ in range(2000):
        for side in (0, 1):
            packets = world.say(side, bytes(64))
            world.now_ns += 40 * US
            world.arrive(1 - side, packets)
            while not (data := world.read(1 - side)):  # it is paced
                world.pass_time(MS)
                world.arrive(1 - side, world.leave(side))
            assert data == bytes(64)
            world.hear()
    recovery = world.connections[0].sender.recovery
    assert recovery.rtt.latest_rtt == 80 * US
    assert recovery.rtt.smoothed_rtt < 2 * MS
    # A path that has become longer is noticed with the first packet that tells.
    world.arrive(1, world.say(0, bytes(64)))
    assert world.read(1)
    world.now_ns += 5 * MS
    world.arrive(0, world.say(1, bytes(64)))
    assert recovery.rtt.latest_rtt == 5 * MS


def talk(world: World, rounds: int = 1) -> None:
    """So many questions and answers."""
    for _ in range(rounds):
        for side in (0, 1):
            packets = world.say(side, bytes(64))
            world.now_ns += 40 * US
            world.arrive(1 - side, packets)
            world.read(1 - side)
            world.hear()


@pytest.mark.parametrize("lost", [3, 60])
def test_lone_packet_is_no_larger_than_others_though_it_acknowledges_what_came_with_gaps(
    lost: int,
) -> None:
    world = World(short=True)
    asking, answering = world.connections
    for number in range(2 * lost + 1):
        asking.send_datagram(b"?")
        world.ends[0].touch(asking)
        packets = world.leave(0)
        if not number % 2:
            world.arrive(1, packets)
    assert len(answering.acks.received.starts) == lost + 1
    assert answering.acks.due_ns is not None
    packets = world.say(1, bytes(MOST_ALONE))
    assert max(len(data) for data, _, _ in packets) <= answering.sender.mtu.size
    assert world.ways[0] == (lost < 10)  # with few gaps it goes the short way nevertheless
    world.arrive(0, packets)
    assert world.read(0) == bytes(MOST_ALONE)


def test_who_speaks_before_he_was_told_of_a_question_is_told_nevertheless() -> None:
    world = World(short=True)
    talk(world, 3)
    asking, stream = world.connections[0], world.stream(0)
    assert stream is not None
    world.arrive(1, world.say(0, bytes(64)))
    world.ends[0].active()
    packets = world.say(1, bytes(64))
    world.now_ns += 80 * US
    world.arrive(0, packets)
    assert asking.dialogue is not None
    asking.incoming.tell_readable(stream)  # nobody waited for it
    assert world.ends[0].transmit_one(asking, stream, bytes(64), world.now_ns) is not None
    assert asking in world.ends[0].active()


@pytest.mark.parametrize("asked_before", [0, 3], ids=["alone", "in a dialogue"])
def test_what_is_written_before_the_answer_comes_is_sent_behind_it(asked_before: int) -> None:
    world = World(short=True)
    talk(world, asked_before)
    asking, questions = world.connections[0], world.say(0, b"question")
    world.arrive(1, questions)
    assert world.read(1) == b"question"
    asking.write(0, b" and more")
    answers = world.say(1, b"answer")
    world.now_ns += 80 * US
    before = world.ways[1]
    world.arrive(0, answers)
    assert world.read(0) == b"answer"
    assert (asking.dialogue is not None) == (asked_before > 0)
    assert world.ways[1] - before == (asked_before > 0)
    world.ends[0].touch(asking)
    world.arrive(1, world.leave(0))
    assert world.read(1) == b" and more"


def test_keys_may_change_again_though_only_lone_packets_were_acknowledged() -> None:
    world = World(short=True)
    for side in (0, 1, 0):  # who followed has nothing but lone packets to know by
        assert world.connections[side].change_keys(world.now_ns)
        talk(world, 5)
        world.now_ns += 5_000 * MS  # more than 3 PTO, in which nobody has a turn
    assert world.ways[1] > 10


def test_who_is_only_told_something_now_and_then_is_not_idle() -> None:
    world = World(short=True)
    for _ in range(10):
        packets = world.say(1, b"still there")
        world.arrive(0, packets)
        assert world.read(0) == b"still there"
        for _ in range(100):
            world.pass_time(100 * MS)
            world.arrive(1, world.leave(0))
            world.arrive(0, world.leave(1))
        world.hear()
        assert {each.state for each in world.connections} == {State.ESTABLISHED}
    assert world.ways == [10, 10]


def test_question_and_answer_may_go_by_two_streams_of_one_way_each() -> None:
    world = World(short=True)
    asked, answered = (each.streams.open(one_way=True) for each in world.connections)
    for number in range(20):
        for side, stream_id in ((0, asked), (1, answered)):
            connection, data = world.connections[side], bytes([number]) * 64
            stream = connection.streams.known(stream_id)
            assert stream is not None
            gone = world.ends[side].transmit_one(connection, stream, data, world.now_ns)
            assert gone is not None
            world.arrive(1 - side, [(gone[0], (CLIENT, SERVER)[side], gone[2])])
            assert world.connections[1 - side].read(stream_id, 100, world.now_ns) == data
            world.hear()


def test_answer_that_acknowledges_what_was_left_out_ends_the_connection() -> None:
    world = World(short=True)
    asking, answering = world.connections
    while not asking.sender.recovery.skipped:
        talk(world)
    talk(world, 10)
    assert asking.dialogue is not None
    world.arrive(1, world.say(0, bytes(64)))
    answering.acks.received.starts[0] = asking.sender.recovery.skipped[-1]
    packets = world.say(1, bytes(64))
    world.now_ns += 80 * US
    world.arrive(0, packets)
    assert asking.state is State.CLOSING


def test_mark_of_a_router_is_acknowledged_at_once_in_a_dialogue_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Steady, "window", 64_000)  # so that not every packet asks for that
    world = World(short=True)
    talk(world, 5)
    asking, answering = world.connections
    assert asking.dialogue is not None
    assert answering.dialogue is not None
    ((question, source, _),) = world.say(0, bytes(64))
    world.now_ns += 80 * US
    world.arrive(1, [(question, source, 3)])
    assert world.read(1) == bytes(64)
    world.arrive(0, world.leave(1))
    assert not asking.sender.recovery.in_flight
    assert asking.sender.recovery.ecn.counts[2] == 1


def test_what_waits_to_be_sent_is_not_overtaken_by_a_dialogue() -> None:
    world = World(short=True)
    talk(world, 5)
    asking = world.connections[0]
    stream = world.stream(0)
    assert stream is not None
    assert asking.dialogue is not None
    asking.write(0, b"first, ")
    assert world.ends[0].transmit_one(asking, stream, b"second", world.now_ns) is None
    world.arrive(1, world.say(0, b"second"))
    assert world.read(1) == b"first, second"


def test_datagram_that_waits_goes_along_with_what_a_dialogue_would_send() -> None:
    world = World(short=True)
    talk(world, 5)
    asking, answering = world.connections
    stream = world.stream(0)
    assert stream is not None
    assert asking.dialogue is not None
    asking.send_datagram(b"before")
    assert world.ends[0].transmit_one(asking, stream, b"behind", world.now_ns) is None
    packets = world.say(0, b"behind")
    assert len(packets) == 1
    world.arrive(1, packets)
    assert answering.datagrams.receive() == b"before"
    assert world.read(1) == b"behind"


def test_mark_of_a_router_on_what_nobody_asked_about_any_more_is_told_in_a_dialogue_too() -> None:
    world = World(short=True)
    talk(world, 5)
    asking, answering = world.connections
    assert asking.dialogue is not None
    told: list[Any] = []
    with patch.object(Steady, "on_lost", lambda _, lost: told.append(lost), create=True):
        world.arrive(1, world.say(0, bytes(64)))
        # An ACK alone, which was thought lost, has come late and marked.
        asking.sender.recovery.ecn.sent += 1
        answering.acks.counts[3] += 1
        packets = world.say(1, bytes(64))
        world.now_ns += 80 * US
        world.arrive(0, packets)
    assert len(told) == 1
    assert asking.sender.recovery.ecn.stage is Stage.CAPABLE
    assert world.read(0) == bytes(64)


def test_who_traces_is_told_of_lone_packets_too() -> None:
    world = World(short=True)
    talk(world, 5)
    connection = world.connections[1]
    tracer = Mock()
    connection.trace(tracer)
    before = connection.packets_received
    talk(world, 5)
    assert connection.packets_received - before == 5
    assert tracer.packet_received.call_count == tracer.packet_sent.call_count == 5


def test_what_a_stream_cannot_take_uses_up_no_pace_of_others() -> None:
    world = World(short=True)
    asking, full = world.connections[0], world.stream(0)
    assert full is not None
    assert full.sending is not None
    full.send_limit = full.sending.next
    other = asking.streams.known(asking.streams.open())
    assert other is not None
    for _ in range(100):
        assert world.ends[0].transmit_one(asking, full, b"more", world.now_ns) is None
    assert world.ends[0].transmit_one(asking, other, b"other", world.now_ns) is not None


def test_dialogue_is_over_with_the_connection() -> None:
    for end in (Connection.close, lambda asking, now_ns: asking.abort(0, "", now_ns)):
        world = World(short=True)
        talk(world, 5)
        asking, stream = world.connections[0], world.stream(0)
        assert stream is not None
        assert asking.dialogue is not None
        end(asking, world.now_ns)
        world.ends[0].touch(asking)
        assert world.ends[0].transmit_one(asking, stream, b"more", world.now_ns) is None


def test_answer_that_came_faster_than_any_before_is_told() -> None:
    world = World(short=True)
    talk(world, 100)
    asking = world.connections[0]
    assert asking.dialogue is not None
    assert asking.sender.recovery.rtt.latest_rtt == 80 * US
    world.arrive(1, world.say(0, b"?"))
    world.now_ns += 10 * US
    world.arrive(0, world.say(1, b"!"))
    assert asking.sender.recovery.rtt.latest_rtt == 10 * US


def ask_who_does_not_read(world: World) -> None:
    """Questions by the short way, as far as it takes them; each is answered and none is read."""
    stream = world.stream(0)
    assert stream is not None
    for _ in range(100):
        gone = world.ends[0].transmit_one(
            world.connections[0], stream, bytes(MOST_ALONE), world.now_ns
        )
        if gone is None:
            return
        world.now_ns += 40 * US
        world.arrive(1, [(gone[0], CLIENT, gone[2])])
        if world.connections[1].state is not State.ESTABLISHED:
            return
        world.hear()
        packets = world.say(1, b"?")
        world.now_ns += 40 * US
        world.arrive(0, packets)
        assert world.read(0) == b"?"


def test_dialogue_goes_no_further_than_the_other_side_reads() -> None:
    world = World(short=True)
    before = world.connections[0].outgoing.sent
    ask_who_does_not_read(world)
    assert world.connections[0].outgoing.sent - before == (1 << 16) // MOST_ALONE * MOST_ALONE
    assert {each.state for each in world.connections} == {State.ESTABLISHED}


def test_who_goes_further_in_a_dialogue_breaks_a_rule() -> None:
    world = World(short=True)
    stream = world.stream(0)
    assert stream is not None
    stream.send_limit = world.connections[0].outgoing.data_limit = 1 << 20
    ask_who_does_not_read(world)
    assert world.connections[1].state is State.CLOSING
    assert world.connections[1].incoming.received <= 1 << 16
    events = iter(world.connections[1].poll_event, None)
    (error,) = [each.error for each in events if isinstance(each, ConnectionClosed)]
    assert isinstance(error, RemoteProtocolError)
    assert error.code == CloseCode.FLOW
