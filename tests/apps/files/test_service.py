"""Files over loopback: whatever is in a directory crosses, breaks are gone on with, doors hold."""

from __future__ import annotations

import asyncio
import errno
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rawproto.apps.files.beneath import Parents, Root
from rawproto.apps.files.blocks import BLOCK_BYTES, leaf
from rawproto.apps.files.client import FileClient
from rawproto.apps.files.faults import FileError, ReadOnlyError, VersionError
from rawproto.errors import ConnectionLostError, ProtocolError
from rawproto.rpc import Call, RPCError, RPCPeer
from tests.apps.files.place import Place, place, planted, seen

__all__ = ["place"]


def test_directory_crosses_there_and_back_the_same(place: Place) -> None:
    planted(place.here / "tree")
    put = place.put("tree", "copy")
    assert seen(place.served / "copy") == seen(place.here / "tree")
    assert (place.served / "copy" / "sparse").stat().st_blocks * 512 < 2 * BLOCK_BYTES
    get = place.get("copy", "back")
    assert seen(place.here / "back") == seen(place.here / "tree")
    assert (put.faults, get.faults) == ([], [])
    assert put.done_files == put.total_files == get.done_files == 309
    assert put.done_bytes == put.total_bytes == get.done_bytes


def test_one_file_crosses_by_itself(place: Place) -> None:
    (place.here / "f").write_bytes(b"x" * 10)
    place.put("f", "new/dir/f")
    place.get("new/dir/f", "g")
    assert (place.here / "g").read_bytes() == b"x" * 10


def test_sync_sends_what_differs_and_deletes_what_is_gone(place: Place) -> None:
    planted(place.here / "tree")
    place.put("tree", "copy")
    large = place.here / "tree" / "a" / f"of {3 * BLOCK_BYTES + 5}"
    data = bytearray(large.read_bytes())
    data[2 * BLOCK_BYTES + 7] ^= 1
    large.write_bytes(data)
    (place.here / "tree" / "a" / "deep" / "7").unlink()
    (place.here / "tree" / "new").write_text("new")
    progress = place.put("tree", "copy", sync=True, delete=True)
    assert seen(place.served / "copy") == seen(place.here / "tree")
    assert (progress.done_files, progress.skipped_files, progress.removed) == (2, 307, 1)
    again = place.put("tree", "copy", sync=True, delete=True)
    assert (again.done_files, again.done_bytes, again.removed) == (0, 0, 0)


def test_sync_brings_what_differs_from_there(place: Place) -> None:
    planted(place.served / "tree")
    place.get("tree", "copy")
    (place.here / "copy" / "stray").write_text("not there")
    (place.served / "tree" / "ünïcode ✓").write_text("changed")
    progress = place.get("tree", "copy", sync=True, delete=True)
    assert seen(place.here / "copy") == seen(place.served / "tree")
    assert (progress.done_files, progress.removed) == (1, 1)


