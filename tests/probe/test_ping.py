"""The ping machine, in virtual time against scripted networks."""

from __future__ import annotations

import random

import pytest
from scapy.layers.inet import ICMP, IP, UDP, ICMPerror, IPerror
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from rawproto.machine import Datagram, Transmit
from rawproto.probe.ping_events import (
    PingLost,
    PingOutstanding,
    PingReply,
    PingSent,
    PingTarget,
)
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv4_options import RecordRoute, Timestamp
from tests.probe.exchange import (
    H2,
    H2_V6,
    H3,
    MS,
    PAYLOAD,
    S,
    answering,
    of,
    ping,
    reply_to,
)
from tests.probe.virtual import Answer, VirtualNetwork


@pytest.mark.parametrize("target", [H2, H2_V6], ids=["IPv4", "IPv6"])
def test_every_probe_answered(target: PingTarget) -> None:
    machine = ping(target)
    network = VirtualNetwork(machine, answering(20 * MS), queued_ns=5_000)
    events = network.run()
    assert [now for now, _ in network.sent] == [0, S, 2 * S]
    replies = of(events, PingReply)
    assert [reply.sequence_number for reply in replies] == [1, 2, 3]
    assert {reply.rtt_ns for reply in replies} == {20 * MS - 5_000}, "from the driver's stamp"
    assert {reply.queued_ns for reply in replies} == {5_000}
    assert {(reply.tx_stamp, reply.rx_stamp) for reply in replies} == {("kernel", "kernel")}
    assert {(reply.size, reply.ttl, reply.src_addr) for reply in replies} == {
        (64, 64, target.dst_addr)
    }
    assert not any(reply.duplicate or reply.late or reply.reordered for reply in replies)
    counts = machine.statistics(target)
    assert (counts.sent, counts.received, counts.loss_pct) == (3, 3, 0.0)
    assert counts.duration_ns == 2 * S + 20 * MS
    assert counts.sending_ns == 2 * S
    assert network.now_ns == 2 * S + 20 * MS, "it ends with the last answer"


def test_packet_is_laid_out_as_asked() -> None:
    machine = ping(
        count=1, ttl=3, dscp=46, ecn=1, fragmentation="do", options=(RecordRoute(),), payload=b"ab"
    )
    network = VirtualNetwork(machine, answering(MS))
    network.run()
    packet = IP(network.sent[0][1].data)
    assert (packet.ttl, packet.tos, str(packet.flags), packet.src, packet.dst) == (
        3,
        46 << 2 | 1,
        "DF",
        "10.0.0.1",
        "10.0.0.2",
    )
    assert packet.id != 0
    assert packet.options[0].option == 7
    assert (packet[ICMP].id, packet[ICMP].seq, bytes(packet[ICMP].payload)) == (0x1234, 1, b"ab")
    built = IP(network.sent[0][1].data)
    del built.chksum, built[ICMP].chksum, built.len
    assert bytes(built) == network.sent[0][1].data, "scapy computes the same checksums"


def test_record_route_and_timestamp_begin_with_this_host() -> None:
    midnight = 40 * 86_400 * S
    stamped = Timestamp(flag=1, entries=(("0.0.0.0", 0),) * 4)
    for option, read in (
        (RecordRoute(), lambda option: (option.recorded, len(option.addresses))),
        (Timestamp(), lambda option: (option.recorded, len(option.entries))),
        (stamped, lambda option: (option.recorded, len(option.entries))),
    ):
        network = VirtualNetwork(
            ping(count=1, options=(option,), realtime_offset_ns=midnight + 1234 * MS),
            answering(MS),
        )
        network.run()
        recorded, slots = read(IPv4Header.parse(network.sent[0][1].data)[0].options[0])
        if isinstance(option, RecordRoute):
            assert (recorded, slots) == (("10.0.0.1",), 9)
        else:
            own = "10.0.0.1" if option.flag else None
            assert recorded == ((own, 1234),)
            assert slots == len(option.entries)


