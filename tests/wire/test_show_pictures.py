"""Packets drawn: rows of 32 bits, as RFCs draw them."""

from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.wire import icmp, ipv4_options, ipv6_options
from rawproto.wire.arp import ARPMessage
from rawproto.wire.dissect import dissect
from rawproto.wire.dns import DNSMessage
from rawproto.wire.dns_rdata import A
from rawproto.wire.dns_record import DNSRecord
from rawproto.wire.ethernet import EthernetHeader, VLANTag
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import InterfaceInformation, MPLSLabel, MPLSLabelStack
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6_ext import (
    HopByHopOptions,
)
from rawproto.wire.layer import Layer
from rawproto.wire.show import diagram
from rawproto.wire.tcp import ACK, SYN, TCPHeader
from rawproto.wire.udp import UDPHeader
from tests.wire.packets import PACKETS
from tests.wire.test_show import ANSWER, IP6, SYN_OPTIONS


def picture(text: str) -> str:
    """What `diagram` draws below its ruler."""
    return dedent(text).strip("\n")


def drawn(layer: Layer | bytes) -> str:
    first, second, *rest = diagram(layer).split("\n")
    assert first.split() == ["0", "1", "2", "3"]
    assert second.split() == [str(bit % 10) for bit in range(32)]
    return "\n".join(rest)


def test_udp_is_drawn_as_the_rfc_draws_it() -> None:
    header = UDPHeader(src_port=40000, dst_port=53, length=37, checksum=0xBEEF)
    assert drawn(header) == picture("""
        +-------------------------------+-------------------------------+
        |           src_port            |           dst_port            |
        |             40000             |              53               |
        +-------------------------------+-------------------------------+
        |            length             |           checksum            |
        |              37               |            0xbeef             |
        +-------------------------------+-------------------------------+
    """)


def test_addresses_of_48_bits_cross_the_rows() -> None:
    header = EthernetHeader(dst_addr="02:00:00:00:00:02", ethertype=0x0800)
    assert drawn(header) == picture("""
        +---------------------------------------------------------------+
        |                           dst_addr                            |
        |                       02:00:00:00:00:02                       |
        +                               +-------------------------------+
        |                               |                               |
        +-------------------------------+                               +
        |                           src_addr                            |
        |                       00:00:00:00:00:00                       |
        +-------------------------------+-------------------------------+
        |           ethertype           |
        |         0x0800 (ipv4)         |
        +-------------------------------+
    """)


def test_narrow_boxes_have_their_names_on_end() -> None:
    assert drawn(VLANTag(vid=100, pcp=3, dei=1, ethertype=0x86DD)) == picture("""
        +-----+-+-----------------------+-------------------------------+
        | pcp |d|          vid          |           ethertype           |
        |  3  |e|          100          |         0x86dd (ipv6)         |
        |     |i|                       |                               |
        |     |1|                       |                               |
        +-----+-+-----------------------+-------------------------------+
    """)


def test_flags_names_and_options_are_drawn() -> None:
    header = TCPHeader(
        src_port=40000,
        dst_port=80,
        sequence_number=12345678,
        data_offset=10,
        flags=SYN | ACK,
        window=64240,
        checksum=0xBEEF,
        options=SYN_OPTIONS,
    )
    assert drawn(header) == picture("""
        +-------------------------------+-------------------------------+
        |           src_port            |           dst_port            |
        |             40000             |              80               |
        +-------------------------------+-------------------------------+
        |                        sequence_number                        |
        |                           12345678                            |
        +---------------------------------------------------------------+
        |                     acknowledgment_number                     |
        |                               0                               |
        +-------+-----+-----------------+-------------------------------+
        | data_ |reser|      flags      |            window             |
        |offset | ved |     ACK,SYN     |             64240             |
        |  10   |  0  |                 |                               |
        +-------+-----+-----------------+-------------------------------+
        |           checksum            |        urgent_pointer         |
        |            0xbeef             |               0               |
        +-------------------------------+-------------------------------+
        |                         option 2, mss                         |
        |                             1460                              |
        +-------------------------------+-------------------------------+
        |   option 4, sack-permitted    |                               |
        +-------------------------------+                               +
        |                     option 8, timestamps                      |
        +                                                               +
        |                       tsval 1, tsecr 0                        |
        +---------------+-----------------------------------------------+
        | no-operation  |            option 3, window-scale             |
        |               |                       7                       |
        +---------------+-----------------------------------------------+
    """)


def test_padding_of_options_is_drawn_and_long_options_are_folded() -> None:
    text = drawn(IPv4Header(options=(ipv4_options.RecordRoute(),)))
    assert text.endswith(
        picture("""
        +---------------------------------------------------------------+
        |                    option 7, record-route                     |
        +                                                               +
        ~   addresses 0.0.0.0 0.0.0.0 0.0.0.0 0.0.0.0 0.0.0.0 0.0.0.0   ~
        +                                                               +
        |              0.0.0.0 0.0.0.0 0.0.0.0, pointer 4               |
        +                                               +---------------+
        |                                               |    padding    |
        +-----------------------------------------------+---------------+
    """)
    )


