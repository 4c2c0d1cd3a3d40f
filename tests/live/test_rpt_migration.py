"""Hosts that move, NATs that forget, paths that narrow and mark: connections live on.

Everything goes through `rawproto listen` and `rawproto connect` in pipes, both ways at once,
over links of 10 Mbit/s, so that what happens happens under way.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from rawproto import lab
from tests.live.peers import CARRIERS, FAMILIES, Peer, address_of, listening

pytestmark = pytest.mark.live

SIZE = 600_000
RATE = "rate=10mbit,delay=5ms,queue=100"
ROOMY = "rate=10mbit,delay=5ms,queue=2000"
"""Its queue takes all that is ever sent, however late a machine marks it."""
PORTS = ("20000-20099", "30000-30099")
NETLINK_NETFILTER = 12
DELETE_CONNTRACK = 1 << 8 | 2
REQUEST_AND_ACK = 5


class Talk:
    """A client's pipe to a listener's, both ways."""

    def __init__(self, client: subprocess.Popen[bytes], listener: subprocess.Popen[bytes]) -> None:
        self.client, self.listener = client, listener

    def carry(self, change: Callable[[], None]) -> None:
        """Sends as much there as back; `change` happens when a third has arrived."""
        there, back = os.urandom(SIZE), os.urandom(SIZE)
        changed = threading.Event()
        writers = [
            threading.Thread(target=write, args=(process, data, changed))
            for process, data in ((self.client, there), (self.listener, back))
        ]
        got: dict[str, bytes] = {}
        readers = [
            threading.Thread(target=lambda: got.update(back=take(self.client, SIZE))),
        ]
        for thread in (*writers, *readers):
            thread.start()
        first = take(self.listener, SIZE // 3)
        change()
        changed.set()
        got["there"] = first + take(self.listener, SIZE - len(first))
        for thread in (*writers, *readers):
            thread.join(30)
        assert got == {"there": there, "back": back}

    def say(self, speaker: subprocess.Popen[bytes], hearer: subprocess.Popen[bytes]) -> None:
        """A line arrives."""
        line = os.urandom(8).hex().encode() + b"\n"
        assert speaker.stdin is not None
        speaker.stdin.write(line)
        speaker.stdin.flush()
        assert take(hearer, len(line)) == line


def write(process: subprocess.Popen[bytes], data: bytes, changed: threading.Event) -> None:
    """Two thirds at once, and the rest once it has changed: so it changes under way."""
    assert process.stdin is not None
    process.stdin.write(data[: 2 * SIZE // 3])
    process.stdin.flush()
    changed.wait(30)
    process.stdin.write(data[2 * SIZE // 3 :])
    process.stdin.flush()


def take(process: subprocess.Popen[bytes], size: int) -> bytes:
    """So many bytes of its output."""
    assert process.stdout is not None
    return process.stdout.read(size)


@contextmanager
def talking(left: Peer, right: Peer, carrier: str, family: int, *words: str) -> Iterator[Talk]:
    """A client and a listener; both end well when all is said."""
    address = address_of(right, carrier, family)
    with listening(right, address) as listener:
        client = left.start("connect", "--accept-new", *words, address)
        talk = Talk(client, listener)
        talk.say(client, listener)
        talk.say(listener, client)
        yield talk
        for process in (client, listener):
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        for process in (client, listener):
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0, said


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Peer, Peer]]:
    with lab.up(lab.pair().changed(f"1:{RATE}")) as network:
        for name in ("h1", "h2"):
            ip(network.host(name), "link", "set", "lo", "up")
        yield (
            Peer(network.host("h1"), tmp_path / "left"),
            Peer(network.host("h2"), tmp_path / "right"),
        )


@pytest.fixture
def routed(tmp_path: Path) -> Iterator[tuple[Peer, lab.LiveHost, Peer]]:
    """Two hosts and a router between them."""
    with lab.up(lab.chain(2).changed(f"1:{RATE}")) as network:
        yield path_of(network, tmp_path)


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[tuple[Peer, lab.LiveHost, Peer]]:
    """The same, but that nothing is lost."""
    with lab.up(lab.chain(2).changed(f"1:{ROOMY}")) as network:
        yield path_of(network, tmp_path)


def path_of(network: lab.Network, tmp_path: Path) -> tuple[Peer, lab.LiveHost, Peer]:
    return (
        Peer(network.host("h1"), tmp_path / "left"),
        network.host("r1"),
        Peer(network.host("h2"), tmp_path / "right"),
    )


def ip(host: lab.LiveHost, *words: str) -> None:
    host.run(["ip", *words], check=True)


def nft(host: lab.LiveHost, table: str, hook: str, *rules: str) -> None:
    """A table of one chain, instead of the one that was there."""
    lines = (
        f"table inet {table}",
        f"delete table inet {table}",
        f"table inet {table} {{",
        "chain it {",
        hook,
        *rules,
        "}",
        "}",
    )
    host.run(["nft", "-f", "-"], input="\n".join(lines) + "\n", check=True)


def counts(host: lab.LiveHost, table: str) -> list[int]:
    """How many packets met each of its rules that count."""
    text = host.run(["nft", "list", "table", "inet", table], check=True).stdout
    return [int(number) for number in re.findall(r"packets (\d+)", text)]


def masquerade(router: lab.LiveHost, ports: str) -> None:
    """The router's NAT has forgotten all, and gives out ports of another range."""
    hook = "type nat hook postrouting priority srcnat"
    nft(router, "own", hook, f"iifname eth0 meta l4proto udp masquerade to :{ports}")
    forget = struct.pack("=IHHII", 20, DELETE_CONNTRACK, REQUEST_AND_ACK, 1, 0) + bytes(4)
    with router.entered():
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    with kernel:
        kernel.send(forget)
        assert kernel.recv(4096)[16:20] == bytes(4), "the kernel refuses"


