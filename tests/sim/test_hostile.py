"""RPT against a peer that lies and against strangers: one clear end, or no effect at all."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from rawproto.errors import RemoteProtocolError
from rawproto.impair import Impairment
from rawproto.sim.flow import Flow
from rawproto.sim.network import Network
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode
from rawproto.transport.halfopen import MOST_HALF_OPEN
from rawproto.transport.noise import X25519
from rawproto.transport.recvbuf import MAX_PIECES
from rawproto.wire.rpt import RPTInit, RPTReset
from rawproto.wire.rpt_frames import (
    AckFrame,
    CloseFrame,
    Frame,
    MaxStreamsFrame,
    PingFrame,
    ResetStreamFrame,
    StreamFrame,
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


def test_data_that_overlaps_and_differs_changes_no_byte_that_was_there() -> None:
    network, flow = under_way()
    read = flow.received
    for start in range(max(read - 5000, 0), read, 700):
        assert lie(flow, network, [StreamFrame(0, start, b"!" * 600)]) is None
    assert network.run(lambda: flow.ended, 20 * SECOND)
    # The flow itself compares every byte that it reads with what was sent.
    assert flow.done


def test_thousands_of_tiny_ranges_are_bounded_and_overcome() -> None:
    network, flow = under_way()
    server = flow.server
    assert server is not None
    rng = random.Random(1)
    packets = [(forge(flow.client, [PingFrame()], network.now_ns)) for _ in range(4000)]
    arrived = [(packet, (network.left.address, 0), 0) for packet in packets[::2]]
    rng.shuffle(arrived)
    flow.right.receive(arrived, network.now_ns)
    assert len(server.acks.received.starts) <= 64
    assert network.run(lambda: flow.ended, 60 * SECOND)
    assert flow.done


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


def test_stranger_cannot_end_a_connection_by_reset_or_close() -> None:
    network, flow = under_way()
    rng = random.Random(2)
    client, server = flow.client, flow.server
    assert server is not None
    for _ in range(200):
        reset = RPTReset(
            dst_port=flow.left.port,
            src_port=flow.right.port,
            src_cid=client.sender.peer_cid,
            code=rng.randrange(5),
            token=rng.randbytes(16),
        )
        echoing = replace(reset, dst_cid=client.cid, token=bytes(16), checksum=None)
        close = forge(server, [CloseFrame(0)], network.now_ns)
        damaged = close[:-1] + bytes([close[-1] ^ 1 + rng.randrange(255)])
        source = network.right.address, 0
        packets = [(data, source, 0) for data in (reset.emit(), echoing.emit(), damaged)]
        flow.left.receive(packets, network.now_ns)
    assert network.run(lambda: flow.ended, 60 * SECOND)
    assert flow.errors == {"client": None, "listener": None}
    assert flow.done


@pytest.mark.parametrize("seed", range(3))
def test_replayed_packets_have_no_effect(seed: int) -> None:
    network = Network(seed, LINK, LINK)
    sent: list[tuple[bool, bytes]] = []
    network.tap = lambda now_ns, from_left, packet: sent.append((from_left, packet))
    flow = Flow(network, 200_000)
    replays = random.Random(seed)
    while not network.run(lambda: flow.ended, 50 * MS):
        assert network.now_ns < 60 * SECOND, f"seed {seed}"
        for from_left, packet in replays.sample(sent, min(len(sent), 20)):
            endpoint = flow.right if from_left else flow.left
            host = network.left if from_left else network.right
            endpoint.receive([(packet[20:], (host.address, 0), 0)], network.now_ns)
    assert flow.done, f"seed {seed}: {flow.errors}"
    assert flow.errors == {"client": None, "listener": None}


def test_honest_client_connects_during_a_flood_of_spoofed_inits() -> None:
    network = Network(7, replace(LINK, loss=1.0), LINK)
    flow = Flow(network, 20_000)
    init = RPTInit(suite=1, dst_port=4000, src_port=9, message=X25519.public_of(bytes(range(32))))
    init = replace(init, padding=bytes(1200 - len(init.emit())))
    count = 0
    # Ten in each five virtual milliseconds, for as long as it takes the client to connect.
    while not network.run(lambda: flow.received > 0, 5 * MS):
        assert network.now_ns < 10 * SECOND
        for _ in range(10):
            count += 1
            forged = replace(init, src_cid=count, checksum=None)
            source = f"10.{count >> 16 & 255}.{count >> 8 & 255}.{count & 255}", 0
            flow.right.receive([(forged.emit(), source, 0)], network.now_ns)
        assert len(flow.listener.by_cid) <= MOST_HALF_OPEN
        if count == 400:
            network.forward.configure(LINK)  # from now on the client is heard
    assert count > 500
    assert network.run(lambda: flow.ended, 20 * SECOND)
    assert flow.done


def test_capabilities_told_twice_or_lowered_are_ignored() -> None:
    network, flow = under_way()
    assert lie(flow, network, [MaxStreamsFrame(0, 0), MaxStreamsFrame(1, 0)]) is None
    assert network.run(lambda: flow.ended, 20 * SECOND)
    assert flow.done
