"""What cannot be, wherever a verb over RPT meets it: one clear line, and the right exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.peers import Peer, address_of, serving

pytestmark = pytest.mark.live

CLIENTS = {
    "files": ("files", "ls", "{}"),
    "chat": ("chat", "join", "{}", "room", "--nick", "me"),
    "connect": ("connect", "{}"),
}
SERVERS = {
    "files": ("files", "serve", ".", "--listen", "{}"),
    "chat": ("chat", "serve", "--listen", "{}"),
    "listen": ("listen", "{}"),
    "perf": ("perf", "serve", "{}"),
}


def told(peer: Peer, words: tuple[str, ...], address: str, *more: str) -> tuple[int, str]:
    """The exit code of a verb, and the one line that it said."""
    code, output, said = peer.run(*[word.format(address) for word in words], *more)
    lines = [
        line for line in said.splitlines() if "new key" not in line and " is new: " not in line
    ]
    assert (output, len(lines)) == (b"", 1), said
    return code, lines[0]


@pytest.mark.parametrize("verb", CLIENTS)
def test_unknown_host_malformed_address_and_bad_keys_are_usage(
    verb: str, peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    words = CLIENTS[verb]
    code, line = told(left, words, "rpt://no.such.invalid:4000")
    assert (code, line.startswith(f"rawproto {verb}: no.such.invalid: ")) == (2, True), line
    code, line = told(left, words, "rpt://10.0.0.2:99999")
    assert (code, line) == (2, f"rawproto {verb}: rpt://10.0.0.2:99999: a port is 0 to 65535")
    (tmp_path / "key").write_text("no key")
    (tmp_path / "key").chmod(0o600)
    for option in ("--identity", "--psk") if verb == "files" else ("--identity",):
        for file, why in (
            (tmp_path / "key", "not "),
            (tmp_path, "no file"),
            ("/nowhere", "No such"),
        ):
            code, line = told(left, words, address_of(right), option, str(file))
            assert (code, f"{file}" in line, why in line) == (2, True, True), line


@pytest.mark.parametrize("verb", SERVERS)
def test_port_that_is_taken_is_told(verb: str, peers: tuple[Peer, Peer], tmp_path: Path) -> None:
    _, right = peers
    address = address_of(right)
    with serving(right, "perf", "serve", address):
        code, line = told(right, SERVERS[verb], address)
    assert (code, line) == (2, f"rawproto {verb}: bind RPT port 4000: Address already in use")


def test_wrong_shared_secret_is_told_by_every_client(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    secret, other = tmp_path / "secret", tmp_path / "other"
    for file, text in ((secret, "ab" * 32), (other, "cd" * 32)):
        file.write_text(text)
        file.chmod(0o600)
    address = address_of(right)
    with serving(right, "perf", "serve", "--psk", str(secret), address):
        for verb, words in CLIENTS.items():
            stranger = Peer(left.host, tmp_path / verb)
            for given in ((), ("--psk", str(other))):  # at first contact, which is told at once
                code, line = told(stranger, words, address, "--accept-new", *given)
                assert (code, line.startswith(f"rawproto {verb}: {address}: ")) == (1, True), line
