"""A lost connection is made again, also while the server is still on its way up."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rawproto.cli import files, rpt_dial
from rawproto.errors import ConnectionLostError, RefusedError


def copied(
    ends: list[Exception | None], tries: int, monkeypatch: pytest.MonkeyPatch, here: Path
) -> tuple[int, int]:
    """(exit code, ends that came to pass) of `files get` over connections that end like this."""
    left: Iterator[Exception | None] = iter(ends)
    count = 0

    async def connect(arguments: Any, config: Any, trust: Any, use: Any) -> None:
        nonlocal count
        count += 1
        if (end := next(left)) is not None:
            raise end

    monkeypatch.setattr(rpt_dial, "_connect", connect)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("XDG_STATE_HOME", str(here))
    parser = argparse.ArgumentParser()
    files.add_arguments(parser)
    words = ["get", "rpt://10.0.0.2:4000/x", str(here / "x"), "--tries", str(tries)]
    arguments = parser.parse_args(words)
    arguments.debug = False
    return files.run(arguments), count


def test_server_that_restarts_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lost, refused = ConnectionLostError("silence"), RefusedError("nobody listens")
    assert copied([lost, refused, refused, None], 5, monkeypatch, tmp_path) == (0, 4)
    assert copied([lost, refused, refused, None], 3, monkeypatch, tmp_path) == (1, 3)


def test_server_that_never_was_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert copied([RefusedError("nobody listens")], 5, monkeypatch, tmp_path) == (1, 1)
