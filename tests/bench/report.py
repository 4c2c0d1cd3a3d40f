"""What every bench shares: its options, interleaved rounds, medians, tables and verdicts.

Peers run side by side in one process of one run, round by round, and what counts is
their ratio: a machine that is slow today is slow for all of them. A criterion that
fails is printed, and is an error only with --strict, because a figure that was
measured on a shared machine proves little either way.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

__all__ = [
    "Criterion",
    "at_least",
    "at_most",
    "conclude",
    "interleave",
    "machine",
    "measure_cpu_ns",
    "median_ratio",
    "options",
    "quantile",
    "table",
    "too_late",
]


MOST_LATE_MS = 1.0


def options(description: str) -> argparse.ArgumentParser:
    """The options of every bench: --quick (also by QUICK in the environment) and --strict."""
    made = argparse.ArgumentParser(description=description.partition("\n\n")[0], allow_abbrev=False)
    made.add_argument(
        "--quick",
        action="store_true",
        default=bool(os.environ.get("QUICK")),
        help="a smoke test of a few seconds; so does QUICK=1 in the environment",
    )
    made.add_argument("--strict", action="store_true", help="exit 1 when a criterion fails")
    return made


# --- measuring -----------------------------------------------------------------------------------


def interleave(peers: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Calls every peer once a round, and answers what each returned, by round.

    The order turns round from one round to the next, so that none is always first.
    """
    results: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(rounds):
        names = list(peers)[:: -1 if number % 2 else 1]
        for name in names:
            results[name].append(peers[name]())
    return results


def measure_cpu_ns(function: Callable[[], object], calls: int) -> float:
    """The CPU time of one call, in ns, as the mean of many without garbage collection.

    CPU time, not time on the clock: what else runs on the machine hardly shows.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        before = time.thread_time_ns()
        for _ in range(calls):
            function()
        return (time.thread_time_ns() - before) / calls
    finally:
        if collects:
            gc.enable()


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below `share` of them: p99 of 500 is the 495th.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values")
    # In exact numbers: 0.07 * 100 is a little more than 7 in floating point.
    rank = -(-Fraction(str(share)) * len(values) // 1)
    return sorted(values)[max(0, int(rank) - 1)]


def median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios of two peers, round by round: what slowed a round cancels out.

    Infinite where the other one, stopped in time, got nothing done.
    """
    rounds = zip(values, others, strict=True)
    return statistics.median(a / b if b else math.inf for a, b in rounds)


def too_late(max_ms: float) -> bool:
    """Whether what was measured over emulated links is worth nothing.

    The emulator tells how late it was at most (`LinkReport.lateness["max_ms"]`). Above
    1 ms, a bench says "invalid" instead of its figure.
    """
    return max_ms > MOST_LATE_MS


def machine() -> str:
    """What this runs on, in a line: figures without it are worth nothing."""
    load, cores = os.getloadavg()[0], os.cpu_count()
    kernel, python = platform.release().partition("-")[0], platform.python_version()
    return f"{cores} cores, Linux {kernel}, Python {python}, load average {load:.1f}"


# --- telling -------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Criterion:
    """One promise, and what was measured.

    Attributes:
        text: what is promised, in words.
        measured: what came out, for reading.
        wanted: its bound, for reading.
        passed: whether it was kept.
    """

    text: str
    measured: str
    wanted: str
    passed: bool


def at_most(text: str, value: float, bound: float, unit: str = "") -> Criterion:
    """A value that may not be above its bound."""
    return Criterion(
        text=text,
        measured=f"{value:.3g}{unit}",
        wanted=f"<= {bound:g}{unit}",
        passed=value <= bound,
    )


def at_least(text: str, value: float, bound: float, unit: str = "") -> Criterion:
    """A value that may not be below its bound."""
    return Criterion(
        text=text,
        measured=f"{value:.3g}{unit}",
        wanted=f">= {bound:g}{unit}",
        passed=value >= bound,
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text in columns: the first to the left, the others, being figures, to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in [headings, ["-" * width for width in widths], *rows]:
        cells = [
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def conclude(criteria: Sequence[Criterion], *, strict: bool) -> int:
    """Prints every criterion with its verdict: the exit code."""
    print()
    rows = [
        [each.text, each.measured, each.wanted, "PASS" if each.passed else "FAIL"]
        for each in criteria
    ]
    print(table(["criterion", "measured", "wanted", "verdict"], rows))
    return int(strict and not all(each.passed for each in criteria))