@pytest.mark.parametrize("family", FAMILIES)
def test_nat_that_forgets_gives_another_port_and_nothing_is_lost(
    family: int, routed: tuple[Peer, lab.LiveHost, Peer]
) -> None:
    left, router, right = routed
    rules = [f"udp sport {ports} counter" for ports in PORTS]
    nft(right.host, "seen", "type filter hook input priority 0", *rules)
    masquerade(router, PORTS[0])
    with talking(left, right, "rpt+udp", family) as talk:
        before = counts(right.host, "seen")
        assert before[0] > 0
        assert before[1] == 0
        talk.carry(lambda: masquerade(router, PORTS[1]))
        assert counts(right.host, "seen")[1] > 100
        masquerade(router, PORTS[0])
        talk.say(talk.client, talk.listener)
        talk.say(talk.listener, talk.client)
    assert counts(right.host, "seen")[0] > before[0]


WORKERS = """
import asyncio, os, sys, rawproto

async def tell_who(connection):
    async for _ in connection.stream:
        await connection.stream.send(b"%7d" % os.getpid())
    await connection.stream.send_eof()

async def main():
    async with rawproto.serve(sys.argv[1], tell_who, workers=2):
        print("listening", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""
ASKING = """
import asyncio, sys, rawproto
from contextlib import AsyncExitStack