@pytest.mark.parametrize("way", ["put", "get"])
def test_sync_sends_no_block_that_is_the_same_behind_one_that_differs(
    place: Place, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = bytearray(os.urandom(20 * BLOCK_BYTES + 9))
    old[7 * BLOCK_BYTES : 8 * BLOCK_BYTES] = bytes(BLOCK_BYTES)
    new = bytearray(old)
    new[2 * BLOCK_BYTES + 5] ^= 1
    new[5 * BLOCK_BYTES : 6 * BLOCK_BYTES] = bytes(BLOCK_BYTES)
    new[7 * BLOCK_BYTES + 5] = 1
    source, target = place.here / "f", place.served / "f"
    if way == "get":
        source, target = target, source
    target.write_bytes(old)
    source.write_bytes(new)
    sent: list[int] = []
    move = Call.send

    async def counted(call: Call, item: Any) -> None:
        if isinstance(item, bytes) and len(item) > 32 and leaf(item[32:]) == item[:32]:
            sent.append(len(item) - 32)
        await move(call, item)

    monkeypatch.setattr(Call, "send", counted)
    progress = (place.put if way == "put" else place.get)("f", "f", sync=True)
    assert target.read_bytes() == new
    zeros = [BLOCK_BYTES]  # which stand where no hole does
    assert sent == [BLOCK_BYTES, *zeros, BLOCK_BYTES, 9]
    assert progress.done_bytes == len(new)


@pytest.mark.parametrize("way", ["put", "get"])
def test_what_was_broken_off_goes_on_where_it_was(
    place: Place, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(80 * BLOCK_BYTES + 9)
    source = (place.here if way == "put" else place.served) / "big"
    source.write_bytes(data)
    target = (place.served if way == "put" else place.here) / "copy"
    sent: list[int] = []
    broke: list[bool] = []
    move = Call.send

    def stood() -> list[Path]:
        return list(target.parent.glob(".rpt-*.leaves"))

    async def counted(call: Call, item: Any) -> None:
        if isinstance(item, bytes) and len(item) > 32 and leaf(item[32:]) == item[:32]:
            sent.append(len(item) - 32)
            if not broke and any(each.stat().st_size >= 10 * 32 for each in stood()):
                broke.append(True)
                call.peer.connection.abort()
        await move(call, item)

    monkeypatch.setattr(Call, "send", counted)
    act = place.put if way == "put" else place.get
    arguments = ("big", "copy")
    with pytest.raises((ConnectionLostError, ProtocolError, RPCError)):
        act(*arguments)
    assert not target.exists()
    before = len(sent)
    progress = act(*arguments)
    assert target.read_bytes() == data
    assert len(sent) - before <= 81 - 10, "some of it was there already"
    assert progress.done_bytes == len(data)
    assert os.listdir(target.parent) in (["copy"], ["big", "copy"], ["copy", "big"])


def test_file_that_cannot_be_read_stops_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(place.here / "tree")

    def refuse(opening: Any) -> Any:
        def refusing(of: Any, path: str, **options: Any) -> int:
            if path.endswith(("deep/7", "sparse")):
                raise OSError(errno.EACCES, "Permission denied", path)
            fd: int = opening(of, path, **options)
            return fd

        return refusing

    monkeypatch.setattr(Root, "open_file", refuse(Root.open_file))
    monkeypatch.setattr(Parents, "open_path", refuse(Parents.open_path))
    progress = place.put("tree", "copy")
    assert sorted(progress.faults) == [
        "tree/a/deep/7: permission denied",
        "tree/sparse: permission denied",
    ]
    assert len(seen(place.served / "copy")) == len(seen(place.here / "tree")) - 2
    assert progress.done_files == progress.total_files - 2


def test_devices_and_pipes_are_named_and_left_out(place: Place) -> None:
    (place.here / "tree").mkdir()
    os.mkfifo(place.here / "tree" / "pipe")
    (place.here / "tree" / "f").write_text("f")
    progress = place.put("tree", "copy")
    assert progress.faults == ["pipe: neither file nor directory nor link"]
    assert os.listdir(place.served / "copy") == ["f"]


def test_readers_change_nothing(place: Place) -> None:
    (place.here / "f").write_text("f")
    (place.served / "there").write_text("there")

    async def work(client: FileClient, peer: RPCPeer) -> None:
        with pytest.raises(ReadOnlyError):
            await client.remove("there")
        for method in ("put", "put_pack"):
            with pytest.raises(ReadOnlyError):
                await peer.call(method, {"path": "", "entry": ["x", "file", 0, 0, 0, ""]})

    place.run(work, writable=False)
    assert os.listdir(place.served) == ["there"]


@pytest.mark.parametrize("way", ["put", "get", "rm"])
def test_other_version_is_told_whatever_is_wanted_of_it(place: Place, way: str) -> None:
    planted(place.here)
    (place.served / "there").touch()

    async def hello(params: Any, call: Call) -> Any:
        return {"version": 2}

    async def remove(client: FileClient, peer: RPCPeer) -> None:
        await client.remove("there")

    place.methods = {"hello": hello}
    act = partial(place.run, remove) if way == "rm" else partial(place._move, way, "", "", {})
    with pytest.raises(VersionError, match="version 2 of files, and we 1"):
        act()
    assert os.listdir(place.served) == ["there"]


def test_files_come_while_the_listing_still_goes_on(place: Place) -> None:
    packs: list[list[str]] = []
    asked = asyncio.Event()

    async def told(params: Any, call: Call) -> None:
        await call.send([["", "directory", 0, 0o755, 0, ""], ["a", "file", 1, 0o644, 0, ""]])
        await asked.wait()
        await call.send([["b", "file", 1, 0o644, 0, ""]])

    async def pack(params: Any, call: Call) -> Any:
        packs.append(params["names"])
        asked.set()
        return []

    place.methods = {"list": told, "get_pack": pack}
    place.get("dir", "got")
    assert packs == [["", "a"], ["b"]]


def test_long_names_are_listed_in_as_many_messages_as_they_need(place: Place) -> None:
    """A character of most scripts takes six bytes in a message."""
    deep = "д" * 100 + "/" + "е" * 100
    (place.served / deep).mkdir(parents=True)
    for number in range(600):
        (place.served / deep / f"{number}").touch()
    progress = place.get("", "got")
    assert (progress.faults, progress.done_files) == ([], 600)


def test_file_that_went_after_it_was_listed_leaves_nothing(place: Place) -> None:
    async def told(params: Any, call: Call) -> None:
        await call.send([["", "file", 10**6, 0o644, 0, ""]])

    place.methods = {"list": told}
    progress = place.get("gone", "gone")
    assert progress.faults == ["gone: no such file or directory"]
    assert os.listdir(place.here) == []


def test_file_that_shrank_after_it_was_listed_arrives_as_it_is_now(place: Place) -> None:
    (place.served / "file").write_bytes(b"less")

    async def told(params: Any, call: Call) -> None:
        await call.send([["", "file", 10**6, 0o644, 0, ""]])

    place.methods = {"list": told}
    assert place.get("file", "file").faults == []
    assert (place.here / "file").read_bytes() == b"less"


@pytest.mark.parametrize("way", ["put", "get"])
def test_what_cannot_be_read_is_told_and_nothing_is_deleted(
    place: Place, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = place.here / "tree", place.served / "copy"
    if way == "get":
        source, target = place.served / "tree", place.here / "copy"
    for top in (source, target):
        (top / "closed").mkdir(parents=True)
        (top / "closed" / "f").write_text("f")
    (target / "stray").write_text("stray")
    opened = Root.open_directory

    def refusing(root: Root, path: str) -> int:
        if path == "tree/closed":
            raise OSError(errno.EACCES, "Permission denied", path)
        return opened(root, path)

    monkeypatch.setattr(Root, "open_directory", refusing)
    progress = (place.put if way == "put" else place.get)("tree", "copy", sync=True, delete=True)
    assert sorted(os.listdir(target)) == ["closed", "stray"]
    assert (target / "closed" / "f").exists()
    assert progress.faults == [
        "nothing was deleted, as not all could be read",
        "closed: permission denied",
    ]


@pytest.mark.parametrize("where", ["copy/a", "copy/a/f"])
def test_what_cannot_be_looked_at_is_told_and_not_deleted(
    place: Place, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that may be read and not searched, or for which no descriptor was left: what was
    in it was left out, without a word, and --delete removed it."""
    for top in (place.served / "copy", place.here / "tree"):
        (top / "a" / "b").mkdir(parents=True)
        (top / "a" / "f").write_text("f")
    opened: list[str] = []
    look, open_directory = os.stat, Root.open_directory

    def refusing(name: Any, **options: Any) -> os.stat_result:
        if name == "f" and where.endswith("f"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return look(name, **options)

    def lacking(root: Root, path: str) -> int:
        opened.append(path)
        if path == where and opened.count(path) == 3:  # read, looked at, looked at again
            raise OSError(errno.EMFILE, "Too many open files", path)
        return open_directory(root, path)

    monkeypatch.setattr("rawproto.apps.files.entries.os.stat", refusing)
    monkeypatch.setattr(Root, "open_directory", lacking)
    progress = place.get("copy", "tree", sync=True, delete=True)
    assert len(progress.faults) == 2
    assert progress.faults[0] == "nothing was deleted, as not all could be read"
    assert (place.here / "tree" / "a" / "f").exists()


@pytest.mark.parametrize("way", ["put", "get"])
def test_directory_in_the_place_of_a_file_is_told(place: Place, way: str) -> None:
    source, target = place.here / "tree", place.served / "tree"
    if way == "get":
        source, target = target, source
    (source / "empty").mkdir(parents=True)
    target.mkdir()
    (target / "empty").write_text("a file")
    progress = (place.put if way == "put" else place.get)("tree", "tree")
    assert [each.rpartition("/")[2] for each in progress.faults] == ["empty: not a directory"]
    assert (target / "empty").read_text() == "a file"


@pytest.mark.parametrize("way", ["put", "get"])
def test_file_in_the_place_of_a_directory_deletes_nothing(place: Place, way: str) -> None:
    source, target = place.here / "one", place.served / "two"
    if way == "get":
        source, target = place.served / "one", place.here / "two"
    source.write_text("file")
    target.mkdir()
    (target / "precious").write_text("precious")
    progress = (place.put if way == "put" else place.get)("one", "two", sync=True, delete=True)
    assert progress.faults == ["two: there is a directory of that name"]
    assert os.listdir(target) == ["precious"]


def test_sync_carries_permissions_that_changed(place: Place) -> None:
    (place.here / "tree").mkdir()
    (place.here / "tree" / "script").write_text("#!")
    place.put("tree", "copy")
    (place.here / "tree" / "script").chmod(0o755)
    place.put("tree", "copy", sync=True)
    assert (place.served / "copy" / "script").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("way", ["put", "get"])
def test_sync_makes_way_for_what_is_another_kind_of_thing(place: Place, way: str) -> None:
    """What was to come into a directory came into what a link of its name led to."""
    source, target = place.here / "tree", place.served / "copy"
    if way == "get":
        source, target = place.served / "tree", place.here / "copy"
    for name in ("was a link", "was a file", "e"):
        (source / name).mkdir(parents=True)
        (source / name / "x").write_text(name)
    (source / "was a directory").write_text("is a file")
    (target / "e").mkdir(parents=True)
    (target / "was a link").symlink_to("e")
    (target / "was a file").touch()
    (target / "was a directory" / "in it").mkdir(parents=True)
    move = partial(place.put if way == "put" else place.get, "tree", "copy")
    act = partial(move, sync=True)
    move(again=True)
    assert (target / "was a link").is_symlink(), "only sync removes"
    (target / "e" / "x").unlink()
    where = "copy/" if way == "put" else ""
    assert act().faults == [f"{where}was a directory: is a directory"]
    assert (target / "was a link" / "x").read_text() == "was a link"
    assert (target / "was a directory" / "in it").exists(), "nothing was to be deleted"
    assert act(delete=True).faults == []
    assert seen(target) == seen(source)


@pytest.mark.parametrize("way", ["put", "get"])
def test_what_cannot_be_deleted_stops_nothing(
    place: Place, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = place.here / "tree", place.served / "copy"
    if way == "get":
        source, target = place.served / "tree", place.here / "copy"
    (source).mkdir()
    (source / "f").write_text("f")
    for name in ("a", "b"):
        (target / name).mkdir(parents=True)
    remove = Root.remove

    def refusing(root: Root, path: str, **options: Any) -> int:
        if path.endswith("a"):
            raise OSError(errno.EACCES, "Permission denied", path)
        return remove(root, path, **options)

    monkeypatch.setattr(Root, "remove", refusing)
    progress = (place.put if way == "put" else place.get)("tree", "copy", sync=True, delete=True)
    assert [each.rpartition("/")[2] for each in progress.faults] == ["a: permission denied"]
    assert sorted(os.listdir(target)) == ["a", "f"]
    assert progress.removed == 1


def test_nonsense_for_how_many_were_removed_is_told(place: Place) -> None:
    async def remove(params: Any, call: Call) -> Any:
        return "\x1b[2J"

    place.methods = {"remove": remove}
    (place.here / "tree").mkdir()
    (place.served / "copy" / "stray").mkdir(parents=True)
    progress = place.put("tree", "copy", sync=True, delete=True)
    assert progress.faults == ["copy/stray: the server told nonsense"]


def test_who_sends_a_file_twice_at_once_is_told_at_the_first(place: Place) -> None:
    """Whose connection may be dead; if it is not, it goes on with what else there is."""

    async def work(client: FileClient, peer: RPCPeer) -> None:
        params = {"entry": ["f", "file", 10**6, 0o644, 0, ""]}
        async with peer.open("put", params) as first:
            await first.receive()
            async with peer.open("put", params) as second:
                assert await second.receive() == {"have": 0, "lent": 0}
                with pytest.raises(FileError, match="f: you are sending it anew"):
                    await first.result()

    place.run(work)
