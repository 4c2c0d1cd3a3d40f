"""Replaying a capture: how exactly on time, and how fast, beside tcpreplay.

Both send the same captures between two hosts of a lab, round by round. How far apart packets
arrive is told by the kernel's stamps at the other end; the error of one is how much farther
from, or nearer to, the first one it is than it was in the capture, whichever tool is at work.
tcpreplay's timers are tried as they are by default and at its most exact (`--timer=gtod`,
which turns a processor hot; rawproto does so for the last moment of a pause only). How fast
is what each tells of a capture sent at once.

Needs tcpreplay and root.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from report import (
    Criterion,
    at_least,
    at_most,
    conclude,
    interleave,
    machine,
    median_ratio,
    options,
    quantile,
    table,
)

from rawproto import lab
from rawproto.capture import CapturedPacket, write
from rawproto.link.packet import PacketLink
from rawproto.wire.ethernet import EthernetHeader
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.udp import UDPHeader

US = 1000
GAPS_US = (1000, 200, 50, 3000, 1000, 700)
"""From one packet to the next, over and over: a millisecond on average."""
SOURCE = "02:00:00:00:00:aa"
TOOLS = {
    "rawproto": ["--json"],
    "tcpreplay": [],
    "tcpreplay, gtod": ["--timer=gtod"],
}


def frame() -> bytes:
    """60 bytes that the far host has no use for."""
    packet = IPv4Header(src_addr="192.0.2.1", dst_addr="192.0.2.2", identification=1)
    header = EthernetHeader(src_addr=SOURCE, dst_addr="02:00:00:00:00:bb")
    return (header / packet / UDPHeader(src_port=9, dst_port=9) / bytes(18)).emit()


def times_ns(packets: int) -> list[int]:
    """When each packet of the capture was captured."""
    at, times = 0, []
    for number in range(packets):
        times.append(at)
        at += GAPS_US[number % len(GAPS_US)] * US
    return times


def save(path: Path, times: list[int]) -> Path:
    data = frame()
    write(path, (CapturedPacket(time_ns=10**18 + at, data=data) for at in times))
    return path


def run(host: lab.LiveHost, tool: str, *arguments: str) -> str:
    """Runs a tool on a host: what it says."""
    if tool == "rawproto":
        command = [sys.executable, "-m", "rawproto.cli.main", "replay", "-i", "eth0"]
    else:
        command = ["tcpreplay", "--intf1=eth0"]
    with host.entered():
        done = subprocess.run(
            [*command, *TOOLS[tool], *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    return done.stdout


def errors_us(hosts: list[lab.LiveHost], tool: str, path: Path, times: list[int]) -> list[float]:
    """How far off each packet is, against the first, in us.

    Raises:
        SystemExit: not all packets arrived, so that timing them would mean nothing.
    """
    sender, receiver = hosts
    with receiver.entered():
        link = PacketLink("eth0", ignore_outgoing=True)
    with link:
        run(sender, tool, str(path))
        frames = link.receive_frames(10 * len(times))
    stamps = [each.real_ns for each in frames if each.data[6:12].hex(":") == SOURCE]
    if len(stamps) != len(times):
        raise SystemExit(f"{tool}: {len(stamps)} of {len(times)} packets arrived")
    return [abs(stamp - stamps[0] - at) / 1000 for stamp, at in zip(stamps, times, strict=True)]


def speed_pps(sender: lab.LiveHost, tool: str, path: Path) -> float:
    """Packets a second of a capture sent at once, as the tool tells."""
    if tool == "rawproto":
        return float(json.loads(run(sender, tool, "--fast", str(path)))["packets_per_second"])
    said = run(sender, tool, "--topspeed", "--preload-pcap", str(path))
    rated = re.search(r"([\d.]+) pps", said)
    if rated is None:
        raise SystemExit(f"tcpreplay said: {said}")
    return float(rated[1])


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    rounds, packets, burst = (1, 500, 20_000) if arguments.quick else (5, 3000, 200_000)
    print(f"median of {rounds} rounds of {packets} packets, and of {burst} at once")
    print(machine() + "\n")
    times = times_ns(packets)
    with (
        tempfile.TemporaryDirectory() as name,
        lab.up(lab.pair()) as network,
    ):
        hosts = [network.host("h1"), network.host("h2")]
        slow = save(Path(name) / "slow.pcap", times)
        fast = save(Path(name) / "fast.pcap", [0] * burst)
        found: dict[str, list[list[float]]] = {tool: [] for tool in TOOLS}
        for number in range(rounds):
            for tool in list(TOOLS)[:: -1 if number % 2 else 1]:
                found[tool].append(errors_us(hosts, tool, slow, times))
        speeds = interleave(
            {
                tool: lambda tool=tool: speed_pps(hosts[0], tool, fast)  # type: ignore[misc]
                for tool in ("rawproto", "tcpreplay")
            },
            rounds,
        )
    rows = []
    middles: dict[str, list[float]] = {}
    for tool, each in found.items():
        middles[tool] = [statistics.median(errors) for errors in each]
        p99 = statistics.median(quantile(errors, 0.99) for errors in each)
        speed = f"{statistics.median(speeds[tool]):,.0f}" if tool in speeds else "-"
        rows.append([tool, f"{statistics.median(middles[tool]):.1f}", f"{p99:.1f}", speed])
    print(table(["tool", "error, median us", "p99 us", "at once, packets/s"], rows))
    criteria: list[Criterion] = [
        at_most(
            f"error beside {tool}'s, median",
            median_ratio(middles["rawproto"], middles[tool]),
            1.0,
        )
        for tool in ("tcpreplay", "tcpreplay, gtod")
    ]
    ratio = median_ratio(speeds["rawproto"], speeds["tcpreplay"])
    criteria.append(at_least("speed beside tcpreplay's", ratio, 0.5))
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    raise SystemExit(main())
