"""Packets as names and values, as JSON carries them, and as bytes."""

from __future__ import annotations

import json

import pytest

from rawproto.wire import icmp, ipv4_options, ipv6_options, ndp_options, tcp_options
from rawproto.wire.dissect import dissect
from rawproto.wire.dns import DNSMessage
from rawproto.wire.dns_record import OPTRecord
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import MPLSLabel, MPLSLabelStack
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6_ext import (
    FragmentHeader,
    HopByHopOptions,
    SegmentRoutingHeader,
)
from rawproto.wire.layer import Layer
from rawproto.wire.ndp import NeighborSolicitation
from rawproto.wire.show import fields, hexdump
from rawproto.wire.tcp import ACK, SYN, TCPHeader
from tests.wire.packets import PACKETS
from tests.wire.test_show import ANSWER


def test_fields_are_what_json_carries() -> None:
    header = TCPHeader(
        src_port=1,
        dst_port=2,
        flags=SYN | ACK,
        checksum=3,
        options=(
            tcp_options.MSS(mss=1400),
            tcp_options.Timestamps(tsval=5, tsecr=6),
            tcp_options.NoOperation(),
            tcp_options.SACK(blocks=((1, 2),)),
            tcp_options.UnknownOption(kind=253, data=b"\xab\xcd"),
        ),
    )
    assert fields(header) == {
        "layer": "tcp",
        "class": "TCPHeader",
        "src_port": 1,
        "dst_port": 2,
        "sequence_number": 0,
        "acknowledgment_number": 0,
        "data_offset": None,
        "reserved": 0,
        "flags": ["ACK", "SYN"],
        "window": 0,
        "checksum": 3,
        "urgent_pointer": 0,
        "options": [
            {"kind": 2, "kind_name": "mss", "value": 1400},
            {"kind": 8, "kind_name": "timestamps", "value": {"tsval": 5, "tsecr": 6}},
            {"kind": 1, "kind_name": "no-operation", "value": None},
            {"kind": 5, "kind_name": "sack", "value": [[1, 2]]},
            {"kind": 253, "kind_name": "unknown-option", "value": "abcd"},
        ],
    }


def test_enumerations_have_their_names_beside_them() -> None:
    told = fields(IPv4Header(protocol=6, ecn=3))
    assert (told["protocol"], told["protocol_name"]) == (6, "tcp")
    assert (told["ecn"], told["ecn_name"]) == (3, "CE")
    question = fields(ANSWER)["questions"][0]
    assert (question["qtype"], question["qtype_name"]) == (1, "A")
    told = fields(IPv4Header(protocol=200))
    assert (told["protocol"], told["protocol_name"]) == (200, None)


def test_flags_without_a_name_are_hexadecimal() -> None:
    assert fields(FragmentHeader(flags=0b101))["flags"] == ["MF", "0x4"]
    assert fields(IPv4Header(flags=0))["flags"] == []


def test_objects_within_a_layer_tell_their_class() -> None:
    extensions = ICMPExtensions(objects=(MPLSLabelStack(labels=(MPLSLabel(label=5),)),))
    told = fields(icmp.ICMPTimeExceeded(original_datagram=b"\xab", extensions=extensions))
    assert told["original_datagram"] == "ab"
    assert told["code_name"] == "ttl-exceeded-in-transit"
    assert told["extensions"]["layer"] == "icmp_ext"
    stack = told["extensions"]["objects"][0]
    assert stack["class"] == "MPLSLabelStack"
    assert stack["labels"][0]["label"] == 5
    opt = fields(DNSMessage(additionals=(OPTRecord(flags=0x8000),)))["additionals"][0]
    assert (opt["class"], opt["flags"]) == ("OPTRecord", ["DO"])


@pytest.mark.parametrize(
    ("layer", "option"),
    [
        (
            NeighborSolicitation(
                options=(ndp_options.SourceLinkLayerAddress(mac_addr="02:00:00:00:00:01"),)
            ),
            {"kind": 1, "kind_name": "source-link-layer-address", "value": "02:00:00:00:00:01"},
        ),
        (
            HopByHopOptions(options=(ipv6_options.RouterAlert(value=1),)),
            {"kind": 5, "kind_name": "router-alert", "value": 1},
        ),
        (
            IPv4Header(options=(ipv4_options.RawOptions(data=b"\x07"),)),
            {"kind": 7, "kind_name": "raw-options", "value": "07"},
        ),
    ],
)
def test_options_of_all_protocols_look_alike(layer: Layer, option: dict[str, object]) -> None:
    assert fields(layer)["options"] == [option]


def test_segment_list_is_a_list_of_text() -> None:
    header = SegmentRoutingHeader(segment_list=("2001:db8::1",))
    assert fields(header)["segment_list"] == ["2001:db8::1"]


@pytest.mark.parametrize(("link_type", "data", "layers"), PACKETS.values(), ids=PACKETS.keys())
def test_fields_of_every_layer_survive_json(
    link_type: int, data: bytes, layers: tuple[str, ...]
) -> None:
    for layer in dissect(data, link_type).layers:
        told = fields(layer)
        assert json.loads(json.dumps(told)) == told
        assert {name for name, _ in layer.layout} <= set(told)


def test_hexdump_shows_offset_bytes_and_text() -> None:
    assert hexdump(b"") == ""
    assert hexdump(b"GET / HTTP/1.1\r\n\x1b[2J~\x7f", offset=0x40).split("\n") == [
        "0x0040  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a  GET / HTTP/1.1..",
        "0x0050  1b 5b 32 4a 7e 7f                                 .[2J~.",
    ]
