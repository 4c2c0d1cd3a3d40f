"""Forwards of `rawproto shell`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.peers import Peer
from tests.live.shells import (
    REAL,
    UID,
    ShellHost,
    serving,
    until,
)

pytestmark = pytest.mark.live


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


def test_far_side_reaches_by_socks_what_this_side_reaches(
    hosts: tuple[Peer, ShellHost], ada: str, tmp_path: Path
) -> None:
    near, far = hosts
    (tmp_path / "page").write_text("hello\n")
    words = [sys.executable, "-m", "http.server", "8094", "-d", str(tmp_path), "-b", "127.0.0.1"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    with (
        near.host.popen(words, stdout=pipe, stderr=subprocess.STDOUT, env=environment) as web,
        near.start("shell", "-N", "-R", "0", ada) as process,
    ):
        assert web.stdout is not None
        assert b"Serving" in web.stdout.readline()
        assert process.stderr is not None
        told = process.stderr.readline().decode()
        assert told.startswith("rawproto shell: -R localhost:0 to anywhere (SOCKS5): port ")
        socks = f"127.0.0.1:{told.split()[-2]}"
        curl = ["curl", "-sS", "-m", "10", "--socks5-hostname", socks]
        got = far.host.run([*curl, "http://localhost:8094/page"], check=True)
        assert got.stdout == "hello\n"
        assert far.host.run([*curl, "http://localhost:1/"]).returncode == 97
        for each in (web, process):
            each.terminate()
            each.communicate(timeout=10)


def test_forwards_can_be_refused_altogether(hosts: tuple[Peer, ShellHost]) -> None:
    near, far = hosts
    with serving(far, "--no-forwards", port=4001) as (ada, _):
        code, output, said = near.run("shell", "-R", "0:localhost:1", ada, "sleep 0.3; echo on")
    assert (code, output) == (0, b"on\n")
    assert "no method" in said
