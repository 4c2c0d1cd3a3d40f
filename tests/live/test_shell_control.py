"""`rawproto shell -M` and `-S`: one login and one connection for several processes."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.live.peers import Peer
from tests.live.shells import PATIENCE_S, REAL, UID, ShellHost, Terminal, serving, until

pytestmark = pytest.mark.live


@pytest.fixture
def path(hosts: tuple[Peer, ShellHost]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name, "master")


@contextmanager
def master(near: Peer, path: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """One that can be asked; killed at the end, if it is there yet."""
    with near.start("shell", "-M", "-S", str(path), *words) as process:
        try:
            until(path.exists)
            until(lambda: near.run("shell", "-S", str(path), "-O", "check")[0] == 0)
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def heard(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def test_three_sessions_at_once_share_one_connection(
    hosts: tuple[Peer, ShellHost], path: Path
) -> None:
    near, far = hosts
    sharing = ("shell", "-S", str(path))
    with (
        serving(far, "--log", "json", port=4001) as (ada, _),
        master(near, path, "-N", ada) as first,
        closing(Terminal(near, "-S", str(path), size=(100, 30))) as terminal,
        near.start(*sharing, "-n", "trap 'echo told; exit 9' INT; echo on; sleep 100") as told,
        near.start(*sharing, ada, "cat; echo no >&2; exit 7") as piped,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        terminal.until("$ ")
        assert heard(told) == b"on\n"
        data = os.urandom(1 << 20)
        output, said = piped.communicate(data, timeout=PATIENCE_S)
        assert (piped.returncode, output == data, said) == (7, True, b"no\n")
        told.send_signal(signal.SIGINT)
        assert told.communicate(timeout=PATIENCE_S) == (b"told\n", b"")
        assert told.returncode == 9
        terminal.type("stty size\r")
        terminal.until("30 100")
        terminal.resize((120, 40))
        os.kill(terminal.process.pid, signal.SIGWINCH)
        terminal.type("while test \"$(stty size)\" != '40 120'; do :; done; echo grown-$?\r")
        terminal.until("grown-0")
        assert near.run(*sharing, "kill -TERM $$")[0] == 128 + signal.SIGTERM
        terminal.type("exit 5\r")
        terminal.until(f"shared connection to {ada} closed")
        assert (terminal.process.wait(10), terminal.restored) == (5, True)
        with closing(Terminal(near, "-S", str(path))) as escaping:
            escaping.until("$ ")
            escaping.type("\r~.")
            escaping.until("ended by the escape")
            assert (escaping.process.wait(10), escaping.restored) == (255, True)
        code, _, said = near.run(*sharing, "-O", "check")
        assert (code, said.startswith(f"master of {ada} is running (pid ")) == (0, True)
        assert near.run(*sharing, "-O", "exit")[0] == 0
        assert first.wait(PATIENCE_S) == 0
        assert not path.exists()
    lines = [json.loads(line) for line in (far.root / "log").read_text().splitlines()]
    kinds = [line["type"] for line in lines]
    assert [kinds.count(kind) for kind in ("login", "run", "end", "logout")] == [1, 5, 5, 1]
    assert len({line["peer"] for line in lines}) == 1


def test_master_waits_for_the_others_and_ends_with_its_own_status(
    hosts: tuple[Peer, ShellHost], path: Path
) -> None:
    near, far = hosts
    with (
        serving(far, port=4001) as (ada, _),
        master(near, path, ada, "cat; echo over; exit 3") as first,
        near.start("shell", "-S", str(path), "cat; exit 4") as other,
    ):
        for typed in (b"one\n", b"two\n"):
            assert other.stdin is not None
            other.stdin.write(typed)
            other.stdin.flush()
            assert heard(other) == typed
            if typed == b"one\n":
                assert first.stdin is not None
                first.stdin.close()
                assert heard(first) == b"over\n"
        assert first.poll() is None
        other.stdin.close()
        assert (other.wait(PATIENCE_S), first.wait(PATIENCE_S)) == (4, 3)
    assert not path.exists()


def test_master_in_the_background_outlives_its_terminal(
    hosts: tuple[Peer, ShellHost], path: Path
) -> None:
    near, far = hosts
    command = ["nohup", sys.executable, "-m", "rawproto.cli.main", "shell", "-M", "-S", str(path)]
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with (
        serving(far, port=4001) as (ada, _),
        near.host.popen([*command, "-N", ada], env=near.environment, **nowhere) as process,
    ):
        until(path.exists)
        process.send_signal(signal.SIGHUP)
        assert near.run("shell", "-S", str(path), "echo in")[:2] == (0, b"in\n")
        process.terminate()
        assert process.wait(PATIENCE_S) == 255
    assert not path.exists()


def test_killed_master_ends_the_others_at_once_and_leaves_a_path_to_the_next(
    hosts: tuple[Peer, ShellHost], path: Path
) -> None:
    near, far = hosts
    sharing = ("shell", "-S", str(path))
    with serving(far, "--outage", "2", port=4001) as (ada, _):
        with (
            master(near, path, "-N", ada) as first,
            closing(Terminal(near, "-S", str(path))) as terminal,
            near.start(*sharing, "-n", "echo on; sleep 8765") as other,
        ):
            terminal.until("$ ")
            assert heard(other) == b"on\n"
            first.kill()
            output, said = other.communicate(timeout=PATIENCE_S)
            line = f"rawproto shell: {path}: the master is gone"
            assert (other.returncode, output, said.decode()) == (255, b"", f"{line}\n")
            terminal.until(line)
            assert (terminal.process.wait(10), terminal.restored) == (255, True)
        far.until_gone("sleep 8765")
        assert path.exists()
        for words in (("-O", "check"), (ada, "id")):
            code, output, said = near.run(*sharing, *words)
            assert (code, output) == (255, b"")
            assert said == f"rawproto shell: -S {path}: no master is there\n"
        with master(near, path, "-N", ada):
            assert near.run(*sharing, ada, "echo in")[:2] == (0, b"in\n")
            code, output, said = near.run("shell", "-M", "-S", str(path), ada, "id")
            assert (code, output, said.count("\n")) == (255, b"", 1)
            assert "Address already in use" in said
            code, output, said = near.run(*sharing, f"bob@{ada.removeprefix('ada@')}", "id")
            assert (code, output, said.count("\n")) == (255, b"", 1)
            assert f"is connected to {ada}" in said
            assert near.run(*sharing, "echo still")[1] == b"still\n"


def test_lost_connection_of_the_master_is_told_to_all(
    hosts: tuple[Peer, ShellHost], path: Path
) -> None:
    near, far = hosts
    with (
        serving(far, "--grace", "0", port=4001) as (ada, server),
        master(near, path, "-N", ada) as first,
        near.start("shell", "-S", str(path), "-n", "echo on; sleep 100") as other,
    ):
        assert heard(other) == b"on\n"
        server.terminate()
        _, said = other.communicate(timeout=PATIENCE_S)
        assert (other.returncode, said.count(b"\n")) == (255, 1), said
        assert first.wait(PATIENCE_S) == 255
    assert not path.exists()


_ASK = """import socket, sys
made = socket.socket(socket.AF_UNIX)
made.connect(sys.argv[1])
try:
    made.sendall(b'\\0\\0\\0\\x13\\0{"method":"check"}')
    print(made.recv(100))
