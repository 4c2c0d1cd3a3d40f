"""Files over loopback: whatever is in a directory crosses, breaks are gone on with, doors hold."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.blocks import BLOCK_BYTES, leaf
from rawproto.apps.files.client import FileClient, Progress
from rawproto.apps.files.faults import (
    ERRORS,
    FileError,
    QuotaError,
    ReadOnlyError,
    VersionError,
)
from rawproto.apps.files.service import FileService
from rawproto.apps.files.transfer import PACKED_BYTES
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.errors import ConnectionLostError, ProtocolError
from rawproto.rpc import BadRequestError, Call, Method, RPCError, RPCPeer

Work = Callable[[FileClient, RPCPeer], Awaitable[Any]]


class Place:
    """A served directory, and one of the client's."""

    def __init__(self, path: Path) -> None:
        self.served, self.here = path / "served", path / "here"
        self.served.mkdir()
        self.here.mkdir()
        self.memory = path / "memory"
        self.methods: dict[str, Method] = {}

    def run(self, work: Work, **options: Any) -> Any:
        """What a client does with the server."""
        options = {"writable": True, **options}

        async def main() -> Any:
            root = Root(str(self.served))
            service = FileService(root, **options)

            async def handle(connection: RPTConnection) -> None:
                peer = RPCPeer(connection, {**service.methods, **self.methods}, errors=ERRORS)
                await connection.wait_closed()
                await peer.close()

            server = await serve("rpt+udp://127.0.0.1:0", handle)
            try:
                async with asyncio.timeout(30), connect(str(server.address)) as connection:
                    client = FileClient(connection, memory=self.memory)
                    async with client:
                        return await work(client, client._peer)
            finally:
                await server.close()
                root.close()

        return asyncio.run(main())

    def put(self, name: str, path: str, **options: Any) -> Progress:
        return self._move("put", name, path, options)

    def get(self, path: str, name: str, **options: Any) -> Progress:
        return self._move("get", name, path, options)

    def _move(self, way: str, name: str, path: str, options: dict[str, Any]) -> Progress:
        progress = Progress()
        serving = {key: options.pop(key) for key in ("quota_bytes", "writable") if key in options}

        async def work(client: FileClient, peer: RPCPeer) -> None:
            root = Root(str(self.here))
            try:
                if way == "put":
                    await client.put(root, name, path, progress, **options)
                else:
                    await client.get(path, root, name, progress, **options)
            finally:
                root.close()

        self.run(work, **serving)
        return progress


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def planted(top: Path) -> None:
    """A directory of everything."""
    (top / "a" / "deep" / "er").mkdir(parents=True)
    (top / "empty directory").mkdir()
    (top / "empty").touch()
    for size in (1, PACKED_BYTES, PACKED_BYTES + 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 5):
        (top / "a" / f"of {size}").write_bytes(os.urandom(size))
    for number in range(300):
        (top / "a" / "deep" / f"{number}").write_text(f"{number}" * 50)
    (top / "a" / "link").symlink_to("../nowhere at all")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\xfe name")).write_text("bytes")
    (top / "ünïcode ✓").write_text("text")
    with (top / "sparse").open("wb") as file:
        file.seek(20 * BLOCK_BYTES)
        file.write(b"end")
    (top / "a" / "of 1").chmod(0o401)
    (top / "a" / "deep").chmod(0o705)
    for number, path in enumerate([*top.rglob("*"), top]):
        os.utime(path, ns=(0, 10**18 + number), follow_symlinks=False)


def seen(top: Path) -> dict[str, Any]:
    """All that is to be the same."""
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else None
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes().hex()
        found[str(path.relative_to(top))] = (status.st_mode, status.st_mtime_ns, content)
    return found


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
    opened = Root.open_file

    def refusing(root: Root, path: str) -> int:
        if path.endswith(("deep/7", "sparse")):
            raise OSError(errno.EACCES, "Permission denied", path)
        return opened(root, path)

    monkeypatch.setattr(Root, "open_file", refusing)
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


def test_full_disk_is_told_and_leaves_no_half_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.here / "big").write_bytes(os.urandom(5 * BLOCK_BYTES))
    (place.here / "small").write_bytes(b"small")
    write = os.pwrite

    def full(fd: int, data: Any, at: int) -> int:
        if at >= 3 * BLOCK_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    progress = place.put("big", "big")
    assert progress.faults == ["big: no space left on device"]
    assert not (place.served / "big").exists()
    monkeypatch.undo()
    assert place.put("big", "big").faults == []
    assert (place.served / "big").read_bytes() == (place.here / "big").read_bytes()


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


