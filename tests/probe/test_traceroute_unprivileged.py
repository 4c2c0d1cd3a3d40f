"""The traceroute machine where the kernel reads the errors, and shows little of what they quote."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from rawproto.machine import ICMPError, Transmit
from rawproto.probe.match import read_error
from rawproto.probe.trace_events import TraceConfig, TraceHop, TraceMTU, TraceSummary
from rawproto.probe.traceroute import Traceroute
from tests.probe.topology import MS, Node, Path
from tests.probe.virtual import Answer, VirtualNetwork

S = 1000 * MS
WHOLE = 1500
TARGET = {4: (3, 3), 6: (1, 4)}


def chain(hops: int, family: int = 4, quoted_bytes: int = WHOLE) -> Path:
    name = "10.0.{}.1" if family == 4 else "fd00:{}::1"
    path = Path([Node(name.format(hop), quoted_bytes=quoted_bytes) for hop in range(1, hops + 1)])
    # What the target says is an error, too, and quotes as much.
    path.nodes[-1].icmp = TARGET[family]
    return path


def as_told_by_the_kernel(path: Path, method: str) -> Callable[[Transmit, int], Iterator[Answer]]:
    """Errors come as the error queue tells them: UDP's from behind the UDP header on."""

    def answer(transmit: Transmit, now_ns: int) -> Iterator[Answer]:
        for delay_ns, datagram in path(transmit, now_ns):
            found = read_error(datagram)
            if found is None:
                yield delay_ns, datagram
            else:
                error = found[0]
                shown = error.original[8:] if method == "udp" else error.original
                yield delay_ns, replace(error, original=shown)

    return answer


def a_config(**fields) -> TraceConfig:
    given = {"method": "udp", "src_port": 50_000, "dst_port": 33_434, "dst_addr": "10.0.4.1"}
    given |= fields
    source = "fd00::9" if ":" in given["dst_addr"] else "10.0.0.9"
    return TraceConfig(src_addr=source, **given)


def an_error(src_addr: str, **fields) -> ICMPError:
    """A router's complaint that quotes nothing."""
    given = {"icmp_type": 11, "code": 0, "original": b"", "received_ns": 0}
    return ICMPError(src_addr=src_addr, dst_addr="10.0.4.1", **given | fields)


def trace(path: Path, method: str = "udp", **fields) -> tuple[list[TraceHop], TraceSummary]:
    """Runs a trace of `path`: its hops and its end."""
    config = a_config(method=method, dst_addr=path.nodes[-1].addr, **fields)
    machine = Traceroute(config, 0, random.Random(3))
    network = VirtualNetwork(machine, as_told_by_the_kernel(path, method))
    *hops, summary = network.run()
    assert isinstance(summary, TraceSummary)
    assert [hop.ttl for hop in hops] == [*range(1, 1 + summary.hops)]
    return hops, summary


def addresses(hops: list[TraceHop]) -> list[set[str | None]]:
    return [{answer and answer.src_addr for answer in hop.answers} for hop in hops]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("method", ["udp", "icmp"])
def test_traced_path_is_the_path(method: str, family: int) -> None:
    path = chain(12, family)
    if method == "icmp":
        path.nodes[-1].icmp = None
    hops, summary = trace(path, method)
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert (summary.reached, summary.hops) == (True, 12)
    assert summary.duration_ns < 20 * MS


def test_answer_says_what_the_kernel_told_and_leaves_open_what_it_kept() -> None:
    hops, _ = trace(chain(3))
    answer = hops[1].answers[0]
    assert (answer.src_addr, answer.rtt_ns, answer.icmp_type, answer.code) == (
        "10.0.2.1",
        MS,
        11,
        0,
    )
    assert (answer.reply_ttl, answer.rx_stamp) == (64, "kernel")
    assert (answer.quoted_ttl, answer.rewritten) == (None, None)


def test_echoes_are_known_by_eight_quoted_bytes() -> None:
    path = chain(5, quoted_bytes=8)
    hops, summary = trace(path, "icmp")
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert summary.duration_ns < 20 * MS


@pytest.mark.parametrize("quoted_bytes", [8, 9])
def test_where_all_quote_too_little_probes_follow_one_another(quoted_bytes: int) -> None:
    path = chain(12, quoted_bytes=quoted_bytes)
    hops, summary = trace(path)
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert summary.reached
    # The first windowful at once, and then one at a time.
    assert len(path.sent) == 32 + 36
    assert summary.duration_ns == MS + 36 * MS