def test_names_too_long_for_the_line_stand_below_the_number() -> None:
    text = drawn(icmp.ICMPDestinationUnreachable(code=3, checksum=1, length=0))
    assert text.startswith(
        picture("""
        +---------------+---------------+-------------------------------+
        |   icmp_type   |     code      |           checksum            |
        |       3       |       3       |            0x0001             |
        | (destination- |    (port-     |                               |
        | unreachable)  | unreachable)  |                               |
        +---------------+---------------+-------------------------------+
    """)
    )


def test_ipv6_addresses_are_boxes_of_four_rows() -> None:
    lines = drawn(IP6).split("\n")
    at = next(number for number, text in enumerate(lines) if "src_addr" in text)
    assert lines[at - 2] == "|" + " " * 63 + "|"
    assert lines[at - 1] == "+" + " " * 63 + "+"
    assert lines[at + 2].strip("| ") == "2001:db8::1"
    assert len(lines) == 7 + 2 * 8


def test_addresses_of_unusual_length_change_the_picture_of_arp() -> None:
    message = ARPMessage(
        protocol_type=0x86DD,
        sender_hardware_addr="00:11",
        sender_protocol_addr="aa:bb",
        target_hardware_addr="",
        target_protocol_addr="cc:dd",
    )
    text = drawn(message)
    assert "|     sender_hardware_addr      |     sender_protocol_addr      |" in text
    assert "target_hardware_addr" not in text


def test_records_of_dns_are_loose_rows() -> None:
    text = drawn(ANSWER)
    assert "name example.com., rclass 1 (IN), ttl 300," in text
    assert "rdata A 93.184.216.34" in text
    assert "qname example.com., qtype 1 (A), qclass 1 (IN)" in text
    assert "questions[0], dns-question" in text


def test_picture_of_a_hostile_header_is_bounded() -> None:
    pads = HopByHopOptions(options=(ipv6_options.Pad1(),) * 2046)
    records = DNSMessage(answers=(DNSRecord(name=".", rdata=A(address="10.0.0.9")),) * 5000)
    for layer, more in ((pads, "options, 2022 more"), (records, "answers, 4976 more")):
        text = diagram(layer)
        assert more in text
        assert len(text.split("\n")) < 100


def test_extensions_of_an_error_are_drawn_behind_it() -> None:
    extensions = ICMPExtensions(
        objects=(
            MPLSLabelStack(labels=(MPLSLabel(label=16001, ttl=1),)),
            InterfaceInformation(if_name="eth0\x1b[31m", mtu=1500),
        )
    )
    error = icmp.ICMPTimeExceeded(original_datagram=bytes(128), extensions=extensions)
    text = drawn(error)
    assert "original_datagram, 128 bytes" in text
    assert "objects[0], mpls-label-stack" in text
    assert "label 16001" in text
    assert "\x1b" not in text
    assert r"eth0\x1b[31m" in text
    assert "if_index" not in text, "what an object doesn't hold is not drawn"


def test_plain_bytes_are_drawn_byte_by_byte_as_far_as_they_are_few() -> None:
    assert drawn(b"Hi\x00") == picture("""
        +---------------+---------------+---------------+
        |      48       |      69       |      00       |
        |       H       |       i       |               |
        +---------------+---------------+---------------+
    """)
    assert "1468 more bytes" in drawn(bytes(1500))
    assert drawn(b"") == ""


@pytest.mark.parametrize(("link_type", "data", "layers"), PACKETS.values(), ids=PACKETS.keys())
def test_every_layer_is_drawn_in_closed_boxes_with_all_its_names(
    link_type: int, data: bytes, layers: tuple[str, ...]
) -> None:
    for layer in dissect(data, link_type).layers:
        text = diagram(layer)
        lines = text.split("\n")[2:]
        assert all(len(each) <= 65 for each in lines)
        assert all(each[0] in "+|~" and each[-1] in "+|~" for each in lines)
        assert lines[0].strip("+-") == lines[-1].strip("+-") == ""
        for name, bits in layer.layout:
            if 2 * bits > len(name):
                assert name in text


@given(st.lists(st.integers(1, 70), min_size=1, max_size=12))
def test_any_layout_is_drawn_with_every_box_closed(widths: list[int]) -> None:
    class Strange(Layer):
        layout = tuple((f"f{index}", bits) for index, bits in enumerate(widths))

        def __getattr__(self, name: str) -> int:
            return 0

    lines = diagram(Strange()).split("\n")[2:]
    assert len(lines[0]) == 2 * min(32, sum(widths)) + 1
    assert all(each[0] in "+|~" and each[-1] in "+|~" for each in lines)
    for above, row, below in zip(lines, lines[1:], lines[2:], strict=False):
        for at, char in enumerate(row):
            if char == "|":
                assert above[at : at + 1] in ("+", "|")
                assert below[at : at + 1] in ("+", "|")
