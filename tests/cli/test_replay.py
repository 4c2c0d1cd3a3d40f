"""What `rawproto replay` says where nothing needs to be sent for it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from rawproto.capture import CapturedPacket, read, write
from rawproto.cli.main import main
from rawproto.cli.replay_text import record, text
from rawproto.drivers.replay import ReplayResult

CAPTURES = Path(__file__).parents[2] / "captures"
TCP = str(CAPTURES / "tcp.pcap")


def test_dry_run_shows_each_packet_and_when_it_would_go(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--dry-run", "--speed", "2", TCP]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].startswith("   0.000500000 IP 198.51.100.2.80 > 192.0.2.1.40000: ")
    assert len(out.splitlines()) == 8
    assert err.startswith("8 packets would be sent, ")


def test_dry_run_shows_what_was_rewritten_in_the_form_of_decode(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--rewrite", "192.0.2.0/24=10.0.0.0/24", "--port", "80=8080", "-c", "2", "--json"]
    assert main(["replay", "--dry-run", "-i", "any name", *options, TCP]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["type"] for each in records] == ["packet", "packet", "summary"]
    _, ipv4, tcp = records[0]["layers"]
    assert (ipv4["src_addr"], ipv4["checksum_valid"]) == ("10.0.0.1", True)
    assert (tcp["dst_port"], tcp["checksum_valid"]) == (8080, True)
    assert [each["due_ms"] for each in records[:2]] == [0.0, 1.0]
    assert records[2]["packets"] == 2


def test_filter_says_which_packets_go(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--dry-run", "--filter", "src port 80", TCP]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(".80 > " in line for line in lines)


def test_written_file_begins_where_the_capture_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.pcapng"
    assert main(["replay", "--rate", "10", "-w", str(out), TCP]) == 0
    assert capsys.readouterr().err.startswith(f"8 packets written to {out}, ")
    before, after = list(read(TCP)), list(read(out))
    assert [packet.data for packet in after] == [packet.data for packet in before]
    assert [packet.time_ns - before[0].time_ns for packet in after] == [
        number * 10**8 for number in range(8)
    ]


@pytest.mark.parametrize("how", ["name", "symbolic link", "hard link", "standard input"])
def test_a_capture_is_never_written_over_itself(
    how: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = Path(TCP).read_bytes()
    source = target = tmp_path / "web.pcap"
    source.write_bytes(before)
    if how in ("symbolic link", "hard link"):
        target = tmp_path / "other.pcap"
        (target.symlink_to if "symbolic" in how else target.hardlink_to)(source)
    with source.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        name = "-" if how == "standard input" else str(source)
        assert main(["replay", "-w", str(target), name]) == 2
    assert "is the capture that is read" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_standard_input_is_read_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (CAPTURES / "udp.pcap").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["replay", "--dry-run", "-"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert main(["replay", "--dry-run", "--loop", "2", "-"]) == 2


def test_frames_without_ip_are_counted_where_no_interface_takes_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["replay", "--dry-run", str(CAPTURES / "arp.pcap")]) == 1
    assert "4 packets not sent: no IP, and no interface" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--loop", "0"], "needs a limit"),
        (["--loop", "-1"], "must be 0 or more"),
        (["-c", "0"], "must be 1 or more"),
        (["--speed", "0"], "must be more than 0"),
        (["--bits", "fast"], "must be a number"),
        (["--duration", "-1"], "must be 0 or more seconds"),
        (["--rewrite", "10.0.0.1"], "must be ADDRESS=ADDRESS"),
        (["--filter", "prot 80"], "^~~~"),
        (["-w", "out.txt"], "-w out.txt: name it .pcap or .pcapng\n"),
        (["-i", "no-such-if"], "no-such-if"),
    ],
)
def test_bad_input_is_told_before_anything_is_sent(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *arguments, TCP]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rawproto replay: ")
    assert words in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-x", "10"], "-x: here it is --speed X"),
        (["--topspeed"], "--topspeed: here it is --fast"),
        (["--pps=5"], "--pps: here it is --rate PPS"),
        (["-z", "10"], "unknown option: -z"),
        (["-c", "x"], "-c x: must be a whole number"),
        (["--speed", "x"], "--speed x: must be a number"),
    ],
)
def test_options_that_are_none_are_told_in_ones_own_words(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["replay", "--dry-run", *words, TCP])
    error = f"rawproto replay: {told} (see rawproto replay --help)\n"
    assert capsys.readouterr() == ("", error)


def test_damaged_file_ends_in_a_line_behind_what_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(Path(TCP).read_bytes()[:-5])
    assert main(["replay", "--dry-run", str(path)]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 7
    assert err.splitlines()[-1].startswith(f"rawproto replay: {path}: pcap at byte ")


@pytest.mark.parametrize(
    ("data", "why"), [(b"", "it is empty"), (b"# rawproto", "it begins with 23207261")]
)
def test_what_is_no_capture_is_named(
    data: bytes, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(data)
    assert main(["replay", "--dry-run", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"rawproto replay: {path}: ")
    assert err.endswith(f"not a capture file: {why}\n")
    assert err.count("\n") == 1


def test_nothing_is_written_where_nothing_can_be_read(tmp_path: Path) -> None:
    kept = tmp_path / "kept.pcap"
    kept.write_bytes(b"precious")
    assert main(["replay", "-w", str(kept), str(tmp_path / "missing.pcap")]) == 2
    assert kept.read_bytes() == b"precious"


def test_summary_of_a_moment_has_no_rate() -> None:
    result = ReplayResult(packets=1, bytes=60)
    assert text(result, verb="sent") == "1 packet sent, 60 bytes, in 0.000000 s\n"
    assert record(result)["packets_per_second"] is None


def test_summary_tells_lateness_and_what_was_not_sent() -> None:
    result = ReplayResult(
        packets=100, bytes=6000, duration_ns=10**9, refused={"too big": 2}, truncated=3
    )
    for late_ns in range(100):
        result.lateness.add((late_ns + 1) * 1000)
    assert text(result, verb="sent").splitlines() == [
        "100 packets sent, 6000 bytes, in 1.000000 s: 100 packets/s, 0.048 Mbit/s",
        "late by 0.050 ms (median), 0.099 ms (99 %), 0.100 ms (at most)",
        "3 of them as short as they were captured",
        "2 packets not sent: too big",
    ]


def test_each_link_type_gets_a_filter_of_its_own(tmp_path: Path) -> None:
    frames = [CapturedPacket(time_ns=0, data=packet.data) for packet in read(TCP)]
    raw = [CapturedPacket(time_ns=0, data=packet.data[14:], link_type=101) for packet in read(TCP)]
    path, out = tmp_path / "mixed.pcapng", tmp_path / "out.pcapng"
    write(path, frames + raw)
    assert main(["replay", "--filter", "dst port 80", "-w", str(out), str(path)]) == 0
    kinds = [packet.link_type for packet in read(out)]
    assert kinds.count(1) == kinds.count(101) > 0
