"""Capturing 64-byte packets to disk, beside tcpdump, each packet accounted for.

One core sends numbered packets through a veth pair at a steady rate (`flood.py`), the other
captures at the far end: rawproto as pcap and as pcapng, and tcpdump with a ring of the same
size, in turns, each behind the same filter. A run is whole when the file has every packet,
in order; what is judged is the highest rate of such a run, because on a busy machine the
sender falls short of what was asked. CPU time is that of the tool, start-up included; below
stands what a packet costs rawproto between the kernel's block and the file's bytes.
"""

from __future__ import annotations

import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from flood import FRAME_BYTES, NUMBER_AT
from report import at_least, conclude, interleave, machine, measure_cpu_ns, options, table

from rawproto import lab, read
from rawproto.drivers.capture_records import CookedRecords, PcapngRecords, PcapRecords, Records
from rawproto.drivers.capture_source import CaptureOptions, CaptureSource
from rawproto.drivers.sniff import packets_in
from rawproto.link.ring import LARGEST_FRAME, Block

RAWPROTO = str(Path(sys.executable).with_name("rawproto"))
FLOOD = str(Path(__file__).with_name("flood.py"))
WANTED_PPS = 250_000
RING_KIB = 32 << 10
FILTER = "udp port 9"
ENDS_WITHIN_S = 5
PCAP_HEADER, PCAP_RECORD = 24, 16 + FRAME_BYTES

TOOLS = {
    "rawproto, pcap": [RAWPROTO, "capture", "-i", "eth0", "-w", "{path}.pcap"],
    "rawproto, pcapng": [RAWPROTO, "capture", "-i", "eth0", "-w", "{path}.pcapng"],
    # As root to the end: whoever tcpdump becomes else may not write here.
    "tcpdump": ["tcpdump", "-Z", "root", "-B", str(RING_KIB), "-i", "eth0", "-w", "{path}.pcap"],
}


@dataclass(slots=True, kw_only=True)
class Run:
    """What one tool did with one load.

    Attributes:
        sent_pps: the rate that the sender reached.
        missing: packets that are not in the file.
        dropped: those of them that the kernel had no room for, as the tool says.
        cpu_s: CPU time of the tool.
    """

    sent_pps: float
    missing: int
    dropped: int
    cpu_s: float


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--packets", type=int, help="in each run (1,000,000)")
    parser.add_argument("--rounds", type=int, help="of each tool at each rate (3)")
    parser.add_argument("--rates", help="packets a second, by commas")
    arguments = parser.parse_args()
    if shutil.which("tcpdump") is None:
        sys.stderr.write("bench_live_capture: not found: tcpdump\n")
        return 2
    lab.become_root()
    quick = arguments.quick
    packets = arguments.packets or (150_000 if quick else 1_000_000)
    rounds = arguments.rounds or (1 if quick else 3)
    rates = arguments.rates or ("300000" if quick else "300000,500000")
    print(f"{rounds} rounds of {packets:,} packets of {FRAME_BYTES} bytes by each tool in turn")
    print(machine() + "\n", flush=True)
    found: dict[tuple[int, str], list[Run]] = {}
    with (
        lab.up(lab.pair()) as network,
        # Where there is a disk: /dev/shm would be none.
        tempfile.TemporaryDirectory(dir="/var/tmp") as directory,
    ):
        for rate in map(int, rates.split(",")):
            peers = {
                tool: run_of(network, command, Path(directory), packets, rate)
                for tool, command in TOOLS.items()
            }
            for tool, runs in interleave(peers, rounds).items():
                found[rate, tool] = runs
    print(table(*figures(found, packets)))
    print()
    print(table(["from block to bytes", "a packet"], costs()))
    criteria = []
    for tool in TOOLS:
        runs = [run for (_, name), each in found.items() if name == tool for run in each]
        best = max((run.sent_pps for run in runs if not run.missing), default=0)
        if max(run.sent_pps for run in runs) < WANTED_PPS:
            print(f"\n{tool}: invalid, the sender got no further than {best:,.0f} packets/s here")
            continue
        criteria.append(at_least(f"{tool}: packets/s without loss", round(best), WANTED_PPS))
    return conclude(criteria, strict=arguments.strict) if criteria else 0


