"""Sessions and hostile clients, at a real server of this user's, over loopback."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import sys
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from rawproto.apps.shell.client import Ended, login
from rawproto.apps.shell.environment import brought, of_session
from rawproto.apps.shell.faults import LoginError, VersionError
from rawproto.apps.shell.flow import INPUT_BYTES, TERMINAL_BYTES, Credit, Inlet, read_ready
from rawproto.apps.shell.messages import MOST_BYTES, GoneError, pair, receive, send
from rawproto.apps.shell.proof import prove
from rawproto.apps.shell.service import STDIN
from rawproto.rpc import BadRequestError, RPCError, RPCPeer
from tests.apps.shell.sessions import ME, OVER, PATIENCE_S, PRIVATE, met, run


def test_sessions_beside_each_other_keep_apart(address: str) -> None:
    data = os.urandom(3 * INPUT_BYTES)

    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        bulk, *rest = await asyncio.gather(
            run(peer, "cat; echo no >&2; exit 3", data),
            *[run(peer, f"echo {number}; kill -USR1 $$") for number in range(10)],
        )
        assert bulk == (Ended(3), data, b"no\n")
        assert rest == [(Ended(None, "USR1"), b"%d\n" % number, b"") for number in range(10)]

    met(address, client)


def test_signal_without_a_name_ends_its_session_alone(address: str) -> None:
    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        assert (await run(peer, "kill -40 $$"))[0] == Ended(None, "40")
        assert await run(peer, "echo on") == (Ended(0), b"on\n", b"")

    met(address, client)


def test_end_of_a_terminals_input_is_what_is_typed_for_it(address: str) -> None:
    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        terminal = ("dumb", (33, 22, 0, 0))
        ended, output, _ = await run(peer, "stty size; cat", b"typed\n\x04", terminal=terminal)
        assert ended == Ended(0)
        # What was typed is shown by the terminal, whenever it came, and then by cat.
        assert sorted(output.split()) == [b"22", b"33", b"typed", b"typed"]

    met(address, client)


def test_terminal_has_the_keys_that_its_user_is_used_to(address: str) -> None:
    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        modes = {"VERASE": 8, "VINTR": 24, "VQUIT": 0, "IXON": 0, "ECHO": 0, "no such": 7}
        terminal = ("dumb", (80, 24, 0, 0))
        _, output, _ = await run(peer, "stty -a", terminal=terminal, modes=modes)
        for words in (b"erase = ^H;", b"intr = ^X;", b"quit = <undef>;", b" -ixon ", b" echo "):
            assert words in output
        assert b"eof = ^D;" in output, "what was not named stays"

    met(address, client)


def test_background_does_not_hold_a_terminal_open(address: str) -> None:
    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        command = "trap '' HUP; sleep 30 & echo $!; exec true"
        ended, output, _ = await run(peer, command, terminal=("dumb", (80, 24, 0, 0)))
        assert ended == Ended(0)
        await run(peer, f"kill -9 {int(output)}")

    met(address, client)


def test_path_of_a_forward_that_somebody_else_has_by_now_is_left_to_them(
    address: str, tmp_path: Path
) -> None:
    """As one's own next login has, after one that was lost and is there still."""
    paths = [tmp_path / name for name in ("taken", "own")]

    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        async with AsyncExitStack() as stack:
            for number, path in enumerate(paths):
                params = {"path": str(path), "listener": number}
                await anext(await stack.enter_async_context(peer.open("listen", params)))
            paths[0].unlink()
            holder.bind(str(paths[0]))

    with socket.socket(socket.AF_UNIX) as holder:
        met(address, client)
        end = time.monotonic() + PATIENCE_S
        while paths[1].exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert paths[0].exists()


# --- who may not --------------------------------------------------------------------------------


def test_connection_has_so_many_sessions_and_no_more(address: str) -> None:
    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        async with AsyncExitStack() as stack:
            calls = [
                await stack.enter_async_context(peer.open("run", {"command": "echo; cat"}))
                for _ in range(32)
            ]
            for call in calls:
                await anext(call)  # it runs
            with pytest.raises(BadRequestError, match="32 sessions"):
                await peer.call("run", {"command": "true"})
            await calls[0].send(bytes([STDIN]))
            assert await calls[0].result() == {"status": 0}
            assert await run(peer, "echo on") == (Ended(0), b"on\n", b"")

    met(address, client)


def test_without_a_login_there_is_nothing(address: str) -> None:
    async def client(peer: RPCPeer) -> None:
        for method, params in (
            ("run", {"command": "id"}),
            ("open", {"host": "localhost", "port": 1}),
            ("listen", {"host": "localhost", "port": 0, "listener": 0}),
        ):
            with pytest.raises(LoginError):
                await peer.call(method, params)
        with pytest.raises(RPCError, match="no method"):
            await peer.call("associate", {"association": 0})

    met(address, client)


