"""`rawproto http` between two hosts: curl, a browser, websockets, large files, kills, strangers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import websockets

from tests.live.peers import Peer, address_of, await_ready, serving

pytestmark = pytest.mark.live

APP = "tests.live.http_app:app"
WEB = "http://127.0.0.1:8080"
LARGE = 64 << 20
MOST_GROWTH = 24 << 20
BODY = bytes(range(256)) * 4000


def curl(peer: Peer, *words: str, data: bytes = b"") -> tuple[int, bytes]:
    """(exit code, output) of curl on a host."""
    process = peer.host.popen(
        ["curl", "--silent", "--max-time", "50", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=peer.environment,
    )  # fmt: skip
    output, _ = process.communicate(data, timeout=60)
    return process.returncode, output


@contextmanager
def served(
    peers: tuple[Peer, Peer], site: Path | str, carrier: str = "rpt", family: int = 4, *words: str
) -> Iterator[tuple[str, subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """A site on one host and a gateway on the other: (address, the two processes)."""
    left, right = peers
    address = address_of(right, carrier, family)
    with (
        serving(right, "http", "serve", str(site), "--listen", address, *words) as server,
        serving(left, "http", "gateway", "--accept-new", "--log", "none", address) as gateway,
    ):
        yield address, server, gateway


@pytest.fixture
def site(tmp_path: Path) -> Path:
    top = tmp_path / "site"
    (top / "sub").mkdir(parents=True)
    (top / "body").write_bytes(BODY)
    (top / "small.txt").write_text("small")
    return top


@pytest.mark.parametrize(("carrier", "family"), [("rpt", 4), ("rpt", 6), ("rpt+udp", 4)])
def test_curl_reads_a_directory_through_the_gateway(
    carrier: str, family: int, site: Path, peers: tuple[Peer, Peer]
) -> None:
    left, _ = peers
    with served(peers, site, carrier, family):
        assert curl(left, f"{WEB}/body") == (0, BODY)
        code, said = curl(left, "--head", f"{WEB}/body")
        assert (code, said.startswith(b"HTTP/1.1 200 OK")) == (0, True)
        headers = dict(line.split(": ", 1) for line in said.decode().splitlines()[1:-1])
        assert headers["content-length"] == str(len(BODY))
        assert curl(left, "--range", "1000-1999", f"{WEB}/body") == (0, BODY[1000:2000])
        known = f"If-None-Match: {headers['etag']}"
        status = ("--write-out", "%{http_code} %{num_connects}\n")
        assert curl(left, *status, "--header", known, f"{WEB}/body") == (0, b"304 1\n")
        assert curl(left, "--fail", f"{WEB}/nothing") == (22, b"")
        assert b'href="./small.txt"' in curl(left, f"{WEB}/")[1]
        # The second goes over the same connection.
        several = (f"{WEB}/small.txt", f"{WEB}/small.txt")
        assert curl(left, *status, *several) == (0, b"small200 1\nsmall200 0\n")
        assert curl(left, "--location", *status, "--output", "/dev/null", f"{WEB}/sub")[0] == 0


def test_curl_sends_bodies_to_an_application(peers: tuple[Peer, Peer]) -> None:
    left, _ = peers
    with served(peers, APP):
        for words in (("--data-binary", "@-"), ("--upload-file", "-")):  # of known size; in chunks
            code, output = curl(left, *words, f"{WEB}/up", data=BODY)
            assert (code, json.loads(output)["size"]) == (0, len(BODY))
        assert curl(left, f"{WEB}/fails/halfway")[0] == 18
        assert curl(left, f"{WEB}/chunks") == (0, b"one" + b"two" * 1000)


def test_browser_shows_a_page_that_fetches_and_talks(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, _ = peers
    with served(peers, APP):
        command = [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=5000", "--dump-dom",
            f"{WEB}/page",
        ]  # fmt: skip
        shown = left.host.run(command, timeout=120, env={**os.environ, "HOME": str(tmp_path)})
    assert '<p id="fetched">POST100000</p>' in shown.stdout, shown.stderr
    assert '<p id="said">words!</p>' in shown.stdout


def test_websockets_pass_and_their_end_is_told(peers: tuple[Peer, Peer]) -> None:
    left, _ = peers

    async def talk() -> None:
        async with websockets.connect("ws://127.0.0.1:8080/echo", proxy=None) as talking:
            for message in ("words", BODY[:100_000], "é" * 100_000):
                await talking.send(message)
                assert await talking.recv() == message
            server.send_signal(signal.SIGTERM)
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await talking.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1012  # the service restarts

    with served(peers, APP) as (_, server, _), left.host.entered():
        asyncio.run(asyncio.wait_for(talk(), 60))
        assert server.wait(30) == 0


def memory(process: subprocess.Popen[bytes]) -> int:
    """The most that a process ever had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def test_large_download_takes_no_memory(site: Path, peers: tuple[Peer, Peer]) -> None:
    left, _ = peers
    with (site / "large").open("wb") as file:
        file.truncate(LARGE)
    with served(peers, site) as (address, server, gateway):
        assert curl(left, f"{WEB}/small.txt")[0] == 0
        before = memory(server), memory(gateway)
        size = ("--output", "/dev/null", "--write-out", "%{size_download}")
        assert curl(left, *size, f"{WEB}/large") == (0, str(LARGE).encode())
        getting = left.start("http", "get", "-o", "/dev/null", f"{address}/large")
        most = 0
        while getting.poll() is None:
            with suppress(OSError, IndexError):  # IndexError: it has ended, and waits for us
                most = memory(getting)
            time.sleep(0.02)
        getting.communicate()
        assert getting.returncode == 0
        assert 0 < most < LARGE + MOST_GROWTH  # Python itself has 40 MB of it
        growth = memory(server) - before[0], memory(gateway) - before[1]
        assert max(growth) < MOST_GROWTH, growth


