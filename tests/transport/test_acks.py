"""When a receiver acknowledges, and what it says (specification 5.1 and 7.3)."""

from __future__ import annotations

import random

from rawproto.transport.acks import Acks
from rawproto.transport.constants import MAX_ACK_DELAY_NS, MAX_ACK_RANGES
from rawproto.wire.rpt_frames import AckFrame, parse_frame

MS = 1_000_000


def receive(acks: Acks, *numbers: int, every: int = 10, ecn: int = 0, now_ns: int = MS) -> None:
    for number in numbers:
        assert acks.is_new(number)
        acks.on_packet(number, True, every, ecn, now_ns)


def said(acks: Acks, now_ns: int = MS, room: int = 1000) -> AckFrame:
    data = acks.frame(now_ns, room)
    assert len(data) <= room
    frame, end = parse_frame(data, 0)
    assert isinstance(frame, AckFrame)
    assert end == len(data)
    return frame


def numbers_in(frame: AckFrame) -> set[int]:
    top = frame.largest + 1
    found = set(range(top - frame.first, top))
    top -= frame.first
    for gap, length in frame.ranges:
        top -= gap
        found |= set(range(top - length, top))
        top -= length
    return found


def test_packets_in_order_are_acknowledged_after_so_many_or_25_ms() -> None:
    acks = Acks()
    receive(acks, 0, every=3)
    assert acks.due_ns == MS + MAX_ACK_DELAY_NS
    receive(acks, 1, every=3, now_ns=5 * MS)
    assert acks.due_ns == MS + MAX_ACK_DELAY_NS, "the first one is what must not wait longer"
    receive(acks, 2, every=3, now_ns=6 * MS)
    assert acks.due_ns == 0
    assert said(acks) == AckFrame(2, 0, 3)
    assert acks.due_ns is None
    receive(acks, 3, every=3, now_ns=7 * MS)
    assert acks.due_ns == 7 * MS + MAX_ACK_DELAY_NS, "and it counts anew"


def test_every_of_0_means_1() -> None:
    acks = Acks()
    receive(acks, 0, every=0)
    assert acks.due_ns == 0


def test_gap_and_what_fills_it_and_congestion_are_told_at_once() -> None:
    for then, ecn in ((2, 0), (1, 3)):
        acks = Acks()
        receive(acks, 0)
        receive(acks, then, ecn=ecn)
        assert acks.due_ns == 0
        said(acks)
    acks = Acks()
    receive(acks, 0, 2)
    said(acks)
    receive(acks, 1)
    assert acks.due_ns == 0, "a gap is filled"


def test_packets_that_want_no_answer_get_none_but_are_in_the_next() -> None:
    acks = Acks()
    acks.on_packet(0, False, 1, 0, MS)
    acks.on_packet(2, False, 1, 0, MS)
    assert acks.due_ns is None
    receive(acks, 3, every=1)
    assert numbers_in(said(acks)) == {0, 2, 3}


def test_delay_is_how_long_ago_the_largest_came() -> None:
    acks = Acks()
    receive(acks, 5, now_ns=10 * MS)
    receive(acks, 3, now_ns=30 * MS)
    assert said(acks, 35 * MS).delay_us == 25_000


def test_counts_of_ecn_stand_in_their_order() -> None:
    acks = Acks()
    for number, ecn in enumerate((2, 2, 2, 1, 3, 3)):  # ECT(0) is 2, ECT(1) 1, CE 3 (RFC 3168)
        receive(acks, number, ecn=ecn)
    assert said(acks).ecn == (3, 1, 2)


def test_any_order_with_any_loss_is_told_as_it_came() -> None:
    rng = random.Random(5)
    for _ in range(50):
        acks = Acks()
        numbers = [each for each in range(60) if rng.random() < 0.7] or [0]
        rng.shuffle(numbers)
        for number in numbers:
            assert acks.is_new(number)
            receive(acks, number)
            assert not acks.is_new(number)
        assert numbers_in(said(acks)) == set(numbers)


def test_oldest_ranges_are_forgotten_and_their_packets_taken_for_old() -> None:
    acks = Acks()
    receive(acks, *range(0, 400, 2))
    frame = said(acks)
    assert len(frame.ranges) + 1 == MAX_ACK_RANGES
    assert numbers_in(frame) == set(range(400 - 2 * MAX_ACK_RANGES, 400, 2))
    assert not acks.is_new(1)
    assert acks.is_new(399)


def test_little_room_holds_the_newest_ranges() -> None:
    acks = Acks()
    receive(acks, *range(0, 40, 2))
    assert numbers_in(said(acks, room=18 + 3 * 8 + 7)) == {38, 36, 34, 32}
    assert numbers_in(said(acks, room=18)) == {38}


def test_what_the_peer_knows_is_not_told_again_and_not_new_again() -> None:
    acks = Acks()
    receive(acks, 0, 1, 4, 5)
    acks.on_ack_acked(4)
    assert numbers_in(said(acks)) == {5}
    assert not any(acks.is_new(number) for number in range(6))
    acks.on_ack_acked(5)
    assert numbers_in(said(acks)) == {5}, "an ACK of nothing cannot be"
    assert acks.is_new(6)