@pytest.mark.parametrize("user", [ME, "no-such-user", "daemon", "$(reboot)"])
def test_stranger_is_not_told_why_and_has_three_tries(user: str, address: str) -> None:
    async def client(peer: RPCPeer) -> None:
        for _ in range(3):
            with pytest.raises(LoginError, match=r"^permission denied$"):
                await login(peer, os.urandom(32) if user == ME else PRIVATE, user)
        await peer.connection.wait_closed()
        assert "too many logins" in str(peer.connection.error)

    with suppress(*OVER):
        met(address, client)


def test_stranger_who_asks_for_challenges_alone_is_sent_away(address: str) -> None:
    async def client(peer: RPCPeer) -> None:
        for _ in range(3):
            async with peer.open("login", {"version": 1, "user": ME}) as call:
                await anext(call)
        with suppress(RPCError, *OVER):
            await peer.call("login", {"version": 1, "user": ME})
        await peer.connection.wait_closed()
        assert "too many logins" in str(peer.connection.error)

    with suppress(*OVER):
        met(address, client)


def test_answer_to_one_challenge_is_none_to_another(address: str) -> None:
    """As a network process in wrong hands might try it."""

    async def client(peer: RPCPeer) -> None:
        params = {"version": 1, "user": ME}
        async with peer.open("login", params) as call:
            first = bytes.fromhex((await anext(call))["challenge"])
        async with peer.open("login", params) as call:
            await anext(call)
            proof = prove(PRIVATE, first, peer.connection.peer_key, ME)
            await call.send({"proof": proof.hex()})
            with pytest.raises(LoginError):
                await call.result()
        await login(peer, PRIVATE, ME)

    met(address, client)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        (None, VersionError),
        ({"version": 2, "user": ME}, VersionError),
        ({"version": 1}, BadRequestError),
        ({"version": 1, "user": "x" * 65}, BadRequestError),
        ({"version": 1, "user": "a\nb"}, BadRequestError),
    ],
)
def test_login_of_another_form_is_refused(params: Any, error: type[RPCError], address: str) -> None:
    async def client(peer: RPCPeer) -> None:
        with pytest.raises(error):
            await peer.call("login", params)

    met(address, client)


@pytest.mark.parametrize(
    "params",
    [
        [],
        {"command": 5},
        {"command": "a\0b"},
        {"command": "x" * 100_001},
        {"command": "ü" * 60_000},
        {"pty": True, "size": [80, 24]},
        {"pty": True, "size": [1 << 16, 24, 0, 0]},
        {"pty": True, "size": [-1, 24, 0, 0]},
        {"pty": True, "size": [1e3, 24, 0, 0]},
        {"environment": []},
        {"pty": True, "modes": []},
        {"pty": True, "modes": {"VERASE": 256}},
        {"pty": True, "modes": {"IXON": True}},
        {"term": 7},
    ],
)
def test_session_of_another_form_is_refused_and_the_next_one_runs(
    params: Any, address: str
) -> None:
    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        with pytest.raises(BadRequestError):
            await peer.call("run", params)
        assert await run(peer, "echo on") == (Ended(0), b"on\n", b"")

    met(address, client)


def test_huge_environment_leaves_what_is_allowed(address: str) -> None:
    environment = {f"LC_{'A' * 3}": "x", **{f"V{number}": "y" * 100 for number in range(1000)}}

    async def client(peer: RPCPeer) -> bytes:
        await login(peer, PRIVATE, ME)
        async with peer.open("run", {"command": "env", "environment": environment}) as call:
            await call.send(bytes([STDIN]))
            return b"".join([item[1:] async for item in call if isinstance(item, bytes)])

    names = {line.partition(b"=")[0] for line in met(address, client).splitlines()}
    assert b"LC_AAA" in names
    assert not [name for name in names if name.startswith(b"V")]


