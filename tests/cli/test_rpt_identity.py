"""One's own key, where two processes that need it are each the first: both get the same one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from rawproto.cli import rpt_options
from rawproto.cli.rpt_options import authorize_of, default_identity, private_key
from rawproto.errors import UsageError
from rawproto.identity.keys import Identity, PublicKey, load_identity, new_identity, write_private


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


def line_of(number: int) -> str:
    return f"{PublicKey(bytes([number] * 32), 'somebody')}\n"


def test_authorized_keys_are_read_anew_when_their_file_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "authorized"
    path.write_text(line_of(1))
    authorize = authorize_of(argparse.Namespace(authorized=path))
    keys = [bytes([number] * 32) for number in (1, 2)]

    def admitted() -> list[bool]:
        return [authorize(key) for key in keys]

    assert admitted() == [True, False]
    write_private(path, line_of(1) + line_of(2))  # as `keys authorize` does
    assert admitted() == [True, True]
    path.write_text(line_of(2))  # as an editor does
    assert admitted() == [False, True]
    assert not caplog.messages
    path.write_text("rpt-x25519 half\n")
    assert admitted() == admitted() == [False, False], "nobody, rather than whom it named before"
    path.unlink()
    assert admitted() == [False, False]
    assert [str(path) in message for message in caplog.messages] == [True, True], "each fault once"
    path.write_text(line_of(1))
    assert admitted() == [True, False]


def test_authorized_keys_are_found_after_the_directory_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("authorized").write_text(line_of(1))
    authorize = authorize_of(argparse.Namespace(authorized=Path("authorized")))
    monkeypatch.chdir("/")  # as an application may
    assert authorize(bytes([1] * 32))


def test_authorized_keys_out_of_a_pipe_are_read_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, line_of(1).encode())
    os.close(writing)
    try:
        path = Path(f"/proc/self/fd/{reading}")
        authorize = authorize_of(argparse.Namespace(authorized=path))
        assert [authorize(bytes([number] * 32)) for number in (1, 2, 1)] == [True, False, True]
    finally:
        os.close(reading)