def test_a_target_that_quotes_too_little_is_found() -> None:
    path = chain(5)
    path.nodes[-1].quoted_bytes = 8
    hops, summary = trace(path)
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert (summary.reached, summary.hops) == (True, 5)
    assert summary.duration_ns < 50 * MS


def test_routers_that_quote_enough_are_not_asked_again() -> None:
    path = chain(6)
    path.nodes[2].quoted_bytes = 8
    hops, summary = trace(path, queries=1)
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert [packet.ttl for packet in path.sent].count(3) == 2
    assert [packet.ttl for packet in path.sent].count(2) == 1
    assert summary.duration_ns < 10 * MS


def test_window_of_one_needs_no_second_question() -> None:
    path = chain(6, quoted_bytes=8)
    hops, _ = trace(path, window=1)
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert len(path.sent) == 18


def test_beside_a_silent_router_it_takes_its_time_and_is_right() -> None:
    path = chain(6, quoted_bytes=8)
    path.nodes[3].addr = ""
    hops, summary = trace(path, queries=2)
    expected = [{node.addr or None} for node in path.nodes]
    assert addresses(hops) == expected
    # Once to find out that they cannot be told apart, and for each probe that is not answered.
    assert 3 * 5 * S <= summary.duration_ns < 3 * 5 * S + S


def test_late_answer_is_not_taken_for_the_next_hops() -> None:
    path = chain(5, quoted_bytes=8)
    slow = path.nodes[1]

    def once_late(count: int) -> bool:
        # Long after it is given up, because the first answer came so soon.
        slow.rtt_ms = 2500 if count == 1 else 1
        return True

    slow.answers = once_late
    # What is under way when it comes at last is a probe to the target.
    path.nodes[4].rtt_ms = 200
    hops, _ = trace(path, window=1, send_gap_ns=300 * MS)
    assert [answer and answer.rtt_ns for answer in hops[1].answers] == [MS, None, MS]
    others = [hop for hop in hops if hop.ttl != 2]
    assert addresses(others) == [{node.addr} for node in path.nodes if node is not slow]


def test_error_is_about_no_probe_that_left_after_it_had_come() -> None:
    machine = Traceroute(a_config(send_gap_ns=10 * MS, queries=1), 0, random.Random(3))
    network = VirtualNetwork(machine, lambda transmit, now_ns: [])
    network.run(until_ns=11 * MS)
    assert [transmit.ttl for _, transmit in network.sent] == [1, 2]
    machine.handle_error(an_error("10.0.1.1", received_ns=5 * MS), 11 * MS)
    machine.stop(12 * MS)
    network.turn()
    first, second, _ = network.events
    assert [answer and answer.rtt_ns for answer in first.answers] == [5 * MS]
    assert second.answers == (None,)


def test_answers_that_the_target_kept_back_hold_nothing_up() -> None:
    path = chain(4)
    path.nodes[1].quoted_bytes = 8
    path.nodes[-1].answers = lambda count: count < 3 or count > 12
    hops, summary = trace(path)
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert summary.duration_ns < 50 * MS


def test_probe_that_was_never_sent_is_not_suspected() -> None:
    path = chain(5, quoted_bytes=8)
    refused = [OSError(errno.ENOBUFS, "no room")]
    network = VirtualNetwork(
        Traceroute(a_config(dst_addr="10.0.5.1", window=1), 0, random.Random(3)),
        as_told_by_the_kernel(path, "udp"),
        refuse=lambda transmit, now_ns: refused.pop() if transmit.ttl == 3 and refused else None,
    )
    *hops, summary = network.run()
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert summary.duration_ns < 50 * MS


@pytest.mark.parametrize("icmp_type", [4, 5])
def test_source_quench_and_redirect_are_no_answers(icmp_type: int) -> None:
    path = chain(4)
    answer = as_told_by_the_kernel(path, "udp")

    def redirecting(transmit: Transmit, now_ns: int) -> Iterator[Answer]:
        number = transmit.data[28:30]
        yield 1, replace(an_error("10.0.1.1", icmp_type=icmp_type), original=number)
        yield from answer(transmit, now_ns)

    network = VirtualNetwork(Traceroute(a_config(), 0, random.Random(3)), redirecting)
    *hops, summary = network.run()
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert summary.reached


class _HighestFirst(random.Random):
    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return (start if stop is None else stop) - 1


