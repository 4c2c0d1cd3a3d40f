"""`rawproto lab`: commands on hosts, labs that stay up, bad input, and all of it without root."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.test_lab import (
    BOUND_S,
    RAWPROTO,
    ROOT,
    UNPRIVILEGED,
    _nothing_left_behind,
    lab_namespaces,
    namespaces_of,
    survivors,
)

__all__ = ["_nothing_left_behind"]


class CommandLine:
    """`rawproto lab` as a process, with a state directory of its own."""

    def __init__(self, runtime: Path, prefix: tuple[str, ...] = ()) -> None:
        self.state = runtime / "rawproto"
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "COLUMNS": "80"}
        self.prefix = prefix

    def __call__(self, *words: str) -> tuple[int, str, str]:
        command = [*self.prefix, *RAWPROTO, *words]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=BOUND_S
        )
        return done.returncode, done.stdout, done.stderr

    def labs(self) -> list[dict]:
        return [json.loads(line) for line in self("list", "--json")[1].splitlines()]


@pytest.fixture
def rawproto(tmp_path: Path) -> Iterator[CommandLine]:
    command_line = CommandLine(tmp_path)
    yield command_line
    command_line("down", "--all")


def test_run_gives_the_command_h2s_addresses_and_returns_its_exit_code(
    rawproto: CommandLine,
) -> None:
    script = 'hostname; echo "$RAWPROTO_H2 $RAWPROTO_H2_V6"; ping -c1 -W5 h2 >/dev/null && exit 7'
    for words in (["chain", "12"], ["chain:12"]):
        done = rawproto("run", *words, "--", "sh", "-c", script)
        assert done == (7, "h1\n10.99.12.2 fd99:12::2\n", "")
    assert not list(rawproto.state.parent.iterdir())


def test_run_leaves_options_and_dashes_to_the_command(rawproto: CommandLine) -> None:
    done = rawproto("run", "pair", "--", "echo", "--name", "x", "--", "-h")
    assert done == (0, "--name x -- -h\n", "")


@pytest.mark.parametrize(
    "words", [["pair", "ping", "-c1", "h2"], ["chain", "3", "ping"], ["pair"], ["pair", "--"]]
)
def test_command_without_dashes_before_it_is_told_where_to_stand(
    rawproto: CommandLine, words: list[str]
) -> None:
    code, shown, said = rawproto("run", *words)
    assert (code, shown) == (2, "")
    assert said == (
        "rawproto lab run: no command: give one behind `--`, as in `pair -- ping -c1 h2` "
        "(see rawproto lab run --help)\n"
    )


def test_command_that_a_signal_ends_is_told_as_by_a_shell(rawproto: CommandLine) -> None:
    assert rawproto("run", "pair", "--", "sh", "-c", "kill -USR1 $$") == (128 + 10, "", "")


def test_command_that_cannot_be_started_is_told_as_by_a_shell(rawproto: CommandLine) -> None:
    assert rawproto("run", "pair", "--", "no-such-program") == (
        127,
        "",
        "rawproto lab: no-such-program: No such file or directory\n",
    )
    assert rawproto("run", "pair", "--", "/") == (126, "", "rawproto lab: /: Permission denied\n")


def test_signal_to_run_is_passed_on_to_the_command(rawproto: CommandLine) -> None:
    script = 'trap "echo caught; exit 9" TERM; echo ready; while :; do sleep 0.01; done'
    command = [*RAWPROTO, "run", "pair", "--", "sh", "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # The command may be quicker than its parent, which only now learns that it runs.
        while (
            not int(
                Path(f"/proc/{process.pid}/status").read_text().split("SigCgt:")[1].split()[0], 16
            )
            >> (signal.SIGTERM - 1)
            & 1
        ):
            os.sched_yield()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "caught\n"
    assert process.returncode == 9


def test_lab_is_called_by_its_own_name_where_something_is_not_in_it(
    rawproto: CommandLine,
) -> None:
    assert rawproto("up", "pair", "--name", "mine")[0] == 0
    for words, told in (
        (["exec", "h9", "true"], "no host 'h9' in lab mine (there are h1, h2)"),
        (["link", "9:delay=1ms"], "no link 9 in lab mine (they are 1 to 1)"),
    ):
        assert rawproto(*words) == (2, "", f"rawproto lab: {told}\n")
    assert rawproto("link", "1:delay=1ms")[0] == 0
    (entry,) = rawproto.labs()
    assert (entry["name"], entry["topology"]) == ("mine", "pair")
    assert rawproto("down")[0] == 0


def test_lab_stays_up_until_it_is_taken_down(rawproto: CommandLine) -> None:
    code, shown, complaint = rawproto("up", "diamond", "2")
    assert (code, complaint) == (0, "")
    assert "  h1 ── r1 ─┬─ m1 ─┬─ r2 ── h2\n            └─ m2 ─┘\n" in shown
    assert "10.99.6.1  10.99.6.2  fd99:6::1  fd99:6::2" in shown
    assert "try next:\n  rawproto lab exec h1 rawproto ping -c 3 h2\n" in shown
    (entry,) = rawproto.labs()
    assert (entry["name"], entry["alive"]) == ("diamond-2", True)
    namespaces = lab_namespaces(entry["pid"])
    assert len(namespaces) == 2 + 6 + 1  # the hosts' and the emulator's
    assert rawproto("exec", "m1", "sh", "-c", "hostname; exit 5") == (5, "m1\n", "")
    assert rawproto("exec", "h1", "--", "ping", "-c1", "-W5", "h2")[0] == 0
    assert rawproto("exec", "h9", "true") == (
        2,
        "",
        "rawproto lab: no host 'h9' in lab diamond-2 (there are h1, h2, r1, r2, m1, m2)\n",
    )
    assert rawproto("down") == (0, "lab diamond-2 is down\n", "")
    assert survivors(namespaces) == []
    assert rawproto.labs() == []
    assert rawproto("exec", "h1", "true") == (
        2,
        "",
        "rawproto lab: no lab is up; `rawproto lab up pair` starts one\n",
    )


def test_several_labs_are_told_apart_by_name(rawproto: CommandLine) -> None:
    # Whoever reads only the first line takes no lab down by that.
    shell = [*RAWPROTO, "up", "pair"]
    with subprocess.Popen(
        shell, cwd=ROOT, env=rawproto.environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
    assert [entry["alive"] for entry in rawproto.labs()] == [True]
    assert "lab pair-2 is up" in rawproto("up", "pair")[1]
    assert rawproto("up", "chain", "2", "--name", "pair") == (
        2,
        "",
        "rawproto lab: lab pair is up already; `rawproto lab down pair` ends it\n",
    )
    described = json.loads(rawproto("up", "chain", "2", "--name", "mine", "--json")[1])
    assert (described["type"], described["schema"], described["name"]) == ("lab", 1, "mine")
    assert [host["name"] for host in described["hosts"] if host["router"]] == ["r1"]
    assert described["hosts"][1]["interfaces"] == [
        {
            "name": "eth0",
            "link": 2,
            "peer": "r1",
            "ipv4": "10.99.2.2/24",
            "ipv6": "fd99:2::2/64",
        }
    ]
    assert rawproto("exec", "h1", "true")[2] == (
        "rawproto lab: several labs are up (mine, pair, pair-2): say which with --name\n"
    )
    assert rawproto("exec", "--name", "mine", "r1", "hostname") == (0, "r1\n", "")
    assert rawproto("down", "pair") == (0, "lab pair is down\n", "")
    code, shown, _ = rawproto("down", "--all")
    assert (code, shown) == (0, "lab mine is down\nlab pair-2 is down\n")


def test_dead_lab_is_recognised_and_cleaned(rawproto: CommandLine) -> None:
    rawproto("up", "pair")
    rawproto("up", "chain", "2")
    chain, pair = rawproto.labs()
    pidfd = os.pidfd_open(pair["pid"])
    os.kill(pair["pid"], signal.SIGKILL)
    assert select.select([pidfd], [], [], BOUND_S)[0]
    os.close(pidfd)
    assert [entry["alive"] for entry in rawproto.labs()] == [True, False]
    listed = rawproto("list")[1].splitlines()
    assert listed[1].endswith("dead; `rawproto lab down pair` forgets it")  # `--all` ends the other
    assert rawproto("exec", "h1", "hostname") == (0, "h1\n", "")  # of the one that is alive
    assert rawproto("exec", "--name", "pair", "h1", "true") == (
        2,
        "",
        "rawproto lab: no lab pair is up; `rawproto lab list` shows those that are\n",
    )
    assert rawproto("down", "--all")[1] == "lab chain-2 is down\nlab pair was dead; forgotten\n"
    assert rawproto.labs() == []
    assert survivors(namespaces_of(chain["pid"])) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ["up", "ring"],
            "no topology 'ring'; there are pair, chain N, diamond N, star N, or a TOML",
        ),
        (["up", "pair", "--name", "../x"], "lab name '../x' is not letters, digits"),
        (["up", "no.toml"], "no.toml: No such file or directory"),
        (["down", "none"], "no lab none is up; `rawproto lab list` shows those that are"),
        (["exec", "h1"], "exec: no command"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    rawproto: CommandLine, words: list[str], complaint: str
) -> None:
    code, shown, said = rawproto(*words)
    assert (code, shown) == (2, "")
    assert said.startswith(f"rawproto lab: {complaint}")
    assert said.count("\n") == 1


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[CommandLine]:
    command_line = CommandLine(tmp_path, tuple(UNPRIVILEGED))
    if subprocess.run([*UNPRIVILEGED, "unshare", "-Un", "true"], capture_output=True).returncode:
        pytest.skip("the kernel gives no user namespaces")
    yield command_line
    command_line("down", "--all")


def test_lab_needs_no_root_where_there_are_user_namespaces(unprivileged: CommandLine) -> None:
    script = "ping -n -c1 -W5 $RAWPROTO_H2 && ping -n -c1 -W5 $RAWPROTO_H2_V6; hostname; exit 4"
    code, shown, complaint = unprivileged("run", "chain", "3", "--", "sh", "-c", script)
    assert (code, complaint) == (4, "")
    assert shown.count("ttl=62 ") == 2
    assert shown.endswith("h1\n")


def test_two_labs_without_root_are_entered_and_taken_down(unprivileged: CommandLine) -> None:
    assert unprivileged("up", "pair")[0] == 0
    assert unprivileged("up", "chain", "2")[0] == 0
    namespaces = set().union(*(lab_namespaces(entry["pid"]) for entry in unprivileged.labs()))
    assert unprivileged("exec", "--name", "pair", "h2", "hostname") == (0, "h2\n", "")
    assert unprivileged("exec", "--name", "chain-2", "r1", "hostname") == (0, "r1\n", "")
    assert unprivileged("down", "--all")[0] == 0
    assert survivors(namespaces) == []


def test_library_without_privilege_is_told_what_to_call() -> None:
    code = """
import threading
from rawproto import lab
from rawproto.errors import PrivilegeError
for attempt in (lambda: lab.up(lab.pair()), threaded := lambda: lab.become_root()):
    if attempt is threaded:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    try:
        attempt()
    except PrivilegeError as error:
        print(error)
"""
    command = [*UNPRIVILEGED, sys.executable, "-c", code]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S)
    refusal = "make namespaces: Operation not permitted (needs CAP_SYS_ADMIN); run as root"
    assert said.stdout.splitlines() == [
        f"{refusal}, or call become_root() before",
        f"{refusal}, or call become_root() before any thread is started",
    ]
