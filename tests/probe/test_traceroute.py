"""The traceroute machine, in virtual time against scripted paths."""

from __future__ import annotations

import random
from typing import get_args

import pytest
from scapy.contrib.mpls import MPLS
from scapy.utils import checksum

from rawproto.machine import Datagram
from rawproto.probe.trace_events import TraceConfig, TraceMethod, TraceSummary
from rawproto.probe.traceroute import Traceroute
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import InterfaceInformation, MPLSLabel, MPLSLabelStack
from tests.probe.judge import flow_of, judged_probe
from tests.probe.topology import MS, Node, Path, S, addresses, chain, machine_for, trace
from tests.probe.virtual import VirtualNetwork

METHODS = get_args(TraceMethod)


def sound(icmp: bytes) -> bytes:
    """An ICMP message, or what begins like one, with the checksum that belongs there."""
    if len(icmp) < 4:
        return icmp
    return icmp[:2] + checksum(icmp[:2] + b"\0\0" + icmp[4:]).to_bytes(2, "big") + icmp[4:]


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("method", METHODS)
def test_traced_path_is_the_path(method: TraceMethod, v6: bool) -> None:
    path = chain(12, v6)
    hops, summary = trace(path, method)
    assert [hop.ttl for hop in hops] == list(range(1, 13))
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert all(len(hop.answers) == 3 for hop in hops)
    assert {answer.rtt_ns for hop in hops for answer in hop.answers} == {MS}
    assert (summary.reached, summary.hops) == (True, 12)
    assert summary.duration_ns < 20 * MS


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("method", METHODS)
def test_all_probes_are_of_one_flow_and_sound(method: TraceMethod, v6: bool) -> None:
    path = chain(6, v6)
    trace(path, method, dscp=8, flow_label=0x12345 if v6 else 0)
    for packet in path.sent:
        judged_probe(bytes(packet))
        assert len(packet) == (60 if method != "tcp" else (40 if v6 else 20) + 20)
        if v6:
            assert (packet.fl, packet.tc) == (0x12345, 32)
        else:
            assert packet.flags == "DF"
    assert len({flow_of(packet) for packet in path.sent}) == 1
    assert len({bytes(packet) for packet in path.sent}) == len(path.sent)


def test_all_probes_of_a_hop_go_out_before_those_to_the_next() -> None:
    path = chain(12)
    trace(path, window=16)
    assert [packet.ttl for packet in path.sent[:16]] == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [
        5
    ] * 3 + [6]


def test_silent_hops_cost_no_more_than_the_others_have_taught() -> None:
    path = chain(12)
    for silent in (3, 4, 8):
        path.nodes[silent - 1].addr = ""
    hops, summary = trace(path)
    assert summary.reached
    assert [hop.ttl for hop in hops if not any(hop.answers)] == [3, 4, 8]
    assert summary.duration_ns < 500 * MS


def test_silent_hop_is_waited_for_by_what_the_next_one_takes() -> None:
    path = chain(4, rtt_ms=400)
    path.nodes[1].addr = ""
    _, summary = trace(path, near_times=2.0)
    assert summary.duration_ns == 800 * MS
    _, summary = trace(path, near_times=5.0)
    assert summary.duration_ns == 2000 * MS
    _, summary = trace(path, near_times=50.0, wait_ns=3 * S)
    assert summary.duration_ns == 3 * S, "never more than the whole time-out"
    path = chain(4, rtt_ms=1)
    path.nodes[1].addr = ""
    _, summary = trace(path)
    assert summary.duration_ns == 201 * MS, "a router may take a while, however near it is"


def test_target_that_never_answers_is_waited_for_to_the_last_hop() -> None:
    path = chain(5)
    path.target_answers = False
    hops, summary = trace(path, max_ttl=8)
    assert not summary.reached
    assert [not any(hop.answers) for hop in hops] == [False] * 4 + [True] * 4
    assert 5 * S <= summary.duration_ns < 5.5 * S


