"""Every scenario with a few seeds, and what else the simulator shows of RPT.

`make soak SEEDS=1000` plays as many of each as wanted. A failure names its seed and the
capture that it left behind, with the keys inside.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rawproto import read
from rawproto.impair import Impairment
from rawproto.sim.flow import Flow
from rawproto.sim.network import Network
from rawproto.transport.connection import State
from tests.sim import soak
from tests.sim.paths import HOLE, over, point
from tests.sim.scenarios import SCENARIOS
from tests.sim.trial import CLEAN, MS, PSK, SECOND, Scenario, Trial, play

DAMAGING = replace(CLEAN, loss=0.02, corrupt=0.02, duplicate=0.1, reorder=0.1)


@pytest.mark.parametrize(
    ("scenario", "seed"),
    [
        pytest.param(scenario, seed, id=f"{scenario.name} {seed}")
        for scenario in SCENARIOS
        for seed in range(scenario.few)
    ],
)
def test_every_byte_arrives_and_both_sides_end_within_bounds(scenario: Scenario, seed: int) -> None:
    play(scenario, seed)


@pytest.mark.parametrize("rate_mbps", [10, 1000])
@pytest.mark.parametrize("rtt_ms", [5, 200])
@pytest.mark.parametrize("queue_bdp", [0.2, 5])
def test_corners_of_the_matrix_carry_what_they_can(
    rate_mbps: int, rtt_ms: int, queue_bdp: float
) -> None:
    def corner(trial: Trial) -> None:
        rate_bps, rtt_ns = rate_mbps * 1_000_000, rtt_ms * MS
        point(trial, rate_bps=rate_bps, rtt_ns=rtt_ns, queue_bdp=queue_bdp)

    play(Scenario(name="corner", words="", play=corner, limit_s=30, most=1.6), 1)


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("psk", [b"", PSK])
def test_connect_takes_one_round_trip_and_the_first_byte_one_and_a_half(
    pinned: bool, psk: bytes
) -> None:
    link = Impairment(delay_ns=50 * MS)
    network = Network(1, link, link)
    flow = Flow(network, 1000, pinned=pinned, psk=psk)
    assert network.run(lambda: flow.ended, 5 * SECOND)
    assert flow.done
    assert flow.established_ns == flow.start_ns + 100 * MS
    assert flow.first_byte_ns == flow.start_ns + 150 * MS


def test_same_seed_gives_the_same_packets_byte_for_byte() -> None:
    def trace() -> list[tuple[int, bool, bytes]]:
        network = Network(11, DAMAGING, DAMAGING)
        packets: list[tuple[int, bool, bytes]] = []
        network.tap = lambda *packet: packets.append(packet)
        flow = Flow(network, 100_000)
        assert network.run(lambda: flow.ended, 30 * SECOND)
        return packets

    first = trace()
    assert first == trace()
    assert len(first) > 80


def test_keys_change_under_way_and_nothing_is_lost() -> None:
    network = Network(5, CLEAN, CLEAN)
    flow = Flow(network, 1_000_000)
    changes = 0
    for _ in range(100):
        if network.run(lambda: flow.ended, SECOND // 10):
            break
        changes += flow.client.change_keys(network.now_ns)
    assert flow.done
    assert changes >= 2


def test_cost_of_a_simulation_follows_from_its_packets() -> None:
    network = Network(1, CLEAN, CLEAN)
    packets = [0]
    network.tap = lambda now_ns, from_left, packet: packets.__setitem__(0, packets[0] + 1)
    flow = Flow(network, 2_000_000)
    assert network.run(lambda: flow.ended, 10 * SECOND)
    # Each packet's arrival and each pause of the pacer is a turn; nothing is asked in between.
    assert network.turns < 2 * packets[0]


def test_failure_names_its_seed_and_leaves_its_packets_behind() -> None:
    scenario = Scenario(name="too short", words="", play=over(100_000), limit_s=0.05)
    with pytest.raises(AssertionError) as caught:
        play(scenario, 4)
    (note,) = caught.value.__notes__
    assert note.startswith("too short, seed 4; ")
    path = Path(note.rpartition(" ")[2])
    assert len(list(read(path))) > 2
    path.unlink()


def test_flow_that_sends_too_much_is_a_failure() -> None:
    lossy = replace(CLEAN, loss=0.1)
    scenario = Scenario(name="greedy", words="", play=over(900_000, lossy), limit_s=60, most=1.0)
    with pytest.raises(AssertionError, match="bytes sent") as caught:
        play(scenario, 1)
    Path(caught.value.__notes__[0].rpartition(" ")[2]).unlink()


def test_soak_prints_a_line_for_each_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--seeds", "2", "--only", "overlap", "--only", "handshake"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["overlap", "handshake"]
    assert [line.split("|")[3].strip() for line in lines[2:]] == ["2", "2"]


def test_page_tells_of_every_scenario() -> None:
    told = soak.told()
    assert list(told) == [each.name for each in SCENARIOS], "run: make soak SEEDS=30 WRITE=1"
    for scenario in SCENARIOS:
        _, words, seeds, longest, sent = told[scenario.name]
        assert words == scenario.words
        assert int(seeds.replace(",", "")) >= 30
        assert float(longest.removesuffix(" s")) <= scenario.limit_s
        assert (sent == "-") is (scenario.ends is not None)


def test_probes_of_a_path_that_went_silent_ask_for_an_answer_each() -> None:
    network = Network(1, CLEAN, CLEAN)
    asked: list[int] = []
    network.tap = lambda now_ns, from_left, packet: (
        asked.append(packet[21]) if from_left and not packet[20] & 0x80 else None
    )
    flow = Flow(network, 2_000_000)
    assert network.run(lambda: flow.received > 500_000, 5 * SECOND)
    assert asked[-1] > 1
    # What an earlier ACK still lets go is not meant: from then on only probes leave.
    network.forward.configure(HOLE)
    network.backward.configure(HOLE)
    network.run(lambda: flow.client.sender.recovery.pto_count > 0, 5 * SECOND)
    asked.clear()
    network.run(lambda: flow.ended, 3 * SECOND)
    assert len(asked) >= 4
    assert set(asked) == {1}


def test_who_only_receives_ends_at_once_though_an_acknowledgement_may_wait() -> None:
    network = Network(1, CLEAN, CLEAN)
    flow = Flow(network, 2_000_000)
    assert network.run(lambda: flow.received > 500_000 and _rests(network, flow), 5 * SECOND)
    server = flow.server
    assert server is not None
    assert flow.right.transmit(network.now_ns) == []
    server.close(network.now_ns)
    flow.right.touch(server)
    assert flow.right.transmit(network.now_ns)
    assert server.state is State.CLOSING


def _rests(network: Network, flow: Flow) -> bool:
    server = flow.server
    return server is not None and server.sender.rests(network.now_ns, server.acks.due_ns)
