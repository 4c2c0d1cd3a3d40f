"""A listener that is flooded with INITs from forged sources, for two seconds, still serves.

`tests/bench/bench_rpt_flood.py` is the same for ten, with figures.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawproto import lab
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.rpt import RPTInit, RPTLong
from tests.bench.rpt_flood import FIRST_SOURCE, SOURCES, packets
from tests.bench.rpt_server import PORT, peak_bytes, result, serving, start

pytestmark = pytest.mark.live

PPS, SECONDS, CLIENTS = 50_000, 2, 20
FORGED = "198.18.0.0/15"
MOST_BYTES = 100 << 20


@pytest.fixture(scope="module")
def cable() -> Iterator[lab.Network]:
    with lab.up(lab.pair()) as network:
        # What the listener answers has to go somewhere.
        route = ["ip", "route", "add", FORGED, "via", network.host("h1").ipv4]
        network.host("h2").run(route, check=True)
        yield network


def test_forged_inits_are_valid_and_no_two_alike() -> None:
    forged = packets("10.0.0.2", 4000, random.Random(1))
    seen = set()
    for _ in range(50):
        packet = next(forged)
        header, _ = IPv4Header.parse(packet)
        data = packet[20:]
        init, behind = RPTInit.parse(data)
        source = int.from_bytes(socket.inet_aton(header.src_addr), "big")
        assert FIRST_SOURCE <= source < FIRST_SOURCE + SOURCES
        assert RPTLong.verify(data)
        assert (len(data), behind, init.dst_port, init.token) == (1200, b"", 4000, b"")
        seen.add((header.src_addr, init.src_cid, init.dst_cid, init.message))
    assert all(len(set(column)) > 40 for column in zip(*seen, strict=True))


def test_honest_clients_are_served_amid_a_flood_and_memory_does_not_grow(
    cable: lab.Network, tmp_path: Path
) -> None:
    left, right = cable.host("h1"), cable.host("h2")
    with serving(right, str(tmp_path)) as process:
        target = (right.ipv4, PORT)
        with (
            start(left, "rpt_flood.py", *target, PPS, SECONDS) as flood,
            start(left, "rpt_crowd.py", "single", *target, CLIENTS, SECONDS / 2) as honest,
        ):
            flooded, came = result(flood, 30), result(honest, 30)
        assert peak_bytes(process.pid) < MOST_BYTES
    assert flooded["sent"] > PPS // 10
    assert (came["connected"], came["errors"]) == (CLIENTS, [])
