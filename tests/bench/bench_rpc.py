"""Calls a second by `rawproto.rpc`, beside asyncio's streams over TCP with the same framing.

Two hosts on a veth, a process each; one call after the other, and 50 at once. TCP is the
kernel's and in the clear; a call over RPT is a stream of its own, in sealed packets that
Python lays out. CPU is that of a whole process, a call.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from statistics import median

from report import at_least, conclude, interleave, machine, median_ratio, options, table
from rpt_server import result, start

from rawproto import lab

AT_ONCE = (1, 50)
WANTED = {1: 0.15, 50: 0.1}


@contextmanager
def serving(host: lab.LiveHost, what: str) -> Iterator[None]:
    """One side, ready; ended by its own process."""
    process: subprocess.Popen[bytes] = start(host, "rpc_peer.py", "serve", what, host.ipv4)
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith(b"listening"):
            raise SystemExit(f"rpc_peer.py serve {what}: did not start")
        yield
    finally:
        process.terminate()
        process.communicate(timeout=10)


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="a measurement (3)")
    parser.add_argument("--rounds", type=int, help="of both (5)")
    arguments = parser.parse_args()
    lab.become_root()
    seconds = arguments.seconds or (0.5 if arguments.quick else 3.0)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    print(f"calls that add two numbers, {rounds} rounds of {seconds:g} s each")
    print(machine() + "\n", flush=True)
    rows, criteria = [], []
    with lab.up(lab.pair()) as network, ExitStack() as stack:
        left, right = network.host("h1"), network.host("h2")
        for what in ("rpt", "tcp"):
            stack.enter_context(serving(right, what))
        for at_once in AT_ONCE:
            told: dict[str, list[dict[str, float]]] = {"rpt": [], "tcp": []}

            def one(what: str, at_once: int, told: dict[str, list[dict[str, float]]]) -> float:
                caller = start(left, "rpc_peer.py", "run", what, right.ipv4, seconds, at_once)
                told[what].append(result(caller, seconds + 60))
                return told[what][-1]["calls"]

            calls = interleave({what: partial(one, what, at_once, told) for what in told}, rounds)
            ratio = median_ratio(calls["rpt"], calls["tcp"])
            rows += [
                [
                    f"{what}, {at_once} at once",
                    f"{median(calls[what]):.0f}",
                    *[
                        f"{median([each[side] for each in told[what]]):.0f} us"
                        for side in ("caller_us", "callee_us")
                    ],
                    f"{ratio:.2f}" if what == "rpt" else "",
                ]
                for what in told
            ]
            criteria.append(
                at_least(f"rpt / tcp, calls a second, {at_once} at once", ratio, WANTED[at_once])
            )
    print(table(["", "calls/s", "CPU calling", "answering", "rpt / tcp"], rows))
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
