"""`rawproto files` between two hosts: a lossy way, kills in the middle, many clients, strangers."""

from __future__ import annotations

import asyncio
import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import rawproto
from rawproto import lab
from rawproto.apps.files.beneath import Root
from rawproto.apps.files.client import FileClient
from rawproto.apps.files.plan import Progress
from tests.live.peers import HARM, Peer, address_of, serving

pytestmark = pytest.mark.live


def same(left: Path, right: Path) -> bool:
    """Whether two directories hold the same files with the same bytes."""
    names = {path.relative_to(left) for path in left.rglob("*")}
    if names != {path.relative_to(right) for path in right.rglob("*")}:
        return False
    return all(
        filecmp.cmp(left / name, right / name, shallow=False)
        for name in names
        if (left / name).is_file()
    )


def plant(top: Path, large: int = 1_500_000) -> Path:
    top.mkdir()
    for number in range(50):
        (top / f"{number}").write_bytes(os.urandom(number * 20))
    (top / "large").write_bytes(os.urandom(large))
    return top


@pytest.mark.parametrize(("carrier", "family"), [("rpt", 4), ("rpt", 6), ("rpt+udp", 4)])
def test_tree_crosses_there_and_back(
    carrier: str, family: int, peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    tree = plant(tmp_path / "tree")
    (tmp_path / "served").mkdir()
    address = address_of(right, carrier, family)
    words = ("files", "serve", str(tmp_path / "served"), "--write", "--listen", address)
    with serving(right, *words) as server:
        code, output, said = left.run(
            "files", "put", "--accept-new", "--json", str(tree), f"{address}/"
        )
        assert code == 0, said
        told = json.loads(output)
        assert (told["files"], told["faults"]) == (51, 0)
        assert same(tree, tmp_path / "served" / "tree")
        code, output, _ = left.run("files", "ls", "-l", f"{address}/tree")
        assert code == 0
        assert len(output.splitlines()) == 51
        code, _, said = left.run("files", "get", f"{address}/tree", str(tmp_path / "back"))
        assert code == 0, said
        assert same(tree, tmp_path / "back")
        code, _, _ = left.run("files", "rm", "-r", f"{address}/tree")
        assert code == 0
        assert os.listdir(tmp_path / "served") == []
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
        assert server.returncode == 0


def test_workers_share_a_port(peers: tuple[Peer, Peer], tmp_path: Path) -> None:
    left, right = peers
    tree = plant(tmp_path / "tree", 10)
    address = address_of(right)
    words = ("files", "serve", str(tree), "--workers", "2", "--listen", address)
    with serving(right, *words):
        for _ in range(4):
            code, output, said = left.run("files", "ls", "--accept-new", address)
            assert (code, len(output.splitlines())) == (0, 51), said


def test_lossy_way_changes_no_byte(tmp_path: Path) -> None:
    tree = plant(tmp_path / "tree", 300_000)
    with lab.up(lab.pair().changed(f"1:{HARM}")) as network:
        left = Peer(network.host("h1"), tmp_path / "left")
        right = Peer(network.host("h2"), tmp_path / "right")
        address = address_of(right)
        with serving(right, "files", "serve", str(tree), "--listen", address):
            code, _, said = left.run("files", "get", "--accept-new", address, str(tmp_path / "got"))
        assert code == 0, said
    assert same(tree, tmp_path / "got")


def grown(place: Path, least: int) -> bool:
    """Whether a file in the making has so many bytes."""
    return any(part.stat().st_size >= least for part in place.glob(".rpt-*.part"))


@pytest.mark.parametrize("who", ["client", "server"])
def test_kill_in_the_middle_leaves_no_half_file_and_goes_on(who: str, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    data = os.urandom(4_000_000)
    (tmp_path / "big").write_bytes(data)
    with lab.up(lab.pair().changed("1:rate=20mbit,delay=5ms")) as network:
        left = Peer(network.host("h1"), tmp_path / "left")
        right = Peer(network.host("h2"), tmp_path / "right")
        address = address_of(right)
        words = ("files", "serve", str(tmp_path / "served"), "--write", "--listen", address)
        big = str(tmp_path / "big")
        put = ("files", "put", "--accept-new", "--tries", "20", big, f"{address}/")
        with serving(right, *words) as server:
            client = left.start(*put)
            deadline = time.monotonic() + 20
            while not grown(tmp_path / "served", 600_000):
                assert time.monotonic() < deadline
                assert client.poll() is None, client.communicate()
                time.sleep(0.01)
            (server if who == "server" else client).kill()
            (server if who == "server" else client).wait(10)
            assert not (tmp_path / "served" / "big").exists()
            if who == "client":
                client.communicate()
                client = left.start(*put)
                _, said = client.communicate(timeout=60)
                assert client.returncode == 0, said
        if who == "server":
            with serving(right, *words):
                _, said = client.communicate(timeout=60)
                assert client.returncode == 0, said
                assert b"trying again" in said
    assert (tmp_path / "served" / "big").read_bytes() == data
    assert os.listdir(tmp_path / "served") == ["big"]


class Small(Peer):
    """One that has a disk of 1 MB, empty at each start, and tells what is there at the end."""

    def __init__(self, peer: Peer, disk: Path) -> None:
        self.host, self.environment, self.disk = peer.host, peer.environment, disk

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "rawproto.cli.main"]
        script = 'mount -t tmpfs -o size=1m none "$1"; d=$1; shift; "$@"; c=$?; ls -A $d; exit $c'
        return self.host.popen(
            ["sh", "-c", script, "-", str(self.disk), *command, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )


def test_full_disk_is_one_line_and_leaves_no_half_file(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    (tmp_path / "big").write_bytes(os.urandom(2_000_000))
    small = tmp_path / "small"
    small.mkdir()
    address = address_of(right)
    full = "rawproto files: big: no space left on device\n"
    words = ("files", "serve", str(small), "--write", "--listen", address)
    with serving(Small(right, small), *words) as server:
        left.run("files", "ls", "--accept-new", address)
        assert left.run("files", "put", "-q", f"{tmp_path}/big", f"{address}/") == (1, b"", full)
        left_over = os.listdir(f"/proc/{server.pid}/root{small}")
        (worker,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGTERM)
    assert left_over == [], "not even the list of what stands had room"
    with serving(right, "files", "serve", str(tmp_path), "--listen", address):
        get = ("files", "get", "-q", f"{address}/big", f"{small}/")
        assert Small(left, small).run(*get) == (1, b"", full)


def test_directory_that_cannot_be_made_is_one_line(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    tree = plant(tmp_path / "tree")
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "taken").write_text("what was there")
    address = address_of(right)
    words = ("files", "serve", str(tmp_path / "served"), "--write", "--listen", address)
    with serving(right, *words):
        left.run("files", "ls", "--accept-new", address)
        code, _, said = left.run("files", "put", "-q", str(tree), f"{address}/taken")
    assert (code, said) == (1, "rawproto files: taken: not a directory\n")
    assert (tmp_path / "served" / "taken").read_text() == "what was there"


def test_what_is_wrong_with_one_of_several_things_stops_no_other(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    served, here = tmp_path / "served", tmp_path / "here"
    served.mkdir()
    here.mkdir()
    for name in ("a", "b"):
        (served / name).write_text(name)
    (served / "taken").mkdir()
    (here / "taken").write_text("a file")
    address = address_of(right)
    with serving(right, "files", "serve", str(served), "--write", "--listen", address):
        left.run("files", "ls", "--accept-new", address)
        places = [f"{address}/{name}" for name in ("a", "gone", "b")]
        code, _, said = left.run("files", "get", "-q", *places, f"{here}")
        assert (code, said) == (1, "rawproto files: gone: no such file or directory\n")
        assert sorted(os.listdir(here)) == ["a", "b", "taken"]
        here.chmod(0o700)
        assert left.run("files", "get", "-q", address, f"{here}")[0] == 1, "a file is in the way"
        assert here.stat().st_mode & 0o777 == 0o700, "it was the user's before"
        put = [str(here / name) for name in ("taken", "a")]
        code, _, said = left.run("files", "put", "-q", *put, f"{address}/new/")
        assert (code, said) == (0, "")
        assert sorted(os.listdir(served / "new")) == ["a", "taken"]


def test_names_are_listed_where_the_output_has_no_such_letters(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "ж").touch()
    address = address_of(right)
    left.environment = {**left.environment, "PYTHONIOENCODING": "ascii"}
    with serving(right, "files", "serve", str(tmp_path / "served"), "--listen", address):
        code, output, said = left.run("files", "ls", "--accept-new", address)
    assert (code, output) == (0, b"\\u0436\n"), said


def test_many_clients_at_once(peers: tuple[Peer, Peer], tmp_path: Path) -> None:
    left, right = peers
    tree = plant(tmp_path / "tree", 100_000)
    address = address_of(right)
    with serving(right, "files", "serve", str(tree), "--listen", address):
        assert left.run("files", "ls", "--accept-new", address)[0] == 0

        def fetch(number: int) -> int:
            return left.run("files", "get", address, str(tmp_path / f"got{number}"))[0]

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(fetch, range(6))) == [0] * 6
    assert all(same(tree, tmp_path / f"got{number}") for number in range(6))


def test_hundred_clients_at_once_each_get_all(peers: tuple[Peer, Peer], tmp_path: Path) -> None:
    left, right = peers
    tree = plant(tmp_path / "tree", 200_000)
    address = address_of(right, "rpt+udp")

    async def one(number: int) -> None:
        target = tmp_path / f"got{number}"
        target.mkdir()
        with closing(Root(str(target))) as root:
            async with rawproto.connect(address) as connection, FileClient(connection) as client:
                progress = Progress()
                await client.get("", root, "", progress)
                assert progress.faults == []

    async def everybody() -> None:
        async with asyncio.timeout(120):
            await asyncio.gather(*[one(number) for number in range(100)])

    words = ("files", "serve", str(tree), "--log", "none", "--workers", "2", "--listen", address)
    with serving(right, *words), left.host.entered():
        asyncio.run(everybody())
    assert all(same(tree, tmp_path / f"got{number}") for number in range(100))


def test_strangers_get_nothing(peers: tuple[Peer, Peer], tmp_path: Path) -> None:
    left, right = peers
    tree = plant(tmp_path / "tree", 10)
    left.run("keys", "new")
    admitted = tmp_path / "admitted"
    admitted.write_bytes(left.run("keys", "show")[1])
    address = address_of(right)
    words = ("files", "serve", str(tree), "--authorized", str(admitted), "--listen", address)
    with serving(right, *words):
        assert left.run("files", "ls", "--accept-new", address)[0] == 0
        stranger = Peer(left.host, tmp_path / "stranger")
        code, output, said = stranger.run("files", "ls", "--accept-new", address)
        assert (code, output) == (1, b"")
        assert "not authorized" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ls", "nonsense"], 2, "not ADDRESS/PATH"),
        (["get", "rpt://127.0.0.1:1/x", "/proc/nowhere/"], 2, "/proc/nowhere"),
        (["get", "here"], 2, "not ADDRESS/PATH"),
        (["put", "/nowhere", "rpt://127.0.0.1:1/x"], 2, "/nowhere: no such file"),
        (["sync", "a", "b"], 2, "one of FROM and TO"),
        (["rm", "rpt://127.0.0.1:1/"], 2, "name what"),
        (["ls", "rpt://127.0.0.1:1/"], 1, "nobody listens"),
        (["serve", "/nowhere", "--listen", "rpt://127.0.0.1:0"], 2, "/nowhere: no such file"),
        (["serve", ".", "--listen", "nonsense"], 2, "not an RPT address"),
        (
            ["serve", ".", "--listen", "rpt://127.0.0.1:0", "--quota", "1", "--workers", "2"],
            2,
            "one process",
        ),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], code: int, said: str, peers: tuple[Peer, Peer]
) -> None:
    left, _ = peers
    got, output, told = left.run("files", *words)
    lines = [line for line in told.splitlines() if "new key" not in line]
    assert (got, output, len(lines)) == (code, b"", 1), told
    assert said in lines[0]