except ConnectionError:
    print(b"")
"""
_LISTEN = """import socket, sys
made = socket.socket(socket.AF_UNIX)
made.bind(sys.argv[1])
made.listen()
print("listening", flush=True)
sys.stdin.read()
"""


def test_other_users_neither_share_nor_are_taken_for_a_master(
    hosts: tuple[Peer, ShellHost], path: Path
) -> None:
    near, far = hosts
    own = ["/usr/bin/python3", "-c"]
    ada = ["setpriv", "--reuid", str(UID), "--clear-groups", *own]

    def ask(*words: str) -> tuple[str, str]:
        words = (*words, _ASK, str(path))
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
        return done.stdout, done.stderr

    path.parent.chmod(0o755)
    with serving(far, port=4001) as (address, _):
        with master(near, path, "-N", address):
            assert '"pid"' in ask(*own)[0]
            if REAL:  # a user namespace has but one user
                assert "PermissionError" in ask(*ada)[1]
                path.chmod(0o666)  # as if the mode were not enough
                assert ask(*ada) == ("b''\n", "")
        path.parent.chmod(0o777)
        code, output, said = near.run("shell", "-M", "-S", f"{path}-2", address, "id")
        assert (code, output) == (255, b"")
        assert said == f"rawproto shell: -S {path}-2: others may write to {path.parent}\n"
    if REAL:
        planted = f"{path}-3"
        listening = [*ada, _LISTEN, planted]
        with subprocess.Popen(listening, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert heard(process) == b"listening\n"
            code, output, said = near.run("shell", "-S", planted, "id")
            assert (code, output) == (255, b"")
            assert said == f"rawproto shell: -S {planted}: the master there is another user's\n"
            process.communicate(timeout=PATIENCE_S)
