"""Every scenario with many seeds, and what they took: `make soak SEEDS=1000`.

The table goes to standard output, and with `--write` into docs/reliability.md. A failure names
its seed and the capture that it left; `--only NAME --first SEED --seeds 1` plays it alone.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

from tests.sim.scenarios import SCENARIOS
from tests.sim.trial import Outcome, Scenario, play

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- soak: begin -->", "<!-- soak: end -->"
HEAD = ("scenario", "what happens", "seeds", "longest, virtual", "most sent a byte")


def attempt(number: int, seed: int) -> Outcome | str:
    """What a scenario took with a seed; what went wrong, as text."""
    try:
        return play(SCENARIOS[number], seed)
    except Exception:
        return traceback.format_exc()


def row(scenario: Scenario, outcomes: list[Outcome]) -> tuple[str, ...]:
    """The line of a scenario, cell by cell."""
    longest_s = max([each.virtual_ns for each in outcomes]) / 1e9
    # Who lies is sent away, and what he had sent by then tells nothing.
    ratio = max([each.sent / max(each.delivered, 1) for each in outcomes])
    sent = f"{ratio:.2f}" if scenario.ends is None else "-"
    return scenario.name, scenario.words, f"{len(outcomes):,}", f"{longest_s:.2f} s", sent


def table(rows: list[tuple[str, ...]]) -> str:
    """The rows as Markdown."""
    lines = [HEAD, ("---", "---", "--:", "--:", "--:"), *rows]
    return "".join([f"| {' | '.join(line)} |\n" for line in lines])


def told() -> dict[str, tuple[str, ...]]:
    """The rows of the page, by the names of their scenarios."""
    part = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line]
    return {cells[0]: tuple(cells) for cells in lines[2:]}


def write(rows: dict[str, tuple[str, ...]]) -> None:
    """Puts rows into the page; those of other scenarios stay as they are."""
    rows = told() | rows
    ordered = [rows[each.name] for each in SCENARIOS if each.name in rows]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(ordered)}\n{END}{rest.partition(END)[2]}")


def soak(numbers: list[int], seeds: range, jobs: int) -> Iterator[tuple[int, list[Outcome | str]]]:
    """Plays scenarios one after the other: each one's number and outcomes."""
    with ProcessPoolExecutor(jobs) as pool:
        tasks = list(product(numbers, seeds))
        outcomes = pool.map(attempt, *zip(*tasks, strict=True), chunksize=4)
        for number in numbers:
            yield number, [next(outcomes) for _ in seeds]


def main(words: list[str] | None = None) -> int:
    """The command: 0 if all went well."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(description="play every scenario with many seeds")
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="of each (1000)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="begin there (0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (1)")
    parser.add_argument("--only", action="append", choices=names, help="this scenario alone")
    parser.add_argument("--write", action="store_true", help="write it into docs/reliability.md")
    arguments = parser.parse_args(words)
    if arguments.seeds < 1:
        parser.error("at least one seed")
    numbers = [names.index(name) for name in arguments.only or names]
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    rows: dict[str, tuple[str, ...]] = {}
    failed = 0
    for number, outcomes in soak(numbers, seeds, arguments.jobs):
        errors = [each for each in outcomes if isinstance(each, str)]
        good = [each for each in outcomes if isinstance(each, Outcome)]
        failed += len(errors)
        sys.stderr.write("".join(errors))
        sys.stderr.write(f"{names[number]}: {len(good)} well, {len(errors)} not\n")
        if good:
            rows[names[number]] = row(SCENARIOS[number], good)
        if arguments.write and not errors:
            write(rows)
    print(table(list(rows.values())), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
