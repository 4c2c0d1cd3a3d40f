"""decode as text: verdicts, names and values, coloured bytes, fragments, and what captures tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rawproto import (
    CapturedPacket,
    ICMPDestinationUnreachable,
    IPv4Header,
    Packet,
    TCPHeader,
    UDPHeader,
    dissect,
)
from rawproto.capture import Interface
from rawproto.cli.decode_sequences import Sequences
from rawproto.wire.checksum import pseudo_header_sum
from rawproto.wire.dissect import RAW
from rawproto.wire.fragment import fragment_ipv4
from rawproto.wire.show import hexdump
from rawproto.wire.tcp import ACK, FIN, SYN
from tests.cli.decoding import CAPTURES, FRAME, HEADER, START_NS, Decoder, datagram

LINE = "IP 192.0.2.1.1024 > 192.0.2.2.9: UDP, length 4"
COLOUR = re.compile(r"\x1b\[(\d+)m(.*?)\x1b\[0m")


@pytest.fixture
def decode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Decoder:
    return Decoder(tmp_path, capsys)


# --- checksums -----------------------------------------------------------------------------------


def test_a_wrong_checksum_is_told_behind_the_line(decode: Decoder) -> None:
    run = decode("-t", CAPTURES / "bad-checksum.pcap")
    told = [re.findall(r"\[wrong (\w+) checksum\]$", line) for line in run.lines]
    assert told == [["ipv4"], ["udp"], ["udp"], ["tcp"], ["icmp"], ["icmpv6"]]


def test_a_checksum_that_was_left_to_the_device_is_no_news(decode: Decoder) -> None:
    """What Linux hands to a device that fills checksums in: the sum of the pseudo-header."""
    partial = pseudo_header_sum("192.0.2.1", "192.0.2.2", 17, 12) % 0xFFFF
    path = decode.file([datagram(checksum=partial), datagram(checksum=partial ^ 1)])
    assert decode("-t", path).lines == [LINE, f"{LINE} [wrong udp checksum]"]
    verdicts = re.findall(r"checksum (0x\w+) \(([\w ]+)\)", decode("-v", path).out)
    assert [words for number, words in verdicts if int(number, 16) == partial] == [
        "left to the device"
    ]
    assert [words for number, words in verdicts if int(number, 16) == partial ^ 1] == ["wrong"]


def test_under_v_every_checksum_has_its_verdict(decode: Decoder) -> None:
    cut = CapturedPacket(time_ns=0, data=bytes(datagram())[:-1], original_length=46)
    packets = [datagram(), datagram(checksum=0), datagram(checksum=7), cut]
    out = decode("-v", decode.file(packets)).out
    assert re.findall(r"UDPHeader: .*checksum 0x\w+ \(([\w ]+)\)", out) == [
        "right",
        "not verified",
        "wrong",
        "not verified",
    ]


# --- TCP's numbers --------------------------------------------------------------------------------


def segment(
    number: int, acknowledged: int, flags: int, data: bytes = b"", back: bool = False
) -> Packet:
    """One of a connection between two hosts, there or back."""
    addresses = ["192.0.2.1", "192.0.2.2"][:: -1 if back else 1]
    ports = [40000, 80][:: -1 if back else 1]
    header = IPv4Header(src_addr=addresses[0], dst_addr=addresses[1])
    tcp = TCPHeader(
        src_port=ports[0],
        dst_port=ports[1],
        sequence_number=number & 0xFFFF_FFFF,
        acknowledgment_number=acknowledged & 0xFFFF_FFFF,
        flags=flags,
    )
    return FRAME / header / tcp / data


def numbers(text: str) -> list[str]:
    return [re.sub(r".*\], (.*), win.*", r"\1", line) for line in text.splitlines()]


def test_sequence_numbers_count_from_where_a_connection_begins(decode: Decoder) -> None:
    """Across the wrap at 2**32; each SYN shows its own number, and begins anew."""
    mine, theirs = 2**32 - 10, 7000
    path = decode.file(
        [
            segment(mine, 0, SYN),
            segment(theirs, mine + 1, SYN | ACK, back=True),
            segment(mine + 1, theirs + 1, ACK, b"x" * 20),
            segment(theirs + 1, mine + 21, ACK, b"y" * 5, back=True),
            segment(mine + 21, theirs + 6, ACK | FIN),
            segment(100, 0, SYN),
            segment(101, 0, 0, b"z"),
        ]
    )
    assert numbers(decode(path).out) == [
        f"seq {mine}",
        f"seq {theirs}, ack {mine + 1}",
        "seq 1:21, ack 1",
        "seq 1:6, ack 21",
        "seq 21, ack 6",
        "seq 100",
        "seq 1:2",
    ]
    assert numbers(decode("-S", path).out)[2] == f"seq {mine + 1}:11, ack {theirs + 1}"


def test_a_connection_that_began_before_the_capture_counts_from_its_first_packet(
    decode: Decoder,
) -> None:
    path = decode.file(
        [
            segment(500, 900, ACK, b"x" * 10),
            segment(900, 510, ACK, b"y", back=True),
            segment(510, 901, ACK, b"x"),
        ]
    )
    assert numbers(decode(path).out) == [
        "seq 500:510, ack 900",
        "seq 1:2, ack 10",
        "seq 10:11, ack 2",
    ]


def test_only_so_many_connections_are_remembered() -> None:
    sequences = Sequences(most_connections=2)

    def base(port: int) -> tuple[int, int]:
        header = TCPHeader(src_port=port, sequence_number=port, acknowledgment_number=1)
        return sequences.base(dissect((HEADER / header).emit(), RAW))

    assert [base(port) for port in (1, 2, 3)] == [(0, 0)] * 3
    assert base(3) == (3, 0)
    assert base(1) == (0, 0), "the oldest was forgotten"


# --- names and values ----------------------------------------------------------------------------


def test_v_names_every_field_of_every_layer(decode: Decoder) -> None:
    out = decode("-t", "-v", decode.file([bytes(datagram(b"hi")) + b"\0\0"])).out
    text = " ".join(out.split())
    assert "EthernetHeader: dst_addr 02:00:00:00:00:02, src_addr 02:00:00:00:00:01" in text
    assert "ethertype 0x0800 (ipv4)" in text
    assert "IPv4Header: version 4, ihl 5, dscp 0, ecn 0 (not-ECT), total_length 30," in text
    assert "protocol 17 (udp), checksum" in text
    assert "UDPHeader: src_port 1024, dst_port 9, length 10, checksum" in text
    assert "payload: 2 bytes, 68 69" in text
    assert "trailer: 2 bytes, 00 00" in text
    assert max(map(len, out.splitlines())) <= 100


def test_v_reads_the_packet_that_an_icmp_error_quotes(decode: Decoder) -> None:
    quoted = bytes(datagram())[14:]
    error = FRAME / HEADER / ICMPDestinationUnreachable(code=3, original_datagram=quoted)
    out = " ".join(decode("-v", decode.file([error])).out.split())
    assert f"original_datagram 32 bytes ({LINE})" in out


def test_v_says_where_a_packet_is_damaged(decode: Decoder) -> None:
    cut = CapturedPacket(time_ns=0, data=bytes(datagram())[:30], original_length=46)
    run = decode("-t", "-v", decode.file([cut]))
    assert run.lines[1].endswith("[|ipv4, 4 bytes missing]")
    assert "    30 of 46 bytes captured" in run.lines
    assert run.lines[-1] == "    damage: ipv4 at byte 0: truncated: 20 bytes needed, 16 there"


def test_v_tells_what_a_pcapng_file_says_beside_the_packets(decode: Decoder) -> None:
    interfaces = [Interface(link_type=1, name="eth0", description="the way out", filter="udp")]
    packet = CapturedPacket(
        time_ns=START_NS,
        data=bytes(datagram()),
        interface=0,
        direction="out",
        comment="first line\nsecond\x1b[2J line",
    )
    run = decode("-t", "-v", decode.file([packet], "trace.pcapng", interfaces))
    assert run.lines[:5] == [
        "interface 0: eth0, link type 1 (ethernet), description the way out, filter udp",
        LINE,
        "    on eth0, out",
        "    # first line",
        "    # second\\x1b[2J line",
    ]


def test_a_link_type_that_nobody_knows_is_said_once_and_shown_as_bytes(decode: Decoder) -> None:
    packets = [
        CapturedPacket(time_ns=0, data=b"what is this\x1b?", link_type=147) for _ in range(2)
    ]
    run = decode("-t", decode.file(packets))
    dump = "    " + hexdump(packets[0].data)
    assert run.lines == ["data, length 14", dump] * 2
    assert run.err.count("\n") == 1
    assert "link type 147 is not known" in run.err


# --- bytes and pictures --------------------------------------------------------------------------


def test_x_says_where_each_layer_begins(decode: Decoder) -> None:
    run = decode("-t", "-x", decode.file([bytes(datagram()) + b"\0"]))
    assert run.lines[1] == (
        "    0x0000 EthernetHeader, 0x000e IPv4Header, 0x0022 UDPHeader, 0x002a payload, "
        "0x002e trailer"
    )
    dump = hexdump(bytes(datagram()) + b"\0")
    assert run.lines[2:] == ["    " + line for line in dump.splitlines()]


def test_x_colours_the_bytes_by_their_layers(decode: Decoder) -> None:
    path = decode.file([datagram()])
    coloured = decode("-t", "-x", "--color=always", path).lines
    plain = decode("-t", "-x", "--color=never", path).lines
    assert [COLOUR.sub(r"\2", line) for line in coloured] == plain
    legend = {name.split()[1]: code for code, name in COLOUR.findall(coloured[1])}
    numbers: dict[str, str] = {}
    letters: dict[str, str] = {}
    for line in coloured[2:]:
        dumped, _, text = line.rpartition("  ")
        for into, part in ((numbers, dumped), (letters, text)):
            for code, run in COLOUR.findall(part):
                into[code] = into.get(code, "") + run
    packet = bytes(datagram())
    for name, begin, end in (("EthernetHeader", 0, 14), ("IPv4Header", 14, 34)):
        assert bytes.fromhex(numbers[legend[name]]) == packet[begin:end]
        assert len(letters[legend[name]]) == end - begin
    assert bytes.fromhex(numbers[legend["UDPHeader"]]) == packet[34:42]


def test_a_packet_of_no_bytes_has_none_to_show(decode: Decoder) -> None:
    run = decode("-t", "-x", "-v", "--diagram", "--color=always", decode.file([b""]))
    assert run.code == 0
    assert [COLOUR.sub(r"\2", line) for line in run.lines][1:] == [
        "data, length 0 [|ethernet, 14 bytes missing]",
        "    damage: ethernet at byte 0: truncated: 14 bytes needed, 0 there",
    ]


def test_colour_is_off_where_no_terminal_is(decode: Decoder) -> None:
    assert "\x1b" not in decode("-v", "-x", CAPTURES / "bad-checksum.pcap").out


def test_diagram_draws_every_layer_and_what_is_left(decode: Decoder) -> None:
    out = decode("--diagram", decode.file([datagram()])).out
    for heading in ("EthernetHeader", "IPv4Header", "UDPHeader", "payload, 4 bytes"):
        assert f"    {heading}\n" in out
    assert "|             1024              |               9               |" in out


# --- fragments -----------------------------------------------------------------------------------


def fragments() -> list[bytes]:
    whole = HEADER / UDPHeader(src_port=1024, dst_port=9) / bytes(100)
    return [bytes(FRAME / IPv4Header.parse(each)[0] / each[20:]) for each in _cut(whole.emit())]


def _cut(packet: bytes) -> list[bytes]:
    return [bytes(each) for each in fragment_ipv4(packet, 60)]


def test_fragments_are_put_together_in_whatever_order_they_come(decode: Decoder) -> None:
    pieces = fragments()
    assert len(pieces) == 3
    lines = decode("-t", decode.file(pieces[::-1])).lines
    assert lines[3] == "    3 fragments make IP 192.0.2.1.1024 > 192.0.2.2.9: UDP, length 100"
    assert len(lines) == 4
    assert "UDPHeader" in decode("-v", decode.file(pieces)).out.partition("make")[2]


def test_fragments_that_overlap_or_are_missing_are_told(decode: Decoder) -> None:
    first, second, third = fragments()
    lying = second[:-1] + b"\xff"
    lines = decode("-t", decode.file([first, second, lying])).lines
    assert "fragments overlap, at byte 40" in lines[3]
    lines = decode("-t", decode.file([first, third])).lines
    assert "192.0.2.1 > 192.0.2.2: fragments are missing (2 seen)" in lines[2]
