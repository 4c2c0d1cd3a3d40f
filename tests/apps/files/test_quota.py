"""Room on the server's disk: quotas, and a disk that is full."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.blocks import BLOCK_BYTES, leaf, root_of
from rawproto.apps.files.client import FileClient
from rawproto.apps.files.faults import FileError, QuotaError
from rawproto.apps.files.plan import Progress
from rawproto.apps.files.service import FileService
from rawproto.rpc import RPCError, RPCPeer
from tests.apps.files.place import Place, place

__all__ = ["place"]

BLOCK = 4096


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


def test_quota_counts_what_is_there_and_what_comes(place: Place) -> None:
    (place.served / "there").write_bytes(bytes(5000))
    (place.here / "large").write_bytes(os.urandom(100_000))
    (place.here / "small").write_bytes(os.urandom(900))
    progress = place.put("large", "large", quota_bytes=50_000)
    assert progress.faults == ["large: 100000 bytes, and the quota has 41808 left"]
    assert place.put("small", "small", quota_bytes=3 * BLOCK).faults == []
    assert place.put("small", "there", quota_bytes=3 * BLOCK).faults == [], "a larger's place"
    assert sorted(os.listdir(place.served)) == ["small", "there"]


@pytest.mark.parametrize(
    "entry",
    [
        ["a/b", "directory", 0, 0o755, 0, ""],
        ["b", "link", 0, 0o777, 0, "x" * 4000],
        ["b", "file", 0, 0o644, 0, ""],
        ["a/b/c", "file", 0, 0o644, 0, ""],
    ],
)
def test_quota_counts_what_has_no_bytes(place: Place, entry: list[Any]) -> None:
    """There would be no end of it: each takes a block of the disk."""

    async def work(client: FileClient, peer: RPCPeer) -> None:
        async with peer.open("put_pack", {"path": ""}) as call:
            for number in range(200):
                entries = [[f"{number}{entry[0]}", *entry[1:]]]
                await call.send({"entries": entries, "leaf": leaf(b"").hex()})
                await call.send(b"")
            await call.end()
            await call.result()

    with pytest.raises(QuotaError):
        place.run(work, quota_bytes=100 * BLOCK)
    assert len([*place.served.rglob("*")]) in range(98, 101)


def test_quota_outlives_two_who_put_the_same_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stranger(service: FileService, path: str, key: bytes) -> None:
        """Takes nothing over, as whoever is not the same."""

    monkeypatch.setattr(FileService, "_take_over", stranger)

    async def work(client: FileClient, peer: RPCPeer) -> None:
        entry = ["f", "file", 10, 0o644, 0, ""]
        async with peer.open("put", {"entry": entry}) as first:
            assert await first.receive() == {"have": 0, "lent": 0}
            with pytest.raises(FileError, match="already"):
                await peer.call("put", {"entry": entry})
            await first.send({"from": 0})
            await first.send(leaf(b"0" * 10) + b"0" * 10)
            await first.send({"root": root_of(10, leaf(b"0" * 10)).hex()})
            await first.result()

    place.run(work, quota_bytes=10 * BLOCK)
    assert (place.served / "f").read_bytes() == b"0" * 10


def test_quota_is_given_back_by_nothing_that_stays(place: Place) -> None:
    """Directories and pipes in the place of a file, that never take it."""
    (place.served / "there").write_bytes(bytes(BLOCK))

    async def work(client: FileClient, peer: RPCPeer) -> None:
        for kind in ("directory", "other"):
            async with peer.open("put_pack", {"path": ""}) as call:
                entries = [["there", kind, 0, 0o755, 0, ""]]
                await call.send({"entries": entries, "leaf": leaf(b"").hex()})
                await call.send(b"")
                await call.end()
                await call.result()
        with pytest.raises(QuotaError, match="has 0 left"):
            await peer.call("put", {"entry": ["more", "file", 1, 0o644, 0, ""]})

    place.run(work, quota_bytes=BLOCK)


def test_quota_counts_what_was_broken_off_until_it_is_whole(place: Place) -> None:
    content = os.urandom(4 * BLOCK_BYTES)
    (place.here / "big").write_bytes(content)

    async def work(client: FileClient, peer: RPCPeer) -> None:
        async with peer.open("put", {"entry": ["big", "file", len(content), 0, 0, ""]}) as call:
            assert await call.receive() == {"have": 0, "lent": 0}
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

    place.run(work, quota_bytes=BLOCK)
