"""What the verbs print with, where a terminal can do less than others."""

from __future__ import annotations

import io
import pty
from collections.abc import Iterator
from typing import Literal, TextIO

import pytest

from rawproto.cli.render import Style, draw_in_ascii
from rawproto.lab import diamond
from rawproto.lab.picture import draw


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    main, end = pty.openpty()
    with open(main, "rb", 0), open(end, "w", encoding="utf-8") as stream:
        yield stream


@pytest.mark.parametrize(
    ("environment", "choice", "on"),
    [
        ({"TERM": "xterm"}, "auto", True),
        ({}, "auto", True),
        ({"TERM": "dumb"}, "auto", False),
        ({"TERM": "dumb"}, "always", True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "auto", False),
        ({"TERM": "xterm"}, "never", False),
    ],
)
def test_colour_is_for_terminals_that_have_it(
    environment: dict[str, str],
    choice: Literal["auto", "always", "never"],
    on: bool,
    terminal: TextIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    style = Style(terminal, choice)
    assert style("red", "red") == ("\x1b[31mred\x1b[0m" if on else "red")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "          ┌─ m1 ─┐\nh1 ── r1 ─┼─ m2 ─┼─ r2 ── h2\n          └─ m3 ─┘ é €"),
        ("latin-1", "          +- m1 -+\nh1 -- r1 -+- m2 -+- r2 -- h2\n          +- m3 -+ é ?"),
        ("ascii", "          +- m1 -+\nh1 -- r1 -+- m2 -+- r2 -- h2\n          +- m3 -+ ? ?"),
    ],
)
def test_lines_are_drawn_as_well_as_the_encoding_can(encoding: str, shown: str) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    draw_in_ascii(stream)
    stream.write(f"{draw(diamond(3))} é €")
    stream.flush()
    assert written.getvalue().decode(encoding) == shown
