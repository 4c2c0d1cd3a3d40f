"""What `listen` says of its clients."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import rawproto


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has no key yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_a_client_that_ends_badly_is_told_with_its_reason() -> None:
    async def end(address: str, code: int | None) -> None:
        async with rawproto.connect(address) as connection:
            if code is not None:
                connection.abort(code, "had\x1benough")

    words = [sys.executable, "-m", "rawproto.cli.main", "listen", "--keep", "rpt+udp://127.0.0.1:0"]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as listener:
        try:
            assert listener.stderr is not None
            lines = iter(listener.stderr.readline, "")
            address = next(line for line in lines if line.startswith("listening")).split()[1]
            asyncio.run(end(address, 300))
            ended = next(line for line in lines if line.startswith("ended"))
            assert ended.endswith(": had\\x1benough (code 300)\n")
            asyncio.run(end(address, None))
            name = next(line for line in lines if line.startswith("connected")).split()[1]
            assert next(lines) == f"ended {name}\n"
        finally:
            listener.terminate()
