"""Moving and marking as others would abuse it: spoofed sources, lies, boxes that meddle."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from itertools import pairwise

import pytest

from rawproto.impair import Impairment
from rawproto.sim.flow import Flow
from rawproto.sim.network import Network
from rawproto.transport.config import Config
from rawproto.transport.connection import Connection
from rawproto.transport.ecn import Stage
from rawproto.wire.rpt_frames import AckFrame, PathChallengeFrame, PingFrame
from tests.sim.liar import MS, SECOND, forge

LINK = Impairment(rate_bps=10_000_000, delay_ns=20 * MS, queue_packets=50)
VICTIM = "10.9.9.9"


class Wire:
    """A flow under way, and a count of what was sent where."""

    def __init__(
        self,
        *,
        received: int = 100_000,
        size: int = 1_000_000,
        link: Impairment = LINK,
        config: Config | None = None,
    ) -> None:
        self.network = Network(1, link, link)
        self.flow = Flow(self.network, size, config=config)
        self.bytes_to: Counter[str] = Counter()
        self.sent: list[tuple[bool, bytes]] = []
        self.network.tap = self._tap
        assert self.network.run(lambda: self.flow.received > received, 5 * SECOND)
        assert self.flow.server is not None
        self.server: Connection = self.flow.server

    def _tap(self, now_ns: int, from_left: bool, packet: bytes) -> None:
        self.bytes_to[str(ip_address(packet[16:20]))] += len(packet) - 20
        self.sent.append((from_left, packet[20:]))

    def run(self, seconds: float) -> None:
        self.network.run(lambda: self.flow.ended, int(seconds * SECOND))

    def to_listener(self, data: bytes, addr: str, port: int = 0) -> None:
        self.flow.right.receive([(data, (addr, port), 0)], self.network.now_ns)

    def finish(self) -> None:
        assert self.network.run(lambda: self.flow.ended, 60 * SECOND)
        assert self.flow.done, self.flow.errors
        assert self.flow.errors == {"client": None, "listener": None}


def test_copies_that_overtake_from_a_spoofed_source_move_nothing_for_good() -> None:
    wire = Wire()
    to_victim = 0
    while not wire.network.run(lambda: wire.flow.ended, 5 * MS):
        assert wire.network.now_ns < 60 * SECOND
        # Whoever can look on sends each packet on before it arrives.
        for from_left, data in wire.sent:
            if from_left:
                to_victim += len(data)
                wire.to_listener(data, VICTIM)
        wire.sent.clear()
    assert wire.flow.done
    assert wire.server.address[0] != VICTIM
    assert wire.bytes_to[VICTIM] <= 3 * to_victim


def test_source_that_does_not_answer_gets_three_times_what_it_sent_and_no_more() -> None:
    wire = Wire()
    client, server = wire.flow.client, wire.server
    wire.network.middlebox = lambda from_left, data: None if from_left else data
    packet = forge(client, [PingFrame()], wire.network.now_ns)
    wire.to_listener(packet, VICTIM)
    assert server.address == (VICTIM, 0)
    server.write(0, bytes(50_000))
    wire.run(2)
    assert 0 < wire.bytes_to[VICTIM] <= 3 * len(packet)
    wire.run(1)
    assert server.address == (wire.network.left.address, 0), "it has gone back"
    wire.network.middlebox = None
    wire.run(5)
    assert client.read(0, 100_000, wire.network.now_ns) == bytes(50_000)
    assert wire.flow.received == wire.flow.size
    assert wire.bytes_to[VICTIM] <= 3 * len(packet)


def test_move_that_fails_leaves_rtt_and_window_as_they_were() -> None:
    wire = Wire()
    sender = wire.server.sender
    rtt, controller = sender.recovery.rtt, sender.recovery.controller
    wire.to_listener(forge(wire.flow.client, [PingFrame()], wire.network.now_ns), VICTIM)
    wire.finish()
    assert (sender.recovery.rtt, sender.recovery.controller) == (rtt, controller)


def test_old_packets_and_probes_from_elsewhere_move_nothing() -> None:
    wire = Wire()
    client, now_ns = wire.flow.client, wire.network.now_ns
    overtaken = forge(client, [PingFrame()], now_ns)
    wire.to_listener(forge(client, [PingFrame()], now_ns), wire.network.left.address)
    wire.to_listener(overtaken, VICTIM)
    probe = forge(client, [PathChallengeFrame(b"whoisit?")], now_ns)
    wire.to_listener(probe, VICTIM)
    assert wire.server.address[0] == wire.network.left.address
    wire.run(0.1)
    assert wire.bytes_to[VICTIM] == len(probe), "it is answered where it came from, no larger"
    wire.finish()


def test_replays_from_many_sources_have_no_effect() -> None:
    wire = Wire(size=300_000)
    replays = random.Random(1)
    while not wire.network.run(lambda: wire.flow.ended, 50 * MS):
        assert wire.network.now_ns < 60 * SECOND
        arrived = wire.sent[:-200]  # what is still under way may come from anywhere first
        for from_left, data in replays.sample(arrived, min(len(arrived), 20)):
            if from_left and not data[0] & 0x80:
                wire.to_listener(data, f"10.9.{replays.randrange(256)}.{replays.randrange(256)}")
    assert wire.flow.done
    assert not [addr for addr in wire.bytes_to if addr.startswith("10.9.")]


def test_move_to_another_host_takes_fresh_connection_ids_and_begins_anew() -> None:
    wire = Wire()
    client, server = wire.flow.client, wire.server
    before = client.sender.peer_cid, server.sender.peer_cid
    controllers = client.sender.recovery.controller, server.sender.recovery.controller
    wire.network.left.address = "10.0.0.77"
    client.on_moved(1480, wire.network.now_ns)
    wire.flow.left.touch(client)
    assert client.sender.mtu.size == 1200
    wire.run(0.3)
    assert server.address == ("10.0.0.77", 0)
    assert server.paths.usual == server.address, "it is proved"
    assert client.sender.peer_cid != before[0]
    assert server.sender.peer_cid != before[1]
    assert client.sender.recovery.controller is not controllers[0]
    assert server.sender.recovery.controller is not controllers[1]
    assert len(wire.flow.right._routes) == 4 + 1, "four to be used, and the one that was retired"
    wire.finish()
    wire.network.run(lambda: not wire.flow.right.connections, 10 * SECOND)
    assert not wire.flow.right._routes


def test_port_that_changes_keeps_rtt_and_window() -> None:
    wire = Wire()
    server = wire.server
    controller, cid = server.sender.recovery.controller, server.sender.peer_cid
    wire.network.left.carrier_port = 4711
    wire.run(0.3)
    assert server.address == (wire.network.left.address, 4711)
    assert server.paths.usual == server.address
    assert server.sender.recovery.controller is controller
    assert server.sender.peer_cid == cid
    wire.finish()


def meddle(change: Callable[[int], int | None]) -> Callable[[bool, bytes], bytes | None]:
    """A box that gives the client's packets other ECN bits, or swallows those answered None."""

    def middlebox(from_left: bool, packet: bytes) -> bytes | None:
        if not from_left:
            return packet
        ecn = change(packet[1] & 3)
        return None if ecn is None else packet[:1] + bytes([packet[1] & 0xFC | ecn]) + packet[2:]

    return middlebox


