"""Bulk goodput of RPT, and its CPU for each packet, beside QUIC libraries and a bare loop.

Two hosts on a veth, sender and receiver a process each, everything encrypted with AES-GCM;
the peers take turns, round by round. RPT is `rawproto perf` as a user runs it, at MTU 1500
and, on hosts of their own, at MTU 9000. aioquic and qh3 are `quic_peer.py`, and the bare loop
(`bare_peer.py`) does nothing but seal, send, receive, open and acknowledge: it is what Python
itself allows, a packet a system call.

CPU is that of a whole process divided by the data packets of its side. On a machine with
few cores the two processes and the kernel's work for both share them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from report import at_least, at_most, conclude, interleave, machine, median_ratio, options, table

from rawproto import lab

HERE = Path(__file__).parent
FIGURES = ("goodput_bps", "sender_us", "receiver_us")
WANTED_AIOQUIC = 8
WANTED_QH3 = 1.3
WANTED_BARE = 0.65
WANTED_CPU = 1.55
WANTED_JUMBO = 4
JUMBO = 9000

Figures = dict[str, float]


class Bench:
    """The hosts, and what runs on them."""

    def __init__(self, home: str, seconds: float) -> None:
        self.seconds = seconds
        self.environment = {**os.environ, "XDG_CONFIG_HOME": home, "XDG_STATE_HOME": home}
        # Bytecode is kept, as users have it; a process would else compile itself each time.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.results: dict[str, list[Figures]] = {}

    @contextmanager
    def _server(self, host: lab.LiveHost, words: Sequence[str], told: int) -> Iterator[None]:
        """A server that said that it listens; ended by its own process."""
        pipe = {1: "stdout", 2: "stderr"}[told]
        process = host.popen(
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

    def _client(self, host: lab.LiveHost, words: Sequence[str]) -> dict[str, float]:
        process = host.popen(
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

    def rpt(self, name: str, network: lab.Network, carrier: str) -> float:
        left, right = network.host("h1"), network.host("h2")
        address = f"{carrier}://{right.ipv4}:4000"
        verb = ["-m", "rawproto.cli.main", "perf"]
        with self._server(right, [*verb, "serve", address], 2):
            words = ["run", "--accept-new", "--json", f"--time={self.seconds}", address]
            summary = self._client(left, [*verb, *words])
        figures = {
            "goodput_bps": summary["goodput_bps"],
            "sender_us": summary["cpu_us_per_packet"],
            "receiver_us": summary["receiver_cpu_us_per_packet"],
        }
        return self._keep(name, figures)

    def peer(self, name: str, network: lab.Network, *script: str) -> float:
        left, right = network.host("h1"), network.host("h2")
        path, *library = script
        words, addr = [str(HERE / path), *library], right.ipv4
        with self._server(right, [*words, "serve", addr], 1):
            figures = self._client(left, [*words, "run", addr, str(self.seconds)])
        return self._keep(name, figures)


def jumbo() -> lab.Topology:
    """Two hosts whose wire takes packets of 9,000 bytes."""
    pair = lab.pair()
    return replace(pair, links=tuple(replace(link, mtu=JUMBO) for link in pair.links))


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="a transfer (4)")
    parser.add_argument("--rounds", type=int, help="of all peers (5)")
    arguments = parser.parse_args()
    lab.become_root()
    seconds = arguments.seconds or (1.0 if arguments.quick else 4.0)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    print(f"bulk data over a veth, {rounds} rounds of {seconds:g} s each")
    print(machine() + "\n", flush=True)
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        plain = stack.enter_context(lab.up(lab.pair()))
        large = stack.enter_context(lab.up(jumbo()))
        bench = Bench(home, seconds)
        peers: dict[str, Callable[[], float]] = {
            "rpt": lambda: bench.rpt("rpt", plain, "rpt"),
            "rpt+udp": lambda: bench.rpt("rpt+udp", plain, "rpt+udp"),
            "rpt, MTU 9000": lambda: bench.rpt("rpt, MTU 9000", large, "rpt"),
            "bare loop": lambda: bench.peer("bare loop", plain, "bare_peer.py"),
            "aioquic": lambda: bench.peer("aioquic", plain, "quic_peer.py", "aioquic"),
            "qh3": lambda: bench.peer("qh3", plain, "quic_peer.py", "qh3"),
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
    rpt, bare, large_rpt = by["rpt"], by["bare loop"], by["rpt, MTU 9000"]
    criteria = [
        *(
            at_least(
                f"rpt / {name}, goodput",
                median_ratio(rpt["goodput_bps"], by[name]["goodput_bps"]),
                wanted,
            )
            for name, wanted in (
                ("aioquic", WANTED_AIOQUIC),
                ("qh3", WANTED_QH3),
                ("bare loop", WANTED_BARE),
            )
        ),
        *(
            at_most(
                f"rpt / bare loop, CPU {words}", median_ratio(rpt[side], bare[side]), WANTED_CPU
            )
            for words, side in (("sending", "sender_us"), ("receiving", "receiver_us"))
        ),
        at_least(
            "rpt at MTU 9000 / at 1500, goodput",
            median_ratio(large_rpt["goodput_bps"], rpt["goodput_bps"]),
            WANTED_JUMBO,
        ),
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
