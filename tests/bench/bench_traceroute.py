"""How long a whole traceroute of 12 hops takes, beside traceroute, mtr and nmap.

On a chain of a lab, in turns, from the call of each tool to its end: over plain wires,
where nothing but the tools takes time, and over links of 10 ms each; with every router
answering, and with three of them silent. What each prints is compared with what was built,
hop by hop, so that none is fast by leaving out.

All trace numerically over IPv4 with their own defaults: three probes a hop with rawproto,
traceroute and mtr, which sends a round of them every second, and one with nmap. The neighbours
know each other beforehand. A round in which the emulator of the links was late by more than
1 ms is not counted; where none is left, the figure is "invalid".
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from bench_startup import caching
from hops import Path as Hops
from hops import mistakes, read_mtr, read_nmap, read_traceroute
from report import (
    Criterion,
    at_least,
    at_most,
    conclude,
    interleave,
    machine,
    median_ratio,
    options,
    table,
    too_late,
)

from rawproto import lab

RAWPROTO = str(Path(sys.executable).with_name("rawproto"))
PACKAGES = {"ip": "iproute2", "traceroute": "traceroute", "mtr": "mtr-tiny", "nmap": "nmap"}

HOPS = 12
SILENT = (3, 6, 9)
DELAY = "10ms"
WANTED_RATIO = 3
BOUND_S = 60

OURS, THEIRS = "rawproto traceroute", "traceroute"
TOOLS: dict[str, tuple[list[str], Callable[[list[str]], Hops]]] = {
    OURS: ([RAWPROTO, "traceroute", "-n"], read_traceroute),
    THEIRS: (["traceroute", "-n"], read_traceroute),
    "mtr -r -c 3": (["mtr", "-n", "-r", "-c", "3"], read_mtr),
    "nmap --traceroute": (["nmap", "-sn", "-n", "--traceroute"], read_nmap),
}
PATIENT = "mtr -r -c 3"
"""Spends eight seconds whatever the path, so it runs once a scene, and not at all in a hurry."""


@dataclass(slots=True)
class Scene:
    """One path, and what came out of tracing it.

    Attributes:
        name: what is special about it.
        delay: of each link, "" for a plain wire.
        silent: routers that send no errors.
        took_s: by tool, for each round; NaN where the links were late.
        wrong: hops not as built, by tool, over all rounds.
    """

    name: str
    delay: str = ""
    silent: tuple[int, ...] = ()
    took_s: dict[str, list[float]] = field(default_factory=dict)
    wrong: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOOLS, 0))

    def topology(self) -> lab.Topology:
        made = lab.chain(HOPS).misbehaving(*(f"r{number}:silent" for number in self.silent))
        return made.changed(f"all:delay={self.delay},by=emulator") if self.delay else made

    def path(self) -> Hops:
        """As docs/lab.md numbers it."""
        return [() if at in self.silent else (f"10.99.{at}.2",) for at in range(1, HOPS + 1)]


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--rounds", type=int, help="of each tool in each scene (7)")
    arguments = parser.parse_args()
    missing = [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]
    if missing:
        packages = " ".join(missing)
        sys.stderr.write(
            f"bench_traceroute: please run: sudo apt-get install -y {packages}\n",
        )
        return 2
    lab.become_root()
    return compare(arguments)


def compare(arguments: argparse.Namespace) -> int:
    """Runs everything and tells; the exit code."""
    rounds = arguments.rounds or (1 if arguments.quick else 7)
    scenes = [
        Scene("wires, all answer"),
        Scene("wires, three silent", silent=SILENT),
        Scene(f"{DELAY} a link, all answer", delay=DELAY),
        Scene(f"{DELAY} a link, three silent", delay=DELAY, silent=SILENT),
    ]
    scenes = scenes[-1:] if arguments.quick else scenes
    tools = [tool for tool in TOOLS if not (arguments.quick and tool == PATIENT)]
    once = f", {PATIENT} once" if PATIENT in tools else ""
    print(f"{HOPS} hops, whole processes, rounds by each tool in turn: {rounds}{once}")
    print(machine() + "\n", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        environment = caching(directory)
        for scene in scenes:
            run_rounds(scene, tools, rounds, environment)
    print(table(*figures(scenes)))
    return conclude(criteria(scenes), strict=arguments.strict)


def run_rounds(scene: Scene, tools: list[str], rounds: int, environment: dict[str, str]) -> None:
    """All tools in turn on one lab."""
    with lab.up(scene.topology()) as network:
        host, target = network.host("h1"), network.host("h2").ipv4
        # For ARP on every link, and for rawproto's bytecode.
        command = [*TOOLS[OURS][0], target]
        host.run(command, check=True, timeout=BOUND_S, env=environment)

        def run(tool: str) -> float:
            command, read = TOOLS[tool]
            links = [network.link(number) for number in range(1, HOPS + 1)] if scene.delay else []
            for link in links:
                link.report(clear=True)
            before = time.monotonic()
            done = host.run([*command, target], timeout=BOUND_S, env=environment)
            took_s = time.monotonic() - before
            if done.returncode:
                raise SystemExit(f"{tool}: exit {done.returncode}\n{done.stderr}")
            if any(too_late(link.report().lateness["max_ms"]) for link in links):
                return math.nan
            scene.wrong[tool] += mistakes(read(done.stdout.splitlines()), scene.path())
            return took_s

        quick = [tool for tool in tools if tool != PATIENT]
        scene.took_s = interleave({tool: partial(run, tool) for tool in quick}, rounds)
        if PATIENT in tools:
            scene.took_s[PATIENT] = [run(PATIENT)]


# --- the figures ---------------------------------------------------------------------------------


def ratio(scene: Scene, tool: str) -> float | None:
    """How many times as long a tool took as we did, None where no round was valid."""
    took_s, ours_s = scene.took_s[tool], scene.took_s[OURS]
    if tool == PATIENT:
        good_s = [each for each in ours_s if not math.isnan(each)]
        ours_s = [median(good_s)] if good_s else [math.nan]
    both = zip(took_s, ours_s, strict=True)
    pairs = [pair for pair in both if not math.isnan(sum(pair))]
    return median_ratio([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None


def figures(scenes: list[Scene]) -> tuple[list[str], list[list[str]]]:
    """The table: headings and rows."""
    headings = ["path, tool", "took", "times rawproto", "valid rounds", "hops wrong"]
    rows = []
    for scene in scenes:
        for tool, took_s in scene.took_s.items():
            good_s = [each for each in took_s if not math.isnan(each)]
            times = ratio(scene, tool)
            rows.append(
                [
                    f"{scene.name}: {tool}",
                    f"{median(good_s) * 1000:.0f} ms" if good_s else "invalid",
                    "invalid" if times is None else f"{times:.2f}",
                    f"{len(good_s)} of {len(took_s)}",
                    str(scene.wrong[tool]),
                ]
            )
    return headings, rows


def criteria(scenes: list[Scene]) -> list[Criterion]:
    """What is promised: nothing wrong anywhere, and no long wait for who is silent.

    Over plain wires traceroute waits for ten round trips of some microseconds, which is over
    before any Python has started; nothing is promised there.
    """
    found = [at_most("hops that rawproto got wrong", sum(each.wrong[OURS] for each in scenes), 0)]
    for scene in scenes:
        if not (scene.silent and scene.delay):
            continue
        text, times = f"{scene.name}: {THEIRS} / rawproto", ratio(scene, THEIRS)
        if times is None:
            wanted = f">= {WANTED_RATIO}"
            found.append(Criterion(text=text, measured="invalid", wanted=wanted, passed=False))
        else:
            found.append(at_least(text, times, WANTED_RATIO))
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench_traceroute: {error}")
