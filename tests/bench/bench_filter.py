"""The filter compiler beside libpcap's: what passes, how long programs are, how long they take.

Every expression of tests/filter/expressions.py is compiled by both, for each link type
that a capture has, and both programs run on every packet: with --captures DIRECTORY on
all captures below it, else on the golden ones. A table tells by capture on how many
packets both agree; whoever finds a disagreement finds it printed.

What libpcap refuses on a link type (`vlan` on cooked captures) is not compared.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from report import (
    at_least,
    at_most,
    conclude,
    interleave,
    machine,
    measure_cpu_ns,
    median_ratio,
    options,
    table,
)

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from rawproto.capture import CapturedPacket, read  # noqa: E402
from rawproto.errors import RawprotoError  # noqa: E402
from rawproto.filter.compiler import compile_filter  # noqa: E402
from rawproto.filter.instructions import Program  # noqa: E402
from rawproto.filter.interpreter import run  # noqa: E402
from rawproto.filter.links import LINK_TYPES  # noqa: E402
from tests.filter.expressions import EXPRESSIONS, ExampleNames, for_libpcap  # noqa: E402
from tests.filter.libpcap import LibpcapError, compile_with_libpcap, in_byte_order_of, version  # noqa: E402

SUFFIXES = (".pcap", ".pcapng", ".cap", ".pcap.gz")
NAMES = ExampleNames()
NOTHING_PASSES = Program.from_bytes(bytes.fromhex("0600000000000000"))
NULL = 0
LOOPBACK = (NULL, 108)
ETHERNET = 1

Pair = tuple[str, Program, Program]


def ours(expression: str, link_type: int = ETHERNET) -> Program:
    return compile_filter(expression, link_type=link_type, names=NAMES)


def theirs(expression: str, link_type: int = ETHERNET, file: Path | None = None) -> Program:
    try:
        return compile_with_libpcap(for_libpcap(expression), link_type=link_type, file=file)
    except LibpcapError as error:
        if "rejects all packets" in str(error):
            return NOTHING_PASSES
        raise


# --- the same packets pass -----------------------------------------------------------------------


def pairs(link_type: int, path: Path) -> list[Pair]:
    """Both programs of every expression that both know for a link type."""
    found = []
    # The address families of BSD loopback headers are libpcap's to choose by the file.
    file = path if link_type in LOOPBACK else None
    for expression in EXPRESSIONS:
        try:
            found.append(
                (expression, ours(expression, link_type), theirs(expression, link_type, file))
            )
        except (LibpcapError, RawprotoError):
            continue
    return found


def packets_of(path: Path, most: int) -> Iterator[tuple[int, CapturedPacket]]:
    """(link type, packet), as far as the file can be read."""
    try:
        with read(path) as reader:
            for packet in islice(reader, most):
                yield reader.interfaces[packet.interface].link_type, packet
    except (RawprotoError, OSError):
        return


def agreement(directory: Path, most: int) -> tuple[list[list[str]], int, int]:
    """Rows of the table; and of all verdicts, how many there were and how many differed."""
    rows: list[list[str]] = []
    known: dict[tuple[int, Path | None], list[Pair]] = {}
    total = wrong = 0
    paths = sorted(each for each in directory.rglob("*") if each.name.endswith(SUFFIXES))
    for path in paths:
        counted: Counter[str] = Counter()
        types: dict[int, int] = {}
        for link_type, packet in packets_of(path, most):
            if link_type not in LINK_TYPES:
                counted["other"] += 1
                continue
            key = (link_type, path if link_type in LOOPBACK else None)
            if key not in known:
                known[key] = pairs(link_type, path)
            types[link_type] = len(known[key])
            counted["packets"] += 1
            seen = in_byte_order_of(path, packet.data) if link_type == NULL else packet.data
            for expression, our_program, their_program in known[key]:
                passed = bool(run(our_program, packet.data))
                counted["passed"] += passed
                if passed != bool(run(their_program, seen)):
                    counted["wrong"] += 1
                    print(f"{path}: {expression!r}: ours {passed}: {packet.data.hex()[:200]}")
            counted["verdicts"] += len(known[key])
        if not counted["packets"]:
            continue
        total += counted["verdicts"]
        wrong += counted["wrong"]
        rows.append(
            [
                str(path.relative_to(directory)),
                ", ".join(map(str, types)),
                ", ".join(map(str, types.values())),
                str(counted["packets"]),
                str(counted["verdicts"]),
                str(counted["passed"]),
                str(counted["wrong"]),
            ]
        )
    return rows, total, wrong


# --- compiling -----------------------------------------------------------------------------------

EXAMPLES = {
    "one word": "arp",
    "a host": "host 192.0.2.1",
    "a port": "tcp port 80",
    "a flow": "tcp and host 192.0.2.1 and host 198.51.100.2 and port 80 and port 50000",
    "arithmetic": "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
    "twenty ports": "port " + " or ".join(str(each) for each in range(8000, 8020)),
    "200 hosts": "host " + " or ".join(f"10.1.{each}.7" for each in range(200)),
}


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--captures", type=Path, default=ROOT / "captures", metavar="DIRECTORY")
    parser.add_argument("--most", type=int, default=2000, metavar="N", help="packets of a capture")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else 11
    print(f"{version()}\n{machine()}\n")

    started = time.perf_counter()
    rows, total, wrong = agreement(arguments.captures, 5 if arguments.quick else arguments.most)
    took = time.perf_counter() - started
    headings = ["capture", "link types", "expressions", "packets", "verdicts", "passed", "differ"]
    print(table(headings, rows))
    print(f"{len(rows)} captures, {total} verdicts of each in {took:.0f} s, {wrong} differ\n")

    rows = []
    lengths = []
    ratios = []
    for name, expression in EXAMPLES.items():
        lengths.append((len(ours(expression)), len(theirs(expression))))
        calls = 2 if len(expression) > 500 else 20
        measured = interleave(
            {
                "rawproto": partial(measure_cpu_ns, partial(ours, expression), calls),
                "libpcap": partial(measure_cpu_ns, partial(theirs, expression), calls),
            },
            rounds,
        )
        ratios.append(median_ratio(measured["rawproto"], measured["libpcap"]))
        rows.append(
            [
                name,
                *(f"{length}" for length in lengths[-1]),
                *(f"{statistics.median(each) / 1e6:.2f} ms" for each in measured.values()),
                f"{ratios[-1]:.1f}",
            ]
        )
    print(table(["expression", "ours", "libpcap's", "rawproto", "libpcap", "x libpcap"], rows))
    every = [(len(ours(each)), len(theirs(each))) for each in EXPRESSIONS]
    ours_all, theirs_all = (sum(each) for each in zip(*every, strict=True))
    print(f"\ninstructions of all {len(every)} expressions: {ours_all}, libpcap's {theirs_all}")
    criteria = [
        at_least("expressions compared", len(EXPRESSIONS), 200),
        at_most("verdicts that differ", wrong, 0),
        at_most("instructions, of libpcap's", ours_all / theirs_all, 1),
        at_most("compiling, the slowest beside libpcap: times", max(ratios), 100),
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
