"""Ethernet, VLAN tags and the link layers of captures: both ways against scapy, damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback

from rawproto.errors import EmitError, TruncatedError
from rawproto.wire.arp import ARPMessage
from rawproto.wire.cooked import LinuxCooked, LinuxCooked2, LoopbackHeader
from rawproto.wire.ethernet import BROADCAST, EthernetHeader, VLANTag
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

macs = st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":"))
ethertypes = st.integers(1536, 0xFFFF)
MAC1, MAC2 = "02:00:00:00:00:01", "02:00:00:00:00:02"


@given(macs, macs, ethertypes, st.binary(max_size=64))
def test_ethernet_agrees_with_scapy_both_ways(
    dst: str, src: str, ethertype: int, payload: bytes
) -> None:
    header = EthernetHeader(dst_addr=dst, src_addr=src, ethertype=ethertype)
    data = header.emit(payload)
    assert data == bytes(Ether(dst=dst, src=src, type=ethertype) / payload)
    read = Ether(data)
    assert (read.dst, read.src, read.type) == (dst, src, ethertype)
    assert EthernetHeader.parse(data) == (header, payload)


@given(
    st.integers(0, 7), st.integers(0, 1), st.integers(0, 4095), ethertypes, st.binary(max_size=64)
)
def test_vlan_tag_agrees_with_scapy_both_ways(
    pcp: int, dei: int, vid: int, ethertype: int, payload: bytes
) -> None:
    tag = VLANTag(pcp=pcp, dei=dei, vid=vid, ethertype=ethertype)
    data = tag.emit(payload)
    assert data == bytes(Dot1Q(prio=pcp, dei=dei, vlan=vid, type=ethertype) / payload)
    read = Dot1Q(data)
    assert (read.prio, read.dei, read.vlan, read.type) == (pcp, dei, vid, ethertype)
    assert VLANTag.parse(data) == (tag, payload)


def test_two_tags_announce_themselves_as_scapys_do() -> None:
    ours = (
        EthernetHeader(dst_addr=MAC2, src_addr=MAC1)
        / VLANTag(tpid=0x88A8, vid=100)
        / VLANTag(vid=200, pcp=5)
        / IPv4Header(src_addr="10.0.0.1", dst_addr="10.0.0.2")
    ).emit()
    head = bytes(
        Ether(dst=MAC2, src=MAC1) / Dot1AD(vlan=100) / Dot1Q(vlan=200, prio=5, type=0x0800)
    )
    assert ours[:22] == head
    ethernet, rest = EthernetHeader.parse(ours)
    outer, rest = VLANTag.parse(rest, tpid=ethernet.ethertype)
    inner, rest = VLANTag.parse(rest, tpid=outer.ethertype)
    assert (outer.tpid, inner.tpid) == (0x88A8, 0x8100)
    assert (EthernetHeader(dst_addr=MAC2, src_addr=MAC1) / outer / inner / rest).emit() == ours


@pytest.mark.parametrize("outer", [EthernetHeader(), VLANTag()], ids=["ethernet", "vlan"])
@pytest.mark.parametrize(
    ("inner", "ethertype"),
    [
        (IPv4Header(), 0x0800),
        (IPv6Header(), 0x86DD),
        (ARPMessage(), 0x0806),
        (VLANTag(), 0x8100),
        (VLANTag(tpid=0x88A8), 0x88A8),
        (VLANTag(tpid=0x9100, ethertype=0x0800), 0x9100),
        (b"plain", 0xFFFF),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ethertype_comes_from_the_layer_inside(outer, inner, ethertype: int) -> None:
    parsed, _ = type(outer).parse((outer / inner).emit())
    assert parsed.ethertype == ethertype


def test_given_ethertype_wins_over_the_layer_inside() -> None:
    assert (EthernetHeader(ethertype=0x1234) / IPv4Header()).emit()[12:14] == b"\x12\x34"


def test_length_of_an_802_3_frame_is_data_and_ends_the_payload() -> None:
    data = EthernetHeader(ethertype=3).emit(b"llc" + bytes(43))
    header, payload = EthernetHeader.parse(data)
    assert (header.ethertype, header.length, payload) == (3, 3, b"llc")
    assert EthernetHeader.parse(data[:16])[1] == b"ll"
    assert VLANTag.parse(VLANTag(ethertype=3).emit(b"llc padding"))[1] == b"llc"


@pytest.mark.parametrize("ethertype", [1501, 1535, 1536, 0xFFFF])
def test_from_1501_on_no_length_is_seen(ethertype: int) -> None:
    header, payload = EthernetHeader.parse(EthernetHeader(ethertype=ethertype).emit(b"x" * 1600))
    assert header.length is None
    assert len(payload) == 1600


@given(st.binary(min_size=14, max_size=80))
def test_any_bytes_are_a_frame_that_emits_again(data: bytes) -> None:
    header, payload = EthernetHeader.parse(data)
    assert header.emit(payload + data[14 + len(payload) :]) == data


@given(
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 0xFFFF),
)
def test_linux_cooked_agrees_with_scapy_both_ways(
    packet_type: int, arphrd_type: int, address_length: int, address: bytes, protocol_type: int
) -> None:
    header = LinuxCooked(
        packet_type=packet_type,
        arphrd_type=arphrd_type,
        address_length=address_length,
        address=address,
        protocol_type=protocol_type,
    )
    data = header.emit(b"payload")
    theirs = CookedLinux(
        pkttype=packet_type,
        lladdrtype=arphrd_type,
        lladdrlen=address_length,
        src=address,
        proto=protocol_type,
    )
    assert data[:16] == bytes(theirs)[:16]
    assert LinuxCooked.parse(data) == (header, b"payload")


@given(
    st.integers(0, 255),
    st.integers(0, 0xFFFF),
    st.integers(0, 8),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 0xFFFF),
    st.integers(0, 2**32 - 1),
    st.integers(0, 0xFFFF),
)
def test_linux_cooked_2_agrees_with_scapy_both_ways(
    packet_type: int,
    arphrd_type: int,
    length: int,
    address: bytes,
    protocol: int,
    index: int,
    reserved: int,
) -> None:
    header = LinuxCooked2(
        packet_type=packet_type,
        arphrd_type=arphrd_type,
        address_length=length,
        address=address,
        protocol_type=protocol,
        interface_index=index,
        reserved=reserved,
    )
    data = header.emit(b"payload")
    theirs = CookedLinuxV2(
        pkttype=packet_type,
        lladdrtype=arphrd_type,
        lladdrlen=length,
        src=address,
        proto=protocol,
        ifindex=index,
        reserved=reserved,
    )
    assert data[:20] == bytes(theirs)[:20]
    assert LinuxCooked2.parse(data) == (header, b"payload")


def test_cooked_address_is_readable_and_its_padding_kept() -> None:
    data = LinuxCooked(address=bytes.fromhex("020000000001beef")).emit()
    header, _ = LinuxCooked.parse(data)
    assert header.src_addr == MAC1
    assert header.emit() == data
    assert LinuxCooked2(address=header.address, address_length=0).src_addr == ""


@pytest.mark.parametrize("header", [LinuxCooked(), LinuxCooked2()], ids=["v1", "v2"])
def test_cooked_protocol_type_comes_from_the_layer_inside(header) -> None:
    parsed, _ = type(header).parse((header / IPv6Header()).emit())
    assert parsed.protocol_type == 0x86DD
    parsed, _ = type(header).parse((header / b"plain").emit())
    assert parsed.protocol_type == 0xFFFF


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("family", [0, 2, 10, 24, 28, 30])
def test_loopback_family_is_read_in_either_byte_order(family: int, byte_order: str) -> None:
    data = family.to_bytes(4, byte_order) + b"payload"
    header, payload = LoopbackHeader.parse(data)
    assert (header.family, payload) == (family, b"payload")
    assert header.emit(payload) == data


def test_loopback_agrees_with_scapy() -> None:
    assert LoopbackHeader(family=2).emit() == bytes(Loopback(type=2))
    assert Loopback(LoopbackHeader(family=30).emit()).type == 30


def test_loopback_family_comes_from_the_layer_inside() -> None:
    assert (LoopbackHeader() / IPv4Header()).emit()[:4] == b"\x02\0\0\0"
    assert (LoopbackHeader() / IPv6Header()).emit()[:4] == b"\x1e\0\0\0"
    assert LoopbackHeader().emit(b"x")[:4] == bytes(4)


@given(st.binary(min_size=4, max_size=4))
def test_any_loopback_header_emits_again_as_it_was(data: bytes) -> None:
    assert LoopbackHeader.parse(data)[0].emit() == data


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (EthernetHeader(ethertype=0x0800), 14),
        (EthernetHeader(ethertype=4), 14),
        (VLANTag(ethertype=0x0800), 4),
        (LinuxCooked(), 16),
        (LinuxCooked2(), 20),
        (LoopbackHeader(), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_damage_is_located(header, size: int) -> None:
    data = header.emit(b"payload")
    parse = type(header).parse
    assert_parser_is_total(parse, data)
    assert_truncated_below(parse, data, size)
    with pytest.raises(TruncatedError) as truncated:
        parse(data[: size - 1])
    assert (truncated.value.needed, truncated.value.got) == (size, size - 1)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (EthernetHeader(dst_addr="02:00:00:00:00"), "MAC"),
        (EthernetHeader(src_addr="10.0.0.1"), "MAC"),
        (EthernetHeader(ethertype=65536), "ethertype"),
        (VLANTag(pcp=8), "pcp"),
        (VLANTag(dei=2), "dei"),
        (VLANTag(vid=4096), "vid"),
        (VLANTag(vid=-1), "vid"),
        (VLANTag(vid="7"), "vid"),
        (VLANTag(tpid=65536), "tpid"),
        (LinuxCooked(packet_type=65536), "packet_type"),
        (LinuxCooked(protocol_type=-1), "protocol_type"),
        (LinuxCooked(address=b"short"), "8 bytes"),
        (LinuxCooked2(packet_type=256), "packet_type"),
        (LinuxCooked2(address=bytes(9)), "8 bytes"),
        (LoopbackHeader(family=2**32), "family"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_field_that_does_not_fit_is_named(header, match: str) -> None:
    with pytest.raises(EmitError, match=match):
        header.emit(b"payload")


def test_broadcast_is_an_address() -> None:
    assert EthernetHeader(dst_addr=BROADCAST).emit()[:6] == b"\xff" * 6
