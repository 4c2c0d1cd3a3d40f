"""Bulk goodput of asyncio's transports over RPT, beside RPT's own streams.

Two hosts on a veth at MTU 1500, sender and receiver a process each; the ways of sending
take turns, round by round. What they do besides is the same (`transport_peer.py`): 64 KiB
are written at a time, and the receiver counts. CPU is that of a whole process, for each KiB:
on a machine that has other work, it tells more than the goodput does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median

from report import at_least, conclude, interleave, machine, median_ratio, options, table

from rawproto import lab

PEER = str(Path(__file__).parent / "transport_peer.py")
WAYS = ("stream", "transport", "buffered", "reader")
FIGURES = ("goodput_bps", "sender_us", "receiver_us")
WANTED = 0.8


def measure(network: lab.Network, way: str, seconds: float) -> dict[str, float]:
    """One transfer: goodput, CPU of the sender and of the receiver."""
    left, right = network.host("h1"), network.host("h2")
    address = f"rpt://{right.ipv4}:4000"
    environment = {**os.environ}
    # Bytecode is kept, as users have it; a process would else compile itself each time.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    server = right.popen(
        [sys.executable, PEER, "serve", way, address], stdout=subprocess.PIPE, env=environment
    )
    try:
        assert server.stdout is not None
        if server.stdout.readline() != b"listening\n":
            raise SystemExit(f"bench_rpt_transport: {way} did not start")
        done = left.run(
            [sys.executable, PEER, "run", way, address, str(seconds)],
            timeout=seconds + 30,
            check=True,
            env=environment,
        )
    finally:
        server.terminate()
        server.communicate(timeout=10)
    return dict(json.loads(done.stdout))


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="a transfer (3)")
    parser.add_argument("--rounds", type=int, help="of all ways (5)")
    arguments = parser.parse_args()
    lab.become_root()
    seconds = arguments.seconds or (0.5 if arguments.quick else 3.0)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    print(f"bulk data over a veth, MTU 1500, {rounds} rounds of {seconds:g} s each")
    print(machine() + "\n", flush=True)
    kept: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with lab.up(lab.pair()) as network:

        def keep(way: str) -> float:
            kept[way].append(measure(network, way, seconds))
            return kept[way][-1]["goodput_bps"]

        interleave({way: partial(keep, way) for way in WAYS}, rounds)
    by = {
        way: {name: [each[name] for each in found] for name in FIGURES}
        for way, found in kept.items()
    }
    rows = [
        [
            way,
            f"{median(found['goodput_bps']) / 1e6:.0f} Mbit/s",
            f"{median(found['sender_us']):.1f} us",
            f"{median(found['receiver_us']):.1f} us",
            *(f"{median_ratio(found[name], by['stream'][name]):.2f}" for name in FIGURES),
        ]
        for way, found in by.items()
    ]
    headings = ["by", "goodput", "sending a KiB", "receiving", "of a stream's", "", ""]
    print(table(headings, rows))
    criteria = [
        at_least(
            f"{way} / stream, goodput",
            median_ratio(by[way]["goodput_bps"], by["stream"]["goodput_bps"]),
            WANTED,
        )
        for way in WAYS[1:]
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
