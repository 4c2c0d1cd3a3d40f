"""ping's text, against the lines that eyes and scripts know from iputils."""

from __future__ import annotations

import dataclasses
import errno
import io
import re

import pytest
from scapy.layers.inet import ICMP

from rawproto.cli import ping_text
from rawproto.cli.ping_text import TextReport
from rawproto.drivers.names import NameFinder
from rawproto.errors import LinkError
from rawproto.machine import Transmit
from rawproto.probe.ping_events import PingTarget
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv4_options import RecordRoute, Timestamp
from tests.cli.reporting import report_of
from tests.probe.exchange import (
    H2,
    H2_V6,
    H3,
    MS,
    PAYLOAD,
    S,
    answering,
    error_about,
    ping,
    reply_to,
)
from tests.probe.virtual import Answer, VirtualNetwork

LINK_LOCAL = PingTarget(
    name="fe80::2%eth0", dst_addr="fe80::2", src_addr="fe80::1", scope="eth0", interface=3
)


def text_of(network: VirtualNetwork, **options) -> str:
    return report_of(network, TextReport, **options)


def lines_of(network: VirtualNetwork, **options) -> list[str]:
    """The lines between the first one and the summary."""
    return text_of(network, **options).split("\n\n---")[0].splitlines()[1:]


def silent(transmit: Transmit, now_ns: int) -> list[Answer]:
    return []


def test_a_plain_ping_reads_as_iputils_writes_it() -> None:
    network = VirtualNetwork(ping(), answering(lambda number: number * 100_000), queued_ns=5_000)
    assert text_of(network) == (
        "PING h2 (10.0.0.2) 56(84) bytes of data.\n"
        "64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.095 ms\n"
        "64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=0.195 ms\n"
        "64 bytes from 10.0.0.2: icmp_seq=3 ttl=64 time=0.295 ms\n"
        "\n"
        "--- h2 ping statistics ---\n"
        "3 packets transmitted, 3 received, 0% packet loss, time 2000ms\n"
        "rtt p50/p95/p99/jitter = 0.195/0.295/0.295/0.012 ms\n"
        "queued in this host avg/max = 0.005/0.005 ms\n"
        "rtt min/avg/max/mdev = 0.095/0.195/0.295/0.082 ms\n"
    )


def test_scripts_find_their_numbers_by_the_expressions_that_they_use() -> None:
    text = text_of(VirtualNetwork(ping(), answering(MS, lost=[3])))
    loss = re.search(r"(\d+) packets transmitted, (\d+) received, ([\d.]+)% packet loss", text)
    assert loss
    assert loss.groups() == ("3", "2", "33.3333")
    rtt = re.search(r"min/avg/max/mdev = ([\d.]+)/([\d.]+)/([\d.]+)/([\d.]+) ms", text)
    assert rtt
    assert rtt.groups() == ("1.000", "1.000", "1.000", "0.000")
    assert re.findall(r"time=([\d.]+) ms", text) == ["1.000", "1.000"]


@pytest.mark.parametrize(
    ("target", "via", "line"),
    [
        (H2, None, "PING h2 (10.0.0.2) 56(84) bytes of data."),
        (H2, "eth0", "PING h2 (10.0.0.2) from 10.0.0.1 eth0: 56(84) bytes of data."),
        (H2, "", "PING h2 (10.0.0.2) from 10.0.0.1 : 56(84) bytes of data."),
        (H2_V6, None, "PING h2 (fd00::2) 56 data bytes"),
        (H2_V6, "eth0", "PING h2 (fd00::2) from fd00::1 eth0: 56 data bytes"),
        (LINK_LOCAL, None, "PING fe80::2%eth0 (fe80::2%eth0) 56 data bytes"),
    ],
)
def test_first_line_says_what_is_sent_from_where(
    target: PingTarget, via: str | None, line: str
) -> None:
    text = text_of(VirtualNetwork(ping(target, count=1), answering(MS)), via=via)
    assert text.splitlines()[0] == line


def test_first_line_counts_the_options_of_the_header() -> None:
    for options, size in (((RecordRoute(),), 124), ((Timestamp(entries=((None, 0),) * 4),), 104)):
        text = text_of(VirtualNetwork(ping(count=1, options=options), silent))
        assert f" 56({size}) bytes of data." in text


def test_first_line_tells_the_flow_label_as_iputils_does() -> None:
    text = text_of(VirtualNetwork(ping(H2_V6, count=1, flow_label=0x2A), silent), via="eth0")
    assert text.startswith("PING h2 (fd00::2) , flow 0x0002a, from fd00::1 eth0: 56 data bytes\n")


def test_a_pattern_is_told_before_all_else() -> None:
    network = VirtualNetwork(ping(H2, H3, count=1), silent)
    first, second = text_of(network, pattern=b"\xab\x0c").splitlines()[:2]
    assert (first, second[:5]) == ("PATTERN: 0xab0c", "PING ")
    assert "PATTERN" not in text_of(network, pattern=b"\xab\x0c", quiet=True)


