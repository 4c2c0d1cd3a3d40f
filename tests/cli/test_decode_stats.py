"""`rawproto decode --stats`: tables and records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rawproto.capture import CapturedPacket, write
from rawproto.cli.main import main
from rawproto.packets import conversations, statistics
from rawproto.wire.dissect import RAW
from rawproto.wire.icmp_echo import ICMPEcho
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.udp import UDPHeader

CAPTURES = Path(__file__).parents[2] / "captures"


def datagrams(path: Path, count: int) -> str:
    """Datagram i has i bytes and goes to port i."""
    write(
        path,
        (
            CapturedPacket(
                time_ns=10**18 + number * 10**6,
                link_type=RAW,
                data=(
                    IPv4Header(src_addr="10.0.0.1", dst_addr="10.0.0.2")
                    / UDPHeader(src_port=9, dst_port=number)
                    / bytes(number)
                ).emit(),
            )
            for number in range(1000, 1000 + count)
        ),
    )
    return str(path)


def decode(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["decode", "--stats", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_busiest_come_first_and_the_rest_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = datagrams(tmp_path / "many.pcap", 30)
    code, out, err = decode(capsys, "--top", "3", path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "30 packets, 31275 bytes (31275 captured), 0.029000 s; 0 fragments, 0 damaged or cut short"
    )
    at = lines.index("udp conversations")
    assert [line.split()[0] for line in lines[at + 2 : at + 5]] == ["udp:29", "udp:28", "udp:27"]
    assert lines[at + 5] == "... and 27 more; --top 30 or --json shows them"


def test_columns_line_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = decode(capsys, datagrams(tmp_path / "few.pcap", 5))
    table = out.split("ipv4 endpoints\n")[1].split("\n\n")[0].splitlines()
    assert len({len(line) for line in table}) == 1
    assert table[1].split() == ["10.0.0.1", "5", "5150", "0", "0"]


def test_pings_have_their_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = ("10.0.0.1", "10.0.0.2")
    packets = []
    for number, (request_ms, reply_ms) in enumerate(((0, 2), (10, 14), (20, None))):
        for ms, kind in ((request_ms, 8), (reply_ms, 0)):
            if ms is not None:
                src, dst = ends if kind else ends[::-1]
                echo = ICMPEcho(icmp_type=kind, identifier=7, sequence_number=number)
                data = (IPv4Header(src_addr=src, dst_addr=dst) / echo / b"x").emit()
                packets.append(CapturedPacket(time_ns=ms * 10**6, data=data, link_type=RAW))
    write(tmp_path / "ping.pcap", packets)
    path = str(tmp_path / "ping.pcap")
    row = decode(capsys, path)[1].splitlines()[-1].split()
    assert " ".join(row) == "10.0.0.1 > 10.0.0.2 7 3 2 0 2.000 3.000 4.000 1.000"
    records = [json.loads(line) for line in decode(capsys, "--json", path)[1].splitlines()]
    (ping,) = [each for each in records if each["type"] == "ping"]
    assert (ping["requests"], ping["replies"], ping["mean_ms"]) == (3, 2, 3.0)


def test_json_has_a_record_for_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, err = decode(capsys, "--json", str(CAPTURES / "tcp.pcap"))
    records = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert records[0]["type"] == "capture"
    assert records[0]["packets"] == 8
    paths = {each["path"]: each["packets"] for each in records if each["type"] == "protocol"}
    assert paths["ethernet/ipv4/tcp"] == 7
    assert paths["ethernet/ipv6/tcp"] == 1
    (first,) = [each for each in records if each.get("name") == "tcp:0"]
    assert (first["src_addr"], first["dst_port"]) == ("192.0.2.1", 80)
    assert first["tcp"]["from_src"]["data_bytes"] == 18
    ends = [each for each in records if each["type"] == "endpoint" and each["protocol"] == "tcp"]
    assert sum(each["sent"]["packets"] for each in ends) == 8


def test_an_empty_capture_has_no_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = datagrams(tmp_path / "none.pcap", 0)
    code, out, _ = decode(capsys, path)
    assert code == 0
    assert out.splitlines() == [
        "0 packets, 0 bytes (0 captured), 0.000000 s; 0 fragments, 0 damaged or cut short"
    ]


def test_a_full_table_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = statistics.Statistics(max_conversations=4)
    monkeypatch.setattr("rawproto.cli.decode_stats.Statistics", lambda: full)
    assert conversations.MAX_CONVERSATIONS > 4
    code, _, err = decode(capsys, datagrams(tmp_path / "many.pcap", 10))
    assert code == 0
    assert err == "rawproto decode: udp: the table is full, 6 packets are not in it\n"


def test_fragments_that_lie_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = decode(capsys, str(CAPTURES / "odd-fragments.pcap"))
    assert code == 0
    assert "no multiple of 8 bytes" in err


def test_no_rows_make_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = decode(capsys, "--top", "0", str(CAPTURES / "tcp.pcap"))
    assert (code, err) == (2, "rawproto decode: --top 0: must be 1 or more\n")


@pytest.mark.parametrize("lost", [5, 2000])
def test_fragments_without_end_are_told_in_a_few_lines(
    lost: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = (
        IPv4Header(src_addr="10.0.0.1", dst_addr="10.0.0.2", identification=number, flags=MF)
        / bytes(8)
        for number in range(lost)
    )
    packets = (CapturedPacket(time_ns=0, data=each.emit(), link_type=RAW) for each in pieces)
    write(tmp_path / "pieces.pcap", packets)
    code, _, err = decode(capsys, str(tmp_path / "pieces.pcap"))
    assert code == 0
    lines = err.splitlines()
    assert all("10.0.0.1 > 10.0.0.2: fragments are missing" in line for line in lines[:5])
    rest = (
        "rawproto decode: 1995 more fragmented packets were not put together "
        "(of all: 1024 timeout, 976 evicted)"
    )
    assert lines[5:] == ([] if lost == 5 else [rest])
