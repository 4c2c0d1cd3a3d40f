"""`rawproto perf` between two hosts: every carrier, both families."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from rawproto import lab
from tests.live.peers import Peer, address_of

pytestmark = pytest.mark.live

SIZE = 2_000_000


@pytest.mark.parametrize(
    ("carrier", "family", "words"),
    [
        ("rpt", 4, ["--streams", "2"]),
        ("rpt", 6, ["--reverse"]),
        ("rpt+udp", 4, ["--messages", "1000", "--congestion", "newreno"]),
    ],
)
def test_all_bytes_arrive_in_packets_as_large_as_the_cable_takes(
    carrier: str, family: int, words: list[str], tmp_path: Path
) -> None:
    with lab.up(lab.pair()) as network:
        left = Peer(network.host("h1"), tmp_path / "left")
        right = Peer(network.host("h2"), tmp_path / "right")
        address = address_of(right, carrier, family)
        server = right.start("perf", "serve", address)
        assert server.stderr is not None
        while not (line := server.stderr.readline()).startswith(b"listening"):
            assert line, "it ended"
        try:
            code, output, said = left.run(
                "perf", "run", "--accept-new", "--json", "--bytes", str(SIZE), *words, address
            )
            assert code == 0, said
        finally:
            server.send_signal(signal.SIGINT)
            _, told = server.communicate(timeout=30)
    assert server.returncode == 130
    assert ("received" in told.decode()) == ("--reverse" not in words)
    summary = json.loads(output.splitlines()[-1])
    assert summary["type"] == "summary"
    assert summary["bytes"] == SIZE
    assert summary["mtu"] == 1500
    assert summary["goodput_bps"] > 1e6
    assert SIZE / 1500 < summary["packets_sent"] < SIZE / 1000
    assert 0 < summary["rtt_ms"] < 1000
    assert summary["cpu_us_per_packet"] > 0


def test_nobody_there_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with lab.up(lab.pair()) as network:
        left = Peer(network.host("h1"), tmp_path / "left")
        right = Peer(network.host("h2"), tmp_path / "right")
        code, output, said = left.run("perf", "run", address_of(right, "rpt+udp", 4))
    assert (code, output) == (1, b"")
    assert said.splitlines()[-1].endswith("nobody listens there")


def test_workers_serve_one_client_after_the_other_and_end_with_the_server(tmp_path: Path) -> None:
    with lab.up(lab.pair()) as network:
        left = Peer(network.host("h1"), tmp_path / "left")
        right = Peer(network.host("h2"), tmp_path / "right")
        address = address_of(right, "rpt", 4)
        server = right.start("perf", "serve", "--workers", "2", address)
        assert server.stderr is not None
        while not (line := server.stderr.readline()).startswith(b"listening"):
            assert line, "it ended"
        try:
            for _ in range(3):
                words = ["perf", "run", "--accept-new", "--bytes", "100000", address]
                code, _, said = left.run(*words)
                assert code == 0, said
        finally:
            server.send_signal(signal.SIGINT)
            _, told = server.communicate(timeout=30)
        assert server.returncode == 130
        assert told.decode().count("received") == 3
        assert b"Traceback" not in told
        file = tmp_path / "all.pcapng"
        code, _, said = right.run("perf", "serve", "--workers", "2", "--pcap", str(file), address)
        assert (code, "one capture" in said, file.exists()) == (2, True, False), said
