"""Fragments against scapy's, and put together again by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    defragment6,
    fragment6,
)

from rawproto.errors import EmitError, WireError
from rawproto.wire.fragment import fragment_ipv4, fragment_ipv6
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv4_options import NoOperation, RecordRoute, RouterAlert
from rawproto.wire.ipv6_chain import upper_layer, walk


@given(st.integers(0, 4000), st.integers(68, 1500))
def test_ipv4_fragments_equal_scapys(size: int, mtu: int) -> None:
    packet = IP(src="10.0.0.1", dst="10.0.0.2", id=7, ttl=9) / ICMP() / bytes(size)
    whole = bytes(packet)
    pieces = fragment_ipv4(whole, mtu)
    assert all(len(piece) <= mtu for piece in pieces)
    assert b"".join(piece[20:] for piece in pieces) == whole[20:]
    if len(pieces) > 1:
        theirs = fragment(IP(whole), fragsize=(mtu - 20) // 8 * 8)
        assert [bytes(each) for each in theirs] == pieces


def test_ipv4_options_are_copied_by_their_first_bit() -> None:
    whole = IPv4Header(
        protocol=253, options=(RecordRoute(addresses=("0.0.0.0",)), NoOperation(), RouterAlert())
    ).emit(bytes(600))
    pieces = [IPv4Header.parse(piece)[0] for piece in fragment_ipv4(whole, 300)]
    assert [len(piece.options) for piece in pieces] == [3, 1, 1]
    assert pieces[1].options == (RouterAlert(),)


@pytest.mark.parametrize("mtu", [1280, 1000, 512])
@pytest.mark.parametrize(
    "extensions",
    [
        None,
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrDestOpt(),
        IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting(addresses=["fd00::9"]),
    ],
)
def test_ipv6_fragments_are_put_together_again_by_scapy(mtu: int, extensions) -> None:
    base = IPv6(src="fd00::1", dst="fd00::2", hlim=3, fl=5)
    packet = base if extensions is None else base / extensions
    whole = bytes(packet / ICMPv6EchoRequest(id=1, seq=2, data=bytes(range(256)) * 10))
    pieces = fragment_ipv6(whole, mtu, 0xDEADBEEF)
    assert all(len(piece) <= mtu for piece in pieces)
    read = [IPv6(piece) for piece in pieces]
    assert {each[IPv6ExtHdrFragment].id for each in read} == {0xDEADBEEF}
    assert [each[IPv6ExtHdrFragment].m for each in read] == [1] * (len(read) - 1) + [0]
    again = defragment6(read)
    assert bytes(again)[40:] == whole[40:]


def test_ipv6_fragments_equal_scapys() -> None:
    packet = IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoRequest(data=bytes(3000))
    whole = bytes(packet)
    placed = IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrFragment(id=9) / IPv6(whole).payload
    theirs = [bytes(each) for each in fragment6(placed, 1280)]
    assert fragment_ipv6(whole, 1280, 9) == theirs


def test_what_fits_stays_whole_and_what_cannot_be_cut_is_refused() -> None:
    whole = bytes(IP() / bytes(100))
    assert fragment_ipv4(whole, 120) == [whole]
    with pytest.raises(EmitError, match="no room"):
        fragment_ipv4(whole, 27)
    with pytest.raises(EmitError, match="no room"):
        fragment_ipv6(bytes(IPv6() / bytes(100)), 55, 1)
    with pytest.raises(WireError):
        fragment_ipv4(b"\x60" + bytes(200), 100)


def test_chain_is_walked_to_the_upper_layer() -> None:
    packet = IPv6() / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(m=1) / ICMPv6EchoRequest()
    assert upper_layer(0, bytes(packet)[40:]) == (58, 16)
    assert upper_layer(58, b"") == (58, 0)
    later = IPv6() / IPv6ExtHdrFragment(offset=5) / b"data"
    assert upper_layer(44, bytes(later)[40:]) is None


@given(st.integers(0, 255), st.binary(max_size=300))
def test_any_chain_ends(next_header: int, data: bytes) -> None:
    steps = list(walk(next_header, data))
    assert len(steps) <= 16
    assert all(offset <= len(data) for _, offset in steps)
    upper_layer(next_header, data)


def test_what_stands_behind_the_packet_is_no_part_of_it() -> None:
    whole = bytes(IP(proto=253) / bytes(100))
    assert fragment_ipv4(whole + bytes(46), 120) == [whole]
    assert fragment_ipv4(bytes(IP(proto=253)) + bytes(80), 68) == [bytes(IP(proto=253))]