def test_reader_that_stalls_holds_nobody_up_and_little_is_kept(
    site: Path, peers: tuple[Peer, Peer]
) -> None:
    left, _ = peers
    with (site / "large").open("wb") as file:
        file.truncate(LARGE)
    with served(peers, site) as (_, server, gateway), ExitStack() as stack:
        assert curl(left, f"{WEB}/small.txt")[0] == 0
        before = memory(server), memory(gateway)
        for _ in range(10):
            with left.host.entered():
                stalled = stack.enter_context(socket.create_connection(("127.0.0.1", 8080)))
            stalled.sendall(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
            assert stalled.recv(1)
        assert curl(left, f"{WEB}/body") == (0, BODY)
        growth = memory(server) - before[0], memory(gateway) - before[1]
        assert max(growth) < 10 * (4 << 20), growth


def test_hundred_clients_at_once_each_get_their_own_answer(peers: tuple[Peer, Peer]) -> None:
    left, _ = peers

    async def one(client: socket.socket, number: int) -> None:
        reader, writer = await asyncio.open_connection(sock=client)
        for turn in range(3):
            writer.write(b"GET /%d?%d HTTP/1.1\r\nHost: h\r\n\r\n" % (number, turn))
            answer = await reader.readuntil(b'"whole"}')
            told = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert (told["path"], told["query"]) == (f"/{number}", str(turn))
        writer.close()

    async def all_of_them() -> None:
        with left.host.entered():
            clients = [socket.create_connection(("127.0.0.1", 8080)) for _ in range(100)]
        await asyncio.gather(*map(one, clients, range(100)))

    with served(peers, APP):
        assert curl(left, f"{WEB}/")[0] == 0  # which pins the key
        asyncio.run(asyncio.wait_for(all_of_them(), 60))


def test_kill_in_the_middle_is_told_and_the_rest_is_fetched_later(
    site: Path, peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    with (site / "large").open("wb") as file:
        for number in range(LARGE >> 20):
            file.write(number.to_bytes(4, "big") * (1 << 18))
    address = address_of(right)
    words = ("http", "serve", str(site), "--listen", address)
    got = tmp_path / "got"
    with serving(right, *words) as server:
        getting = left.start("http", "get", "--accept-new", "-o", str(got), f"{address}/large")
        while not got.exists() or got.stat().st_size < 1 << 20:
            assert getting.poll() is None
            time.sleep(0.001)  # until there is something: nothing tells of a file that grows
        server.kill()
        server.wait(30)
    with serving(right, *words):  # which does not know the connection, and says so
        _, said = getting.communicate(timeout=60)
        assert getting.returncode == 56
        assert said.decode().splitlines()[-1].startswith(f"rawproto http: (56) {address}: ")
        assert got.stat().st_size < LARGE
        code, _, told = left.run("http", "get", "-C", "-", "-o", str(got), f"{address}/large")
        assert code == 0, told
        assert got.read_bytes() == (site / "large").read_bytes()


def test_get_reuses_a_connection_and_the_log_has_a_line_for_each(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    address = address_of(right)
    (tmp_path / "up").write_bytes(BODY)
    words = ("http", "serve", APP, "--listen", address, "--log", "json")
    with serving(right, *words) as server:
        code, output, said = left.run(
            "http", "get", "--accept-new", "-o", str(tmp_path / "a"), f"{address}/large",
            f"{address}/b?c", f"{address}/empty",
        )  # fmt: skip
        assert code == 0, said
        assert (tmp_path / "a").read_bytes() == BODY
        assert json.loads(output)["path"] == "/b"
        code, output, _ = left.run("http", "get", "-T", str(tmp_path / "up"), f"{address}/to/")
        told = json.loads(output)
        assert (code, told["method"], told["path"], told["size"]) == (0, "PUT", "/to/up", len(BODY))
        code, output, _ = left.run("http", "get", "-d", "@-", f"{address}/", data=b"a\nb\n")
        assert (code, json.loads(output)["size"]) == (0, 2)
        assert left.run("http", "get", "-f", f"{address}/fails")[0] == 22
        code, output, said = left.run("http", "get", "-v", "-o", "/dev/null", f"{address}/empty")
        shown = said.splitlines()
        assert (code, output) == (0, b"")
        assert shown[0].startswith(f"* {address} is SHA256:")
        assert shown[1:3] == ["> GET /empty HTTP/1.1", f"> Host: {address.removeprefix('rpt://')}"]
        assert "< HTTP/1.1 204 No Content" in shown
        assert [line for line in shown if line[:1] not in "*<>"] == []
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=30)
        assert server.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    requests = [line for line in lines if line["type"] == "request"]
    assert [(each["method"], each["target"], each["status"]) for each in requests] == [
        ("GET", "/large", 200), ("GET", "/b?c", 200), ("GET", "/empty", 204),
        ("PUT", "/to/up", 200), ("POST", "/", 200), ("GET", "/fails", 500),
        ("GET", "/empty", 204),
    ]  # fmt: skip
    assert requests[0]["body_bytes"] == len(BODY)
    assert Counter(line["type"] for line in lines)["session"] == 5
    assert len({line["key"] for line in requests}) == 1
    (notice,) = [line["words"] for line in lines if line["type"] == "notice"]
    assert "RuntimeError: as it was asked" in notice


def test_stranger_gets_nothing(site: Path, peers: tuple[Peer, Peer], tmp_path: Path) -> None:
    left, right = peers
    assert left.run("keys", "new")[0] == 0
    admitted = tmp_path / "admitted"
    admitted.write_bytes(left.run("keys", "show")[1])
    stranger = Peer(left.host, tmp_path / "stranger")
    address = address_of(right)
    words = ("http", "serve", str(site), "--listen", address, "--authorized", str(admitted))
    with serving(right, *words):
        url = f"{address}/small.txt"
        assert left.run("http", "get", "--accept-new", url)[:2] == (0, b"small")
        code, output, said = stranger.run("http", "get", "--accept-new", url)
        assert (code, output) == (35, b"")
        assert "not authorized" in said.splitlines()[-1]
        with serving(stranger, "http", "gateway", address):
            assert curl(stranger, f"{WEB}/small.txt") == (56, b"")


def test_workers_share_a_port_and_outlive_one_of_them(peers: tuple[Peer, Peer]) -> None:
    left, _ = peers
    with served(peers, APP, "rpt", 4, "--workers", "2") as (_, server, _):
        assert curl(left, f"{WEB}/")[0] == 0
        (supervisor,) = children(server.pid)
        for victim in children(supervisor):
            os.kill(victim, signal.SIGKILL)
            with suppress(AssertionError):
                assert curl(left, f"{WEB}/")[0] == 0  # it may have gone to the dead one
            assert curl(left, "--retry", "5", "--retry-all-errors", f"{WEB}/")[0] == 0
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_application_that_will_not_start_ends_the_server_in_its_last_line(
    workers: str, peers: tuple[Peer, Peer]
) -> None:
    _, right = peers
    words = ("http", "serve", "tests.live.http_app:unable", "--workers", workers)
    code, _, said = right.run(*words, "--listen", address_of(right))
    assert code == 2
    assert said.splitlines()[-1] == "rawproto http: the application did not start"
    assert "listening" not in said


def test_server_whose_supervisor_is_killed_ends_as_well(peers: tuple[Peer, Peer]) -> None:
    _, right = peers
    words = ("http", "serve", APP, "--workers", "2", "--listen", address_of(right))
    with serving(right, *words) as server:
        (supervisor,) = children(server.pid)
        os.kill(supervisor, signal.SIGKILL)
        assert server.wait(30) == 2


def children(pid: int) -> list[int]:
    return [
        int(child)
        for tasks in Path(f"/proc/{pid}/task").glob("*/children")
        for child in tasks.read_text().split()
    ]


@pytest.mark.parametrize("what", ["serve", "gateway"])
def test_port_that_is_taken_is_one_line(what: str, site: Path, peers: tuple[Peer, Peer]) -> None:
    with served(peers, site) as (address, _, _):
        peer = peers[what == "serve"]
        words = {"serve": [str(site), "--listen", address], "gateway": [address]}[what]
        code, _, said = peer.run("http", what, *words)
        assert (code, len(said.splitlines())) == (2, 1)
        assert "in use" in said


def test_get_where_nobody_listens_is_curls_seven(peers: tuple[Peer, Peer]) -> None:
    code, output, said = peers[0].run("http", "get", "rpt://127.0.0.1:1/")
    assert (code, output) == (7, b"")
    assert "(7) rpt://127.0.0.1:1: nobody listens" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("where", "shown", "workers"),
    [("127.0.0.1:0", "http://127.0.0.1:", "1"), ("0", "http://[::]:", "2")],
)
def test_gateway_says_what_to_open_and_whom_it_could_not_reach(
    where: str, shown: str, workers: str, peers: tuple[Peer, Peer]
) -> None:
    left, right = peers
    words = ("--listen", where, "--workers", workers, f"rpt://{right.host.ipv4}:4009")
    gateway = left.start("http", "gateway", *words)
    try:
        url = await_ready(gateway).decode().split()[1]
        assert url.startswith(shown)
        assert curl(left, "--globoff", url) == (56, b"")
    finally:
        gateway.terminate()
        _, said = gateway.communicate(timeout=30)
    assert gateway.returncode == 0
    assert f": rpt:{right.host.ipv4}:4009: nobody listens there" in said.decode()
