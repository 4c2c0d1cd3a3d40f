"""Lone packets, turns, and all else that a connection does, mixed over a path that does harm.

Each host is as a driver: a packet that comes alone is taken in alone, its reader may answer
without a turn, and a turn comes when the timer says so that was armed last. A program hears only
of what it is told, so a wake-up that is forgotten, or a timer, shows as bytes that never come.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rawproto.transport.attempt import Credentials
from rawproto.transport.config import Config
from rawproto.transport.connection import Connection, State
from rawproto.transport.constants import MAX_ACK_DELAY_NS
from rawproto.transport.dialogue import MOST_ALONE
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.events import (
    ConnectionClosed,
    SendingStopped,
    StreamReadable,
    StreamReset,
    StreamWritable,
)
from rawproto.transport.halfopen import Listener
from rawproto.transport.stream import Stream
from tests.transport.pair import CLIENT, SERVER, STATIC

US, MS, SECOND = 1_000, 1_000_000, 1_000_000_000
_SOON_NS = 5 * MS  # who was told of a packet and says nothing has a turn given to him
_SIZES = (1, *[64] * 20, 700, 1024, 1025, 5000, 40_000)


@dataclass
class Side:
    """A host: its endpoint, its timer, and what its program knows of each stream."""

    endpoint: Endpoint
    source: tuple[str, int]
    connection: Connection | None = None
    armed_ns: int | None = None
    sent: dict[int, bytearray] = field(default_factory=dict)
    read: dict[int, bytearray] = field(default_factory=dict)
    waiting: dict[int, bytearray] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    ended: list[Exception | None] = field(default_factory=list)
    alone: int = 0  # packets that a dialogue took in


class World:
    """A client, a listener that answers with what it reads, and the path between them."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.now_ns = SECOND
        self.window = rng.choice((1 << 12, 1 << 16, 1 << 20))
        config = Config(
            congestion=rng.choice(("bbr", "cubic", "newreno")),
            window_bytes=self.window,
            max_window_bytes=4 * self.window,
            keep_alive_ns=SECOND,  # or who moves and has nothing to say is not found again
        )
        client = Endpoint(50_000, config, entropy=rng.randbytes, ceiling=1480)
        listener = Listener(config=config, static=STATIC)
        server = Endpoint(4000, config, entropy=rng.randbytes, ceiling=1480, listener=listener)
        self.sides = Side(client, CLIENT), Side(server, SERVER)
        self.due: list[tuple[int, int, Any]] = []
        self.count = 0
        self.numbers: set[tuple[bool, int]] = set()
        self.delay_ns = rng.choice((20 * US, 20 * US, 5 * MS))
        self.harm = rng.choice((0.0, 0.0, 0.01, 0.05, 0.2))
        self.sides[0].connection = client.connect(
            SERVER, 4000, Credentials(static=bytes([8]) * 32), self.now_ns
        )
        self.asking = 10  # so many questions follow from answers
        self.turn(self.sides[0])

    # --- time ---

    def at(self, ns: int, call: Any) -> None:
        self.count += 1
        heappush(self.due, (ns, self.count, call))

    def run(self, ns: int, done: Any = lambda: False) -> bool:
        """Lets time pass: whether it was done by then."""
        end_ns = self.now_ns + ns
        for _ in range(1_000_000):
            if done():
                return True
            times = [side.armed_ns for side in self.sides if side.armed_ns is not None]
            times += [self.due[0][0]] if self.due else []
            following = max(min(times, default=end_ns), self.now_ns)
            if following >= end_ns:
                self.now_ns = end_ns
                return False
            self.now_ns = following
            if self.due and self.due[0][0] <= following:
                heappop(self.due)[2]()
            for side in self.sides:
                if side.armed_ns is not None and side.armed_ns <= following:
                    side.armed_ns = None
                    self.turn(side)
            self.check()
        raise AssertionError("no end of turns")

    def arm(self, side: Side, ns: int | None) -> None:
        if ns is not None and (side.armed_ns is None or ns < side.armed_ns):
            side.armed_ns = ns

    def check(self) -> None:
        for side in self.sides:
            connection = side.connection
            if connection is None or connection.state is not State.ESTABLISHED:
                continue
            recovery, outgoing = connection.sender.recovery, connection.outgoing
            assert recovery.in_flight == sum([each[1] for each in recovery.sent.values()])
            assert outgoing.sent <= outgoing.data_limit
            due = [ns for ns in (recovery.pto_ns(), connection.acks.due_ns) if ns is not None]
            if due and connection.quiet and not side.endpoint.pending:  # or a turn follows
                assert side.armed_ns is not None
                assert side.armed_ns <= max(min(due), self.now_ns) + MAX_ACK_DELAY_NS

    # --- the path ---

    def leave(self, side: Side, data: bytes, target: tuple[str, int], ecn: int) -> None:
        if not data[0] & 0x80:
            number = side is self.sides[0], int.from_bytes(data[14:18], "big")
            assert number not in self.numbers  # or a nonce is used twice
            self.numbers.add(number)
        rng, other = self.rng, self.sides[side is self.sides[0]]
        harm = rng.random() < self.harm and rng.randrange(6)
        if harm == 1:
            return
        if harm == 2:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if ecn and harm == 3:
            ecn = 3
        source = side.source
        for _ in range(1 + (harm == 4)):
            late = rng.randrange(4 * self.delay_ns) if harm in (4, 5) else 0
            packet = data, source, ecn
            self.at(self.now_ns + self.delay_ns + late, partial(self.arrive, other, target, packet))

    def arrive(self, side: Side, target: tuple[str, int], packet: Any) -> None:
        if target != side.source:
            return  # it has moved
        if self.rng.random() < 0.02:  # not alone
            side.endpoint.receive([packet], self.now_ns)
            self.turn(side)
            return
        found = side.endpoint.receive_one(packet, self.now_ns)
        if found is None:
            self.turn(side)
        elif self.rng.random() < 0.98:
            side.alone += found[0].dialogue is not None
            think_ns = self.rng.choice((*[0] * 30, 50 * US, 2 * MS, 30 * MS))
            self.at(self.now_ns + think_ns, lambda: self.hear(side, found[1].stream_id))
            self.at(self.now_ns + _SOON_NS, partial(self.turn_if_pending, side))
        else:
            found[0].incoming.tell_readable(found[1])
            self.turn(side)

    # --- what a driver does ---

    def turn(self, side: Side) -> None:
        endpoint = side.endpoint
        due_ns = endpoint.poll_timeout()
        if due_ns is not None and due_ns <= self.now_ns:
            endpoint.handle_timeout(self.now_ns)
        while endpoint.pending and (gone := endpoint.transmit(self.now_ns)):
            for packets, target, ecn in gone:
                for data in packets:
                    self.leave(side, data, target, ecn)
        if side.connection is None:
            side.connection = endpoint.accept()
        for connection in endpoint.active():
            while (event := connection.poll_event()) is not None:
                self.on_event(side, event)
        self.arm(side, endpoint.poll_timeout())

    def turn_if_pending(self, side: Side) -> None:
        if side.endpoint.pending:
            self.turn(side)

    def on_event(self, side: Side, event: Any) -> None:
        if isinstance(event, StreamReadable):
            self.at(self.now_ns, lambda: self.hear(side, event.stream_id))
        elif isinstance(event, StreamWritable):
            self.flush(side, event.stream_id)
        elif isinstance(event, StreamReset | SendingStopped):
            side.broken.add(event.stream_id)
        elif isinstance(event, ConnectionClosed):
            side.ended.append(event.error)

    # --- what a program does ---

    def touch(self, side: Side) -> None:
        assert side.connection is not None
        side.endpoint.touch(side.connection)
        self.arm(side, self.now_ns)

    def say(self, side: Side, stream_id: int, data: bytes) -> None:
        connection = side.connection
        if connection is None or connection.state is not State.ESTABLISHED:
            return
        stream = connection.streams.known(stream_id)
        if stream is None or stream.sending is None or stream.reset_code is not None:
            return
        if stream.sending.ended or not connection.quiet:
            return
        side.sent.setdefault(stream_id, bytearray()).extend(data)
        waiting = side.waiting.setdefault(stream_id, bytearray())
        if len(data) <= MOST_ALONE and not waiting and self.rng.random() < 0.98:
            gone = side.endpoint.transmit_one(connection, stream, data, self.now_ns)
            if gone is not None:
                self.leave(side, *gone)
                self.arm(side, self.now_ns + MAX_ACK_DELAY_NS)
                return
        full = bool(waiting)
        waiting.extend(data)
        if not full:
            self.flush(side, stream_id)

    def flush(self, side: Side, stream_id: int) -> None:
        """Writes what waits; if it does not all go, the stream says when it does."""
        connection, waiting = side.connection, side.waiting[stream_id]
        assert connection is not None
        if connection.quiet and waiting:
            stream = connection.streams.known(stream_id)
            sending = stream.sending if stream is not None and stream.reset_code is None else None
            if sending is not None and not sending.ended:
                while waiting and (taken := connection.write(stream_id, bytes(waiting))):
                    del waiting[:taken]
            self.touch(side)

    def hear(self, side: Side, stream_id: int) -> None:
        """Reads what is there; the listener answers with it, the client goes on asking."""
        connection = side.connection
        assert connection is not None
        data = b""
        while part := connection.read(stream_id, self.rng.choice((100, 1 << 16)), self.now_ns):
            data += part
        if connection.sender.waits:
            self.touch(side)
        if not data:
            return
        side.read.setdefault(stream_id, bytearray()).extend(data)
        if side is self.sides[1]:
            stream = connection.streams.known(stream_id)
            if stream is not None and stream.sending is not None:
                self.say(side, stream_id, data)
            elif self.rng.random() < 0.5:
                self.say(side, 0, data[:64])
        elif self.asking and (all_heard(self) or self.rng.random() < 0.01):
            self.asking -= 1
            self.say(side, stream_id & ~2, self.rng.randbytes(self.rng.choice(_SIZES)))

    def meddle(self) -> None:
        """Something that is no question."""
        rng = self.rng
        side = rng.choice(self.sides)
        connection = side.connection
        if connection is None or connection.state is not State.ESTABLISHED:
            return
        kind = rng.randrange(10)
        opened = [key for key in side.sent if key]
        if kind == 0:
            connection.ping()
        elif kind == 1 and side is self.sides[0]:
            one_way = rng.random() < 0.5
            if connection.streams.may_open(one_way=one_way):
                stream_id = connection.streams.open(one_way=one_way)
                self.say(side, stream_id, rng.randbytes(rng.choice(_SIZES)))
        elif kind == 2:
            connection.change_keys(self.now_ns)
        elif kind == 3 and connection.quiet:
            connection.send_datagram(rng.randbytes(100))
        elif kind == 4 and side is self.sides[0] and self.now_ns % 3 == 0:
            side.source = "10.0.0.1", side.source[1] + 1
            if rng.random() < 0.5:
                side.endpoint.on_moved(1480, self.now_ns)
        elif kind == 5 and opened and connection.quiet:
            stream = connection.streams.known(rng.choice(opened))
            if stream is not None:
                self.give_up(connection, stream)
        elif kind == 6 and self.now_ns % 5 == 0:
            side.endpoint.on_refused(self.short_to(connection), 1300, self.now_ns)
        elif kind == 7:
            self.harm = rng.choice((0.0, 0.0, 0.05))
        else:
            self.say(side, 0, rng.randbytes(rng.choice(_SIZES)))
            return
        self.touch(side)

    def give_up(self, connection: Connection, stream: Stream) -> None:
        stream_id = stream.stream_id
        for each in self.sides:
            each.broken.add(stream_id)
        if stream.sending is not None and stream.reset_code is None and not stream.sending.ended:
            kind = self.rng.randrange(3)
            if kind == 0:
                connection.outgoing.reset(stream_id, 7)
                return
            if kind == 1:
                connection.finish(stream_id)
                return
        connection.incoming.stop(stream_id, 8)

    @staticmethod
    def short_to(connection: Connection) -> bytes:
        return connection.sender.prefix + bytes(4)