def test_ipv6_packet_is_laid_out_as_asked() -> None:
    network = VirtualNetwork(
        ping(H2_V6, count=1, ttl=9, dscp=1, ecn=2, flow_label=0xABCDE), answering(MS)
    )
    network.run()
    packet = IPv6(network.sent[0][1].data)
    assert (packet.hlim, packet.tc, packet.fl) == (9, 6, 0xABCDE)
    echo = packet[ICMPv6EchoRequest]
    wanted = echo.cksum
    del echo.cksum
    assert IPv6(bytes(packet))[ICMPv6EchoRequest].cksum == wanted


def test_lost_probe_is_given_up_after_its_timeout() -> None:
    machine = ping(timeout_ns=500 * MS)
    network = VirtualNetwork(machine, answering(MS, lost=[2]))
    events = network.run()
    assert [lost.sequence_number for lost in of(events, PingLost)] == [2]
    assert machine.statistics(H2).loss_pct == pytest.approx(100 / 3)
    assert network.now_ns == 2 * S + MS


def test_without_any_answer_it_waits_ten_seconds_for_the_last() -> None:
    machine = ping(count=1)
    network = VirtualNetwork(machine, lambda transmit, now_ns: [])
    assert [type(event) for event in network.run()] == [PingSent, PingLost]
    assert network.now_ns == 10 * S


def test_with_an_answer_it_waits_two_longest_round_trips_or_an_interval() -> None:
    network = VirtualNetwork(ping(), answering(700 * MS, lost=[3]))
    network.run()
    assert network.now_ns == 2 * S + 1400 * MS
    network = VirtualNetwork(ping(), answering(MS, lost=[3]))
    network.run()
    assert network.now_ns == 3 * S


def test_late_reply_after_timeout_is_counted_once_and_is_no_loss() -> None:
    machine = ping(timeout_ns=100 * MS)
    network = VirtualNetwork(machine, answering(lambda number: 150 * MS if number == 1 else MS))
    events = network.run()
    late = [reply for reply in of(events, PingReply) if reply.late]
    assert [(reply.sequence_number, reply.rtt_ns) for reply in late] == [(1, 150 * MS)]
    assert [lost.sequence_number for lost in of(events, PingLost)] == [1]
    counts = machine.statistics(H2)
    assert (counts.received, counts.late, counts.duplicates, counts.loss_pct) == (3, 1, 0, 0.0)


def test_duplicate_is_told_and_counted_apart() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [(MS, reply_to(transmit)), (2 * MS, reply_to(transmit))]

    machine = ping(count=2)
    events = VirtualNetwork(machine, answer).run()
    assert [reply.duplicate for reply in of(events, PingReply)] == [False, True, False]
    counts = machine.statistics(H2)
    assert (counts.received, counts.duplicates, counts.rtt.count) == (2, 1, 2)


def test_overtaken_reply_is_reordered() -> None:
    machine = ping()
    network = VirtualNetwork(
        machine, answering(lambda number: 1500 * MS if number == 1 else 10 * MS)
    )
    events = network.run()
    assert [(reply.sequence_number, reply.reordered) for reply in of(events, PingReply)] == [
        (2, False),
        (1, True),
        (3, False),
    ]
    assert machine.statistics(H2).reordered == 1


@pytest.mark.parametrize(
    ("payload", "wrong_at"),
    [(PAYLOAD[:10] + b"X" + PAYLOAD[11:], 10), (PAYLOAD[:20], 20), (PAYLOAD + b"more", 56)],
)
def test_changed_payload_is_located(payload: bytes, wrong_at: int) -> None:
    machine = ping(count=1)
    network = VirtualNetwork(
        machine, lambda transmit, now_ns: [(MS, reply_to(transmit, payload=payload))]
    )
    (reply,) = of(network.run(), PingReply)
    assert reply.wrong_at == wrong_at
    counts = machine.statistics(H2)
    assert (counts.received, counts.corrupted) == (1, 1)


def test_bad_checksum_is_no_answer() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        good = reply_to(transmit)
        return [(MS, reply_to(transmit, data=good.data[:-1] + b"?"))]

    machine = ping(count=1, timeout_ns=S)
    events = VirtualNetwork(machine, answer).run()
    (reply,) = of(events, PingReply)
    assert not reply.valid
    counts = machine.statistics(H2)
    assert (counts.received, counts.corrupted, counts.loss_pct) == (0, 1, 100.0)


