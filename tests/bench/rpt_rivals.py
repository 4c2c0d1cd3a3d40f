"""Flows between two hosts of a lab, each a program as a user runs it: RPT, kernel TCP, QUIC.

A flow is named `rpt bbr`, `tcp cubic` (or what else either knows), `aioquic` or `qh3`; kernel TCP
is iperf3's. All servers are ready before the clients are started, at the same time.

The programs run with real-time priority where that is allowed, as the emulator of the link does:
what else the machine has to do would else hold back only those that are programs, and not
the kernel's TCP.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rawproto import lab

__all__ = ["Run", "link_of", "priority", "run_flows"]

HERE = Path(__file__).parent
PERF = ["-m", "rawproto.cli.main", "perf"]
QUIC = ("aioquic", "qh3")
FIRST_PORT = 5200
BOUND_S = 60


@dataclass(slots=True, kw_only=True)
class Run:
    """What came of flows that ran at the same time.

    Attributes:
        goodputs: bits a second of each, as its receiver saw them.
        late_ms: how late the emulator sent a packet on at most.
    """

    goodputs: list[float]
    late_ms: float


def link_of(rate_mbps: float, rtt_ms: float, depth_bdp: float, loss_percent: float = 0.0) -> str:
    """A link in the lab's words: half the RTT and a queue of so many BDPs each way."""
    packets = int(rate_mbps * 1e3 * rtt_ms * depth_bdp / 8 / 1500)
    loss = f",loss={loss_percent:g}%" if loss_percent else ""
    return f"1:delay={rtt_ms / 2:g}ms,rate={rate_mbps:g}mbit,queue={max(packets, 2)}{loss}"


def run_flows(names: Sequence[str], link: str, seconds: float, home: str) -> Run:
    """Runs flows at once, on a pair of hosts of their own.

    Args:
        names: of the flows.
        link: between the hosts, in the lab's words.
        seconds: for how long.
        home: a directory for keys.

    Raises:
        SystemExit: one of them did not work.
    """
    environment = {**os.environ, "XDG_CONFIG_HOME": home, "XDG_STATE_HOME": home}
    # Bytecode is kept, as users have it; a process would else compile itself each time.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    first = priority()
    with lab.up(lab.pair().changed(link)) as network, ExitStack() as stack:
        left, right = network.host("h1"), network.host("h2")
        left.run(["ping", "-c3", "-i0.2", right.ipv4], check=True)  # one of them gets through
        network.link(1).report(clear=True)
        flows = list(zip(names, range(FIRST_PORT, FIRST_PORT + len(names)), strict=True))
        for name, port in flows:
            words = [*first, *_server_words(name, right.ipv4, port)]
            stack.enter_context(_listening(name, right, words, environment))
        clients = []
        for name, port in flows:
            client = left.popen(
                [*first, *_client_words(name, right.ipv4, port, seconds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
            stack.callback(client.kill)
            clients.append(client)
        goodputs = []
        for name, client in zip(names, clients, strict=True):
            output, said = client.communicate(timeout=seconds + BOUND_S)
            if client.returncode:
                raise SystemExit(f"{name}: exit {client.returncode}: {said.decode()[-300:]}")
            goodputs.append(_goodput(name, output))
        late_ms = network.link(1).report().lateness["max_ms"]
    return Run(goodputs=goodputs, late_ms=late_ms)


def priority() -> list[str]:
    """The words before a command that let it run first, where that may be."""
    words = ["chrt", "-r", "1"]
    tried = subprocess.run([*words, "true"], capture_output=True, check=False)
    return words if tried.returncode == 0 else []


@contextmanager
def _listening(
    name: str, host: lab.LiveHost, words: Sequence[str], environment: dict[str, str]
) -> Iterator[None]:
    """A server that said that it listens; ended by its own process."""
    process = host.popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    try:
        assert process.stdout is not None
        while b"listening" not in (line := process.stdout.readline()):
            if not line:
                raise SystemExit(f"{name}: its server did not start")
        yield
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _server_words(name: str, addr: str, port: int) -> list[str]:
    kind = name.partition(" ")[0]
    if kind == "tcp":
        return ["iperf3", "-s", "-1", "-p", str(port), "--forceflush"]
    if kind in QUIC:
        return [sys.executable, str(HERE / "quic_peer.py"), kind, "serve", addr]
    return [sys.executable, *PERF, "serve", f"rpt://{addr}:{port}"]


def _client_words(name: str, addr: str, port: int, seconds: float) -> list[str]:
    kind, _, congestion = name.partition(" ")
    if kind == "tcp":
        to = ["-c", addr, "-p", str(port)]
        return ["iperf3", *to, "-t", f"{seconds:g}", "-C", congestion, "-J"]
    if kind in QUIC:
        return [sys.executable, str(HERE / "quic_peer.py"), kind, "run", addr, f"{seconds:g}"]
    plan = ["--accept-new", "--json", f"--time={seconds:g}", "--congestion", congestion]
    return [sys.executable, *PERF, "run", *plan, f"rpt://{addr}:{port}"]


def _goodput(name: str, output: bytes) -> float:
    if name.startswith("tcp"):
        report: dict[str, Any] = json.loads(output)
        return float(report["end"]["sum_received"]["bits_per_second"])
    return float(json.loads(output.splitlines()[-1])["goodput_bps"])
