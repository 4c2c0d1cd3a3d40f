"""`sniff` and `sniff_async`: packets as values, from the moment of the call on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from rawproto import lab
from rawproto.drivers.sniff import sniff, sniff_async
from rawproto.errors import UsageError
from tests.drivers.scripted import descriptors
from tests.live.capturing import ASSORTED, quiet_pair, send

PATIENCE_NS = 20 * 10**9


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with quiet_pair() as network:
        yield network


@pytest.fixture
def h1(network: lab.Network) -> lab.LiveHost:
    return network.host("h1")


@pytest.fixture
def h2(network: lab.Network) -> lab.LiveHost:
    return network.host("h2")


def test_packets_since_the_call_come_with_interface_and_direction(
    h1: lab.LiveHost, h2: lab.LiveHost
) -> None:
    before = descriptors()
    with h2.entered():
        packets = sniff(interface="eth0", count=len(ASSORTED), timeout_ns=PATIENCE_NS)
    send(h1, ASSORTED[:-1])
    send(h2, ASSORTED[-1:])
    found = list(packets)
    assert [packet.data for packet in found] == ASSORTED
    assert [packet.direction for packet in found] == ["in"] * 9 + ["out"]
    assert {(packet.interface, packet.link_type) for packet in found} == {("eth0", 1)}
    assert packets.dropped == 0
    assert descriptors() == before


def test_filter_and_count_are_heeded(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    with h2.entered():
        packets = sniff("udp", count=2, timeout_ns=PATIENCE_NS)
    send(h1, ASSORTED)
    assert [packet.data for packet in packets] == ASSORTED[:2]
    assert list(packets) == []


def test_timeout_ends_it_with_all_that_came(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    with h2.entered():
        packets = sniff(interface="eth0", timeout_ns=1)
    assert list(packets) == []
    with h2.entered():
        packets = sniff(interface="eth0", timeout_ns=1)
    send(h1, ASSORTED)
    assert [packet.data for packet in packets] == ASSORTED


def test_it_may_be_left_early(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    before = descriptors()
    with h2.entered(), sniff(interface="eth0", timeout_ns=PATIENCE_NS) as packets:
        send(h1, ASSORTED)
        assert next(packets).data == ASSORTED[0]
    assert descriptors() == before


def test_async_sniffing_leaves_the_loop_free(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    async def run() -> tuple[list[bytes], int]:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1
                if turns == 20:  # which no sniffing held up
                    send(h1, ASSORTED)

        with h2.entered():
            packets = sniff_async("udp port 53", interface="eth0", count=3, timeout_ns=PATIENCE_NS)
        other = asyncio.create_task(count_turns())
        found = [packet.data async for packet in packets]
        other.cancel()
        return found, turns

    before = descriptors()
    found, turns = asyncio.run(run())
    assert found == [ASSORTED[at] for at in (0, 1, 4)]
    assert turns >= 20
    assert descriptors() == before


def test_async_sniffing_times_out_and_may_be_left(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    async def time_out() -> list[bytes]:
        with h2.entered():
            packets = sniff_async(interface="eth0", timeout_ns=1)
        return [packet.data async for packet in packets]

    async def leave() -> bytes:
        with h2.entered():
            opened = sniff_async(interface="eth0", timeout_ns=PATIENCE_NS)
        async with opened as packets:
            send(h1, ASSORTED)
            return (await anext(packets)).data

    before = descriptors()
    assert asyncio.run(time_out()) == []
    assert asyncio.run(leave()) == ASSORTED[0]
    assert descriptors() == before


def test_bad_count_leaves_nothing_open(h2: lab.LiveHost) -> None:
    before = descriptors()
    with h2.entered(), pytest.raises(UsageError, match="count 0: must be 1 or more"):
        sniff(interface="eth0", count=0)
    assert descriptors() == before
