"""What `rawproto lab link` says of links: a table of all, one with its counts, or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rawproto.lab.links import LinkReport, LiveLink

__all__ = ["describe", "link_table", "settings", "show"]

COUNTS = {
    "offered": "offered",
    "delivered": "delivered",
    "lost": "lost",
    "lost_in_burst": "lost in bursts",
    "queue_full": "queue full",
    "dropped": "dropped",
    "duplicated": "duplicated",
    "reordered": "held back",
    "corrupted": "corrupted",
    "refused": "interface down",
    "upkeep": "ARP and its like",
}
ALWAYS = ("offered", "delivered", "lost")


def settings(impairments: Mapping[str, str], mtu: int | None) -> str:
    """What is said of a link, as on the command line: `delay=20ms,loss=1%`; "" for nothing."""
    said = dict(impairments) if mtu is None else {**impairments, "mtu": str(mtu)}
    return ",".join(f"{key}={value}" for key, value in said.items())


def link_table(links: list[LiveLink]) -> str:
    """Every link in a line: its ends, how it is made and what it does."""
    rows = [("link", "from", "to", "made by", "")]
    for link in links:
        names = [f"{end.host} {end.name}" for end in link.ends]
        said = settings(link.spec.impairments, link.spec.mtu)
        rows.append((str(link.number), names[0], names[1], link.made, said))
    return _columns(rows)


def show(link: LiveLink) -> str:
    """A link with all that it has counted."""
    report = link.report()
    near, far = (end.host for end in link.ends)
    names = " - ".join(f"{end.host} {end.name}" for end in link.ends)
    seed = "" if report.seed is None else f", seed {report.seed}"
    lines = [f"link {link.number}: {names}, made by {report.made}{seed}"]
    if said := settings(link.spec.impairments, link.spec.mtu):
        lines.append(f"  {said}")
    rows = [("", f"{near} to {far}", f"{far} to {near}")]
    for key, label in COUNTS.items():
        counts = [each.get(key, 0) for each in (report.forward, report.backward)]
        if any(counts) or (key in ALWAYS and key in report.forward):
            rows.append((label, str(counts[0]), str(counts[1])))
    if len(rows) > 1:
        lines += [f"  {line}" for line in _columns(rows, figures=True).splitlines()]
    if report.lateness:
        late = report.lateness
        lines.append(
            f"  sent late by {late['p50_ms']:.3f} ms in the median, "
            f"{late['p99_ms']:.3f} ms at p99, {late['max_ms']:.3f} ms at most"
        )
    if report.overrun:
        lines.append(f"  the emulator lost {report.overrun} packets of this lab: too many at once")
    return "\n".join(lines)


def describe(lab: str, link: LiveLink) -> dict[str, Any]:
    """A link as `--json` tells it."""
    report: LinkReport = link.report()
    return {
        "type": "link",
        "schema": 1,
        "lab": lab,
        "link": link.number,
        "ends": [{"host": end.host, "interface": end.name} for end in link.ends],
        "made": report.made,
        "mtu": link.spec.mtu,
        "impairments": dict(link.spec.impairments),
        "seed": report.seed,
        "forward": dict(report.forward) or None,
        "backward": dict(report.backward) or None,
        "lateness": dict(report.lateness) or None,
        "overrun": report.overrun,
    }


def _columns(rows: Sequence[Sequence[str]], *, figures: bool = False) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        for cell, width in zip(others, widths[1:], strict=True):
            cells.append(cell.rjust(width) if figures else cell.ljust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
