"""`rawproto decode --follow`: what a user sees, and what a stranger cannot make him see."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from rawproto.capture import CapturedPacket, write
from rawproto.cli.main import main
from rawproto.wire.dissect import RAW
from rawproto.wire.fragment import fragment_ipv4
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.tcp import ACK, FIN, SYN, TCPHeader
from rawproto.wire.udp import UDPHeader

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)


def tcp(side: int, number: int, data: bytes = b"", *, flags: int = ACK, ack: int = 0) -> bytes:
    """A segment; numbers count from behind the SYN."""
    (src, src_port), (dst, dst_port) = (CLIENT, SERVER) if not side else (SERVER, CLIENT)
    header = TCPHeader(
        src_port=src_port,
        dst_port=dst_port,
        sequence_number=1000 + number,
        acknowledgment_number=1000 + ack,
        flags=flags,
    )
    return (IPv4Header(src_addr=src, dst_addr=dst) / header / data).emit()


def udp(data: bytes, *, src_port: int = 5000, identification: int = 0) -> bytes:
    head = IPv4Header(src_addr="10.0.0.3", dst_addr="10.0.0.4", identification=identification)
    return (head / UDPHeader(src_port=src_port, dst_port=5001) / data).emit()


HANDSHAKE = (
    tcp(0, -1, flags=SYN),
    tcp(1, -1, flags=SYN | ACK),
    tcp(0, 0),
)
TALK = (
    *HANDSHAKE,
    tcp(0, 0, b"GET / HTTP/1.1\r\n\r\n"),
    tcp(1, 22, b"world\r\nand on", ack=18),
    udp(b"beside"),
    tcp(1, 16, b"hello ", ack=18),
    tcp(1, 0, b"HTTP/1.1 200 OK\n", ack=18),
    tcp(1, 33, b"on then", ack=18),
    tcp(1, 1500, b"more", ack=18, flags=ACK | FIN),
    tcp(0, 18, ack=1505, flags=ACK | FIN),
)

SAID = b"HTTP/1.1 200 OK\nhello world\r\nand on thenmore"
"""By the server, less what is missing."""


@pytest.fixture
def capture(tmp_path: Path) -> str:
    return save(tmp_path / "talk.pcap", *TALK)


def save(path: Path, *packets: bytes) -> str:
    write(
        path,
        (
            CapturedPacket(time_ns=10**18 + number * 1000, data=data, link_type=RAW)
            for number, data in enumerate(packets)
        ),
    )
    return str(path)


def decode(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["decode", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_conversation_is_told_in_order_with_its_gaps(
    capture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = decode(capsys, "--follow", "tcp:0", capture)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "tcp:0  10.0.0.1:40000 > 10.0.0.2:80",
        "> GET / HTTP/1.1",
        "> ",
        "< HTTP/1.1 200 OK",
        "< hello world",
        "< and on then",
        "[1460 bytes missing] <",
        "< more",
        "[> 18 bytes, FIN; < 44 bytes, 1460 missing, 2 sent again, FIN]",
    ]


def test_a_number_alone_is_tcps_and_a_filter_finds_its_conversation(
    capture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = decode(capsys, "--follow", "tcp:0", capture)
    assert decode(capsys, "--follow", "0", capture) == whole
    assert decode(capsys, "--follow", "host 10.0.0.2 and port 80", capture) == whole
    assert decode(capsys, "--follow", "udp", capture)[1] == (
        "udp:0  10.0.0.3:5000 > 10.0.0.4:5001\n> beside\n"
    )


def test_others_that_a_filter_matches_are_named(
    capture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, err = decode(capsys, "--follow", "net 10.0.0.0/24", capture)
    assert out.startswith("tcp:0")
    assert err == "rawproto decode: --follow net 10.0.0.0/24: tcp:0; udp:0 match too\n"


def test_the_list_has_the_names_to_follow_by(
    capture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = decode(capsys, "--follow", "list", capture)
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert rows[1][:3] == ["tcp:0", "10.0.0.1:40000", "10.0.0.2:80"]
    assert rows[2][:5] == ["udp:0", "10.0.0.3:5000", "10.0.0.4:5001", "1", "34"]
    _, out, _ = decode(capsys, "--json", "--follow", "list", capture)
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["tcp:0", "udp:0"]


def test_raw_is_one_sides_bytes_and_tells_apart_what_is_missing(
    capture: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["decode", "--follow", "0", "--as", "raw", "--side", "server", capture]) == 0
    assert out.buffer.getvalue() == SAID  # type: ignore[attr-defined]
    assert capsys.readouterr().err == "rawproto decode: tcp:0: 1460 bytes missing at byte 40\n"


def test_hexdumps_count_from_the_sides_first_byte(
    capture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = decode(capsys, "--follow", "0", "--as", "hex", "--side", "server", capture)
    lines = out.splitlines()
    assert lines[1].startswith("< 0x0000  48 54 54 50")
    assert lines[2].startswith("< 0x0010  68 65 6c 6c 6f 20")
    assert "[1460 bytes missing] <" in lines
    assert not [line for line in lines if line.startswith("> ")]


def test_json_has_every_byte_and_every_gap(
    capture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = decode(capsys, "--follow", "tcp:0", "--json", capture)
    records = [json.loads(line) for line in out.splitlines()]
    assert [records[0]["type"], records[-1]["type"]] == ["conversation", "end"]
    server = [each for each in records if each.get("side") == "server"]
    said = b"".join(bytes.fromhex(each.get("data", "")) for each in server)
    assert said == SAID
    (gap,) = [each for each in server if each["type"] == "gap"]
    assert (gap["offset"], gap["length"]) == (40, 1460)
    assert records[-1]["server"]["missing_bytes"] == 1460
    assert records[-1]["client"]["fin"] is True


def test_what_is_said_steers_no_terminal_and_forges_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = b"\x1b[2Jred\x07\xff \xe2\x80\xae tab\t\xc3\xa9\n[99 bytes missing] >\ncut \xc3"
    path = save(tmp_path / "evil.pcap", *HANDSHAKE, tcp(0, 0, said), tcp(1, 0, b"ok"))
    _, out, _ = decode(capsys, "--follow", "0", path)
    assert out.splitlines()[1:-1] == [
        "> \\x1b[2Jred\\x07\\xff \\xe2\\x80\\xae tab\t\u00e9",
        "> [99 bytes missing] >",
        "> cut \\xc3",
        "< ok",
    ]


def test_a_line_and_a_character_may_come_in_two_segments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halves = (tcp(0, 0, b"caf\xc3"), tcp(0, 4, b"\xa9\r"), tcp(0, 6, b"\nnext\r"))
    path = save(tmp_path / "halves.pcap", *HANDSHAKE, *halves)
    _, out, _ = decode(capsys, "--follow", "0", path)
    assert out.splitlines()[1:-1] == ["> caf\u00e9", "> next\\r"]


def test_datagrams_each_have_a_line_and_fragments_are_put_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = udp(b"a" * 200, identification=9)
    path = save(tmp_path / "udp.pcap", udp(b"one"), udp(b""), *fragment_ipv4(long, 100))
    _, out, _ = decode(capsys, "--follow", "udp:0", path)
    assert out.splitlines()[1:] == ["> one", "[empty datagram] >", "> " + "a" * 200]


def test_fragments_that_are_missing_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_ = fragment_ipv4(udp(bytes(200), identification=9), 100)
    path = save(tmp_path / "lost.pcap", udp(b"one"), first)
    code, _, err = decode(capsys, "--follow", "udp:0", path)
    assert code == 0
    assert err == (
        "rawproto decode: fragments of packet 9 10.0.0.3 > 10.0.0.4: "
        "fragments are missing (1 seen)\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--follow", "7"], "there is none such among 1 of tcp and 1 of udp"),
        (["--follow", "udp:1"], "--follow list shows them"),
        (["--follow", "0", "--as", "raw"], "add --side client or --side server"),
        (["--follow", "0", "--as", "hex", "--json"], "--json has a form of its own"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    capture: str, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code, out, err = decode(capsys, *words, capture)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_spec_that_is_no_filter_is_refused_before_a_file_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = decode(capsys, "--follow", "tcp:x", "/nonexistent.pcap")
    assert code == 2
    assert "nonexistent" not in err
