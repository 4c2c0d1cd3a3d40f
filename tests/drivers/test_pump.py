"""One turn of a driver: its order, and what becomes of what a link refuses."""

from __future__ import annotations

import errno

import pytest

from rawproto.drivers.pump import Pump
from rawproto.errors import LinkError
from rawproto.link.base import Transmitted
from rawproto.machine import Datagram, ICMPError, Transmit
from tests.drivers.scripted import ScriptedLink, ScriptedMachine

STAMP = Transmitted(token=7, sched_ns=1, sent_ns=2, stamp_source="kernel")
ERROR = ICMPError(
    src_addr="", dst_addr="10.0.0.2", icmp_type=3, code=1, original=b"", received_ns=3
)
DATAGRAM = Datagram(data=b"", src_addr="10.0.0.2", received_ns=4)


def transmit(token: int) -> Transmit:
    return Transmit(data=b"packet", dst_addr="10.0.0.2", token=token)


class Bench:
    """A pump on a scripted machine and link; the clock stands at 50."""

    def __init__(self) -> None:
        self.machine, self.link = ScriptedMachine(), ScriptedLink()
        self.told: list[object] = []
        self.pump = Pump(self.machine, self.link, self.told.append, lambda: 50)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_turn_feeds_what_arrived_then_the_timer_then_sends_then_tells(bench: Bench) -> None:
    bench.link.arrivals = [STAMP, ERROR, DATAGRAM]
    bench.machine.due_ns = 50
    bench.machine.transmits = [transmit(1)]
    bench.machine.events = ["one", "two"]
    bench.pump.turn()
    assert bench.machine.calls == [
        ("transmitted", 7, 1, 2, "kernel"),
        ("error", ERROR, 50),
        ("datagram", DATAGRAM, 50),
        ("timeout", 50),
        ("transmitted", 1, None, 1_000_001, "user"),
    ]
    assert [each.token for each in bench.link.sent] == [1]
    assert bench.told == ["one", "two"]


def test_the_timer_runs_when_its_time_has_come_and_not_before(bench: Bench) -> None:
    for due_ns, runs in ((51, 0), (None, 0), (50, 1), (49, 2)):
        bench.machine.due_ns = due_ns
        bench.pump.turn()
        assert bench.machine.calls.count(("timeout", 50)) == runs


def test_what_the_timer_makes_due_is_sent_in_the_same_turn(bench: Bench) -> None:
    bench.machine.due_ns = 10
    bench.machine.on_timeout = lambda: bench.machine.transmits.append(transmit(3))
    bench.pump.turn()
    assert [each.token for each in bench.link.sent] == [3]


def test_a_refused_packet_goes_back_and_the_others_go_out(bench: Bench) -> None:
    refusal = LinkError("send to", "10.0.0.2", errno.ENETUNREACH)
    bench.link.refuse = lambda sent: refusal if sent.token == 2 else None
    bench.machine.transmits = [transmit(1), transmit(2), transmit(3)]
    bench.pump.turn()
    assert [each.token for each in bench.link.sent] == [1, 3]
    assert bench.machine.calls[1] == ("unsent", 2, refusal, 50)


@pytest.mark.parametrize(
    ("machine_ns", "link_ns", "due_ns"),
    [(None, None, None), (70, None, 70), (None, 60, 60), (70, 60, 60), (60, 70, 60)],
)
def test_the_next_turn_is_due_by_the_earlier_of_machine_and_link(
    machine_ns: int | None, link_ns: int | None, due_ns: int | None, bench: Bench
) -> None:
    bench.machine.due_ns, bench.link.due_ns = machine_ns, link_ns
    assert bench.pump.turn() == due_ns


def test_a_link_that_is_gone_is_the_callers_to_know(bench: Bench, monkeypatch) -> None:
    gone = LinkError("receive", "eth0", errno.ENETDOWN)

    def receive() -> list[object]:
        raise gone

    monkeypatch.setattr(bench.link, "receive", receive)
    with pytest.raises(LinkError) as raised:
        bench.pump.turn()
    assert raised.value is gone


def test_machine_that_always_has_something_to_send_hears_its_answers_in_between(
    bench: Bench,
) -> None:
    bench.machine.transmits = [transmit(token) for token in range(100)]
    bench.link.arrivals = []
    assert bench.pump.turn() == 50, "the next turn is due at once"
    assert len(bench.link.sent) == 32
    bench.link.arrivals = [DATAGRAM]
    bench.pump.turn()
    assert ("datagram", DATAGRAM, 50) in bench.machine.calls
    assert len(bench.link.sent) == 64
    bench.machine.finished = True
    assert bench.pump.turn() != 50, "one that has finished is not kept going"
