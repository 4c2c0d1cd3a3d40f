"""asyncssh, unmodified, between two hosts: a command, a shell, SFTP, a forwarded port."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from rawproto import lab
from tests.live.frameworks import CABLES, PORT, SIZE, adapters, cable_of, run

pytestmark = pytest.mark.live

DATA = os.urandom(SIZE)
LOOP = adapters("class RPTLoop").RPTLoop


@pytest.fixture(scope="module", params=list(CABLES))
def cable(request: pytest.FixtureRequest) -> Iterator[lab.Network]:
    with cable_of(request.param) as network:
        yield network


async def execute(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Runs the command, or a shell."""
    pipe = asyncio.subprocess.PIPE
    words = ["-c", process.command] if process.command else []
    shell = await asyncio.create_subprocess_exec("sh", *words, stdin=pipe, stdout=pipe, stderr=pipe)

    async def pass_on(source: Any, sink: Any) -> None:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
        if sink is shell.stdin:
            sink.close()

    feeding = asyncio.create_task(pass_on(process.stdin, shell.stdin))
    await asyncio.gather(
        pass_on(shell.stdout, process.stdout), pass_on(shell.stderr, process.stderr)
    )
    feeding.cancel()
    process.exit(await shell.wait())


def test_commands_shells_and_sftp(cable: lab.Network, tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "there").mkdir()
    (tmp_path / "here").write_bytes(DATA)

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        async with asyncssh.listen(
            "rpt://0.0.0.0",
            PORT,
            server_host_keys=[key],
            authorized_client_keys=asyncssh.import_authorized_keys(
                key.export_public_key().decode()
            ),
            process_factory=execute,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, str(tmp_path / "there")),
            encoding=None,
        ):
            yield

    def connected(**options: Any) -> Any:
        return asyncssh.connect(
            f"rpt://{cable.host('h2').ipv4}",
            PORT,
            username="ann",
            known_hosts=([key.convert_to_public()], [], []),
            config=None,
            **options,
        )

    async def body() -> None:
        async with connected(client_keys=[key]) as connection:
            peer = connection.get_extra_info("peername")
            assert peer == (cable.host("h2").ipv4, PORT)
            done = await connection.run("echo out; echo err >&2; exit 3")
            assert (done.stdout, done.stderr, done.exit_status) == ("out\n", "err\n", 3)
            done = await connection.run("cat", input=DATA, encoding=None)
            assert done.stdout == DATA
            async with connection.create_process() as shell:
                shell.stdin.write("echo $((6 * 7))\n")
                assert await shell.stdout.readline() == "42\n"
                shell.stdin.write_eof()
                assert (await shell.wait()).exit_status == 0
            async with connection.start_sftp_client() as sftp:
                await sftp.put(str(tmp_path / "here"), "copy")
                assert (tmp_path / "there" / "copy").read_bytes() == DATA
                await sftp.get("copy", str(tmp_path / "back"))
                assert (tmp_path / "back").read_bytes() == DATA
                assert "copy" in await sftp.listdir("/")
        other = asyncssh.generate_private_key("ssh-ed25519")
        with pytest.raises(asyncssh.PermissionDenied):
            async with connected(client_keys=[other]):
                pass

    run(cable, server, body, LOOP)
