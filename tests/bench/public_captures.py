"""Every capture of two public test suites, decoded by rawproto and by tshark, field by field.

The captures are those of tcpdump (its Debian source package) and pypacker (its source
distribution), thousands of packets of all kinds, many made to break decoders; and our own
goldens. Each packet is read, dissected, its checksums judged, put in a line and in JSON,
and emitted again from its fields, to equal bytes. Then everything that tshark reads of it
too is compared: addresses, ports, protocols, lengths, checksum verdicts, and the stack
itself, as far as it consists of layers that we know.

    .venv/bin/python tests/bench/public_captures.py                  downloads; takes 2 minutes
    .venv/bin/python tests/bench/public_captures.py --directory DIR  captures that are there

Needs tshark and, to download, apt-get with Debian's archive and pip; nothing is installed
and nothing stays. Exit code: 0 all agree but for what `EXCUSES` explains, 1 something does
not, 2 nothing to compare.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from report import machine, table
from tshark_peer import EXCUSES, Difference, Row, compare, read_ours, read_theirs

from rawproto.capture import read
from rawproto.errors import WireError

GOLDENS = Path(__file__).parents[2] / "captures"
SUFFIXES = {".pcap", ".pcapng", ".cap"}
SHOWN = 20
"""How many unexplained differences of one capture are shown."""


# --- where they come from ------------------------------------------------------------------------


def download(directory: Path) -> None:
    """Brings both suites into a directory.

    Raises:
        SystemExit: there is no such source to download from.
    """
    sources = directory / "sources"
    _download_tcpdump(sources)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
    _run([*pip, "--dest", str(sources), "pypacker"], sources)
    for suite, pattern in (("tcpdump", "tcpdump_*.orig.tar.*z"), ("pypacker", "pypacker-*.tar.gz")):
        with tarfile.open(next(sources.glob(pattern))) as archive:
            archive.extractall(directory / suite, filter="data")
    shutil.rmtree(sources)


def _download_tcpdump(sources: Path) -> None:
    """`apt-get source`, with lists of its own: the system's sources stay as they are."""
    parts, lists = sources / "parts", sources / "lists"
    for made in (parts, lists / "partial"):
        made.mkdir(parents=True)
    for path in Path("/etc/apt/sources.list.d").glob("*.sources"):
        text = path.read_text()
        if "debian" in text:
            (parts / path.name).write_text(text.replace("Types: deb\n", "Types: deb-src\n"))
    for path in (Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*.list")):
        lines = path.read_text().splitlines() if path.exists() else []
        wanted = [
            f"deb-src {line[4:]}" for line in lines if line[:4] == "deb " and "debian" in line
        ]
        (parts / f"{path.stem}.list").write_text("\n".join(wanted) + "\n")
    options = [
        f"-oDir::Etc::SourceParts={parts}",
        "-oDir::Etc::SourceList=/dev/null",
        f"-oDir::State::Lists={lists}",
        "-oAPT::Sandbox::User=root",
    ]
    _run(["apt-get", "-qq", *options, "update"], sources)
    _run(["apt-get", "-qq", *options, "source", "--download-only", "tcpdump"], sources)


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"{' '.join(command[:2])} failed; give --directory of captures instead")


