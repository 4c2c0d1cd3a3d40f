"""Fragments put together again, and what is done with those that lie."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, fragment6
from scapy.packet import Raw

from rawproto.packets.reassembly import Reassembled, Reassembler
from rawproto.wire.dissect import ETHERNET, RAW, dissect
from rawproto.wire.ethernet import EthernetHeader, VLANTag
from rawproto.wire.fragment import fragment_ipv4, fragment_ipv6
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import FragmentHeader
from rawproto.wire.udp import UDPHeader

SECOND = 1_000_000_000
A, B = "192.0.2.1", "198.51.100.2"
A6, B6 = "2001:db8::1", "2001:db8::2"
BODY = bytes(range(256)) * 4


def packet(version: int = 4, body: bytes = BODY, identification: int = 7) -> bytes:
    udp = UDPHeader(src_port=1, dst_port=9999)
    if version == 4:
        head = IPv4Header(src_addr=A, dst_addr=B, identification=identification)
        return (head / udp / body).emit()
    return (IPv6Header(src_addr=A6, dst_addr=B6) / udp / body).emit()


def pieces(version: int = 4, size: int = 300, identification: int = 7) -> list[bytes]:
    whole = packet(version, identification=identification)
    if version == 4:
        return fragment_ipv4(whole, size)
    return fragment_ipv6(whole, size, identification)


def piece(
    version: int, offset: int, data: bytes, *, more: bool = True, identification: int = 7
) -> bytes:
    """One fragment, as a stranger may make it."""
    flags, units = MF if more else 0, offset // 8
    if version == 4:
        head = IPv4Header(
            src_addr=A,
            dst_addr=B,
            protocol=17,
            identification=identification,
            flags=flags,
            fragment_offset=units,
        )
        return head.emit(data)
    inner = FragmentHeader(
        next_header=17, fragment_offset=units, flags=flags, identification=identification
    )
    return (IPv6Header(src_addr=A6, dst_addr=B6) / inner / data).emit()


def put(reassembler: Reassembler, *fragments: bytes, time_ns: int = 0) -> list[Reassembled | None]:
    return [reassembler.add(dissect(each, RAW), time_ns) for each in fragments]


def reasons(reassembler: Reassembler) -> list[str]:
    found = []
    while trouble := reassembler.poll_trouble():
        found.append(trouble.reason)
    return found


@pytest.mark.parametrize("version", [4, 6])
@given(seed=st.integers(0, 1000), size=st.integers(80, 900), twice=st.booleans())
def test_fragments_in_any_order_give_the_packet_that_was_cut(
    version: int, seed: int, size: int, twice: bool
) -> None:
    fragments = pieces(version, size)
    order = fragments * 2 if twice else fragments
    random.Random(seed).shuffle(order)
    reassembler = Reassembler()
    made = [each for each in put(reassembler, *order) if each]
    assert made[0].packet == packet(version)
    assert made[0].fragments == len(fragments)
    assert not reasons(reassembler)
    if not twice:
        assert (len(reassembler), reassembler.held_bytes) == (0, 0)


def test_scapys_fragments_are_put_together() -> None:
    four = IP(src=A, dst=B, id=99, options=b"\x94\x04\x00\x00") / ICMP() / Raw(BODY)
    made = [each for each in put(Reassembler(), *map(bytes, fragment(four, 200))) if each]
    assert made[0].packet == bytes(four)
    head = IPv6(src=A6, dst=B6) / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(id=5)
    cut = [bytes(each) for each in fragment6(head / UDP(sport=1, dport=2) / Raw(BODY), 200)]
    (made6,) = [each for each in put(Reassembler(), *cut) if each]
    found = dissect(made6.packet, RAW)
    assert [layer.layer for layer in found.layers] == ["ipv6", "ipv6_ext", "udp"]
    assert found.payload == BODY
    assert found.damage is None


def test_what_is_no_fragment_is_left_alone() -> None:
    reassembler = Reassembler()
    atomic = IPv6Header(src_addr=A6, dst_addr=B6) / FragmentHeader(identification=1)
    found = dissect((atomic / UDPHeader(src_port=1, dst_port=2) / b"x").emit(), RAW)
    assert reassembler.add(found, 0) is None
    assert reassembler.whole(found, 0) is found
    assert len(reassembler) == 0


def test_packets_of_other_keys_do_not_mix() -> None:
    reassembler = Reassembler()
    first, *_, last = pieces(identification=1)
    other = pieces(identification=2)
    header, payload = IPv4Header.parse(other[-1])
    icmp = dataclasses.replace(header.recomputed(), protocol=1, identification=1).emit(payload)
    assert put(reassembler, first, icmp, *other[1:], last)[-1] is None
    assert len(reassembler) == 3
    assert put(reassembler, other[0])[0] is not None


def test_networks_of_two_vlans_do_not_mix() -> None:
    reassembler = Reassembler()
    one, two = fragment_ipv4(packet(), 600)

    def framed(vid: int, inner: bytes) -> bytes:
        return EthernetHeader().emit_within(
            VLANTag(vid=vid, ethertype=0x0800).emit(inner), VLANTag(), None, None
        )

    assert reassembler.add(dissect(framed(1, one), ETHERNET), 0) is None
    assert reassembler.add(dissect(framed(2, two), ETHERNET), 0) is None
    assert reassembler.add(dissect(framed(1, two), ETHERNET), 0) is not None


def test_fragments_within_fragments_are_both_put_together() -> None:
    reassembler = Reassembler()
    inner = fragment_ipv4(packet(), 700)
    tunnel = IPv4Header(src_addr="203.0.113.1", dst_addr="203.0.113.2", protocol=4)
    found = None
    for number, each in enumerate(inner):
        outer = dataclasses.replace(tunnel, identification=number).emit(each)
        for cut in fragment_ipv4(outer, 300):
            found = reassembler.whole(dissect(cut, RAW), 0)
    assert found is not None
    assert found.data == packet()


@pytest.mark.parametrize("version", [4, 6])
def test_an_overlap_gives_up_the_packet_and_what_is_still_to_come_of_it(version: int) -> None:
    reassembler = Reassembler()
    put(reassembler, piece(version, 0, bytes(16)), piece(version, 8, b"evil" * 4))
    trouble = reassembler.poll_trouble()
    assert trouble is not None
    assert (trouble.reason, trouble.offset, trouble.fragments) == ("overlap", 8, 2)
    assert "fragments overlap, at byte 8" in str(trouble)
    rest = (piece(version, 0, bytes(16)), piece(version, 16, bytes(8), more=False))
    assert put(reassembler, *rest) == [None, None]
    assert reasons(reassembler) == []
    assert reassembler.given_up["overlap"] == 1


def test_a_fragment_that_brings_nothing_new_is_a_duplicate() -> None:
    reassembler = Reassembler()
    put(reassembler, piece(4, 0, b"abcdefgh" * 2), piece(4, 16, b"ABCDEFGH"))
    put(reassembler, piece(4, 8, b"abcdefghABCDEFGH"))
    (made,) = put(reassembler, piece(4, 24, b"end", more=False))
    assert made is not None
    assert made.packet.endswith(b"abcdefghabcdefghABCDEFGHend")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("reason", "lies"),
    [
        ("too long", [(65528, bytes(16), False)]),
        ("two ends", [(8, bytes(8), False), (32, bytes(8), True)]),
        ("two ends", [(32, bytes(8), True), (8, bytes(8), False)]),
        ("two ends", [(8, bytes(8), False), (8, bytes(16), False)]),
        ("bad length", [(8, bytes(9), True)]),
        ("bad length", [(8, b"", True)]),
    ],
)
def test_offsets_and_lengths_that_lie_give_up_the_packet(
    version: int, reason: str, lies: list[tuple[int, bytes, bool]]
) -> None:
    reassembler = Reassembler()
    for offset, data, more in lies:
        put(reassembler, piece(version, offset, data, more=more))
    assert reasons(reassembler) == [reason]
    assert reassembler.held_bytes == 0


@pytest.mark.parametrize("at", [0, 4, 7])
def test_options_of_the_first_fragment_count_into_the_length(at: int) -> None:
    """Each fragment alone would fit; the whole has 65515 bytes behind a header of 60."""
    reassembler = Reassembler()
    step = 8192
    fragments = [
        piece(4, offset, bytes(min(step, 65515 - offset)), more=offset + step < 65515)
        for offset in range(step, 65515, step)
    ]
    head = bytes(IP(src=A, dst=B, id=7, proto=17, flags="MF", options=b"\x01" * 40, len=8252))
    fragments.insert(at, head + bytes(step))
    assert put(reassembler, *fragments) == [None] * 8
    assert reasons(reassembler) == ["too long"]


def test_a_fragment_captured_in_part_gives_up_the_packet() -> None:
    reassembler = Reassembler()
    first, second = fragment_ipv4(packet(), 600)
    assert put(reassembler, first[:100], second) == [None, None]
    assert reasons(reassembler) == ["cut short"]


def test_what_takes_too_long_by_the_captures_clock_is_given_up() -> None:
    reassembler = Reassembler(timeout_ns=30 * SECOND)
    first, second = fragment_ipv4(packet(), 600)
    put(reassembler, first, time_ns=SECOND)
    assert put(reassembler, second, time_ns=32 * SECOND) == [None]
    assert reasons(reassembler) == ["timeout"]
    # The late one began anew: a clock that steps back expires nothing.
    assert put(reassembler, first, time_ns=0)[0] is not None


@pytest.mark.parametrize(("limits", "left"), [({"max_packets": 10}, 10), ({"max_bytes": 9000}, 24)])
def test_the_oldest_make_room(limits: dict[str, int], left: int) -> None:
    reassembler = Reassembler(**limits)
    for number in range(100):
        put(reassembler, pieces(identification=number)[0])
        assert reassembler.held_bytes <= 9000
    assert len(reassembler) == left
    assert reasons(reassembler) == ["evicted"] * (100 - left)
    assert put(reassembler, *pieces(identification=99)[1:])[-1] is not None


def test_the_end_gives_up_what_is_under_way_and_says_so() -> None:
    reassembler = Reassembler()
    put(reassembler, pieces()[0])
    reassembler.end(5)
    trouble = reassembler.poll_trouble()
    assert str(trouble) == f"fragments of packet 7 {A} > {B}: fragments are missing (1 seen)"
    assert (len(reassembler), reassembler.held_bytes) == (0, 0)


def test_troubles_nobody_polls_are_bounded() -> None:
    reassembler = Reassembler()
    for number in range(3000):
        put(reassembler, piece(4, 8, b"123", identification=number))
    assert len(reasons(reassembler)) == 1024
    assert reassembler.given_up["bad length"] == 3000


@given(st.lists(st.binary(max_size=80), max_size=12), st.integers(0, 2**32 - 1))
def test_any_fragments_survive_and_what_comes_out_is_sound(tails: list[bytes], seed: int) -> None:
    rng = random.Random(seed)
    reassembler = Reassembler(max_bytes=2000)
    for number, tail in enumerate(tails):
        made = put(
            reassembler,
            piece(rng.choice((4, 6)), rng.choice((0, 8, 16, 65528)), tail, more=rng.random() < 0.7),
            time_ns=number,
        )[0]
        assert reassembler.held_bytes <= 2000
        if made:
            found = dissect(made.packet, RAW)
            assert not found.fragment
            assert found.packet.emit() + found.trailer == made.packet
    reassembler.end(99)
    assert (len(reassembler), reassembler.held_bytes) == (0, 0)