@pytest.mark.parametrize("method", ["udp", "icmp", "tcp"])
def test_numbers_begin_again_behind_the_highest(method: str) -> None:
    path = chain(4)
    config = a_config(method=method)
    network = VirtualNetwork(Traceroute(config, 0, _HighestFirst()), path)
    *hops, _ = network.run()
    assert [packet.id for packet in path.sent[:3]] == [0xFFFE, 1, 2]
    assert addresses(hops) == [{node.addr} for node in path.nodes]


def test_zeros_in_which_extensions_are_padded_are_no_number() -> None:
    path = chain(4)
    answer = as_told_by_the_kernel(path, "udp")

    def padded(transmit: Transmit, now_ns: int) -> Iterator[Answer]:
        for delay_ns, error in answer(transmit, now_ns):
            assert isinstance(error, ICMPError)
            yield delay_ns, replace(error, original=bytes(100), extensions=b"\x20\0\0\0")

    config = a_config()
    network = VirtualNetwork(Traceroute(config, 0, random.Random(3)), padded)
    *hops, _ = network.run()
    assert addresses(hops) == [{node.addr} for node in path.nodes]


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("rtts_ms", [(1, 20, 300, 2500), (300, 900, 2500)], ids=["wild", "near"])
def test_no_hop_is_ever_wrong(rtts_ms: tuple[int, ...], seed: int) -> None:
    rng = random.Random(seed)
    path = chain(rng.randrange(2, 9))
    unsure = set()
    for ttl, node in enumerate(path.nodes, 1):
        node.quoted_bytes = rng.choice([8, WHOLE])
        node.rtt_ms = rng.choice(rtts_ms)
        if rng.random() < 0.2:
            unsure.add(ttl)
            node.answers = [rng.random() < 0.6 for _ in range(1000)].__getitem__
        elif rng.random() < 0.2 and node is not path.nodes[-1]:
            node.addr = ""
    hops, summary = trace(path, max_ttl=12, window=rng.choice([1, 3, 16]), near_times=10.0)
    for hop in hops:
        node = path.nodes[min(hop.ttl, len(path.nodes)) - 1]
        for answer in hop.answers:
            if answer is not None:
                assert (answer.src_addr, answer.rtt_ns) == (node.addr, node.rtt_ms * MS)
        # One that takes much longer than a farther one is given up, whoever reads the errors.
        if rtts_ms[0] > 1 and hop.ttl not in unsure and node.addr:
            assert any(hop.answers), f"hop {hop.ttl} is there"
    if len(path.nodes) not in unsure:
        assert (summary.reached, summary.hops) == (True, len(path.nodes))


def test_mtu_is_found_by_what_the_kernel_tells() -> None:
    path = chain(4)
    answer = as_told_by_the_kernel(path, "udp")

    def limited(transmit: Transmit, now_ns: int) -> Iterator[Answer]:
        for delay_ns, error in answer(transmit, now_ns):
            assert isinstance(error, ICMPError)
            if len(transmit.data) > 1400 and (transmit.ttl or 0) > 2:
                error = replace(error, src_addr="10.0.2.1", icmp_type=3, code=4, mtu=1400)
            yield delay_ns, error

    config = a_config(size=1500, find_mtu=True)
    network = VirtualNetwork(Traceroute(config, 0, random.Random(3)), limited)
    events = network.run()
    (narrowed,) = [event for event in events if isinstance(event, TraceMTU)]
    assert (narrowed.mtu, narrowed.src_addr, narrowed.ttl) == (1400, "10.0.2.1", 2)
    hops = [event for event in events if isinstance(event, TraceHop)]
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert events[-1].mtu == 1400


def test_strangers_errors_change_nothing() -> None:
    rng = random.Random(9)
    path = chain(4)
    config = a_config()
    machine = Traceroute(config, 0, random.Random(3))
    network = VirtualNetwork(machine, as_told_by_the_kernel(path, "udp"))
    network.turn()
    for _ in range(1000):
        machine.handle_error(
            ICMPError(
                src_addr="10.7.7.7",
                dst_addr="10.0.4.1",
                icmp_type=rng.randrange(256),
                code=rng.randrange(256),
                original=rng.choice([b"\xff\xff", b"\0\7"]) + rng.randbytes(rng.randrange(60)),
                received_ns=rng.randrange(S),
                mtu=rng.choice([None, 0, 7]),
                extensions=rng.randbytes(rng.randrange(9)),
            ),
            1,
        )
    *hops, summary = network.run()
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert summary.reached
