"""How ends are opened when many want it at once, and how they are given back."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from rawproto.apps.relay.ends import parse_end
from rawproto.apps.relay.openers import Doors, opener
from rawproto.apps.relay.sockets import Acceptor
from rawproto.drivers.rpt.connection import RPTConnection


def test_crowd_of_rpt_handshakes_takes_turns() -> None:
    """600 at once through a gateway: one in ten was given up, while all shook hands at once."""
    at_once = most = 0

    async def connect(address: str, datagrams: bool) -> RPTConnection:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        for _ in range(10):
            await asyncio.sleep(0)
        at_once -= 1
        raise ConnectionRefusedError  # there is no connection: who tried last gets here, too

    async def scene() -> None:
        doors = Doors(connect=connect, listen=None, tls_client=None, tls_server=None)  # type: ignore[arg-type]
        end = await opener(parse_end("rpt:10.0.0.2:4000"), doors, datagrams=False)
        tried = await asyncio.gather(*[end.open("") for _ in range(600)], return_exceptions=True)
        assert {type(each) for each in tried} == {ConnectionRefusedError}

    asyncio.run(asyncio.wait_for(scene(), 20))
    assert 8 <= most <= 32


def test_path_of_a_socket_that_somebody_else_has_by_now_is_left_to_them(tmp_path: Path) -> None:
    end = parse_end(f"unix-listen:{tmp_path}/socket")
    first = Acceptor(end)
    Path(end.path).unlink()
    second = Acceptor(end)
    first.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(end.path)
    second.close()
    second.close()
    assert list(tmp_path.iterdir()) == []
