"""Bulk goodput of RPT, and its CPU for each packet, beside aioquic and a bare loop.

Two hosts on a veth at MTU 1500, sender and receiver a process each, everything encrypted
with AES-GCM; the peers take turns, round by round. RPT is `rawproto perf` as a user runs
it, aioquic is `quic_peer.py`, and the bare loop (`bare_peer.py`) does nothing but seal,
send, receive, open and acknowledge: it is what Python itself allows.

CPU is that of a whole process divided by the data packets of its side. On a machine with
few cores the two processes and the kernel's work for both share them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from report import at_least, at_most, conclude, interleave, machine, median_ratio, options, table

from rawproto import lab

HERE = Path(__file__).parent
FIGURES = ("goodput_bps", "sender_us", "receiver_us")
WANTED_AIOQUIC = 4
WANTED_BARE = 0.65
WANTED_CPU = 1.55

Figures = dict[str, float]


class Bench:
    """The hosts, and what runs on them."""

    def __init__(self, network: lab.Network, home: str, seconds: float) -> None:
        self.left, self.right = network.host("h1"), network.host("h2")
        self.seconds = seconds
        self.environment = {**os.environ, "XDG_CONFIG_HOME": home, "XDG_STATE_HOME": home}
        # Bytecode is kept, as users have it; a process would else compile itself each time.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.results: dict[str, list[Figures]] = {}

    @contextmanager
    def _server(self, words: Sequence[str], told: int) -> Iterator[None]:
        """A server that said that it listens; ended by its own process."""
        pipe = {1: "stdout", 2: "stderr"}[told]
        process = self.right.popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            env=self.environment,
            **{pipe: subprocess.PIPE},
        )
        try:
            stream = process.stdout or process.stderr
            while not (line := stream.readline()).startswith(b"listening"):
                if not line:
                    raise SystemExit(f"bench_rpt: {words[0]} did not start")
            yield
        finally:
            process.terminate()
            process.communicate(timeout=10)

    def _client(self, words: Sequence[str]) -> dict[str, float]:
        process = self.left.popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )
        output, said = process.communicate(timeout=self.seconds + 30)
        if process.returncode:
            raise SystemExit(f"bench_rpt: {' '.join(words)}: {said.decode()[-300:]}")
        return json.loads(output.splitlines()[-1])

    def _keep(self, name: str, figures: Figures) -> float:
        self.results.setdefault(name, []).append(figures)
        return figures["goodput_bps"]

    def rpt(self, carrier: str) -> float:
        address = f"{carrier}://{self.right.ipv4}:4000"
        verb = ["-m", "rawproto.cli.main", "perf"]
        with self._server([*verb, "serve", address], 2):
            summary = self._client(
                [*verb, "run", "--accept-new", "--json", f"--time={self.seconds}", address]
            )
        figures = {
            "goodput_bps": summary["goodput_bps"],
            "sender_us": summary["cpu_us_per_packet"],
            "receiver_us": summary["receiver_cpu_us_per_packet"],
        }
        return self._keep(carrier, figures)

    def peer(self, name: str, script: str) -> float:
        path, addr = str(HERE / script), self.right.ipv4
        with self._server([path, "serve", addr], 1):
            return self._keep(name, self._client([path, "run", addr, str(self.seconds)]))


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="a transfer (4)")
    parser.add_argument("--rounds", type=int, help="of all peers (5)")
    arguments = parser.parse_args()
    lab.become_root()
    seconds = arguments.seconds or (1.0 if arguments.quick else 4.0)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    print(f"bulk data over a veth, MTU 1500, {rounds} rounds of {seconds:g} s each")
    print(machine() + "\n", flush=True)
    with tempfile.TemporaryDirectory() as home, lab.up(lab.pair()) as network:
        bench = Bench(network, home, seconds)
        peers = {
            "rpt": lambda: bench.rpt("rpt"),
            "rpt+udp": lambda: bench.rpt("rpt+udp"),
            "bare loop": lambda: bench.peer("bare loop", "bare_peer.py"),
            "aioquic": lambda: bench.peer("aioquic", "quic_peer.py"),
        }
        interleave(peers, rounds)
    by = {
        name: {figure: [each[figure] for each in found] for figure in FIGURES}
        for name, found in bench.results.items()
    }
    rows = [
        [
            name,
            f"{median(found['goodput_bps']) / 1e6:.0f} Mbit/s",
            f"{median(found['sender_us']):.1f} us",
            f"{median(found['receiver_us']):.1f} us",
            f"{median_ratio(by['rpt']['goodput_bps'], found['goodput_bps']):.2f}",
        ]
        for name, found in by.items()
    ]
    print(table(["peer", "goodput", "CPU sending", "receiving", "rpt is x times"], rows))
    rpt, bare, quic = by["rpt"], by["bare loop"], by["aioquic"]
    criteria = [
        at_least(
            "rpt / aioquic, goodput",
            median_ratio(rpt["goodput_bps"], quic["goodput_bps"]),
            WANTED_AIOQUIC,
        ),
        at_least(
            "rpt / bare loop, goodput",
            median_ratio(rpt["goodput_bps"], bare["goodput_bps"]),
            WANTED_BARE,
        ),
        *(
            at_most(
                f"rpt / bare loop, CPU {words}", median_ratio(rpt[side], bare[side]), WANTED_CPU
            )
            for words, side in (("sending", "sender_us"), ("receiving", "receiver_us"))
        ),
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
