"""How long a user waits: `rawproto ping -c1` as a whole process, beside starts of bare Python.

One ping to loopback, from the call of the program to its end, and `rawproto --help`,
in turns with `python -c pass` of the same interpreter. What counts is how many bare
starts fit into one ping, on the clock; the CPU time beside it tells how much of that
was waiting. All start from bytecode, as anybody's second ping does, whatever
PYTHONDONTWRITEBYTECODE says: compiling the sources each time would nearly double it.

--profile shows where the time goes: the imports that cost most by themselves.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from report import at_most, conclude, interleave, machine, median_ratio, options, table

RAWPROTO = str(Path(sys.executable).with_name("rawproto"))
PING = [RAWPROTO, "ping", "-c1", "127.0.0.1"]
BARE = "python -c pass"
PING_ONCE = "rawproto ping -c1"
COMMANDS = {
    BARE: [sys.executable, "-c", "pass"],
    PING_ONCE: PING,
    "rawproto --help": [RAWPROTO, "--help"],
}
BARE_STARTS = 12
SHOWN = 12
"""How many imports --profile lists."""


def start(command: list[str], environment: dict[str, str], cpu_s: list[float]) -> float:
    """Runs a command to its end: seconds on the clock; those of CPU go to `cpu_s`.

    Raises:
        SystemExit: it failed, so that its time says nothing.
    """
    before = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    # wait4 is told what this one child used; the process must not be waited for again.
    _, status, usage = os.wait4(process.pid, 0)
    took = time.monotonic() - before
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}")
    cpu_s.append(usage.ru_utime + usage.ru_stime)
    return took


_IMPORT = re.compile(r"import time: +(\d+) \| +(\d+) \| *(\S+)")


def caching(directory: str) -> dict[str, str]:
    """An environment in which Python keeps bytecode, in a directory of its own."""
    environment = dict(os.environ, PYTHONPYCACHEPREFIX=directory)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def profile(environment: dict[str, str]) -> str:
    """The imports of one ping that cost most by themselves, as a table."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *PING],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    imports = [(int(own), name) for own, _, name in _IMPORT.findall(done.stderr)]
    total = sum(own for own, _ in imports)
    imports.sort(reverse=True)
    rows = [[name, f"{own / 1000:.1f} ms", f"{own / total:.0%}"] for own, name in imports[:SHOWN]]
    rows.append([f"all {len(imports)}", f"{total / 1000:.1f} ms", "100%"])
    return table(["import", "by itself", "share"], rows)


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--profile", action="store_true", help="show the costliest imports too")
    arguments = parser.parse_args()
    rounds = 7 if arguments.quick else 31
    print(f"whole processes, median of {rounds} rounds")
    print(machine() + "\n")
    cpu_s: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as directory:
        environment = caching(directory)
        for command in COMMANDS.values():
            start(command, environment, [])
        starts = {
            name: partial(start, command, environment, cpu_s[name])
            for name, command in COMMANDS.items()
        }
        took_s = interleave(starts, rounds)
        imports = profile(environment) if arguments.profile else ""
    rows = []
    for name, values in took_s.items():
        cells = [name]
        for seconds, bare in ((values, took_s[BARE]), (cpu_s[name], cpu_s[BARE])):
            ratio = median_ratio(seconds, bare)
            cells += [f"{median(seconds) * 1000:.1f} ms", f"{ratio:.1f}"]
        rows.append(cells)
    print(table(["command", "on the clock", "bare starts", "CPU", "bare starts"], rows))
    if imports:
        print(f"\n{imports}")
    ratio = median_ratio(took_s[PING_ONCE], took_s[BARE])
    promise = at_most(f"{PING_ONCE}, in bare Python starts", ratio, BARE_STARTS)
    return conclude([promise], strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
