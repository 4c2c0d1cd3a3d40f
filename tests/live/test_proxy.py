"""`rawproto proxy` between two hosts: stock programs through it, what is refused, what breaks."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rawproto import lab
from tests.live.peers import HARM, Peer, await_ready
from tests.live.test_relay import digest, go_on, served

pytestmark = pytest.mark.live

PATIENCE_S = 30
SLOW = 30
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


# --- stock programs ------------------------------------------------------------------------------


@pytest.mark.parametrize(("carrier", "family"), [("rpt", 4), ("rpt+udp", 6)])
def test_curl_and_git_reach_by_socks_and_http_what_the_exit_reaches(
    carrier: str, family: int, peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    root = tmp_path / "www"
    root.mkdir()
    data = os.urandom(3_000_000)
    (root / "data").write_bytes(data)
    made_repository(root / "r.git", tmp_path)
    certificate = certificate_for("localhost", tmp_path)
    with ExitStack() as stack:
        port = stack.enter_context(website(right.host, root))
        secure = stack.enter_context(website(right.host, root, certificate))
        proxy = Proxy(stack, left, right, tmp_path, carrier=carrier, family=family)
        plain, tls = f"http://localhost:{port}/data", f"https://localhost:{secure}/data"
        by_socks, by_http = ("--socks5-hostname", proxy.socks), ("-x", proxy.http)
        assert curl(left.host, plain)[0] == 7, "not without"
        for way in (by_socks, by_http):
            assert curl(left.host, *way, plain) == (0, data)
            assert curl(left.host, *way, "--cacert", certificate, tls) == (0, data)
        both = curl(left.host, *by_http, plain, plain)
        assert both == (0, data + data), "one connection, two requests"
        sent = ("--data-binary", f"@{root}/data", f"http://localhost:{port}/")
        assert curl(left.host, *by_http, *sent) == (0, hashlib.sha256(data).hexdigest().encode())
        for number, url in enumerate((f"socks5h://{proxy.socks}", proxy.http)):
            clone(left.host, url, f"http://localhost:{port}/r.git", tmp_path / f"clone{number}")
            assert (tmp_path / f"clone{number}" / "file").read_text() == "cloned\n"
        # Its own words for what cannot be.
        assert curl(left.host, *by_socks, "http://localhost:1/")[0] == 97
        status = ("-o", "/dev/null", "-w", "%{http_code}")
        assert curl(left.host, *by_http, *status, "http://localhost:1/") == (0, b"502")
        assert curl(left.host, *by_http, *status, "http://169.254.1.1/") == (0, b"403")
        assert curl(left.host, *by_http, *status, "http://nowhere.invalid/") == (0, b"502")


def made_repository(bare: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", str(work)], check=True)
    (work / "file").write_text("cloned\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)


def clone(host: lab.LiveHost, proxy: str, url: str, into: Path) -> None:
    process = host.popen(
        ["git", "-c", f"http.proxy={proxy}", "clone", "-q", url, str(into)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said.decode()


def test_ssh_gets_through_by_socks_http_and_a_forwarded_port(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    keys = tmp_path / "ssh"
    keys.mkdir(0o700)
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True
        )
    (keys / "config").write_text(
        f"HostKey {keys}/host\nPort 2222\nListenAddress 127.0.0.1\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {keys}/user.pub\nStrictModes no\n"
    )
    with ExitStack() as stack:
        sshd = right.host.popen(
            ["sh", "-c", 'mkdir -p /run/sshd; exec "$@"', "sh",
             "/usr/sbin/sshd", "-D", "-e", "-f", str(keys / "config")],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        stack.callback(sshd.communicate)
        stack.callback(sshd.kill)
        assert sshd.stderr is not None
        assert b"listening" in sshd.stderr.readline()
        proxy = Proxy(
            stack, left, right, tmp_path,
            "--socks", "0", "--http", "0", "-L", "0:localhost:2222",
        )  # fmt: skip
        http = proxy.http.removeprefix("http://")
        for way in (
            ("-p", "2222", "-o", f"ProxyCommand=nc -X 5 -x {proxy.socks} %h %p", "root@localhost"),
            ("-p", "2222", "-o", f"ProxyCommand=nc -X connect -x {http} %h %p", "root@localhost"),
            ("-p", str(proxy.port("tcp")), "root@127.0.0.1"),
        ):
            process = left.host.popen(
                ["ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes", "-o",
                 "UserKnownHostsFile=/dev/null", "-i", str(keys / "user"), *way, "cat; exit 3"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            output, said = process.communicate(b"through", timeout=PATIENCE_S)
            assert (process.returncode, output) == (3, b"through"), said.decode()


# --- datagrams -----------------------------------------------------------------------------------


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


# --- many, lossy, slow, broken -------------------------------------------------------------------


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


# --- who gets in, and what cannot be -------------------------------------------------------------


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
