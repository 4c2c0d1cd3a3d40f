"""What RPT keeps in memory: for an idle connection, and for a transfer of 1 GiB.

Two hosts on a veth at MTU 1500. An idle connection is what a server's own memory (without
files mapped, `Pss_Anon`) grows by with each of many clients that stand and say nothing;
half of them come first and are not counted, because what Python has allocated once it
keeps. A transfer is what sender and receiver, a process each, had at most together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

from report import at_least, at_most, conclude, machine, options, table
from rpt_server import PORT, environment, memory_bytes, peak_bytes, result, serving, start

from rawproto import lab

KIB, MIB = 1 << 10, 1 << 20
MOST_S = 120.0
WANTED_IDLE_KIB = 24
WANTED_TRANSFER_MIB = 96


def idle_bytes(network: lab.Network, count: int, settle_s: float) -> float:
    """Of one connection, on the server."""
    client, server = network.host("h1"), network.host("h2")
    with tempfile.TemporaryDirectory() as home, serving(server, home) as process:
        stand = 0
        sizes, crowds, counts = [], [], []
        for _ in range(2):
            crowd = start(client, "rpt_crowd.py", "idle", server.ipv4, PORT, count // 2)
            crowds.append(crowd)
            assert crowd.stdout is not None
            stand += json.loads(crowd.stdout.readline())["connected"]
            time.sleep(settle_s)  # new connections look for the size of their packets
            sizes.append(memory_bytes(process.pid))
            counts.append(stand)
        for crowd in crowds:
            result(crowd, MOST_S)
        return (sizes[1] - sizes[0]) / (counts[1] - counts[0])


def transfer_bytes(network: lab.Network, size: int) -> tuple[int, int, int]:
    """The most that server and client had, and how much arrived."""
    client, server = network.host("h1"), network.host("h2")
    with tempfile.TemporaryDirectory() as home, serving(server, home) as process:
        verb = ["-m", "rawproto.cli.main", "perf", "run", "--accept-new", "--json"]
        runner = client.popen(
            [sys.executable, *verb, f"--bytes={size}", f"rpt://{server.ipv4}:{PORT}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(home),
        )
        most = 0
        while True:
            try:
                output, _ = runner.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                most = max(most, peak_bytes(runner.pid))
        return peak_bytes(process.pid), most, json.loads(output.splitlines()[-1])["bytes"]


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--clients", type=int, help="idle ones (1000)")
    parser.add_argument("--mebibytes", type=int, help="of the transfer (1024)")
    arguments = parser.parse_args()
    lab.become_root()
    clients = arguments.clients or (100 if arguments.quick else 1000)
    size = (arguments.mebibytes or (16 if arguments.quick else 1024)) * MIB
    print(f"{clients} idle connections, then a transfer of {size / MIB:g} MiB")
    print(machine() + "\n", flush=True)
    with lab.up(lab.pair()) as network:
        idle = idle_bytes(network, clients, 1.0 if arguments.quick else 4.0) / KIB
        receiver, sender, arrived = transfer_bytes(network, size)
    rows = [
        ["an idle connection", f"{idle:.1f} KiB"],
        ["the transfer's receiver", f"{receiver / MIB:.1f} MiB"],
        ["its sender", f"{sender / MIB:.1f} MiB"],
    ]
    print(table(["what", "memory"], rows))
    total = (receiver + sender) / MIB
    criteria = [
        at_most("an idle connection", idle, WANTED_IDLE_KIB, " KiB"),
        at_most("a transfer, both processes", total, WANTED_TRANSFER_MIB, " MiB"),
        at_least("bytes that arrived", arrived, size),
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
