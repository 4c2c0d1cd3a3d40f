"""`rawproto shell` between two hosts: commands, terminals, harm on the way, kills, outages."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import rawproto
from rawproto import lab
from rawproto.apps.shell import client
from rawproto.apps.shell.faults import ERRORS
from rawproto.identity.keys import fingerprint
from rawproto.rpc import RPCPeer
from tests.live.peers import HARM, Peer, address_of, await_ready
from tests.live.shells import (
    PATIENCE_S,
    REAL,
    UID,
    ShellHost,
    Terminal,
    directory_of,
    hosts_of,
    identity_of,
    serving,
    until,
)

pytestmark = pytest.mark.live

MIB = 1 << 20


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Where ada can be at home: she may not look into pytest's own directories."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def hosts(cable: lab.Network, home: Path) -> tuple[Peer, ShellHost]:
    return hosts_of(cable, home)


@pytest.fixture(scope="module")
def ada(hosts: tuple[Peer, ShellHost]) -> Iterator[str]:
    """Her address at a server that serves all tests which need none of their own."""
    with serving(hosts[1]) as (address, _):
        yield address


def brings(peer: Peer) -> Peer:
    """The same, with an environment of its own."""
    other = copy.copy(peer)
    other.environment = dict(peer.environment)
    return other


def descendants(pid: int) -> list[int]:
    """All processes that come from one."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [each for child in map(int, children) for each in (child, *descendants(child))]


# --- commands -----------------------------------------------------------------------------------


@pytest.mark.parametrize("carrier", ["rpt", "rpt+udp"])
def test_command_has_pipes_that_are_clean_and_its_own_status(
    carrier: str, hosts: tuple[Peer, ShellHost]
) -> None:
    near, far = hosts
    data = os.urandom(4 * MIB)
    with serving(far, carrier=carrier, port=4001) as (ada, _):
        code, output, said = near.run("shell", ada, "cat; echo done >&2; exit 7", data=data)
        assert (code, output == data, said) == (7, True, "done\n")
        assert near.run("shell", ada, "kill -TERM $$")[0] == 128 + signal.SIGTERM
        assert near.run("shell", ada, "kill -40 $$")[0] == 128 + 40
        code, output, _ = near.run("shell", "-T", ada, data=b"echo $0 from a pipe\n")
        assert (code, output) == (0, b"-bash from a pipe\n")
        code, output, _ = near.run("shell", ada, "echo $USER; pwd; echo $HOME; ulimit -n; umask")
        home = str(far.home)
        assert output.decode().split() == ["ada", home, home, "1024", "0022"]
        assert near.run("shell", "-n", ada, "cat; echo nothing")[1] == b"nothing\n"


def test_session_has_the_accounts_variables_and_few_of_the_clients(
    hosts: tuple[Peer, ShellHost], ada: str
) -> None:
    near, far = brings(hosts[0]), hosts[1]
    near.environment |= {
        "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "LD_PRELOAD": "/tmp/x.so", "BASH_ENV": "/tmp/x",
        "LC_TIME": "$(reboot)", "PATH": os.environ["PATH"] + ":/mine",
    }  # fmt: skip
    output = near.run("shell", ada, "env")[1].decode()
    found = dict(line.split("=", 1) for line in output.splitlines())
    for name in ("RAWPROTO_PEER", "_", "SHLVL", "PWD", "LANG"):
        found.pop(name, None)
    assert found == {
        "HOME": str(far.home), "SHELL": "/bin/bash", "USER": "ada", "LOGNAME": "ada",
        "MAIL": "/var/mail/ada", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo",
        "PATH": "/usr/local/bin:/usr/bin:/bin" if REAL else found["PATH"],
    }  # fmt: skip


