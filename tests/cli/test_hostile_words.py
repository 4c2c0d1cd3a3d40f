"""What a peer says of an error commands no terminal and writes no line of its own in a log."""

from __future__ import annotations

import pytest

from rawproto.apps.files.plan import Progress
from rawproto.cli import files, relaying
from rawproto.cli.rpt_dial import complain
from rawproto.cli.serving import Log
from rawproto.errors import RemoteProtocolError

HOSTILE = "done\x1b[2J\n2026-11-21T00:00:00Z 10.0.0.9:1 all is well"


def test_reason_of_a_close_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain("files", "rpt://10.0.0.2:4000", RemoteProtocolError(300, HOSTILE))
    assert_harmless(capsys.readouterr().err)


def test_log_has_a_line_a_session(capsys: pytest.CaptureFixture[str]) -> None:
    Log("text").write("session", f"10.0.0.2:5 1.000 s: {RemoteProtocolError(300, HOSTILE)}", {})
    assert_harmless(capsys.readouterr().err)


def test_what_a_server_says_of_a_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    files.tell_faults(Progress(faults=[HOSTILE]).faults)
    assert_harmless(capsys.readouterr().err)


def test_what_broke_a_relay_is_one_line() -> None:
    assert_harmless(relaying._words(RemoteProtocolError(300, HOSTILE)) + "\n")


def assert_harmless(said: str) -> None:
    assert "all is well" in said
    assert said.count("\n") == 1
    assert "\x1b" not in said
