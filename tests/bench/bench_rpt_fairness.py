"""How two flows share a queue: two of RPT's, one of RPT's beside kernel TCP, and TCP's own.

Two hosts of a lab, 50 Mbit/s, an RTT of 40 ms, a drop-tail queue of one BDP; both flows begin
together and send as much as they can. Fairness is Jain's index, 1 for equals and 0.5 where
one has all. TCP's pairs run in half as many rounds, for comparison; of other depths of the queue
one round of half the time is shown, where nothing is promised.
"""

from __future__ import annotations

import sys
import tempfile
from statistics import median

from report import at_least, conclude, machine, options, table
from rpt_rivals import Run, link_of, run_flows

from rawproto import lab
from rawproto.sim.experiment import jain
from rawproto.transport.config import Config

RPT = f"rpt {Config().congestion}"
PAIRS = ((RPT, RPT), (RPT, "tcp cubic"), ("tcp bbr", "tcp cubic"), ("tcp cubic", "tcp cubic"))
PROMISED = PAIRS[:2]
RATE_MBPS, RTT_MS = 50, 40
OTHER_DEPTHS = (0.5, 2, 5)
WANTED_JAIN = 0.95
WANTED_SHARE = 0.3


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="a round (60)")
    parser.add_argument("--rounds", type=int, help="of RPT's pairs (5)")
    arguments = parser.parse_args()
    lab.become_root()
    seconds = arguments.seconds or (2.0 if arguments.quick else 60.0)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    print(f"two flows over {RATE_MBPS} Mbit/s, {RTT_MS} ms; {rounds} rounds of {seconds:g} s each")
    print(machine() + "\n", flush=True)
    with tempfile.TemporaryDirectory() as home:

        def measure(pair: tuple[str, str], depth: float, length: float) -> Run:
            return run_flows(pair, link_of(RATE_MBPS, RTT_MS, depth), length, home)

        pairs = PROMISED if arguments.quick else PAIRS
        found = {
            pair: [
                measure(pair, 1, seconds)
                for _ in range(rounds if pair in PROMISED else max(rounds // 2, 1))
            ]
            for pair in pairs
        }
        rows = [row(pair, 1, runs) for pair, runs in found.items()]
        for depth in () if arguments.quick else OTHER_DEPTHS:
            rows += [row(pair, depth, [measure(pair, depth, seconds / 2)]) for pair in PROMISED]
    headings = ["flows", "queue", "one", "the other", "together", "Jain", "emulator late by"]
    print(table(headings, rows))
    alike, mixed = (found[pair] for pair in PROMISED)
    criteria = [
        at_least(f"{RPT} twice: Jain's index", fairness(alike), WANTED_JAIN),
        *[
            at_least(f"beside each other: share of {name}", share(mixed, number), WANTED_SHARE)
            for number, name in enumerate(PROMISED[1])
        ],
    ]
    return conclude(criteria, strict=arguments.strict)


def fairness(runs: list[Run]) -> float:
    """Jain's index, in the median."""
    return median(jain(run.goodputs) for run in runs)


def share(runs: list[Run], number: int) -> float:
    """What part of both goodputs was one flow's, in the median."""
    return median(run.goodputs[number] / sum(run.goodputs) for run in runs)


def row(pair: tuple[str, str], depth: float, runs: list[Run]) -> list[str]:
    """A line of the table: medians."""
    both = [median(run.goodputs[number] for run in runs) / 1e6 for number in (0, 1)]
    return [
        f"{pair[0]}, {pair[1]}",
        f"{depth:g} BDP",
        *[f"{each:.1f} Mbit/s" for each in both],
        f"{median(sum(run.goodputs) for run in runs) / 1e6:.1f}",
        f"{fairness(runs):.3f}",
        f"{max(run.late_ms for run in runs):.1f} ms",
    ]


if __name__ == "__main__":
    sys.exit(main())
