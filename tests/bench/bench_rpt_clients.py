"""RPT with many clients: 1,000 idle and 200 busy ones at once, by one worker and by two.

Two hosts on a veth at MTU 1500. The server is `rawproto perf serve --workers N`; the idle
clients are one process, the busy ones another (`rpt_crowd.py`). Told are the goodput of all
busy clients together and how evenly they shared it (Jain), the handshakes a second of
clients that come and go, and what the server took of memory and CPU. On a machine with few
cores the clients, the kernel's work for both sides and the workers share them: two workers
show what they cost, not what they could do.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

from report import at_least, conclude, machine, options, table
from rpt_server import PORT, cpu_seconds, memory_bytes, result, serving, start

from rawproto import lab

WORKERS = (1, 2)
MIB = 1 << 20
EACH_BYTES = 250_000
MOST_S = 120.0


def measure(network: lab.Network, workers: int, idle: int, busy: int, seconds: float) -> Any:
    """One server, and what its clients told."""
    client, server = network.host("h1"), network.host("h2")
    with tempfile.TemporaryDirectory() as home:
        with serving(server, home, f"--workers={workers}") as process:
            idlers = start(client, "rpt_crowd.py", "idle", server.ipv4, PORT, idle)
            assert idlers.stdout is not None
            connected = json.loads(idlers.stdout.readline())
            time.sleep(seconds / 2)  # new connections look for the size of their packets
            cpu, clock = cpu_seconds(process.pid), time.monotonic()
            time.sleep(seconds)  # nobody says a word
            idle_cpu = (cpu_seconds(process.pid) - cpu) / (time.monotonic() - clock)
            crowd = start(client, "rpt_crowd.py", "busy", server.ipv4, PORT, busy, EACH_BYTES)
            told = result(crowd, MOST_S)
            busy_memory = memory_bytes(process.pid, "Pss")
            alive = result(idlers, MOST_S)["alive"]
        with serving(server, home, f"--workers={workers}") as process:
            cpu = cpu_seconds(process.pid)
            visitors = start(client, "rpt_crowd.py", "handshakes", server.ipv4, PORT, seconds)
            rate = result(visitors, MOST_S)["handshakes_per_second"]
            visit_cpu = cpu_seconds(process.pid) - cpu
    return {
        **told,
        "connect_s": connected["seconds"],
        "alive": alive,
        "idle_cpu": idle_cpu,
        "memory_mib": busy_memory / MIB,
        "handshakes": rate,
        "handshake_cpu_us": visit_cpu / (rate * seconds) * 1e6,
    }


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--idle", type=int, help="clients (1000)")
    parser.add_argument("--busy", type=int, help="clients (200)")
    parser.add_argument("--seconds", type=float, help="of silence, and of handshakes (4)")
    arguments = parser.parse_args()
    lab.become_root()
    quick = arguments.quick
    idle = arguments.idle or (30 if quick else 1000)
    busy = arguments.busy or (10 if quick else 200)
    seconds = arguments.seconds or (0.5 if quick else 4.0)
    print(f"{idle} idle clients, and {busy} that send {EACH_BYTES} bytes each, at once")
    print(machine() + "\n", flush=True)
    with lab.up(lab.pair()) as network:
        found = {each: measure(network, each, idle, busy, seconds) for each in WORKERS}
    rows = [
        [
            f"{workers}",
            f"{each['goodput_bps'] / 1e6:.0f} Mbit/s",
            f"{each['jain']:.2f}",
            f"{each['handshakes']:.0f}",
            f"{each['handshake_cpu_us']:.0f} us",
            f"{each['idle_cpu'] * 100:.1f} %",
            f"{each['memory_mib']:.0f} MiB",
        ]
        for workers, each in found.items()
    ]
    headings = ["workers", "goodput, all", "Jain", "handshakes/s", "CPU of one"]
    headings += ["CPU, all idle", "memory, all"]
    print(table(headings, rows))
    criteria = [
        at_least(f"{words} served, {workers} worker(s)", each[what], count)
        for workers, each in found.items()
        for words, what, count in (("idle", "alive", idle), ("busy", "served", busy))
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
