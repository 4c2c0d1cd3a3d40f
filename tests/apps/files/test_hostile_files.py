"""Clients and servers of files that want what is not theirs, or talk nonsense."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rawproto.apps.files.blocks import leaf
from rawproto.apps.files.client import FileClient
from rawproto.apps.files.faults import FileError
from rawproto.rpc import BadRequestError, Call, Method, RPCPeer
from tests.apps.files.place import Place, place

__all__ = ["place"]

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


@pytest.mark.parametrize("name", [".", "a/..", "self", "a/../self/."])
def test_root_keeps_its_permissions(place: Place, name: str) -> None:
    (place.served / "a").mkdir()
    (place.served / "self").symlink_to(".")
    before = place.served.stat()

    async def work(client: FileClient, peer: RPCPeer) -> None:
        async with peer.open("put_pack", {"path": ""}) as call:
            await call.send({"directories": [[name, "directory", 0, 0, 0, ""]]})
            await call.end()
            await call.result()

    place.run(work)
    assert place.served.stat() == before


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
        return [entry.path async for some in client.entries("") for entry in some]

    assert place.run(work) == [""]


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
@pytest.mark.parametrize(
    "name", [".rpt-0123.part", "a/.rpt-x", ".rpt-0.leaves/", ".rpt-x/.", ".rpt-x/f", "a/.rpt-x//f"]
)
def test_names_of_files_in_the_making_are_not_for_clients(
    place: Place, name: str, kind: str
) -> None:
    """Nor in the middle of a path: nobody would see what is there, and no quota some of it."""

    async def work(client: FileClient, peer: RPCPeer) -> None:
        if kind == "file":
            with pytest.raises(FileError, match="not for clients"):
                await peer.call("put", {"entry": [name, "file", 0, 0o644, 0, ""]})
        async with peer.open("put_pack", {"path": ""}) as call:
            await call.send({"entries": [[name, kind, 0, 0, 0, "x"]], "leaf": leaf(b"").hex()})
            await call.send(b"")
            await call.end()
            (fault,) = await call.result()
            assert "not for clients" in fault

    place.run(work)
    assert os.listdir(place.served) == []


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


def lying(*entries: list[Any]) -> Method:
    """A server's `list` that tells these."""

    async def told(params: Any, call: Call) -> None:
        await call.send([["", "directory", 0, 0o755, 0, ""], *entries])

    return told


def test_server_that_lists_more_than_the_file_asked_for_is_not_followed(place: Place) -> None:
    async def told(params: Any, call: Call) -> None:
        await call.send([[name, "file", 1, 0o644, 0, ""] for name in ("", "../evil", "more")])

    asked: list[Any] = []

    async def get(params: Any, call: Call) -> None:
        asked.append(params["path"])
        raise FileError("none")

    place.methods = {"list": told, "get": get}
    assert place.get("file", "file", sync=True).faults == ["none"]
    assert asked == ["file"]


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
