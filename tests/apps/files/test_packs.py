"""Packs: what is in them is as good as what travels by itself."""

from __future__ import annotations

import os
from typing import Any

import pytest

from rawproto.apps.files.transfer import PACKED_BYTES
from rawproto.rpc import RPCPeer
from tests.apps.files.place import Place, place

__all__ = ["place"]


@pytest.mark.parametrize("way", ["put", "get"])
def test_files_of_a_block_share_calls(
    place: Place, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = place.here if way == "put" else place.served
    (source / "tree").mkdir()
    for number in range(50):
        (source / "tree" / str(number)).write_bytes(os.urandom(100_000))
    called: list[str] = []
    opening = RPCPeer.open

    def noted(peer: RPCPeer, method: str, *words: Any, **options: Any) -> Any:
        called.append(method)
        return opening(peer, method, *words, **options)

    monkeypatch.setattr(RPCPeer, "open", noted)
    progress = getattr(place, way)("tree", "copy")
    assert (progress.done_files, progress.faults) == (50, [])
    assert len(called) < 10


@pytest.mark.parametrize(("size", "synced"), [(1 << 16, 0), ((1 << 16) + 1, 1), (PACKED_BYTES, 1)])
def test_file_of_more_than_64_kib_is_on_the_disk_before_it_has_its_name(
    place: Place, monkeypatch: pytest.MonkeyPatch, size: int, synced: int
) -> None:
    (place.here / "tree").mkdir()
    (place.here / "tree" / "f").write_bytes(os.urandom(size))
    done: list[str] = []
    for name in ("write", "fsync", "rename"):
        real = getattr(os, name)

        def noted(*words: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            done.append(name)
            return real(*words, **options)

        monkeypatch.setattr(os, name, noted)
    place.put("tree", "copy")
    assert done[-2 - synced :] == ["write", *["fsync"] * synced, "rename"]


def test_zeros_in_a_pack_stay_a_hole(place: Place) -> None:
    (place.here / "tree").mkdir()
    (place.here / "tree" / "f").write_bytes(bytes(PACKED_BYTES))
    place.put("tree", "copy")
    made = place.served / "copy" / "f"
    assert made.read_bytes() == bytes(PACKED_BYTES)
    assert made.stat().st_blocks == 0


def test_files_that_grow_are_left_out_of_a_pack_that_has_no_room(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was small when it was looked at, and is more than a message may have by now."""
    (place.here / "tree").mkdir()
    for name in "abc":
        (place.here / "tree" / name).write_bytes(b"small")
    reading = os.read

    def grown(fd: int, size: int) -> bytes:
        found = reading(fd, size)
        return b"x" * 100_000 if found == b"small" else found

    monkeypatch.setattr(os, "read", grown)
    progress = place.put("tree", "copy")
    assert progress.faults == ["tree/c: it grew while it was sent"]
    assert sorted(os.listdir(place.served / "copy")) == ["a", "b"]
