"""One login shared through a Unix socket, at a real server of this user's, over loopback."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rawproto.apps.relay import sockets
from rawproto.apps.shell import control
from rawproto.apps.shell.client import Ended, login
from rawproto.apps.shell.control import sharing, visiting
from rawproto.apps.shell.faults import LoginError
from rawproto.apps.shell.flow import INPUT_BYTES, OUTPUT_BYTES
from rawproto.errors import (
    ConnectionLostError,
    LinkError,
    LocalProtocolError,
    RawprotoError,
    UsageError,
)
from rawproto.rpc import BadRequestError, RPCError, RPCPeer, UnknownMethodError
from tests.apps.shell.sessions import ME, OVER, PRIVATE, met, run

OTHER = os.geteuid() + 1


def shared(address: str, path: Path, visit: Callable[[RPCPeer], Awaitable[Any]]) -> Any:
    """What one gets who visits the master at a path, for whom somebody has logged in."""

    async def client(peer: RPCPeer) -> Any:
        await login(peer, PRIVATE, ME)
        name = f"{ME}@{address}"
        async with sharing(path, peer, name, lambda: None), visiting(path) as master:
            return await visit(master)

    return met(address, client)


def test_sessions_over_a_master_are_as_those_of_its_own(address: str, tmp_path: Path) -> None:
    data = os.urandom(3 * INPUT_BYTES)

    async def visit(master: RPCPeer) -> None:
        bulk, terminal, *rest = await asyncio.gather(
            run(master, "cat; echo no >&2; exit 3", data),
            run(master, "stty size", terminal=("dumb", (33, 22, 0, 0))),
            *[run(master, f"echo {number}; kill -USR1 $$") for number in range(5)],
            run(master, "echo $LC_ALL", environment={"LC_ALL": "C.UTF-8"}),
        )
        assert bulk == (Ended(3), data, b"no\n")
        assert terminal == (Ended(0), b"22 33\r\n", b"")
        assert rest.pop() == (Ended(0), b"C.UTF-8\n", b"")
        assert rest == [(Ended(None, "USR1"), b"%d\n" % number, b"") for number in range(5)]

    shared(address, tmp_path / "master", visit)


def test_master_says_whose_it_is_and_passes_errors_on(address: str, tmp_path: Path) -> None:
    async def visit(master: RPCPeer) -> None:
        assert await master.call("check") == {"pid": os.getpid(), "name": f"{ME}@{address}"}
        async with master.open("run", {"command": 5}) as call:
            with pytest.raises(BadRequestError, match="command is a text"):
                await call.result()
        for method in ("open", "listen", "login"):
            with pytest.raises(UnknownMethodError):
                await master.call(method, {})

    shared(address, tmp_path / "master", visit)

    async def nobody(peer: RPCPeer) -> None:
        path = tmp_path / "master"
        async with sharing(path, peer, "", lambda: None), visiting(path) as master:
            with pytest.raises(LoginError):
                await run(master, "id")

    met(address, nobody)


def test_visitor_that_goes_takes_its_session_along_and_no_other(
    address: str, tmp_path: Path
) -> None:
    async def visit(master: RPCPeer) -> None:
        os.mkfifo(tmp_path / "told")
        other = asyncio.create_task(run(master, f"cat {tmp_path}/told"))
        command = f"trap 'echo hung up > {tmp_path}/told; exit' HUP; echo; while :; do read x; done"
        async with master.open("run", {"command": command}, timeout_s=None) as call:
            await anext(call)
        assert await other == (Ended(0), b"hung up\n", b"")

    shared(address, tmp_path / "master", visit)


def test_visitor_that_speaks_when_all_is_over_hears_how_it_ended(
    address: str, tmp_path: Path
) -> None:
    """As one does that tells what it took of the last output."""
    request = b'\0{"method":"run","params":{"command":"exit 6"}}'

    async def visit(master: RPCPeer) -> None:
        await master.call("check")
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(tmp_path / "master"))
            raw.sendall(len(request).to_bytes(4, "big") + request)
            raw.setblocking(False)
            seen = b""
            while b"6" not in seen:
                await asyncio.sleep(0.005)
                with suppress(BlockingIOError):
                    seen = raw.recv(1000, socket.MSG_PEEK)
            await master.call("check")
            raw.sendall(b'\0\0\0\x0b\1{"took":1}')
            assert raw.recv(1000) == b'\0\0\0\x0d\3{"status":6}'

    shared(address, tmp_path / "master", visit)


def test_what_a_visitor_says_behind_its_end_is_refused_as_on_a_stream(
    address: str, tmp_path: Path
) -> None:
    """As a new size is of a terminal, when the session has just ended."""

    async def visit(master: RPCPeer) -> None:
        async with master.open("check") as call:
            await call.result()
        with pytest.raises(LocalProtocolError, match="has ended"):
            await call.send({"size": [80, 24, 0, 0]})

    shared(address, tmp_path / "master", visit)


def test_visitor_that_reads_nothing_keeps_nobody_waiting(address: str, tmp_path: Path) -> None:
    async def visit(master: RPCPeer) -> None:
        async with master.open("run", {"command": "yes"}, timeout_s=None) as call:
            await anext(call)
            assert await run(master, "echo on") == (Ended(0), b"on\n", b"")
            size = 0
            with suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(0.5):
                        size += len(await anext(call)) - 1
            assert size <= OUTPUT_BYTES

    shared(address, tmp_path / "master", visit)


def test_master_waits_for_the_sessions_of_others(address: str, tmp_path: Path) -> None:
    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        path = tmp_path / "master"
        async with visiting(path) as master:
            async with sharing(path, peer, "", lambda: None):
                os.mkfifo(tmp_path / "go")
                session = asyncio.create_task(run(master, f"echo; cat {tmp_path}/go; exit 4"))
                await master.call("check")

                def go() -> None:
                    (tmp_path / "go").write_bytes(b"gone on\n")  # once somebody reads

                going = threading.Thread(target=go)
                going.start()
            assert await session == (Ended(4), b"\ngone on\n", b"")
            going.join()
        assert not path.exists()

    met(address, client)


def test_end_of_the_master_is_told_at_once(address: str, tmp_path: Path) -> None:
    """As by a kill: nothing is said on the socket, but that it is closed."""

    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        path = tmp_path / "master"
        async with visiting(path) as master:
            with suppress(ZeroDivisionError):
                async with sharing(path, peer, "", lambda: None):
                    session = asyncio.create_task(run(master, "sleep 60"))
                    await master.call("check")
                    raise ZeroDivisionError
            with pytest.raises(ConnectionLostError, match="the master is gone"):
                await session
            with pytest.raises(UsageError, match="no master is there"):
                await master.call("check")

    met(address, client)


def test_lost_connection_of_the_master_is_told_to_all(address: str, tmp_path: Path) -> None:
    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        path = tmp_path / "master"
        async with visiting(path) as master, sharing(path, peer, "", lambda: None):
            session = asyncio.create_task(run(master, "sleep 60"))
            await master.call("check")
            peer.connection.abort(7, "over")
            with pytest.raises(RPCError, match="the connection is closed"):
                await session

    with suppress(*OVER):
        met(address, client)


def test_whoever_is_told_to_end_hears_of_it_and_the_one_who_told(
    address: str, tmp_path: Path
) -> None:
    told: list[int] = []

    async def client(peer: RPCPeer) -> None:
        path = tmp_path / "master"
        async with sharing(path, peer, "", lambda: told.append(1)), visiting(path) as master:
            await master.call("exit")

    met(address, client)
    assert told == [1]


# --- who may not --------------------------------------------------------------------------------


def test_only_processes_of_the_same_user_share(address: str, tmp_path: Path) -> None:
    path = tmp_path / "master"

    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        async with sharing(path, peer, "", lambda: None), visiting(path, uid=OTHER) as master:
            with pytest.raises(UsageError, match="another user's"):
                await run(master, "id")
        door = control._Door(path, os.geteuid())
        door._uid = OTHER  # to whom this process is another user's
        accepting = asyncio.create_task(door.accept_stream())
        async with visiting(path) as master:
            with pytest.raises(ConnectionLostError):
                await run(master, "id")
        assert not accepting.done()
        accepting.cancel()
        door.close()

    met(address, client)


def test_socket_is_the_users_own_whatever_the_umask(address: str, tmp_path: Path) -> None:
    path = tmp_path / "master"
    before = os.umask(0)

    async def visit(master: RPCPeer) -> int:
        assert stat.S_ISSOCK(path.stat().st_mode)
        return path.stat().st_mode & 0o777

    try:
        assert shared(address, path, visit) == 0o600
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert not path.exists()


def test_what_lives_at_the_path_stays_and_what_is_left_over_goes(
    address: str, tmp_path: Path
) -> None:
    path, file = tmp_path / "master", tmp_path / "file"
    file.write_text("mine\n")
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()

    async def client(peer: RPCPeer) -> None:
        async with sharing(path, peer, "first", lambda: None):
            for taken in (path, file):
                with pytest.raises(LinkError, match=f"{taken}: Address already in use"):
                    async with sharing(taken, peer, "second", lambda: None):
                        pass
            async with visiting(path) as master:
                assert (await master.call("check"))["name"] == "first"

    met(address, client)
    assert file.read_text() == "mine\n"


def test_of_two_masters_that_find_one_left_over_path_the_second_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes when the first has seen that nobody is there, and has not replaced it."""
    path = tmp_path / "master"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    doors: list[control._Door] = []
    refused: list[LinkError] = []

    def come() -> None:
        try:
            doors.append(control._Door(path, os.geteuid()))
        except LinkError as error:
            refused.append(error)

    second = threading.Thread(target=come)
    look = sockets._is_left_over

    def is_left_over(at: str) -> bool:
        left_over = look(at)
        if second.ident is None:
            second.start()
            second.join(0.3)  # unless it waits for the first
        return left_over

    monkeypatch.setattr(sockets, "_is_left_over", is_left_over)
    come()
    second.join()
    assert (len(doors), [str(each) for each in refused]) == (
        1,
        [f"listen on unix:{path}: Address already in use"],
    )
    with socket.socket(socket.AF_UNIX) as trial:
        trial.connect(str(path))
    doors[0].close()