def test_nothing_of_the_servers_is_left_in_a_session(
    hosts: tuple[Peer, ShellHost], ada: str
) -> None:
    near, _ = hosts
    look = "ls -l /proc/self/fd | grep -c socket; grep -E '^(Sig(Ign|Blk)|NoNewPrivs)' "
    look += "/proc/self/status; ps -o pgid=,sid= -p $$; cat /proc/$PPID/environ; echo; id -G"

    lines = near.run("shell", ada, look)[1].decode().split("\n")
    assert lines[0] == "0", "a socket of the server's is open"
    assert [line.split()[1].strip("0") for line in lines[1:4]] == ["", "", ""], lines
    group, session = lines[4].split()
    assert group == session
    if REAL:
        assert lines[-2] == str(UID)
        assert lines[5] == "", "ada may not look into the process that attends her"


def test_interrupt_reaches_a_command_without_terminal(
    hosts: tuple[Peer, ShellHost], ada: str
) -> None:
    near, _ = hosts
    process = near.start("shell", ada, "trap 'echo told; exit 9' INT; echo on; sleep 100")
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (9, b"told\n")
    process = near.start("shell", ada, "trap 'echo told' INT; echo on; while :; do read x; done")
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"told\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE_S)[1] == b""
    assert process.returncode == 130


def test_reader_that_has_enough_ends_it(hosts: tuple[Peer, ShellHost], ada: str) -> None:
    near, far = hosts
    with near.start("shell", ada, "yes rawproto-flood") as process:
        assert process.stdout is not None
        assert process.stdout.read(100_000).startswith(b"rawproto-flood\n")
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 141
    far.until_gone("yes rawproto-flood")


# --- terminals ----------------------------------------------------------------------------------


def test_terminal_is_a_terminal(hosts: tuple[Peer, ShellHost], ada: str) -> None:
    near, far = hosts
    with closing(Terminal(near, ada, size=(100, 30))) as terminal:
        terminal.until("$ ")
        terminal.type("stty size; echo $TERM $0; tty; test -O $(tty) && echo mine-\r")
        for words in ("30 100", "xterm-256color -bash", "/dev/pts/", "mine-"):
            terminal.until(words)
        terminal.resize((120, 40))
        os.kill(terminal.process.pid, signal.SIGWINCH)
        terminal.type("while test \"$(stty size)\" != '40 120'; do :; done; echo grown-$?\r")
        terminal.until("grown-0")
        terminal.type("sleep 100\r")
        until(lambda: bool(far.processes("sleep 100")))
        terminal.type("\x1a")
        terminal.until("Stopped")
        terminal.type("kill -9 %1; cat > paste; md5sum paste; stty echo\r")
        terminal.until("paste;")
        text = "".join([f"{number:07d} a line\n" for number in range(4096)])
        typing = threading.Thread(target=terminal.type, args=(text + "\x04",))
        typing.start()
        terminal.until(hashlib.md5(text.encode()).hexdigest())
        typing.join()
        terminal.type("exit 5\r")
        terminal.until("closed")
        assert (terminal.process.wait(10), terminal.restored) == (5, True)


def test_flood_stops_when_it_is_told_to(hosts: tuple[Peer, ShellHost], ada: str) -> None:
    """What comes after Ctrl-C is bounded by what may be on its way."""
    near, far = hosts
    with closing(Terminal(near, ada)) as terminal:
        terminal.until("$ ")
        terminal.type("PS1=ready-; yes rawproto-flood\r")
        terminal.until("rawproto-flood\r\n" * 5000)
        terminal.type("\x03")
        assert len(terminal.until("^C")) < 2 * MIB
        terminal.until("ready-")
        far.until_gone("yes rawproto-flood")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("escape", "ended by the escape"),
        ("terminate", "ended by SIGTERM"),
        ("server ends", "rawproto shell: rpt"),
        ("server is killed", "rawproto shell: rpt"),
    ],
)
def test_terminal_is_given_back_and_nothing_runs_on_however_it_ends(
    how: str, said: str, hosts: tuple[Peer, ShellHost]
) -> None:
    near, far = hosts
    words = ("--grace", "0.1", "--outage", "3")
    with (
        serving(far, *words, port=4001) as (ada, server),
        closing(Terminal(near, ada)) as terminal,
    ):
        terminal.until("$ ")
        assert not terminal.restored
        terminal.type("sleep 1234\r")
        until(lambda: bool(far.processes("sleep 1234")))
        if how == "escape":
            terminal.type("\r~?")
            terminal.until("suspend")
            terminal.type("\r~.")
        elif how == "terminate":
            os.kill(terminal.process.pid, signal.SIGTERM)
        elif how == "server ends":
            server.terminate()
        else:
            server.kill()
        terminal.until(said)
        assert (terminal.process.wait(PATIENCE_S), terminal.restored) == (255, True)
        far.until_gone("sleep 1234")


