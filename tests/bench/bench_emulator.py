"""How much the lab's emulator carries, and how late it is while it does.

Two hosts on one emulated link send each other UDP packets of 1,500 bytes, evenly, and what
has arrived is read off their interfaces. How late packets were sent on is what the emulator
says of itself, packet by packet.

A round in which some packet was late by more than 1 ms tells nothing of the emulator, only
that something else had its processor: its figures are not counted, and where no round is
left they are "invalid". Needs no peer but `ip`.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from report import (
    Criterion,
    at_least,
    at_most,
    conclude,
    machine,
    options,
    table,
    too_late,
)

from rawproto import lab

PACKET_BYTES = 1500
OFFERED_BPS, LIGHT_BPS = 205e6, 12e6
WANTED_MBPS = 200
WANTED_P99_MS = 0.2

IMPAIRMENTS = {
    "nothing": "by=emulator",
    "a delay": "delay=5ms",
    "all of it": "delay=5ms,jitter=1ms,loss=0.01%,duplicate=0.01%,reorder=0.01%,rate=1gbit",
}

# It ends by itself, should this process be killed. It comes first as the emulator does, or on
# a busy machine it would stop and then make up for it with bursts beyond any link's rate.
SENDER = """
import os, signal, socket, sys, time
signal.alarm(120)
try:
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
except PermissionError:
    pass
address, gap, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
payload = bytes(1472)
now = due = time.monotonic()
end = now + seconds
while now < end:
    while due <= now and due < end:
        sender.sendto(payload, (address, 9))
        due += gap
    time.sleep(max(0, due - now))
    now = time.monotonic()
"""


@dataclass(slots=True, kw_only=True)
class Round:
    """What came out of some seconds.

    Attributes:
        mbps: what arrived at each host, the lesser of the two.
        p50_ms: lateness in the median.
        p99_ms: at p99.
        max_ms: at most.
        overrun: packets that the emulator lost.
    """

    mbps: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    overrun: int


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="a round (3)")
    parser.add_argument("--rounds", type=int, help="with each load (5)")
    arguments = parser.parse_args()
    if shutil.which("ip") is None:
        sys.stderr.write("bench_emulator: not found: ip (apt install iproute2)\n")
        return 2
    lab.become_root()
    seconds = arguments.seconds or (1.0 if arguments.quick else 3.0)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    print(
        f"an emulated link, {PACKET_BYTES}-byte packets both ways, {rounds} rounds of {seconds:g} s"
    )
    print(machine() + "\n", flush=True)
    loads = {
        f"{name}, {bps / 1e6:g} Mbit/s each way": (settings, bps)
        for bps in (LIGHT_BPS, OFFERED_BPS)
        for name, settings in IMPAIRMENTS.items()
    }
    results = {
        name: [measure(settings, bps, seconds) for _ in range(rounds)]
        for name, (settings, bps) in loads.items()
    }
    print(table(*figures(results)))
    return conclude(criteria(results), strict=arguments.strict)


def measure(settings: str, bps: float, seconds: float) -> Round:
    """One round on a pair of its own."""
    with lab.up(lab.pair().changed(f"1:{settings}")) as network, ExitStack() as sinks:
        hosts = [network.host("h1"), network.host("h2")]
        for host in hosts:  # nobody reads what comes, but nobody complains either
            with host.entered():
                sink = sinks.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sink.bind(("", 9))
        hosts[0].run(["ping", "-c1", "-W5", hosts[1].ipv4], check=True)
        network.link(1).report(clear=True)
        before = [received_bytes(host) for host in hosts]
        gap = str(PACKET_BYTES * 8 / bps)
        senders = [
            host.popen([sys.executable, "-c", SENDER, peer.ipv4, gap, str(seconds)])
            for host, peer in zip(hosts, reversed(hosts), strict=True)
        ]
        for sender in senders:
            if sender.wait(timeout=seconds + 30) != 0:
                raise SystemExit(f"the sender failed: exit {sender.returncode}")
        # What is still under way, 6 ms of it, is not counted.
        arrived = [received_bytes(host) - old for host, old in zip(hosts, before, strict=True)]
        report = network.link(1).report()
    late = report.lateness
    return Round(
        mbps=min(arrived) * 8 / seconds / 1e6,
        p50_ms=late["p50_ms"],
        p99_ms=late["p99_ms"],
        max_ms=late["max_ms"],
        overrun=report.overrun,
    )


def received_bytes(host: lab.LiveHost) -> int:
    """What has come in by a host's interface, without Ethernet headers."""
    base = "/sys/class/net/eth0/statistics/rx_"
    shown = host.run(["cat", f"{base}bytes", f"{base}packets"], check=True).stdout
    size, packets = map(int, shown.split())
    return size - 14 * packets


# --- the figures ---------------------------------------------------------------------------------


def valid(rounds: list[Round]) -> list[Round]:
    return [each for each in rounds if not too_late(each.max_ms)]


def figures(results: dict[str, list[Round]]) -> tuple[list[str], list[list[str]]]:
    """The table: headings and rows."""
    headings = ["link does", "arrived", "late: median", "p99", "worst seen", "valid rounds"]
    rows = []
    for name, rounds in results.items():
        good = valid(rounds)
        cells = ["invalid"] * 3
        if good:
            cells = [
                f"{median(each.mbps for each in good):.1f} Mbit/s",
                f"{median(each.p50_ms for each in good):.3f} ms",
                f"{median(each.p99_ms for each in good):.3f} ms",
            ]
        worst = f"{max(each.max_ms for each in rounds):.3f} ms"
        rows.append([name, *cells, worst, f"{len(good)} of {len(rounds)}"])
    return headings, rows


def criteria(results: dict[str, list[Round]]) -> list[Criterion]:
    """What is promised of the emulator, of its valid rounds."""
    found = []
    for name, rounds in results.items():
        good = valid(rounds)
        if not good:
            wanted = f"a round within {WANTED_P99_MS:g} ms at p99"
            found.append(Criterion(text=name, measured="invalid", wanted=wanted, passed=False))
            continue
        if name.endswith(f" {OFFERED_BPS / 1e6:g} Mbit/s each way"):
            rate = median(each.mbps for each in good)
            found.append(at_least(f"{name}: arrived", rate, WANTED_MBPS, " Mbit/s"))
            lost = sum(each.overrun for each in good)
            found.append(at_most(f"{name}: lost by the emulator", lost, 0))
        late = median(each.p99_ms for each in good)
        found.append(at_most(f"{name}: late at p99", late, WANTED_P99_MS, " ms"))
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench_emulator: {error}")