def test_silent_end_holds_up_neither_the_hops_before_it_nor_the_probes_behind_it() -> None:
    path = chain(5)
    path.target_answers = False
    network = VirtualNetwork(machine_for(path, max_ttl=30), path)
    network.run(until_ns=10 * MS)
    assert [hop.ttl for hop in network.events] == [1, 2, 3, 4]
    *_, summary = network.run()
    assert summary.hops == 30
    assert len(path.sent) == 90
    assert summary.duration_ns < 6.5 * S, "one time-out, and a little for each windowful"


def test_window_holds_all_but_overdue_probes() -> None:
    path = chain(6, rtt_ms=30)
    path.target_answers = False
    network = VirtualNetwork(machine_for(path, window=4, max_ttl=12), path)
    network.run()
    answered_ns = {n: at + 30 * MS for n, (at, t) in enumerate(network.sent) if t.ttl < 6}
    for number, (sent_ns, _) in enumerate(network.sent):
        under_way = [
            other
            for other, (before_ns, _) in enumerate(network.sent[:number])
            # Overdue: 200 ms behind what other answers took, a second where there is none.
            if sent_ns < answered_ns.get(other, before_ns + 230 * MS)
        ]
        assert len(under_way) < 4


def test_nothing_known_at_all_makes_probes_overdue_after_a_second() -> None:
    path = Path([Node() for _ in range(9)])
    path.nodes[-1].addr = "10.0.9.1"
    path.target_answers = False
    network = VirtualNetwork(machine_for(path, window=9, max_ttl=9), path)
    *_, summary = network.run()
    assert [at for at, _ in network.sent] == [0] * 9 + [S] * 9 + [2 * S] * 9
    assert summary.duration_ns == 7 * S


def test_answer_from_the_target_ends_the_trace_and_farther_probes_do_not_count() -> None:
    hops, summary = trace(chain(3), window=64)
    assert (len(hops), summary.hops, summary.reached) == (3, 3, True)


def test_unreachable_on_the_way_ends_the_trace_without_reaching() -> None:
    path = chain(6)
    path.nodes[3].icmp = (3, 1)
    hops, summary = trace(path, "icmp")
    assert (summary.reached, summary.hops) == (False, 4)
    assert {(answer.icmp_type, answer.code) for answer in hops[-1].answers} == {(3, 1)}


def test_rate_limit_is_told_from_loss_on_the_path() -> None:
    path = chain(5)
    path.nodes[1].answers = lambda count: count < 1
    hops, _ = trace(path)
    assert [hop.rate_limited for hop in hops] == [False, True, False, False, False]
    assert [answer is not None for answer in hops[1].answers] == [True, False, False]
    path = chain(5)
    for node in path.nodes[2:]:
        node.answers = lambda count: count != 1
    hops, _ = trace(path, window=5)
    assert not any(hop.rate_limited for hop in hops), "what is lost farther on too is loss"


def test_every_router_may_limit_its_rate() -> None:
    path = chain(12)
    for node in path.nodes[:-1]:
        node.answers = lambda count: count < 1
    hops, _ = trace(path)
    assert [hop.rate_limited for hop in hops] == [True] * 11 + [False]


def test_lossy_hop_is_told_without_waiting_for_a_silent_end() -> None:
    path = chain(5)
    path.nodes[1].answers = lambda count: count < 1
    path.target_answers = False
    network = VirtualNetwork(machine_for(path), path)
    network.run(until_ns=500 * MS)
    assert [(hop.ttl, hop.rate_limited) for hop in network.events] == [
        (1, False),
        (2, True),
        (3, False),
        (4, False),
    ]


def test_labels_and_interfaces_are_told() -> None:
    stack = MPLSLabelStack(labels=(MPLSLabel(label=100, ttl=1), MPLSLabel(label=7, ttl=2)))
    came_in = InterfaceInformation(role=0, if_name="eth7", mtu=1400)
    path = chain(3)
    path.nodes[1].extensions = ICMPExtensions(objects=(stack, came_in)).emit()
    hops, _ = trace(path)
    answer = hops[1].answers[0]
    assert [label.label for label in answer.labels] == [100, 7]
    assert [(each.if_name, each.mtu) for each in answer.interfaces] == [("eth7", 1400)]
    assert hops[0].answers[0].labels == ()
    assert MPLS(bytes.fromhex("00064101")).label == 100


