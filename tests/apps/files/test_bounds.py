"""What one connection may hold of a file server, and a server of its client, whatever they send."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from rawproto.apps.files.blocks import leaf
from rawproto.apps.files.client import FileClient
from rawproto.apps.files.faults import FileError
from rawproto.rpc import BadRequestError, Call, RPCPeer
from tests.apps.files.place import Place, place

__all__ = ["place"]


async def ask(peer: RPCPeer, method: str, params: Any, count: int) -> list[asyncio.Task[None]]:
    """Begins so many calls, of which nobody reads the answers, or sends what they wait for."""

    async def one(number: int) -> None:
        async with peer.open(method, params(number), timeout_s=60):
            await asyncio.sleep(60)

    calls = [asyncio.create_task(one(number)) for number in range(count)]
    await asyncio.sleep(0.7)
    return calls


async def give_up(calls: list[asyncio.Task[None]]) -> None:
    for each in calls:
        each.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


def test_files_of_a_connection_that_nobody_sends_are_few(place: Place) -> None:
    """Each holds descriptors, of which there are 1,024 by default, for all."""

    async def work(client: FileClient, peer: RPCPeer) -> None:
        before = len(os.listdir("/proc/self/fd"))
        calls = await ask(
            peer, "put", lambda number: {"entry": [f"{number}", "file", 10**9, 0, 0, ""]}, 60
        )
        assert len(os.listdir("/proc/self/fd")) - before <= 40
        await give_up(calls)
        entry = ["after", "file", 0, 0o644, 0, ""]
        async with peer.open("put", {"entry": entry}) as call:
            assert await call.receive() == {"have": 0, "lent": 0}

    place.run(work)


def test_listings_of_a_connection_that_nobody_reads_are_few(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds the names of a directory, 90 bytes a name."""
    for number in range(50):
        (place.served / f"{number}").touch()
    begun: list[str] = []
    list_names = os.listdir

    def listed(directory: Any) -> list[str]:
        begun.append("")
        return [name * 100 for name in list_names(directory) for _ in range(1000)]

    monkeypatch.setattr("rawproto.apps.files.entries.os.listdir", listed)
    monkeypatch.setattr(
        "rawproto.apps.files.entries.os.stat", lambda *_, **__: os.lstat(place.served / "1")
    )

    async def work(client: FileClient, peer: RPCPeer) -> None:
        calls = await ask(peer, "list", lambda number: {"path": ""}, 20)
        assert len(begun) <= 2
        await give_up(calls)

    place.run(work)


def test_names_asked_for_in_one_pack_are_bounded(place: Place) -> None:
    async def work(client: FileClient, peer: RPCPeer) -> None:
        with pytest.raises(BadRequestError, match="names"):
            await peer.call("get_pack", {"path": "", "names": [""] * 60_000})

    place.run(work)


@pytest.mark.parametrize("method", ["get_pack", "put_pack", "list", "remove"])
def test_path_longer_than_any_is_refused_before_it_is_said_of_each_name(
    place: Place, method: str
) -> None:
    """Of 100 KB each of 1,000 names made as much again, and a line in the log."""

    async def work(client: FileClient, peer: RPCPeer) -> None:
        with pytest.raises(FileError, match="file name too long"):
            await peer.call(method, {"path": "x" * 100_000, "names": [""] * 1000})

    place.run(work)


async def bad(call: Call, count: int) -> None:
    for _ in range(count):
        entries = [["x", "other", 0, 0, 0, ""]] * 1000
        await call.send({"entries": entries, "leaf": leaf(b"").hex()})
        await call.send(b"")


def test_client_that_sends_for_ever_what_cannot_be_made_is_stopped(place: Place) -> None:
    async def work(client: FileClient, peer: RPCPeer) -> None:
        async with peer.open("put_pack", {"path": ""}) as call:
            with pytest.raises(FileError, match="more than 1,024"):
                await bad(call, 1 << 40)

    place.run(work)


def test_listing_of_many_large_files_is_no_task_for_each(place: Place) -> None:
    """A million would be two gigabytes."""
    tasks: list[int] = []

    async def told(params: Any, call: Call) -> None:
        await call.send([["", "directory", 0, 0o755, 0, ""]])
        for some in range(10):
            await call.send([[f"{some}-{n}", "file", 1 << 30, 0o644, 0, ""] for n in range(300)])

    async def get(params: Any, call: Call) -> None:
        tasks.append(len(asyncio.all_tasks()))
        raise FileError("no")

    place.methods = {"list": told, "get": get}
    assert place.get("dir", "got").faults.count("no") == 3000
    assert max(tasks) < 100


def test_server_that_sends_for_ever_what_nobody_asked_for_is_left(place: Place) -> None:
    async def told(params: Any, call: Call) -> None:
        await call.send([["", "directory", 0, 0o755, 0, ""], ["f", "file", 1, 0o644, 0, ""]])

    async def pack(params: Any, call: Call) -> Any:
        await bad(call, 1 << 40)

    place.methods = {"list": told, "get_pack": pack}
    assert any("more than 1,024" in each for each in place.get("dir", "got").faults)


@pytest.mark.parametrize("way", ["put", "get"])
def test_many_faults_in_long_paths_are_told_as_far_as_there_is_room(
    place: Place, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were more than a message has room for, and that was all that was told of any."""
    deep = "д" * 100 + "/" + "е" * 100
    top = (place.here if way == "put" else place.served) / deep
    top.mkdir(parents=True)
    for number in range(700):
        (top / f"{number}").touch()
    (top / "last").touch()

    def refuse(*arguments: Any, **options: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("rawproto.apps.files.packs._read", refuse)
    monkeypatch.setattr("rawproto.apps.files.packs._make_file", refuse)
    progress = (place.put if way == "put" else place.get)(deep, deep)
    assert f"{deep}/1: permission denied" in progress.faults
    assert progress.done_files == 0
    if way == "get":
        assert "more like these" in progress.faults[-1]
