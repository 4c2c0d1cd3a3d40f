"""IPv6: fields both ways against scapy, damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import IPv6

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import FragmentHeader, HopByHopOptions
from rawproto.wire.tcp import TCPHeader
from rawproto.wire.udp import UDPHeader
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

ipv6_addresses = st.ip_addresses(v=6).map(str)

headers = st.builds(
    IPv6Header,
    traffic_class=st.integers(0, 255),
    flow_label=st.integers(0, 0xFFFFF),
    next_header=st.integers(0, 255),
    hop_limit=st.integers(0, 255),
    src_addr=ipv6_addresses,
    dst_addr=ipv6_addresses,
)

HEADER = IPv6Header(next_header=253, src_addr="2001:db8::1", dst_addr="2001:db8::2")


def fields_of(packet: IPv6) -> dict[str, object]:
    """scapy's fields under the RFC's names."""
    return {
        "version": packet.version,
        "traffic_class": packet.tc,
        "flow_label": packet.fl,
        "payload_length": packet.plen,
        "next_header": packet.nh,
        "hop_limit": packet.hlim,
        "src_addr": packet.src,
        "dst_addr": packet.dst,
    }


@given(headers, st.binary(max_size=64))
def test_agrees_with_scapy_both_ways(header: IPv6Header, payload: bytes) -> None:
    data = header.emit(payload)
    theirs = bytes(
        IPv6(
            tc=header.traffic_class,
            fl=header.flow_label,
            nh=header.next_header,
            hlim=header.hop_limit,
            src=header.src_addr,
            dst=header.dst_addr,
        )
        / payload
    )
    assert data == theirs
    parsed, rest = IPv6Header.parse(theirs)
    read = fields_of(IPv6(data))
    assert {name: getattr(parsed, name) for name in read} == read
    assert rest == payload
    assert parsed.emit(rest) == theirs


@given(st.binary(min_size=40, max_size=120).map(lambda data: b"\x60" + data[1:]))
def test_any_header_emits_again_as_it_was(data: bytes) -> None:
    header, payload = IPv6Header.parse(data)
    assert header.emit(payload) == data[: 40 + len(payload)]


@pytest.mark.parametrize(
    ("inner", "next_header"),
    [
        (UDPHeader(checksum=0), 17),
        (TCPHeader(checksum=0), 6),
        (IPv6Header(), 41),
        (IPv4Header(), 4),
        (HopByHopOptions(), 0),
        (FragmentHeader(), 44),
        (b"plain", 255),
        (b"", 59),
    ],
    ids=lambda value: type(value).__name__,
)
def test_next_header_comes_from_what_is_inside(inner, next_header: int) -> None:
    assert (IPv6Header() / inner).emit()[6] == next_header
    assert (IPv6Header(next_header=99) / inner).emit()[6] == 99


def test_traffic_class_is_dscp_and_ecn() -> None:
    header = IPv6Header(traffic_class=0b10111001)
    assert (header.dscp, header.ecn) == (46, 1)


def test_payload_ends_at_payload_length() -> None:
    data = HEADER.emit(b"payload")
    assert IPv6Header.parse(data + b"ethernet padding")[1] == b"payload"
    assert IPv6Header.parse(data[:-3])[1] == b"payl"
    assert IPv6Header.parse(data[:4] + b"\0\0" + data[6:])[1] == b"payload"


def test_jumbogram_wants_its_length_said() -> None:
    with pytest.raises(EmitError, match="jumbogram"):
        HEADER.emit(bytes(65536))
    data = IPv6Header(payload_length=0).emit(bytes(65536))
    assert IPv6Header.parse(data)[1] == bytes(65536)


def test_damage_is_located() -> None:
    data = HEADER.emit(b"payload")
    assert_parser_is_total(IPv6Header.parse, data)
    assert_truncated_below(IPv6Header.parse, data, 40)
    with pytest.raises(TruncatedError) as truncated:
        IPv6Header.parse(data[:39])
    assert (truncated.value.needed, truncated.value.got) == (40, 39)
    with pytest.raises(MalformedError, match="version 4"):
        IPv6Header.parse(b"\x45" + data[1:])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 16),
        ("traffic_class", 256),
        ("flow_label", 1 << 20),
        ("flow_label", -1),
        ("payload_length", 65536),
        ("next_header", 256),
        ("hop_limit", -1),
        ("hop_limit", "64"),
        ("src_addr", "10.0.0.1"),
        ("dst_addr", "fe80::1%eth0"),
        ("dst_addr", None),
    ],
)
def test_field_that_does_not_fit_is_named(name: str, value: object) -> None:
    with pytest.raises(EmitError) as refused:
        IPv6Header(**{name: value}).emit()
    assert refused.value.value == value
    assert name in str(refused.value) or name.endswith("_addr")
