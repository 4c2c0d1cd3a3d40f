"""An exit and an entry on two hosts, and what goes through them: for tests of the proxy."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rawproto import lab
from tests.live.peers import Peer, await_ready

PATIENCE_S = 30
OPEN = ("--allow", "*:*", "--allow", "127.0.0.0/8:*", "--allow", "[::1]:*")
"""For tests whose targets are on the exit's own host."""


def admitted(peer: Peer, tmp_path: Path) -> str:
    """A file that lets a peer in."""
    code, _, said = peer.run("keys", "new")
    assert code == 0, said
    path = tmp_path / "admitted"
    path.write_bytes(peer.run("keys", "show")[1])
    return str(path)


@contextmanager
def started(peer: Peer, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """A half of the proxy: its process, and its lines as they come."""
    process = peer.start("proxy", *words)
    said: list[str] = []
    assert process.stderr is not None

    def read() -> None:
        assert process.stderr is not None
        said.extend(iter(lambda: process.stderr.readline().decode(), ""))  # type: ignore[union-attr]

    reading = threading.Thread(target=read)
    try:
        said.append(await_ready(process).decode())
        reading.start()
        yield process, said
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(10)
        if reading.ident is not None:
            reading.join(10)
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def until(true: Callable[[], object], what: str) -> None:
    """Looks again and again, for what other processes do."""
    last = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < last, what
        time.sleep(0.01)


class Proxy:
    """An exit on the right, an entry on the left, and where it listens."""

    def __init__(
        self, stack: ExitStack, left: Peer, right: Peer, tmp_path: Path, *words: str,
        rules: tuple[str, ...] = OPEN, carrier: str = "rpt", family: int = 4,
    ) -> None:  # fmt: skip
        host = right.host.ipv4 if family == 4 else f"[{right.host.ipv6}]"
        self.exit_words = ("exit", "--authorized", admitted(left, tmp_path), *rules, "--grace", "0")
        self.exit_process, said = stack.enter_context(
            started(right, *self.exit_words, "--listen", f"{carrier}://{host}:0")
        )
        self.address = said[0].split()[1]
        self.words = words or ("--socks", "0", "--http", "0")
        self.process, self.said = stack.enter_context(
            started(left, "entry", "--grace", "0", "--accept-new", *self.words, self.address)
        )
        until(lambda: self.heard(f"{self.address} is up"), "the exit was not reached")

    def heard(self, words: str) -> bool:
        return any(words in line for line in self.said)

    def port(self, kind: str) -> int:
        """The port of a listener."""
        until(lambda: self.heard(f"listening {kind}://"), f"no {kind}")
        line = next(line for line in self.said if f"listening {kind}://" in line)
        return int(line.rpartition(":")[2])

    @property
    def socks(self) -> str:
        return f"127.0.0.1:{self.port('socks5')}"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port('http')}"


def curl(host: lab.LiveHost, *words: str) -> tuple[int, bytes]:
    """(exit status, what it got)."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    process = host.popen(
        ["curl", "-sS", "--max-time", str(PATIENCE_S), *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    output, said = process.communicate(timeout=PATIENCE_S + 5)
    return process.returncode, output or said


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, form: str, *words: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = hashlib.sha256(body).hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@contextmanager
def website(host: lab.LiveHost, root: Path, certificate: str | None = None) -> Iterator[int]:
    """An HTTP server on a host's loopback: its port."""
    with host.entered():
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate + ".key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        serving.join(10)
        server.server_close()


def certificate_for(name: str, directory: Path) -> str:
    path = str(directory / "c.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", path + ".key", "-out", path, "-days", "2",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


def socks_connect(host: lab.LiveHost, port: int, name: str, target: int) -> socket.socket:
    """A connection by SOCKS5, to a name."""
    with host.entered():
        client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    client.sendall(
        b"\5\1\0" + b"\5\1\0\3" + bytes([len(name)]) + name.encode() + target.to_bytes(2, "big")
    )
    assert take(client, 2) == b"\5\0"
    head = take(client, 4)
    take(client, {1: 6, 4: 18}[head[3]])
    if head[1]:
        client.close()
        raise ConnectionRefusedError(head[1])
    return client


def take(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        assert piece, "it ended"
        data += piece
    return data


async def gathered(clients: list[socket.socket], asked: list[bytes]) -> list[bytes]:
    async def one(client: socket.socket, data: bytes) -> bytes:
        client.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=client)
        writer.write(data)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.gather(*map(one, clients, asked))
