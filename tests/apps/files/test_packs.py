"""Packs: what is in them is as good as what travels by itself."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from rawproto.apps.files.packs import PACKED_BYTES
from rawproto.rpc import Call, RPCPeer
from tests.apps.files.place import Place, place, seen

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
    for name in ("write", "fsync", "link"):
        real = getattr(os, name)

        def noted(*words: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            done.append(name)
            return real(*words, **options)

        monkeypatch.setattr(os, name, noted)
    place.put("tree", "copy")
    assert done[-2 - synced :] == ["write", *["fsync"] * synced, "link"]


def without_nameless_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS."""
    opening = os.open

    def refusing(path: Any, flags: int, *words: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
        return opening(path, flags, *words, **options)

    monkeypatch.setattr(os, "open", refusing)


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("way", ["put", "get"])
def test_what_had_the_name_is_replaced(
    place: Place, monkeypatch: pytest.MonkeyPatch, way: str, nameless: bool
) -> None:
    source, target = (place.here, place.served)[:: 1 if way == "put" else -1]
    for top in (source / "tree", target / "copy"):
        top.mkdir()
        (top / "file").write_text(str(top))
        (top / "file").chmod(0o604)
    (target / "copy" / "link").symlink_to("file")
    (source / "tree" / "link").write_text("no link any more")
    (source / "tree" / "new").write_text("new")
    (target / "copy" / "taken").mkdir()
    (source / "tree" / "taken").write_text("by a directory")
    if not nameless:
        without_nameless_files(monkeypatch)
    with (target / "copy" / "file").open() as before:
        progress = getattr(place, way)("tree", "copy")
        assert before.read() == str(target / "copy")  # and was not written into
    assert [fault.removeprefix("copy/") for fault in progress.faults] == ["taken: is a directory"]
    (source / "tree" / "taken").unlink()
    (target / "copy" / "taken").rmdir()
    assert seen(target / "copy") == seen(source / "tree")


@pytest.mark.parametrize("nameless", [True, False])
def test_nothing_is_left_of_what_has_no_room(
    place: Place, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    (place.here / "tree").mkdir()
    for name in ("a", "b"):
        (place.here / "tree" / name).write_text(name)
    writing = os.write

    def full(fd: int, data: Any) -> int:
        return 0 if bytes(data) == b"a" else writing(fd, data)

    monkeypatch.setattr(os, "write", full)
    if not nameless:
        without_nameless_files(monkeypatch)
    progress = place.put("tree", "copy")
    assert progress.faults == ["copy/a: no space left on device"]
    assert os.listdir(place.served / "copy") == ["b"]


def test_directory_that_a_link_names_is_fetched(place: Place) -> None:
    """The link is followed where it is asked for; in what is fetched it is a link."""
    (place.served / "tree").mkdir()
    (place.served / "tree" / "f").write_text("f")
    (place.served / "tree" / "link").symlink_to("f")
    (place.served / "name").symlink_to("tree")
    progress = place.get("name", "got")
    assert progress.faults == []
    assert seen(place.here / "got") == seen(place.served / "tree")


@pytest.mark.parametrize("kind", ["link", "pipe", "file"])
def test_what_was_swapped_after_it_was_listed_is_told_as_it_is(
    place: Place, tmp_path: Path, kind: str
) -> None:
    """And neither followed nor waited for."""
    (tmp_path / "secret").write_text("secret")
    (place.served / "tree").mkdir()
    if kind == "link":
        (place.served / "tree" / "f").symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(place.served / "tree" / "f")
    else:
        (place.served / "tree" / "f").write_bytes(bytes(PACKED_BYTES + 1))

    async def list_it(params: Any, call: Call) -> None:
        await call.send([["", "directory", 0, 0o755, 0, ""], ["f", "file", 1, 0o644, 0, ""]])

    place.methods = {"list": list_it}
    progress = place.get("tree", "got")
    made = place.here / "got" / "f"
    if kind == "link":
        assert os.readlink(made) == str(tmp_path / "secret")
    else:
        why = (
            "neither file nor directory nor link" if kind == "pipe" else "it grew while it was sent"
        )
        assert [fault.partition(": ")[2] for fault in progress.faults] == [why]
        assert not made.exists()


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
