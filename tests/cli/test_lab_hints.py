"""The commands that `rawproto lab` suggests: they work as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawproto import lab
from rawproto.cli.lab import _picture


def hinted(monkeypatch: pytest.MonkeyPatch, called: str, path: str) -> set[str]:
    """The programs that `up` names when it was called so, with that PATH."""
    monkeypatch.setattr("sys.argv", [called, "lab", "up", "pair"])
    monkeypatch.setenv("PATH", path)
    shown = _picture("pair", lab.pair(), 1.0, True, {1: "veth"})
    hints = shown.partition("try next:\n")[2].splitlines()
    return {hint.partition(" lab ")[0].strip() for hint in hints}


def test_program_called_by_its_path_is_named_by_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called = ".venv/bin/rawproto"
    assert hinted(monkeypatch, called, str(tmp_path)) == {called}
    (tmp_path / "rawproto").touch(mode=0o755)
    assert hinted(monkeypatch, called, str(tmp_path)) == {"rawproto"}


def test_program_called_by_its_name_is_named_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hinted(monkeypatch, "rawproto", "") == {"rawproto"}