# --- what came out -------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Of one capture.

    Attributes:
        packets: how many were read.
        layers: how many were found in them.
        damaged: how many packets contradict themselves, by the layer that says so.
        values: how many were compared.
        complaint: why tshark could not read the file.
        failures: what must never happen: an exception, other bytes, fewer packets.
        excused: how many differences there are by each excuse.
        differences: those that no excuse explains.
    """

    packets: int = 0
    layers: int = 0
    damaged: Counter[str] = field(default_factory=Counter)
    values: int = 0
    complaint: str = ""
    failures: list[str] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)


def judge(path: Path, theirs: tuple[list[Row], str]) -> Outcome:
    """Reads a capture to its end and compares each packet with its row."""
    rows, complaint = theirs
    outcome = Outcome(complaint=complaint)
    try:
        reader = read(path)
    except WireError as error:
        outcome.failures.append(f"cannot be read: {error}")
        return outcome
    with reader:
        for number, packet in enumerate(reader, 1):
            try:
                found = read_ours(packet)
                outcome.packets += 1
                outcome.layers += len(found.layers)
                if found.damage is not None:
                    outcome.damaged[found.damage.layer] += 1
                if number > len(rows):
                    continue
                values, differences = compare(path.name, number, packet, rows[number - 1])
            except Exception as error:
                outcome.failures.append(f"packet {number}: {error!r}")
                continue
            outcome.values += values
            for each in differences:
                excuse = next((why for why, holds in EXCUSES.items() if holds(each)), "")
                if excuse:
                    outcome.excused[excuse] += 1
                else:
                    outcome.differences.append(each)
    if not complaint and outcome.packets != len(rows):
        outcome.failures.append(f"{outcome.packets} packets, tshark reads {len(rows)}")
    if bool(reader.damage) != bool(complaint) and rows:
        outcome.failures.append(f"damage of the file: {reader.damage} / {complaint or None}")
    return outcome


def tell(name: str, outcomes: dict[str, Outcome]) -> None:
    """The table of one suite."""
    rows = []
    for capture, each in outcomes.items():
        worst = f"{len(each.failures)} FAILED" if each.failures else ""
        worst = worst or (f"{len(each.differences)} DIFFER" if each.differences else "")
        damaged = ", ".join(f"{layer} {count}" for layer, count in each.damaged.items())
        unread = "agrees" if each.values else "unread by tshark"
        rows.append(
            [
                capture,
                str(each.packets),
                str(each.layers),
                damaged or "-",
                str(each.values),
                str(each.excused.total() or "-"),
                worst or unread,
            ]
        )
    headings = ["capture", "packets", "layers", "damaged in", "compared", "excused", "verdict"]
    print(f"\n{name}\n\n{table(headings, rows)}")


def tell_differences(outcomes: dict[str, Outcome]) -> None:
    """What failed, what differs, and what differs with a reason."""
    for capture, each in outcomes.items():
        for failure in each.failures:
            print(f"FAILED {capture}: {failure}")
        for difference in each.differences[:SHOWN]:
            print(f"DIFFERS {difference}")
    excused: Counter[str] = Counter()
    captures: Counter[str] = Counter()
    for each in outcomes.values():
        excused.update(each.excused)
        captures.update(each.excused.keys())
    rows = [[why, str(count), str(captures[why])] for why, count in excused.most_common()]
    if rows:
        print("\n" + table(["why they may differ", "values", "captures"], rows))
    unread = Counter(each.complaint for each in outcomes.values() if each.complaint)
    for complaint, count in unread.items():
        print(f"tshark reads {count} of these not: {complaint}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "--directory", type=Path, help="of captures (.pcap, .pcapng, .cap), however deep"
    )
    arguments = parser.parse_args()
    if shutil.which("tshark") is None:
        parser.error("tshark is missing (Debian's package tshark)")
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.directory or Path(scratch)
        if not arguments.directory:
            download(directory)
        suites = {"goldens": _captures(GOLDENS)}
        for path in _captures(directory):
            suites.setdefault(path.relative_to(directory).parts[0], []).append(path)
        everything: dict[str, Outcome] = {}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for suite, paths in suites.items():
                outcomes = {
                    path.name: judge(path, theirs)
                    for path, theirs in zip(paths, pool.map(read_theirs, paths), strict=True)
                }
                tell(suite, outcomes)
                everything.update({f"{suite}/{name}": each for name, each in outcomes.items()})
    print()
    tell_differences(everything)
    failed, differ, excused, packets, values = (
        sum(each)
        for each in zip(
            *(
                (
                    len(each.failures),
                    len(each.differences),
                    each.excused.total(),
                    each.packets,
                    each.values,
                )
                for each in everything.values()
            ),
            strict=True,
        )
    )
    print(
        f"\n{len(everything)} captures, {packets} packets, {values} values compared: "
        f"{failed} failures, {differ} differences, {excused} explained"
    )
    print(machine())
    return 2 if len(suites) == 1 else int(bool(failed or differ))


def _captures(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.suffix in SUFFIXES)


if __name__ == "__main__":
    raise SystemExit(main())
