"""Memory, fault and tap: the contract, and what each adds, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from rawproto.capture.packet import CapturedPacket
from rawproto.errors import LinkError
from rawproto.impair import Impairment
from rawproto.link.base import Arrival, Link, Transmitted
from rawproto.link.decapsulate import datagram_from_packet
from rawproto.link.fault import FaultLink
from rawproto.link.memory import MemoryLink
from rawproto.link.tap import TapLink
from rawproto.machine import Datagram, ICMPError, Transmit
from rawproto.wire.icmp_echo import ICMPv6Echo
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from tests.link.contract import Bench, each_clause

SECOND = 10**9


class VirtualClock:
    def __init__(self) -> None:
        self.now_ns = 5 * SECOND

    def __call__(self) -> int:
        return self.now_ns

    def pass_time(self, until_ns: int) -> None:
        self.now_ns = max(self.now_ns, until_ns)


def ipv4_packet(number: int, size: int = 32) -> tuple[bytes, bytes]:
    data = bytes((number & 0xFF,)) * size
    header = IPv4Header(
        identification=number + 1,
        ecn=2,
        ttl=9,
        protocol=253,
        src_addr="10.98.0.1",
        dst_addr="10.98.0.2",
    )
    return header.emit(data), data


def ipv6_packet(number: int, size: int = 32) -> tuple[bytes, bytes]:
    data = bytes((number & 0xFF,)) * size
    header = IPv6Header(
        traffic_class=2, hop_limit=9, next_header=253, src_addr="fd98::1", dst_addr="fd98::2"
    )
    return header.emit(data), data


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    return request.param


def bench_of(sender: Link, receiver: Link, clock: VirtualClock, family: int) -> Bench:
    return Bench(
        sender=sender,
        receiver=receiver,
        packet=ipv4_packet if family == 4 else ipv6_packet,
        src_addr="10.98.0.1" if family == 4 else "fd98::1",
        dst_addr="10.98.0.2" if family == 4 else "fd98::2",
        protocol=253,
        ttl=9,
        ecn=2,
        clock=clock,
        pass_time=clock.pass_time,
    )


def wrap_memory(link: Link, clock: VirtualClock) -> Link:
    return link


def wrap_fault(link: Link, clock: VirtualClock) -> Link:
    return FaultLink(link, random.Random(1), clock=clock)


def wrap_slow_fault(link: Link, clock: VirtualClock) -> Link:
    slow = Impairment(delay_ns=3_000_000, rate_bps=10_000_000)
    return FaultLink(link, random.Random(1), incoming=slow, clock=clock)


def wrap_tap(link: Link, clock: VirtualClock) -> Link:
    return TapLink(link, lambda packet: None, monotonic=clock)


@each_clause
@pytest.mark.parametrize(
    "wrap",
    [wrap_memory, wrap_fault, wrap_slow_fault, wrap_tap],
    ids=lambda wrap: wrap.__name__.removeprefix("wrap_"),
)
def test_fake_keeps_the_contract(
    clause: Callable[[Bench], None],
    wrap: Callable[[Link, VirtualClock], Link],
    clock: VirtualClock,
    family: int,
) -> None:
    one, other = MemoryLink.pair(clock)
    sender, receiver = wrap(one, clock), wrap(other, clock)
    clause(bench_of(sender, receiver, clock, family))


# -- memory ----------------------------------------------------------------------------------


def test_memory_drops_what_finds_no_room_and_counts_it(clock: VirtualClock) -> None:
    one, other = MemoryLink.pair(clock, capacity=3)
    for number in range(5):
        one.send(Transmit(data=ipv4_packet(number)[0], dst_addr="10.98.0.2", token=number))
    assert other.dropped == 2
    assert one.dropped == 0
    assert [arrival.data[0] for arrival in other.receive() if isinstance(arrival, Datagram)] == [
        0,
        1,
        2,
    ]


def test_memory_hands_over_no_fragments_and_no_rubbish(clock: VirtualClock) -> None:
    one, other = MemoryLink.pair(clock)
    for data in (b"", b"rubbish", bytes(60), IPv4Header(flags=1, protocol=253).emit(b"first")):
        one.send(Transmit(data=data, dst_addr="10.98.0.2", token=1))
    assert other.receive() == []
    assert other.dropped == 0


def test_a_closed_end_takes_nothing_more(clock: VirtualClock) -> None:
    one, other = MemoryLink.pair(clock)
    other.close()
    one.send(Transmit(data=ipv4_packet(1)[0], dst_addr="10.98.0.2", token=1))
    assert other.dropped == 0
    assert other.poll_timeout() is None


# -- from packet to datagram -----------------------------------------------------------------


def test_padding_is_no_data() -> None:
    for packet, data in (ipv4_packet(1, 5), ipv6_packet(1, 5)):
        datagram = datagram_from_packet(packet + bytes(20), 7, interface=3)
        assert datagram is not None
        assert (datagram.data, datagram.received_ns, datagram.interface) == (data, 7, 3)


def test_extension_headers_are_peeled_off() -> None:
    # Hop-by-hop options of 8 bytes, then destination options of 16, then protocol 253.
    chain = bytes((60, 0, 1, 4, 0, 0, 0, 0)) + bytes((253, 1, 1, 12)) + bytes(12)
    packet = IPv6Header(next_header=0, src_addr="fd98::1", dst_addr="fd98::2").emit(chain + b"end")
    datagram = datagram_from_packet(packet, 0)
    assert datagram is not None
    assert (datagram.protocol, datagram.data) == (253, b"end")


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        ipv4_packet(1)[0][:-1],
        ipv6_packet(1)[0][:-1],
        b"\x41" + ipv4_packet(1)[0][1:],
        IPv4Header(flags=1).emit(b"x"),
        IPv4Header(fragment_offset=8).emit(b"x"),
        IPv6Header(next_header=44).emit(bytes((253, 0, 0, 0x08, 0, 0, 0, 1)) + b"later"),
        IPv6Header(next_header=0).emit(bytes((253, 200)) + bytes(20)),
        b"\x75" + ipv4_packet(1)[0][1:],
    ],
    ids=range(10),
)
def test_fragments_and_damage_give_no_datagram(packet: bytes) -> None:
    assert datagram_from_packet(packet, 0) is None


def test_any_bytes_give_a_datagram_or_none() -> None:
    rng = random.Random(3)
    for _ in range(3000):
        data = bytearray(rng.randbytes(rng.randrange(0, 90)))
        if data:
            data[0] = rng.choice((0x45, 0x46, 0x60, data[0]))
        datagram_from_packet(bytes(data), 0)


# -- fault -----------------------------------------------------------------------------------


def run_until_quiet(clock: VirtualClock, *links: Link) -> dict[Link, list[Arrival]]:
    """Pumps the links from deadline to deadline: what each has received."""
    got: dict[Link, list[Arrival]] = {link: [] for link in links}
    for _ in range(10_000):
        due = [at for link in links if (at := link.poll_timeout()) is not None]
        if not due:
            return got
        clock.pass_time(min(due))
        for link in links:
            got[link] += link.receive()
    raise AssertionError("the links never fell quiet")


def faulty_pair(
    clock: VirtualClock, seed: int = 1, **impairments: Impairment
) -> tuple[FaultLink, MemoryLink]:
    one, other = MemoryLink.pair(clock)
    return FaultLink(one, random.Random(seed), clock=clock, **impairments), other


def send_many(link: Link, clock: VirtualClock, count: int, gap_ns: int = 1_000_000) -> None:
    for number in range(count):
        link.send(Transmit(data=ipv4_packet(number)[0], dst_addr="10.98.0.2", token=number))
        clock.now_ns += gap_ns


def test_a_delayed_packet_arrives_that_much_later_and_counts_as_sent_at_once(
    clock: VirtualClock,
) -> None:
    fault, other = faulty_pair(clock, outgoing=Impairment(delay_ns=20_000_000))
    began_ns = clock()
    packet, data = ipv4_packet(1)
    assert fault.send(Transmit(data=packet, dst_addr="10.98.0.2", token=7)) == began_ns
    got = run_until_quiet(clock, fault, other)
    (stamp,) = got[fault]
    assert isinstance(stamp, Transmitted)
    assert (stamp.token, stamp.sent_ns) == (7, began_ns)
    (datagram,) = got[other]
    assert isinstance(datagram, Datagram)
    assert (datagram.data, datagram.received_ns) == (data, began_ns + 20_000_000)


def test_an_incoming_delay_counts_from_the_stamp_however_late_one_looks(
    clock: VirtualClock,
) -> None:
    one, other = MemoryLink.pair(clock)
    fault = FaultLink(
        other, random.Random(1), incoming=Impairment(delay_ns=20_000_000), clock=clock
    )
    began_ns = clock()
    one.send(Transmit(data=ipv4_packet(1)[0], dst_addr="10.98.0.2", token=1))
    clock.now_ns += 5_000_000
    assert fault.receive() == []
    assert fault.poll_timeout() == began_ns + 20_000_000
    clock.now_ns += 90_000_000
    (datagram,) = fault.receive()
    assert isinstance(datagram, Datagram)
    assert (datagram.received_ns, datagram.stamp_source) == (began_ns + 20_000_000, "user")


def test_losses_and_copies_are_those_that_the_models_count(clock: VirtualClock) -> None:
    fault, other = faulty_pair(clock, outgoing=Impairment(loss=0.3, duplicate=0.2, delay_ns=1_000))
    send_many(fault, clock, 300)
    got = run_until_quiet(clock, fault, other)
    counts = fault.outgoing.statistics
    assert counts.lost > 50
    assert counts.duplicated > 20
    assert len(got[other]) == counts.delivered == 300 - counts.lost + counts.duplicated
    # Whatever became of it, each packet was sent once.
    assert sorted(stamp.token for stamp in got[fault] if isinstance(stamp, Transmitted)) == [
        *range(300)
    ]


def test_held_back_packets_are_overtaken(clock: VirtualClock) -> None:
    fault, other = faulty_pair(
        clock, outgoing=Impairment(reorder=0.2, reorder_delay_ns=5_000_000, delay_ns=1_000)
    )
    send_many(fault, clock, 100)
    got = [each.data[0] for each in run_until_quiet(clock, fault, other)[other]]  # type: ignore[union-attr]
    assert sorted(got) == [*range(100)]
    assert got != sorted(got)


def test_a_flipped_bit_is_one_bit_and_never_in_what_the_header_says(clock: VirtualClock) -> None:
    fault, other = faulty_pair(clock)
    bad = FaultLink(other, random.Random(5), incoming=Impairment(corrupt=1.0), clock=clock)
    send_many(fault, clock, 200)
    got = run_until_quiet(clock, fault, bad)[bad]
    # A damaged header is a lost packet; of 52 bytes 32 are data.
    assert 80 < len(got) < 160
    for arrival in got:
        assert isinstance(arrival, Datagram)
        value = max(set(arrival.data), key=arrival.data.count)
        wrong = [byte ^ value for byte in arrival.data if byte != value]
        assert len(wrong) == 1
        assert wrong[0].bit_count() == 1
        assert arrival.header == ipv4_packet(value)[0][:20]


def test_the_same_seed_gives_the_same_faults(clock: VirtualClock) -> None:
    harsh = Impairment(loss=0.2, duplicate=0.1, jitter_ns=900_000, delay_ns=2_000_000)
    runs = []
    for seed in (4, 4, 5):
        clock.now_ns = 5 * SECOND
        fault, other = faulty_pair(clock, seed, outgoing=harsh)
        send_many(fault, clock, 60)
        arrived = run_until_quiet(clock, fault, other)[other]
        runs.append([(each.data, each.received_ns) for each in arrived])  # type: ignore[union-attr]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_refusal_of_the_link_inside_is_raised_only_for_what_the_model_left_alone(
    clock: VirtualClock,
) -> None:
    class Refusing(MemoryLink):
        def send(self, transmit: Transmit) -> int:
            raise LinkError("send to", transmit.dst_addr, 105)

    transmit = Transmit(data=ipv4_packet(1)[0], dst_addr="10.98.0.2", token=1)
    alone = FaultLink(Refusing(clock), random.Random(1), clock=clock)
    with pytest.raises(LinkError):
        alone.send(transmit)
    delayed = FaultLink(
        Refusing(clock), random.Random(1), outgoing=Impairment(delay_ns=5), clock=clock
    )
    delayed.send(transmit)
    assert all(isinstance(each, Transmitted) for each in run_until_quiet(clock, delayed)[delayed])


# -- tap -------------------------------------------------------------------------------------

REAL_OFFSET_NS = 1_700_000_000 * SECOND


def tapped_pair(clock: VirtualClock) -> tuple[TapLink, MemoryLink, list[CapturedPacket]]:
    one, other = MemoryLink.pair(clock)
    heard: list[CapturedPacket] = []
    tap = TapLink(
        one,
        heard.append,
        interface=2,
        monotonic=clock,
        realtime=lambda: clock() + REAL_OFFSET_NS,
    )
    return tap, other, heard


def test_tap_hears_both_ways_whole_and_with_the_time_of_day(clock: VirtualClock) -> None:
    tap, other, heard = tapped_pair(clock)
    began_ns = clock()
    there, back = ipv4_packet(1)[0], ipv4_packet(2)[0]
    tap.send(Transmit(data=there, dst_addr="10.98.0.2", token=1))
    clock.now_ns += 1_000
    other.send(Transmit(data=back, dst_addr="10.98.0.1", token=2))
    clock.now_ns += 1_000
    tap.receive()
    assert [(each.direction, each.data) for each in heard] == [("out", there), ("in", back)]
    assert [each.time_ns - REAL_OFFSET_NS - began_ns for each in heard] == [0, 1_000]
    assert {(each.link_type, each.interface, each.original_length) for each in heard} == {
        (101, 2, len(there))
    }


def test_tap_takes_the_stamp_that_comes_with_the_next_receive(clock: VirtualClock) -> None:
    class Stamped(MemoryLink):
        def receive(self, limit: int = 64) -> list[Arrival]:
            return [
                Transmitted(token=2, sched_ns=None, sent_ns=clock() - 500, stamp_source="kernel")
            ]

    heard: list[CapturedPacket] = []
    stamped = Stamped(clock)
    stamped._peer = MemoryLink(clock)
    tap = TapLink(stamped, heard.append, monotonic=clock, realtime=clock)
    for token in (1, 2):
        tap.send(Transmit(data=ipv4_packet(token)[0], dst_addr="10.98.0.2", token=token))
        clock.now_ns += 100
    clock.now_ns += 10_000
    tap.receive()
    assert [each.time_ns for each in heard] == [clock() - 10_200, clock() - 500]


def test_tap_tells_what_was_never_stamped_when_it_closes(clock: VirtualClock) -> None:
    tap, _, heard = tapped_pair(clock)
    packet = ipv4_packet(1)[0]
    tap.send(Transmit(data=packet, dst_addr="10.98.0.2", token=1))
    assert heard == []
    tap.close()
    tap.close()
    assert [each.data for each in heard] == [packet]


def test_tap_closes_the_link_inside_whatever_its_listener_makes_of_the_last_packets(
    clock: VirtualClock,
) -> None:
    def full(packet: CapturedPacket) -> None:
        raise OSError("disk full")

    inside, other = MemoryLink.pair(clock)
    tap = TapLink(inside, full, monotonic=clock)
    tap.send(Transmit(data=ipv4_packet(1)[0], dst_addr="10.98.0.2", token=1))
    with pytest.raises(OSError, match="disk full"):
        tap.close()
    other.send(Transmit(data=ipv4_packet(2)[0], dst_addr="10.98.0.1", token=2))
    assert inside.poll_timeout() is None, "closed, it takes nothing more"


def test_tap_rebuilds_the_header_that_the_kernel_kept(clock: VirtualClock) -> None:
    echo = ICMPv6Echo(icmp_type=129, identifier=1).emit(
        b"data", src_addr="fd98::2", dst_addr="fd98::1"
    )

    class Bare(MemoryLink):
        """A link whose kernel keeps all headers."""

        def receive(self, limit: int = 64) -> list[Arrival]:
            shared = {"received_ns": clock(), "ttl": 61, "ecn": 1}
            return [
                Datagram(data=echo, src_addr="fd98::2", dst_addr="fd98::1", protocol=58, **shared),
                Datagram(
                    data=b"echo", src_addr="10.98.0.2", dst_addr="10.98.0.1", protocol=1, **shared
                ),
                ICMPError(
                    src_addr="10.98.0.2",
                    dst_addr="10.98.0.9",
                    icmp_type=3,
                    code=1,
                    original=b"",
                    received_ns=clock(),
                ),
            ]

    heard: list[CapturedPacket] = []
    TapLink(Bare(clock), heard.append, monotonic=clock, realtime=clock).receive()
    header, rest = IPv6Header.parse(heard[0].data)
    assert (header.src_addr, header.dst_addr) == ("fd98::2", "fd98::1")
    assert (header.hop_limit, header.traffic_class, header.next_header) == (61, 1, 58)
    assert rest == echo
    assert ICMPv6Echo.verify(rest, src_addr=header.src_addr, dst_addr=header.dst_addr)
    header4, rest = IPv4Header.parse(heard[1].data)
    assert (header4.src_addr, header4.dst_addr, header4.ttl) == ("10.98.0.2", "10.98.0.1", 61)
    assert (header4.protocol, header4.ecn, rest) == (1, 1, b"echo")
    assert IPv4Header.verify(heard[1].data)
    assert len(heard) == 2


def test_what_the_link_inside_refuses_was_no_packet(clock: VirtualClock) -> None:
    tap, _, heard = tapped_pair(clock)
    tap.link.close()
    with pytest.raises(LinkError):
        tap.send(Transmit(data=ipv4_packet(1)[0], dst_addr="10.98.0.2", token=1))
    tap.close()
    assert heard == []
