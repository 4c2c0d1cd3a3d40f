"""Who may log in by `rawproto shell`, who may not, and what cannot be."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from rawproto import lab
from rawproto.identity.keys import fingerprint
from tests.live.peers import Peer
from tests.live.shells import (
    PATIENCE_S,
    REAL,
    UID,
    ShellHost,
    directory_of,
    hosts_of,
    identity_of,
    serving,
)

pytestmark = pytest.mark.live


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
        (["--identity", "/none", "ada@rpt://127.0.0.1:1"], 255, "/none: No such file"),
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
