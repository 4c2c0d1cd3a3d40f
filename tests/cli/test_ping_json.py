"""ping's JSON Lines: the fields that the documentation promises, and nothing that is no JSON."""

from __future__ import annotations

import io
import json

import pytest

from rawproto.cli.ping_json import JSONReport
from rawproto.machine import Transmit
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv4_options import RecordRoute
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


def records_of(network: VirtualNetwork, **options) -> list[dict]:
    """But for the time of day, which is another at every run."""
    lines = report_of(network, JSONReport, **options).splitlines()
    records = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert all(isinstance(record.pop("time_ns"), int) for record in records)
    return records


def test_a_reply_and_its_summary_have_the_fields_promised() -> None:
    network = VirtualNetwork(ping(count=1), answering(2_000_123), queued_ns=5_000)
    reply, summary = records_of(network, dropped=3)
    assert list(reply)[:2] == ["type", "schema"]
    assert reply == {
        "type": "reply",
        "schema": 1,
        "target": "h2",
        "src_addr": "10.0.0.2",
        "sequence_number": 1,
        "identifier": 0x1234,
        "bytes": 64,
        "ttl": 64,
        "rtt_ms": 1.995123,
        "queued_ms": 0.005,
        "tx_stamp": "kernel",
        "rx_stamp": "kernel",
        "duplicate": False,
        "late": False,
        "reordered": False,
        "corrupted": False,
        "options": [],
    }
    assert summary == {
        "type": "summary",
        "schema": 1,
        "target": "h2",
        "dst_addr": "10.0.0.2",
        "sent": 1,
        "received": 1,
        "duplicates": 0,
        "late": 0,
        "reordered": 0,
        "corrupted": 0,
        "errors": 0,
        "dropped_by_host": 3,
        "loss_pct": 0.0,
        "duration_ms": 2.000123,
        "rtt_ms": dict.fromkeys(("min", "avg", "max", "mdev", "p50", "p95", "p99"), 1.995123)
        | {"mdev": 0.0},
        "jitter_ms": 0.0,
    }


def test_loss_is_null_and_without_replies_there_are_no_times() -> None:
    network = VirtualNetwork(ping(count=1, timeout_ns=S), lambda transmit, now_ns: [])
    lost, summary = records_of(network)
    assert lost == {
        "type": "lost",
        "schema": 1,
        "target": "h2",
        "sequence_number": 1,
        "rtt_ms": None,
    }
    assert (summary["loss_pct"], summary["rtt_ms"], summary["jitter_ms"]) == (100.0, None, None)


def test_an_error_has_its_numbers_beside_its_words() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [(MS, error_about(transmit, "10.9.9.9", 3, 4, nexthopmtu=1400))]

    error, summary = records_of(VirtualNetwork(ping(count=1, payload=bytes(1472)), answer))
    assert error == {
        "type": "error",
        "schema": 1,
        "target": "h2",
        "src_addr": "10.9.9.9",
        "sequence_number": 1,
        "icmp_type": 3,
        "code": 4,
        "message": "Frag needed and DF set (mtu = 1400)",
        "mtu": 1400,
    }
    assert summary["errors"] == 1


def test_this_hosts_own_refusal_comes_from_nobody() -> None:
    machine = ping(count=1, payload=bytes(3000), fragmentation="do")
    error = records_of(VirtualNetwork(machine, answering(MS)))[0]
    assert [error[name] for name in ("src_addr", "icmp_type", "code", "mtu")] == [
        None,
        None,
        None,
        1500,
    ]


def test_duplicate_late_reordered_and_corrupted_replies_are_flagged() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        if now_ns == 0:
            return [(1500 * MS, reply_to(transmit))]
        if now_ns == S:
            return [(MS, reply_to(transmit)), (2 * MS, reply_to(transmit))]
        return [(MS, reply_to(transmit, payload=PAYLOAD[:-1] + b"!"))]

    records = records_of(VirtualNetwork(ping(timeout_ns=500 * MS), answer))
    flags = ("duplicate", "late", "reordered", "corrupted")
    assert [
        (record["sequence_number"], [name for name in flags if record[name]])
        for record in records
        if record["type"] == "reply"
    ] == [(2, []), (2, ["duplicate"]), (1, ["late", "reordered"]), (3, ["corrupted"])]
    summary = records[-1]
    assert [summary[name] for name in ("duplicates", "late", "reordered", "corrupted")] == [1] * 4


def test_header_options_are_kinds_and_hexadecimal_values() -> None:
    header = IPv4Header(
        options=(RecordRoute(addresses=("10.0.0.1", "0.0.0.0"), pointer=8),),
        src_addr="10.0.0.2",
        dst_addr="10.0.0.1",
    ).emit()

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [(MS, reply_to(transmit, header=header))]

    reply = records_of(VirtualNetwork(ping(count=1), answer))[0]
    assert reply["options"][0] == {"kind": 7, "value": "080a00000100000000"}


def test_several_targets_of_both_families_have_a_summary_each() -> None:
    records = records_of(VirtualNetwork(ping(H2, H3, H2_V6, count=2), answering(MS, lost=[2])))
    summaries = [record for record in records if record["type"] == "summary"]
    assert [(one["target"], one["dst_addr"], one["loss_pct"]) for one in summaries] == [
        ("h2", "10.0.0.2", 50.0),
        ("h3", "10.0.0.3", 50.0),
        ("h2", "fd00::2", 50.0),
    ]


def test_unanswered_probes_are_told_of_where_that_is_wanted() -> None:
    network = VirtualNetwork(ping(count=2, report_outstanding=True), answering(MS, lost=[1]))
    assert records_of(network)[0] == {
        "type": "outstanding",
        "schema": 1,
        "target": "h2",
        "sequence_number": 1,
    }


def test_quiet_leaves_the_summaries() -> None:
    network = VirtualNetwork(ping(H2, H3), answering(MS, lost=[1]))
    assert [record["type"] for record in records_of(network, quiet=True)] == ["summary"] * 2


def test_status_is_a_summary_by_another_name() -> None:
    machine, told = ping(), io.StringIO()
    VirtualNetwork(machine, answering(MS)).run()
    JSONReport(io.StringIO(), machine).status(told)
    status = json.loads(told.getvalue())
    assert (status["type"], status["sent"], status["rtt_ms"]["p99"]) == ("status", 3, 1.0)


def test_every_record_tells_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies and errors that of their arrival, the others when they are told."""
    monkeypatch.setattr("time.monotonic_ns", lambda: 5 * S)
    monkeypatch.setattr("time.time_ns", lambda: 10**18 + 5 * S)

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        if now_ns == 0:
            return [(MS, reply_to(transmit))]
        return [(MS, error_about(transmit, "10.9.9.9", 3, 1))] if now_ns == S else []

    text = report_of(VirtualNetwork(ping(timeout_ns=S), answer), JSONReport)
    records = [json.loads(line) for line in text.splitlines()]
    assert [(record["type"], record["time_ns"] - 10**18) for record in records] == [
        ("reply", MS),
        ("error", S + MS),
        ("lost", 5 * S),
        ("summary", 5 * S),
    ]
