"""Two endpoints in virtual time, and the packets between them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rawproto.transport.attempt import Credentials
from rawproto.transport.config import Config
from rawproto.transport.connection import Address, Connection
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.events import ConnectionClosed
from rawproto.transport.halfopen import Listener
from rawproto.transport.noise import X25519
from rawproto.wire.rpt import RPTInit, RPTLong, parse_rpt

CLIENT = ("10.0.0.1", 0)
SERVER = ("10.0.0.2", 0)
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
