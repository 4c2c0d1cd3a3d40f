"""Several processes that serve one directory, and what is noted of each file that crossed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.client import FileClient
from rawproto.apps.files.faults import ERRORS
from rawproto.apps.files.plan import Progress
from rawproto.apps.files.service import Crossing, FileService
from rawproto.apps.siblings import Siblings
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.rpc import Call, RPCPeer

SIZE = 300_000
OURS, OTHER = bytes(31) + b"1", bytes(31) + b"2"


@asynccontextmanager
async def serving(served: Path, noted: list[Crossing], count: int = 2) -> AsyncIterator[list[str]]:
    """The addresses of as many services as there would be processes, over one directory."""
    family, servers, services = Siblings(count), [], []
    for number in range(count):
        root = Root(str(served))
        service = FileService(root, writable=True, siblings=family, note=noted.append)

        async def handle(connection: RPTConnection, service: FileService = service) -> None:
            peer = RPCPeer(connection, service.methods, errors=ERRORS)
            await connection.wait_closed()
            await peer.close()

        await service.begin(number)
        services.append((service, root))
        servers.append(await serve("rpt+udp://127.0.0.1:0", handle))
    try:
        async with asyncio.timeout(20):
            yield [str(server.address) for server in servers]
    finally:
        for server, (service, root) in zip(servers, services, strict=True):
            await server.close()
            await service.end()
            root.close()
        family.close()


@asynccontextmanager
async def client_of(address: str, key: bytes) -> AsyncIterator[FileClient]:
    async with connect(address, static=key) as connection, FileClient(connection) as client:
        yield client


@asynccontextmanager
async def making(client: FileClient, path: str) -> AsyncIterator[Call]:
    """A call that is to send a file, and never does."""
    entry = [path, "file", SIZE, 0o644, 0, ""]
    async with client._peer.open("put", {"entry": entry, "old": False}) as call:
        assert await anext(call) == {"have": 0, "lent": 0}
        yield call


def put(client: FileClient, here: Path, name: str, progress: Progress) -> Any:
    return client.put(Root(str(here)), name, name, progress)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("served", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "file").write_bytes(os.urandom(SIZE))
    return tmp_path / "served", tmp_path / "here"


def test_who_comes_back_to_another_process_takes_over_from_himself(
    places: tuple[Path, Path],
) -> None:
    served, here = places
    noted: list[Crossing] = []

    async def scene() -> None:
        async with (
            serving(served, noted) as (first, second),
            client_of(first, OURS) as before,
            making(before, "file"),
            client_of(second, OURS) as again,
        ):
            progress = Progress()
            await put(again, here, "file", progress)
            assert progress.faults == []
            assert (served / "file").read_bytes() == (here / "file").read_bytes()

    asyncio.run(scene())
    assert [(each.way, each.path, each.error) for each in noted] == [
        ("put", "file", "given up"),
        ("put", "file", None),
    ]


def test_who_is_somebody_else_fails_while_the_first_is_at_it(places: tuple[Path, Path]) -> None:
    served, here = places
    noted: list[Crossing] = []

    async def scene() -> None:
        async with (
            serving(served, noted) as (first, second),
            client_of(first, OURS) as ours,
            making(ours, "file"),
            client_of(second, OTHER) as other,
        ):
            progress = Progress()
            await put(other, here, "file", progress)
            assert progress.faults == ["file: somebody is sending it already"]
            assert len(noted) == 1, "the first goes on"

    asyncio.run(scene())


def test_each_file_that_crosses_is_noted_once(places: tuple[Path, Path]) -> None:
    served, here = places
    noted: list[Crossing] = []
    (here / "some").mkdir()
    for number in range(3):
        (here / "some" / f"{number}").write_bytes(bytes(number))
    (here / "some" / "link").symlink_to("0")
    (served / "some").mkdir()
    (served / "some" / "2").mkdir()  # in the way

    async def scene() -> None:
        async with serving(served, noted, 1) as (address,), client_of(address, OURS) as client:
            await put(client, here, "file", Progress())
            await put(client, here, "some", Progress())
            root = Root(str(here))
            await client.get("file", root, "back", Progress())
            await client.get("some", root, "some back", Progress())
            faults = Progress()
            await client.get("some/0", root, "x/0", faults)

    asyncio.run(scene())
    told = [(each.way, each.path, each.size_bytes, each.error) for each in noted]
    assert told[0] == ("put", "file", SIZE, None)
    assert sorted(told[1:4]) == [
        ("put", "some/0", 0, None),
        ("put", "some/1", 1, None),
        ("put", "some/2", 0, "some/2: is a directory"),
    ]
    assert told[4] == ("get", "file", SIZE, None)
    assert sorted(told[5:7]) == [("get", "some/0", 0, None), ("get", "some/1", 1, None)]
    assert told[7:] == [("get", "some/0", 0, None)]
    assert all(each.duration_s > 0 for each in noted)
