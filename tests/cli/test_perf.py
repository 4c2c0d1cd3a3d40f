"""What `rawproto perf` understands and prints."""

from __future__ import annotations

import argparse

import pytest

from rawproto.apps.perf import Interval, Plan
from rawproto.cli.main import main
from rawproto.cli.perf_text import interval_line, served_line, summary_lines
from rawproto.cli.sizes import size_of

SUMMARY = {
    "goodput_bps": 838_860_800,
    "duration_s": 10.0,
    "bytes": 1 << 30,
    "packets_received": 741_000,
    "receiver_cpu_us_per_packet": 8.04,
    "packets_sent": 742_000,
    "packets_lost": 3,
    "retransmitted": 2,
    "rtt_ms": 4.25,
    "min_rtt_ms": 0.5,
    "cpu_us_per_packet": 9.96,
    "mtu": 1500,
}


@pytest.mark.parametrize(
    ("text", "size"), [("1500", 1500), ("100k", 100_000), ("1M", 10**6), ("2.5G", 2_500_000_000)]
)
def test_sizes_are_read_with_units(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1x", "1e9", "M", "0.1", "٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no size"):
        size_of(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--latency", "--reverse"], "latency is measured over one stream"),
        (["--streams", "0"], "streams: 0 is not between 1 and 100"),
        (["--time=-1"], "seconds: -1.0 is not between"),
        (["--time=nan"], "seconds: nan is not between"),
        (["--time=0"], "neither bytes nor seconds"),
        (["--messages", "1G"], "a message's bytes"),
        (["--bytes", "many"], "no size"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["perf", "run", "rpt://10.0.0.2:4000", *words])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_text_reads_as_that_of_iperf3() -> None:
    assert summary_lines(Plan(total_bytes=1), SUMMARY).splitlines() == [
        "- - - - - - - - - - - - - - - - - - - - - - - - - - - - -",
        "0.00-10.00 sec     1.00 GBytes   859 Mbits/sec      3   4.250 ms  received",
        "742000 packets sent, 3 lost, 2 retransmitted; RTT 0.500 ms at least",
        "CPU per packet: sender 10.0 us, receiver 8.0 us; MTU 1500",
    ]
    interval = Interval(start_s=1, end_s=2, size=112_000_000, lost=0, rtt_ms=4.2)
    assert interval_line(interval) == (
        "1.00-2.00 sec       107 MBytes   896 Mbits/sec      0   4.200 ms\n"
    )
    assert served_line("10.0.0.1:5", SUMMARY).endswith("859 Mbits/sec  received\n")


def test_latency_is_told_by_its_shares() -> None:
    latency = {"min": 0.5, "p50": 0.6, "p90": 0.7, "p99": 0.9, "max": 4.3}
    summary = {**SUMMARY, "requests": 30_000, "latency_ms": latency}
    lines = summary_lines(Plan(total_bytes=1, latency=True), summary).splitlines()
    assert lines[0] == "30000 requests in 10.00 s, 3000 a second"
    assert lines[1] == "latency min/p50/p90/p99/max = 0.500/0.600/0.700/0.900/4.300 ms"
