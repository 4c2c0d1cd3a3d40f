"""Who is not let in by `rawproto proxy`, and what cannot be."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.peers import Peer
from tests.live.proxies import (
    Proxy,
    socks_connect,
    started,
    until,
)
from tests.live.test_relay import digest, served

pytestmark = pytest.mark.live


def test_strangers_get_nothing(peers: tuple[Peer, Peer], tmp_path: Path) -> None:
    left, right = peers
    with ExitStack() as stack:
        port = stack.enter_context(served(right.host, digest))
        proxy = Proxy(stack, left, right, tmp_path)
        stranger = Peer(left.host, tmp_path / "stranger")
        words = ("entry", "--accept-new", "--socks", "0", "-R", "7009:localhost:1", proxy.address)
        _, said = stack.enter_context(started(stranger, *words))
        until(lambda: any("not authorized" in line for line in said), "it was let in")
        socks = int(said[0].rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            socks_connect(left.host, socks, "localhost", port)
        with pytest.raises(ConnectionRefusedError), right.host.entered():
            socket.create_connection(("127.0.0.1", 7009))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("exit", "--listen", "rpt://127.0.0.1:0", "--allow", "a:1"), "--authorized"),
        (("exit", "--listen", "rpt://127.0.0.1:0", "--authorized", "/dev/null"), "--allow"),
        (("exit", "--listen", "rpt://127.0.0.1:0", "--authorized", "/dev/null", "--allow", "a"),
         "a rule is"),
        (("entry", "rpt://127.0.0.1:1"), "--socks"),
        (("entry", "--socks", "x", "rpt://127.0.0.1:1"), "no port"),
        (("entry", "--socks", "192.0.2.1:0", "rpt://127.0.0.1:1"), "listen"),
        (("entry", "-L", "80", "rpt://127.0.0.1:1"), "a forward is"),
        (("entry", "--socks", "0", "nonsense"), "not an rpt address"),
        (("entry", "--socks", "0", "--login", "/dev/null", "rpt://127.0.0.1:1"), "name:password"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(
    words: tuple[str, ...], said: str, peers: tuple[Peer, Peer]
) -> None:
    left, _ = peers
    code, output, told = left.run("proxy", *words)
    assert (code, output) == (2, b"")
    assert [said in line.lower() for line in told.splitlines() if "new key" not in line] == [True]
