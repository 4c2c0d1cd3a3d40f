"""One's own key, where two processes that need it are each the first: both get the same one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from rawproto.cli import rpt_options
from rawproto.cli.rpt_options import default_identity, private_key
from rawproto.errors import UsageError
from rawproto.identity.keys import Identity, load_identity, new_identity


def test_who_finds_that_another_process_was_faster_takes_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def second(path: Path, comment: str) -> Identity:
        new_identity(path, "the first")
        return new_identity(path, comment)

    monkeypatch.setattr(rpt_options, "new_identity", second)
    key = private_key(argparse.Namespace(identity=None))
    assert load_identity(default_identity()) == Identity(key, "the first")
    assert capsys.readouterr().err == "", "who made it has told of it"


def test_key_that_appears_while_another_is_written_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "identity"
    real = os.open

    def interrupted(*arguments: int) -> int:
        if not path.exists():
            (tmp_path / "other").mkdir()
            monkeypatch.setattr(os, "open", real)
            new_identity(tmp_path / "other" / "identity", "the first")
            os.rename(tmp_path / "other" / "identity", path)
        return real(*arguments)

    monkeypatch.setattr(os, "open", interrupted)
    with pytest.raises(UsageError, match="exists"):
        new_identity(path, "the second")
    assert load_identity(path).comment == "the first"
    assert sorted(os.listdir(tmp_path)) == ["identity", "other"]
