"""`rawproto relay` beside socat: TCP to TCP, in bulk and in connections a second.

All on one host over loopback: who sends (`tcp_load.py`), the relay, who receives. socat gets
the same 64 KiB a piece (its own 8 KiB is slower) and `fork`, which `relay` does by itself with
tasks. CPU is the relay's alone, its children counted: on few cores the goodput is shared with
sender and receiver. For information the way that relays are for: TCP, RPT between two hosts on
a veth, and TCP again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from statistics import median

from report import at_least, conclude, interleave, machine, median_ratio, options, table
from rpt_server import cpu_seconds, result, start, verb

from rawproto import lab

WANTED_BULK = 0.7
WANTED_VISITS = 0.6
SOCAT_PORT = 7000

Figures = dict[str, list[float]]


@contextmanager
def loaded(host: lab.LiveHost) -> Iterator[int]:
    """Where the load goes to: its port."""
    process = start(host, "tcp_load.py", "serve")
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[1])
    finally:
        process.communicate(timeout=10)


@contextmanager
def socat(host: lab.LiveHost, home: str, port: int) -> Iterator[tuple[int, int]]:
    """socat, ready: (its process, its port)."""
    listen = f"TCP-LISTEN:{SOCAT_PORT},fork,reuseaddr,backlog=512"
    process = host.popen(
        ["socat", "-b65536", listen, f"TCP:127.0.0.1:{port}"], stdin=subprocess.DEVNULL
    )
    try:
        while not host.run(["ss", "-Hltn", f"sport = {SOCAT_PORT}"]).stdout:
            if process.poll() is not None:
                raise SystemExit("socat did not start")
        yield process.pid, SOCAT_PORT
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def relay(host: lab.LiveHost, home: str, port: int) -> Iterator[tuple[int, int]]:
    """`rawproto relay`, ready: (its process, its port)."""
    words = ("relay", "--log", "none", "tcp-listen:127.0.0.1:0", f"tcp:127.0.0.1:{port}")
    with verb(host, home, *words) as (process, address):
        yield process.pid, int(address.rpartition(":")[2])


def measured(host: lab.LiveHost, pid: int, port: int, what: str, seconds: float) -> list[float]:
    """(bit/s or connections/s, the relay's CPU in ns a KiB or us a connection)."""
    before = cpu_seconds(pid)
    figure = result(start(host, "tcp_load.py", what, port, seconds), seconds + 60)["figure"]
    units = figure * seconds / (8 << 10 if what == "bulk" else 1)
    return [figure, (cpu_seconds(pid) - before) / units * (1e9 if what == "bulk" else 1e6)]


def through_rpt(network: lab.Network, home: str, seconds: float) -> dict[str, float]:
    """TCP to RPT on one host, RPT to TCP on the other."""
    left, right = network.host("h1"), network.host("h2")
    with ExitStack() as stack:
        port = stack.enter_context(loaded(right))
        words = ("relay", "--log", "none")
        stack.enter_context(
            verb(right, home, *words, f"rpt-listen:{right.ipv4}:4000", f"tcp:127.0.0.1:{port}")
        )
        _, near = stack.enter_context(
            verb(
                left, home, *words, "--accept-new", "tcp-listen:127.0.0.1:0",
                f"rpt:{right.ipv4}:4000",
            )
        )  # fmt: skip
        way = near.rpartition(":")[2]
        return {
            what: result(start(left, "tcp_load.py", what, way, seconds), seconds + 60)["figure"]
            for what in ("bulk", "visits")
        }


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="a measurement (3)")
    parser.add_argument("--rounds", type=int, help="of both (5)")
    arguments = parser.parse_args()
    lab.become_root()
    seconds = arguments.seconds or (0.5 if arguments.quick else 3.0)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    print(f"TCP through a relay on loopback, {rounds} rounds of {seconds:g} s each")
    print(machine() + "\n", flush=True)
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as home, lab.up(lab.pair()) as network:
        host = network.host("h1")
        with ExitStack() as stack:
            port = stack.enter_context(loaded(host))
            relays = {
                "rawproto relay": stack.enter_context(relay(host, home, port)),
                "socat": stack.enter_context(socat(host, home, port)),
            }

            def one(name: str, what: str) -> float:
                figure, cpu = measured(host, *relays[name], what, seconds)
                found.setdefault(name, {}).setdefault(f"{what} CPU", []).append(cpu)
                return figure

            for what in ("bulk", "visits"):
                figures = interleave({name: partial(one, name, what) for name in relays}, rounds)
                for name, values in figures.items():
                    found[name][what] = values
        rpt = through_rpt(network, home, seconds)
    ours, theirs = found["rawproto relay"], found["socat"]
    ratios = {what: median_ratio(ours[what], theirs[what]) for what in ours}
    rows = [
        [
            name,
            f"{median(each['bulk']) / 1e6:.0f} Mbit/s",
            f"{median(each['bulk CPU']):.0f} ns",
            f"{median(each['visits']):.0f}",
            f"{median(each['visits CPU']):.0f} us",
        ]
        for name, each in found.items()
    ]
    columns = ("bulk", "bulk CPU", "visits", "visits CPU")
    rows.append(["relay / socat", *[f"{ratios[what]:.2f}" for what in columns]])
    rows.append(
        ["TCP, RPT, TCP", f"{rpt['bulk'] / 1e6:.0f} Mbit/s", "", f"{rpt['visits']:.0f}", ""]
    )
    print(table(["", "bulk", "CPU a KiB", "connections/s", "CPU of one"], rows))
    criteria = [
        at_least("relay / socat, goodput", ratios["bulk"], WANTED_BULK),
        at_least("relay / socat, connections a second", ratios["visits"], WANTED_VISITS),
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