def test_master_need_not_be_alone_where_somebody_else_says_that_he_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may read a directory may lock it."""
    monkeypatch.setattr(control, "_ALONE_S", 0.05)
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    control._Door(tmp_path / "master", os.geteuid()).close()
    os.close(directory)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_directory_to_which_others_may_write_is_no_place(
    mode: int, address: str, tmp_path: Path
) -> None:
    tmp_path.chmod(mode)

    async def visit(master: RPCPeer) -> None:
        pass

    with pytest.raises(UsageError, match="others may write"):
        shared(address, tmp_path / "master", visit)
    assert not (tmp_path / "master").exists()


@pytest.mark.parametrize("name", ["no/such", "x" * 108])
def test_path_that_cannot_be_is_refused(name: str, address: str, tmp_path: Path) -> None:
    async def visit(master: RPCPeer) -> None:
        pass

    with pytest.raises(RawprotoError, match=r"No such file|longer than 107 bytes"):
        shared(address, tmp_path / name, visit)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0", b"\xff\xff\xff\xff" + bytes(100), b"\0\0\0\x02{}", bytes(range(256)) * 16],
)
def test_bytes_that_are_no_call_leave_the_master_as_it_was(
    data: bytes, address: str, tmp_path: Path
) -> None:
    async def visit(master: RPCPeer) -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "master"))
        writer.write(data)
        writer.write_eof()
        await reader.read()
        writer.close()
        assert await run(master, "echo on") == (Ended(0), b"on\n", b"")

    shared(address, tmp_path / "master", visit)
