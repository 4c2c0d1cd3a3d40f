"""What both drivers do alike: the same ping, blocking and under asyncio, in virtual time."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from rawproto.errors import LinkError
from rawproto.link.memory import MemoryLink
from rawproto.machine import Datagram, Transmit
from rawproto.probe.ping_events import PingLost, PingReply
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo, peek_echo
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from tests.drivers.scripted import (
    EchoLink,
    ScriptedLink,
    ScriptedMachine,
    VirtualTime,
    descriptors,
    run_asyncio,
    run_blocking,
)
from tests.probe.exchange import H2, H2_V6, MS, S, of, ping

Run = Callable[..., None]


@pytest.fixture(params=[run_blocking, run_asyncio], ids=["blocking", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    time = VirtualTime()
    time.install(monkeypatch)
    return time


def test_a_ping_is_pumped_to_its_end_on_its_beat(run: Run, time: VirtualTime) -> None:
    link = EchoLink(time, lambda number: None if number == 3 else 20 * MS)
    machine, events = ping(count=4, timeout_ns=100 * MS), []
    run(machine, link, events.append, time)
    assert machine.finished
    replies = of(events, PingReply)
    assert [reply.sequence_number for reply in replies] == [1, 2, 4]
    assert {reply.rtt_ns for reply in replies} == {20 * MS}
    assert [lost.sequence_number for lost in of(events, PingLost)] == [3]
    late = [at - link.sent_at[0] - index * S for index, at in enumerate(link.sent_at)]
    assert len(late) == 4
    assert all(0 <= each < MS for each in late), "lateness does not add up"


def test_a_ping_goes_over_a_memory_link_to_a_host_of_our_own_layers(
    run: Run, time: VirtualTime
) -> None:
    here, there = MemoryLink.pair(time)
    machine, events = ping(H2, H2_V6, count=3), []

    def on_event(event: object) -> None:
        events.append(event)
        for arrival in there.receive():
            if isinstance(arrival, Datagram):
                there.send(Transmit(data=echoed(arrival), dst_addr=arrival.src_addr, token=0))

    run(machine, here, on_event, time)
    replies = of(events, PingReply)
    assert sorted((reply.src_addr, reply.sequence_number) for reply in replies) == [
        (target.dst_addr, number) for target in (H2, H2_V6) for number in (1, 2, 3)
    ]
    assert all(reply.valid and reply.wrong_at is None for reply in replies)


def echoed(request: Datagram) -> bytes:
    """The whole packet that answers an echo request."""
    here, there, v6 = request.dst_addr, request.src_addr, ":" in request.dst_addr
    _, identifier, sequence_number = peek_echo(request.data) or (0, 0, 0)
    echo = {"identifier": identifier, "sequence_number": sequence_number}
    if v6:
        reply = IPv6Header(src_addr=here, dst_addr=there) / ICMPv6Echo(icmp_type=129, **echo)
    else:
        reply = IPv4Header(src_addr=here, dst_addr=there) / ICMPEcho(icmp_type=0, **echo)
    return (reply / request.data[8:]).emit()


def test_a_machine_that_has_finished_gets_one_turn_and_its_events_are_told(
    run: Run, time: VirtualTime
) -> None:
    machine, told = ScriptedMachine(), []
    machine.finished = True
    machine.events = ["the last"]
    run(machine, ScriptedLink(), told.append, time)
    assert told == ["the last"]


@pytest.mark.parametrize("failing", ["on_event", "link"])
def test_whatever_a_turn_raises_reaches_the_caller_and_nothing_is_left_open(
    failing: str, run: Run, time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = LinkError("receive", "eth0", errno.ENETDOWN)
    link = EchoLink(time, lambda number: MS)

    def fail(*_: object) -> list[object]:
        raise error

    if failing == "link":
        monkeypatch.setattr(link, "receive", fail)
    before = descriptors()
    with pytest.raises(LinkError) as raised:
        run(ping(), link, fail if failing == "on_event" else lambda event: None, time)
    assert raised.value is error
    assert descriptors() == before


def test_after_a_run_every_descriptor_is_given_back(run: Run, time: VirtualTime) -> None:
    run(ping(count=1), EchoLink(time, lambda number: MS), lambda event: None, time)
    before = descriptors()
    run(ping(count=2), EchoLink(time, lambda number: MS), lambda event: None, time)
    assert descriptors() == before


def test_statistics_are_the_same_whoever_pumps(time: VirtualTime) -> None:
    counts = []
    for pump in (run_blocking, run_asyncio):
        machine = ping(count=5, timeout_ns=500 * MS)
        delays = {1: 700 * MS, 2: None, 3: 1200 * MS, 4: 100 * MS, 5: 3 * MS}
        pump(machine, EchoLink(time, delays.__getitem__), lambda event: None, time)
        one = machine.statistics(H2)
        counts.append((one.sent, one.received, one.late, one.reordered, one.loss_pct))
    assert counts == [(5, 4, 2, 1, 20.0)] * 2
