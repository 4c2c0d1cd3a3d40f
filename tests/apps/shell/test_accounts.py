"""Who may log in: the server's file, users' own files, and files that others may write to."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from rawproto.apps.shell import accounts
from rawproto.apps.shell.accounts import (
    OWN_FILE,
    load_admitted,
    no_logins,
    own_file_admits,
    why_not,
)
from rawproto.errors import UsageError
from rawproto.identity.keys import PublicKey

KEY, OTHER = bytes(range(32)), bytes(32)


def account(home: Path, *, uid: int | None = None, shell: str = "/bin/sh") -> pwd.struct_passwd:
    uid = os.geteuid() if uid is None else uid
    return pwd.struct_passwd(("ada", "x", uid, uid, "", str(home), shell))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / OWN_FILE
    path.parent.mkdir(parents=True)
    path.write_text(f"# mine\n\nssh-ed25519 AAAA else\n{PublicKey(KEY)} ada@laptop\n")
    for each in (path, path.parent, path.parent.parent, tmp_path):
        each.chmod(0o644 if each == path else 0o755)
    return path


def test_key_in_a_users_own_file_is_admitted_and_no_other(own: Path, tmp_path: Path) -> None:
    assert own_file_admits(account(tmp_path), KEY) is None
    assert "not in" in str(own_file_admits(account(tmp_path), OTHER))


def _pipe(own: Path) -> None:
    own.unlink()
    os.mkfifo(own, 0o600)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda own: own.chmod(0o664), "written by others"),
        (lambda own: own.chmod(0o646), "written by others"),
        (lambda own: own.parent.chmod(0o775), "written by others"),
        (lambda own: own.parents[2].chmod(0o777), "written by others"),
        (lambda own: own.unlink(), "No such file"),
        (_pipe, "no file"),
        (lambda own: own.write_bytes(b"\xff" * 5000), "not in"),
    ],
)
def test_file_that_cannot_be_trusted_admits_nobody(
    change: Callable[[Path], None], why: str, own: Path, tmp_path: Path
) -> None:
    change(own)
    assert why in str(own_file_admits(account(tmp_path), KEY))


def test_file_of_somebody_else_admits_nobody(own: Path, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    os.chown(own, 4711, 4711)
    assert "somebody else" in str(own_file_admits(account(tmp_path), KEY))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda file: file.chmod(0o664), "written by others"),
        (lambda file: file.parent.chmod(0o777), "written by others"),
        (lambda file: os.chown(file, 4711, 4711), "somebody else"),
        (lambda file: os.chown(file.parent, 4711, 4711), "somebody else"),
    ],
)
def test_servers_file_that_others_may_write_or_replace_admits_nobody(
    change: Callable[[Path], None], why: str, tmp_path: Path
) -> None:
    path = tmp_path / "etc" / "users"
    path.parent.mkdir(mode=0o755)
    path.write_text(f"ada {PublicKey(KEY)}\n")
    path.chmod(0o644)
    assert load_admitted(path) == {("ada", KEY)}
    try:
        change(path)
    except PermissionError:
        pytest.skip("only root gives files away")
    with pytest.raises(UsageError, match=why):
        load_admitted(path)


def test_servers_file_names_users_and_keys(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"# who\nada,bob {PublicKey(KEY, 'laptop')}\n\n  eve {PublicKey(OTHER)}\n")
    path.chmod(0o644)
    assert load_admitted(path) == {("ada", KEY), ("bob", KEY), ("eve", OTHER)}
    path.chmod(0o666)
    with pytest.raises(UsageError, match="written by others"):
        load_admitted(path)
    path.chmod(0o600)
    path.write_text(f"{PublicKey(KEY)}\n")
    with pytest.raises(UsageError, match="line 1"):
        load_admitted(path)


def test_some_accounts_are_nobodys_whatever_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_SHADOW", tmp_path / "shadow")
    (tmp_path / "shadow").write_text("root:*:1:0:99999:7:::\nada:!:1:0:99999:7::19000:\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "expired" in str(why_not(account(tmp_path, uid=1), allow_root=False))
    (tmp_path / "shadow").unlink()
    assert why_not(account(tmp_path, uid=1), allow_root=False) is None
    assert "--allow-root" in str(why_not(account(tmp_path, uid=0), allow_root=False))
    assert why_not(account(tmp_path, uid=0), allow_root=True) is None
    for shell in ("/usr/sbin/nologin", "/bin/false"):
        assert shell in str(why_not(account(tmp_path, uid=1, shell=shell), allow_root=True))
    monkeypatch.setattr(os, "geteuid", lambda: 5)
    assert "its own user" in str(why_not(account(tmp_path, uid=1), allow_root=True))


def test_nologin_keeps_everybody_out_but_root_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_NO_LOGINS", tmp_path / "nologin")
    ada, root = account(tmp_path, uid=5), account(tmp_path, uid=0)
    assert no_logins(ada) is None
    (tmp_path / "nologin").touch()
    assert (no_logins(ada), no_logins(root)) == ("no logins now", None)
    (tmp_path / "nologin").write_text("back at noon\n" + 5000 * "x")
    assert str(no_logins(ada)).startswith("back at noon\nxxx")
    assert len(str(no_logins(ada))) <= 2000
    (tmp_path / "nologin").unlink()
    (tmp_path / "nologin").mkdir()
    assert no_logins(ada) == "no logins now"