def test_audible_replies_ring_the_bell() -> None:
    lines = lines_of(VirtualNetwork(ping(count=2), answering(MS, lost=[1])), audible=True)
    assert lines == ["64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=1.000 ms\a"]


def test_replies_from_link_local_addresses_show_their_scope() -> None:
    lines = lines_of(VirtualNetwork(ping(LINK_LOCAL, count=1), answering(MS)))
    assert lines[0].startswith("64 bytes from fe80::2%eth0: icmp_seq=1 ")


def test_several_targets_have_a_first_line_and_a_summary_each() -> None:
    text = text_of(VirtualNetwork(ping(H2, H3, H2_V6, count=1), answering(MS)))
    assert [line.split(" ")[1] for line in text.splitlines()[:3]] == ["h2", "h3", "h2"]
    assert text.count("icmp_seq=1 ttl=64") == 3
    assert re.findall(r"--- (\w+) ping statistics ---", text) == ["h2", "h3", "h2"]
    assert text.count("1 packets transmitted, 1 received, 0% packet loss") == 3


def test_without_any_answer_there_are_no_times_to_tell() -> None:
    assert text_of(VirtualNetwork(ping(timeout_ns=S), silent)) == (
        "PING h2 (10.0.0.2) 56(84) bytes of data.\n"
        "\n--- h2 ping statistics ---\n"
        "3 packets transmitted, 0 received, 100% packet loss, time 2000ms\n"
    )


def test_duplicate_late_and_overtaken_replies_are_marked_and_counted() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        if now_ns == 0:  # comes when it has been given up, and the second answered
            return [(1500 * MS, reply_to(transmit))]
        return [(MS, reply_to(transmit)), (2 * MS, reply_to(transmit))]

    text = text_of(VirtualNetwork(ping(count=3, timeout_ns=500 * MS), answer))
    assert text.splitlines()[1:6] == [
        "64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=1.000 ms",
        "64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=2.000 ms (DUP!)",
        "64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=1500.000 ms (LATE!)",
        "64 bytes from 10.0.0.2: icmp_seq=3 ttl=64 time=1.000 ms",
        "",
    ]
    assert "3 packets transmitted, 3 received, +1 duplicates, +1 late, +1 reordered, 0%" in text


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (PAYLOAD[:10] + b"\xab" + PAYLOAD[11:], "wrong data byte #10 should be 0xa but was 0xab"),
        (PAYLOAD[:20], "(truncated)"),
        (PAYLOAD + b"more", "(4 bytes too many)"),
    ],
)
def test_payload_that_came_back_changed_is_told_where(payload: bytes, told: str) -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [(MS, reply_to(transmit, payload=payload))]

    text = text_of(VirtualNetwork(ping(count=1), answer))
    assert told in text
    assert "1 received, +1 corrupted, 0% packet loss" in text


def test_reply_with_a_bad_checksum_is_told_and_no_answer() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        reply = reply_to(transmit)
        wrong = bytes(ICMP(reply.data[:2] + b"\0\1" + reply.data[4:]))
        return [(MS, dataclasses.replace(reply, data=wrong))]

    text = text_of(VirtualNetwork(ping(count=1, timeout_ns=S), answer))
    assert "time=1.000 ms (BAD CHECKSUM!)\n" in text
    assert "0 received, +1 corrupted, 100% packet loss" in text


def test_icmp_errors_are_told_in_words_with_who_says_so() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [(MS, error_about(transmit, "10.9.9.9", 11, 0))]

    text = text_of(VirtualNetwork(ping(count=2), answer))
    assert "From 10.9.9.9 icmp_seq=2 Time to live exceeded\n" in text
    assert "2 packets transmitted, 0 received, +2 errors, 100% packet loss" in text


def test_what_this_host_refuses_is_told_as_a_local_error() -> None:
    def refuse(transmit: Transmit, now_ns: int) -> OSError:
        return LinkError("send to", "10.0.0.2", errno.ENETUNREACH)

    network = VirtualNetwork(ping(count=1), silent, refuse=refuse)
    assert lines_of(network) == [
        "rawproto ping: h2: icmp_seq=1 local error: Network is unreachable"
    ]


def test_unanswered_probes_are_told_of_where_that_is_wanted() -> None:
    network = VirtualNetwork(ping(report_outstanding=True), answering(MS, lost=[2]))
    assert lines_of(network)[1] == "no answer yet for icmp_seq=2"
    both = VirtualNetwork(ping(H2, H3, report_outstanding=True), answering(MS, lost=[2]))
    assert "no answer yet for h3 icmp_seq=2" in lines_of(both)


def test_quiet_leaves_the_first_line_and_the_summary() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [(MS, error_about(transmit, "10.9.9.9", 11, 0))]

    network = VirtualNetwork(ping(count=3, report_outstanding=True), answer)
    assert lines_of(network, quiet=True) == []


def test_dates_stand_before_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping_text.time, "time", lambda: 1700000000.25)

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        if now_ns == S:
            return []
        return [(MS, reply_to(transmit) if not now_ns else error_about(transmit, "10.9.9.9", 3, 1))]

    network = VirtualNetwork(ping(count=3, report_outstanding=True), answer)
    lines = lines_of(network, dates=True)
    assert len(lines) == 3
    assert all(line.startswith("[1700000000.250000] ") for line in lines)


