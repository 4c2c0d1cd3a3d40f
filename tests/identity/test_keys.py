"""Keys, the files that hold them, and what is said when they are not what they should be."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.cli.main import main
from rawproto.errors import UsageError
from rawproto.identity.keys import (
    PublicKey,
    fingerprint,
    load_identity,
    load_psk,
    new_identity,
    parse_public_key,
)
from rawproto.identity.known import KnownPeers, authorize, load_authorized

KEY = PublicKey(bytes(range(32)), "alice@laptop")


@given(st.binary(min_size=32, max_size=32), st.from_regex(r"[a-z@.]{0,20}", fullmatch=True))
def test_public_key_is_read_as_it_is_written(data: bytes, comment: str) -> None:
    assert parse_public_key(str(PublicKey(data, comment))) == PublicKey(data, comment)


@pytest.mark.parametrize(
    "line",
    ["", "rpt-x25519", "ssh-ed25519 AAAA", "rpt-x25519 !!!!", "rpt-x25519 AAAA x", "\0\x1b[2J"],
)
def test_line_that_is_no_key_is_refused_in_one_line(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_public_key(line)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_fingerprint_is_as_ssh_shows_them() -> None:
    assert fingerprint(KEY.data) == "SHA256:Yw3NKWbEM2aRElRIu7JbT/QSpJxzLbLIq8G4WBvXEN0"


def test_own_key_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "identity"
    made = new_identity(path, "me")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_identity(path) == made
    assert load_identity(path).public == made.public
    with pytest.raises(UsageError, match="exists"):
        new_identity(path, "me")
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        load_identity(path)


def test_own_key_is_made_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "as vfat has it")

    monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "identity"
    made = new_identity(path, "me")
    with pytest.raises(UsageError, match="exists"):
        new_identity(path, "another")
    assert load_identity(path) == made
    assert os.listdir(tmp_path) == ["identity"]


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f".identity.{os.getpid()}").write_text("half a k")
    made = new_identity(tmp_path / "identity", "me")
    assert load_identity(tmp_path / "identity") == made


@pytest.mark.parametrize("text", ["rpt-x25519-private c2VjcmV0", "c2VjcmV0", "rpt-x25519 c2VjcmV0"])
def test_damaged_key_is_told_with_its_file_and_not_repeated(text: str, tmp_path: Path) -> None:
    path = tmp_path / "identity"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError) as caught:
        load_identity(path)
    assert str(caught.value) == f"{path}: not a line such as `rpt-x25519-private AAAA... name`"


@pytest.mark.parametrize("load", [load_identity, load_psk])
@pytest.mark.parametrize("path", ["/", "/dev/zero"])
def test_what_is_no_file_is_told_without_advice_on_its_permissions(
    load: Callable[[Path], object], path: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(Path(path))
    assert str(caught.value) == f"{path}: no file"


@pytest.mark.parametrize(
    "text", ["ab" * 32, "AB" * 32 + "\n", "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="]
)
def test_shared_secret_is_read_in_either_form(text: str, tmp_path: Path) -> None:
    path = tmp_path / "psk"
    path.write_text(text)
    path.chmod(0o600)
    assert load_psk(path) == bytes([0xAB]) * 32


@pytest.mark.parametrize("text", ["", "ab" * 31, "secret", "\0" * 32])
def test_shared_secret_of_another_size_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "psk"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="32 bytes"):
        load_psk(path)


def test_known_peers_are_pinned_replaced_and_forgotten(tmp_path: Path) -> None:
    known = KnownPeers(tmp_path / "state" / "known_peers")
    assert known.key_of("rpt://10.0.0.2:4000") is None
    known.trust("rpt://10.0.0.2:4000", KEY)
    known.trust("rpt://[fd00::2]:4000", KEY)
    known.trust("rpt://10.0.0.2:4000", PublicKey(bytes(32)))
    assert known.key_of("rpt://10.0.0.2:4000") == bytes(32)
    assert known.forget("rpt://10.0.0.2:4000")
    assert not known.forget("rpt://10.0.0.2:4000")
    assert list(known.all()) == ["rpt://[fd00::2]:4000"]


def _trust(path: Path, number: int) -> None:
    KnownPeers(path).trust(f"rpt://10.0.0.{number}:4000", KEY)


def test_programs_that_pin_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "known_peers"
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_trust, args=(path, number)) for number in range(8)]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
    assert len(KnownPeers(path).all()) == 8
    assert sorted(os.listdir(tmp_path)) == [".known_peers.lock", "known_peers"]


@pytest.mark.parametrize(
    "name", ["rpt://a b:1", "rpt://a\nb:1", "rpt://a\u2028b:1", "rpt://\x1b:1"]
)
def test_address_that_no_line_can_hold_is_not_pinned(name: str, tmp_path: Path) -> None:
    """One of them, and no program could read the file any more."""
    peers = KnownPeers(tmp_path / "known")
    with pytest.raises(UsageError) as caught:
        peers.trust(name, KEY)
    assert str(caught.value).isprintable()
    assert peers.all() == {}


def test_keys_authorized_at_once_are_all_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "authorized"
    keys = [PublicKey(bytes([number] * 32)) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(authorize, [path] * 12, keys))
    assert load_authorized(path) == {key.data for key in keys}


def test_file_that_is_replaced_keeps_its_mode_its_owner_and_its_place(tmp_path: Path) -> None:
    """Else the server, which runs as somebody else, can read it no more."""
    path, link = tmp_path / "authorized", tmp_path / "link"
    path.write_text("# caf\xe9\n", encoding="latin-1")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 1234)
    link.symlink_to(path)
    before = path.stat()
    authorize(link, KEY)
    after = path.stat()
    assert link.is_symlink()
    assert path.read_bytes() == b"# caf\xe9\n" + f"{KEY}\n".encode()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip


def test_keys_that_everybody_may_add_admit_nobody(tmp_path: Path) -> None:
    path = tmp_path / "authorized"
    path.write_text(f"{KEY}\n")
    path.chmod(0o646)
    with pytest.raises(UsageError, match="chmod o-w"):
        load_authorized(path)
    path.chmod(0o664)
    assert load_authorized(path) == {KEY.data}


def test_damaged_line_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "authorized"
    path.write_text(f"# admitted\n{KEY}\n\nrpt-x25519 broken\n")
    with pytest.raises(UsageError, match="line 4"):
        load_authorized(path)
    path.write_text(f"# admitted\n{KEY}\n")
    assert load_authorized(path) == {KEY.data}


def test_keys_at_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["keys", "show"]) == 2
    assert "rawproto keys new" in capsys.readouterr().err
    assert main(["keys", "new", "--comment", "me"]) == 0
    line = capsys.readouterr().out.strip()
    assert main(["keys", "show"]) == 0
    assert capsys.readouterr().out.strip() == line
    assert main(["keys", "authorize", line]) == main(["keys", "authorize", line]) == 0
    assert (tmp_path / "rawproto" / "authorized").read_text() == f"{line}\n"
    assert main(["keys", "trust", "rpt://10.0.0.2:4000", line]) == 0
    assert main(["keys", "list"]) == 0
    assert capsys.readouterr().out.startswith("rpt://10.0.0.2:4000  SHA256:")
    assert main(["keys", "forget", "10.0.0.2:4000"]) == 0
    assert main(["keys", "forget", "10.0.0.2:4000"]) == 2
    assert main(["keys", "trust", "nonsense", line]) == 2
    assert "rpt://10.0.0.2:4000" in capsys.readouterr().err