def test_suspended_client_goes_on_where_it_was(hosts: tuple[Peer, ShellHost], ada: str) -> None:
    near, _ = hosts
    words = [sys.executable, "-m", "rawproto.cli.main", "shell", ada]
    shell = ["setsid", "-c", "bash", "--norc", "-i"]
    with closing(Terminal(near, argv=shell)) as terminal:
        terminal.until("bash")
        terminal.type(" ".join(words) + "\r")
        terminal.until("ada@h2")
        terminal.type("\r~\x1a")
        terminal.until("Stopped")
        terminal.type("stty -a | grep -o ' icanon'; fg\r")
        terminal.until("icanon")
        terminal.type("echo back-$((6 * 7))\r")
        terminal.until("back-42")
        terminal.type("exit\r")
        terminal.until("closed")


class Tmux:
    """A local tmux, in which rawproto runs, and whose screen is looked at."""

    def __init__(self, peer: Peer, home: Path, *words: str) -> None:
        self._peer = peer
        self._environment = {**peer.environment, "TMUX_TMPDIR": str(home)}
        self._run("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", *words)

    def _run(self, *words: str) -> str:
        return self._peer.host.run(
            ["tmux", "-L", "rawproto", *words], check=True, env=self._environment
        ).stdout

    def keys(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def until(self, *words: str) -> list[str]:
        """The screen, once all of the words are on it."""
        screen = ""

        def shown() -> bool:
            nonlocal screen
            screen = self._run("capture-pane", "-p")
            return all(word in screen for word in words)

        try:
            until(shown)
        except AssertionError:
            raise AssertionError(f"{words} are not on it:\n{screen}") from None
        return screen.split("\n")

    def close(self) -> None:
        self._run("kill-server")


def test_programs_that_fill_the_screen_look_as_they_do_here(
    hosts: tuple[Peer, ShellHost], ada: str, home: Path
) -> None:
    near, far = hosts
    (far.home / "text").write_text("".join([f"line {number} ünïcode\n" for number in range(500)]))
    words = (sys.executable, "-m", "rawproto.cli.main", "shell", ada)
    near = brings(near)
    near.environment["LC_ALL"] = "C.UTF-8"
    os.chown(far.home / "text", UID, UID)
    with closing(Tmux(near, home, *words)) as screen:
        screen.until("ada@h2:~$")
        screen.keys("vim -u NONE text", "Enter")
        lines = screen.until("line 0 ünïcode", "line 22 ünïcode")
        screen.keys("G", "o", "typed over RPT", "Escape", ":wq", "Enter")
        screen.until("ada@h2:~$ ")
        screen.keys("clear; tail -1 text; tput cols", "Enter")
        lines = screen.until("80")
        assert lines[0] == "typed over RPT"
        screen.keys("less text", "Enter")
        screen.until("line 0 ünïcode", "text")
        screen.keys("/line 333", "Enter")
        assert screen.until("line 333 ünïcode")[0] == "line 333 ünïcode"
        screen.keys("q")
        screen.keys("htop", "Enter")
        screen.until("Load average", "F10Quit", "ada")
        screen.keys("q")
        screen.keys("clear; top -b -n 1 | head -1", "Enter")
        screen.until("load average")
        screen.keys("unset TMUX; tmux -L inner -f /dev/null new -s within", "Enter")
        screen.until("[within]")
        screen.keys("C-b", '"')
        screen.keys("echo in-$((40 + 2))", "Enter")
        lines = screen.until("in-42", "───")
        assert lines[11].startswith("─" * 40) or lines[12].startswith("─" * 40)
        screen.keys("tmux -L inner kill-server", "Enter")
        screen.until("exited")
        screen.keys("exit", "Enter")


# --- forwards -----------------------------------------------------------------------------------


def test_forwards_lead_both_ways_with_the_rights_of_the_user(
    hosts: tuple[Peer, ShellHost], ada: str
) -> None:
    near, far = hosts
    (far.home / "page").write_text("hello\n")
    web = far.host.popen(
        [sys.executable, "-m", "http.server", "8099", "-d", str(far.home), "-b", "127.0.0.1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    path = far.home / "socket"
    words = ("-N", "-L", "8098:localhost:8099", "-R", f"{path}:localhost:8098", "-D", "8096")
    taken = far.home / "taken"
    holder = socket.socket(socket.AF_UNIX)
    holder.bind(str(taken))
    os.chown(taken, UID, UID)
    not_theirs = "80:localhost:8098" if REAL else "0:localhost:80"
    refused = ("-L", "8095:localhost:1", "-R", not_theirs, "-R", f"{taken}:localhost:80")
    process = near.start("shell", *words, *refused, ada)
    try:
        assert web.stdout is not None
        assert "Serving" in web.stdout.readline()
        until(path.exists)
        if REAL:
            assert path.stat().st_uid == UID
        curl = ["curl", "-sS", "-m", "10"]
        for host, way in (
            (near, ["http://127.0.0.1:8098/page"]),
            (near, ["--socks5-hostname", "127.0.0.1:8096", "http://localhost:8099/page"]),
            (far, ["--unix-socket", str(path), "http://localhost/page"]),
        ):
            assert host.host.run([*curl, *way], check=True).stdout == "hello\n"
        assert near.host.run([*curl, "http://127.0.0.1:8095/page"]).returncode in (52, 56)
    finally:
        web.terminate()
        web.communicate(timeout=10)
        process.terminate()
        _, said = process.communicate(timeout=10)
    assert process.returncode == 255
    for why in ("connection refused", *(["permission denied"] if REAL else []), "SIGTERM"):
        assert why in said.decode()
    until(lambda: not path.exists())
    assert "taken: address already in use" in said.decode()
    assert taken.exists(), "what somebody else had made there is theirs"
    holder.close()


def test_forwards_can_be_refused_altogether(hosts: tuple[Peer, ShellHost]) -> None:
    near, far = hosts
    with serving(far, "--no-forwards", port=4001) as (ada, _):
        code, output, said = near.run("shell", "-R", "0:localhost:1", ada, "sleep 0.3; echo on")
    assert (code, output) == (0, b"on\n")
    assert "no method" in said


# --- harm ---------------------------------------------------------------------------------------


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


# --- who may not, and what cannot be ------------------------------------------------------------


def complaint(peer: Peer, *words: str) -> str:
    """The one line with which it ends, 255 being its status."""
    code, output, said = peer.run("shell", *words)
    lines = [line for line in said.splitlines() if line.startswith("rawproto shell: ")]
    assert (code, output, len(lines)) == (255, b"", 1), (code, output, said)
    return lines[0]


def test_who_may_not_gets_nothing_and_is_not_told_why(home: Path, cable: lab.Network) -> None:
    (home / "doors").mkdir()
    near, far = hosts_of(cable, home / "doors")
    stranger = Peer(near.host, home / "doors" / "stranger")
    far.account("nobodys", UID + 1 if REAL else UID, "/usr/sbin/nologin")
    far.account("toor", 0, "/bin/sh")
    far.account("broken", UID, "/bin/no-such-shell")
    central = far.root / "central"
    key = identity_of(near).public
    central.write_text(f"# who may\nbroken,toor,nobodys,gone {key}\n")
    with serving(far, "--authorized", str(central), port=4001) as (ada, _):
        at = ada.removeprefix("ada@")
        own = far.home / ".config" / "rawproto" / "authorized"
        assert near.run("shell", ada, "echo in")[1] == b"in\n"
        denied = [complaint(stranger, "--accept-new", ada, "id")]
        names = ["gone", "nobodys", "no-such-user", "ada; reboot", *(["toor"] if REAL else [])]
        denied += [complaint(near, f"{name}@{at}", "id") for name in names]
        for path in (own, far.home):
            path.chmod(path.stat().st_mode | 0o020)
            denied.append(complaint(near, ada, "id"))
            path.chmod(path.stat().st_mode & ~0o020)
        own.rename(own.with_name("aside"))
        denied.append(complaint(near, ada, "id"))
        own.symlink_to(own.with_name("aside"))
        assert near.run("shell", ada, "echo in")[1] == b"in\n"
        assert all(line.endswith("permission denied") for line in denied), denied
        assert "no-such-shell" in complaint(near, f"broken@{at}", "id")
        central.chmod(0o666)
        assert complaint(near, f"broken@{at}", "id").endswith("permission denied")
    log = (far.root / "log").read_text()
    for why in ("no such user", "nologin", "written by others", "not in", "No such file"):
        assert why in log


def test_log_tells_who_came_and_what_they_ran_and_logins_have_a_bound(home: Path) -> None:
    with lab.up(lab.pair()) as network:
        (home / "log").mkdir()
        near, far = hosts_of(network, home / "log")
        with serving(far, "--log", "json", "--most", "1") as (ada, _):
            with near.start("shell", ada, "echo in; cat; exit 3") as process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"in\n"
                assert complaint(near, ada, "id").endswith("too many logins")
                process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 3
    lines = [json.loads(line) for line in (far.root / "log").read_text().splitlines()]
    told = {line["type"]: line for line in lines}
    assert [line["type"] for line in lines] == ["login", "run", "denied", "end", "logout"]
    assert {line["user"] for line in lines} == {"ada"}
    assert {line["key"] for line in lines} == {fingerprint(identity_of(near).public.data)}
    assert all(line["peer"].startswith("10.99.1.1:") for line in lines)
    assert told["denied"]["why"] == "1 logins are there"
    assert told["run"]["command"] == told["end"]["command"] == "echo in; cat; exit 3"
    assert told["end"]["result"] == {"status": 3}
    assert told["logout"]["duration_s"] >= told["end"]["duration_s"] > 0
    assert told["logout"]["error"] is None


def test_server_of_an_ordinary_user_serves_that_user_alone(home: Path, cable: lab.Network) -> None:
    (home / "own").mkdir()
    near, far = hosts_of(cable, home / "own")
    far.account("bob", UID + 1, "/bin/bash")
    for path in (directory_of(far), directory_of(far) / "identity"):
        os.chown(path, UID, UID)
    central = far.root / "central"
    central.write_text(f"bob {identity_of(near).public}\n")
    os.chown(central, UID, UID)
    if REAL:  # who may read, for the interpreter and the checkout may lie where only root may
        far.before = ("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups")
        far.before += ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    words = ("--authorized", str(central))
    with serving(far, *words, carrier="rpt+udp", port=4001) as (ada, _):
        assert near.run("shell", ada, "echo $USER")[1] == b"ada\n"
        if REAL:
            bob = f"bob@{ada.removeprefix('ada@')}"
            assert complaint(near, bob, "id").endswith("permission denied")
    if REAL:  # a user namespace has one user, who is its root
        assert "serves its own user alone" in (far.root / "log").read_text()


def test_root_is_let_in_where_that_is_allowed(home: Path, cable: lab.Network) -> None:
    (home / "root").mkdir()
    near, far = hosts_of(cable, home / "root")
    far.account("toor", 0, "/bin/sh")
    central = far.root / "central"
    central.write_text(f"toor {identity_of(near).public}\n")
    words = ("--allow-root", "--authorized", str(central))
    with serving(far, *words, port=4001) as (ada, _):
        toor = f"toor@{ada.removeprefix('ada@')}"
        assert near.run("shell", toor, "id -u; test -w /etc/shadow || echo")[1] == b"0\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nonsense", "id"], 255, "not an RPT address"),
        (["ada@rpt://127.0.0.1:1", "id"], 255, "nobody listens"),
        (["-e", "xy", "ada@rpt://127.0.0.1:1"], 255, "-e xy"),
        (["--outage", "0", "ada@rpt://127.0.0.1:1"], 255, "--outage"),
        (["--no-such", "ada@rpt://127.0.0.1:1"], 2, "--no-such"),
        (["serve", "--listen", "nonsense"], 2, "not an RPT address"),
        (["serve", "--listen", "rpt://192.0.2.1:4000"], 2, "192.0.2.1"),
        (["serve", "--listen", "rpt://127.0.0.1:0", "--as", "root"], 2, "not root"),
        (["serve", "--listen", "rpt://127.0.0.1:0", "--as", "no-such"], 2, "no such user"),
        (["serve", "--listen", "rpt://127.0.0.1:0", "--authorized", "/none"], 2, "/none"),
        (["serve"], 2, "--listen"),
        ([], 2, "required: [USER@]ADDRESS ("),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], code: int, said: str, hosts: tuple[Peer, ShellHost]
) -> None:
    near, _ = hosts
    got, output, told = near.run("shell", *words)
    assert (got, output, len(told.splitlines())) == (code, b"", 1), told
    assert said in told