def test_quota_counts_what_is_there_and_what_comes(place: Place) -> None:
    (place.served / "there").write_bytes(bytes(1000))
    (place.here / "large").write_bytes(os.urandom(100_000))
    (place.here / "small").write_bytes(os.urandom(900))
    progress = place.put("large", "large", quota_bytes=50_000)
    assert progress.faults == ["large: 100000 bytes, and the quota has 49000 left"]
    assert place.put("small", "small", quota_bytes=2000).faults == []
    assert place.put("small", "there", quota_bytes=1900).faults == [], "it takes a larger's place"
    assert sorted(os.listdir(place.served)) == ["small", "there"]


OUTSIDE = ["..", "../x", "out", "out/x", "/../x", "a/../../x", "\ud800", "x\0y"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_method_leads_out(place: Place, path: str, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("secret")
    (tmp_path / "x").write_text("secret")
    (place.served / "out").symlink_to(tmp_path / "outside")
    calls: list[tuple[str, Any]] = [
        ("list", {"path": path}),
        ("get", {"path": path}),
        ("put", {"entry": [f"{path}/new", "file", 1, 0o644, 0, ""]}),
        ("remove", {"path": f"{path}/x", "recursive": True}),
    ]

    async def work(client: FileClient, peer: RPCPeer) -> None:
        for method, params in calls:
            with pytest.raises((FileError, BadRequestError)):
                await peer.call(method, params)
        async with peer.open("get_pack", {"path": "", "names": [path]}) as call:
            await call.end()
            items = [item async for item in call]
            faults = await call.result()
        if path != "out":  # which is a link, and told as one
            assert items[:1] == [] or items[0]["entries"] == []
            assert faults
        async with peer.open("put_pack", {"path": path}) as call:
            entries = [["new", "file", 1, 0o644, 0, ""]]
            await call.send({"entries": entries, "leaf": leaf(b"!").hex()})
            await call.send(b"!")
            await call.end()
            assert await call.result()

    place.run(work)
    assert sorted(os.listdir(tmp_path / "outside")) == ["x"]
    assert (tmp_path / "x").read_text() == "secret"
    assert not (tmp_path / "new").exists()


async def put_pack(peer: RPCPeer, entries: Any) -> None:
    async with peer.open("put_pack", {"path": ""}) as call:
        await call.send({"entries": entries, "leaf": leaf(b"!").hex()})
        await call.send(b"!")
        await call.result()


@pytest.mark.parametrize(
    "entries",
    [
        None,
        {},
        [1],
        [["a"]],
        [["a", "file", -1, 0, 0, ""]],
        [["a", "file", 1 << 70, 0, 0, ""]],
        [["a", "file", True, 0, 0, ""]],
        [["a", "file", 5, 0, 0, ""]],
        [["a", 5, 5, 0, 0, ""]],
    ],
)
def test_nonsense_is_answered_and_the_connection_goes_on(place: Place, entries: Any) -> None:
    async def work(client: FileClient, peer: RPCPeer) -> Any:
        with pytest.raises(BadRequestError):
            await put_pack(peer, entries)
        return [entry.path async for entry in client.entries("")]

    assert place.run(work) == [""]


@pytest.mark.parametrize("name", [".rpt-0123.part", "a/.rpt-x"])
def test_names_of_files_in_the_making_are_not_for_clients(place: Place, name: str) -> None:
    async def work(client: FileClient, peer: RPCPeer) -> None:
        with pytest.raises(FileError, match="not for clients"):
            await peer.call("put", {"entry": [name, "file", 0, 0o644, 0, ""]})

    place.run(work)


def test_server_cannot_write_outside_what_a_client_asked_for(place: Place, tmp_path: Path) -> None:
    """A server that lies about names."""

    async def lie(params: Any, call: Call) -> Any:
        entries = [[name, "file", 1, 0o644, 0, ""] for name in ("../evil", "other", "f")]
        await call.send({"entries": entries, "leaf": leaf(b"123").hex()})
        await call.send(b"123")
        return []

    async def tell(params: Any, call: Call) -> None:
        await call.send([["", "directory", 0, 0o755, 0, ""], ["f", "file", 1, 0o644, 0, ""]])

    place.methods = {"get_pack": lie, "list": tell}
    progress = place.get("dir", "got")
    assert os.listdir(place.here / "got") == ["f"]
    assert not (tmp_path / "evil").exists()
    assert not (place.here / "evil").exists()
    assert len(progress.faults) == 2


@pytest.mark.parametrize("way", ["put", "get", "rm"])
def test_other_version_is_told_whatever_is_wanted_of_it(place: Place, way: str) -> None:
    planted(place.here)
    (place.served / "there").touch()

    async def hello(params: Any, call: Call) -> Any:
        return {"version": 2}

    async def remove(client: FileClient, peer: RPCPeer) -> None:
        await client.remove("there")

    place.methods = {"hello": hello}
    with pytest.raises(VersionError, match="version 2 of files, and we 1"):
        if way == "rm":
            place.run(remove)
        else:
            place._move(way, "", "", {})
    assert os.listdir(place.served) == ["there"]


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


def lying(*entries: list[Any]) -> Method:
    """A server's `list` that tells these."""

    async def told(params: Any, call: Call) -> None:
        await call.send([["", "directory", 0, 0o755, 0, ""], *entries])

    return told


async def every_name(params: Any, call: Call) -> Any:
    """A server's `get_pack` that has a byte for each name, and has permissions for others."""
    entries = [[name, "file", 1, 0o644, 0, ""] for name in params["names"]]
    await call.send({"entries": entries, "leaf": leaf(b"!" * len(entries)).hex()})
    await call.send(b"!" * len(entries))
    await call.send({"directories": [["../mine", "directory", 0, 0o777, 0, ""]]})
    return []


@pytest.mark.parametrize("name", ["../mine/key", "link/mine/key", "x/../../mine/key"])
def test_server_cannot_write_beside_the_directory_that_it_sends(place: Place, name: str) -> None:
    """By its listing: with `..`, or by a link that it sent at another time."""
    (place.here / "mine").mkdir(mode=0o700)
    (place.here / "mine" / "key").write_text("mine")
    (place.here / "got").mkdir()
    (place.here / "got" / "link").symlink_to("..")
    place.methods = {"list": lying([name, "file", 1, 0o644, 0, ""]), "get_pack": every_name}
    progress = place.get("dir", "got")
    assert (place.here / "mine" / "key").read_text() == "mine"
    assert (place.here / "mine").stat().st_mode & 0o777 == 0o700
    assert progress.faults


def test_listing_without_an_end_is_given_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rawproto.apps.files.client._MOST_ENTRIES", 5000)

    async def endless(params: Any, call: Call) -> None:
        await call.send([["", "directory", 0, 0o755, 0, ""]])
        for count in range(1 << 62):
            await call.send([[f"{count} {each}", "file", 1, 0, 0, ""] for each in range(500)])

    place.methods = {"list": endless}
    with pytest.raises(FileError, match="more than 5,000"):
        place.get("dir", "got")


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
        "closed: permission denied",
        "nothing was deleted, as not all could be read",
    ]


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


def test_quota_is_given_back_by_nothing_that_stays(place: Place) -> None:
    """Directories and pipes in the place of a file, that never take it."""
    (place.served / "there").write_bytes(bytes(1000))

    async def work(client: FileClient, peer: RPCPeer) -> None:
        for kind in ("directory", "other"):
            async with peer.open("put_pack", {"path": ""}) as call:
                entries = [["there/x", "link", 0, 0, 0, "y"], ["there", kind, 0, 0o755, 0, ""]]
                await call.send({"entries": entries, "leaf": leaf(b"").hex()})
                await call.send(b"")
                await call.end()
                assert await call.result()
        with pytest.raises(QuotaError, match="has 0 left"):
            await peer.call("put", {"entry": ["more", "file", 1, 0o644, 0, ""]})

    place.run(work, quota_bytes=1000)


def test_quota_counts_what_was_broken_off_until_it_is_whole(place: Place) -> None:
    content = os.urandom(4 * BLOCK_BYTES)
    (place.here / "big").write_bytes(content)

    async def work(client: FileClient, peer: RPCPeer) -> None:
        async with peer.open("put", {"entry": ["big", "file", len(content), 0, 0, ""]}) as call:
            assert await call.receive() == {"have": 0}
            await call.send({"from": 0})
            for at in range(0, 3 * BLOCK_BYTES, BLOCK_BYTES):
                block = content[at : at + BLOCK_BYTES]
                await call.send(leaf(block) + block)
            await call.send({"root": None})
            with pytest.raises(RPCError):
                await call.result()
        with pytest.raises(QuotaError, match=f"has {2 * BLOCK_BYTES} left"):
            await peer.call("put", {"entry": ["other", "file", len(content), 0, 0, ""]})

    quota = {"quota_bytes": 5 * BLOCK_BYTES}
    place.run(work, **quota)
    assert place.put("big", "big", **quota).faults == []
    assert place.put("big", "big 2", **quota).faults != []


def test_quota_has_room_again_once_something_was_removed(place: Place) -> None:
    (place.here / "f").write_bytes(bytes(900))

    async def work(client: FileClient, peer: RPCPeer) -> None:
        root, progress = Root(str(place.here)), Progress()
        for _ in range(3):
            await client.put(root, "f", "f", progress)
            await client.remove("f")
        root.close()
        assert progress.faults == []

    place.run(work, quota_bytes=1000)
