"""Connecting to a name of several addresses, over loopback."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rawproto
from rawproto.drivers.rpt import coroutines
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.transport.config import Config

pytestmark = pytest.mark.live

PATIENT = Config(handshake_timeout_ns=3600 * 10**9)


async def echo(connection: RPTConnection) -> None:
    async for data in connection.stream:
        await connection.stream.send(data)


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coroutines, "resolve_all", lambda *_: ["127.0.0.2", "127.0.0.1"])


@pytest.mark.usefixtures("two_addresses")
def test_address_that_swallows_everything_does_not_hold_up_the_other() -> None:
    async def run() -> None:
        async with rawproto.serve("rpt+udp://127.0.0.1:0", echo) as server:
            port = server.address.port
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
                hole.bind(("127.0.0.2", port))
                async with rawproto.connect(f"rpt+udp://both:{port}", config=PATIENT) as made:
                    assert made.peer_address == ("127.0.0.1", port)
                    await made.stream.send(b"hello")
                    assert await made.stream.receive() == b"hello"
                    await made.stream.send_eof()

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.usefixtures("two_addresses")
@pytest.mark.parametrize("carrier", ["rpt", "rpt+udp"])
def test_name_of_which_no_address_listens_is_refused(carrier: str) -> None:
    async def run() -> None:
        with pytest.raises(rawproto.RefusedError) as caught:
            await rawproto.connect(f"{carrier}://both:4", config=PATIENT)
        (other,) = caught.value.__cause__.exceptions
        assert isinstance(other, rawproto.RefusedError)

    asyncio.run(asyncio.wait_for(run(), 20))


def test_blocking_connection_tells_more_than_that_there_is_no_ipv6(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds = (socket.SOCK_DGRAM, socket.IPPROTO_UDP, "")
    found: list[Any] = [
        (socket.AF_INET6, *kinds, ("fe80::1", 4, 0, 1)),
        (socket.AF_INET, *kinds, ("127.0.0.1", 4)),
    ]
    asked = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any) -> Any:
        return found if host == "both" else asked(host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            rawproto.create_connection(("both", 4), 10)
        found.reverse()


def test_verb_tells_one_line_and_all_of_it_with_debug(tmp_path: Path) -> None:
    program = """
import socket, sys
from rawproto.drivers.rpt import coroutines
from rawproto.cli.main import main
coroutines.resolve_all = lambda *_: ["fe80::1%lo", "127.0.0.1"]
sys.exit(main(["connect", *sys.argv[1:], "--accept-new", "rpt://both:4"]))
"""
    said = {}
    for words in ((), ("--debug",)):
        ended = subprocess.run(
            [sys.executable, "-c", program, *words],
            env={"XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
        assert ended.returncode == 1
        said[words] = ended.stderr.decode()
    assert said[()].splitlines()[1:] == [  # behind the word about a new key
        "rawproto connect: rpt://both:4: nobody listens on that port"
    ]
    assert "connecting to 127.0.0.1" in said["--debug",]
    assert "connecting to fe80::1%lo" in said["--debug",]
