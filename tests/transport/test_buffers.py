"""Sending and receiving buffers against the plainest model of a stream: a string of bytes."""

from __future__ import annotations

import random
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rawproto.transport.pieces import Pieces
from rawproto.transport.ranges import Ranges
from rawproto.transport.recvbuf import MAX_PIECES, ReceiveBuffer
from rawproto.transport.sendbuf import SendBuffer

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=30)


@given(SPANS, SPANS, st.integers(0, 80))
def test_ranges_are_the_set_that_was_added(
    spans: list[tuple[int, int]], others: list[tuple[int, int]], limit: int
) -> None:
    ranges, model = Ranges(), set()
    for start, length in spans:
        ranges.add(start, start + length)
        model |= set(range(start, start + length))
    for start, length in others:
        ranges.remove(start, start + length)
        model -= set(range(start, start + length))
    for start, length in spans[::3]:
        ranges.add(start, start + length)
        model |= set(range(start, start + length))
    assert [number in ranges for number in range(90)] == [n in model for n in range(90)]
    assert all(end < start for end, start in zip(ranges.ends, ranges.starts[1:], strict=False))
    missing = {n for start, end in ranges.missing(5, 70) for n in range(start, end)}
    assert missing == set(range(5, 70)) - model
    ranges.drop_below(limit)
    assert {n for start, end in ranges for n in range(start, end)} == {
        n for n in model if n >= limit
    }


@given(SPANS, st.randoms(use_true_random=False))
def test_parts_in_any_order_are_read_as_the_stream(
    spans: list[tuple[int, int]], rng: random.Random
) -> None:
    stream = bytes(rng.randbytes(100))
    parts = [*spans, *[(at, 7) for at in range(0, 100, 7)]]
    buffer, read = ReceiveBuffer(), b""
    for start, length in parts:
        assert buffer.insert(start, stream[start : start + length])
        if rng.random() < 0.5:
            read += buffer.take(rng.randrange(1, 30))
    buffer.final_size = 100
    assert buffer.whole
    assert buffer.highest == 100
    while not buffer.finished:
        read += buffer.take(rng.randrange(1, 30))
    assert read == stream
    assert buffer.take(5) == b""


def test_a_byte_here_and_a_byte_there_is_refused_in_time() -> None:
    buffer = ReceiveBuffer()
    taken = [buffer.insert(2 * at + 1, b"x") for at in range(MAX_PIECES + 5)]
    assert taken == [True] * MAX_PIECES + [False] * 5


@given(
    st.randoms(use_true_random=False),
    st.lists(st.integers(0, 40), min_size=1, max_size=10),
    st.floats(0, 0.9),
)
def test_whatever_is_lost_all_of_it_arrives_and_is_done(
    rng: random.Random, writes: list[int], loss: float
) -> None:
    buffer, received = SendBuffer(), ReceiveBuffer()
    stream = b""
    flying: list[tuple[int, bytes, int]] = []
    freed = 0
    for step in range(10_000):
        if writes:
            part = rng.randbytes(writes.pop())
            stream += part
            buffer.write(part)
            if not writes:
                buffer.finish()
        if buffer.pending(limit=10**9) and rng.random() < 0.7:
            start, data, end = buffer.take(rng.randrange(1, 15), 10**9)
            assert bytes(data) == stream[start:end]
            assert end - start - len(data) in (0, 1)
            flying.append((start, bytes(data), end))
        elif flying:
            start, data, end = flying.pop(rng.randrange(len(flying)))
            if rng.random() < (loss if step < 5000 else 0):
                buffer.on_lost(start, end)
            else:
                received.insert(start, data)
                if end > start + len(data):
                    received.final_size = end - 1
                freed += buffer.on_acked(start, end)
                if rng.random() < 0.3:
                    buffer.on_lost(start, end)  # a packet thought lost after all
        if buffer.done:
            break
    assert buffer.done
    assert buffer.unacked == 0
    assert freed == len(stream)
    assert received.take(1000) == stream
    assert received.finished


def test_new_data_stops_at_the_limit_and_fin_needs_no_room_of_the_window() -> None:
    buffer = SendBuffer()
    buffer.write(b"0123456789")
    assert buffer.take(100, 4) == (0, b"0123", 4)
    assert not buffer.pending(4)
    buffer.finish()
    assert buffer.take(3, 10) == (4, b"456", 7)
    assert buffer.take(100, 10) == (7, b"789", 11)
    assert not buffer.pending(100)
    buffer.on_lost(7, 11)
    assert buffer.take(2, 10) == (7, b"78", 9)
    assert buffer.take(1, 10) == (9, b"9", 11)


def test_end_alone_is_sent_when_all_else_was() -> None:
    buffer = SendBuffer()
    buffer.write(b"ab")
    assert buffer.take(100, 2) == (0, b"ab", 2)
    buffer.finish()
    assert buffer.pending(2)
    assert buffer.take(100, 2) == (2, b"", 3)
    buffer.on_acked(0, 2)
    assert not buffer.done
    buffer.on_acked(2, 3)
    assert buffer.done


@given(st.integers(0, 60), st.booleans(), st.integers(1, 7), st.integers(0, 9), st.integers(0, 70))
def test_whole_shares_are_what_single_parts_would_have_been(
    size: int, ended: bool, share: int, count: int, limit: int
) -> None:
    data = bytes(range(size))
    whole, single = SendBuffer(), SendBuffer()
    for buffer in (whole, single):
        buffer.write(data)
        if ended:
            buffer.finish()
    taken = whole.take_whole(share, count, limit)
    assert len(taken) <= count
    for number, part in enumerate(taken):
        at = number * share
        assert single.take(share, limit) == (at, part, at + share)
    assert (whole.next, whole.pending(limit)) == (single.next, single.pending(limit))
    if len(taken) < count:  # what is left goes no other way: short, or with FIN
        _, rest, end = whole.take(share, limit)
        assert len(rest) < share or end > size
    whole.on_lost(0, 1)
    assert whole.take_whole(1, 5, limit) == []


