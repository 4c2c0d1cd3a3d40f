"""Whose round-trip time is true: rawproto's and iputils' ping beside a simultaneous capture.

Both ping from one host of a pair to the other, in turns, while tcpdump captures on the
interface that they leave by; what a tool reports is compared with the capture, packet
by packet. First on an idle machine, then under load: a busy process for every core, and
a stream of packets through the same interface.

iputils reads the clock before it asks the kernel to send and prints microseconds;
rawproto takes the driver's own stamp. The pair is a lab of ours (`rawproto lab run
pair`), unless this already runs in one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from report import (
    Criterion,
    at_least,
    at_most,
    conclude,
    interleave,
    machine,
    options,
    quantile,
    table,
)
from truth import Measured, Truth, bracketed, errors_ns, read_iputils, read_rawproto, truths

RAWPROTO = str(Path(sys.executable).with_name("rawproto"))
TOOLS = ("ping", "tcpdump", "ip")

INTERVAL_S = 0.005
BRACKETED = 0.99
ERROR_RATIO = 0.6

PCAP_HEADER, PCAP_RECORD_HEADER = 24, 16
SNAP_BYTES = 64
"""How much of each packet is kept, in bytes; all are longer."""

# Both end by themselves, should this process be killed.
BUSY = "import signal; signal.alarm(120)\nwhile True: pass"
STREAM = """
import signal, socket, sys, time
signal.alarm(120)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for _ in range(16):
        sender.sendto(bytes(64), (sys.argv[1], 9))
    time.sleep(0.001)
"""


@dataclass(slots=True)
class Peer:
    """One tool in one state of the machine, and all that it reported."""

    tool: str
    state: str
    measured: dict[tuple[int, int], Measured] = field(default_factory=dict)


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--packets", type=int, default=100, help="in each round (100)")
    parser.add_argument("--rounds", type=int, help="of each tool in each state (5)")
    arguments = parser.parse_args()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        sys.stderr.write(f"bench_ping: not found: {', '.join(missing)}\n")
        return 2
    target = os.environ.get("RAWPROTO_H2")
    if target is None:
        command = [RAWPROTO, "lab", "run", "pair", "--", sys.executable, *sys.argv]
        sys.stdout.flush()
        os.execv(RAWPROTO, command)
    return compare(arguments, target)


def compare(arguments: argparse.Namespace, target: str) -> int:
    """Runs everything inside the pair and tells; the exit code."""
    packets, rounds = arguments.packets, arguments.rounds or (1 if arguments.quick else 5)
    print(
        f"round trips on a pair, {rounds} rounds of {packets} packets "
        f"at {INTERVAL_S * 1000:g} ms by each tool in turn"
    )
    print("error: what a tool reports, beside the capture's reply minus request")
    print(machine() + "\n", flush=True)
    # The neighbours know each other from here on: no first packet waits for ARP.
    subprocess.run(["ping", "-c1", "-q", target], check=True, stdout=subprocess.DEVNULL)
    peers: list[Peer] = []
    identifiers: set[int] = set()
    with tempfile.TemporaryDirectory() as directory:
        pcap = Path(directory) / "truth.pcap"
        with capturing(pcap, target) as capture:
            for state in ("idle", "loaded"):
                with load(target) if state == "loaded" else contextlib.nullcontext():
                    peers += run_rounds(state, target, packets, rounds, identifiers)
            capture.wait_for(2 * sum(len(peer.measured) for peer in peers))
        truth = truths(pcap)
    print(table(*figures(peers, truth)))
    return conclude(criteria(peers, truth), strict=arguments.strict)


def run_rounds(
    state: str, target: str, packets: int, rounds: int, identifiers: set[int]
) -> list[Peer]:
    """Both tools in turn; `identifiers` are those that the capture has seen."""
    ours, theirs = Peer("rawproto", state), Peer("iputils", state)
    common = ["-c", str(packets), "-i", str(INTERVAL_S), target]

    def run_ours() -> int:
        run = read_rawproto(output([RAWPROTO, "ping", "--json", *common]))
        # It draws its identifier by chance. One that was used before tells nothing apart.
        ours.measured |= {key: each for key, each in run.items() if key[0] not in identifiers}
        identifiers.update(identifier for identifier, _ in run)
        return len(run)

    def run_theirs() -> int:
        identifier = next(each for each in range(1, 0x10000) if each not in identifiers)
        run = read_iputils(output(["ping", "-n", "-e", str(identifier), *common]), identifier)
        theirs.measured |= run
        identifiers.add(identifier)
        return len(run)

    interleave({"rawproto": run_ours, "iputils": run_theirs}, rounds)
    return [ours, theirs]


def output(command: Sequence[str]) -> list[str]:
    """The lines that a tool prints. A packet lost is no error, any other failure is."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout.splitlines()


