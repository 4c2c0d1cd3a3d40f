"""CLOSE: said until it is heard, by time and by whatever still comes."""

from __future__ import annotations

import pytest

from rawproto.transport.connection import State
from rawproto.transport.events import ConnectionClosed
from rawproto.transport.farewell import Farewell
from rawproto.wire.rpt_frames import CloseFrame, PingFrame
from tests.transport.pair import SERVER, Pair

MS = 1_000_000


@pytest.mark.parametrize("lost", range(6))
def test_close_that_is_lost_is_said_again_and_ends_both_sides_well(lost: int) -> None:
    pair = Pair()
    connection = pair.connect()
    pair.run(0.1)
    (accepted,) = pair.accepted
    left = lost

    def drop(from_client: bool, data: bytes) -> bytes | None:
        nonlocal left
        left -= from_client
        return None if from_client and left >= 0 else data

    pair.change = drop
    connection.close(pair.now_ns)
    pair.client.touch(connection)
    pair.run(1)
    for each in (connection, accepted):
        assert each.state is State.CLOSED
        (end,) = [event for event in pair.events[each] if isinstance(event, ConnectionClosed)]
        assert end.error is None


def spoken(farewell: Farewell) -> tuple[int, int]:
    """How often it is said by time alone, and when that is over."""
    said, now_ns = 0, 0
    while True:
        said += farewell.due
        farewell.due = False
        now_ns = farewell.timeout_ns
        if farewell.handle_timeout(now_ns):
            return said, now_ns


def test_who_closes_says_so_six_times_by_time_alone() -> None:
    assert spoken(Farewell(0, "", 0, 100 * MS, answer=False)) == (6, 600 * MS)


def test_who_answers_a_close_says_it_once_and_is_done_after_3_pto() -> None:
    farewell = Farewell(0, "", 0, 100 * MS, answer=True)
    assert (farewell.due, farewell.timeout_ns) == (True, 0)
    farewell.due = False
    assert farewell.timeout_ns == 300 * MS
    assert not farewell.handle_timeout(299 * MS)
    assert not farewell.due
    assert farewell.handle_timeout(300 * MS)


@pytest.mark.parametrize(("answer", "times", "seconds"), [(False, 6, 3.0), (True, 1, 1.5)])
def test_pto_of_seconds_counts_as_half_of_one(answer: bool, times: int, seconds: float) -> None:
    """A process that got no CPU for a second measures a PTO of 4: its exit would take 24."""
    ended = spoken(Farewell(0, "", 0, 4000 * MS, answer=answer))
    assert ended == (times, seconds * 1000 * MS)


def test_end_that_is_read_seconds_late_holds_nobody_up() -> None:
    """As in a process that got no CPU: what the peer has said meanwhile, CLOSE too, is read at
    once, and the first RTT takes all that time."""
    pair = Pair()
    connection = pair.connect()
    unread: list[tuple[bytes, tuple[str, int], int]] = []

    def keep(from_client: bool, data: bytes) -> bytes | None:
        if from_client or data[0] & 0x80:
            return data
        unread.append((data, SERVER, 0))
        return None

    pair.change = keep
    pair.run(0.1)
    (accepted,) = pair.accepted
    connection.write(0, b"question")
    pair.client.touch(connection)
    pair.run(0.1)
    accepted.close(pair.now_ns)
    pair.server.touch(accepted)
    pair.run(2.9)
    pair.client.receive(unread, pair.now_ns)
    assert connection.state is State.DRAINING
    assert connection.sender.recovery.rtt.pto > 5000 * MS
    pair.run(1.6)
    assert not pair.client.connections


def test_packets_that_still_come_are_answered_ever_more_seldom() -> None:
    farewell = Farewell(0, "", 0, 100 * MS, answer=False)
    answered = []
    for number in range(1, 33):
        farewell.due = False
        assert not farewell.on_packet(PingFrame().emit())
        if farewell.due:
            answered.append(number)
    assert answered == [1, 2, 4, 8, 16, 32]
    assert farewell.on_packet(CloseFrame(0).emit())
    assert not farewell.due
