"""Datagrams and forwarded ports of `rawproto proxy`."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from rawproto import lab
from tests.live.peers import Peer
from tests.live.proxies import (
    PATIENCE_S,
    Proxy,
    take,
    until,
)
from tests.live.test_relay import digest, served

pytestmark = pytest.mark.live


@contextmanager
def echoing(host: lab.LiveHost, family: int) -> Iterator[int]:
    """A UDP server that answers in capitals: its port."""
    with host.entered():
        server = socket.socket(
            socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM
        )
        server.bind(("::1" if family == 6 else "127.0.0.1", 0))
    server.settimeout(0.2)
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                data, client = server.recvfrom(65_535)
                server.sendto(data.upper(), client)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        over.set()
        thread.join()
        server.close()


def test_datagrams_go_through_udp_associate_large_ones_too(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    with ExitStack() as stack:
        ports = {family: stack.enter_context(echoing(right.host, family)) for family in (4, 6)}
        rules = ("--allow", "localhost:1-65535", "--allow", "[::1]:1-65535")
        proxy = Proxy(stack, left, right, tmp_path, "--socks", "0", rules=rules)
        with left.host.entered():
            control = stack.enter_context(
                socket.create_connection(("127.0.0.1", proxy.port("socks5")))
            )
            client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            stranger = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        control.settimeout(PATIENCE_S)
        client.settimeout(PATIENCE_S)
        control.sendall(b"\5\1\0" + b"\5\3\0\1" + bytes(6))
        assert take(control, 6) == b"\5\0\5\0\0\1"
        address, port = struct.unpack("!4sH", take(control, 6))
        assert address == socket.inet_aton("127.0.0.1")
        client.connect(("127.0.0.1", port))
        name = b"\3\x09localhost" + ports[4].to_bytes(2, "big")
        six = b"\4" + socket.inet_pton(socket.AF_INET6, "::1") + ports[6].to_bytes(2, "big")
        for head, back in ((name, b"\1\x7f\0\0\1" + name[-2:]), (six, six)):
            for data in (b"abc", b"", b"x" * 1200, b"large" * 1500):
                client.send(bytes(3) + head + data)
                assert client.recv(65_535) == bytes(3) + back + data.upper()
        # Fragments, what is not allowed, and who is not the client, are lost without a word.
        client.send(b"\0\0\1" + name + b"fragment")
        client.send(bytes(3) + b"\1\x0a\0\0\1\0\7denied")
        client.send(b"nonsense")
        stranger.sendto(bytes(3) + name + b"stranger", ("127.0.0.1", port))
        client.send(bytes(3) + name + b"last")
        assert client.recv(65_535).endswith(b"LAST")
        control.close()
        until(lambda: not udp_ports(left.host, port), "the port outlived its connection")


def udp_ports(host: lab.LiveHost, port: int) -> str:
    return host.run(["ss", "-Huln", f"sport = {port}"]).stdout


# --- forwards ------------------------------------------------------------------------------------


def asked(connect: Callable[[], socket.socket], host: lab.LiveHost, data: bytes) -> bytes:
    """Sends, ends, and reads the answer to its end."""
    with host.entered():
        client = connect()
    with client:
        client.settimeout(PATIENCE_S)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(1 << 16):
            answer += piece
        return answer


def unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(path)
    return made


def test_ports_and_unix_sockets_are_forwarded_both_ways(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    data = os.urandom(500_000)
    near, far, back = (str(tmp_path / name) for name in ("near", "far", "back"))
    with ExitStack() as stack:
        there = stack.enter_context(served(right.host, digest))
        here = stack.enter_context(served(left.host, digest))
        rules = (
            "--allow", f"localhost:{there}", "--allow", f"unix:{far}",
            "--allow-remote", "7001", "--allow-remote", "*:7002", "--allow-remote", f"unix:{far}",
        )  # fmt: skip
        proxy = Proxy(
            stack, left, right, tmp_path,
            "-L", f"{near}:localhost:{there}", "-L", f"7000:{far}", "-L", f"{back}:localhost:1",
            "-R", f"7001:localhost:{here}", "-R", f"*:7002:localhost:{here}",
            "-R", f"{far}:localhost:{here}", "-R", f"*:7001:localhost:{here}", "-R", "7003:a:1",
            rules=rules,
        )  # fmt: skip
        until(lambda: sum("the exit listens" in line for line in proxy.said) == 3, "no listeners")
        expected = hashlib.sha256(data).hexdigest().encode()

        def tcp(address: str, port: int) -> Callable[[], socket.socket]:
            return partial(socket.create_connection, (address, port), PATIENCE_S)

        assert asked(partial(unix, near), left.host, data) == expected
        assert asked(tcp("127.0.0.1", 7001), right.host, data) == expected
        assert asked(tcp("::1", 7001), right.host, data) == expected, "localhost is both"
        assert asked(tcp(right.host.ipv4, 7002), right.host, data) == expected
        assert asked(tcp("127.0.0.1", 7000), left.host, data) == expected, "there, back and here"
        with pytest.raises(ConnectionRefusedError):
            asked(tcp(right.host.ipv4, 7001), right.host, b"")
        assert asked(partial(unix, back), left.host, b"") == b"", "nobody is there"
        until(lambda: sum("to listen there" in line for line in proxy.said) == 2, "not told")
    assert not [path for path in (near, far, back) if os.path.exists(path)]