def test_balancing_by_packet_shows_every_router() -> None:
    others = {2: [Node("10.8.2.1"), Node("10.9.2.1")]}
    path = chain(4)
    path.choose = lambda ttl, packet, count: (
        others[ttl][count % 2] if ttl in others and count % 3 else None
    )
    hops, summary = trace(path, queries=6)
    assert addresses(hops)[1] <= {"10.0.2.1", "10.8.2.1", "10.9.2.1"}
    assert len(addresses(hops)[1]) > 1
    assert summary.reached


def test_loop_goes_on_to_the_last_hop() -> None:
    path = Path([Node(f"10.0.{1 + hop % 2}.1") for hop in range(20)] + [Node("10.0.99.1")])
    hops, summary = trace(path, max_ttl=10)
    assert addresses(hops) == [{f"10.0.{1 + hop % 2}.1"} for hop in range(10)]
    assert (summary.reached, summary.hops) == (False, 10)


def test_first_and_last_hop_and_queries_are_as_asked() -> None:
    path = chain(12)
    hops, summary = trace(path, first_ttl=3, max_ttl=5, queries=1)
    assert [(hop.ttl, len(hop.answers)) for hop in hops] == [(3, 1), (4, 1), (5, 1)]
    assert {packet.ttl for packet in path.sent} == {3, 4, 5}
    assert not summary.reached


def test_window_of_one_sends_after_each_answer() -> None:
    path = chain(3)
    _, summary = trace(path, window=1)
    assert summary.duration_ns == 9 * MS
    assert len(path.sent) == 9


def test_gap_between_probes_is_kept() -> None:
    _, summary = trace(chain(3), send_gap_ns=10 * MS)
    assert summary.duration_ns >= 80 * MS


def test_slow_hop_is_waited_for_as_long_as_it_was_slow_before() -> None:
    path = chain(3)
    path.nodes[1].rtt_ms = path.nodes[2].rtt_ms = 400
    path.nodes[1].answers = lambda count: count != 1
    hops, summary = trace(path)
    assert [answer is not None for answer in hops[1].answers] == [True, False, True]
    assert summary.duration_ns < 2 * S


def test_strangers_packets_change_nothing() -> None:
    rng = random.Random(9)
    path = chain(4)
    machine = machine_for(path)
    network = VirtualNetwork(machine, path)
    network.turn()
    for _ in range(3000):
        head = rng.choice([b"\x0b\0\0\0\0\0\0\0\x45\0", b"\x03\x03", b"", b"\0"])
        data = sound(head + rng.randbytes(rng.randrange(60)))
        machine.handle_datagram(
            Datagram(
                data=data,
                src_addr=rng.choice(["10.0.4.1", "10.7.7.7"]),
                protocol=rng.choice([1, 6, 17, 58]),
                received_ns=1,
            ),
            1,
        )
    *hops, summary = network.run()
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert summary.reached


def test_stop_tells_what_is_known() -> None:
    path = chain(12, rtt_ms=50)
    config = TraceConfig(
        method="icmp", dst_addr="10.0.12.1", src_addr="10.0.0.9", src_port=7, dst_port=0, window=4
    )
    machine = Traceroute(config, 0, random.Random(1))
    network = VirtualNetwork(machine, path)
    network.run(until_ns=120 * MS)
    machine.stop(network.now_ns)
    network.turn()
    assert machine.finished
    *hops, summary = network.events
    assert isinstance(summary, TraceSummary)
    assert [hop.ttl for hop in hops] == list(range(1, len(hops) + 1)), "none that was not probed"
    assert all(hop.answers for hop in hops)
    assert len(hops) == max(packet.ttl for packet in path.sent) == summary.hops
