"""What the benches of many clients share: a server on a host, and what its processes take."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rawproto import lab

HERE = Path(__file__).parent
PORT = 4000
_LISTENING = re.compile(rb"^listening (\S+)$", re.MULTILINE)


def environment(home: str) -> dict[str, str]:
    """Of processes that keep keys in `home`, and bytecode as users have it."""
    made = {**os.environ, "XDG_CONFIG_HOME": home, "XDG_STATE_HOME": home}
    made.pop("PYTHONDONTWRITEBYTECODE", None)
    return made


@contextmanager
def serving(host: lab.LiveHost, home: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`rawproto perf serve`, ready; ended by its own process."""
    with verb(host, home, "perf", "serve", *words, f"rpt://{host.ipv4}:{PORT}") as (process, _):
        yield process


@contextmanager
def verb(
    host: lab.LiveHost, home: str, *words: str, before: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A verb that listens, behind other words of a command; and where it said so.

    It is ended by its own process.
    """
    with tempfile.TemporaryFile() as said:
        process = host.popen(
            [*before, sys.executable, "-m", "rawproto.cli.main", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env=environment(home),
        )
        try:
            while not (found := _LISTENING.search(os.pread(said.fileno(), 4096, 0))):
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
                told = os.pread(said.fileno(), 4096, 0).decode()
                raise SystemExit(f"{' '.join(words[:2])}: {told}")
            yield process, found[1].decode()
        finally:
            process.terminate()
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:  # clients that are gone do not answer its farewell
                process.kill()
                process.communicate()


def start(host: lab.LiveHost, script: str, *words: object) -> subprocess.Popen[bytes]:
    """A script of this directory, on a host."""
    return host.popen(
        [sys.executable, str(HERE / script), *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def result(process: subprocess.Popen[bytes], timeout_s: float) -> dict[str, Any]:
    """What it tells in its last line."""
    output, _ = process.communicate(timeout=timeout_s)
    if process.returncode or not output:
        raise SystemExit(f"{process.args!r}: exit status {process.returncode}")
    told: dict[str, Any] = json.loads(output.splitlines()[-1])
    return told


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, tasks.read_text().split())
    return found


def memory_bytes(pid: int, what: str = "Pss_Anon") -> int:
    """Of a process and all below it, what they share counted once; by default without files."""
    total = 0
    for each in family(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == what:
                total += int(rest.split()[0]) << 10
    return total


def peak_bytes(pid: int) -> int:
    """The most that a process ever had in memory; 0 once it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    _, found, rest = status.partition("VmHWM:")
    return int(rest.split()[0]) << 10 if found else 0


def cpu_seconds(pid: int) -> float:
    """CPU of a process and all below it so far, those that have ended included."""
    total = 0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")
