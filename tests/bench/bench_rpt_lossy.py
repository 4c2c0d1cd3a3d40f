"""Goodput over a link that loses packets at random, beside kernel TCP, aioquic and qh3.

Two hosts of a lab, 100 Mbit/s, an RTT of 50 ms, a queue of one BDP; 1 % of the packets is lost
each way, ACKs too. One flow at a time, in turns. RPT is `rawproto perf`, kernel TCP is
iperf3's with CUBIC and with the kernel's BBR, aioquic and qh3 are `quic_peer.py`.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from statistics import median

from report import at_least, conclude, interleave, machine, options, table
from rpt_rivals import Run, link_of, run_flows

from rawproto import lab

NAMES = ("rpt bbr", "rpt cubic", "tcp bbr", "tcp cubic", "aioquic", "qh3")
RATE_MBPS, RTT_MS, LOSS_PERCENT = 100, 50, 1
WANTED_MBPS = 85


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="a flow (20)")
    parser.add_argument("--rounds", type=int, help="of all peers (5)")
    arguments = parser.parse_args()
    lab.become_root()
    seconds = arguments.seconds or (2.0 if arguments.quick else 20.0)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    names = NAMES[:1] + NAMES[3:4] if arguments.quick else NAMES  # the one that is judged, and one
    link = link_of(RATE_MBPS, RTT_MS, 1, LOSS_PERCENT)
    print(f"one flow over {link.partition(':')[2]}, {rounds} rounds of {seconds:g} s each")
    print(machine() + "\n", flush=True)
    runs: dict[str, list[Run]] = {name: [] for name in names}

    def measure(name: str, home: str) -> float:
        runs[name].append(run_flows([name], link, seconds, home))
        return runs[name][-1].goodputs[0]

    with tempfile.TemporaryDirectory() as home:
        found = interleave({name: partial(measure, name, home) for name in names}, rounds)
    rows = [
        [
            name,
            f"{median(goodputs) / 1e6:.1f} Mbit/s",
            f"{min(goodputs) / 1e6:.1f}",
            f"{max(goodputs) / 1e6:.1f}",
            f"{max(run.late_ms for run in runs[name]):.1f} ms",
        ]
        for name, goodputs in found.items()
    ]
    print(table(["flow", "goodput", "least", "most", "emulator late by"], rows))
    goodput = median(found["rpt bbr"]) / 1e6
    wanted = at_least(f"rpt bbr, {LOSS_PERCENT} % lost each way", goodput, WANTED_MBPS, " Mbit/s")
    return conclude([wanted], strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
