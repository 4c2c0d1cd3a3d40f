"""A file server, its root, and a client's directory, for tests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.blocks import BLOCK_BYTES
from rawproto.apps.files.client import FileClient
from rawproto.apps.files.faults import ERRORS
from rawproto.apps.files.packs import PACKED_BYTES
from rawproto.apps.files.plan import Progress
from rawproto.apps.files.service import FileService
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.rpc import Method, RPCPeer

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
    for size in (1, 100_000, PACKED_BYTES, PACKED_BYTES + 1, 3 * BLOCK_BYTES + 5):
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
