"""A file in the making: verified, resumed, never under its name before it is whole."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.blocks import BLOCK_BYTES, LEAF_BYTES, leaf, root_of, zeros_leaf
from rawproto.apps.files.entries import Entry
from rawproto.apps.files.partial import DamagedError, Partial, part_path
from rawproto.apps.files.source import ChangedError, Source
from rawproto.apps.files.transfer import begun, receive_file, send_file
from rawproto.rpc import Call

SIZE = 3 * BLOCK_BYTES + 1000
TIME = 1_600_000_000_123_456_789


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    (tmp_path / "root").mkdir()
    made = Root(str(tmp_path / "root"))
    yield made
    made.close()


def blocks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    cut = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
    return [(leaf(block), block) for block in cut]


def hash_of(data: bytes) -> bytes:
    return root_of(len(data), b"".join(its_leaf for its_leaf, _ in blocks_of(data)))


def entry(path: str = "a/b/file", size: int = SIZE) -> Entry:
    return Entry(path, "file", size, 0o640, TIME)


def test_whole_file_gets_name_time_and_permissions(root: Root, tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    partial = Partial(root, entry())
    partial.write(blocks_of(data)[:2])
    partial.write(blocks_of(data)[2:])
    assert not (tmp_path / "root/a/b/file").exists()
    partial.finish(hash_of(data))
    partial.close()
    made = tmp_path / "root/a/b/file"
    assert made.read_bytes() == data
    assert made.stat().st_mode & 0o777 == 0o640
    assert made.stat().st_mtime_ns == TIME
    assert os.listdir(made.parent) == ["file"]


def test_file_is_on_the_disk_before_it_has_its_name(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("pwrite", "fsync", "rename"):
        real = getattr(os, name)

        def noted(*words: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            done.append(name)
            return real(*words, **options)

        monkeypatch.setattr(os, name, noted)
    data = os.urandom(SIZE)
    partial = Partial(root, entry())
    partial.write(blocks_of(data))
    partial.finish(hash_of(data))
    partial.close()
    assert done[-2:] == ["fsync", "rename"]


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_every_size_is_whole(root: Root, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    partial = Partial(root, entry("f", size))
    partial.write(blocks_of(data))
    partial.finish(hash_of(data))
    partial.close()
    assert (tmp_path / "root/f").read_bytes() == data


def test_what_was_broken_off_goes_on_behind_its_blocks(root: Root, tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    first = Partial(root, entry())
    first.write(blocks_of(data)[:2])
    first.close()
    second = Partial(root, entry())
    assert bytes(second.leaves) == b"".join(each for each, _ in blocks_of(data)[:2])
    second.write(blocks_of(data)[2:])
    second.finish(hash_of(data))
    second.close()
    assert (tmp_path / "root/a/b/file").read_bytes() == data


@pytest.mark.parametrize("damaged", [0, 1])
def test_last_blocks_are_looked_at_before_they_are_trusted(
    root: Root, tmp_path: Path, damaged: int
) -> None:
    """A full disk, or a crash of the machine, may have lost what the list says is there."""
    data = os.urandom(SIZE)
    first = Partial(root, entry())
    first.write(blocks_of(data)[:2])
    first.close()
    (part,) = (tmp_path / "root/a/b").glob(".rpt-*.part")
    with part.open("r+b") as file:
        file.seek(damaged * BLOCK_BYTES + 7)
        file.write(b"damage")
    second = Partial(root, entry())
    assert len(second.leaves) == damaged * LEAF_BYTES
    second.keep(damaged)
    second.write(blocks_of(data)[damaged:])
    second.finish(hash_of(data))
    second.close()
    assert (tmp_path / "root/a/b/file").read_bytes() == data


def test_going_on_looks_only_at_what_a_crash_may_have_lost(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rawproto.apps.files.partial._SYNC_BYTES", 2 * BLOCK_BYTES)
    data = os.urandom(8 * BLOCK_BYTES)
    first = Partial(root, entry(size=len(data)))
    for each in blocks_of(data)[:6]:
        first.write([each])
    first.close()
    read, pread = [], os.pread

    def noted(fd: int, size: int, at: int) -> bytes:
        if size == BLOCK_BYTES:
            read.append(at // BLOCK_BYTES)
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", noted)
    second = Partial(root, entry(size=len(data)))
    assert len(second.leaves) == 6 * LEAF_BYTES
    assert read == [4, 5]
    second.close()


@pytest.mark.parametrize("cut", [1, LEAF_BYTES + 1, 2 * LEAF_BYTES - 1])
def test_list_that_was_cut_serves_as_far_as_it_goes(root: Root, tmp_path: Path, cut: int) -> None:
    first = Partial(root, entry())
    first.write(blocks_of(os.urandom(SIZE))[:2])
    first.close()
    (leaves,) = (tmp_path / "root/a/b").glob(".rpt-*.leaves")
    os.truncate(leaves, cut)
    second = Partial(root, entry())
    assert len(second.leaves) == cut // LEAF_BYTES * LEAF_BYTES
    second.close()


def test_damaged_block_is_refused(root: Root) -> None:
    partial = Partial(root, entry())
    good = blocks_of(os.urandom(SIZE))
    with pytest.raises(DamagedError, match="damaged"):
        partial.write([good[0], (good[1][0], b"x" * len(good[1][1]))])
    partial.close()


@pytest.mark.parametrize("extra", [b"", b"x", b"x" * BLOCK_BYTES])
def test_more_than_the_file_has_is_refused(root: Root, extra: bytes) -> None:
    partial = Partial(root, entry("f", BLOCK_BYTES))
    with pytest.raises(DamagedError, match="another size"):
        partial.write([*blocks_of(os.urandom(BLOCK_BYTES)), (leaf(extra), extra)])
    partial.close()


def test_hash_of_all_is_what_gives_the_name(root: Root, tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/a/b/file").write_text("what was there")
    partial = Partial(root, entry())
    partial.write(blocks_of(data)[:3])
    with pytest.raises(DamagedError, match="not what was sent"):
        partial.finish(hash_of(data))
    partial.discard()
    partial.close()
    assert (tmp_path / "root/a/b/file").read_text() == "what was there"
    assert os.listdir(tmp_path / "root/a/b") == ["file"]


def test_nothing_is_left_where_no_block_stands(root: Root, tmp_path: Path) -> None:
    Partial(root, entry()).close()
    assert os.listdir(tmp_path / "root/a/b") == []


def test_blocks_before_the_one_without_room_stand(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(SIZE)
    write = os.pwrite

    def full(fd: int, data: Any, at: int) -> int:
        if at >= 2 * BLOCK_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    partial = Partial(root, entry())
    with pytest.raises(OSError, match="No space"):
        partial.write(blocks_of(data))
    partial.close()
    again = Partial(root, entry())
    assert bytes(again.leaves) == b"".join(each for each, _ in blocks_of(data)[:2])
    again.close()


def test_file_that_its_maker_discards_meanwhile_is_not_made_on(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def late(fd: int, how: int) -> None:
        (tmp_path / "root" / part_path("f")).unlink()
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(OSError, match="somebody is sending it"):
        Partial(root, entry("f"))


class Said:
    """A call from which these items come, and to which anything may be said."""

    def __init__(self, *items: Any) -> None:
        self._items = iter(items)

    def __aiter__(self) -> Said:
        return self

    async def __anext__(self) -> Any:
        for item in self._items:
            return item
        raise StopAsyncIteration

    async def send(self, item: Any) -> None:
        pass


class Stuck:
    """A call of the kernel's that takes its time, in whatever thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self._real = getattr(os, name)
        self.entered, self.on, self.left = (threading.Event() for _ in range(3))
        monkeypatch.setattr(os, name, self)

    def __call__(self, *words: Any) -> Any:
        self.entered.set()
        assert self.on.wait(10)
        try:
            return self._real(*words)
        finally:
            self.left.set()

    async def outlast(self, task: asyncio.Task[Any]) -> None:
        """Has a task be cancelled twice meanwhile: by the stream's end, and the connection's."""
        try:
            await asyncio.to_thread(self.entered.wait, 10)
            for _ in range(2):
                task.cancel()
                for _ in range(5):
                    await asyncio.sleep(0)
            assert not task.done()
        finally:
            self.on.set()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("name", "size", "stands"),
    [("pwrite", 9 * BLOCK_BYTES, False), ("pwrite", SIZE, True), ("fsync", SIZE, True)],
)
def test_file_is_not_closed_under_the_thread_that_writes_it(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int, stands: bool
) -> None:
    """The last blocks are written by the thread that gives the file its name."""
    data = os.urandom(size)
    blocks = [its_leaf + block for its_leaf, block in blocks_of(data)]
    call = cast(Call, Said({"from": 0}, *blocks, {"root": hash_of(data).hex()}))
    partial = Partial(root, entry(size=size))
    stuck = Stuck(monkeypatch, name)

    async def scene() -> None:
        receiving = receive_file(call, partial, size, lambda size: None)
        await stuck.outlast(asyncio.create_task(receiving))

    asyncio.run(scene())
    partial.close()
    assert (tmp_path / "root/a/b/file").exists() == stands
    again = Partial(root, entry(size=size))
    assert len(again.leaves) == (0 if stands else 8 * LEAF_BYTES)
    again.close()


