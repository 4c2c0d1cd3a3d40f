"""Dissection: every stack, every link type, nothing lost, nothing raised, checksums judged."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Dot3, Ether

from rawproto.errors import MalformedError, TruncatedError, WireError
from rawproto.wire.cooked import LinuxCooked
from rawproto.wire.dissect import (
    ETHERNET,
    LINK_TYPES,
    MAX_LAYERS,
    RAW,
    Dissection,
    checksums,
    dissect,
)
from rawproto.wire.dns import DNSMessage
from rawproto.wire.ethernet import EthernetHeader, VLANTag
from rawproto.wire.icmp import ICMPTimeExceeded
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import DestinationOptions, FragmentHeader
from rawproto.wire.tcp import TCPHeader
from rawproto.wire.udp import UDPHeader
from tests.wire.packets import PACKETS

each_packet = pytest.mark.parametrize(
    ("link_type", "data", "layers"), PACKETS.values(), ids=PACKETS.keys()
)

IP4 = IP(src="10.0.0.1", dst="10.0.0.2", id=7)
IP6 = IPv6(src="2001:db8::1", dst="2001:db8::2")


def names(found: Dissection) -> tuple[str, ...]:
    return tuple(type(layer).__name__ for layer in found.layers)


def assert_nothing_is_lost(found: Dissection) -> None:
    """The layers, the payload and the trailer are the packet, in this order."""
    spans = found.spans
    assert all(start < end for start, end in spans)
    assert [0, *[end for _, end in spans]] == [*[start for start, _ in spans], found.payload_offset]
    assert found.data[found.payload_offset :] == found.payload + found.trailer
    assert found.packet.emit() + found.trailer == found.data
    assert len(found.layers) <= MAX_LAYERS
    assert found.damage is None or isinstance(found.damage, WireError)


@each_packet
def test_each_stack_is_read_and_emits_again_as_it_was(
    link_type: int, data: bytes, layers: tuple[str, ...]
) -> None:
    found = dissect(data, link_type)
    assert names(found) == layers
    assert found.damage is None
    assert_nothing_is_lost(found)


@each_packet
def test_each_truncation_is_damage_and_keeps_what_is_there(
    link_type: int, data: bytes, layers: tuple[str, ...]
) -> None:
    whole = dissect(data, link_type)
    for end in range(len(data)):
        found = dissect(data[:end], link_type)
        assert_nothing_is_lost(found)
        assert names(found) == layers[: len(found.layers)]
        if end < len(data) - len(whole.trailer):
            assert found.damage is not None
        # A message that is cut short is another message, a header is not.
        for ours, theirs in zip(found.layers, whole.layers, strict=False):
            if isinstance(ours, IPv4Header | IPv6Header | UDPHeader | TCPHeader | EthernetHeader):
                assert ours == theirs


@each_packet
def test_damaged_bytes_lose_nothing(link_type: int, data: bytes, layers: tuple[str, ...]) -> None:
    rng = random.Random(data)
    for _ in range(400):
        mutated = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            mutated[rng.randrange(len(mutated))] = rng.choice(
                (0, 1, 0x7F, 0xFF, rng.randrange(256))
            )
        found = dissect(
            bytes(mutated[: rng.choice((len(data), rng.randrange(len(data))))]), link_type
        )
        assert_nothing_is_lost(found)
        assert all(verdict in (True, False, None) for _, verdict in checksums(found))


@given(st.binary(max_size=200), st.sampled_from([*LINK_TYPES, 147]))
def test_random_bytes_lose_nothing(data: bytes, link_type: int) -> None:
    found = dissect(data, link_type)
    assert_nothing_is_lost(found)
    checksums(found)


@given(st.sampled_from([0x45, 0x46, 0x4F, 0x60]), st.integers(0, 255), st.binary(max_size=160))
def test_random_bytes_behind_a_version_lose_nothing(first: int, protocol: int, body: bytes) -> None:
    at = 9 if first >> 4 == 4 else 6
    data = bytes((first,)) + body
    data = data[:at] + bytes((protocol % 64,)) + data[at + 1 :]
    assert_nothing_is_lost(dissect(data, RAW))


def test_unknown_link_type_is_all_payload() -> None:
    found = dissect(b"some radio frame", 127)
    assert (found.layers, found.payload, found.damage) == ([], b"some radio frame", None)


def test_nothing_is_damage() -> None:
    for link_type in LINK_TYPES:
        found = dissect(b"", link_type)
        assert found.layers == []
        assert isinstance(found.damage, TruncatedError)


def test_layers_are_found_by_class_and_by_place() -> None:
    link_type, data, _ = PACKETS["two tags"]
    found = dissect(data, link_type)
    assert found.offsets == [0, 14, 18, 22, 42]
    assert found.spans == [(0, 14), (14, 18), (18, 22), (22, 42), (42, 50)]
    assert [tag.tpid for tag in found.layers if isinstance(tag, VLANTag)] == [0x88A8, 0x8100]
    assert found[VLANTag].vid == 100
    assert UDPHeader in found
    assert TCPHeader not in found
    with pytest.raises(KeyError, match="TCPHeader"):
        found[TCPHeader]


def test_padding_is_the_trailer_and_no_payload() -> None:
    data = bytes(Ether(dst="02:00:00:00:00:02") / IP4 / UDP(sport=1, dport=2) / b"ab") + bytes(16)
    found = dissect(data)
    assert (found.payload, found.trailer, found.damage) == (b"ab", bytes(16), None)
    found = dissect(bytes(Ether(dst="02:00:00:00:00:02") / ARP()) + bytes(18))
    assert (found.payload, found.trailer) == (b"", bytes(18))


def test_what_udp_leaves_over_is_trailer_too() -> None:
    data = bytes(IP4 / UDP(sport=1, dport=2, len=10, chksum=0) / b"ab-left")
    found = dissect(data + b"-padding", RAW)
    assert (found.payload, found.trailer) == (b"ab", b"-left-padding")


def test_802_3_frame_is_payload_up_to_its_length() -> None:
    found = dissect(bytes(Dot3(src="02:00:00:00:00:01") / b"llc") + bytes(43))
    assert names(found) == ("EthernetHeader",)
    assert (found.payload, found.trailer, found.damage) == (b"llc", bytes(43), None)
    cut = dissect(bytes(Dot3(len=100) / b"llc"))
    assert isinstance(cut.damage, TruncatedError)
    tagged = dissect((EthernetHeader() / VLANTag(ethertype=100) / b"llc").emit())
    assert isinstance(tagged.damage, TruncatedError)


def test_packet_that_ends_before_its_length_is_damaged_but_read() -> None:
    whole = bytes(Ether(dst="02:00:00:00:00:02") / IP4 / TCP(sport=1, dport=2) / bytes(100))
    found = dissect(whole[:64])
    assert names(found) == ("EthernetHeader", "IPv4Header", "TCPHeader")
    assert len(found.payload) == 10
    damage = found.damage
    assert isinstance(damage, TruncatedError)
    assert (damage.layer, damage.needed, damage.got) == ("ipv4", 140, 50)
    found = dissect(bytes(IP6 / UDP() / bytes(100))[:60], RAW)
    assert isinstance(found.damage, TruncatedError)
    assert (found.damage.layer, found.damage.needed) == ("ipv6", 148)
    found = dissect(bytes(IP4 / UDP(len=100)), RAW)
    assert isinstance(found.damage, TruncatedError)
    assert (found.damage.layer, found.damage.needed, found.damage.got) == ("udp", 100, 8)


def test_first_damage_is_the_one_that_is_told() -> None:
    found = dissect(bytes(IP4 / TCP() / b"data")[:30], RAW)
    assert names(found) == ("IPv4Header",)
    assert found.damage is not None
    assert found.damage.layer == "ipv4"
    found = dissect(bytes(IP4 / TCP(dataofs=4)), RAW)
    assert isinstance(found.damage, MalformedError)
    assert found.damage.layer == "tcp"
    assert len(found.payload) == 20


def test_later_fragments_are_not_read_as_transport() -> None:
    found = dissect(bytes(IP(frag=100, proto=6) / bytes(40)), RAW)
    assert names(found) == ("IPv4Header",)
    assert found.fragment
    assert (found.payload, found.damage) == (bytes(40), None)
    found = dissect(bytes(IP6 / IPv6ExtHdrFragment(offset=100, nh=17) / bytes(40)), RAW)
    assert names(found) == ("IPv6Header", "FragmentHeader")
    assert found.fragment
    assert (found.payload, found.damage) == (bytes(40), None)


def test_of_a_first_fragment_the_transport_header_is_read_and_no_more() -> None:
    head = bytes(UDP(sport=53, dport=53, len=2000, chksum=1)) + bytes(16)
    found = dissect(bytes(IP(flags="MF", proto=17) / head), RAW)
    assert names(found) == ("IPv4Header", "UDPHeader")
    assert found.fragment
    assert (found.payload, found.damage) == (bytes(16), None)
    found = dissect(bytes(IP6 / IPv6ExtHdrFragment(m=1, nh=17) / head), RAW)
    assert names(found) == ("IPv6Header", "FragmentHeader", "UDPHeader")
    assert (found.payload, found.damage) == (bytes(16), None)


def test_a_whole_packet_with_a_fragment_header_is_no_fragment() -> None:
    found = dissect(bytes(IP6 / IPv6ExtHdrFragment(id=1) / UDP(sport=1, dport=2)), RAW)
    assert not found.fragment
    assert UDPHeader in found


@pytest.mark.parametrize(
    ("data", "link_type"),
    [
        (bytes(12) + (0x8100).to_bytes(2, "big") * 200, ETHERNET),
        (bytes(IPv6(plen=0, nh=60)) + b"\x3c\0\1\4\0\0\0\0" * 200, RAW),
        (b"".join([bytes(IP(proto=4, len=0))] * 200), RAW),
    ],
    ids=["tags", "extension headers", "tunnels"],
)
def test_nesting_is_followed_only_so_deep(data: bytes, link_type: int) -> None:
    found = dissect(data, link_type)
    assert len(found.layers) == MAX_LAYERS
    assert isinstance(found.damage, MalformedError)
    assert_nothing_is_lost(found)


def test_dns_is_read_on_its_ports_only_and_its_damage_kept() -> None:
    link_type, data, _ = PACKETS["query"]
    found = dissect(data, link_type)
    assert found[DNSMessage].identifier == 77
    elsewhere = data[:36] + (54).to_bytes(2, "big") + data[38:]
    assert DNSMessage not in dissect(elsewhere, link_type)
    found = dissect(bytes(IP4 / UDP(sport=1, dport=53) / b"no dns"), RAW)
    assert names(found) == ("IPv4Header", "UDPHeader")
    assert found.payload == b"no dns"
    assert found.damage is not None
    assert found.damage.layer == "dns"
    assert dissect(bytes(IP4 / UDP(sport=1, dport=53)), RAW).damage is None


def test_a_netlink_message_is_not_taken_for_a_protocol() -> None:
    data = LinuxCooked(arphrd_type=824, protocol_type=0x0800).emit(b"\x45 netlink")
    found = dissect(data, 113)
    assert names(found) == ("LinuxCooked",)
    assert found.damage is None


def test_version_decides_behind_a_raw_link() -> None:
    found = dissect(b"\x75" + bytes(40), RAW)
    assert isinstance(found.damage, MalformedError)
    assert "version 7" in str(found.damage)


def verdicts(data: bytes, link_type: int = RAW) -> list[bool | None]:
    return [verdict for _, verdict in checksums(dissect(data, link_type))]


@each_packet
def test_checksums_that_scapy_computed_are_right(
    link_type: int, data: bytes, layers: tuple[str, ...]
) -> None:
    found = dissect(data, link_type)
    told = checksums(found)
    assert [index for index, _ in told] == [
        index for index, layer in enumerate(found.layers) if hasattr(layer, "checksum")
    ]
    assert all(verdict is True for _, verdict in told)


@each_packet
def test_each_changed_byte_of_what_is_covered_makes_a_checksum_wrong(
    link_type: int, data: bytes, layers: tuple[str, ...]
) -> None:
    found = dissect(data, link_type)
    for index, _ in checksums(found):
        _, end = found.spans[index]
        changed = data[: end - 1] + bytes((data[end - 1] ^ 0x55,)) + data[end:]
        again = dissect(changed, link_type)
        if names(again) == layers:
            assert (index, False) in checksums(again)


def test_checksum_over_a_payload_is_judged_with_it() -> None:
    data = bytes(IP4 / TCP() / b"data")
    assert verdicts(data) == [True, True]
    assert verdicts(data[:-1] + b"x") == [True, False]


def test_udp_without_checksum_has_no_verdict_over_ipv4_and_a_bad_one_over_ipv6() -> None:
    assert verdicts(bytes(IP4 / UDP(chksum=0))) == [True, None]
    assert verdicts(bytes(IP6 / UDP(chksum=0))) == [False]


def test_what_is_cut_short_or_a_fragment_has_no_verdict() -> None:
    assert verdicts(bytes(IP4 / TCP() / bytes(50))[:60]) == [True, None]
    assert verdicts(bytes(IP6 / UDP() / bytes(50))[:60]) == [None]
    assert verdicts(bytes(IP4 / UDP(len=100))) == [True, None]
    assert verdicts(bytes(IP(flags="MF", proto=6) / TCP())) == [True, None]
    assert verdicts(bytes(IP6 / IPv6ExtHdrFragment(m=1) / TCP())) == [None]
    assert verdicts(bytes(IP4 / IP(flags="MF") / TCP())) == [True, True, None]


def test_padding_is_not_taken_into_a_checksum() -> None:
    assert verdicts(
        bytes(Ether(dst="02:00:00:00:00:02") / IP4 / TCP()) + b"\xff" * 6, ETHERNET
    ) == [True, True]


def test_tag_and_tunnel_do_not_confuse_the_addresses() -> None:
    data = bytes(Ether(dst="02:00:00:00:00:02") / Dot1Q(vlan=1) / IP4 / IP6 / TCP() / b"x")
    assert verdicts(data, ETHERNET) == [True, True]


def test_stack_of_our_own_is_read_back_as_it_was_built() -> None:
    packet = (
        EthernetHeader(dst_addr="02:00:00:00:00:02")
        / IPv6Header(src_addr="2001:db8::1", dst_addr="2001:db8::2")
        / DestinationOptions()
        / FragmentHeader(identification=5)
        / TCPHeader(src_port=1, dst_port=2)
        / b"data"
    )
    found = dissect(packet.emit())
    assert names(found) == tuple(type(layer).__name__ for layer in list(packet)[:-1])
    assert found.payload == b"data"
    assert [verdict for _, verdict in checksums(found)] == [True]


def test_representation_tells_the_stack_and_the_damage() -> None:
    text = repr(dissect(bytes(IP4 / UDP(sport=1, dport=2) / b"data")[:30], RAW))
    assert "IPv4Header / UDPHeader" in text
    assert "payload of 2 bytes" in text
    assert "truncated" in text


def test_trailer_does_not_join_a_quoted_datagram() -> None:
    error = ICMPTimeExceeded(original_datagram=bytes(20), extensions=ICMPExtensions())
    data = (IPv4Header(src_addr="10.0.0.1", dst_addr="10.0.0.2") / error).emit()
    found = dissect(data + b"padding", RAW)
    assert found.trailer == b"padding"
    assert_nothing_is_lost(found)


def test_udp_that_is_all_there_is_judged_though_ip_claims_more() -> None:
    """As tshark does: the datagram's length is its own, and its checksum covers no more."""
    whole = IPv4Header(src_addr="192.0.2.1", dst_addr="192.0.2.2") / UDPHeader(dst_port=9) / b"data"
    packet = bytearray(whole.emit())
    packet[2:4] = (1000).to_bytes(2, "big")
    assert checksums(dissect(bytes(packet), RAW))[1] == (1, True)
    packet[-1] ^= 1
    assert checksums(dissect(bytes(packet), RAW))[1] == (1, False)
    assert checksums(dissect(bytes(packet[:-1]), RAW))[1] == (1, None)
