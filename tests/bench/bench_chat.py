"""A room of 500 members at 10 messages a second: how late each hears them, and what it costs.

Two hosts on a veth. The server is `rawproto chat serve` with a history on disk, the members are
one process (`chat_crowd.py`), each with a key and a connection of its own; every message goes to
all, the one who said it too. Delay is from before it is said to when a member has it, of every
delivery. A member's own work counts in: 5,000 deliveries a second are one process's here.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from report import at_least, at_most, conclude, machine, options, table
from rpt_server import cpu_seconds, memory_bytes, result, start, verb

from rawproto import lab

MIB = 1 << 20
WANTED_P99_MS = 500.0


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--members", type=int, help="in the room (500)")
    parser.add_argument("--rate", type=float, default=10.0, help="messages a second (10)")
    parser.add_argument("--seconds", type=float, help="of talking (10)")
    arguments = parser.parse_args()
    lab.become_root()
    members = arguments.members or (50 if arguments.quick else 500)
    seconds = arguments.seconds or (1.0 if arguments.quick else 10.0)
    rate = arguments.rate
    print(f"{members} members of a room, {rate:g} messages a second for {seconds:g} s")
    print(machine() + "\n", flush=True)
    with tempfile.TemporaryDirectory() as home, lab.up(lab.pair()) as network:
        left, right = network.host("h1"), network.host("h2")
        words = ("chat", "serve", "--log", "none", "--grace", "0")  # members end without a word
        words = (*words, "--history", str(Path(home, "history")))
        with verb(right, home, *words, "--listen", f"rpt://{right.ipv4}:4000") as (process, _):
            crowd = start(left, "chat_crowd.py", right.ipv4, 4000, members, rate, seconds)
            assert crowd.stdin is not None
            assert crowd.stdout is not None
            entered = json.loads(crowd.stdout.readline())
            before, begun = cpu_seconds(process.pid), time.monotonic()
            crowd.stdin.write(b"\n")
            crowd.stdin.flush()
            crowd.stdout.readline()
            used, elapsed = cpu_seconds(process.pid) - before, time.monotonic() - begun
            memory = memory_bytes(process.pid)
            told = result(crowd, 60)
    headings = ["delay p50", "p99", "at most", "CPU of the server", "a delivery", "its memory"]
    row = [
        f"{told['p50_ms']:.0f} ms",
        f"{told['p99_ms']:.0f} ms",
        f"{told['most_ms']:.0f} ms",
        f"{used / elapsed * 100:.0f} %",
        f"{used / max(told['heard'], 1) * 1e6:.0f} us",
        f"{memory / MIB:.0f} MiB",
    ]
    print(table(["all came in", *headings], [[f"{entered['seconds']:.1f} s", *row]]))
    criteria = [
        at_least("deliveries, of those that there should be", told["heard"] / told["wanted"], 1),
        at_most("delay of a delivery, p99", told["p99_ms"], WANTED_P99_MS, " ms"),
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