@pytest.mark.parametrize(
    "stranger",
    [
        {"src_addr": "10.0.0.77"},
        {"data": b""},
        {"data": b"\0" * 7},
        {"protocol": 17},
        {"data": b"\x03\x04" + bytes(6) + b"\x45" + bytes(12)},
    ],
)
def test_what_is_no_answer_changes_nothing(stranger: dict) -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [(MS, reply_to(transmit, **stranger)), (2 * MS, reply_to(transmit))]

    machine = ping(H2, H3, count=1)
    events = VirtualNetwork(machine, answer).run()
    assert [reply.rtt_ns for reply in of(events, PingReply)] == [2 * MS, 2 * MS]


def test_random_packets_never_raise() -> None:
    rng = random.Random(5)
    machine = ping(count=2)
    network = VirtualNetwork(machine, answering(MS))
    network.turn()
    seed = reply_to(network.sent[0][1]).data
    for _ in range(3000):
        data = bytearray(seed if rng.random() < 0.5 else rng.randbytes(rng.randrange(90)))
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        machine.handle_datagram(
            Datagram(
                data=bytes(data),
                src_addr="10.0.0.2",
                protocol=rng.choice([1, 58]),
                received_ns=1,
            ),
            1,
        )


def test_several_targets_have_statistics_of_their_own() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        if transmit.dst_addr == "10.0.0.3":
            return []
        return [(MS if transmit.dst_addr == "10.0.0.2" else 2 * MS, reply_to(transmit))]

    machine = ping(H2, H3, H2_V6, timeout_ns=S)
    network = VirtualNetwork(machine, answer)
    network.run()
    assert [machine.statistics(target).received for target in machine.targets] == [3, 0, 3]
    assert machine.statistics(H2).rtt.max_ns == MS
    assert machine.statistics(H2_V6).rtt.min_ns == 2 * MS
    assert [now for now, _ in network.sent[:3]] == [0, MS, 2 * MS], "spread a little"


def test_replies_of_a_group_come_from_its_members() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [
            (MS, reply_to(transmit, src_addr="10.0.0.5")),
            (2 * MS, reply_to(transmit, src_addr="10.0.0.6")),
        ]

    everybody = PingTarget(name="all", dst_addr="224.0.0.1", src_addr="10.0.0.1", many=True)
    events = VirtualNetwork(ping(everybody, count=1, timeout_ns=S), answer).run()
    # The first answer closes the probe; with nothing to wait for, one probe sees one member.
    assert of(events, PingReply)[0].src_addr == "10.0.0.5"


