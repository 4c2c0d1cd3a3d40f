"""RPT frames: round trips, every truncation, any bytes; the bytes stand in the specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.errors import EmitError, MalformedError, TruncatedError, WireError
from rawproto.wire.rpt_frames import (
    AckFrame,
    BlockedFrame,
    CloseFrame,
    DatagramFrame,
    Frame,
    HandshakeDoneFrame,
    MaxDataFrame,
    MaxStreamDataFrame,
    MaxStreamsFrame,
    NewConnectionIDFrame,
    PaddingFrame,
    PathChallengeFrame,
    PathResponseFrame,
    PingFrame,
    ResetStreamFrame,
    RetireConnectionIDFrame,
    StopSendingFrame,
    StreamFrame,
    emit_frames,
    parse_frame,
    parse_frames,
)
from tests.wire.contract import assert_parser_is_total, assert_survives

u8, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 32, 64))
eight = st.binary(min_size=8, max_size=8)
some = st.integers(1, 1000)


@st.composite
def acks(draw: st.DrawFn) -> AckFrame:
    """An ACK whose ranges do not go below 0."""
    first, ranges = draw(some), draw(st.lists(st.tuples(some, some), max_size=63))
    least = first + sum(gap + length for gap, length in ranges) - 1
    ecn = draw(st.none() | st.tuples(u64, u64, u64))
    return AckFrame(draw(st.integers(least, 1 << 62)), draw(u32), first, tuple(ranges), ecn)


FRAMES: list[st.SearchStrategy[Frame]] = [
    st.just(PingFrame()),
    st.just(HandshakeDoneFrame()),
    acks(),
    st.builds(StreamFrame, u32, u64, st.binary(max_size=40), st.booleans()),
    st.builds(ResetStreamFrame, u32, u32, u64),
    st.builds(StopSendingFrame, u32, u32),
    st.builds(MaxDataFrame, u64),
    st.builds(MaxStreamDataFrame, u32, u64),
    st.builds(MaxStreamsFrame, st.integers(0, 1), u32),
    st.builds(BlockedFrame, st.integers(0, 3), u32, u64),
    st.builds(DatagramFrame, st.binary(max_size=40)),
    st.builds(NewConnectionIDFrame, u32, u32, u64, st.binary(min_size=16, max_size=16)),
    st.builds(RetireConnectionIDFrame, u32),
    st.builds(PathChallengeFrame, eight),
    st.builds(PathResponseFrame, eight),
    st.builds(CloseFrame, u32, st.text(max_size=40)),
]
a_frame = st.one_of(FRAMES)


@given(st.lists(a_frame, max_size=8), st.integers(0, 20))
def test_frames_are_read_as_they_were_written(frames: list[Frame], padding: int) -> None:
    written = [*frames, *([PaddingFrame(padding)] if padding else [])]
    assert parse_frames(emit_frames(written)) == written


@given(a_frame)
def test_each_truncation_is_an_error_that_says_so(frame: Frame) -> None:
    data = frame.emit()
    for end in range(len(data)):
        with pytest.raises(TruncatedError) as truncated:
            parse_frame(data[:end], 0)
        assert truncated.value.needed > truncated.value.got
    assert parse_frame(data + b"behind", 0) == (frame, len(data))
    assert parse_frame(b"before" + data, 6) == (frame, 6 + len(data))


@pytest.mark.parametrize(
    "frame",
    [
        AckFrame(1000, 25, 2, ((1, 3), (5, 1)), (1, 2, 3)),
        StreamFrame(4, 65536, b"some data", True),
        NewConnectionIDFrame(1, 0, 7, bytes(16)),
        CloseFrame(256, "bye"),
        DatagramFrame(b"datagram"),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_any_bytes_make_frames_or_a_wire_error(frame: Frame) -> None:
    # What trails a frame are frames again, so it is no part of this contract for a packet.
    assert_parser_is_total(lambda data: parse_frame(data, 0), frame.emit())
    for end in range(len(frame.emit())):
        assert_survives(parse_frames, frame.emit()[:end])


@given(st.binary(max_size=120))
def test_random_frames_that_are_read_emit_again_what_was_there(data: bytes) -> None:
    try:
        frames = parse_frames(data)
    except WireError:
        return
    # A reason that is no UTF-8 is read with marks in its place.
    if not any(isinstance(frame, CloseFrame) for frame in frames):
        assert emit_frames(frames) == data


@pytest.mark.parametrize("number", range(0x13, 0x100))
def test_unknown_types_are_malformed(number: int) -> None:
    with pytest.raises(MalformedError, match="unknown"):
        parse_frames(bytes([1, number]) + bytes(40))


@pytest.mark.parametrize(
    "frame",
    [
        AckFrame(9, 0, 0),
        AckFrame(9, 0, 11),
        AckFrame(9, 0, 1, ((0, 1),)),
        AckFrame(9, 0, 1, ((1, 0),)),
        AckFrame(9, 0, 5, ((3, 3),)),
        AckFrame(1000, 0, 1, ((1, 1),) * 64),
    ],
    ids=["empty", "below 0", "no gap", "empty range", "range below 0", "65 ranges"],
)
def test_ack_of_packets_that_cannot_be_is_malformed(frame: AckFrame) -> None:
    with pytest.raises(MalformedError):
        parse_frame(frame.emit(), 0)


@pytest.mark.parametrize(
    "frame",
    [
        BlockedFrame(4, 0, 0),
        BlockedFrame(255, 0, 0),
        MaxStreamsFrame(2, 0),
        MaxStreamsFrame(255, 0),
    ],
    ids=str,
)
def test_choice_that_has_no_meaning_is_malformed(frame: Frame) -> None:
    with pytest.raises(MalformedError, match=type(frame).__name__):
        parse_frame(frame.emit(), 0)


def test_ack_may_reach_down_to_packet_0_in_64_ranges() -> None:
    frame = AckFrame(126, 0, 1, ((1, 1),) * 63)
    assert parse_frame(frame.emit(), 0) == (frame, 18 + 63 * 8)


def test_reason_that_is_no_text_is_read_with_marks_in_its_place() -> None:
    frame, _ = parse_frame(b"\x12\0\0\0\1\2a\xff", 0)
    assert frame == CloseFrame(1, "a\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize(
    "frame",
    [
        AckFrame(1 << 64, 0, 1),
        AckFrame(1, 1 << 32, 1),
        AckFrame(1, 0, 1, ((1, -1),)),
        AckFrame(1, 0, 1, ((1, 1),) * 256),
        AckFrame(1, 0, 1, (), (0, 0, 1 << 64)),
        StreamFrame(1 << 32, 0, b""),
        StreamFrame(0, -1, b""),
        StreamFrame(0, 0, bytes(65536)),
        DatagramFrame(bytes(65536)),
        MaxDataFrame(1 << 64),
        MaxStreamsFrame(256, 0),
        CloseFrame(-1),
        CloseFrame(0, "x" * 256),
        PathChallengeFrame(bytes(7)),
        PathChallengeFrame(bytes(9)),
        PathResponseFrame(b""),
        NewConnectionIDFrame(0, 0, 0, bytes(15)),
        NewConnectionIDFrame(0, 0, 0, bytes(17)),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_field_out_of_range_is_an_emit_error(frame: Frame) -> None:
    with pytest.raises(EmitError, match=type(frame).__name__):
        frame.emit()
