"""How a trace finds the path's MTU, and what becomes of it when this host does not send."""

from __future__ import annotations

import errno
from typing import get_args

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from rawproto.errors import LinkError
from rawproto.machine import Datagram, Transmit
from rawproto.probe.trace_events import TraceHop, TraceMethod, TraceMTU, TraceSummary
from rawproto.probe.traceroute import MOST_NARROWINGS
from tests.probe.topology import MS, Path, S, addresses, chain, machine_for
from tests.probe.virtual import Answer, VirtualNetwork

METHODS = get_args(TraceMethod)


def too_big(transmit: Transmit, src_addr: str, mtu: int) -> Datagram:
    """What a router says who has no room for a packet."""
    if ":" in src_addr:
        source = "::1"
        message = ICMPv6PacketTooBig(mtu=mtu) / transmit.data[:1000]
        data = bytes(IPv6(src=src_addr, dst=source) / message)[40:]
        # The checksum is the kernel's business before a raw socket gets it.
        return Datagram(data=data, src_addr=src_addr, protocol=58, received_ns=0)
    data = bytes(ICMP(type=3, code=4, nexthopmtu=mtu) / transmit.data[:28])
    return Datagram(data=data, src_addr=src_addr, protocol=1, received_ns=0)


def narrow(path: Path, mtus: dict[int, int], say: bool = True):
    """A path whose routers at these hops have smaller links behind them."""

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        for ttl, mtu in mtus.items():
            if transmit.ttl > ttl and len(transmit.data) > mtu:
                node = path.nodes[ttl - 1]
                delay_ns = round(node.rtt_ms * MS)
                return [(delay_ns, too_big(transmit, node.addr, mtu))] if say else []
        return path(transmit, now_ns)

    return answer


def run(path: Path, answer, method: TraceMethod = "udp", **fields):
    """(hops, narrowings, summary), and everything in order."""
    fields = {"size": 1500, "find_mtu": True, **fields}
    events = VirtualNetwork(machine_for(path, method, **fields), answer).run()
    assert isinstance(events[-1], TraceSummary)
    return (
        [event for event in events if isinstance(event, TraceHop)],
        [event for event in events if isinstance(event, TraceMTU)],
        events[-1],
        events,
    )


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("method", METHODS)
def test_mtu_shrinks_with_each_narrower_link_and_every_hop_is_still_told(
    method: TraceMethod, v6: bool, queries: int
) -> None:
    path = chain(6, v6)
    answer = narrow(path, {2: 1400, 4: 1300})
    hops, narrowings, summary, events = run(path, answer, method, queries=queries)
    assert [(each.mtu, each.src_addr, each.ttl) for each in narrowings] == [
        (1400, path.nodes[1].addr, 2),
        (1300, path.nodes[3].addr, 4),
    ]
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert all(len(hop.answers) == queries for hop in hops)
    assert (summary.mtu, summary.reached) == (1300, True)
    told = [event.ttl for event in events[:-1]]
    assert told == [1, 2, 2, 3, 4, 4, 5, 6], "each behind the hop of its router"


def test_narrowing_costs_no_more_than_the_round_trips_that_tell_of_it() -> None:
    path = chain(6, rtt_ms=10)
    *_, summary, _ = run(path, narrow(path, {2: 1400, 4: 1300}))
    assert summary.duration_ns == 30 * MS


def test_router_that_answers_from_elsewhere_has_at_most_the_hop_before_the_probe() -> None:
    path = chain(5)

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        if transmit.ttl > 2 and len(transmit.data) > 1400:
            return [(MS, too_big(transmit, "192.0.2.99", 1400))]
        return path(transmit, now_ns)

    _, narrowings, _, _ = run(path, answer)
    assert [(each.src_addr, each.ttl) for each in narrowings] == [("192.0.2.99", 2)]