# --- the truth, and the load ---------------------------------------------------------------------


class Capture:
    """A running tcpdump."""

    def __init__(self, pcap: Path, interface: str) -> None:
        self._pcap = pcap
        command = ["tcpdump", "-i", interface, "-w", str(pcap), "-U", "-B", "8192"]
        command += ["-n", "-s", str(SNAP_BYTES), "-j", "host", "--time-stamp-precision=nano"]
        command += ["-Z", "root"]  # what a file of ours is written as
        command += ["icmp[icmptype] == icmp-echo or icmp[icmptype] == icmp-echoreply"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        told = []
        for line in self._process.stderr:
            if "listening on" in line:
                return
            told.append(line)
        self._process.wait()
        # In a user namespace it stumbles over giving up privileges that it doesn't have.
        raise SystemExit(f"{''.join(told)}bench_ping: the truth comes from tcpdump: run as root")

    def wait_for(self, packets: int) -> None:
        """Until they are in the file: tcpdump gets them in blocks, a while after the fact."""
        wanted = PCAP_HEADER + packets * (PCAP_RECORD_HEADER + SNAP_BYTES)
        deadline = time.monotonic() + 5
        while self._pcap.stat().st_size < wanted and time.monotonic() < deadline:
            time.sleep(0.05)

    def close(self) -> None:
        """Ends it; a capture that lost packets says so."""
        self._process.send_signal(signal.SIGINT)
        _, told = self._process.communicate(timeout=10)
        if "\n0 packets dropped by kernel" not in f"\n{told}":
            print(f"the capture is not whole: {told}")


@contextlib.contextmanager
def capturing(pcap: Path, target: str) -> Iterator[Capture]:
    """tcpdump on the interface that leads to the target."""
    route = subprocess.run(
        ["ip", "-oneline", "route", "get", target], check=True, capture_output=True, text=True
    ).stdout.split()
    capture = Capture(pcap, route[route.index("dev") + 1])
    try:
        yield capture
    finally:
        capture.close()


@contextlib.contextmanager
def load(target: str) -> Iterator[None]:
    """A busy process for each core, and packets through the interface."""
    commands = [[sys.executable, "-c", BUSY]] * (os.cpu_count() or 1)
    commands.append([sys.executable, "-c", STREAM, target])
    busy = [subprocess.Popen(command) for command in commands]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


# --- the figures ---------------------------------------------------------------------------------


def figures(peers: list[Peer], truth: Truth) -> tuple[list[str], list[list[str]]]:
    """The table: headings and rows."""
    headings = ["machine, tool", "packets", "true RTT", "error: median", "p99", "max", "bracketed"]
    rows = []
    for peer in peers:
        true_ns = [truth[key] for key in peer.measured if key in truth]
        wrong_ns = errors_ns(peer.measured, truth)
        if not wrong_ns:
            raise SystemExit(f"{peer.tool}: the capture saw none of its packets")
        tells_queue = any(each.queued_ns is not None for each in peer.measured.values())
        share = f"{bracketed(peer.measured, truth):.1%}" if tells_queue else "-"
        figures_ns = (median(true_ns), median(wrong_ns), quantile(wrong_ns, 0.99), max(wrong_ns))
        rows.append([f"{peer.state}, {peer.tool}", str(len(wrong_ns)), *map(us, figures_ns), share])
    return headings, rows


def us(ns: float) -> str:
    return f"{ns / 1000:.1f} us"


def criteria(peers: list[Peer], truth: Truth) -> list[Criterion]:
    """What is promised of each state of the machine."""
    found = []
    for state in dict.fromkeys(peer.state for peer in peers):
        ours, theirs = (peer.measured for peer in peers if peer.state == state)
        share = bracketed(ours, truth)
        found.append(
            at_least(f"{state}: truth in RTT .. RTT + queued", share * 100, BRACKETED * 100, " %")
        )
        ratio = quantile(errors_ns(ours, truth), 0.99) / quantile(errors_ns(theirs, truth), 0.99)
        found.append(at_most(f"{state}: p99 error, rawproto / iputils", ratio, ERROR_RATIO))
    return found


if __name__ == "__main__":
    sys.exit(main())
