"""How long a question of 64 bytes and its answer take over RPT, beside bare raw sockets.

Two hosts on a veth, a process each, one question at a time: `rawproto.socket` beside a
blocking raw socket that echoes, `rawproto.connect` beside the same with asyncio's own calls.
RPT's are sealed, acknowledged and watched over by timers; the bare ones are nothing but the
two system calls. The peers take turns, round by round; what counts is the median round trip.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from report import at_most, conclude, interleave, machine, median_ratio, options, table

from rawproto import lab

PEER = str(Path(__file__).with_name("latency_peer.py"))
PAIRS = {"rpt": ("bare", 3.0), "rpt-asyncio": ("bare-asyncio", 1.6)}


class Bench:
    """The hosts, and what was measured between them."""

    def __init__(self, network: lab.Network, count: int) -> None:
        self.left, self.right = network.host("h1"), network.host("h2")
        self.count = count
        self.slowest: dict[str, list[float]] = {}
        # As users have it: bytecode is kept.
        self.environment = {**os.environ}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def ask(self, kind: str) -> float:
        """The median round trip, in us."""
        addr = self.right.ipv4
        server = self.right.popen(
            [sys.executable, PEER, "serve", kind, addr],
            stdout=subprocess.PIPE,
            env=self.environment,
        )
        try:
            if not server.stdout.readline().startswith(b"listening"):
                raise SystemExit(f"bench_rpt_latency: {kind} did not start")
            client = self.left.popen(
                [sys.executable, PEER, "run", kind, addr, str(self.count)],
                stdout=subprocess.PIPE,
                env=self.environment,
            )
            output, _ = client.communicate(timeout=60)
            if client.returncode:
                raise SystemExit(f"bench_rpt_latency: {kind} failed")
        finally:
            server.kill()
            server.communicate(timeout=10)
        figures = json.loads(output)
        self.slowest.setdefault(kind, []).append(figures["p99"])
        return figures["median_us"]


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--count", type=int, help="questions a round (5000)")
    parser.add_argument("--rounds", type=int, help="of all peers (5)")
    arguments = parser.parse_args()
    lab.become_root()
    count = arguments.count or (1000 if arguments.quick else 5000)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    print(f"question and answer of 64 bytes over a veth, {rounds} rounds of {count} each")
    print(machine() + "\n", flush=True)
    kinds = [kind for rpt, (bare, _) in PAIRS.items() for kind in (bare, rpt)]
    with lab.up(lab.pair()) as network:
        bench = Bench(network, count)
        by = interleave({kind: (lambda kind=kind: bench.ask(kind)) for kind in kinds}, rounds)
    rows = [
        [kind, f"{median(by[kind]):.1f} us", f"{median(bench.slowest[kind]):.1f} us"]
        for kind in kinds
    ]
    print(table(["peer", "median", "p99"], rows))
    criteria = [
        at_most(f"{rpt} / {bare}", median_ratio(by[rpt], by[bare]), wanted)
        for rpt, (bare, wanted) in PAIRS.items()
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
