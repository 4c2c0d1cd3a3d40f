"""Streams of one side: who may open what, how far, and what ends them (specification 6)."""

from __future__ import annotations

from typing import Any

import pytest

from rawproto.errors import LocalProtocolError, RemoteProtocolError
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode
from rawproto.transport.events import (
    SendingStopped,
    StreamOpened,
    StreamReadable,
    StreamReset,
    StreamsAllowed,
    StreamWritable,
)
from rawproto.transport.window import Window
from rawproto.wire.rpt_frames import (
    Frame,
    MaxDataFrame,
    MaxStreamDataFrame,
    MaxStreamsFrame,
    ResetStreamFrame,
    StopSendingFrame,
    parse_frames,
)
from tests.transport import halves

WINDOW = 1000
MS = 1_000_000
HIGH = 1 << 20


class Side(halves.Side):
    """A side whose streams are small."""

    def __init__(self, *, client: bool = True, window: int = WINDOW, streams: int = 3) -> None:
        super().__init__(
            Config(window_bytes=window, max_window_bytes=8 * window, max_streams=streams),
            client=client,
            max_data=WINDOW,
            max_stream_data=WINDOW,
            max_streams_two_way=3,
            max_streams_one_way=1,
        )

    def asked(self) -> list[Frame]:
        """The control frames that wait, which leave by that."""
        found = parse_frames(b"".join(self.control.waiting.values()))
        self.control.waiting.clear()
        return found

    def read(self, stream_id: int, limit: int = HIGH) -> bytes:
        return self.incoming.read(stream_id, limit, 0, 100 * MS)

    def refused(self, code: CloseCode, call: Any, *arguments: Any) -> None:
        with pytest.raises(RemoteProtocolError) as error:
            call(*arguments)
        assert error.value.code == code


def test_ids_tell_who_opened_a_stream_and_whether_it_goes_one_way() -> None:
    client, listener = Side().streams, Side(client=False).streams
    assert [client.open(), client.open(), client.open(one_way=True)] == [4, 8, 2], "0 is open"
    assert [listener.open() for _ in range(3)] == [1, 5, 9]
    assert listener.open(one_way=True) == 3


def test_no_more_streams_are_opened_than_the_peer_takes() -> None:
    side = Side()
    side.streams.open(one_way=True)
    assert not side.streams.may_open(one_way=True)
    with pytest.raises(LocalProtocolError):
        side.streams.open(one_way=True)
    side.streams.on_max_streams(MaxStreamsFrame(1, 2))
    assert side.events == [StreamsAllowed()]
    assert side.streams.open(one_way=True) == 6
    side.streams.on_max_streams(MaxStreamsFrame(1, 1))
    assert not side.streams.may_open(one_way=True), "a smaller limit takes nothing back"


def test_frame_for_a_stream_opens_those_below_it_too() -> None:
    side = Side()
    side.incoming.on_data(9, 0, b"x", False)
    assert side.events[:3] == [StreamOpened(1), StreamOpened(5), StreamOpened(9)]
    assert side.events[3] == StreamReadable(9)
    side.refused(CloseCode.STREAMS, side.incoming.on_data, 13, 0, b"x", False)


def test_frames_that_a_stream_cannot_have_are_refused() -> None:
    side = Side()
    one_way = side.streams.open(one_way=True)
    state = CloseCode.STREAM_STATE
    side.refused(state, side.incoming.on_data, 4, 0, b"", False)
    side.refused(state, side.incoming.on_data, one_way, 0, b"", False)
    side.refused(state, side.incoming.on_reset, ResetStreamFrame(one_way, 0, 0))
    side.refused(state, side.outgoing.on_stop, StopSendingFrame(3, 0))
    side.refused(state, side.outgoing.on_max_stream_data, MaxStreamDataFrame(3, 0))
    side.refused(CloseCode.FRAME, side.streams.on_max_streams, MaxStreamsFrame(2, 5))


def test_data_past_a_window_is_refused_on_a_stream_and_on_all_together() -> None:
    side = Side()
    side.refused(CloseCode.FLOW, side.incoming.on_data, 0, WINDOW, b"x", False)
    side.incoming.on_data(0, WINDOW - 400, bytes(400), False)
    side.incoming.on_data(0, 0, bytes(WINDOW - 400), False)
    side.refused(CloseCode.FLOW, side.incoming.on_data, 1, 0, b"x", False)
    side.refused(CloseCode.FLOW, side.incoming.on_reset, ResetStreamFrame(5, 0, 1))


def test_only_one_end_of_a_stream_is_believed() -> None:
    for second in ((3, b"abc", True), (9, b"", True), (10, b"x", False)):
        side = Side()
        side.incoming.on_data(0, 5, b"hello", True)
        side.refused(CloseCode.FINAL_SIZE, side.incoming.on_data, 0, *second)
    side = Side()
    side.incoming.on_data(0, 5, b"hello", False)
    side.refused(CloseCode.FINAL_SIZE, side.incoming.on_data, 0, 5, b"hell", True)
    side.refused(CloseCode.FINAL_SIZE, side.incoming.on_reset, ResetStreamFrame(0, 1, 9))


