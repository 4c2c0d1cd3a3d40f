"""What every link keeps, real or fake; the tests of each run these clauses.

A clause is a function of a `Bench`: one link that sends, one that receives, and a way
to wait without sleeping. `CLAUSES` lists them all.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from rawproto.errors import LinkError
from rawproto.link.base import Arrival, Link, Transmitted, arrival_order
from rawproto.machine import Datagram, Transmit

PATIENCE_S = 5.0


@dataclass
class Bench:
    """Two links with something between them.

    Attributes:
        sender: the link that sends.
        receiver: the link that receives it.
        packet: the n-th packet from sender to receiver: (whole packet, data behind the header).
        src_addr: in the packets.
        dst_addr: likewise.
        protocol: likewise.
        ttl: TTL or hop limit in the packets.
        ecn: likewise.
        clock: the clock of both links.
        pass_time: moves a virtual clock to a time; None where time passes by itself.
    """

    sender: Link
    receiver: Link
    packet: Callable[[int], tuple[bytes, bytes]]
    src_addr: str
    dst_addr: str
    protocol: int
    ttl: int = 64
    ecn: int = 0
    clock: Callable[[], int] = time.monotonic_ns
    pass_time: Callable[[int], None] | None = None

    def send(self, number: int) -> tuple[int, bytes]:
        """Sends the n-th packet: (when, its data). Its token is 1000 + n."""
        packet, data = self.packet(number)
        transmit = Transmit(data=packet, dst_addr=self.dst_addr, token=1000 + number, ttl=self.ttl)
        return self.sender.send(transmit), data

    def wait(self, link: Link) -> bool:
        """Waits until the link says that it has something; False when it doesn't."""
        due_ns = link.poll_timeout()
        if self.pass_time is not None:
            if due_ns is None:
                return False
            self.pass_time(due_ns)
            return True
        if due_ns is not None and due_ns <= self.clock():
            return True
        if link.fileno() < 0:
            return False
        return bool(select.select([link.fileno()], [], [], PATIENCE_S)[0])

    def collect(self, link: Link, wanted: Callable[[Arrival], bool], count: int) -> list[Arrival]:
        """Receives until `count` arrivals that are wanted were there."""
        found: list[Arrival] = []
        for _ in range(1000):
            if len(found) >= count or not self.wait(link):
                break
            found += [arrival for arrival in link.receive() if wanted(arrival)]
        return found

    def datagrams(self, count: int) -> list[Datagram]:
        """The next datagrams from the sender."""
        found = self.collect(self.receiver, self.is_ours, count)
        return [arrival for arrival in found if isinstance(arrival, Datagram)]

    def is_ours(self, arrival: Arrival) -> bool:
        return (
            isinstance(arrival, Datagram)
            and arrival.src_addr == self.src_addr
            and arrival.protocol == self.protocol
        )


def a_packet_arrives_as_it_was_sent(bench: Bench) -> None:
    _, data = bench.send(1)
    (datagram,) = bench.datagrams(1)
    assert datagram.data == data
    assert datagram.dst_addr == bench.dst_addr.partition("%")[0]
    assert datagram.ttl == bench.ttl
    assert datagram.ecn == bench.ecn
    if datagram.header:
        assert datagram.header[8] == bench.ttl
        assert len(datagram.header) == (datagram.header[0] & 0x0F) * 4


def packets_keep_their_order(bench: Bench) -> None:
    sent = [bench.send(number)[1] for number in range(20)]
    assert [datagram.data for datagram in bench.datagrams(20)] == sent


def times_are_monotonic_and_in_order(bench: Bench) -> None:
    before_ns = bench.clock()
    entered_ns, _ = bench.send(1)
    after_ns = bench.clock()
    assert before_ns <= entered_ns <= after_ns
    (datagram,) = bench.datagrams(1)
    assert entered_ns <= datagram.received_ns <= bench.clock()


def a_transmit_stamp_comes_back_under_its_token(bench: Bench) -> None:
    entered = {1000 + number: bench.send(number)[0] for number in (3, 4, 5)}
    stamps = bench.collect(bench.sender, lambda arrival: isinstance(arrival, Transmitted), 3)
    assert [stamp.token for stamp in stamps if isinstance(stamp, Transmitted)] == [*entered]
    for stamp in stamps:
        assert isinstance(stamp, Transmitted)
        assert stamp.sched_ns is not None
        assert entered[stamp.token] <= stamp.sched_ns <= stamp.sent_ns <= bench.clock()


def a_quiet_link_has_nothing_and_blocks_nobody(bench: Bench) -> None:
    bench.send(1)
    bench.datagrams(1)
    bench.collect(bench.sender, lambda arrival: isinstance(arrival, Transmitted), 1)
    for link in (bench.sender, bench.receiver):
        for _ in range(3):
            link.receive()
        assert link.receive() == []
        due_ns = link.poll_timeout()
        assert due_ns is None or due_ns > bench.clock()
        # And it says so: a descriptor that stays readable makes a driver spin.
        if link.fileno() >= 0:
            assert select.select([link.fileno()], [], [], 0)[0] == []


def receive_keeps_to_its_limit_and_loses_nothing(bench: Bench) -> None:
    sent = [bench.send(number)[1] for number in range(10)]
    got: list[bytes] = []
    for _ in range(1000):
        if len(got) == len(sent) or not bench.wait(bench.receiver):
            break
        arrivals = [each for each in bench.receiver.receive(3) if isinstance(each, Datagram)]
        assert len(arrivals) <= 3
        got += [each.data for each in arrivals if bench.is_ours(each)]
    assert got == sent


def stamps_come_before_datagrams(bench: Bench) -> None:
    for number in range(5):
        bench.send(number)
    bench.datagrams(5)
    for link in (bench.sender, bench.receiver):
        ranks = [arrival_order(arrival) for arrival in link.receive()]
        assert ranks == sorted(ranks)


def nothing_was_dropped(bench: Bench) -> None:
    for number in range(50):
        bench.send(number)
    assert len(bench.datagrams(50)) == 50
    assert bench.sender.dropped == 0
    assert bench.receiver.dropped == 0


def a_closed_link_stays_closed(bench: Bench) -> None:
    with bench.sender as link:
        assert link is bench.sender
    link.close()
    assert link.fileno() == -1
    with pytest.raises(LinkError):
        bench.send(1)
    with pytest.raises(LinkError):
        link.receive()
    bench.receiver.close()
    bench.receiver.close()


CLAUSES = [
    a_packet_arrives_as_it_was_sent,
    packets_keep_their_order,
    times_are_monotonic_and_in_order,
    a_transmit_stamp_comes_back_under_its_token,
    a_quiet_link_has_nothing_and_blocks_nobody,
    receive_keeps_to_its_limit_and_loses_nothing,
    stamps_come_before_datagrams,
    nothing_was_dropped,
    a_closed_link_stays_closed,
]
"""Every clause, by its name."""

each_clause = pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
