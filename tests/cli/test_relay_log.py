"""What a relay's log says."""

from __future__ import annotations

import errno
import json

import pytest

from rawproto.cli import relaying
from rawproto.cli.serving import Log


def test_target_that_is_down_is_told_in_the_kernels_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.3', 80)")
    relaying._tell_health(Log("text"), None, "tcp:10.0.0.3:80", error)
    relaying._tell_health(Log("text"), None, "tcp:10.0.0.3:80", None)
    down, up = capsys.readouterr().err.splitlines()
    assert down.endswith("Z tcp:10.0.0.3:80 is down: connection refused")
    assert up.endswith("Z tcp:10.0.0.3:80 is up again")


def test_worker_that_sees_a_target_go_down_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    relaying._tell_health(Log("text"), 1, "tcp:10.0.0.3:80", None)
    relaying._tell_health(Log("json"), 1, "tcp:10.0.0.3:80", None)
    text, told = capsys.readouterr().err.splitlines()
    assert text.endswith("Z worker 1: tcp:10.0.0.3:80 is up again")
    assert json.loads(told)["worker"] == 1
