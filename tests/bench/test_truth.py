"""What judges a ping: captures, the tools' output, and the comparison of the two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapWriter

from tests.bench.truth import (
    Measured,
    bracketed,
    errors_ns,
    read_iputils,
    read_rawproto,
    truths,
)

SECOND = 1_000_000_000


def echo(kind: str, sequence_number: int, identifier: int = 7) -> bytes:
    message = ICMP(type=kind, id=identifier, seq=sequence_number) / bytes(16)
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP() / message)


def capture(path: Path, frames: list[tuple[int, bytes]], *, nano: bool = True) -> Path:
    """Writes (time in ns, frame) to a file."""
    with RawPcapWriter(str(path), linktype=1, nano=nano) as writer:
        writer.write_header(None)
        for at_ns, frame in frames:
            fraction = at_ns % SECOND // (1 if nano else 1000)
            writer.write_packet(frame, sec=at_ns // SECOND, usec=fraction)
    return path


@pytest.mark.parametrize(("nano", "expected"), [(True, 20_001), (False, 20_000)])
def test_truth_is_reply_minus_request_across_a_second(
    tmp_path: Path, nano: bool, expected: int
) -> None:
    start = SECOND - 10_000
    frames = [(start, echo("echo-request", 1)), (start + 20_001, echo("echo-reply", 1))]
    assert truths(capture(tmp_path / "a.pcap", frames, nano=nano)) == {(7, 1): expected}


def test_replies_go_to_the_request_of_their_identifier_and_number(tmp_path: Path) -> None:
    frames = [
        (100, echo("echo-request", 1)),
        (200, echo("echo-request", 2)),
        (300, echo("echo-request", 1, identifier=8)),
        (450, echo("echo-reply", 2)),
        (500, echo("echo-reply", 1, identifier=8)),
        (600, echo("echo-reply", 1)),
    ]
    found = truths(capture(tmp_path / "a.pcap", frames))
    assert found == {(7, 1): 500, (7, 2): 250, (8, 1): 200}


def test_first_of_duplicates_counts_and_what_is_no_pair_is_left_out(tmp_path: Path) -> None:
    frames = [
        (50, echo("echo-reply", 9)),
        (100, echo("echo-request", 1)),
        (150, echo("echo-request", 1)),
        (200, echo("echo-reply", 1)),
        (300, echo("echo-reply", 1)),
        (400, echo("echo-request", 2)),
        (500, echo("dest-unreach", 2)),
        (600, bytes(Ether(dst="02:00:00:00:00:02") / IP() / UDP())),
    ]
    assert truths(capture(tmp_path / "a.pcap", frames)) == {(7, 1): 100}


def test_rawprotos_records_are_read_to_the_nanosecond() -> None:
    reply = {
        "type": "reply",
        "identifier": 7,
        "sequence_number": 1,
        "rtt_ms": 0.023481,
        "queued_ms": 0.00376,
        "duplicate": False,
    }
    records = [
        reply,
        {**reply, "rtt_ms": 9.0, "duplicate": True},
        {**reply, "sequence_number": 2, "queued_ms": None},
        {"type": "lost", "sequence_number": 3, "rtt_ms": None},
        {"type": "summary", "sent": 3},
    ]
    assert read_rawproto(map(json.dumps, records)) == {
        (7, 1): Measured(rtt_ns=23_481, queued_ns=3_760),
        (7, 2): Measured(rtt_ns=23_481),
    }


def test_iputils_lines_are_read_whatever_their_digits() -> None:
    lines = [
        "PING 10.99.1.2 (10.99.1.2) 56(84) bytes of data.",
        "64 bytes from 10.99.1.2: icmp_seq=1 ttl=64 time=0.078 ms",
        "64 bytes from 10.99.1.2: icmp_seq=1 ttl=64 time=0.090 ms (DUP!)",
        "64 bytes from 10.99.1.2: icmp_seq=2 ttl=64 time=12 ms",
        "From 10.99.1.1 icmp_seq=3 Destination Host Unreachable",
        "rtt min/avg/max/mdev = 0.056/0.077/0.099/0.021 ms",
    ]
    assert read_iputils(lines, 5) == {
        (5, 1): Measured(rtt_ns=78_000),
        (5, 2): Measured(rtt_ns=12_000_000),
    }


def test_error_has_no_sign_and_needs_a_truth() -> None:
    measured = {
        (7, 1): Measured(rtt_ns=90),
        (7, 2): Measured(rtt_ns=130),
        (7, 3): Measured(rtt_ns=1),
    }
    assert errors_ns(measured, {(7, 1): 100, (7, 2): 100}) == [10, 30]


@pytest.mark.parametrize(
    ("truth", "queued_ns", "inside"),
    [(100, 20, True), (120, 20, True), (99, 20, False), (121, 20, False), (100, None, False)],
)
def test_truth_is_bracketed_from_rtt_to_rtt_and_queued(
    truth: int, queued_ns: int | None, inside: bool
) -> None:
    measured = {(7, 1): Measured(rtt_ns=100, queued_ns=queued_ns)}
    assert bracketed(measured, {(7, 1): truth}) == inside


def test_share_bracketed_is_of_those_with_a_truth() -> None:
    measured = {(7, at): Measured(rtt_ns=100, queued_ns=10) for at in range(5)}
    assert bracketed(measured, {(7, 0): 105, (7, 1): 105, (7, 2): 105, (7, 3): 90}) == 0.75
    assert bracketed(measured, {}) == 0
