"""A listener under 50,000 forged INITs a second, while honest clients connect.

Two hosts on a veth. Each INIT of the flood is another's and comes from another address
(`rpt_flood.py`); the honest clients have a port each and come one after the other, say one
byte, hear that it arrived, and leave (`rpt_crowd.py`). The listener is `rawproto perf serve`.
What it could not take in of the flood, the kernel dropped at the socket of INITs alone.
"""

from __future__ import annotations

import sys
import tempfile

from report import at_least, at_most, conclude, machine, options, table
from rpt_server import PORT, peak_bytes, result, serving, start

from rawproto import lab

PPS = 50_000
CLIENTS = 50
MIB = 1 << 20
WANTED_MIB = 100
HANDSHAKE_S = 10.0
FORGED = "198.18.0.0/15"


def drops(host: lab.LiveHost) -> dict[str, int]:
    """What the kernel dropped because a raw socket's queue was full, by socket."""
    lines = host.run(["cat", "/proc/net/raw"], check=True).stdout.splitlines()[1:]
    return {line.split()[9]: int(line.split()[-1]) for line in lines}


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="of flood (10)")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    lab.become_root()
    seconds = arguments.seconds or (2.0 if arguments.quick else 10.0)
    print(f"{seconds:g} s of {PPS} forged INITs a second, {CLIENTS} honest clients meanwhile")
    print(machine() + "\n", flush=True)
    with tempfile.TemporaryDirectory() as home, lab.up(lab.pair()) as network:
        client, server = network.host("h1"), network.host("h2")
        # What the listener answers has to go somewhere.
        server.run(["ip", "route", "add", FORGED, "via", client.ipv4], check=True)
        with serving(server, home, f"--workers={arguments.workers}") as process:
            flood = start(client, "rpt_flood.py", server.ipv4, PORT, PPS, seconds)
            honest = start(
                client, "rpt_crowd.py", "single", server.ipv4, PORT, CLIENTS, seconds * 0.8
            )
            flooded = result(flood, seconds + 60)
            came = result(honest, seconds + 120)
            peak, lost = peak_bytes(process.pid) / MIB, drops(server)
    rows = [
        ["forged INITs sent", f"{flooded['sent']}"],
        ["a second", f"{flooded['pps']:.0f}"],
        ["dropped by the kernel", f"{sum(lost.values())}"],
        ["honest clients served", f"{came['connected']}"],
        ["their handshake, median", f"{came.get('median_s', 0) * 1000:.0f} ms"],
        ["at most", f"{came.get('most_s', 0) * 1000:.0f} ms"],
        ["the listener's memory", f"{peak:.0f} MiB"],
    ]
    print(table(["what", "measured"], rows))
    for error in came["errors"]:
        print(f"a client: {error}")
    criteria = [
        at_least("honest clients served", came["connected"], CLIENTS),
        at_most("the slowest handshake", came.get("most_s", HANDSHAKE_S * 2), HANDSHAKE_S, " s"),
        at_most("the listener's memory", peak, WANTED_MIB, " MiB"),
        at_least("forged INITs a second", flooded["pps"], PPS * 0.95),
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