@pytest.mark.parametrize(
    ("what", "change", "stage"),
    [
        ("keeps them", lambda ecn: ecn, Stage.CAPABLE),
        ("clears them", lambda ecn: 0, Stage.FAILED),
        ("turns ECT(0) to ECT(1)", lambda ecn: 1 if ecn else 0, Stage.FAILED),
        ("drops what is marked", lambda ecn: None if ecn else 0, Stage.FAILED),
    ],
)
def test_path_that_meddles_with_marks_gets_none(
    what: str, change: Callable[[int], int | None], stage: Stage
) -> None:
    network = Network(1, LINK, LINK)
    network.middlebox = meddle(change)
    flow = Flow(network, 300_000)
    assert network.run(lambda: flow.ended, 10 * SECOND), what
    assert flow.done
    assert flow.client.sender.recovery.ecn.stage is stage


def test_path_that_begins_to_clear_marks_is_found_out() -> None:
    wire = Wire()
    ecn = wire.flow.client.sender.recovery.ecn
    assert ecn.stage is Stage.CAPABLE
    wire.network.middlebox = meddle(lambda ecn: 0)
    wire.finish()
    assert ecn.stage is Stage.FAILED


def test_marks_of_one_round_trip_are_answered_once_and_cost_no_packet() -> None:
    link = Impairment(rate_bps=10_000_000, delay_ns=50 * MS, queue_packets=400)
    wire = Wire(link=link, config=Config(congestion="cubic"))
    recovery = wire.flow.client.sender.recovery
    windows = []
    wire.network.middlebox = meddle(lambda ecn: 3 if ecn else 0)
    for step in range(200):
        wire.run(0.001)
        windows.append(recovery.controller.window)
        if step == 90:
            wire.network.middlebox = None
    falls = [after / before for before, after in pairwise(windows)]
    assert [round(each, 1) for each in falls if each < 0.95] == [0.7]
    assert recovery.lost_packets == 0
    wire.finish()


@pytest.mark.parametrize(
    ("what", "counts"),
    [
        ("more than was sent", (1 << 40, 0, 0)),
        ("CE for all that was ever sent, and more", (0, 0, 1 << 40)),
        ("ECT(1), which was never sent", (0, 1, 0)),
        ("less than before", (0, 0, 0)),
    ],
)
def test_counts_that_cannot_be_are_not_believed(what: str, counts: tuple[int, int, int]) -> None:
    wire = Wire()
    client = wire.flow.client
    window = client.sender.recovery.controller.window
    number = client.sender.recovery.largest_acked + 1
    lie = forge(wire.server, [AckFrame(number, 0, 1, (), counts)], wire.network.now_ns)
    wire.flow.left.receive([(lie, (wire.network.right.address, 0), 0)], wire.network.now_ns)
    ecn = client.sender.recovery.ecn
    assert (ecn.stage, ecn.mark) == (Stage.FAILED, 0), what
    assert client.sender.recovery.controller.window >= window
    wire.finish()
