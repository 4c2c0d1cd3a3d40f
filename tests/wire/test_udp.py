"""UDP: fields and checksums both ways against scapy, over both families."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption_LSRR
from scapy.layers.inet6 import IPv6

from rawproto.errors import EmitError, MalformedError
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv4_options import SourceRoute
from rawproto.wire.udp import UDPHeader
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

ADDRESSES = {
    4: {"src_addr": "10.0.0.1", "dst_addr": "10.0.0.2"},
    6: {"src_addr": "2001:db8::1", "dst_addr": "2001:db8::2"},
}

ports = st.integers(0, 0xFFFF)


@pytest.mark.parametrize("family", [4, 6])
@given(src_port=ports, dst_port=ports, payload=st.binary(max_size=64))
def test_scapy_builds_the_same_bytes_and_we_read_them(
    family: int, src_port: int, dst_port: int, payload: bytes
) -> None:
    addresses = ADDRESSES[family]
    outer = IP if family == 4 else IPv6
    packet = outer(src=addresses["src_addr"], dst=addresses["dst_addr"])
    theirs = bytes(packet / UDP(sport=src_port, dport=dst_port) / payload)[len(bytes(packet)) :]
    header = UDPHeader(src_port=src_port, dst_port=dst_port)
    assert header.emit(payload, **addresses) == theirs
    parsed, rest = UDPHeader.parse(theirs)
    read = UDP(theirs)
    assert (parsed.src_port, parsed.dst_port, parsed.length, parsed.checksum) == (
        read.sport,
        read.dport,
        read.len,
        read.chksum,
    )
    assert rest == payload
    assert parsed.recomputed() == header
    assert parsed.emit(rest) == theirs
    assert UDPHeader.verify(theirs, **addresses) is True


def test_sum_of_zero_is_sent_as_all_ones() -> None:
    # The payload is chosen so that the computed checksum is 0.
    bare = UDPHeader().emit(b"\0\0", **ADDRESSES[4])
    header = UDPHeader()
    data = header.emit(bare[6:8], **ADDRESSES[4])
    assert data[6:8] == b"\xff\xff"
    assert UDPHeader.verify(data, **ADDRESSES[4]) is True


def test_no_checksum_is_lawful_over_ipv4_only() -> None:
    data = UDPHeader(checksum=0).emit(b"abc")
    assert UDPHeader.verify(data, **ADDRESSES[4]) is None
    assert UDPHeader.verify(data, **ADDRESSES[6]) is False


def test_damaged_payload_fails_verification() -> None:
    data = UDPHeader().emit(b"abcd", **ADDRESSES[4])
    assert UDPHeader.verify(data[:-1] + b"x", **ADDRESSES[4]) is False


def test_damage_is_located() -> None:
    data = UDPHeader(checksum=1).emit(b"payload")
    assert_parser_is_total(UDPHeader.parse, data)
    assert_truncated_below(UDPHeader.parse, data, 8)
    with pytest.raises(MalformedError) as malformed:
        UDPHeader.parse(data[:4] + b"\0\x07" + data[6:])
    assert malformed.value.offset == 4


def test_payload_ends_at_length() -> None:
    data = UDPHeader(checksum=1).emit(b"payload")
    assert UDPHeader.parse(data + b"padding")[1] == b"payload"
    assert UDPHeader.parse(data[:-2])[1] == b"paylo"
    assert UDPHeader.parse(data[:4] + b"\0\0" + data[6:])[1] == b"payload"


def test_missing_addresses_and_bad_fields_are_named() -> None:
    with pytest.raises(EmitError, match="addresses"):
        UDPHeader().emit(b"x")
    with pytest.raises(EmitError, match="src_port"):
        UDPHeader(src_port=65536, checksum=0).emit()
    with pytest.raises(EmitError, match="65535"):
        UDPHeader(checksum=0).emit(bytes(65528))


@pytest.mark.parametrize("pointer", [4, 8, 12])
def test_checksum_behind_a_source_route_is_over_the_last_address(pointer: int) -> None:
    route = SourceRoute(addresses=("10.0.0.8", "10.0.0.9"), pointer=pointer)
    packet = IPv4Header(**ADDRESSES[4], options=(route,)) / UDPHeader(dst_port=9) / b"data"
    theirs = IP(
        src="10.0.0.1",
        dst="10.0.0.2",
        id=0,
        options=[IPOption_LSRR(routers=list(route.addresses), pointer=pointer)],
    ) / UDP(sport=0, dport=9)
    if pointer <= 8:
        assert packet.emit()[32 + 6 :][:2] == bytes(theirs / b"data")[32 + 6 :][:2]
    last = "10.0.0.9" if pointer <= 8 else "10.0.0.2"
    assert UDPHeader.verify(packet.emit()[32:], src_addr="10.0.0.1", dst_addr=last) is True