def test_verbose_tells_how_long_each_probe_waited_here() -> None:
    network = VirtualNetwork(ping(count=1), answering(MS), queued_ns=7_000)
    assert lines_of(network, verbose=True)[0].endswith("time=0.993 ms queued=0.007 ms")


def test_flood_shows_a_dot_for_each_probe_that_is_still_unanswered() -> None:
    machine = ping(count=3, flood=True, interval_ns=0, timeout_ns=S)
    text = text_of(VirtualNetwork(machine, answering(MS, lost=[2])), dots=True)
    assert text.split("\n")[1] == ".\b \b..\b \b"
    assert ", ipg/ewma 5.500/1.000 ms\n" in text


def test_flood_shows_an_error_in_place_of_its_dot() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [(MS, error_about(transmit, "10.9.9.9", 11, 0))]

    text = text_of(VirtualNetwork(ping(count=2, flood=True), answer), dots=True)
    assert text.split("\n")[1] == ".\bE.\bE"


def answer_with_options(*options) -> list[Answer]:
    """A host whose reply carries IP options, the n-th of `options` for probe n."""

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        header = IPv4Header(options=options[now_ns // S], src_addr="10.0.0.2", dst_addr="10.0.0.1")
        return [(MS, reply_to(transmit, header=header.emit()))]

    return answer


def test_recorded_route_is_told_once_and_then_called_the_same() -> None:
    way = RecordRoute(addresses=("10.0.0.1", "10.0.0.2", "10.0.0.1"), pointer=16)
    other = RecordRoute(addresses=("10.0.0.1", "10.0.0.9", "0.0.0.0"), pointer=12)
    network = VirtualNetwork(ping(), answer_with_options((way,), (way,), (other,)))
    assert lines_of(network) == [
        "64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=1.000 ms",
        "RR: \t10.0.0.1",
        "\t10.0.0.2",
        "\t10.0.0.1",
        "64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=1.000 ms\t(same route)",
        "64 bytes from 10.0.0.2: icmp_seq=3 ttl=64 time=1.000 ms",
        "RR: \t10.0.0.1",
        "\t10.0.0.9",
    ]


def test_recorded_timestamps_are_told_as_differences() -> None:
    stamps = Timestamp(
        flag=1,
        entries=(("10.0.0.1", 5000), ("10.0.0.2", 5007), ("10.0.0.2", 0x80000005)),
        pointer=29,
        overflow=2,
    )
    network = VirtualNetwork(ping(count=1), answer_with_options((stamps,)))
    assert lines_of(network)[1:] == [
        "TS: \t10.0.0.1\t5000 absolute",
        "\t10.0.0.2\t7",
        "\t10.0.0.2\t-5002 not-standard",
        "Unrecorded hops: 2",
    ]


def test_names_stand_before_addresses_where_there_are_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"10.0.0.2": "h2.example"}
    monkeypatch.setattr(NameFinder, "name_of", lambda self, address, wait_s=0: known.get(address))

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [
            (MS, error_about(transmit, "10.9.9.9", 5, 1, gw="10.0.0.8")),
            (2 * MS, reply_to(transmit)),
        ]

    assert lines_of(VirtualNetwork(ping(count=1), answer), numeric=False) == [
        "From 10.9.9.9 icmp_seq=1 Redirect Host(New nexthop: 10.0.0.8)",
        "64 bytes from h2.example (10.0.0.2): icmp_seq=1 ttl=64 time=2.000 ms",
    ]
    # Too fast for names to be waited for, but they were asked for before the first probe.
    hurried = lines_of(VirtualNetwork(ping(count=1, interval_ns=MS), answering(MS)), numeric=False)
    assert hurried == [
        "64 bytes from h2.example (10.0.0.2): icmp_seq=1 ttl=64 time=1.000 ms",
    ]
    numeric = lines_of(VirtualNetwork(ping(count=1), answering(MS)))
    assert numeric == ["64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=1.000 ms"]


def test_status_line_tells_where_every_target_stands() -> None:
    machine = ping(H2)
    report, told = TextReport(io.StringIO(), machine), io.StringIO()
    report.status(told)
    VirtualNetwork(machine, answering(MS, lost=[3])).run()
    report.status(told)
    assert told.getvalue() == (
        "0/0 packets, 0% loss\n"
        "2/3 packets, 33% loss, min/avg/ewma/max = 1.000/1.000/1.000/1.000 ms\n"
    )
    machine, told = ping(H2, H3), io.StringIO()
    TextReport(io.StringIO(), machine).status(told)
    assert told.getvalue() == "h2: 0/0 packets, 0% loss\nh3: 0/0 packets, 0% loss\n"


def test_what_this_host_dropped_is_told_apart_from_loss() -> None:
    text = text_of(VirtualNetwork(ping(count=1), answering(MS)), dropped=4)
    assert text.endswith("4 packets dropped by this host, unread\n")
