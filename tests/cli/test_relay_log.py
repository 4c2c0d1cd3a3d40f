"""What a relay's log says."""

from __future__ import annotations

import errno
import json

import pytest

from rawproto.apps.relay.relay import Session
from rawproto.cli import relaying
from rawproto.cli.serving import Log
from rawproto.errors import RefusedError


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


def test_session_that_reached_nobody_names_all_that_were_tried(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error, tried = RefusedError("nobody listens on that port"), "rpt:10.0.0.2:1,rpt:10.0.0.3:1"
    for form in ("text", "json"):
        session = Session(near="tcp:127.0.0.1:9", error=error)
        relaying._tell(Log(form), session, tried, single=False)
    session = Session(near="tcp:127.0.0.1:9", far="rpt:10.0.0.3:1", error=error)
    relaying._tell(Log("text"), session, tried, single=False)
    text, told, later = capsys.readouterr().err.splitlines()
    assert text.endswith(f" s: {tried}: nobody listens on that port")
    fields = json.loads(told)
    assert (fields["far"], fields["target"]) == (None, tried)
    assert fields["error"] == "nobody listens on that port"
    assert later.endswith(" s: nobody listens on that port")
