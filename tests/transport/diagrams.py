"""Draws the tables of states that the code follows, and writes them into the specification.

`python -m tests.transport.diagrams` does so; a test holds the page against what is drawn.
A state is a column, time goes down, an event is an arrow::

    nothing known     half_open
          |               |
          | INIT opens    |
          +-------------->|
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from rawproto.transport import attempt, halfopen, lifecycle
from rawproto.transport.table import Table

PAGE = Path(__file__).parents[2] / "docs" / "transport-spec.md"
# In the page's order: what the part is called, its table, how far apart its states are drawn.
TABLES: dict[str, tuple[Table[Any, Any], int]] = {
    "client": (attempt.TRANSITIONS, 24),
    "listener": (halfopen.TRANSITIONS, 36),
    "connection": (lifecycle.TRANSITIONS, 18),
}


def markers(name: str) -> tuple[str, str]:
    """What stands before and behind a part of the page that is written here."""
    return f"<!-- states of a {name}: begin -->", f"<!-- states of a {name}: end -->"


def draw(table: Table[Any, Any], gap: int) -> list[str]:
    """The picture of a table, line by line."""
    states: list[Enum] = list(type(table.rows[0][0]))
    column = {state: 7 + gap * number for number, state in enumerate(states)}
    longest = max([column[state] + len(event.value) for state, event, _, _ in table.rows])
    width = max(longest, max(column.values())) + 8
    bars = [" "] * width
    for at in column.values():
        bars[at] = "|"
    lines = [
        _over([" "] * width, column[each] - len(each.value) // 2, each.value) for each in states
    ]
    head = "".join([max(chars) for chars in zip(*lines, strict=True)])
    drawn = [head.rstrip()]
    arrows: dict[tuple[Enum, Enum], list[str]] = {}
    for state, event, _, after in table.rows:
        arrows.setdefault((state, after), []).append(event.value)
    for (state, after), events in arrows.items():
        here, there = column[state], column[after]
        drawn.append("".join(bars).rstrip())
        if here == there:
            loops = ["+--.", *["|  |"] * (len(events) - 1), "|<-'"]
            for loop, event in zip(loops, [*events, ""], strict=True):
                drawn.append(_over(bars, here, f"{loop} {event}").rstrip())
            continue
        left, right = sorted((here, there))
        drawn += [_over(bars, left + 2, f"{event} ").rstrip() for event in events]
        line = "-" * (right - left - 2)
        drawn.append(_over(bars, left, f"+{line}>|" if here < there else f"|<{line}+").rstrip())
    return drawn


def _over(line: list[str], at: int, text: str) -> str:
    """A line with a text written over it."""
    return "".join([*line[:at], text, *line[at + len(text) :]])


def part(name: str) -> str:
    """A table and its picture, as the page has them."""
    table, gap = TABLES[name]
    rows = [
        f"| {state.value} | {event.value} | {does} | {after.value} |".replace("|  |", "| |")
        for state, event, does, after in table.rows
    ]
    picture = ["```", *draw(table, gap), "```"]
    return "\n".join(
        [f"| {name} in | event | does | goes to |", "|---|---|---|---|", *rows, "", *picture]
    )


def main() -> None:
    """Puts each part into the page."""
    page = PAGE.read_text()
    for name in TABLES:
        begin, end = markers(name)
        before, _, rest = page.partition(begin)
        after = rest.partition(end)[2]
        page = f"{before}{begin}\n\n{part(name)}\n\n{end}{after}"
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
