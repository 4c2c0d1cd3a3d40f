"""`rawproto shell` on terminals: what is seen on them, and how they are left."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.live.peers import Peer
from tests.live.shells import (
    PATIENCE_S,
    UID,
    ShellHost,
    Terminal,
    brings,
    serving,
    until,
)

pytestmark = pytest.mark.live

MIB = 1 << 20


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


def test_client_whose_terminal_goes_ends_with_its_session(
    hosts: tuple[Peer, ShellHost], ada: str
) -> None:
    near, far = hosts
    with closing(Terminal(near, ada)) as terminal:
        terminal.until("$ ")
        terminal.type("sleep 1235\r")
        until(lambda: bool(far.processes("sleep 1235")))
        terminal.hang_up()
        assert terminal.process.wait(PATIENCE_S) == 255
        far.until_gone("sleep 1235")


def test_login_shell_that_reads_no_input_has_no_terminal_and_ends(
    hosts: tuple[Peer, ShellHost], ada: str
) -> None:
    """As of ssh; on a terminal it would wait for what nobody could type."""
    with closing(Terminal(hosts[0], "-n", ada)) as terminal:
        assert (terminal.process.wait(PATIENCE_S), terminal.restored) == (0, True)


def test_suspended_client_goes_on_where_it_was(hosts: tuple[Peer, ShellHost], ada: str) -> None:
    near, _ = hosts
    words = [sys.executable, "-m", "rawproto.cli.main", "shell", ada]
    shell = ["setsid", "-c", "bash", "--norc", "-i"]
    with closing(Terminal(near, argv=shell)) as terminal:
        terminal.until("bash")
        terminal.type("stty erase ^H; " + " ".join(words) + "\r")
        terminal.until("ada@h2")
        terminal.type("stty -a\r")
        terminal.until("erase = ^H;")
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