def test_taken_port_and_terminal_that_is_none_are_one_line(
    hosts: tuple[Peer, ShellHost], ada: str
) -> None:
    near, far = hosts
    code, _, said = far.run("shell", "serve", "--listen", ada.removeprefix("ada@"))
    assert (code, len(said.splitlines())) == (2, 1)
    assert "in use" in said
    code, output, said = near.run("shell", "-t", ada, "tty")
    assert (code, output, len(said.splitlines())) == (1, b"not a tty\n", 1)
    assert "no terminal" in said
    for shell in ('exec "$@"', 'exec "$@" <&-'):
        words = ["sh", "-c", shell, "sh", sys.executable, "-m", "rawproto.cli.main", "shell"]
        done = near.host.run([*words, "-tt", ada, "tty"], env=near.environment)
        assert (done.returncode, done.stdout.startswith("/dev/pts/")) == (0, True), done.stderr


# --- beside OpenSSH -----------------------------------------------------------------------------


def test_ssh_goes_through_a_relay_by_its_proxy_command(
    hosts: tuple[Peer, ShellHost], home: Path
) -> None:
    """As docs/shell.md says it: the same commands."""
    near, far = hosts
    keys = home / "ssh"
    keys.mkdir()
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
        subprocess.run(words, check=True)
    (keys / "config").write_text(
        f"HostKey {keys}/host\nListenAddress 127.0.0.1:2222\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {keys}/user.pub\nStrictModes no\nPermitRootLogin yes\n"
    )
    address = address_of(far, port=4001)
    sshd = far.host.popen(
        [
            *("sh", "-c", 'mkdir -p /run/sshd; exec "$@"', "sh"),
            *(str(shutil.which("sshd", path="/usr/sbin")), "-D", "-e", "-f", f"{keys}/config"),
        ],
        stderr=subprocess.PIPE,
    )
    relay = far.start("relay", f"rpt-listen:{far.host.ipv4}:4001", "tcp:127.0.0.1:2222")
    try:
        assert sshd.stderr is not None
        assert b"listening" in sshd.stderr.readline()
        await_ready(relay)
        proxy = f"{sys.executable} -m rawproto.cli.main connect {address}"
        words = [
            "ssh", "-F", "none", "-i", str(keys / "user"), "-o", "StrictHostKeyChecking=no",
            "-o", f"UserKnownHostsFile={keys}/known", "-o", f"ProxyCommand={proxy}",
            "root@far", "cat; exit 3",
        ]  # fmt: skip
        done = near.host.popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=near.environment,
        )  # fmt: skip
        data = os.urandom(MIB)
        output, said = done.communicate(data, timeout=PATIENCE_S)
        assert (done.returncode, output == data) == (3, True), said
    finally:
        for process in (relay, sshd):
            process.terminate()
            process.communicate(timeout=10)
