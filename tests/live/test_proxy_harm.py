"""`rawproto proxy` under harm on the way, crowds, slow readers, kills and exits that are down."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from rawproto import lab
from tests.live.peers import HARM, Peer
from tests.live.proxies import (
    OPEN,
    Proxy,
    admitted,
    curl,
    gathered,
    socks_connect,
    started,
    take,
    until,
    website,
)
from tests.live.test_relay import digest, go_on, served

pytestmark = pytest.mark.live

SLOW = 30


def test_hundred_clients_at_once_each_get_their_own_answer(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    with ExitStack() as stack:
        port = stack.enter_context(served(right.host, digest))
        proxy = Proxy(stack, left, right, tmp_path)
        questions = [os.urandom(20_000) for _ in range(100)]
        clients = [
            socks_connect(left.host, proxy.port("socks5"), "localhost", port) for _ in questions
        ]
        assert asyncio.run(gathered(clients, questions)) == [
            hashlib.sha256(each).hexdigest().encode() for each in questions
        ]


def test_lossy_way_changes_no_byte(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    with lab.up(lab.pair().changed(f"1:{HARM}")) as network, ExitStack() as stack:
        left = Peer(network.host("h1"), tmp_path / "left")
        right = Peer(network.host("h2"), tmp_path / "right")
        root = tmp_path / "www"
        root.mkdir()
        (root / "data").write_bytes(data)
        port = stack.enter_context(website(right.host, root))
        proxy = Proxy(stack, left, right, tmp_path)
        url = f"http://localhost:{port}/data"
        assert curl(left.host, "--socks5-hostname", proxy.socks, url) == (0, data)
        assert curl(left.host, "-p", "-x", proxy.http, url) == (0, data)


def resident_bytes(process: subprocess.Popen[bytes]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


def test_slow_readers_make_no_memory_grow_and_hold_nobody_else_up(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    """Downloads that nobody reads, of a server that would send for ever."""
    left, right = peers

    def endless(client: socket.socket) -> None:
        while True:
            client.sendall(bytes(1 << 16))

    with ExitStack() as stack:
        source = stack.enter_context(served(right.host, endless))
        port = stack.enter_context(served(right.host, digest))
        proxy = Proxy(stack, left, right, tmp_path)
        processes = (proxy.process, proxy.exit_process)
        with ExitStack() as slow:
            before = [resident_bytes(each) for each in processes]
            for _ in range(SLOW):
                client = socks_connect(left.host, proxy.port("socks5"), "localhost", source)
                take(slow.enter_context(client), 100_000)
            data = os.urandom(3_000_000)
            for _ in range(2):
                client = socks_connect(left.host, proxy.port("socks5"), "localhost", port)
                (answer,) = asyncio.run(gathered([client], [data]))
                assert answer == hashlib.sha256(data).hexdigest().encode()
            after = [resident_bytes(each) for each in processes]
            assert max(after) < max(before) + 48_000_000, (before, after)
        until(lambda: sum("bytes" in line for line in proxy.said) >= SLOW + 2, "sessions stay")


def test_kill_of_either_half_resets_its_connections_and_the_next_ones_work(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    with ExitStack() as stack:
        port = stack.enter_context(served(right.host, digest))
        proxy = Proxy(stack, left, right, tmp_path)
        client = socks_connect(left.host, proxy.port("socks5"), "localhost", port)
        client.sendall(b"begun")
        proxy.exit_process.kill()
        proxy.exit_process.wait(10)
        stack.enter_context(started(right, *proxy.exit_words, "--listen", proxy.address))
        # The new one does not know the old connection, and says so when it hears of it.
        with client, pytest.raises(ConnectionResetError):
            go_on(client)
        expected = hashlib.sha256(b"again").hexdigest().encode()
        client = socks_connect(left.host, proxy.port("socks5"), "localhost", port)
        assert asyncio.run(gathered([client], [b"again"])) == [expected]

        client = socks_connect(left.host, proxy.port("socks5"), "localhost", port)
        proxy.process.send_signal(signal.SIGKILL)
        with client, suppress(ConnectionResetError):
            assert client.recv(10) == b""
        words = ("entry", "--socks", str(proxy.port("socks5")), proxy.address)
        _, said = stack.enter_context(started(left, *words))
        until(lambda: any("is up" in line for line in said), "not up again")
        client = socks_connect(left.host, proxy.port("socks5"), "localhost", port)
        assert asyncio.run(gathered([client], [b"again"])) == [expected]


def test_entry_stays_up_while_exits_are_down_and_goes_to_whoever_is_well(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    status = ("-o", "/dev/null", "-w", "%{http_code}")
    with ExitStack() as stack:
        port = stack.enter_context(served(right.host, lambda client: client.sendall(b"b")))
        words = ("exit", "--authorized", admitted(left, tmp_path), *OPEN, "--grace", "0")
        addresses = [f"rpt://{right.host.ipv4}:{number}" for number in (4100, 4101)]
        process, said = stack.enter_context(
            started(left, "entry", "--accept-new", "--socks", "0", "--http", "0", *addresses)
        )
        until(lambda: sum("is down: " in line for line in said) == 2, "they are up?")
        socks, http = (
            int(next(line for line in said if kind in line).rpartition(":")[2])
            for kind in ("socks5:", "http:")
        )
        with pytest.raises(ConnectionRefusedError) as refused:
            socks_connect(left.host, socks, "localhost", port)
        assert refused.value.args[0] == 3, "network unreachable"
        url = f"http://localhost:{port}/"
        assert curl(left.host, "-x", f"http://127.0.0.1:{http}", *status, url) == (0, b"502")
        with ExitStack() as one:
            one.enter_context(started(right, *words, "--listen", addresses[1]))
            until(lambda: any(f"{addresses[1]} is up" in line for line in said), "not found")
            for _ in range(4):
                with socks_connect(left.host, socks, "localhost", port) as client:
                    assert take(client, 1) == b"b"
        with started(right, *words, "--listen", addresses[0]) as (_, first):
            until(lambda: any(f"{addresses[0]} is up" in line for line in said), "not found")
            with socks_connect(left.host, socks, "localhost", port) as client:
                assert take(client, 1) == b"b"
            until(lambda: any("localhost" in line for line in first), "another exit did it")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
