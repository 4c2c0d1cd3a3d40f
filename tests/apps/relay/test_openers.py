"""How ends are opened when many want it at once, and how they are given back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from rawproto.apps.relay.ends import parse_end
from rawproto.apps.relay.openers import Doors, opener
from rawproto.apps.relay.sockets import Acceptor, bound_socket, connected_host, connected_unix
from rawproto.apps.relay.tls import client_context, server_context
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import LinkError, UsageError
from tests.apps.relay.fakes import FakeChannel, settle


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


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example"])
def test_name_that_no_host_can_have_is_no_traceback(host: str) -> None:
    async def scene() -> None:
        with pytest.raises(OSError, match="not a host name"):
            await connected_host(host, 80, socket.SOCK_STREAM)

    asyncio.run(scene())
    with pytest.raises(LinkError, match="not a host name"):
        bound_socket(parse_end(f"tcp-listen:{host}:0"), socket.SOCK_STREAM)


def test_unix_socket_whose_backlog_is_full_is_waited_for(tmp_path: Path) -> None:
    """A session got a socket that was connected to nobody, and broke: invalid argument."""
    path = f"{tmp_path}/socket"

    async def scene(listener: socket.socket) -> None:
        connecting = [asyncio.create_task(connected_unix(path)) for _ in range(5)]
        done, waiting = await asyncio.wait(connecting, timeout=0.05)
        assert done
        assert waiting, "the backlog holds them all"
        for _ in connecting:
            accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
            accepted.close()
        for each in await asyncio.wait_for(asyncio.gather(*connecting), 10):
            assert each.getpeername() == path
            each.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        listener.setblocking(False)
        asyncio.run(scene(listener))


def test_path_of_a_busy_server_is_not_taken_for_left_over(tmp_path: Path) -> None:
    """Whoever asked waited for its turn, for ever."""
    path = f"{tmp_path}/socket"
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(path)
        with pytest.raises(LinkError, match="in use"):
            Acceptor(parse_end(f"unix-listen:{path}"))


def test_tls_client_that_no_session_has_room_for_holds_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Handshakes went on while nobody took their connections: as many as there are descriptors."""
    shaken: list[FakeChannel] = []

    async def secured(under: FakeChannel, *_: object, **__: object) -> FakeChannel:
        shaken.append(under)
        return under

    async def accept(_: Acceptor) -> FakeChannel:
        await asyncio.sleep(0)
        return FakeChannel()

    async def scene() -> None:
        monkeypatch.setattr("rawproto.apps.relay.openers._secured", secured)
        monkeypatch.setattr(Acceptor, "accept", accept)
        doors = Doors(connect=None, listen=None, tls_client=None, tls_server=object)  # type: ignore[arg-type]
        listener = await opener(parse_end("tls-listen:127.0.0.1:0"), doors, datagrams=False)
        assert await listener.open("") is shaken[0]
        for _ in range(20):
            await settle()
        assert len(shaken) <= 70
        await listener.close()
        await settle()
        assert all(each.aborted for each in shaken[2:]), "who waited was not left open"

    asyncio.run(scene())


@pytest.mark.parametrize(
    "read",
    [
        lambda name: client_context(name, None, None, insecure=False),
        lambda name: client_context(None, name, None, insecure=True),
        lambda name: server_context(None, name, None),
    ],
)
@pytest.mark.parametrize(
    ("name", "why"),
    [("text", "no certificate"), ("nothing", "no such file or directory"), (".", "is a directory")],
)
def test_file_that_tls_cannot_use_is_named(
    name: str,
    why: str,
    read: Callable[[str], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("not what it should be")
    with pytest.raises(UsageError, match=rf"^{name}: {why}"):
        read(name)
