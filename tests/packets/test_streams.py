"""TCP's bytes in their order, whatever the capture did to the segments."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.packets.streams import StreamData, StreamGap, TCPStream, distance
from rawproto.wire.tcp import ACK, FIN, PSH, RST, SYN, TCPHeader

ISN = 0xFFFFFF00
"""The numbers wrap around behind 255 bytes."""
PEER = 5000


class Talk:
    """Feeds a stream, and keeps what comes out by side."""

    def __init__(self, **options: int) -> None:
        self.stream = TCPStream(**options)
        self.out: list[StreamData | StreamGap] = []
        self.now = 0

    def segment(
        self,
        offset: int,
        data: bytes = b"",
        *,
        side: int = 0,
        flags: int = 0,
        ack: int | None = None,
        length: int | None = None,
    ) -> None:
        """`offset` and `ack` count from behind the SYN."""
        self.now += 1
        mine, other = (ISN, PEER) if side == 0 else (PEER, ISN)
        header = TCPHeader(
            sequence_number=(mine + 1 + offset) & 0xFFFFFFFF,
            acknowledgment_number=0 if ack is None else (other + 1 + ack) & 0xFFFFFFFF,
            flags=flags | (0 if ack is None else ACK),
        )
        length = len(data) if length is None else length
        self.out += self.stream.add(side, header, data, length, self.now)

    def shake_hands(self) -> None:
        self.segment(-1, flags=SYN)
        self.segment(-1, side=1, flags=SYN, ack=0)
        self.segment(0, ack=0)

    def end(self) -> None:
        self.out += self.stream.end(self.now)

    def said(self, side: int = 0) -> bytes:
        """What came out of a side; what is missing as underscores."""
        parts = []
        for each in self.out:
            if each.side == side:
                assert each.offset == sum(map(len, parts)), "offsets go on without a hole"
                parts.append(each.data if isinstance(each, StreamData) else b"_" * each.length)
        return b"".join(parts)


def talk(**options: int) -> Talk:
    made = Talk(**options)
    made.shake_hands()
    return made


def test_distance_wraps_around() -> None:
    assert distance(5, 0xFFFFFFFB) == 10
    assert distance(0xFFFFFFFB, 5) == -10
    assert distance(0, 0) == 0


@given(
    cuts=st.lists(st.integers(1, 999), max_size=20),
    seed=st.integers(0, 1000),
    again=st.integers(0, 10),
)
def test_segments_in_any_order_and_sent_again_give_each_byte_once(
    cuts: list[int], seed: int, again: int
) -> None:
    rng = random.Random(seed)
    said = rng.randbytes(1000)
    edges = sorted({0, 1000, *cuts})
    parts = list(pairwise(edges))
    for _ in range(again):
        begin = rng.randrange(999)
        parts.append((begin, rng.randrange(begin + 1, 1001)))
    rng.shuffle(parts)
    one = talk()
    for begin, end in parts:
        one.segment(begin, said[begin:end], ack=0)
    assert one.said() == said
    sender = one.stream.sides[0]
    assert sender.retransmitted_bytes == sum(end - begin for begin, end in parts) - 1000
    assert (sender.conflicting_bytes, sender.missing_bytes, sender.waiting_bytes) == (0, 0, 0)


def test_what_is_early_waits_and_comes_with_its_own_time() -> None:
    one = talk()
    one.segment(4, b"efgh")
    assert one.said() == b""
    one.segment(0, b"abcd")
    assert one.said() == b"abcdefgh"
    assert [each.time_ns for each in one.out] == [5, 4]
    assert one.stream.sides[0].early_segments == 1


def test_what_the_receiver_has_and_the_capture_lacks_is_a_gap() -> None:
    one = talk()
    one.segment(0, b"GET ")
    one.segment(10, b"rest")
    one.segment(0, side=1, ack=4)
    assert one.said() == b"GET "
    one.segment(0, side=1, ack=14)
    assert one.out[1:] == [
        StreamGap(side=0, time_ns=7, offset=4, length=6),
        StreamData(side=0, time_ns=5, offset=10, data=b"rest"),
    ]
    assert one.stream.sides[0].missing_bytes == 6


def test_an_answer_comes_behind_the_gap_that_it_answers() -> None:
    one = talk()
    one.segment(0, b"answer", side=1, ack=70)
    assert [(each.side, type(each)) for each in one.out] == [(0, StreamGap), (1, StreamData)]


def test_a_bare_acknowledgment_captured_before_its_data_loses_nothing() -> None:
    one = talk()
    one.segment(0, side=1, ack=4)
    one.segment(0, b"data")
    assert one.said() == b"data"


def test_a_fin_is_acknowledged_and_is_no_byte() -> None:
    one = talk()
    one.segment(0, b"bye", flags=FIN)
    one.segment(0, b"bye too", side=1, flags=FIN, ack=4)
    one.end()
    assert (one.said(0), one.said(1)) == (b"bye", b"bye too")
    assert [side.fin_at for side in one.stream.sides] == [3, 7]


def test_the_end_gives_up_what_is_missing() -> None:
    one = talk()
    one.segment(3, b"def")
    one.segment(9, b"jkl")
    assert one.said() == b""
    one.end()
    assert one.said() == b"___def___jkl"


def test_too_many_waiting_bytes_give_up_what_is_missing() -> None:
    one = talk(max_waiting_bytes=10_000)
    for number in range(1, 40):
        one.segment(number * 1000, bytes(999))
        assert one.stream.sides[0].waiting_bytes <= 10_000
    one.end()
    assert one.stream.sides[0].missing_bytes == 1000 + 38
    assert len(one.said()) == 39_999


def test_tiny_waiting_segments_are_bounded_too() -> None:
    one = talk(max_waiting_bytes=10_000)
    for number in range(1000, 0, -1):
        one.segment(number * 2, b"x")
        assert one.stream.sides[0].waiting_bytes <= 10_000


def test_what_was_captured_in_part_is_a_gap() -> None:
    one = talk()
    one.segment(0, b"abc", length=10)
    one.segment(10, b"more")
    assert one.said() == b"abc_______more"


def test_bytes_that_differ_the_second_time_are_counted_and_not_believed() -> None:
    one = talk()
    one.segment(0, b"GET /good")
    one.segment(4, b"/evil and on")
    assert one.said() == b"GET /good and on"
    assert one.stream.sides[0].conflicting_bytes == 4
    one.segment(20, b"later")
    one.segment(20, b"LATER")
    assert one.stream.sides[0].conflicting_bytes == 9


def test_keep_alives_are_no_data() -> None:
    one = talk()
    one.segment(0, b"data")
    one.segment(3, b"\0")
    one.segment(3)
    assert one.said() == b"data"
    assert one.stream.sides[0].keep_alives == 2
    assert one.stream.sides[0].retransmitted_bytes == 0


def test_data_may_come_with_the_syn() -> None:
    one = Talk()
    one.segment(-1, b"early", flags=SYN)
    one.segment(5, b" bird")
    assert one.said() == b"early bird"


def test_a_capture_that_begins_later_begins_with_the_first_data() -> None:
    one = Talk()
    one.segment(0, side=1, ack=400)
    one.segment(499)
    one.segment(500, b"here", ack=0, flags=PSH)
    one.segment(504, b" we are", ack=0)
    assert one.said() == b"here we are"
    assert one.stream.sides[0].missing_bytes == 0


def test_resets_and_strays_say_nothing() -> None:
    one = talk()
    one.segment(0, b"reason", flags=RST)
    assert one.stream.sides[0].rst
    one.segment(1 << 31, b"far")
    one.segment((1 << 30) + 1, b"far")
    one.end()
    assert one.out == []
    assert one.stream.sides[0].strays == 2


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(-(1 << 31), 1 << 31) | st.integers(-10, 200),
            st.binary(max_size=40),
            st.integers(0, 511),
            st.integers(0, 300) | st.none(),
        ),
        max_size=30,
    )
)
def test_any_segments_survive(segments: list[tuple[int, int, bytes, int, int | None]]) -> None:
    one = Talk(max_waiting_bytes=1000)
    for side, offset, data, flags, ack in segments:
        one.segment(offset, data, side=side, flags=flags, ack=ack)
        assert all(each.waiting_bytes <= 1000 for each in one.stream.sides)
    one.end()
    for side in (0, 1):
        assert all(each.waiting_bytes == 0 for each in one.stream.sides)
        at = 0
        for each in one.out:
            if each.side == side:
                assert each.offset == at
                at += each.length if isinstance(each, StreamGap) else len(each.data)
        assert at == one.stream.sides[side].offset


@pytest.mark.parametrize("side", [0, 1])
def test_both_sides_are_put_in_order(side: int) -> None:
    one = talk()
    one.segment(3, b"two", side=side)
    one.segment(0, b"one", side=side)
    assert one.said(side) == b"onetwo"
    assert one.said(1 - side) == b""