def test_flood_sends_with_each_answer_and_after_ten_milliseconds_of_silence() -> None:
    machine = ping(count=5, interval_ns=0, flood=True)
    network = VirtualNetwork(machine, answering(2 * MS, lost=[3]))
    network.run()
    assert [now // MS for now, _ in network.sent] == [0, 2, 4, 14, 16]


def test_adaptive_ping_never_has_more_than_one_probe_under_way() -> None:
    machine = ping(count=4, adaptive=True, floor_ns=5 * MS)
    network = VirtualNetwork(machine, answering(2 * MS, lost=[2]))
    network.run()
    assert [now // MS for now, _ in network.sent] == [0, 5, 1005, 1010]


def test_preload_goes_out_at_once() -> None:
    network = VirtualNetwork(ping(count=5, preload=3), answering(MS))
    network.run()
    assert [now for now, _ in network.sent] == [0, 0, 0, S, 2 * S]


def test_deadline_ends_everything_and_count_means_answers() -> None:
    machine = ping(count=2, deadline_ns=10 * S)
    network = VirtualNetwork(machine, answering(MS, lost=[1, 2]))
    network.run()
    assert (machine.statistics(H2).sent, machine.statistics(H2).received) == (4, 2)
    machine = ping(count=None, deadline_ns=2500 * MS)
    network = VirtualNetwork(machine, lambda transmit, now_ns: [])
    network.run()
    assert (network.now_ns, machine.statistics(H2).sent) == (2500 * MS, 3)


def test_no_probe_is_sent_at_the_deadline_that_nobody_would_wait_for() -> None:
    machine = ping(count=None, interval_ns=500 * MS, deadline_ns=S)
    network = VirtualNetwork(machine, answering(MS))
    network.run(until_ns=S - 1)
    # The clock goes on within a turn: the timer ran before the deadline, sending comes behind it.
    assert machine.poll_transmit(S + 1) is None


def test_unanswered_probe_is_told_before_the_next() -> None:
    network = VirtualNetwork(ping(report_outstanding=True), answering(MS, lost=[1, 3]))
    events = network.run()
    assert [event.sequence_number for event in of(events, PingOutstanding)] == [1]


def test_probe_given_up_by_then_is_told_before_the_next_too() -> None:
    machine = ping(report_outstanding=True, timeout_ns=100 * MS)
    events = VirtualNetwork(machine, answering(MS, lost=[1])).run()
    assert [event.sequence_number for event in of(events, PingOutstanding)] == [1]


def test_replies_that_wait_for_a_driver_that_was_held_up_are_not_late() -> None:
    machine = ping(count=2, preload=2, timeout_ns=100 * MS)
    network = VirtualNetwork(machine, answering(lambda number: number * MS))
    network.turn()
    network.now_ns = S
    network.turn()
    assert [reply.late for reply in of(network.events, PingReply)] == [False, False]
    assert not of(network.events, PingLost)


def test_last_answers_of_several_targets_in_one_turn_are_all_in_time() -> None:
    machine = ping(H2, H3, count=2, flood=True, interval_ns=0)
    network = VirtualNetwork(machine, answering(lambda number: 2 * MS if number == 1 else 10_000))
    for now_ns in (0, MS, 5 * MS, 10 * MS):
        network.now_ns = now_ns
        network.turn()
    assert [reply.late for reply in of(network.events, PingReply)] == [False] * 4
    assert machine.finished


def test_stop_gives_up_what_is_under_way() -> None:
    machine = ping(count=None)
    network = VirtualNetwork(machine, answering(600 * MS))
    network.run(until_ns=1100 * MS)
    machine.stop()
    network.turn()
    assert machine.finished
    assert machine.poll_timeout() is None
    counts = machine.statistics(H2)
    assert (counts.sent, counts.received) == (2, 1)
    assert [lost.sequence_number for lost in of(network.events, PingLost)] == [2]


def test_memory_is_bounded_and_sequence_numbers_wrap() -> None:
    machine = ping(count=70_000, interval_ns=MS, timeout_ns=50 * MS, payload=b"")
    replies = 0

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        nonlocal replies
        replies += 1
        # By hand: scapy would take a minute for so many.
        message = b"\0\0" + transmit.data[22:24] + transmit.data[24:28]
        checksum = (int.from_bytes(message[2:4], "big") + 0x0800) % 0xFFFF or 0xFFFF
        message = message[:2] + checksum.to_bytes(2, "big") + message[4:]
        datagram = Datagram(data=message, src_addr="10.0.0.2", protocol=1, received_ns=0)
        return [(100_000, datagram)]

    network = VirtualNetwork(machine, answer)
    network.run()
    counts = machine.statistics(H2)
    assert (counts.sent, counts.received, counts.duplicates) == (70_000, 70_000, 0)
    assert len(machine._runs[0].probes) <= 1024
    assert replies == 70_000


def test_quoted_fields_are_scapys_too() -> None:
    # scapy reads our request out of an error as it would out of a real one.
    machine = ping(count=1)
    network = VirtualNetwork(machine, lambda transmit, now_ns: [])
    network.turn()
    error = IP(src="10.9.9.9", dst="10.0.0.1") / ICMP(type=3, code=1) / network.sent[0][1].data
    read = IP(bytes(error))
    assert (read[IPerror].dst, read[ICMPerror].id, read[ICMPerror].seq) == ("10.0.0.2", 0x1234, 1)
    assert UDP not in read


def test_several_targets_keep_their_distance_however_late_the_first_turn_comes() -> None:
    machine = ping(H2, H3, H2_V6, count=2)
    network = VirtualNetwork(machine, answering(MS), start_ns=60 * MS)
    network.run()
    assert [now // MS for now, _ in network.sent] == [60, 61, 62, 1060, 1061, 1062]


def test_preload_is_remembered_whole() -> None:
    machine = ping(count=1500, preload=1500, payload=b"")
    VirtualNetwork(machine, answering(100 * MS)).run()
    counts = machine.statistics(H2)
    assert (counts.received, counts.loss_pct, counts.late) == (1500, 0.0, 0)
