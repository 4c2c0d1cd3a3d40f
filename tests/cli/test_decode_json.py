"""decode as JSON Lines: the form of the records, and that they hold all there is to a packet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rawproto import CapturedPacket, dissect, read
from rawproto.capture import Interface
from tests.cli.decoding import CAPTURES, START_NS, Decoder, datagram
from tests.cli.test_decode_text import fragments


@pytest.fixture
def decode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Decoder:
    return Decoder(tmp_path, capsys)


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_packet_is_one_record_of_this_form(decode: Decoder) -> None:
    (record,) = records(decode("--json", decode.file([bytes(datagram()) + b"\0\0"])).out)
    assert list(record) == [
        "type",
        "schema",
        "number",
        "time_ns",
        "captured_length",
        "original_length",
        "layers",
        "undecoded_bytes",
        "trailer",
        "damage",
    ]
    layers = record.pop("layers")
    assert record == {
        "type": "packet",
        "schema": 1,
        "number": 1,
        "time_ns": START_NS,
        "captured_length": 48,
        "original_length": 48,
        "undecoded_bytes": b"data".hex(),
        "trailer": "0000",
        "damage": None,
    }
    assert [layer["layer"] for layer in layers] == ["ethernet", "ipv4", "udp"]
    assert layers[1]["src_addr"] == "192.0.2.1"
    assert layers[1]["flags"] == []
    assert (layers[1]["protocol"], layers[1]["protocol_name"]) == (17, "udp")
    assert layers[2] == {
        "layer": "udp",
        "class": "UDPHeader",
        "src_port": 1024,
        "dst_port": 9,
        "length": 12,
        "checksum": 0x9F06,
        "checksum_valid": True,
    }


def test_damage_says_layer_offset_and_reason(decode: Decoder) -> None:
    cut = CapturedPacket(time_ns=0, data=bytes(datagram())[:30], original_length=46)
    (record,) = records(decode("--json", decode.file([cut])).out)
    assert record["damage"] == {
        "layer": "ipv4",
        "offset": 0,
        "reason": "truncated: 20 bytes needed, 16 there",
    }
    assert (record["captured_length"], record["original_length"]) == (30, 46)
    assert record["undecoded_bytes"] == cut.data[14:].hex()


def test_verdicts_are_true_false_and_null(decode: Decoder) -> None:
    packets = [datagram(), datagram(checksum=7), datagram(checksum=0)]
    found = records(decode("--json", decode.file(packets)).out)
    assert [record["layers"][2]["checksum_valid"] for record in found] == [True, False, None]


def test_what_pcapng_tells_stands_in_the_record(decode: Decoder) -> None:
    packet = CapturedPacket(
        time_ns=START_NS + 1, data=bytes(datagram()), interface=0, direction="in", comment="so \x1b"
    )
    interfaces = [Interface(link_type=1, name="eth0")]
    (record,) = records(decode("--json", decode.file([packet], "a.pcapng", interfaces)).out)
    assert record["time_ns"] == START_NS + 1
    assert (record["interface"], record["direction"], record["comment"]) == (
        "eth0",
        "in",
        "so \x1b",
    )


def test_the_packet_that_fragments_make_stands_with_the_last_of_them(decode: Decoder) -> None:
    found = records(decode("--json", decode.file(fragments())).out)
    assert [("reassembled" in record) for record in found] == [False, False, True]
    whole = found[2]["reassembled"]
    assert whole["fragments"] == 3
    assert [layer["layer"] for layer in whole["layers"]] == ["ipv4", "udp"]
    assert whole["layers"][1]["checksum_valid"] is True
    assert whole["undecoded_bytes"] == bytes(100).hex()


def test_fragments_that_stay_alone_are_a_record_of_their_own(decode: Decoder) -> None:
    found = records(decode("--json", decode.file(fragments()[:2])).out)
    assert [record["type"] for record in found] == ["packet", "packet", "fragment_trouble"]
    assert (found[2]["reason"], found[2]["fragments"]) == ("timeout", 2)


def test_the_record_accounts_for_every_byte_of_every_golden_packet(decode: Decoder) -> None:
    for path in sorted(CAPTURES.glob("*.pcap")):
        found = records(decode("--json", path).out)
        packets = list(read(path))
        told = [record for record in found if record["type"] == "packet"]
        assert len(told) == len(packets)
        for record, packet in zip(told, packets, strict=True):
            seen = dissect(packet.data, packet.link_type)
            inside = bytes.fromhex(record["undecoded_bytes"] + record["trailer"])
            assert packet.data.endswith(inside)
            assert len(packet.data) - len(inside) == seen.payload_offset
            assert [layer["class"] for layer in record["layers"]] == [
                type(layer).__name__ for layer in seen.layers
            ]
