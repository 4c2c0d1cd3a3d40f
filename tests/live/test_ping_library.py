"""ping as a library, blocking and awaited: results, events, errors, and nothing left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import rawproto
from rawproto import lab
from rawproto.drivers.ping import PingResult, ping, ping_async
from rawproto.errors import LinkError, UsageError
from rawproto.probe.ping_events import PingEvent, PingLost, PingReply, PingSent
from tests.drivers.scripted import descriptors
from tests.live.pinging import Wire, echo_of, set_sysctl, stamping

H2, H2_V6 = "10.99.1.2", "fd99:1::2"
NOBODY = "10.99.1.77"

Ping = Callable[..., list[PingResult]]


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with lab.up(lab.pair()) as network, stamping(network.host("h2")):
        # Nobody is there, and the kernel does not say so while the module runs.
        set_sysctl(network.host("h1"), "ipv4/neigh/eth0/mcast_solicit", "1000")
        yield network


@pytest.fixture
def _on_h1(network: lab.Network) -> Iterator[None]:
    with network.host("h1").entered():
        yield


pytestmark = pytest.mark.usefixtures("_on_h1")


def awaited(*hosts: str, **options) -> list[PingResult]:
    """`ping_async`, run to its end."""
    return asyncio.run(ping_async(*hosts, **options))


@pytest.fixture(params=[ping, awaited], ids=["blocking", "asyncio"])
def either(request: pytest.FixtureRequest) -> Ping:
    return request.param


def left_open() -> tuple[dict[int, str], list[str]]:
    """Descriptors and threads of this process."""
    return descriptors(), sorted(thread.name for thread in threading.enumerate())


def test_results_tell_of_each_target(either: Ping) -> None:
    told: list[PingEvent] = []
    one, two, three = either(
        H2, NOBODY, H2_V6, count=3, interval_ms=10, timeout_ms=500, on_event=told.append
    )
    for result, address, family in ((one, H2, 4), (three, H2_V6, 6)):
        assert (result.target.name, result.target.dst_addr) == (address, address)
        assert result.target.src_addr == {4: "10.99.1.1", 6: "fd99:1::1"}[family]
        assert [reply.sequence_number for reply in result.replies] == [1, 2, 3]
        assert {(each.tx_stamp, each.rx_stamp) for each in result.replies} == {("kernel", "kernel")}
        assert all(0 < reply.rtt_ns < 10**9 for reply in result.replies)
        counts = result.statistics
        assert (counts.sent, counts.received, counts.dropped_by_host) == (3, 3, 0)
        assert counts.rtt.min_ns == min(reply.rtt_ns for reply in result.replies)
        assert (result.lost, result.errors) == ([], [])
    assert [lost.sequence_number for lost in two.lost] == [1, 2, 3]
    assert two.statistics.loss_pct == 100
    assert sorted(map(id, told)) == sorted(id(e) for r in (one, two, three) for e in r.events)
    kinds = [type(event) for event in told if event.target.name == H2]
    assert kinds[0] is PingSent
    assert (kinds.count(PingSent), kinds.count(PingReply), len(kinds)) == (3, 3, 6)


def test_options_are_those_of_the_command_line(either: Ping, network: lab.Network) -> None:
    with Wire(network.host("h2")) as wire:
        either(H2, H2_V6, count=1, ttl=9, tos=0xB8, size=4, pattern=b"\xab", fragmentation="dont")
        ipv4, ipv6 = wire.packets(2)
    assert (ipv4.ttl, ipv4.tos, str(ipv4.flags)) == (9, 0xB8, "")
    assert (ipv6.hlim, ipv6.tc) == (9, 0xB8)
    assert echo_of(ipv4) == echo_of(ipv6)
    assert echo_of(ipv4)[2] == b"\xab" * 4


def test_a_deadline_is_as_good_as_a_count(either: Ping) -> None:
    (result,) = either(H2, count=None, deadline_ms=1000, interval_ms=200)
    assert 1 <= result.statistics.received <= result.statistics.sent <= 5


def test_nothing_is_left_open_afterwards(either: Ping) -> None:
    either(H2, H2_V6, count=1)
    before = left_open()
    either(H2, H2_V6, count=2, interval_ms=10)
    either(NOBODY, count=1, timeout_ms=20)
    assert left_open() == before


@pytest.mark.parametrize(
    ("hosts", "options", "error", "told"),
    [
        (["a..b"], {}, UsageError, r"a\.\.b: not a host name"),
        ([H2], {"interface": "eth9"}, LinkError, "interface eth9: No such device"),
        ([H2], {"source": "10.9.9.9"}, LinkError, "send from 10.9.9.9: Cannot assign"),
        (["192.0.2.1"], {}, LinkError, "route to 192.0.2.1: Network is unreachable"),
        ([H2], {"size": 1473, "fragmentation": "do"}, LinkError, "above the MTU of 1500"),
        ([H2], {"flow_label": 1}, UsageError, "a flow label is a field of IPv6 alone"),
        ([H2], {"interval_ms": 0.01}, UsageError, "must be at least 0.1 ms"),
        ([H2], {"pcap": "/proc/none/a.pcap"}, OSError, "No such file or directory"),
        ([H2], {"pcap": "a.txt"}, UsageError, "name it .pcap or .pcapng"),
    ],
)
def test_errors_are_raised_and_leave_nothing_open(
    hosts: list[str], options: dict, error: type[Exception], told: str, either: Ping
) -> None:
    with pytest.raises(error, match=told):
        either(*hosts, count=1, **options)
    before = left_open()
    with pytest.raises(error, match=told):
        either(*hosts, count=1, **options)
    assert left_open() == before


def test_what_the_listener_raises_ends_it_and_leaves_nothing_open(either: Ping) -> None:
    def fail(event: PingEvent) -> None:
        raise RuntimeError("enough")

    either(H2, count=1)
    before = left_open()
    with pytest.raises(RuntimeError, match="enough"):
        either(H2, count=1, on_event=fail)
    assert left_open() == before


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())


def test_cancelling_an_awaited_ping_leaves_nothing() -> None:
    async def scenario() -> None:
        started = asyncio.Event()
        before = left_open()
        pinging = asyncio.create_task(
            ping_async(H2, H2_V6, count=None, deadline_ms=1e9, on_event=lambda _: started.set())
        )
        await started.wait()
        assert left_open() != before
        pinging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pinging
        assert left_open() == before
        assert len(asyncio.all_tasks()) == 1

    run(scenario)


def test_a_time_limit_from_outside_ends_an_awaited_ping() -> None:
    async def scenario() -> None:
        before = left_open()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ping_async(H2, count=10**6, interval_ms=10), 0.05)
        assert left_open() == before

    run(scenario)


def test_several_pings_side_by_side_do_not_hear_each_other(network: lab.Network) -> None:
    async def scenario() -> list[list[PingResult]]:
        return await asyncio.gather(
            *(
                ping_async(H2, count=3, interval_ms=10, timeout_ms=5000, size=size)
                for size in (10, 20, 30)
            )
        )

    with Wire(network.host("h2")) as wire:
        found = asyncio.run(scenario())
        identifiers = {echo_of(packet)[0] for packet in wire.packets(9)}
    assert len(identifiers) == 3
    for size, (result,) in zip((10, 20, 30), found, strict=True):
        assert {reply.size for reply in result.replies} == {8 + size}
        assert (result.statistics.received, result.statistics.duplicates) == (3, 0)
        assert result.statistics.corrupted == 0


def test_pings_in_threads_of_their_own_do_not_disturb_each_other(network: lab.Network) -> None:
    results: list[PingResult] = []

    def work() -> None:
        with network.host("h1").entered():
            results.extend(ping(H2, count=3, interval_ms=10, timeout_ms=5000))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.statistics.received for result in results] == [3] * 4


def test_capture_is_written_beside(either: Ping, tmp_path: Path) -> None:
    file = tmp_path / "ping.pcapng"
    either(H2, count=2, interval_ms=10, timeout_ms=5000, pcap=str(file))
    packets = list(rawproto.read(file))
    assert sorted(str(packet.direction) for packet in packets) == ["in", "in", "out", "out"]
    assert [packet.data[9] for packet in packets] == [1] * 4


def test_the_shop_window_shows_both() -> None:
    assert rawproto.ping is ping
    assert rawproto.ping_async is ping_async


def test_lost_probes_are_events_and_no_exceptions(either: Ping) -> None:
    (result,) = either(NOBODY, count=1, timeout_ms=20)
    assert [type(event) for event in result.events] == [PingSent, PingLost]
