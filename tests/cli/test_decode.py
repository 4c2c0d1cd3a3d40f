"""`rawproto decode FILE...`: which packets come, in what order, and what is said of bad files."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawproto import CapturedPacket, write
from tests.cli.decoding import CAPTURES, SECOND, START_NS, Decoder, datagram


@pytest.fixture
def decode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Decoder:
    return Decoder(tmp_path, capsys)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


LINE = "IP 192.0.2.1.1024 > 192.0.2.2.9: UDP, length 4"


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize(
    ("option", "first", "second"),
    [
        ("-n", "00:00:00.000000000 ", "00:00:01.500000001 "),
        ("-t", "", ""),
        ("-tt", "1704067200.000000000 ", "1704067201.500000001 "),
        ("-ttt", " 00:00:00.000000000 ", " 00:00:01.500000001 "),
        ("-tttt", "2024-01-01 00:00:00.000000000 ", "2024-01-01 00:00:01.500000001 "),
        ("-ttttt", " 00:00:00.000000000 ", " 00:00:01.500000001 "),
    ],
)
def test_the_time_stands_in_tcpdumps_five_forms(
    decode: Decoder, option: str, first: str, second: str
) -> None:
    data = bytes(datagram())
    path = decode.file(
        CapturedPacket(time_ns=START_NS + gap_ns, data=data) for gap_ns in (0, SECOND * 3 // 2 + 1)
    )
    assert decode(option, path).lines == [first + LINE, second + LINE]


def test_since_the_packet_before_and_since_the_first_are_two_things(decode: Decoder) -> None:
    data = bytes(datagram())
    path = decode.file(
        CapturedPacket(time_ns=START_NS + at * SECOND, data=data) for at in (0, 10, 3700, 3690)
    )
    before = [line.split(" IP")[0] for line in decode("-ttt", path).lines]
    assert [each[:9] for each in before] == [" 00:00:00", " 00:00:10", " 01:01:30", "-00:00:10"]
    first = [line.split(" IP")[0] for line in decode("-ttttt", path).lines]
    assert [each[:9] for each in first] == [" 00:00:00", " 00:00:10", " 01:01:40", " 01:01:30"]


@pytest.mark.usefixtures("utc")
def test_a_file_of_microseconds_shows_six_digits(decode: Decoder) -> None:
    assert decode("-c1", CAPTURES / "udp.pcap").out.startswith("00:00:00.000000 IP ")


def test_a_time_beyond_all_calendars_is_a_number(decode: Decoder) -> None:
    packet = CapturedPacket(time_ns=(1 << 64) - 1, data=bytes(datagram()))
    path = decode.file([packet], "trace.pcapng")
    path.write_bytes(path.read_bytes().replace(b"\x09\x00\x01\x00\x09", b"\x09\x00\x01\x00\x00"))
    assert decode("-tttt", path).out == f"{(1 << 64) - 1}.000000 {LINE}\n"


def test_packets_are_numbered_within_their_file_and_counted_over_all(decode: Decoder) -> None:
    paths = [decode.file([datagram()] * 2, f"{name}.pcap") for name in "ab"]
    run = decode("-#", "-t", "-c", "3", *paths)
    assert run.lines == [
        f"==> {paths[0]} <==",
        f"    1  {LINE}",
        f"    2  {LINE}",
        "",
        f"==> {paths[1]} <==",
        f"    1  {LINE}",
    ]


def test_what_is_read_of_a_damaged_file_is_shown_before_the_damage_is_told(
    decode: Decoder, tmp_path: Path
) -> None:
    path = decode.file([datagram()] * 3)
    path.write_bytes(path.read_bytes()[:-10])
    whole = decode.file([datagram(b"next")], "next.pcap")
    run = decode("-t", path, tmp_path / "missing.pcap", "/dev/null", whole)
    assert run.code == 2
    assert run.lines == [f"==> {path} <==", LINE, LINE, "", f"==> {whole} <==", LINE]
    told = run.err.splitlines()
    assert told[0] == (
        f"rawproto decode: {path}: pcap at byte 148: truncated: 62 bytes needed, 52 there "
        "(2 packets read)"
    )
    assert told[1] == f"rawproto decode: {tmp_path / 'missing.pcap'}: No such file or directory"
    assert told[2].startswith("rawproto decode: /dev/null: not a capture file: it is empty")
    assert len(told) == 3


@pytest.mark.parametrize(
    ("words", "filtered"),
    [
        (["-r"], []),
        (["-nr"], ["udp", "port", "9"]),
        (["-nnr"], ["udp port 9"]),
        (["--filter", "udp port 9", "-r"], []),
    ],
)
def test_tcpdumps_words_do(decode: Decoder, words: list[str], filtered: list[str]) -> None:
    path = decode.file([datagram(), datagram(b"name", dst_port=99)])
    run = decode("-t", *words, path, *filtered)
    assert run.code == 0
    assert run.lines == [LINE, LINE.replace(".9:", ".99:")][: 1 if len(words + filtered) > 1 else 2]


@pytest.mark.parametrize("whole", [True, False])
def test_a_filter_in_the_place_of_a_file_is_told_before_anything_is_shown(
    decode: Decoder, whole: bool
) -> None:
    path = decode.file([datagram()])
    run = decode("-n", path, *(["tcp port 80"] if whole else ["tcp", "port", "80"]))
    assert (run.code, run.out) == (2, "")
    assert run.err.endswith("no such file; a filter is given as --filter 'tcp port 80'\n")
    assert run.err.count("\n") == 1


def test_no_file_at_all_is_told(decode: Decoder) -> None:
    assert decode("-n").err == "rawproto decode: needs a FILE to read; - is standard input\n"


def test_mac_addresses_stand_in_front_as_tcpdump_has_them(decode: Decoder) -> None:
    bare = CapturedPacket(time_ns=START_NS, data=bytes(datagram())[14:], link_type=101)
    path = decode.file([datagram(), bare], "mixed.pcapng")
    front = "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 46: "
    assert decode("-te", path).lines == [front + LINE, LINE]


def test_a_directory_is_told_in_one_line(decode: Decoder, tmp_path: Path) -> None:
    run = decode(tmp_path)
    assert (run.code, run.out) == (2, "")
    assert run.err == f"rawproto decode: {tmp_path}: Is a directory\n"


@pytest.mark.parametrize("words", [["-c", "0"], ["-tttttt"]])
def test_options_that_make_no_sense_are_refused(decode: Decoder, words: list[str]) -> None:
    run = decode(*words, CAPTURES / "udp.pcap")
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)


def test_gzip_is_read_as_it_is(decode: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "trace.pcap.gz"
    path.write_bytes(gzip.compress(decode.file([datagram()]).read_bytes()))
    assert decode("-t", path).lines == [LINE]


def test_every_golden_capture_is_read_to_its_end(decode: Decoder) -> None:
    for path in sorted(CAPTURES.glob("*.pcap")):
        for options in ([], ["-v", "-x", "--diagram"], ["--json"]):
            run = decode(*options, path)
            assert (run.code, run.err) == (0, ""), path
            assert run.out.isascii(), path


def test_a_pipe_is_decoded_while_it_fills() -> None:
    """The first packet's line comes while the pipe is still open."""
    file = io.BytesIO()
    write(file, [CapturedPacket(time_ns=0, data=bytes(datagram()))] * 2, format="pcap")
    data = file.getvalue()
    half = (len(data) - 24) // 2 + 24
    command = [sys.executable, "-m", "rawproto.cli.main", "decode", "-t", "-l", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(data[:half])
        process.stdin.flush()
        assert process.stdout.readline().decode() == LINE + "\n"
        process.stdin.write(data[half:])
        process.stdin.close()
        assert process.stdout.read().decode() == LINE + "\n"
    assert process.returncode == 0


def test_a_terminal_is_no_capture(decode: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    run = decode("-")
    assert (run.code, run.out) == (2, "")
    assert run.err == "rawproto decode: -: standard input is a terminal, no capture\n"


def test_a_bad_filter_is_refused_before_a_file_is_opened(decode: Decoder, tmp_path: Path) -> None:
    run = decode("--filter", "nonsense nowhere", tmp_path / "missing.pcap")
    assert run.code == 2
    assert "missing.pcap" not in run.err


def test_a_filter_goes_by_each_packets_link_type(decode: Decoder) -> None:
    """The same datagrams, as frames and as bare IP, in one file."""
    packets = [
        CapturedPacket(time_ns=START_NS, data=bytes(packet)[cut:], link_type=link_type)
        for packet in (datagram(dst_port=9), datagram(dst_port=53, payload=b""))
        for link_type, cut in ((1, 0), (101, 14))
    ]
    path = decode.file(packets, "mixed.pcapng")
    assert decode("-t", "-#", "--filter", "udp port 9", path).lines == [
        f"    1  {LINE}",
        f"    2  {LINE}",
    ]
    assert len(decode("--filter", "not udp port 9", path).lines) == 2


def test_a_filter_knows_how_long_a_packet_was_that_is_not_all_there(decode: Decoder) -> None:
    cut = CapturedPacket(time_ns=START_NS, data=bytes(datagram()), original_length=1500)
    path = decode.file([datagram(), cut])
    assert len(decode("--filter", "greater 1500", path).lines) == 1
    assert len(decode("--filter", "less 1499", path).lines) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--as", "hex"),
        ("--side", "client"),
        ("--top", "3"),
        ("--follow", "tcp:0", "--top", "3"),
        ("--stats", "--side", "client"),
        ("--stats", "-x"),
        ("--follow", "list", "--diagram"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    words: tuple[str, ...], decode: Decoder
) -> None:
    run = decode(*words, CAPTURES / "tcp.pcap")
    assert (run.code, run.out) == (2, "")
    (line,) = run.err.splitlines()
    assert line.startswith(f"rawproto decode: {next(w for w in words[::-1] if w[0] == '-')}")