def run_of(
    network: lab.Network, command: list[str], directory: Path, packets: int, rate: int
) -> Callable[[], Run]:
    """A run, to be called; it returns a `Run`."""
    path = directory / "out"
    words = [word.format(path=path) for word in [*command, "-c", str(packets), FILTER]]
    sender, receiver = network.host("h1"), network.host("h2")

    def run() -> Run:
        before = cpu_of_children()
        with receiver.popen(words, stderr=subprocess.PIPE, text=True) as tool:
            assert tool.stderr is not None
            for line in tool.stderr:
                if "listening on" in line:
                    break
            with sender.popen(
                [sys.executable, FLOOD, "eth0", str(packets), str(rate)],
                stdout=subprocess.PIPE,
                text=True,
            ) as flood:
                seconds = float(flood.communicate(timeout=120)[0])
                sent_cpu = cpu_of_children() - before
            try:
                tool.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:  # packets are missing, or it would have its count
                tool.send_signal(signal.SIGINT)
            told = tool.stderr.read()
        cpu_s = cpu_of_children() - before - sent_cpu
        dropped = re.search(r"(\d+) packets dropped by kernel", told)
        if dropped is None:
            raise SystemExit(f"{' '.join(words)}: {told}")
        file = next(directory.iterdir())
        missing = packets - whole_and_in_order(file)
        file.unlink()
        return Run(
            sent_pps=packets / seconds, missing=missing, dropped=int(dropped[1]), cpu_s=cpu_s
        )

    return run


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def whole_and_in_order(file: Path) -> int:
    """How many packets of ours a file has; their numbers must rise."""
    if file.suffix == ".pcap":
        data = file.read_bytes()
        at = PCAP_HEADER + 16 + NUMBER_AT
        columns = (data[at + place :: PCAP_RECORD] for place in range(4))
        numbers = [a << 24 | b << 16 | c << 8 | d for a, b, c, d in zip(*columns, strict=True)]
        assert len(data) == PCAP_HEADER + len(numbers) * PCAP_RECORD, "other packets came between"
    else:
        numbers = [int.from_bytes(p.data[NUMBER_AT : NUMBER_AT + 4], "big") for p in read(file)]
    assert numbers == sorted(set(numbers)), "not in order"
    return len(numbers)


def figures(
    found: dict[tuple[int, str], list[Run]], packets: int
) -> tuple[list[str], list[list[str]]]:
    """The table: headings and rows."""
    rows = []
    for (rate, tool), runs in found.items():
        cpu_us = median(run.cpu_s for run in runs) / packets * 1e6
        rows.append(
            [
                f"{rate:,}/s, {tool}",
                f"{median(run.sent_pps for run in runs):,.0f}",
                " ".join(str(run.missing) for run in runs),
                " ".join(str(run.dropped) for run in runs),
                f"{cpu_us:.2f} us",
            ]
        )
    return ["rate, tool", "sent/s", "missing", "dropped by kernel", "CPU a packet"], rows


# --- where the time goes -------------------------------------------------------------------------


def costs() -> list[list[str]]:
    """What a packet costs, by what becomes of it."""
    with CaptureSource(CaptureOptions(interfaces=("lo",))) as source:
        index = next(iter(source.watched))
        block = block_of(2000, index)
        ways: dict[str, Records] = {
            "pcap": PcapRecords(1, LARGEST_FRAME),
            "pcapng": PcapngRecords(source),
            "pcap of any, cooked": CookedRecords(LARGEST_FRAME),
        }
        rows = []
        for name, records in ways.items():
            records.begin()
            encode = measure_cpu_ns(
                lambda records=records: b"".join(records.encode(fresh(block), block.left)), 50
            )
            rows.append([f"records of {name}", f"{encode / block.left / 1000:.2f} us"])
        values = measure_cpu_ns(lambda: list(packets_in(fresh(block), source)), 50)
        rows.append(["sniff, an object each", f"{values / block.left / 1000:.2f} us"])
    return rows


def fresh(block: Block) -> Block:
    return Block(block.data, block.at, block.left, block.last_ns)


def block_of(count: int, index: int) -> Block:
    """A block as the kernel fills it, of frames alike."""
    head = struct.Struct("@IIIIIIHH4xIH10x2x2siHBB8s")
    size, frame_at = 152, 82
    record = head.pack(
        size, 1, 2, FRAME_BYTES, FRAME_BYTES, 1, frame_at, 96, 0, 0, b"\x08\0", index, 1, 0, 6, b""
    )
    one = record.ljust(frame_at, b"\0") + bytes(FRAME_BYTES)
    return Block(bytes(48) + one.ljust(size, b"\0") * count, 48, count, 0)


if __name__ == "__main__":
    sys.exit(main())
