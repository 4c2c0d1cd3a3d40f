"""Two connections, and whatever their users, their path and time may do, one after the other.

Each side writes bytes that follow from stream, direction and offset, so that whoever reads
knows what they must be. `settle` mends the path, ends every stream and sees that all that
was not given up arrived, and nothing else; then both sides close.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from rawproto.errors import LocalProtocolError
from rawproto.impair import Impairment
from rawproto.sim.network import RIGHT_ADDR, Network
from rawproto.transport.attempt import Credentials
from rawproto.transport.config import Config
from rawproto.transport.connection import Connection, State
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.events import ConnectionClosed, SendingStopped, StreamReset
from rawproto.transport.halfopen import Listener

__all__ = ["MS", "SECOND", "Pair"]

MS, SECOND = 1_000_000, 1_000_000_000
_MOST_STREAMS = 12
_PATTERN = bytes(range(251)) * 300


@dataclass(slots=True)
class Way:
    """One direction of a stream, as the test knows it."""

    written: int = 0
    read: int = 0
    finished: bool = False
    given_up: bool = False


class Side:
    """A user of a connection."""

    def __init__(self, endpoint: Endpoint, connection: Connection) -> None:
        self.endpoint = endpoint
        self.connection = connection
        self.closed = 0
        self.leaving = False
        self.datagrams: list[bytes] = []


class Pair:
    """An established connection between two hosts, 10 ms apart.

    Args:
        seed: of all chance.
    """

    def __init__(self, seed: int = 1) -> None:
        path = Impairment(delay_ns=10 * MS, rate_bps=20_000_000, queue_bytes=100_000)
        self.network = network = Network(seed, path, path)
        self.loss = self.twice = 0.0
        self._rng = network.rng
        network.middlebox = self._weather
        config = Config(
            window_bytes=8192,
            max_window_bytes=65_536,
            send_buffer_bytes=16_384,
            max_streams=4,
            keep_alive_ns=5 * SECOND,
        )
        static = network.entropy(32)
        right = Endpoint(
            4000,
            config,
            entropy=network.entropy,
            ceiling=1480,
            listener=Listener(static, config),
        )
        left = Endpoint(50_000, config, entropy=network.entropy, ceiling=1480)
        network.right.endpoints[4000], network.left.endpoints[50_000] = right, left
        credentials = Credentials(static=network.entropy(32), peer_key=None, psk=b"")
        client = left.connect((RIGHT_ADDR, 0), 4000, credentials, network.now_ns)
        accepted: list[Connection] = []

        def came() -> bool:
            while (connection := right.accept()) is not None:
                accepted.append(connection)
            return bool(accepted)

        assert network.run(came, 10 * SECOND)
        self.sides = (Side(left, client), Side(right, accepted[0]))
        self.ways: dict[tuple[int, int], Way] = {(0, 0): Way(), (0, 1): Way()}
        self._pump()

    def _weather(self, from_left: bool, packet: bytes) -> bytes | None:
        return None if self._rng.random() < self.loss else packet

    def _pump(self) -> None:
        """Takes what both connections tell."""
        for number, side in enumerate(self.sides):
            side.endpoint.active()
            while (event := side.connection.poll_event()) is not None:
                assert not side.closed, f"{event} behind the end"
                if isinstance(event, ConnectionClosed):
                    side.closed += 1
                    assert any(each.leaving for each in self.sides), f"it broke: {event.error}"
                elif isinstance(event, StreamReset):
                    self.ways[event.stream_id, 1 - number].given_up = True
                elif isinstance(event, SendingStopped):
                    self.ways[event.stream_id, number].given_up = True
            while (datagram := side.connection.datagrams.receive()) is not None:
                side.datagrams.append(datagram)

    def _touch(self, number: int) -> None:
        side = self.sides[number]
        if side.connection.state is not State.CLOSED:
            side.endpoint.touch(side.connection)

    @property
    def over(self) -> bool:
        """Whether one side has begun to end it, or it is over."""
        return any(
            side.leaving or side.closed or side.connection.state is not State.ESTABLISHED
            for side in self.sides
        )

    # --- what users do ---

    def open(self, number: int, one_way: bool) -> None:
        """A side opens a stream, if the peer takes one."""
        streams = self.sides[number].connection.streams
        if len(self.ways) >= 2 * _MOST_STREAMS or not streams.may_open(one_way=one_way):
            return
        stream_id = streams.open(one_way=one_way)
        assert not any(known == stream_id for known, _ in self.ways)
        self.ways[stream_id, number] = Way()
        if not one_way:
            self.ways[stream_id, 1 - number] = Way()

    def _pick(self, number: int, choice: int) -> tuple[int, Way] | None:
        """A way on which a side sends."""
        mine = [(stream, way) for (stream, who), way in self.ways.items() if who == number]
        return mine[choice % len(mine)] if mine else None

    def write(self, number: int, choice: int, size: int) -> None:
        """A side writes to a stream; whether it may is the stream's to say."""
        if (found := self._pick(number, choice)) is None:
            return
        stream_id, way = found
        connection = self.sides[number].connection
        may = not (way.finished or way.given_up)
        data = content(stream_id, number, way.written, size)
        try:
            way.written += connection.write(stream_id, data)
        except LocalProtocolError:
            # A side learns of a stream of the peer's with the first of it.
            known = connection.streams.known(stream_id) is not None
            assert not (may and known) or self.over
        self._touch(number)

    def finish(self, number: int, choice: int) -> None:
        """A side ends a stream."""
        if (found := self._pick(number, choice)) is not None:
            with suppress(LocalProtocolError):
                self.sides[number].connection.finish(found[0])
                found[1].finished = True
            self._touch(number)

    def reset(self, number: int, choice: int, code: int) -> None:
        """A side gives up sending."""
        if (found := self._pick(number, choice)) is not None:
            with suppress(LocalProtocolError):
                self.sides[number].connection.outgoing.reset(found[0], code)
                found[1].given_up = True
            self._touch(number)

    def stop(self, number: int, choice: int, code: int) -> None:
        """A side wants no more of what the other sends."""
        if (found := self._pick(1 - number, choice)) is not None:
            connection = self.sides[number].connection
            if connection.streams.known(found[0]) is not None:
                connection.incoming.stop(found[0], code)
                found[1].given_up = True
            self._touch(number)

    def read(self, number: int, choice: int, limit: int) -> int:
        """A side reads: what it gets is what was written, in order."""
        if (found := self._pick(1 - number, choice)) is None:
            return 0
        stream_id, way = found
        data = self.sides[number].connection.read(stream_id, limit, self.network.now_ns)
        assert len(data) <= limit
        assert data == content(stream_id, 1 - number, way.read, len(data))
        way.read += len(data)
        assert way.read <= way.written
        self._touch(number)
        return len(data)

    def datagram(self, number: int, size: int) -> None:
        """A side sends a datagram."""
        with suppress(LocalProtocolError):
            self.sides[number].connection.send_datagram(bytes([number]) * size)
        self._touch(number)

    def change_keys(self, number: int) -> None:
        """A side goes to the next keys, if it may."""
        self.sides[number].connection.change_keys(self.network.now_ns)

    def ping(self, number: int) -> None:
        """A side asks whether the other is there."""
        self.sides[number].connection.ping()
        self._touch(number)

    def close(self, number: int) -> None:
        """A side ends it well."""
        self.sides[number].leaving = True
        self.sides[number].connection.close(self.network.now_ns)
        self._touch(number)

    def abort(self, number: int, code: int) -> None:
        """A side ends it at once."""
        self.sides[number].leaving = True
        self.sides[number].connection.abort(code, "enough", self.network.now_ns)
        self._touch(number)

    # --- what the path and time do ---

    def wait(self, ns: int) -> None:
        """Time passes."""
        self._run(lambda: False, ns)

    def _run(self, done: Callable[[], bool], ns: int) -> bool:
        def looked() -> bool:
            self._pump()
            return done()

        return self.network.run(looked, ns)

    # --- the end ---

    def settle(self) -> None:
        """Mends the path; all that was not given up arrives, and both sides end."""
        self.loss = 0.0
        if not self.over:
            for stream_id, number in list(self.ways):
                way = self.ways[stream_id, number]
                connection = self.sides[number].connection
                if not way.finished and not way.given_up:
                    if connection.streams.known(stream_id) is None and way.written == 0:
                        continue  # the other side opened it, and never wrote
                    with suppress(LocalProtocolError):
                        connection.finish(stream_id)
                        way.finished = True
                self._touch(number)
            arrived = self._run(self._all_read, 120 * SECOND)
            late = {key: way for key, way in self.ways.items() if not self._is_read(way)}
            assert arrived or self.over, f"not all arrived: {late}"
        for number, side in enumerate(self.sides):
            if side.connection.state is State.ESTABLISHED:
                self.close(number)
        # What nobody reads any more is waited for until `linger_most_ns`.
        ended = self._run(
            lambda: all(not side.endpoint.connections for side in self.sides), 150 * SECOND
        )
        assert ended, [side.connection.state for side in self.sides]
        assert [side.closed for side in self.sides] == [1, 1]
        for number, side in enumerate(self.sides):
            assert all(set(each) <= {1 - number} for each in side.datagrams)

    def _all_read(self) -> bool:
        if self.over:
            return True
        for number in (0, 1):
            mine = sum(who == 1 - number for _, who in self.ways)
            for choice in range(mine):
                while self.read(number, choice, 65_536):
                    pass
        return all(map(self._is_read, self.ways.values()))

    def _is_read(self, way: Way) -> bool:
        return way.given_up or not way.finished or way.read == way.written


def content(stream_id: int, number: int, start: int, size: int) -> bytes:
    """The bytes of a way from an offset on."""
    at = (start + stream_id * 7 + number * 101) % 251
    return _PATTERN[at : at + size]
