"""Packets that come together are taken in as if they had come one by one."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from rawproto.transport.attempt import Credentials
from rawproto.transport.config import Config
from rawproto.transport.connection import Arrival, Connection, State
from rawproto.transport.constants import CloseCode
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.halfopen import Listener
from tests.transport.pair import CLIENT, SERVER, STATIC, departed

MS = 1_000_000
ELSEWHERE = ("10.0.0.9", 0)


def plain(packets: list[bytes]) -> list[Arrival]:
    return [(packet, CLIENT, 0) for packet in packets]


class Twins:
    """A client, and two listeners that cannot be told apart but by how they get packets."""

    def __init__(self, ceiling: int = 1480) -> None:
        self.now_ns = 10**9
        config = Config(congestion="cubic", window_bytes=1 << 16, max_window_bytes=1 << 16)
        self.client = Endpoint(50_000, config, entropy=random.Random(1).randbytes, ceiling=ceiling)
        self.twins = [
            Endpoint(
                4000,
                config,
                entropy=random.Random(2).randbytes,
                ceiling=ceiling,
                listener=Listener(config=config, static=STATIC),
            )
            for _ in range(2)
        ]
        credentials = Credentials(static=bytes([8]) * 32)
        self.sending = self.client.connect(SERVER, 4000, credentials, self.now_ns)
        self.receiving: list[Connection] = []
        while len(self.receiving) < 2:
            self.turn(plain(departed(self.client, self.now_ns)))
            self.receiving += [found for twin in self.twins if (found := twin.accept())]

    def turn(self, arrivals: list[Arrival]) -> None:
        """The twins get packets, one of them one by one; both say the same, to the byte."""
        single, together = self.twins
        for arrival in arrivals:
            single.receive([arrival], self.now_ns)
        together.receive(arrivals, self.now_ns)
        self.read()
        said = []
        for twin in self.twins:
            twin.handle_timeout(self.now_ns)
            said.append(departed(twin, self.now_ns))
        assert said[0] == said[1]
        self.client.receive([(packet, SERVER, 0) for packet in said[0]], self.now_ns)
        self.now_ns += 5 * MS
        self.client.handle_timeout(self.now_ns)

    def read(self) -> None:
        for stream_id in (0, 4):
            read = [each.read(stream_id, 50_000, self.now_ns) for each in self.receiving]
            assert len(set(read)) <= 1
        for each, twin in zip(self.receiving, self.twins, strict=False):
            twin.touch(each)


@settings(max_examples=15)
@given(st.integers(0, 1 << 32), st.sampled_from([1480, 8980]))
def test_whatever_becomes_of_packets_on_their_way_a_batch_is_as_good_as_one_by_one(
    seed: int, ceiling: int
) -> None:
    rng, twins = random.Random(seed), Twins(ceiling)
    sending = twins.sending
    other = sending.streams.open()
    for _ in range(40):
        if sending.state is State.ESTABLISHED:
            sending.write(0, rng.randbytes(rng.choice([0, 100, 9000, 60_000])))
            if rng.random() < 0.1:
                sending.write(other, rng.randbytes(3000))
            if rng.random() < 0.1:
                sending.ping()
            twins.client.touch(sending)
        packets: list[bytes] = []
        while more := departed(twins.client, twins.now_ns):
            packets += more
        chance = rng.choice([0.0, 0.0, 0.05, 0.3])
        for at in range(len(packets)):
            if rng.random() < chance:
                change = rng.randrange(4)
                if change == 0:
                    packets[at] = b""
                elif change == 1:
                    packets[at] = rng.choice(packets)
                elif change == 2:
                    packets[at] = packets[at][:-1] + bytes([packets[at][-1] ^ 1])
                else:
                    other_at = rng.randrange(len(packets))
                    packets[at], packets[other_at] = packets[other_at], packets[at]
        marks = rng.choice([[0], [2], [2] * 20 + [0, 3]])
        sources = rng.choice([[CLIENT], [CLIENT], [CLIENT] * 20 + [ELSEWHERE]])
        twins.turn([(packet, rng.choice(sources), rng.choice(marks)) for packet in packets])
    one, batch = twins.receiving
    assert list(one.acks.received) == list(batch.acks.received)
    assert (one.packets_received, one.forgeries) == (batch.packets_received, batch.forgeries)
    assert one.packets_received > 40


def test_large_packets_are_read_from_where_they_were_opened() -> None:
    twins = Twins(8980)
    sent = random.Random(3).randbytes(2_000_000)
    read = [b"", b""]

    def read_all() -> None:
        for number, (each, twin) in enumerate(zip(twins.receiving, twins.twins, strict=False)):
            read[number] += each.read(0, 10_007, twins.now_ns) + each.read(0, 1 << 20, twins.now_ns)
            twin.touch(each)

    twins.read = read_all  # type: ignore[method-assign]
    written = 0
    for _ in range(200):
        if twins.sending.state is State.ESTABLISHED:
            written += twins.sending.write(0, sent[written:])
        twins.client.touch(twins.sending)
        packets: list[bytes] = []
        while more := departed(twins.client, twins.now_ns):
            packets += more
        twins.turn(plain(packets))
    assert twins.sending.sender.mtu.size == 8980
    assert read == [sent, sent]


def test_run_ends_where_the_peer_would_go_past_its_window() -> None:
    twins = Twins()
    twins.read = lambda: None  # type: ignore[method-assign]  # so the window stays as it is
    sending = twins.sending
    sending.outgoing.data_limit = sending.streams.known(0).send_limit = 1 << 30  # type: ignore[union-attr]
    for _ in range(30):
        if sending.state is State.ESTABLISHED:
            sending.write(0, bytes(20_000))
        twins.client.touch(sending)
        twins.turn(plain(departed(twins.client, twins.now_ns)))
    ends = [event.error for event in iter(sending.poll_event, None) if hasattr(event, "error")]
    assert [error.code for error in ends] == [CloseCode.FLOW]
    assert [each.state for each in twins.receiving] == [State.CLOSED, State.CLOSED]


def test_packet_without_a_frame_amid_a_run_is_dropped_as_one_that_comes_alone() -> None:
    twins = Twins()
    for _ in range(3):
        twins.client.touch(twins.sending)
        twins.turn(plain(departed(twins.client, twins.now_ns)))
    twins.sending.write(0, bytes(8000))
    twins.client.touch(twins.sending)
    packets = departed(twins.client, twins.now_ns)
    sender = twins.sending.sender
    assert sender.protection is not None
    sealer, number = sender.protection.sealer, sender.number
    sender.number += 1
    header = packets[-1][:14] + number.to_bytes(4, "big")
    nonce = (sealer.iv ^ number).to_bytes(12, "big")
    packets.append(header + sealer.aead.encrypt(nonce, b"", header))
    twins.turn(plain(packets))
    assert [each.state for each in twins.receiving] == [State.ESTABLISHED] * 2
    assert [each.forgeries for each in twins.receiving] == [0, 0]