async def main():
    async with AsyncExitStack() as stack:
        connections = []
        for _ in range(24):
            connections.append(await stack.enter_async_context(rawproto.connect(sys.argv[1])))
        for line in sys.stdin:
            for connection in connections:
                await connection.stream.send(b"who")
            told = [await connection.stream.receive(7) for connection in connections]
            print(*map(int, told), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_worker_keeps_its_connections_behind_a_nat_that_forgets(
    family: int, routed: tuple[Peer, lab.LiveHost, Peer]
) -> None:
    left, router, right = routed
    rules = [f"udp sport {ports} counter" for ports in PORTS]
    nft(right.host, "seen", "type filter hook input priority 0", *rules)
    masquerade(router, PORTS[0])
    address = address_of(right, "rpt+udp", family)
    with ExitStack() as stack:
        server = stack.enter_context(program(right.host, WORKERS, address))
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        client = stack.enter_context(program(left.host, ASKING, address))
        assert client.stdout is not None
        assert client.stdin is not None
        told = []
        for ports in (None, *PORTS[::-1]):
            if ports is not None:
                masquerade(router, ports)
            client.stdin.write("who\n")
            client.stdin.flush()
            told.append(client.stdout.readline().split())
        assert len(set(told[0])) == 2, "one worker has all by a chance of 2**-23"
        assert told[1] == told[2] == told[0]
        assert counts(right.host, "seen")[1] >= 24
        client.stdin.close()
        assert client.wait(20) == 0


@contextmanager
def program(host: lab.LiveHost, code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A program on a host, ended by its own process."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, *words]
    with host.popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def renumber(host: lab.LiveHost, family: int, number: int) -> None:
    """The host has another address, and for a moment none at all."""
    if family == 4:
        ip(host, "address", "flush", "dev", "eth0", "scope", "global")
        ip(host, "address", "add", f"10.99.1.{number}/24", "dev", "eth0")
    else:
        ip(host, "-6", "address", "flush", "dev", "eth0", "scope", "global")
        ip(host, "address", "add", f"fd99:1::{number}/64", "dev", "eth0", "nodad")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_client_whose_address_changes_goes_on_from_the_new_one(
    carrier: str, family: int, pair: tuple[Peer, Peer]
) -> None:
    left, right = pair
    with talking(left, right, carrier, family) as talk:
        talk.carry(lambda: renumber(left.host, family, 77))
        for number in (78, 79):  # and while nothing is said
            renumber(left.host, family, number)
            talk.say(talk.listener, talk.client)
            talk.say(talk.client, talk.listener)


@pytest.mark.parametrize("where", ["h1", "r1"])
@pytest.mark.parametrize("carrier", CARRIERS)
def test_mtu_that_is_lowered_under_way_is_kept_to(
    carrier: str, where: str, routed: tuple[Peer, lab.LiveHost, Peer]
) -> None:
    left, router, right = routed
    host, device = (left.host, "eth0") if where == "h1" else (router, "eth1")
    with talking(left, right, carrier, 4) as talk:
        talk.carry(lambda: ip(host, "link", "set", device, "mtu", "1300"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_router_that_marks_is_heard_and_no_packet_is_lost(
    carrier: str, family: int, roomy: tuple[Peer, lab.LiveHost, Peer], tmp_path: Path
) -> None:
    left, router, right = roomy
    field = "ip" if family == 4 else "ip6"
    traces = tmp_path / "qlog"
    mark = f"iifname eth0 {field} ecn ect0 numgen inc mod 20 0 counter {field} ecn set ce"
    with talking(left, right, carrier, family, "--qlog", str(traces)) as talk:
        talk.carry(lambda: nft(router, "marks", "type filter hook forward priority 0", mark))
        assert counts(router, "marks")[0] > 3
    (trace,) = traces.iterdir()
    records = [json.loads(record) for record in trace.read_text().split("\x1e")[2:]]
    names = [record["name"] for record in records]
    assert "recovery:packet_lost" not in names
    windows = [
        record["data"]["congestion_window"]
        for record in records
        if "congestion_window" in record["data"]
    ]
    assert any(after < 0.9 * before for before, after in pairwise(windows))


@pytest.mark.parametrize("carrier", CARRIERS)
def test_link_local_addresses_are_talked_to_and_from(carrier: str, pair: tuple[Peer, Peer]) -> None:
    left, right = pair
    words = ["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]
    there = right.host.run(words, check=True).stdout.split()[3].partition("/")[0]
    with listening(right, f"{carrier}://[::]:4000") as listener:
        client = left.start("connect", "--accept-new", f"{carrier}://[{there}%eth0]:4000")
        talk = Talk(client, listener)
        talk.say(client, listener)
        talk.say(listener, client)
        for process in (client, listener):
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        assert client.wait(20) == listener.wait(20) == 0
        client.communicate()
