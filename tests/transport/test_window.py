"""Windows of streams that share what a connection has: who is not read leaves room for others."""

from __future__ import annotations

from rawproto.transport.config import KIB, MIB, Config
from rawproto.transport.window import Growth, Window
from tests.transport.halves import Side

MS = 1_000_000
STREAMS = 32
CONFIG = Config(
    window_bytes=32 * KIB,
    max_window_bytes=8 * MIB,
    shared_window_bytes=8 * MIB,
    send_buffer_bytes=64 * KIB,
    max_streams=STREAMS,
)


def listener() -> Side:
    """One whose client may open so many streams."""
    return Side(CONFIG, client=False, max_data=MIB)


def fill(side: Side, stream_id: int, reads: int) -> int:
    """A peer that sends all it may, and a reader that is fast so often: what is not read."""
    sent = 0
    for turn in range(reads + 1):
        stream = side.streams.known(stream_id)
        limit = CONFIG.window_bytes if stream is None else stream.window.limit
        assert side.incoming.on_data(stream_id, sent, bytes(limit - sent), False)
        waits, sent = limit - sent, limit
        if turn < reads:
            side.incoming.read(stream_id, waits, turn * MS, MS)
    return waits


def test_each_window_gets_half_of_what_is_left_and_there_is_always_some() -> None:
    growth = Growth(2 * MIB)
    windows = [Window(32 * KIB, 8 * MIB, growth) for _ in range(40)]
    for window in windows:
        for turn in range(20):
            window.raise_for(window.limit, turn * MS, MS)
    assert windows[0].grown > MIB
    assert sum(window.grown for window in windows) + growth.left == 2 * MIB
    assert growth.left > 0


def test_streams_that_nobody_reads_cannot_use_up_the_window_of_all() -> None:
    side = listener()
    left = [fill(side, 4 * number, reads=20) for number in range(1, STREAMS - 1)]
    assert left[0] > MIB, "one alone gets far"
    assert min(left) >= CONFIG.window_bytes
    # A stream that comes after all those is served as if it were alone.
    last = 4 * (STREAMS - 1)
    assert fill(side, last, reads=50) >= CONFIG.window_bytes


def test_what_a_stream_grew_by_is_given_back_with_it() -> None:
    side = listener()
    growth = side.streams._growth
    assert growth is not None
    whole = growth.left
    fill(side, 4, reads=5)
    assert growth.left < whole
    stream = side.streams.known(4)
    assert stream is not None
    side.incoming.stop(4, 0)
    side.incoming.on_data(4, stream.window.limit, b"", True)
    side.outgoing.reset(4, 0)
    side.outgoing.on_reset_acked(4)
    assert side.streams.known(4) is None
    assert growth.left == whole


def test_little_waits_for_a_peer_that_takes_no_more() -> None:
    limit = 100 * KIB
    side = Side(CONFIG, client=True, max_data=MIB, max_stream_data=limit, max_streams_two_way=9)
    stream_id, taken = side.streams.open(), 0
    while more := side.outgoing.write(stream_id, bytes(MIB), 16 * MIB):
        taken += more
    assert taken == limit + CONFIG.send_buffer_bytes
