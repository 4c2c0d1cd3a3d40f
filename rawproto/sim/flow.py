"""A flow through a simulated network: one connection, so many bytes, both ends close.

The bytes come from the network's seed and are compared as they arrive, so a flow that is
`done` has brought every one of them, in order, and nothing else. The listener ends its
side once it has read all, and the client closes when it sees that.
"""

from __future__ import annotations

from rawproto.errors import RawprotoError
from rawproto.sim.network import RIGHT_ADDR, Network
from rawproto.transport.attempt import Credentials
from rawproto.transport.config import Config
from rawproto.transport.connection import Connection, State
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.events import ConnectionClosed, ConnectionEstablished, StreamWritable
from rawproto.transport.halfopen import Listener
from rawproto.transport.noise import X25519
from rawproto.transport.trace import Tracer

__all__ = ["Flow"]

_PIECE_BYTES = 1 << 16
_ESTABLISHED = State.ESTABLISHED


class Flow:
    """A client on the left that sends to a listener on the right, on stream 0.

    Args:
        network: where.
        size: bytes to send; None sends for `duration_ns`.
        duration_ns: for how long, from now on, where no size is given.
        port: the listener's port; the client's is 50,000 above 4,000.
        config: of both sides.
        pinned: the client knows the listener's key, so IK instead of XX.
        psk: a secret of 32 bytes that both know, b"" for none.

    Attributes:
        client: the client's connection.
        server: the listener's, None before it is accepted.
        server_tracer: what it is given once it is.
        congestion: the name of its controller.
        size: bytes to send; where no size was given, those drawn so far.
        received: bytes that arrived.
        established_ns: when `connect` was done, None before.
        first_byte_ns: when the first byte arrived.
        done_ns: when the last one had.
        errors: with which the sides ended, client's and listener's; None for a clean end.
        ended: both sides have, well or not.
    """

    def __init__(
        self,
        network: Network,
        size: int | None,
        *,
        duration_ns: int = 0,
        mtu: int = 1500,
        port: int = 4000,
        config: Config | None = None,
        pinned: bool = False,
        psk: bytes = b"",
    ) -> None:
        config = config or Config()
        self.congestion = config.congestion
        self._network = network
        self._left = _ENDLESS if size is None else size
        self._until_ns = network.now_ns + duration_ns if size is None else None
        self._closing = self._answered = self._full = self._told = False
        self._data = b""
        self._expected = network.rng.getrandbits(64)
        self._source = _Bytes(self._expected)
        self._check = _Bytes(self._expected)
        self.size = 0 if size is None else size
        self.received = 0
        self.server: Connection | None = None
        self.server_tracer: Tracer | None = None
        self.established_ns: int | None = None
        self.first_byte_ns: int | None = None
        self.done_ns: int | None = None
        self.errors: dict[str, RawprotoError | Exception | None] = {}
        self.ended = False
        self.start_ns = network.now_ns

        static = network.entropy(32)
        self.listener = Listener(static, config, psk=psk)
        self.right = Endpoint(
            port, config, entropy=network.entropy, ceiling=mtu - 20, listener=self.listener
        )
        self.left = Endpoint(46_000 + port, config, entropy=network.entropy, ceiling=mtu - 20)
        network.right.endpoints[port] = self.right
        network.left.endpoints[self.left.port] = self.left
        credentials = Credentials(
            static=network.entropy(32),
            peer_key=X25519.public_of(static) if pinned else None,
            psk=psk,
        )
        self.client = self.left.connect((RIGHT_ADDR, 0), port, credentials, network.now_ns)
        network.left.apps[self.left.port] = self._run_left
        network.right.apps[port] = self._run_right

    @property
    def done(self) -> bool:
        """Whether everything arrived and both sides have ended."""
        return self.ended and self.received == self.size

    @property
    def goodput_bps(self) -> float:
        """Bits that arrived, a second, from the beginning to the last byte or to now."""
        until = self.done_ns or self._network.now_ns
        return self.received * 8e9 / max(until - self.start_ns, 1)

    def _on_closed(self, side: str, error: RawprotoError | Exception | None) -> None:
        self.errors[side] = error
        self.ended = len(self.errors) == 2

    def _run_left(self, now_ns: int) -> bool:
        busy = told = False
        for connection in self.left.active():
            while (event := connection.poll_event()) is not None:
                told = True
                if isinstance(event, ConnectionEstablished):
                    self.established_ns = self._network.now_ns
                elif isinstance(event, StreamWritable):
                    self._full = False
                elif isinstance(event, ConnectionClosed):
                    self._on_closed("client", event.error)
        if self._full and not told:
            return False  # as after most turns, which only send
        if self.client.state is _ESTABLISHED and "client" not in self.errors:
            while not self._full and (self._left or self._data):
                busy = True
                self._write()
            if not self._closing and self.client.incoming.at_end(0):
                self._closing = busy = True
                self.client.close(now_ns)
            if busy:
                self.left.touch(self.client)
        return busy

    def _write(self) -> None:
        """Gives the connection a piece, or what it has left of one."""
        if self._until_ns is not None and self._network.now_ns >= self._until_ns:
            self._left = 0
        if not self._data and self._left:
            self._data = self._source.take(min(_PIECE_BYTES, self._left))
            self._left -= len(self._data)
            if self._until_ns is not None:
                self.size += len(self._data)
        taken = self.client.write(0, self._data)
        self._full = taken < len(self._data)
        self._data = self._data[taken:]
        if not self._left and not self._data:
            self.client.finish(0)

    def _run_right(self, now_ns: int) -> bool:
        busy = False
        # A second one would be a replay's, and no client's.
        if self.server is None and (accepted := self.right.accept()) is not None:
            self.server = accepted
            if self.server_tracer is not None:
                accepted.trace(self.server_tracer)
        for connection in self.right.active():
            while (event := connection.poll_event()) is not None:
                if isinstance(event, ConnectionClosed) and connection is self.server:
                    self._on_closed("listener", event.error)
            if connection is self.server:
                busy |= self._read(connection, now_ns)
        return busy

    def _read(self, connection: Connection, now_ns: int) -> bool:
        """Reads all there is; whether the connection has something to say now."""
        full = True
        while full and (data := connection.read(0, _PIECE_BYTES, now_ns)):
            full = len(data) == _PIECE_BYTES
            if self.first_byte_ns is None:
                self.first_byte_ns = self._network.now_ns
            assert self._check.follow(data), "bytes arrived that were not sent"
            self.received += len(data)
        if not self._answered and connection.incoming.at_end(0):
            self._answered = True
            self.done_ns = self._network.now_ns
            if connection.state is _ESTABLISHED:
                connection.finish(0)
        # What was read may have opened a window.
        busy = connection.sender.waits and connection.state is _ESTABLISHED
        if busy and not self._told:
            self.right.touch(connection)
            self._told = True
            return True
        self._told = False
        return False


_ENDLESS = 1 << 62


class _Bytes:
    """Bytes without end that two sides can both draw."""

    def __init__(self, seed: int) -> None:
        block = seed.to_bytes(8, "big") + bytes(range(256)) * 3
        self._period = len(block)
        self._blocks = block * (_PIECE_BYTES // len(block) + 2)
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` of them, _PIECE_BYTES at most."""
        start = self._at % self._period
        self._at += size
        return self._blocks[start : start + size]

    def follow(self, data: bytes) -> bool:
        """Whether these are the next ones."""
        start = self._at % self._period
        self._at += len(data)
        return self._blocks.startswith(data, start)