def test_file_is_not_closed_under_the_thread_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * BLOCK_BYTES))
    source = Source(os.open(path, os.O_RDONLY), "file")
    stuck = Stuck(monkeypatch, "pread")

    async def scene() -> None:
        sending = send_file(cast(Call, Said({"have": 0})), source, lambda size: None)
        await stuck.outlast(asyncio.create_task(sending))

    asyncio.run(scene())
    source.close()


def test_event_loop_that_ends_waits_for_the_thread_that_writes(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(SIZE)
    blocks = [its_leaf + block for its_leaf, block in blocks_of(data)]
    call = cast(Call, Said({"from": 0}, *blocks, {"root": hash_of(data).hex()}))
    partial = Partial(root, entry())
    stuck = Stuck(monkeypatch, "fsync")
    closed_after: list[bool] = []

    async def receive() -> None:
        try:
            await receive_file(call, partial, SIZE, lambda size: None)
        finally:
            closed_after.append(stuck.left.is_set())
            partial.close()

    async def scene() -> None:
        receiving = asyncio.create_task(receive())
        await asyncio.to_thread(stuck.entered.wait, 10)
        assert not receiving.done()
        asyncio.get_running_loop().call_later(0.05, stuck.on.set)

    asyncio.run(scene())
    assert closed_after == [True]


def test_file_that_nobody_waits_for_any_more_is_not_kept_from_the_next(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Partial(root, entry())
    first.write(blocks_of(os.urandom(SIZE))[:2])
    first.close()
    stuck = Stuck(monkeypatch, "pread")

    async def scene() -> None:
        await stuck.outlast(asyncio.create_task(begun(root, entry())))
        (await begun(root, entry())).close()

    asyncio.run(scene())


def test_zeros_stay_holes(root: Root, tmp_path: Path) -> None:
    size = 64 * BLOCK_BYTES
    leaves = [zeros_leaf(BLOCK_BYTES)] * 64
    partial = Partial(root, entry("sparse", size))
    partial.write([(each, b"") for each in leaves])
    partial.finish(root_of(size, b"".join(leaves)))
    partial.close()
    status = (tmp_path / "root/sparse").stat()
    assert status.st_size == size
    assert status.st_blocks * 512 < size // 8


def test_zeros_are_not_hashed_again(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their 32 bytes took 80 us each, of a sparse TB eleven minutes."""
    monkeypatch.setattr("rawproto.apps.files.partial.leaf", lambda block: b"not to be called")
    partial = Partial(root, entry(size=10 * BLOCK_BYTES))
    partial.write([(zeros_leaf(BLOCK_BYTES), b"")] * 10)
    assert len(partial.leaves) == 10 * LEAF_BYTES
    partial.close()


def test_two_makers_do_not_mix(root: Root) -> None:
    first = Partial(root, entry())
    with pytest.raises(OSError, match="already"):
        Partial(root, entry())
    first.close()
    Partial(root, entry()).close()


def test_directory_is_not_replaced_by_a_file(root: Root, tmp_path: Path) -> None:
    (tmp_path / "root/a/b/file").mkdir(parents=True)
    with pytest.raises(OSError, match="a directory of that name"):
        Partial(root, entry())


def test_old_file_lends_its_blocks(root: Root, tmp_path: Path) -> None:
    old = os.urandom(SIZE)
    (tmp_path / "root/f").write_bytes(old)
    new = old[: 2 * BLOCK_BYTES] + os.urandom(BLOCK_BYTES) + old[3 * BLOCK_BYTES :]
    partial = Partial(root, entry("f"), old=True)
    assert bytes(partial.leaves) == b"".join(each for each, _ in blocks_of(old)[:3])
    partial.keep(2)
    partial.write(blocks_of(new)[2:])
    partial.finish(hash_of(new))
    partial.close()
    assert (tmp_path / "root/f").read_bytes() == new


def test_old_file_lends_blocks_behind_one_that_differs(root: Root, tmp_path: Path) -> None:
    old = os.urandom(6 * BLOCK_BYTES)
    (tmp_path / "root/f").write_bytes(old)
    new = bytearray(old)
    new[BLOCK_BYTES] ^= 1
    new[4 * BLOCK_BYTES : 5 * BLOCK_BYTES] = bytes(BLOCK_BYTES)
    blocks = blocks_of(bytes(new))
    first = Partial(root, entry("f", len(new)), old=True)
    assert (len(first.leaves), first.lent_from) == (6 * LEAF_BYTES, 0)
    first.keep(1)
    first.write([blocks[1], (blocks[2][0], b"")])
    first.close()
    second = Partial(root, entry("f", len(new)), old=True)
    assert (len(second.leaves), second.lent_from) == (6 * LEAF_BYTES, 3), "what stood, and the rest"
    second.keep(4)
    second.write([(its_leaf, b"") for its_leaf, _ in blocks[4:]])
    second.finish(hash_of(bytes(new)))
    second.close()
    assert (tmp_path / "root/f").read_bytes() == new
    assert (tmp_path / "root/f").stat().st_blocks * 512 < 6 * BLOCK_BYTES, "a hole is one"


def test_old_file_that_changes_while_it_lends_is_told(root: Root, tmp_path: Path) -> None:
    old = os.urandom(4 * BLOCK_BYTES)
    (tmp_path / "root/f").write_bytes(old)
    partial = Partial(root, entry("f", len(old)), old=True)
    with (tmp_path / "root/f").open("r+b") as file:
        file.write(b"other")
    with pytest.raises(DamagedError, match="while it was replaced"):
        partial.keep(4)
    partial.close()
    assert os.listdir(tmp_path / "root") == ["f"]


def test_nothing_unknown_shows_where_a_hole_is_to_be(root: Root, tmp_path: Path) -> None:
    """A process was killed before it wrote down what it had written."""
    data = os.urandom(BLOCK_BYTES) + bytes(BLOCK_BYTES) + os.urandom(BLOCK_BYTES)
    (tmp_path / "root" / part_path("f")).write_bytes(b"x" * len(data))
    partial = Partial(root, entry("f", len(data)))
    blocks = blocks_of(data)
    partial.finish(hash_of(data), [blocks[0], (blocks[1][0], b""), blocks[2]])
    partial.close()
    assert (tmp_path / "root/f").read_bytes() == data


def test_file_of_few_blocks_has_no_list_of_them(root: Root, tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    partial = Partial(root, entry("f"))
    partial.finish(hash_of(data), blocks_of(data))
    assert os.listdir(tmp_path / "root") == ["f"]
    partial.close()


def test_last_blocks_stand_where_the_file_cannot_get_its_name(root: Root, tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    partial = Partial(root, entry("f"))
    (tmp_path / "root/f").mkdir()
    with pytest.raises(IsADirectoryError):
        partial.finish(hash_of(data), blocks_of(data))
    partial.close()
    (tmp_path / "root/f").rmdir()
    again = Partial(root, entry("f"))
    assert len(again.leaves) == SIZE // BLOCK_BYTES * LEAF_BYTES
    again.close()


def opened(path: Path, memory: Path | None = None) -> Source:
    return Source(os.open(path, os.O_RDONLY), path.name, memory)


def test_source_tells_blocks_and_the_hash_of_all(tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    (tmp_path / "f").write_bytes(data)
    source = opened(tmp_path / "f")
    assert source.blocks(0, 2) + source.blocks(2, 100) == blocks_of(data)
    assert source.root == hash_of(data)
    source.check()
    source.close()


def test_source_reads_no_holes(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.seek(5 * BLOCK_BYTES)
        file.write(b"end")
    source = opened(tmp_path / "f")
    assert [data for _, data in source.blocks(0, 10)] == [b""] * 5 + [b"end"]
    assert source.root == hash_of((tmp_path / "f").read_bytes())
    source.close()


def test_file_that_changes_while_it_is_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(os.urandom(SIZE))
    source = opened(tmp_path / "f")
    source.blocks(0, 1)
    os.truncate(tmp_path / "f", BLOCK_BYTES + 5)
    with pytest.raises(ChangedError):
        source.blocks(1, 5)
    with pytest.raises(ChangedError):
        source.check()
    source.close()


def test_hashes_of_a_large_file_are_known_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(70 * BLOCK_BYTES)
    (tmp_path / "f").write_bytes(data)
    first = opened(tmp_path / "f", tmp_path / "memory")
    first.blocks(0, 66)
    first.keep()
    first.close()
    monkeypatch.setattr("rawproto.apps.files.source.read_block", None)  # reading would fail
    second = opened(tmp_path / "f", tmp_path / "memory")
    theirs = b"".join(each for each, _ in blocks_of(data)[:66])
    assert second.common(theirs) == 66
    second.close()
    monkeypatch.undo()
    (tmp_path / "f").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    third = opened(tmp_path / "f", tmp_path / "memory")
    assert third.common(theirs) == 0, "it is another file by now"
    third.close()
