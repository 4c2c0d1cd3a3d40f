"""A new peer's key: asked of who sits at the terminal, who may be typing to the peer besides."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from rawproto.cli.rpt_options import Trust
from rawproto.identity.keys import fingerprint

KEY = bytes(range(32))

ASK = """
import fcntl, os, sys, termios
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
from rawproto.cli.rpt_options import Trust
print(Trust("rpt://h:1", accept_new=False).ask(bytes(range(32))))
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who knows nobody yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def asked(typed: bytes) -> tuple[str, str]:
    """What a process on a terminal of its own is told and shows, standard input being no part."""
    ours, its = pty.openpty()
    os.set_blocking(ours, False)
    try:
        os.write(ours, typed)
        done = subprocess.run(
            [sys.executable, "-c", ASK, str(its)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=[its],
            start_new_session=True,
            timeout=30,
        )
        assert not done.stderr, done.stderr
        return done.stdout.strip(), os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(its)


@pytest.mark.parametrize("word", [b"y\n", b"YES\n"])
def test_a_yes_on_the_terminal_trusts_a_new_peer_from_then_on(word: bytes) -> None:
    answer, screen = asked(word)
    assert answer == "True"
    assert f"rpt://h:1 is not known. Its key is {fingerprint(KEY)}" in screen
    assert Trust("rpt://h:1", accept_new=False).peer_key == KEY


@pytest.mark.parametrize("word", [b"n\n", b"\n", b"\x04"])
def test_anything_else_does_not(word: bytes) -> None:
    answer, screen = asked(word)
    assert answer == "False"
    assert "Trust it? [y/N]" in screen
    assert Trust("rpt://h:1", accept_new=False).peer_key is None
