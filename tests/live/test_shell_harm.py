"""`rawproto shell` under harm on the way, outages, kills and crowds."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

import rawproto
from rawproto import lab
from rawproto.apps.shell import client
from rawproto.apps.shell.faults import ERRORS
from rawproto.rpc import RPCPeer
from tests.live.peers import HARM, Peer, address_of
from tests.live.shells import (
    PATIENCE_S,
    REAL,
    ShellHost,
    Terminal,
    hosts_of,
    identity_of,
    serving,
    until,
)

pytestmark = pytest.mark.live

MIB = 1 << 20


def descendants(pid: int) -> list[int]:
    """All processes that come from one."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [each for child in map(int, children) for each in (child, *descendants(child))]


def test_lossy_way_changes_nothing(home: Path) -> None:
    with lab.up(lab.pair().changed(f"1:{HARM}")) as network:
        (home / "harm").mkdir()
        near, far = hosts_of(network, home / "harm")
        data = os.urandom(MIB)
        with serving(far) as (ada, _), closing(Terminal(near, ada)) as terminal:
            terminal.until("$ ")
            for number in range(5):
                terminal.type(f"echo $(({number} + 1000))\r")
                terminal.until(f"\r{number + 1000}\r\n")
            code, output, said = near.run("shell", ada, "cat; echo done >&2; exit 7", data=data)
            assert (code, output == data, said) == (7, True, "done\n")
            terminal.type("seq 100000\r")
            assert terminal.until("\n99999\r\n100000").count(b"\n") > 99_000
            terminal.type("exit\r")
            assert terminal.process.wait(PATIENCE_S) == 0


def test_session_outlives_an_outage_and_a_change_of_address(home: Path) -> None:
    with lab.up(lab.pair()) as network:
        (home / "outage").mkdir()
        near, far = hosts_of(network, home / "outage")
        with serving(far) as (ada, _), closing(Terminal(near, ada)) as terminal:
            terminal.until("$ ")
            network.change("1:loss=100%")
            terminal.type("echo $((40 + 2)) typed-meanwhile\r")
            with pytest.raises(AssertionError):
                terminal.until("42 typed", patience_s=2)
            network.change("1:loss=0%")
            terminal.until("42 typed-meanwhile")
            for words in ("flush dev eth0 scope global", "add 10.99.1.77/24 dev eth0"):
                near.host.run(["ip", "address", *words.split()], check=True)
            terminal.type("echo $((50 + 5)) from-elsewhere\r")
            terminal.until("55 from-elsewhere")
            terminal.type("exit\r")
            assert terminal.process.wait(PATIENCE_S) == 0


def test_killed_client_leaves_no_process_behind(hosts: tuple[Peer, ShellHost]) -> None:
    near, far = hosts
    with serving(far, "--outage", "2", port=4001) as (ada, _):
        with near.start("shell", ada, "sleep 4321; echo not reached") as process:
            until(lambda: bool(far.processes("sleep 4321")))
            process.kill()
            process.communicate()
        far.until_gone("sleep 4321")
        assert near.run("shell", ada, "echo still there")[1] == b"still there\n"
    left = [line for line in (far.root / "log").read_text().splitlines() if "has left" in line]
    assert [line.endswith(" s") for line in left] == [False, True], "why is not told"


@pytest.mark.parametrize("ignored", [False, True])
def test_server_whose_terminal_goes_gives_sessions_their_time(
    ignored: bool, hosts: tuple[Peer, ShellHost]
) -> None:
    """Or goes on, where it was told to as by nohup, with nobody to read its log."""
    near, far = hosts
    address = address_of(far, port=4001)
    ada = f"ada@{address}"
    words = far.command("shell", "serve", "--listen", address, "--grace", "20")
    nohup = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh") if ignored else ()
    with closing(Terminal(far, argv=("setsid", "-c", *nohup, *words))) as terminal:
        terminal.until("listening")
        with near.start("shell", ada, "echo on; read x; exit 3") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"on\n"
            terminal.hang_up()
            if ignored:
                assert near.run("shell", ada, "echo in")[1] == b"in\n"
                terminal.process.terminate()
            until(lambda: "nobody listens" in near.run("shell", ada, "id")[2])
            process.communicate(b"go\n", timeout=PATIENCE_S)
            assert process.returncode == 3
        terminal.process.wait(PATIENCE_S)


@pytest.mark.parametrize("workers", [1, 2])
def test_only_the_porter_is_root(workers: int, hosts: tuple[Peer, ShellHost]) -> None:
    near, far = hosts
    with serving(far, "--workers", str(workers), port=4001) as (ada, server):
        family = descendants(server.pid)
        # With several, one watches them, and one has them started again.
        assert len(family) == (1 if workers == 1 else 2 + workers)
        for pid in family:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines)
            assert int(status["CapEff"], 16) == 1 << 13, "more than CAP_NET_RAW"
            assert status["NoNewPrivs"] == "1"
            if REAL:
                assert "0" not in status["Uid"].split()
        assert near.run("shell", ada, "echo in")[1] == b"in\n"


def test_killed_process_of_the_server_takes_all_sessions_along(
    hosts: tuple[Peer, ShellHost],
) -> None:
    near, far = hosts
    with serving(far, port=4001) as (ada, server):
        words = ("shell", "--outage", "2", ada, "sleep 5678")
        with near.start(*words) as process:
            until(lambda: bool(far.processes("sleep 5678")))
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGKILL)  # the one that speaks with the network
            assert server.wait(PATIENCE_S) == 128 + signal.SIGKILL
            far.until_gone("sleep 5678")
            assert process.wait(PATIENCE_S) == 255
            process.communicate()


def test_killed_attendant_takes_its_terminal_along(hosts: tuple[Peer, ShellHost]) -> None:
    near, far = hosts
    with (
        serving(far, port=4001) as (ada, _),
        near.start("shell", "-tt", ada, "sleep 5679") as process,
    ):
        until(lambda: bool(far.processes("sleep 5679")))
        status = Path(f"/proc/{far.processes('sleep 5679')[0]}/stat").read_text()
        os.kill(int(status.rpartition(")")[2].split()[1]), signal.SIGKILL)
        far.until_gone("sleep 5679")
        assert process.wait(PATIENCE_S) == 255
        process.communicate()


def test_hundred_clients_at_once_get_their_own(hosts: tuple[Peer, ShellHost], ada: str) -> None:
    near, _ = hosts
    private = identity_of(near).private
    address = ada.removeprefix("ada@")

    async def one(number: int) -> bytes:
        output = bytearray()

        async def take(channel: int, data: bytes) -> None:
            output.extend(data)

        async with rawproto.connect(address, static=private) as connection:
            peer = RPCPeer(connection, errors=ERRORS)
            await client.login(peer, private, "ada")
            for _ in range(2):  # several on one connection
                async with client.session(peer, take, command=f"cat; echo {number}") as session:
                    await session.send(b"x" * number)
                    await session.send_eof()
                    assert await session.run() == client.Ended(0)
            await peer.close()
        return bytes(output)

    async def everybody() -> list[bytes]:
        async with asyncio.timeout(2 * PATIENCE_S):
            return await asyncio.gather(*[one(number) for number in range(100)])

    with near.host.entered():
        outputs = asyncio.run(everybody())
    assert outputs == [2 * (b"x" * number + b"%d\n" % number) for number in range(100)]
