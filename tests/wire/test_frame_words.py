"""RPT's frames in words."""

from __future__ import annotations

import pytest

from rawproto.wire import rpt_frames as frames
from rawproto.wire.frame_words import frame_words, frames_words

WORDS = [
    (frames.PaddingFrame(9), "PADDING 9"),
    (frames.PingFrame(), "PING"),
    (frames.AckFrame(90, 25_000, 3, ((1, 2), (4, 1))), "ACK 80 85-86 88-90"),
    (frames.AckFrame(0, 0, 1, (), (7, 8, 9)), "ACK 0 ECN 7/8/9"),
    (frames.StreamFrame(5, 2**33, b"some"), "STREAM 5 8589934592:8589934596"),
    (frames.StreamFrame(0, 7, b"", True), "STREAM 0 7:7 FIN"),
    (frames.ResetStreamFrame(4, 256, 99), "RESET_STREAM 4 code 256 at 99"),
    (frames.StopSendingFrame(4, 257), "STOP_SENDING 4 code 257"),
    (frames.MaxDataFrame(5), "MAX_DATA 5"),
    (frames.MaxStreamDataFrame(8, 9), "MAX_STREAM_DATA 8 9"),
    (frames.MaxStreamsFrame(1, 100), "MAX_STREAMS one-way 100"),
    (frames.MaxStreamsFrame(7, 100), "MAX_STREAMS 7 100"),
    (frames.BlockedFrame(1, 8, 4096), "BLOCKED stream 8 at 4096"),
    (frames.BlockedFrame(0, 0, 4096), "BLOCKED data at 4096"),
    (frames.DatagramFrame(b"once"), "DATAGRAM 4"),
    (frames.NewConnectionIDFrame(1, 0, 255, bytes(16)), "NEW_CONNECTION_ID 1 00000000000000ff"),
    (frames.RetireConnectionIDFrame(3), "RETIRE_CONNECTION_ID 3"),
    (frames.PathChallengeFrame(b"12345678"), "PATH_CHALLENGE 3132333435363738"),
    (frames.PathResponseFrame(b"12345678"), "PATH_RESPONSE 3132333435363738"),
    (frames.HandshakeDoneFrame(), "HANDSHAKE_DONE"),
    (frames.CloseFrame(0), "CLOSE 0"),
    (frames.CloseFrame(300, "it's\x1b[2J"), r'''CLOSE 300 "it's\x1b[2J"'''),
]


@pytest.mark.parametrize(("frame", "words"), WORDS)
def test_frame_says_what_it_is(frame: frames.Frame, words: str) -> None:
    assert frame_words(frame) == words


def test_every_type_has_words_of_its_own() -> None:
    types = {one for one in vars(frames).values() if getattr(one, "frame_type", -1) >= 0}
    assert {type(frame) for frame, _ in WORDS} == types


def test_ack_of_many_ranges_shows_the_latest() -> None:
    ranges = tuple((1, 1) for _ in range(30))
    words = frame_words(frames.AckFrame(100, 0, 1, ranges))
    assert words == "ACK ... 86 88 90 92 94 96 98 100"


def test_frames_stand_in_their_order() -> None:
    assert frames_words([frames.PingFrame(), frames.PaddingFrame(2)]) == "PING, PADDING 2"