def test_router_that_tells_no_mtu_is_asked_with_the_usual_ones() -> None:
    path = chain(3)

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        if transmit.ttl > 1 and len(transmit.data) > 1000:
            return [(MS, too_big(transmit, path.nodes[0].addr, 0))]
        return path(transmit, now_ns)

    _, narrowings, summary, _ = run(path, answer)
    assert [each.mtu for each in narrowings] == [1492, 1006, 508]
    assert (summary.mtu, summary.reached) == (508, True)


def test_without_an_answer_from_the_target_no_path_mtu_is_claimed() -> None:
    path = chain(4)
    _, narrowings, summary, _ = run(path, narrow(path, {2: 1400}, say=False), max_ttl=4)
    assert (narrowings, summary.mtu, summary.reached) == ([], None, False)


@pytest.mark.parametrize(("v6", "least"), [(False, 68), (True, 1280)])
def test_smaller_mtu_than_any_link_may_have_is_told_once_and_not_believed(
    v6: bool, least: int
) -> None:
    path = chain(3, v6)

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        complaint = (MS // 2, too_big(transmit, path.nodes[0].addr, 20))
        return [complaint, *path(transmit, now_ns)]

    hops, narrowings, summary, _ = run(path, answer)
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert [each.mtu for each in narrowings] == [20]
    assert (summary.mtu, {len(packet) for packet in path.sent}) == (least, {1500, least})


def test_router_that_shrinks_the_mtu_without_end_does_not_keep_us_sending_without_end() -> None:
    path = chain(4)

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [(MS, too_big(transmit, path.nodes[0].addr, len(transmit.data) - 1))]

    network = VirtualNetwork(machine_for(path, size=1500, find_mtu=True), answer)
    network.run()
    assert len(network.sent) <= (MOST_NARROWINGS + 1) * 90


def test_without_mtu_search_what_does_not_fit_ends_the_trace() -> None:
    path = chain(6)
    answer = narrow(path, {2: 1400})
    hops, narrowings, summary, _ = run(path, answer, find_mtu=False)
    assert [hop.ttl for hop in hops] == [1, 2, 3]
    assert {(each.icmp_type, each.code, each.mtu) for each in hops[2].answers} == {(3, 4, 1400)}
    assert (narrowings, summary.reached, summary.mtu) == ([], False, None)


# --- packets that do not leave -------------------------------------------------------------------


def refusing(number: int, count: int, code: int):
    """Refuses `count` packets from the one with that number on, counted from 1."""
    seen = 0

    def refuse(transmit: Transmit, now_ns: int) -> OSError | None:
        nonlocal seen
        seen += 1
        if number <= seen < number + count:
            return LinkError("send to", transmit.dst_addr, code)
        return None

    return refuse


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.EAGAIN])
def test_full_queue_delays_probes_and_loses_none(code: int) -> None:
    path = chain(4)
    network = VirtualNetwork(machine_for(path), path, refuse=refusing(2, 5, code))
    *hops, summary = network.run()
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert network.machine.failure is None
    assert 25 * MS <= summary.duration_ns < 40 * MS


def test_queue_that_stays_full_is_a_failure_in_the_end() -> None:
    path = chain(4)
    network = VirtualNetwork(machine_for(path), path, refuse=refusing(1, 10**9, errno.ENOBUFS))
    *hops, summary = network.run()
    assert (hops, path.sent, summary.hops) == ([], [], 0)
    assert network.machine.failure.errno == errno.ENOBUFS
    assert network.now_ns < 10 * S


def test_refusal_ends_the_trace_after_what_is_under_way() -> None:
    path = chain(12)
    network = VirtualNetwork(machine_for(path), path, refuse=refusing(8, 10**9, errno.EPERM))
    *hops, summary = network.run()
    assert addresses(hops) == [{node.addr} for node in path.nodes[:3]]
    assert [len(hop.answers) for hop in hops] == [3, 3, 1]
    assert (summary.reached, summary.hops) == (False, 3)
    assert network.machine.failure.errno == errno.EPERM
    assert len(path.sent) == 7
