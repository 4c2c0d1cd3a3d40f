"""What a peer, or a stranger, can have us compute and keep: no more than what it sends is worth."""

from __future__ import annotations

from rawproto.transport.config import Config
from rawproto.transport.connection import Connection, State
from rawproto.transport.constants import Kind
from rawproto.wire.rpt_frames import Frame
from tests.sim.liar import forge
from tests.transport.pair import CLIENT, Pair

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
