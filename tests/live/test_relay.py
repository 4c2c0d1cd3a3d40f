"""`rawproto relay` between two hosts: what it joins, how sessions end, who gets in."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from rawproto import lab
from tests.live.peers import HARM, Peer, await_ready, workers_of

pytestmark = pytest.mark.live

SIZE = 1_000_000


@contextmanager
def relaying(peer: Peer, *words: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A relay whose source listens: (where, the process)."""
    process = peer.start("relay", "--grace", "0.1", *words)
    try:
        line = await_ready(process)
        yield line.decode().split()[1], process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


@contextmanager
def served(host: lab.LiveHost, answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server on a host, a thread a client: its port."""
    with host.entered():
        listener = socket.create_server(("0.0.0.0", 0), backlog=256)
    threads: list[threading.Thread] = []

    def one(client: socket.socket) -> None:
        with client, suppress(OSError):
            answer(client)

    def run() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=one, args=(listener.accept()[0],)))
                threads[-1].start()

    accepting = threading.Thread(target=run)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join(10)
            assert not thread.is_alive()


def digest(client: socket.socket) -> None:
    """Answers what came, once that has ended, with its digest."""
    seen = hashlib.sha256()
    while data := client.recv(1 << 16):
        seen.update(data)
    client.sendall(seen.hexdigest().encode())


def ask(host: lab.LiveHost, port: int, data: bytes) -> bytes:
    """Sends, ends, and reads the answer to its end."""
    with host.entered():
        client = socket.create_connection(("127.0.0.1", port), timeout=30)
    with client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(1 << 16):
            answer += piece
        return answer


def go_on(client: socket.socket) -> None:
    client.sendall(b"more")
    raise AssertionError(f"{client.recv(10)!r}: not cut")


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.mark.parametrize(("carrier", "family"), [("rpt", 4), ("rpt+udp", 6)])
def test_tcp_through_rpt_keeps_bytes_and_half_closes(
    carrier: str, family: int, peers: tuple[Peer, Peer]
) -> None:
    left, right = peers
    host = right.host.ipv4 if family == 4 else f"[{right.host.ipv6}]"
    data = os.urandom(SIZE)
    with ExitStack() as stack:
        port = stack.enter_context(served(right.host, digest))
        far, _ = stack.enter_context(
            relaying(right, f"{carrier}-listen:{host}:0", f"tcp:127.0.0.1:{port}")
        )
        near, _ = stack.enter_context(
            relaying(
                left,
                "--accept-new",
                "tcp-listen:127.0.0.1:0",
                f"{carrier}:{host}:{port_of(far)}",
            )
        )
        assert ask(left.host, port_of(near), data) == hashlib.sha256(data).hexdigest().encode()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_hundred_clients_at_once_each_get_their_own_answer(
    workers: str, peers: tuple[Peer, Peer]
) -> None:
    left, right = peers
    with ExitStack() as stack:
        port = stack.enter_context(served(right.host, digest))
        share = ("--workers", workers)
        far, _ = stack.enter_context(
            relaying(right, *share, "rpt-listen:0", f"tcp:127.0.0.1:{port}")
        )
        near, _ = stack.enter_context(
            relaying(
                left, *share, "--accept-new", "tcp-listen:127.0.0.1:0",
                f"rpt:{right.host.ipv4}:{port_of(far)}",
            )
        )  # fmt: skip
        asked = [os.urandom(2000) for _ in range(100)]
        ask(left.host, port_of(near), b"the first pins the key")
        assert gathered(left.host, port_of(near), asked) == [
            hashlib.sha256(each).hexdigest().encode() for each in asked
        ]


def test_worker_that_is_killed_is_replaced_and_the_path_stays(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, _ = peers
    path = tmp_path / "socket"
    words = ("--workers", "2", "--log", "json", f"unix-listen:{path}", "exec:sh -c 'echo $PPID'")

    def pid() -> int:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            return int(client.makefile().read())

    with relaying(left, *words) as (_, process):
        assert pid()
        os.kill(workers_of(process)[0], signal.SIGKILL)
        assert all(pid() for _ in range(5))
        process.terminate()
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0
    assert not path.exists()
    assert said.count(b'"session"') >= 5, "each has its line, but that of who was killed"


def gathered(host: lab.LiveHost, port: int, asked: list[bytes]) -> list[bytes]:
    """The answers to many clients at once."""

    async def one(client: socket.socket, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(sock=client)
        writer.write(data)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    async def all_of_them() -> list[bytes]:
        with host.entered():
            clients = [socket.create_connection(("127.0.0.1", port)) for _ in asked]
        return await asyncio.gather(*map(one, clients, asked))

    return asyncio.run(asyncio.wait_for(all_of_them(), 60))


def test_lossy_way_changes_no_byte(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    with lab.up(lab.pair().changed(f"1:{HARM}")) as network, ExitStack() as stack:
        left = Peer(network.host("h1"), tmp_path / "left")
        right = Peer(network.host("h2"), tmp_path / "right")
        port = stack.enter_context(served(right.host, digest))
        far, _ = stack.enter_context(relaying(right, "rpt-listen:0", f"tcp:127.0.0.1:{port}"))
        address = f"rpt:{right.host.ipv4}:{port_of(far)}"
        near, _ = stack.enter_context(
            relaying(left, "--accept-new", "tcp-listen:127.0.0.1:0", address)
        )
        assert ask(left.host, port_of(near), data) == hashlib.sha256(data).hexdigest().encode()


def test_datagrams_stay_whole_across_rpt(peers: tuple[Peer, Peer]) -> None:
    left, right = peers
    with ExitStack() as stack:
        with right.host.entered():
            server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        far, _ = stack.enter_context(
            relaying(right, "rpt-listen:0", f"udp:127.0.0.1:{server.getsockname()[1]}")
        )
        near, _ = stack.enter_context(
            relaying(
                left, "--accept-new", "udp-listen:127.0.0.1:0",
                f"rpt:{right.host.ipv4}:{port_of(far)}",
            )
        )  # fmt: skip
        with left.host.entered():
            clients = [
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for _ in range(2)
            ]
        for number, client in enumerate(clients):
            client.settimeout(10)
            client.connect(("127.0.0.1", port_of(near)))
            for size in (0, 1, 1200):
                client.send(bytes([number]) * size)
                data, source = server.recvfrom(2000)
                assert data == bytes([number]) * size
                server.sendto(data + b"!", source)
                assert client.recv(2000) == data + b"!"


def test_command_and_tls_and_unix_sockets_are_ends_too(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    certificate = str(tmp_path / "c.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", certificate + ".key", "-out", certificate, "-days", "2",
         "-subj", "/CN=far", "-addext", f"subjectAltName=IP:{right.host.ipv4}"],
        check=True, capture_output=True,
    )  # fmt: skip
    path = str(tmp_path / "socket")
    with ExitStack() as stack:
        inner, _ = stack.enter_context(
            relaying(right, f"unix-listen:{path}", "exec:sh -c 'rev; printf .'")
        )
        assert inner == f"unix-listen:{path}"
        far, _ = stack.enter_context(
            relaying(
                right, "tls-listen:0", f"unix:{path}",
                "--tls-cert", certificate, "--tls-key", certificate + ".key",
            )
        )  # fmt: skip
        address = f"tls:{right.host.ipv4}:{port_of(far)}"
        trusting = ("--tls-ca", certificate)
        code, output, said = left.run("relay", *trusting, "stdio:", address, data=b"abc\n")
        assert (code, output) == (0, b"cba\n."), said
        code, output, said = left.run("relay", "stdio:", address, data=b"abc\n")
        assert (code, output) == (1, b"")
        why = "certificate verify failed: self-signed certificate"
        assert said.splitlines() == [f"rawproto relay: {address}: {why}"]
    assert not os.path.exists(path)


def test_session_goes_to_whoever_is_well(peers: tuple[Peer, Peer]) -> None:
    left, _ = peers
    with ExitStack() as stack:
        port = stack.enter_context(served(left.host, lambda client: client.sendall(b"b")))
        with left.host.entered():
            dead = socket.create_server(("127.0.0.1", 0))
        dead_port = dead.getsockname()[1]
        dead.close()
        near, process = stack.enter_context(
            relaying(
                left, "--log", "json", "tcp-listen:127.0.0.1:0",
                f"tcp:127.0.0.1:{dead_port},tcp:127.0.0.1:{port}",
            )
        )  # fmt: skip
        assert [ask(left.host, port_of(near), b"") for _ in range(3)] == [b"b"] * 3
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0
    told = [json.loads(line) for line in said.splitlines()]
    assert [each["target"] for each in told if each["type"] == "target"] == [
        f"tcp:127.0.0.1:{dead_port}"
    ]
    sessions = [each for each in told if each["type"] == "session"]
    assert [(each["down_bytes"], each["error"]) for each in sessions] == [(1, None)] * 3


def test_only_authorized_keys_reach_what_is_behind(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    code, _, said = left.run("keys", "new")
    assert code == 0, said
    admitted = tmp_path / "admitted"
    admitted.write_bytes(left.run("keys", "show")[1])
    with ExitStack() as stack:
        far, _ = stack.enter_context(
            relaying(right, "--authorized", str(admitted), "rpt-listen:0", "exec:echo secret")
        )
        address = f"rpt:{right.host.ipv4}:{port_of(far)}"
        code, output, said = left.run("relay", "--accept-new", "stdio:", address)
        assert (code, output) == (0, b"secret\n"), said
        stranger = Peer(left.host, tmp_path / "stranger")
        code, output, said = stranger.run("relay", "--accept-new", "stdio:", address)
        assert (code, output) == (1, b"")
        assert "not authorized" in said.splitlines()[-1]


def test_kill_of_a_relay_ends_its_sessions_and_the_next_one_works(
    peers: tuple[Peer, Peer],
) -> None:
    left, right = peers
    with ExitStack() as stack:
        port = stack.enter_context(served(right.host, digest))
        words = (f"rpt-listen:{right.host.ipv4}:4007", f"tcp:127.0.0.1:{port}")
        near, _ = stack.enter_context(
            relaying(left, "--accept-new", "tcp-listen:127.0.0.1:0", f"rpt:{right.host.ipv4}:4007")
        )
        with relaying(right, *words) as (_, process):
            with left.host.entered():
                client = socket.create_connection(("127.0.0.1", port_of(near)), timeout=30)
            client.sendall(b"begun")
            process.kill()
            process.wait(10)
        with relaying(right, *words):
            # The new one does not know the old connection, and says so when it hears of it.
            with client, pytest.raises(ConnectionResetError):
                go_on(client)
            answer = hashlib.sha256(b"again").hexdigest().encode()
            assert ask(left.host, port_of(near), b"again") == answer


def test_kill_of_who_dials_harms_nobody_and_he_comes_back_at_once(
    peers: tuple[Peer, Peer],
) -> None:
    left, right = peers
    address = f"{right.host.ipv4}:4008"
    near = ("--accept-new", "tcp-listen:127.0.0.1:0", f"rpt:{address}")

    def greet(client: socket.socket) -> None:
        client.sendall(b"hello")
        digest(client)

    def held(port: int) -> socket.socket:
        """A session that stays in the middle of what it carries."""
        with left.host.entered():
            client = socket.create_connection(("127.0.0.1", port), timeout=30)
        client.sendall(b"begun")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        return client

    with ExitStack() as stack:
        port = stack.enter_context(served(right.host, greet))
        far_words = ("--log", "json", f"rpt-listen:{address}", f"tcp:127.0.0.1:{port}")
        _, far = stack.enter_context(relaying(right, *far_words))
        other, _ = stack.enter_context(relaying(left, *near))
        with relaying(left, *near) as (listening, process):
            cut, kept = held(port_of(listening)), held(port_of(other))
            process.kill()
            process.wait(10)
            with cut, suppress(ConnectionResetError):
                assert cut.recv(10) == b"", "the end, and nothing that was never answered"
        with kept:
            kept.sendall(b", and ended")
            kept.shutdown(socket.SHUT_WR)
            answer = kept.makefile("rb").read()
        assert answer == hashlib.sha256(b"begun, and ended").hexdigest().encode()
        with relaying(left, *near) as (listening, _):
            expected = b"hello" + hashlib.sha256(b"again").hexdigest().encode()
            assert ask(left.host, port_of(listening), b"again") == expected
        far.terminate()
        _, said = far.communicate(timeout=30)
        assert far.returncode == 0
        assert said.count(b'"session"') == 3, "that of who was killed is over, too"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["stdio:", "tcp:127.0.0.1:1"], 1, "connection refused"),
        (["stdio:", "unix:/nowhere"], 1, "no such file or directory"),
        (["stdio:", "exec:/nowhere"], 1, "no such file or directory"),
        (["stdio:", "rpt:127.0.0.1:1"], 1, "nobody listens"),
        (["unix-listen:/nowhere/s", "stdio:"], 2, "stdio: serves one session"),
        (["unix-listen:/nowhere/s", "tcp:127.0.0.1:1"], 2, "no such file or directory"),
        (["stdio:", "stdio:"], 2, "both ends"),
        (["tls-listen:0", "tcp:127.0.0.1:1"], 2, "--tls-cert"),
        (["stdio:", "nonsense"], 2, "an end is kind"),
        (["--workers", "2", "stdio:", "tcp:127.0.0.1:1"], 2, "--workers: they share"),
        (["--workers", "2", "udp-listen:0", "tcp:127.0.0.1:1"], 2, "--workers: they share"),
        (["--workers", "0", "tcp-listen:0", "tcp:127.0.0.1:1"], 2, "1 to 64"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], code: int, said: str, peers: tuple[Peer, Peer]
) -> None:
    left, _ = peers
    got, output, told = left.run("relay", *words)
    assert (got, output) == (code, b"")
    assert [said in line.lower() for line in told.splitlines() if "new key" not in line] == [True]
