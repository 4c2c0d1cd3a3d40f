"""A lab drawn for people: the hosts as they are linked, and a table of links and addresses.

    h1 ── r1 ─┬─ m1 ─┬─ r2 ── h2
              └─ m2 ─┘

A drawing has one column for each distance from the first host. It is made only where
it comes out plain: each column is one host or as many as the widest has, and links
run between neighbouring columns only. Anything else is well served by the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from rawproto.lab.topology import Topology

__all__ = ["draw", "table"]


class Sides(NamedTuple):
    """In which directions a line leaves a character."""

    up: bool
    down: bool
    left: bool
    right: bool


CORNERS = {
    Sides("u" in sides, "d" in sides, "l" in sides, "r" in sides): corner
    for sides, corner in {
        "lr": "─",
        "dr": "┌",
        "dl": "┐",
        "ur": "└",
        "ul": "┘",
        "udr": "├",
        "udl": "┤",
        "dlr": "┬",
        "ulr": "┴",
        "udlr": "┼",
    }.items()
}


def draw(topology: Topology, width: int = 80) -> str | None:
    """The hosts as they are linked; None if that can't be drawn plainly.

    Args:
        topology: what to draw.
        width: columns there are. A row of hosts goes on in the next line, a wider
            drawing of several rows is not made.
    """
    columns = _columns(topology)
    if columns is None:
        return None
    height = max(map(len, columns))
    middle = (height - 1) // 2
    pieces = [_cells(columns[0], height)]
    for left, right in pairwise(columns):
        pieces.append(_lines(len(left), len(right), height, middle))
        pieces.append(_cells(right, height))
    if height == 1:
        return _wrap([piece[0] for piece in pieces], width)
    rows = ["".join(row).rstrip() for row in zip(*pieces, strict=True)]
    return "\n".join(rows) if max(map(len, rows)) <= width else None


def _columns(topology: Topology) -> list[tuple[str, ...]] | None:
    """Hosts by their distance from the first one, each column in the order of its links."""
    columns: list[tuple[str, ...]] = [(topology.hosts[0].name,)]
    seen = {topology.hosts[0].name}
    links = {frozenset(link.ends) for link in topology.links}
    if len(links) < len(topology.links):
        return None  # parallel links would be drawn as one
    while True:
        last = columns[-1]
        column: dict[str, None] = {}
        for name in last:
            for link in topology.links:
                if name in link.ends:
                    peer = link.ends[link.ends[0] == name]
                    if peer not in seen:
                        column[peer] = None
        if not column:
            break
        columns.append(tuple(column))
        seen |= column.keys()
    height = max(map(len, columns))
    drawn: set[frozenset[str]] = set()
    for left, right in pairwise(columns):
        if len(left) == len(right):
            drawn |= {frozenset(pair) for pair in zip(left, right, strict=True)}
        else:
            drawn |= {frozenset((one, other)) for one in left for other in right}
    fits = all(len(column) in (1, height) for column in columns)
    return columns if fits and drawn == links and len(seen) == len(topology.hosts) else None


def _cells(names: Sequence[str], height: int) -> list[str]:
    """One column of names: a single one stands in the middle row."""
    width = max(map(len, names))
    if len(names) == height:
        return [name.ljust(width) for name in names]
    middle = (height - 1) // 2
    return [names[0] if row == middle else " " * width for row in range(height)]


def _lines(left: int, right: int, height: int, middle: int) -> list[str]:
    """What joins two columns of so many hosts."""
    if left == right == height:
        return [" ── "] * height
    if left == right:
        return [" ── " if row == middle else "    " for row in range(height)]
    lines = []
    for row in range(height):
        sides = Sides(
            up=row > 0,
            down=row < height - 1,
            left=left == height or row == middle,
            right=right == height or row == middle,
        )
        bar = "│" if not (sides.left or sides.right) else CORNERS[sides]
        lines.append(f" {'─' if sides.left else ' '}{bar}{'─' if sides.right else ' '} ")
    return lines


def _wrap(pieces: Sequence[str], width: int) -> str:
    """A row of names and the lines between them, broken before a line where it gets too long."""
    rows = [pieces[0]]
    for line, name in zip(pieces[1::2], pieces[2::2], strict=True):
        if len(rows[-1]) + len(line) + len(name) > width:
            rows.append(" ")
        rows[-1] += line + name
    return "\n".join(rows)


def table(topology: Topology) -> str:
    """Every link: its number, its two ends, and their addresses in both families."""
    rows = [("link", "from", "to", "IPv4", "", "IPv6", "")]
    by_end = {
        (one.host, one.link): one for found in topology.interfaces().values() for one in found
    }
    for number, link in enumerate(topology.links, 1):
        ends = [by_end[host, number] for host in link.ends]
        names = [f"{end.host} {end.name}" for end in ends]
        ipv4 = [(end.ipv4 or "-").split("/")[0] for end in ends]
        ipv6 = [(end.ipv6 or "-").split("/")[0] for end in ends]
        rows.append((str(number), names[0], names[1], ipv4[0], ipv4[1], ipv6[0], ipv6[1]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
