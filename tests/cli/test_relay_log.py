"""What a relay's log says."""

from __future__ import annotations

import errno

import pytest

from rawproto.cli import relaying
from rawproto.cli.serving import Log


def test_target_that_is_down_is_told_in_the_kernels_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.3', 80)")
    relaying._tell_health(Log("text"), "tcp:10.0.0.3:80", error)
    relaying._tell_health(Log("text"), "tcp:10.0.0.3:80", None)
    down, up = capsys.readouterr().err.splitlines()
    assert down.endswith("Z tcp:10.0.0.3:80 is down: connection refused")
    assert up.endswith("Z tcp:10.0.0.3:80 is up again")