def test_limits_are_raised_when_half_a_window_is_read() -> None:
    side = Side()
    side.incoming.on_data(0, 0, bytes(600), False)
    side.read(0, WINDOW // 2 - 1)
    assert side.asked() == []
    side.read(0, 1)
    limits = {type(frame): frame.maximum for frame in side.asked()}  # type: ignore[attr-defined]
    assert limits[MaxDataFrame] == limits[MaxStreamDataFrame]
    assert limits[MaxDataFrame] >= WINDOW // 2 + WINDOW


def test_window_doubles_only_while_it_is_used_up_within_four_rtts() -> None:
    window, read, now_ns = Window(1000, 4000), 0, 10**12
    limits = []
    for wait_ms in (500, 100, 399, 100, 400):
        read, now_ns = window.limit, now_ns + wait_ms * MS
        assert window.raise_for(read, now_ns, 100 * MS)
        limits.append(window.limit - read)
    assert limits == [1000, 2000, 4000, 4000, 4000]
    assert not window.raise_for(window.limit - 3000, now_ns, 100 * MS)


def test_stream_that_is_done_makes_room_for_another() -> None:
    side = Side()
    side.incoming.on_data(3, 0, b"all", True)
    assert side.read(3) == b"all"
    assert side.streams.known(3) is None
    assert MaxStreamsFrame(1, 4) in side.asked()
    assert side.incoming.on_data(3, 0, b"all", True), "a copy of what was forgotten is ignored"
    assert side.read(3) == b""


def test_room_for_streams_is_told_in_steps_not_with_every_stream_that_ends() -> None:
    side = Side(streams=32)
    told = []
    for stream_id in range(3, 3 + 4 * 16, 4):
        side.incoming.on_data(stream_id, 0, b"all", True)
        side.read(stream_id)
        told += [frame.maximum for frame in side.asked() if isinstance(frame, MaxStreamsFrame)]
    assert told == [36, 40, 44, 48]


def test_reset_is_told_counts_with_its_final_size_and_ends_the_stream() -> None:
    side = Side()
    side.incoming.on_data(3, 0, b"some", False)
    side.incoming.on_reset(ResetStreamFrame(3, 77, 400))
    assert side.events[-1] == StreamReset(3, 77)
    assert side.streams.known(3) is None
    assert side.read(3) == b""
    side.incoming.on_reset(ResetStreamFrame(3, 77, 400))
    assert side.events.count(StreamReset(3, 77)) == 1
    side.refused(CloseCode.FLOW, side.incoming.on_data, 0, 0, bytes(601), False)


@pytest.mark.parametrize("how", ["reset", "stopped before", "stopped behind"])
def test_what_is_never_read_makes_room_for_others(how: str) -> None:
    side = Side()
    side.incoming.on_data(3, 0, bytes(100), False)
    if how == "reset":
        side.incoming.on_reset(ResetStreamFrame(3, 77, 600))
    elif how == "stopped before":
        side.incoming.stop(3, 5)
        side.incoming.on_data(3, 100, bytes(500), False)
    else:
        side.incoming.on_data(3, 100, bytes(500), False)
        side.incoming.stop(3, 5)
    assert MaxDataFrame(1600) in side.asked()
    side.incoming.on_data(0, 0, bytes(1000), False)


def test_who_is_asked_to_stop_resets_at_what_was_sent() -> None:
    side = Side()
    side.outgoing.write(0, bytes(300), HIGH)
    assert side.outgoing.take(100) is not None
    side.outgoing.on_stop(StopSendingFrame(0, 9))
    assert side.events == [SendingStopped(0, 9)]
    assert side.asked() == [ResetStreamFrame(0, 9, 100)]
    assert side.outgoing.take(100) is None
    with pytest.raises(LocalProtocolError):
        side.outgoing.write(0, b"x", HIGH)
    side.outgoing.on_stop(StopSendingFrame(0, 9))
    assert len(side.events) == 1


def test_stop_throws_away_what_comes() -> None:
    side = Side()
    side.incoming.on_data(0, 0, b"there", False)
    side.incoming.stop(0, 5)
    assert side.asked() == [StopSendingFrame(0, 5)]
    side.events.clear()
    side.incoming.on_data(0, 5, b"more", False)
    assert side.events == []
    assert side.read(0) == b""


def test_stream_of_which_all_but_its_end_was_read_is_forgotten_when_that_comes() -> None:
    side = Side()
    side.incoming.on_data(3, 0, b"there", False)
    assert side.read(3) == b"there"
    side.events.clear()
    side.incoming.on_data(3, 5, b"", True)
    assert side.events == [StreamReadable(3)]
    assert side.streams.known(3) is None
    assert side.incoming.at_end(3)


@pytest.mark.parametrize("first", [b"", b"there"])
def test_stream_that_nobody_reads_on_ends_without_a_word_if_only_its_end_was_missing(
    first: bytes,
) -> None:
    side = Side()
    side.incoming.on_data(3, 0, first, False)
    side.incoming.abandon(3)
    side.incoming.on_data(3, len(first), b"", True)
    assert StopSendingFrame(3, 0) not in side.asked()
    assert side.streams.known(3) is None


def test_peer_that_sends_on_what_nobody_reads_is_asked_to_stop_once() -> None:
    side = Side()
    side.incoming.abandon(0)
    for offset in (0, 4):
        side.incoming.on_data(0, offset, b"more", False)
        assert side.read(0) == b""
        assert side.asked() == ([] if offset else [StopSendingFrame(0, 0)])


def test_sender_keeps_to_both_limits_and_goes_on_when_they_rise() -> None:
    side = Side()
    other = side.streams.open()
    for stream_id in (0, other):
        side.outgoing.write(stream_id, bytes(2000), HIGH)
    sent = {0: 0, other: 0}

    def drain() -> None:
        while (taken := side.outgoing.take(128)) is not None:
            stream, start, data, end = taken
            assert (start, end) == (sent[stream.stream_id], start + len(data))
            sent[stream.stream_id] = end

    drain()
    assert sum(sent.values()) == WINDOW
    assert abs(sent[0] - sent[other]) <= 128, "in turn"
    side.outgoing.on_max_data(10 * WINDOW)
    drain()
    assert sent == {0: WINDOW, other: WINDOW}
    side.outgoing.on_max_stream_data(MaxStreamDataFrame(other, 1500))
    drain()
    assert sent == {0: WINDOW, other: 1500}
    side.outgoing.on_max_data(5)
    side.outgoing.on_max_stream_data(MaxStreamDataFrame(other, 5))
    drain()
    assert sent[other] == 1500, "smaller limits change nothing"


def test_only_who_waits_for_a_limit_of_all_streams_gets_a_turn_when_it_rises() -> None:
    side = Side()
    others = [side.streams.open() for _ in range(2)]
    side.outgoing.on_max_data(WINDOW + 1)
    assert side.outgoing.ready == [], "or who raises it by ones makes us look at all each time"
    for stream_id in others:
        side.outgoing.write(stream_id, bytes(WINDOW), HIGH)
    while side.outgoing.take(128) is not None:
        pass
    assert side.outgoing.sent == WINDOW + 1
    assert not side.outgoing.has_data()
    side.outgoing.on_max_data(WINDOW + 2)
    side.outgoing.on_max_data(WINDOW + 3)
    while side.outgoing.take(128) is not None:
        pass
    assert side.outgoing.sent == WINDOW + 3


def test_full_stream_takes_no_more_and_tells_when_it_does() -> None:
    side = Side()
    assert side.outgoing.write(0, bytes(300), 200) == 200
    assert side.outgoing.write(0, bytes(1), 200) == 0
    taken = side.outgoing.take(HIGH)
    assert taken is not None
    stream, start, _, end = taken
    side.outgoing.on_acked(stream, start, end, low_water=100)
    assert side.events == [StreamWritable(0)]
    assert side.outgoing.write(0, bytes(300), 200) == 200


def test_room_is_what_a_write_would_take_and_a_message_is_taken_whole_above_it() -> None:
    side = Side()
    assert side.outgoing.room(0, 200) == 200
    assert side.outgoing.write(0, bytes(150), 200) == 150
    assert side.outgoing.room(0, 200) == 50
    assert side.outgoing.write(0, bytes(600), None) == 600
    assert side.outgoing.room(0, 200) == 0
    stream, start, _, end = side.outgoing.take(10_000)
    side.events.clear()
    side.outgoing.on_acked(stream, start, end, 100)
    assert side.events == [StreamWritable(0)]


def test_hole_stops_nobody_from_writing_until_the_largest_window_is_full_behind_it() -> None:
    side = Side(window=125)  # eight times that at most
    side.outgoing.on_max_data(HIGH)
    side.outgoing.on_max_stream_data(MaxStreamDataFrame(0, HIGH))
    written, parts = side.outgoing.write(0, bytes(5000), 200), []
    for _ in range(20):
        taken = side.outgoing.take(100)
        if taken is None:
            break
        parts.append(taken)
        if len(parts) > 1:
            side.outgoing.on_acked(*taken[:2], taken[3], low_water=100)
        if StreamWritable(0) in side.events:
            side.events.clear()
            written += side.outgoing.write(0, bytes(5000), 200)
    assert written == 1000
    side.outgoing.on_acked(*parts[0][:2], parts[0][3], low_water=100)
    assert side.events == [StreamWritable(0)]
    assert side.outgoing.write(0, bytes(5000), 200) == 200


def test_lost_control_frames_say_what_is_true_by_then() -> None:
    side = Side()
    side.incoming.on_data(0, 0, bytes(500), False)
    side.read(0)
    limits = side.asked()
    side.incoming.on_data(0, 500, bytes(1000), False)
    side.read(0)
    newer = side.incoming.again("max_data"), side.incoming.again(("max_stream_data", 0))
    assert newer[0] not in limits
    side.incoming.on_data(0, 1500, b"", True)
    assert side.incoming.again(("max_stream_data", 0)) is None, "its end is known: no more comes"
    assert side.incoming.again(("stop", 77)) is None
