"""RPT against a peer that lies and against strangers: one clear end, or no effect at all."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rawproto.errors import RemoteProtocolError
from rawproto.impair import Impairment
from rawproto.sim.flow import Flow
from rawproto.sim.network import Network
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode
from rawproto.transport.recvbuf import MAX_PIECES
from rawproto.wire.rpt_frames import (
    AckFrame,
    CloseFrame,
    Frame,
    MaxStreamsFrame,
    PingFrame,
    ResetStreamFrame,
    StreamFrame,
    emit_frames,
)
from tests.sim.liar import MS, SECOND, forge, lie

LINK = Impairment(rate_bps=10_000_000, delay_ns=20 * MS, queue_packets=50)
WINDOW = Config().window_bytes


def under_way(seed: int = 1, size: int = 500_000) -> tuple[Network, Flow]:
    """A flow of which something has arrived, and something has not."""
    network = Network(seed, LINK, LINK)
    flow = Flow(network, size)
    assert network.run(lambda: flow.received > 50_000, 5 * SECOND)
    return network, flow


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([AckFrame(1 << 40, 0, 1)], CloseCode.PROTOCOL),
        ([StreamFrame(0, 1 << 40, b"x")], CloseCode.FLOW),
        ([StreamFrame(0, WINDOW + 100_000, b"x")], CloseCode.FLOW),
        ([StreamFrame(1 << 20, 0, b"x")], CloseCode.STREAMS),
        ([StreamFrame(1, 0, b"x")], CloseCode.STREAM_STATE),
        ([StreamFrame(0, 0, b"x", fin=True)], CloseCode.FINAL_SIZE),
        ([ResetStreamFrame(0, 0, 3)], CloseCode.FINAL_SIZE),
        ([ResetStreamFrame(0, 0, 1 << 40)], CloseCode.FLOW),
    ],
)
def test_each_lie_ends_the_connection_with_its_own_code(frames: list[Frame], code: int) -> None:
    network, flow = under_way()
    error = lie(flow, network, frames)
    assert isinstance(error, RemoteProtocolError)
    assert error.code == code


def test_ack_of_a_packet_left_out_on_purpose_ends_the_connection() -> None:
    network, flow = under_way(size=2_000_000)
    client, server = flow.client, flow.server
    assert server is not None
    assert network.run(lambda: bool(client.sender._skipped), 10 * SECOND)
    # An optimist acknowledges all that was sent, whether it came or not.
    optimist = forge(server, [AckFrame(client.sender.number - 1, 0, client.sender.number)], 0)
    flow.left.receive([(optimist, (network.right.address, 0), 0)], network.now_ns)
    network.run(lambda: "client" in flow.errors, 100 * MS)
    error = flow.errors["client"]
    assert isinstance(error, RemoteProtocolError)
    assert error.code == CloseCode.PROTOCOL


def test_close_of_a_stranger_has_no_effect() -> None:
    network, flow = under_way()
    assert flow.server is not None
    words = emit_frames([CloseFrame(CloseCode.NONE)])
    cipher = AESGCM(bytes(32))  # all but the keys he can know, the next number too
    for here, there, endpoint, host in (
        (flow.client, flow.server, flow.left, network.right),
        (flow.server, flow.client, flow.right, network.left),
    ):
        header = forge(there, [PingFrame()], network.now_ns)[:18]
        packet = header + cipher.encrypt(bytes(12), words, header)
        endpoint.receive([(packet, (host.address, 0), 0)], network.now_ns)
        assert here.forgeries == 1
    assert network.run(lambda: flow.ended, 20 * SECOND)
    assert flow.done
    assert flow.errors == {"client": None, "listener": None}


def test_holes_in_a_stream_are_bounded() -> None:
    network, flow = under_way()
    server = flow.server
    assert server is not None
    base = flow.received + 200_000
    for number in range(MAX_PIECES + 500):
        frames: list[Frame] = [StreamFrame(0, base + 2 * number, b"!")]
        packet = forge(flow.client, frames, network.now_ns)
        flow.right.receive([(packet, (network.left.address, 0), 0)], network.now_ns)
    stream = server.streams.known(0)
    assert stream is not None
    assert stream.receiving is not None
    assert len(stream.receiving._pieces) == MAX_PIECES


def test_capabilities_told_twice_or_lowered_are_ignored() -> None:
    network, flow = under_way()
    assert lie(flow, network, [MaxStreamsFrame(0, 0), MaxStreamsFrame(1, 0)]) is None
    assert network.run(lambda: flow.ended, 20 * SECOND)
    assert flow.done
