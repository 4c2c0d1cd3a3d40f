"""Two hosts with the command line on them, each with keys of its own: for tests of RPT's verbs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rawproto import lab

CARRIERS = ("rpt", "rpt+udp")
FAMILIES = (4, 6)
HARM = "delay=25ms,loss=2%,duplicate=2%,reorder=2%,corrupt=1%,seed=5"


class Peer:
    """`rawproto VERB` on a host, with keys of its own."""

    def __init__(self, host: lab.LiveHost, home: Path) -> None:
        self.host = host
        home.mkdir(exist_ok=True)
        self.environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(home),
            "XDG_STATE_HOME": str(home),
        }

    def start(self, *words: str, script: str | None = None) -> subprocess.Popen[bytes]:
        """The process; of a script that calls `main`, if there is one."""
        python = ["-m", "rawproto.cli.main"] if script is None else ["-c", script]
        return self.host.popen(
            [sys.executable, *python, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )

    def run(self, *words: str, data: bytes = b"") -> tuple[int, bytes, str]:
        """(exit code, output, what it said)."""
        process = self.start(*words)
        output, said = process.communicate(data, timeout=60)
        return process.returncode, output, said.decode()


def await_ready(process: subprocess.Popen[bytes]) -> bytes:
    """The line by which a server says that it listens, once it does."""
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith(b"listening"):
        assert line, "it ended"
    return line


@contextmanager
def listening(peer: Peer, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A listener that is ready; ended by its own process."""
    process = peer.start("listen", *words)
    try:
        await_ready(process)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


@contextmanager
def serving(peer: Peer, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that is ready; killed at the end, if it has not ended by itself."""
    process = peer.start(*words)
    try:
        await_ready(process)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def workers_of(server: subprocess.Popen[bytes]) -> list[int]:
    """The processes of a server with `--workers`, by the numbers that they have here."""

    def children(pid: int) -> list[int]:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    (supervisor,) = children(server.pid)
    return children(supervisor)


def address_of(peer: Peer, carrier: str = "rpt", family: int = 4, port: int = 4000) -> str:
    host = peer.host.ipv4 if family == 4 else f"[{peer.host.ipv6}]"
    return f"{carrier}://{host}:{port}"