@given(st.data())
def test_pieces_of_any_size_are_the_string_that_was_written(data: st.DataObject) -> None:
    small, large = st.integers(1, 50), st.integers(16_000, 70_000)
    sizes = data.draw(st.lists(small | large, min_size=1, max_size=12))
    whole = random.Random(1).randbytes(sum(sizes))
    pieces, owner, at = Pieces(), bytearray(whole), 0
    for number, size in enumerate(sizes):  # every way to hand bytes over
        source = (whole, memoryview(whole), memoryview(owner))[number % 3]
        pieces.append(source[at : at + size])
        at += size
    owner[:] = bytes(len(owner))  # who writes may use his buffer again
    assert pieces.end == len(whole)
    below = data.draw(st.integers(0, len(whole)))
    pieces.drop_below(below)
    start = data.draw(st.integers(below, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    assert bytes(pieces.slice(start, end)) == whole[start:end]
    share = data.draw(st.sampled_from([1, 7, 1431, 9000, 40_000]))
    parts = pieces.cut(start, share, (end - start) // share) if end - start >= share else []
    assert [len(part) for part in parts] == [share] * ((end - start) // share)
    assert b"".join(parts) == whole[start : start + len(parts) * share]


@given(st.integers(0, 1 << 32))
def test_what_is_sent_twice_and_arrives_once_is_never_mixed_up(seed: int) -> None:
    rng = random.Random(seed)
    buffer, stream = SendBuffer(), rng.randbytes(60)
    buffer.write(stream)
    buffer.finish()
    sent: list[tuple[int, int]] = []
    for _ in range(2000):
        if buffer.done:
            break
        if buffer.pending(10**9) and rng.random() < 0.6:
            start, data, end = buffer.take(rng.randrange(1, 15), 10**9)
            assert bytes(data) == stream[start:end]
            sent.append((start, end))
        elif sent:
            # Any copy may be thought lost, or acknowledged, or both, in any order.
            part = rng.choice(sent)
            (buffer.on_lost if rng.random() < 0.5 else buffer.on_acked)(*part)
    assert buffer.done
    assert not buffer.lost


def test_run_of_packets_that_reaches_over_earlier_ones_joins_what_lies_behind_it() -> None:
    buffer = SendBuffer()
    buffer.write(bytes(50))
    buffer.finish()
    buffer.take(50, 50)
    for start, end in ((10, 20), (30, 40), (0, 30), (45, 51), (40, 45)):
        buffer.on_acked(start, end)
    assert buffer.done
    assert buffer.unacked == 0


def test_what_is_lost_side_by_side_is_one_part_and_many_parts_cost_little_each() -> None:
    count, size = 8_000, 1_000
    buffer = SendBuffer()
    buffer.write(bytes(count * size))
    buffer.take_whole(size, count, count * size)
    parts = [(each * size, (each + 1) * size) for each in range(count)]
    for part in parts:
        buffer.on_lost(*part)
    assert list(buffer.lost) == [(0, count * size)]
    began_s = time.process_time()
    for part in parts[1::2]:
        buffer.on_acked(*part)
    assert list(buffer.lost) == parts[::2]
    for part in reversed(parts[::2]):
        buffer.on_acked(*part)
    assert time.process_time() - began_s < 5, "or a peer that acknowledges in shreds stops us"
    assert not buffer.lost
    assert buffer.base == count * size


class Counted(bytes):
    """Bytes that count how many of them were copied."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        found = Counted(super().__getitem__(key))
        Counted.copied += len(found)
        return found


def test_what_is_there_in_many_pieces_is_not_copied_over_and_over() -> None:
    buffer = ReceiveBuffer()
    for at in range(1, 4000, 2):
        assert buffer.insert(at, b"x")
    data = Counted(bytes(range(250)) * 20)
    Counted.copied = 0
    assert buffer.insert(1, data)
    assert buffer.insert(1, data)
    assert Counted.copied <= len(data)
    assert buffer.insert(0, b"y")
    model = bytearray(b"y" + data)
    model[1:4000:2] = b"x" * 2000
    assert buffer.take(9000) == model


def test_small_parts_that_nobody_reads_take_no_more_room_than_their_bytes() -> None:
    stream = random.Random(1).randbytes(60_000)
    for way in range(3):
        buffer = ReceiveBuffer()
        for at in range(0, 60_000, 2):
            part = stream[at : at + 2]
            if way == 0:
                assert buffer.insert(at, part)
            elif way == 1:
                buffer.extend((part,), at + 2)
            elif at % 4 == 0:  # the second one fills a hole
                assert buffer.insert(at + 2, stream[at + 2 : at + 4])
                assert buffer.insert(at, part)
        assert len(buffer.ready) < 20
        read = [buffer.take(size) for size in (1, 5, 4000, 4096, 10_000, 60_000)]
        assert b"".join(read) == stream
        assert {type(each) for each in read} == {bytes}


def test_part_that_is_read_in_halves_is_not_grown_under_its_reader() -> None:
    buffer = ReceiveBuffer()
    for at in range(3):
        assert buffer.insert(2 * at, b"ab")
    assert buffer.take(3) == b"aba"
    assert buffer.insert(6, b"cd")
    assert buffer.peek(2) == b"ba"
    assert buffer.insert(8, b"ef")
    assert buffer.take(99) == b"babcdef"