@pytest.mark.parametrize(
    "items",
    [
        [b"\x07typed"],
        [b""],
        [{"signal": "STOP"}],
        [{"took": 1}],
        [{"took": -5}],
        [{"size": "large"}],
        [17],
        [b"\0" + bytes(200_000)] * (INPUT_BYTES // 100_000),
    ],
)
def test_item_against_the_rules_ends_its_session_alone(items: list[Any], address: str) -> None:
    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        other = asyncio.create_task(run(peer, "cat", b"still here"))
        async with peer.open("run", {"command": "sleep 60"}) as call:
            with suppress(BadRequestError):  # it may have answered before the last one
                for item in items:
                    await call.send(item)
            with pytest.raises(BadRequestError):
                await call.result()
        assert await other == (Ended(0), b"still here", b"")

    met(address, client)


def test_client_that_reads_nothing_is_sent_little(address: str) -> None:
    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        params = {"command": "yes", "pty": True, "size": [80, 24, 0, 0]}
        async with peer.open("run", params) as call:
            size = 0
            with suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(0.5):
                        size += len(await anext(call)) - 1
            assert size == TERMINAL_BYTES
            assert await run(peer, "echo on") == (Ended(0), b"on\n", b"")

    met(address, client)


def test_ten_thousand_streams_of_a_stranger_leave_the_server_as_it_was(address: str) -> None:
    async def hostile(peer: RPCPeer) -> None:
        async def one() -> None:
            stream = await peer.connection.open_stream()
            await stream.send(os.urandom(40))
            stream.reset(7)
            stream.stop(7)

        for _ in range(100):
            await asyncio.gather(*[one() for _ in range(100)])

    with suppress(*OVER):  # a stream that begins with a length without end, ends it all
        met(address, hostile)

    async def honest(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        assert await run(peer, "echo on") == (Ended(0), b"on\n", b"")

    met(address, honest)


def test_signals_that_the_c_library_keeps_for_itself_are_reset_as_well() -> None:
    """Whatever posix_spawn(3) of glibc started, as make does, ignores 32 and 33."""
    program = "import os; from rawproto.apps.shell import attendant; attendant._reset_signals(); "
    program += "os.execv('/bin/sh', ['sh', '-c', 'grep -E ^SigIgn /proc/self/status'])"
    reading, writing = os.pipe()
    words = [sys.executable, "-c", program]
    pid = os.posix_spawn(
        words[0], words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)]
    )
    os.close(writing)
    with open(reading) as output:
        assert output.read().split() == ["SigIgn:", 16 * "0"]
    assert os.waitpid(pid, 0)[1] == 0


# --- parts --------------------------------------------------------------------------------------


def test_variables_are_the_accounts_and_few_others() -> None:
    assert brought(
        {
            "LANG": "C",
            "LC_ALL": "de",
            "TZ": "CET-1",
            "LD_PRELOAD": "x",
            "LC_TIME": "$(x)",
            "PS1": "",
        }
    ) == {"LANG": "C", "LC_ALL": "de", "TZ": "CET-1"}
    for zone in ("/etc/shadow", ":/etc/shadow", "../x", "a\n"):
        assert brought({"TZ": zone}) == {}
    ada = pwd.struct_passwd(("ada", "x", 5, 5, "", "/home/ada", "/bin/zsh"))
    variables = of_session(ada, {"HOME": "/x", "LANG": "C"}, "xterm\n", "somebody")
    assert variables["TERM"] == "dumb"
    assert (variables["HOME"], variables["SHELL"]) == ("/home/ada", "/bin/zsh")


def test_credit_is_what_was_not_taken() -> None:
    async def spend() -> None:
        credit = Credit(100_000)
        credit.sent(await credit.some())
        credit.sent(await credit.some())
        assert credit.spent
        for size in (0, -1, 100_001, True, "1", None):
            assert not credit.took(size)
        assert credit.took(10)
        assert await credit.some() == 10

    asyncio.run(spend())


def test_what_is_not_taken_is_kept_and_comes_in_order() -> None:
    async def fill() -> None:
        taken: list[int] = []
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        inlet = Inlet(writing, taken.append)
        data = os.urandom(500_000)
        for at in range(0, len(data), 50_000):
            inlet.write(data[at : at + 50_000])
        assert inlet.kept_bytes + sum(taken) == len(data)
        inlet.end()
        got = b""
        while piece := await read_ready(reading, 70_000):
            got += piece
        assert got == data
        assert (sum(taken), inlet.closed) == (len(data), True)
        os.close(reading)

    asyncio.run(fill())


def test_messages_between_processes_carry_descriptors_and_have_bounds(tmp_path: Path) -> None:
    one, other = pair()
    with one, other, (tmp_path / "file").open("w") as file:
        send(one, {"id": 1}, [file.fileno()])
        message, descriptors = receive(other)
        assert (message, os.fstat(descriptors[0])) == ({"id": 1}, os.fstat(file.fileno()))
        os.close(descriptors[0])
        with pytest.raises(ValueError, match="bytes"):
            send(one, {"text": "x" * MOST_BYTES})
        for data in (b"[]", b"nonsense", b"\xff"):
            one.send(data)
            with pytest.raises(GoneError):
                receive(other)
        one.shutdown(socket.SHUT_WR)
        with pytest.raises(GoneError):
            receive(other)
