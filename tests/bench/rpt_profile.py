"""Where each microsecond of a bulk packet goes: the table in docs/performance.md.

Runs `rawproto perf` between two hosts, once with the sender under py-spy and once with the
receiver (`pip install py-spy`), sorts the samples by the line or the module they fell in,
and spreads the CPU time of a packet, measured without a profiler, over them by their share.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from shutil import which

from report import machine, options, table

from rawproto import lab

VERB = ["-m", "rawproto.cli.main", "perf"]
# What stands first counts: (part of "function (file:line)" of the innermost frame, or of any
# frame where it begins with a caret) -> what it is called.
SIDES = {
    "sending": (
        ("Volley.send", "kernel: sendmmsg, as far as the other host's socket"),
        ("RawCarrier.send", "kernel: sendmmsg, as far as the other host's socket"),
        ("rpt_carrier.py", "turn: window, pace, timers"),
        ("Sender._seal", "header, nonce, AES-GCM, what is remembered of it"),
        ("transport/pieces.py", "stream: pieces, what was acknowledged"),
        ("transport/sendbuf.py", "stream: pieces, what was acknowledged"),
        ("transport/outgoing.py", "stream: pieces, what was acknowledged"),
        ("^Endpoint.receive ", "taking in ACKs: opening, RTT, losses, window"),
        ("RawCarrier._receive", "kernel: recv of ACKs"),
        ("transport/", "turn: window, pace, timers"),
        ("drivers/", "turn: window, pace, timers"),
        ("asyncio/", "event loop: callbacks"),
        ("selectors.py", "waiting: epoll"),
        ("", "all else: the program, start and end"),
    ),
    "receiving": (
        ("RawCarrier._receive", "kernel: recv, and the copy behind the IP header"),
        ("^take_run ", "number, nonce, AES-GCM, frames, stream"),
        ("Connection.handle_short ", "number, nonce, AES-GCM, frames, stream"),
        ("read_frames", "number, nonce, AES-GCM, frames, stream"),
        ("^Incoming.on_data ", "number, nonce, AES-GCM, frames, stream"),
        ("transport/acks.py", "ACKs: what came, when to say so, sealing, sendto"),
        ("Sender._seal", "ACKs: what came, when to say so, sealing, sendto"),
        ("RawCarrier.send", "ACKs: what came, when to say so, sealing, sendto"),
        ("^Endpoint.receive ", "finding the connection"),
        ("transport/recvbuf.py", "reading: joining pieces, windows"),
        ("transport/incoming.py", "reading: joining pieces, windows"),
        ("transport/", "turn: window, pace, timers"),
        ("drivers/", "turn: window, pace, timers"),
        ("asyncio/", "event loop: callbacks"),
        ("selectors.py", "waiting: epoll"),
        ("", "all else: the program, start and end"),
    ),
}


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=5.0, help="a transfer (5)")
    seconds = parser.parse_args().seconds
    spy = which("py-spy") or str(Path(sys.executable).with_name("py-spy"))
    if not Path(spy).exists():
        sys.stderr.write("rpt_profile: not found: py-spy (pip install py-spy)\n")
        return 2
    lab.become_root()
    print(machine())
    with tempfile.TemporaryDirectory() as home, lab.up(lab.pair()) as network:
        summary = transfer(network, home, seconds, {})
        for side, key in (("sending", "cpu"), ("receiving", "receiver_cpu")):
            samples = Path(home, side)
            record = [spy, "record", "-r", "500", "-f", "raw", "-o", str(samples), "--"]
            transfer(network, home, seconds, {side: record})
            total = summary[f"{key}_us_per_packet"]
            print(f"\n{side}: {total:.1f} us a packet\n")
            print(table(["where", "us", "share"], rows(samples, SIDES[side], total)))
    return 0


def transfer(
    network: lab.Network, home: str, seconds: float, record: dict[str, list[str]]
) -> dict[str, float]:
    """One transfer, one side under the profiler perhaps: its summary."""
    left, right = network.host("h1"), network.host("h2")
    environment = {**os.environ, "XDG_CONFIG_HOME": home, "XDG_STATE_HOME": home}
    address = f"rpt://{right.ipv4}:4000"
    server = right.popen(
        [*record.get("receiving", []), sys.executable, *VERB, "serve", address],
        env=environment,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    while not (line := server.stderr.readline()).startswith(b"listening"):
        if not line:
            raise SystemExit("rpt_profile: the server did not start")
    words = ["run", "--accept-new", "--json", f"--time={seconds}", address]
    client = left.popen(
        [*record.get("sending", []), sys.executable, *VERB, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    output, _ = client.communicate(timeout=seconds + 60)
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=30)
    found = [line for line in output.splitlines() if b'"summary"' in line]
    return json.loads(found[-1])


def rows(samples: Path, sorts: tuple[tuple[str, str], ...], total: float) -> list[list[str]]:
    """The table of one side, the dearest first."""
    counts: Counter[str] = Counter()
    for line in samples.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if any("_run_once" in frame for frame in frames):  # start and end are no packet's
            counts[name_of(frames, sorts)] += int(count)
    whole = sum(counts.values())
    return [
        [name, f"{total * count / whole:.1f}", f"{100 * count / whole:.0f} %"]
        for name, count in counts.most_common()
    ]


def name_of(frames: list[str], sorts: tuple[tuple[str, str], ...]) -> str:
    """What the time of a stack is called."""
    for part, name in sorts:
        if part.startswith("^"):
            if any(frame.startswith(part[1:]) for frame in frames):
                return name
        elif part in frames[-1]:
            return name
    raise AssertionError("the last sort takes all")


if __name__ == "__main__":
    sys.exit(main())
