"""docs/craft.md shows what craft shows: every command with output below it is run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rawproto.cli.main import main

PAGE = (Path(__file__).parents[2] / "docs" / "craft.md").read_text()
COMMANDS = [
    (command, output)
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S)
    for command, output in re.findall(r"^\$ rawproto (.*)\n((?:(?!\$ ).*\n)*)", block, re.M)
    if output
]


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize(("command", "output"), COMMANDS)
def test_command_shows_what_the_page_says(
    command: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(shlex.split(command))
    shown = capsys.readouterr()
    assert shown.out + shown.err == output


def test_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == [
        "IP 0.0.0.0.0 > 10.0.0.0.9: UDP, length 0",
        "IP 0.0.0.0.0 > 10.0.0.1.9: UDP, length 0",
    ]