def converse(world: World, rounds: int) -> None:
    client = world.sides[0]
    assert client.connection is not None
    assert world.run(20 * SECOND, lambda: world.sides[1].connection is not None)
    for _ in range(rounds):
        rng = world.rng
        world.asking += 60
        if rng.random() < 0.1 or all_heard(world):
            world.say(client, 0, rng.randbytes(rng.choice(_SIZES)))
        world.run(rng.choice((MS, 20 * MS, 60 * MS)))
        if rng.random() < 0.4:
            world.meddle()


def prefixes(world: World) -> None:
    """Nobody has read what the other one has not written."""
    for side, other in (world.sides, world.sides[::-1]):
        for stream_id, data in side.read.items():
            assert other.sent[stream_id].startswith(data)


def all_heard(world: World) -> bool:
    for side, other in (world.sides, world.sides[::-1]):
        for stream_id, data in side.sent.items():
            read = other.read.get(stream_id, b"")
            if len(read) != len(data) and stream_id not in side.broken | other.broken:
                return False
    return True


def both_closed(world: World) -> bool:
    connections = [side.connection for side in world.sides]
    return {each.state for each in connections if each is not None} == {State.CLOSED}


def carry_on(seed: int, rounds: int = 10) -> World:
    """A conversation and its end."""
    world = World(seed)
    converse(world, rounds)
    sudden = world.rng.random() < 0.3
    if not sudden:
        # The client stops asking; what is under way and waits arrives, whatever was lost of it.
        world.asking = 0
        world.harm = min(world.harm, 0.05)
        assert world.run(120 * SECOND, lambda: all_heard(world))
        assert not any(side.ended for side in world.sides)
    side = world.rng.choice(world.sides)
    assert side.connection is not None
    if sudden and world.rng.random() < 0.5:
        side.connection.abort(300, "enough", world.now_ns)
    else:
        side.connection.close(world.now_ns)
    world.touch(side)
    assert world.run(120 * SECOND, lambda: both_closed(world))
    prefixes(world)
    if not sudden:
        assert not any(error for each in world.sides for error in each.ended)
    return world


@settings(max_examples=12)
@given(st.integers(0, 1 << 32))
def test_all_that_was_said_arrives_and_both_sides_close_whatever_way_it_took(seed: int) -> None:
    carry_on(seed)


def test_questions_of_this_program_become_dialogues_indeed() -> None:
    world = World(5)
    world.harm = 0.0
    world.delay_ns = 20 * US
    converse(world, 20)
    assert min(side.alone for side in world.sides) > 100
