"""`rawproto craft` without --send: what is shown, what is written, what is refused."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawproto.capture import read
from rawproto.cli.craft_text import Shown, show
from rawproto.cli.main import main
from rawproto.errors import EmitError
from rawproto.packets.catalogue import LAYERS, layer_entry
from rawproto.packets.notation import NotationError, craft
from rawproto.wire.dissect import dissect
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.udp import UDPHeader
from tests.packets.writing import layers

UDP = "ipv4 src_addr=10.0.0.1 dst_addr=10.0.0.2 ttl=3 / udp src_port=7 dst_port=53 checksum=0"


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs craft and returns what it wrote."""

    def run(*words: str) -> str:
        assert main(["craft", *words]) == 0
        out, error = capsys.readouterr()
        assert error == ""
        return str(out)

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs craft and returns the line that it refused with."""

    def run(*words: str) -> str:
        assert main(["craft", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("rawproto craft: ")
        assert error.count("\n") == 1
        return str(error)

    return run


def test_a_line_a_packet_as_readers_of_tcpdump_expect(shown: Any) -> None:
    sweep = "ipv4 dst_addr=10.0.0.0/31 / tcp dst_port={22,80} flags=SYN"
    assert shown(sweep, "arp target_protocol_addr=10.0.0.2") == (
        "IP 0.0.0.0.0 > 10.0.0.0.22: Flags [S], seq 0, win 0, length 0\n"
        "IP 0.0.0.0.0 > 10.0.0.0.80: Flags [S], seq 0, win 0, length 0\n"
        "IP 0.0.0.0.0 > 10.0.0.1.22: Flags [S], seq 0, win 0, length 0\n"
        "IP 0.0.0.0.0 > 10.0.0.1.80: Flags [S], seq 0, win 0, length 0\n"
        "ARP, Request who-has 10.0.0.2 tell 0.0.0.0, length 28\n"
    )


def test_a_diagram_has_computed_values_in_its_boxes(shown: Any) -> None:
    text = shown("--diagram", f"{UDP} / text:hello")
    assert text.startswith("IP 10.0.0.1.7 > 10.0.0.2.53: UDP, length 5")
    assert "\nIPv4Header\n" in text
    assert re.search(r"\|  +33  +\|", text), "the total length"
    assert "17 (udp)" in text
    assert "\nUDPHeader\n" in text
    assert "\n5 bytes of data\n" in text


def test_what_no_receiver_would_find_is_drawn_with_its_values(shown: Any) -> None:
    text = shown("--diagram", "ipv4 protocol=99 / udp dst_port=4242 checksum=0 / text:hi")
    assert "\nUDPHeader\n" in text
    assert "4242" in text
    assert "auto" not in text
    assert "\n2 bytes of data\n" in text


@pytest.mark.parametrize("lie", ["ihl=15", "ihl=6", "total_length=22", "version=6"])
def test_what_cannot_be_read_behind_a_lie_is_drawn_as_given(lie: str, shown: Any) -> None:
    text = shown("--diagram", f"ipv4 {lie} / udp src_port=777 dst_port=888 / text:payload")
    udp = text[text.index("\nUDPHeader\n") :]
    assert re.search(r"\|  +777  +\|  +888  +\|", udp)
    assert "auto" in udp, "what nobody can read was not computed for anybody"


def test_tags_and_tunnels_are_drawn_layer_by_layer(shown: Any) -> None:
    text = shown("--diagram", "ethernet / vlan tpid=0x88a8 vid=5 / vlan vid=6 / ipv4 / ipv6 / udp")
    names = re.findall(r"^([A-Z]\w+)$", text, re.M)
    assert names == [
        "EthernetHeader",
        "VLANTag",
        "VLANTag",
        "IPv4Header",
        "IPv6Header",
        "UDPHeader",
    ]
    assert "0x88a8 (802.1ad)" in text
    assert "auto" not in text


def test_a_packet_inside_an_error_is_drawn_layer_by_layer(shown: Any) -> None:
    text = shown("--diagram", "ipv4 / icmp icmp_type=redirect / ipv4 ttl=9 / udp / text:hi")
    names = re.findall(r"^([A-Z]\w+)$", text, re.M)
    assert names == ["IPv4Header", "ICMPRedirect", "IPv4Header", "UDPHeader"]
    assert "auto" not in text
    assert "original_datagram" not in text


def test_an_error_with_extensions_is_drawn_as_it_went_out(shown: Any) -> None:
    quoting = "original_datagram=[ipv4 ttl=1] extensions=[mpls=5]"
    text = shown("--diagram", f"ipv4 / icmp icmp_type=time_exceeded {quoting}")
    assert "original_datagram, 128 bytes" in text, "padded, as RFC 4884 wants it"
    assert "auto" not in text


def test_hex_is_what_hex_takes(shown: Any) -> None:
    line = shown("--hex", f"{UDP} / hex:00ff").strip()
    (packet,) = craft(f"{UDP} / hex:00ff")
    assert bytes.fromhex(line) == packet.emit()
    assert shown("--hex", f"hex:{line}").strip() == line


def test_x_shows_offsets_bytes_and_text_below_the_line(shown: Any) -> None:
    lines = shown("-x", f"{UDP} / text:hello").splitlines()
    assert lines[0].startswith("IP 10.0.0.1.7 > 10.0.0.2.53:")
    assert lines[1].startswith("    0x0000  45 00 00 21")
    assert lines[-1].endswith("o")
    assert len(lines) == 4


def test_python_is_a_script_that_runs(shown: Any) -> None:
    names: dict[str, Any] = {}
    exec(shown("--python", "ipv4 ttl=1..2 / udp / random:4", "--seed", "1"), names)
    assert [packet[IPv4Header].ttl for packet in names["packets"]] == [1, 2]


def test_json_is_of_the_form_that_decode_writes(shown: Any) -> None:
    records = [json.loads(line) for line in shown("--json", UDP, UDP + " length=9").splitlines()]
    first, second = records
    assert (first["type"], first["schema"], first["number"], second["number"]) == (
        "packet",
        1,
        1,
        2,
    )
    assert [layer["layer"] for layer in first["layers"]] == ["ipv4", "udp"]
    assert first["layers"][0]["src_addr"] == "10.0.0.1"
    assert first["layers"][0]["checksum_valid"] is True
    assert (first["captured_length"], first["time_ns"], first["damage"]) == (28, 0, None)
    assert second["damage"] == {
        "layer": "udp",
        "offset": 0,
        "reason": "truncated: 9 bytes needed, 8 there",
    }


@pytest.mark.parametrize("name", ["made.pcap", "made.pcapng"])
def test_a_capture_holds_what_was_made_and_nothing_is_shown(
    name: str, tmp_path: Path, shown: Any
) -> None:
    assert shown("--pcap", str(tmp_path / name), "ipv4 ttl=1..3 / udp") == ""
    with read(tmp_path / name) as reader:
        packets = list(reader)
    assert [packet.link_type for packet in packets] == [101] * 3
    assert [packet.data for packet in packets] == [p.emit() for p in craft("ipv4 ttl=1..3 / udp")]


def test_a_capture_is_written_beside_what_is_asked_for(tmp_path: Path, shown: Any) -> None:
    file = tmp_path / "made.pcap"
    line = shown("--pcap", str(file), "--hex", UDP).strip()
    with read(file) as reader:
        assert [packet.data.hex() for packet in reader] == [line]


def test_the_same_seed_makes_the_same_file(tmp_path: Path, shown: Any) -> None:
    files = [tmp_path / f"{number}.pcap" for number in range(3)]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        shown("--pcap", str(file), "--seed", seed, "--fragment", "100", "ipv4 / random:300")
    first, same, other = [file.read_bytes() for file in files]
    assert first == same != other


def test_a_capture_goes_through_a_pipe_whatever_the_buffering() -> None:
    words = [
        sys.executable,
        "-u",
        "-m",
        "rawproto.cli.main",
        "craft",
        "--pcap",
        "-",
        "ipv4 ttl=1..2",
    ]
    done = subprocess.run(words, capture_output=True, timeout=30, check=True)
    with read(io.BytesIO(done.stdout)) as reader:
        assert [packet.data[8] for packet in reader] == [1, 2]


def test_several_link_types_fit_one_pcapng(tmp_path: Path, shown: Any) -> None:
    file = tmp_path / "made.pcapng"
    shown("--pcap", str(file), "ipv4", "arp", "cooked / ipv4")
    with read(file) as reader:
        assert [packet.link_type for packet in reader] == [101, 1, 113]


def test_fragments_are_shown_as_such(shown: Any) -> None:
    lines = shown(
        "--fragment", "576", "ipv4 dst_addr=10.0.0.2 identification=5 / icmp / random:1000"
    )
    assert [line[line.index("(frag") :] for line in lines.splitlines()] == [
        "(frag 5:552@0+)",
        "(frag 5:456@552)",
    ]


def test_payload_comes_from_files(tmp_path: Path, shown: Any) -> None:
    file = tmp_path / "a name"
    file.write_bytes(b"\x01\x02")
    assert shown("--hex", f'ipv4 / file:"{file}"').strip().endswith("0102")


def test_payload_comes_from_stdin() -> None:
    words = [sys.executable, "-m", "rawproto.cli.main", "craft", "--hex", "ipv4 / file:-"]
    done = subprocess.run(words, input=b"\xca\xfe", capture_output=True, timeout=30, check=True)
    assert done.stdout.strip().endswith(b"cafe")


def test_what_is_shown_decodes_to_what_was_given(shown: Any) -> None:
    found = dissect(bytes.fromhex(shown("--hex", f"ethernet / {UDP} / text:a")))
    assert found[IPv4Header].ttl == 3
    assert found[UDPHeader].checksum == 0
    assert found.payload == b"a"
    assert found.damage is not None, "one byte on port 53 is no DNS message"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ipv7"], "unknown layer ipv7, perhaps ipv"),
        (["ipv4 ttl=300"], "ipv4.ttl=300: must be 0 to 255 (at character 10)"),
        (["ipv4 ihl=5 / udp / random:65535"], "more than 65535 bytes"),
        (["udp"], "udp stands in one of them"),
        (["icmpv6"], "a packet begins with"),
        (["ipv4 / file:/nowhere/at/all"], "/nowhere/at/all: No such file"),
        (["ipv4 / file:/dev/zero"], "file: gives at most 65535 bytes"),
        (["--pcap", "made.txt", "ipv4"], "name it .pcap or .pcapng"),
        (["--pcap", "-", "--json", "ipv4"], "both write to stdout"),
        (["--fragment", "0", "ipv4"], "--fragment 0: must be a size"),
        (["--fragment", "20", "ipv4 / random:9"], "no room for a fragment"),
        (["--fragment", "100", "arp"], "IP header"),
        (["--python", "ipv4 ttl=0..255 dscp=0..63"], "more than 4096 packets"),
        (["--count", "2", "ipv4"], "--count says how to send; add --send"),
        (["ipv4", "ttl=3", "/", "udp"], "one argument: quote it, 'ipv4 ttl=3 / udp'"),
        (["ipv4", "dst_addr=h2"], "quote it, 'ipv4 dst_addr=h2'"),
        (["ipv4", "ttl=3", "/", "upd"], "quote it, 'ipv4 ttl=3 / upd'"),
        (["ipv4 / udp", "ttl=3"], "unknown layer ttl"),
        (["-c", "2", "ipv4"], "--count says how to send"),
        (["-i", "lo", "ipv4"], "--interface says how to send"),
        (["--interface", "lo", "ipv4"], "--interface says how to send"),
    ],
)
def test_refusals_are_one_line(words: list[str], said: str, refused: Any) -> None:
    assert said in refused(*words)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_whatever_can_be_made_can_be_shown(data: st.DataObject) -> None:
    entry = layer_entry(data.draw(st.sampled_from(sorted(LAYERS))))
    text, _ = data.draw(layers(entry, data.draw(st.sampled_from(entry.forms))))
    try:
        packets = list(craft(f"ipv4 / {text} / udp / text:abc"))
        packets[0].emit()
    except (NotationError, EmitError):
        return
    for form in get_args(Shown):
        with contextlib.redirect_stdout(io.StringIO()) as stream:
            show(packets, form, None)
        assert stream.getvalue().endswith("\n")


def test_raw_options_of_no_bytes_are_drawn(shown: Any) -> None:
    assert "HopByHopOptions" in shown("--diagram", "ipv6 / ipv6_hop_by_hop options=raw / udp")


def test_nothing_is_shown_where_a_later_expression_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["craft", "ipv4", "ipv5"]) == 2
    assert capsys.readouterr().out == ""


def test_ways_of_showing_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["craft", "--hex", "--json", "ipv4"])
    assert exit_.value.code == 2
    assert "not allowed with" in capsys.readouterr().err
