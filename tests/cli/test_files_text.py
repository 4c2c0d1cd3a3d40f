"""What `files` shows while it works."""

from __future__ import annotations

import io
import sys

import pytest

from rawproto.apps.files.plan import Progress
from rawproto.cli.files_text import Meter, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_shows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    progress = Progress(total_bytes=10**12, path="a\x1b[2Jb")
    with Meter(progress, wanted=True) as meter:
        for _ in range(5):
            progress.done_bytes += 10**6
            meter._bar.refresh()
    said = terminal.getvalue()
    assert "B/s" in said
    assert "-:--:--" in said, "nobody knows at first"
    assert "-:--:--" not in said[said.rindex("B/s") :], "then it is known"
    assert "\x1b[2Jb" not in said


def test_bar_shows_a_name_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And takes no words in brackets for styles; one that ends none ended the program."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Meter(Progress(total_bytes=1, path="[red]/x[/bold]"), wanted=True) as meter:
        meter._bar.refresh()
    assert "[red]/x[/bold]" in terminal.getvalue()


@pytest.mark.parametrize("unseen", ["\u3164", "\u115f", "\u2800", "\xa0", "\u200b", "\u202e"])
def test_no_two_names_look_the_same(unseen: str) -> None:
    assert unseen not in shown(f"report.pdf{unseen}")
