"""Real TCP through a lossy link, captured: what was said comes out, and tshark counts the same."""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rawproto import lab, read
from rawproto.cli import decode_follow, decode_stats

# With CI=true a skipped live test is a failure.
needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

BOUND_S = 20.0
PORT = 8080
SAID = random.Random(1).randbytes(400_000)
ANSWER = random.Random(2).randbytes(50_000)


MARK = b"that was the last packet"


@contextmanager
def captured(host: lab.LiveHost, peer: lab.LiveHost, path: Path) -> Iterator[None]:
    """tcpdump on a host's interface while the block runs, until it has seen the last packet."""
    with host.popen(
        ["tcpdump", "-i", "eth0", "--immediate-mode", "-U", "-w", "-", "ip"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert any(b"listening" in line for line in process.stderr)
        seen = bytearray()

        def drain() -> None:
            while MARK not in seen[-65536:] and (more := process.stdout.read1(65536)):
                seen.extend(more)

        thread = threading.Thread(target=drain)
        thread.start()
        try:
            yield
            # What it sends itself, a host's own capture sees before any link can lose it.
            with host.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(MARK, (peer.ipv4, 9))
            thread.join(BOUND_S)
        finally:
            process.terminate()
            thread.join(BOUND_S)
            process.communicate(timeout=BOUND_S)
        assert MARK in seen
        path.write_bytes(seen[: seen.rindex(MARK) + len(MARK)])


def talk(network: lab.Network) -> None:
    """h1 says SAID to h2, who answers with ANSWER; both end."""
    h1, h2 = network.host("h1"), network.host("h2")
    with h2.entered():
        server = socket.create_server((h2.ipv4, PORT))
    server.settimeout(BOUND_S)

    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            peer.settimeout(BOUND_S)
            while peer.recv(65536):
                pass
            peer.sendall(ANSWER)

    thread = threading.Thread(target=serve)
    thread.start()
    with h1.entered():
        client = socket.socket()
    with client, server:
        client.settimeout(BOUND_S)
        client.connect((h2.ipv4, PORT))
        client.sendall(SAID)
        client.shutdown(socket.SHUT_WR)
        heard = b""
        while data := client.recv(65536):
            heard += data
        assert heard == ANSWER
    thread.join(BOUND_S)


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same conversation as its sender and as its receiver saw it."""
    directory = tmp_path_factory.mktemp("lossy")
    paths = {name: directory / f"{name}.pcap" for name in ("h1", "h2")}
    impaired = lab.pair().changed("1:loss=3%,delay=2ms,seed=3")
    with lab.up(impaired) as network:
        for name in paths:
            host = network.host(name)
            host.run(["ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off"])
        h1, h2 = network.host("h1"), network.host("h2")
        with captured(h1, h2, paths["h1"]), captured(h2, h1, paths["h2"]):
            h1.run(["ping", "-4", "-c", "20", "-i", "0.01", "-W", "1", "h2"], check=False)
            talk(network)
    return paths


def arguments(**given: object) -> argparse.Namespace:
    plain = {"follow": None, "form": "text", "side": None, "json": False, "top": 20}
    return argparse.Namespace(**{**plain, "color": "never", **given})


def tshark(path: Path, *words: str) -> list[str]:
    done = subprocess.run(
        ["tshark", "-n", "-r", str(path), *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def statistics(path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    with read(path) as packets:
        assert decode_stats.run(packets, arguments(json=True)) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("end", ["h1", "h2"])
@pytest.mark.parametrize(("side", "said"), [("client", SAID), ("server", ANSWER)])
def test_what_was_said_comes_out_whole(
    captures: dict[str, Path], end: str, side: str, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    with read(captures[end]) as packets:
        decode_follow.run(packets, arguments(follow="tcp:0", form="raw", side=side))
    out.flush()
    assert out.buffer.getvalue() == said  # type: ignore[attr-defined]


@needs_tshark
@pytest.mark.parametrize("end", ["h1", "h2"])
def test_as_much_was_sent_again_as_tshark_says(
    captures: dict[str, Path], end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    records = statistics(captures[end], capsys)
    (ours,) = [each["tcp"] for each in records if str(each.get("name", "")).startswith("tcp:")]
    fields = ["retransmission", "out_of_order", "lost_segment", "initial_rtt"]
    words = [word for name in fields for word in ("-e", f"tcp.analysis.{name}")]
    rows = [
        row.split("\t")
        for row in tshark(captures[end], "-Y", "tcp", "-T", "fields", "-e", "tcp.srcport", *words)
    ]
    for way, rows_of in (
        ("from_src", [row for row in rows if row[0] != str(PORT)]),
        ("from_dst", [row for row in rows if row[0] == str(PORT)]),
    ):
        # tshark takes some of what was sent again for reordered; this link reorders nothing.
        sent_again = sum(bool(row[1] or row[2]) for row in rows_of)
        assert (ours[way]["retransmissions"], ours[way]["out_of_order"]) == (sent_again, 0)
        assert ours[way]["unseen"] == sum(bool(row[3]) for row in rows_of)
    sent_again = sum(ours[way]["retransmissions"] for way in ("from_src", "from_dst"))
    assert sent_again, "3 % of the packets were lost"
    rtt_ms = float(next(row[4] for row in rows if row[4])) * 1000
    assert ours["handshake_rtt_ms"] == pytest.approx(rtt_ms, abs=0.001)


@needs_tshark
def test_pings_take_as_long_as_tshark_says(
    captures: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    records = statistics(captures["h1"], capsys)
    (ping,) = [each for each in records if each["type"] == "ping"]
    times = [
        float(line)
        for line in tshark(
            captures["h1"], "-Y", "icmp.resptime", "-T", "fields", "-e", "icmp.resptime"
        )
    ]
    assert ping["requests"] == 20
    assert ping["replies"] == len(times) < 20, "some were lost"
    assert ping["min_ms"] == pytest.approx(min(times), abs=0.001)
    assert ping["max_ms"] == pytest.approx(max(times), abs=0.001)
    assert ping["mean_ms"] == pytest.approx(sum(times) / len(times), abs=0.001)
