"""Made packets as files and wires take them: link types, and fragments that fit together."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, defragment

from rawproto.errors import EmitError, UsageError
from rawproto.packets.made import captured, fragments
from rawproto.packets.notation import craft
from rawproto.wire.dissect import dissect
from rawproto.wire.ethernet import EthernetHeader
from rawproto.wire.ipv4 import DF, MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import FragmentHeader, HopByHopOptions
from rawproto.wire.layer import Packet


def one(expression: str) -> Packet:
    (packet,) = craft(expression)
    return packet


@pytest.mark.parametrize(
    ("expression", "link_type"),
    [
        ("ethernet / ipv4", 1),
        ("ipv4 / udp", 101),
        ("ipv6 / udp", 101),
        ("cooked / ipv4", 113),
        ("cooked2 / ipv6", 276),
        ("loopback / ipv4", 0),
        ("loopback byte_order=big / ipv4", 108),
        ("hex:45000014", 101),
        ("hex:60000000", 101),
        ("hex:020000000001", 1),
        ('""', 1),
    ],
)
def test_a_packet_is_of_the_link_type_that_it_begins_with(expression: str, link_type: int) -> None:
    made = captured(one(expression))
    assert made.link_type == link_type
    assert made.data == one(expression).emit()
    assert made.original_length == len(made.data)
    assert made.time_ns == 0


def test_a_bare_arp_request_is_a_broadcast() -> None:
    made = captured(one("arp sender_hardware_addr=02:00:00:00:00:01 target_protocol_addr=10.0.0.2"))
    found = dissect(made.data, made.link_type)
    assert found[EthernetHeader] == EthernetHeader(
        dst_addr="ff:ff:ff:ff:ff:ff", src_addr="02:00:00:00:00:01", ethertype=0x0806
    )


def test_a_bare_arp_reply_goes_to_its_target() -> None:
    made = captured(one("arp operation=reply target_hardware_addr=02:00:00:00:00:02"))
    assert dissect(made.data)[EthernetHeader].dst_addr == "02:00:00:00:00:02"


def test_addresses_of_other_hardware_are_no_ethernet_addresses() -> None:
    made = captured(one("arp operation=2 target_hardware_addr=02:03 sender_hardware_addr=04:05"))
    assert made.data[:12] == b"\xff" * 6 + bytes(6)


def test_a_bare_tag_stands_on_ethernet() -> None:
    assert captured(one("vlan tpid=0x88a8 vid=7 / ipv4")).data[12:16].hex() == "88a80007"


@pytest.mark.parametrize("expression", ["udp", "tcp", "icmp", "dns", "ipv6_fragment"])
def test_a_layer_that_stands_in_another_begins_no_packet(expression: str) -> None:
    with pytest.raises(UsageError, match="a packet begins with ethernet, arp, ipv4 or ipv6"):
        captured(one(expression))


# --- fragments -----------------------------------------------------------------------------------


def test_scapy_puts_our_fragments_together_again() -> None:
    packet = one("ipv4 dst_addr=10.0.0.2 identification=9 / udp dst_port=7 / random:1400")
    pieces = [piece.emit() for piece in fragments(packet, 500, identification=1)]
    assert [len(piece) for piece in pieces] == [500, 500, 468]
    (whole,) = [p for p in defragment([IP(piece) for piece in pieces]) if p.haslayer("UDP")]
    del whole[IP].chksum
    assert bytes(whole) == packet.emit()


def test_fragments_without_an_identification_get_one_that_they_share() -> None:
    packet = one("ipv4 dst_addr=10.0.0.2 / icmp / random:100")
    for given, used in ((7, 7), (0x12345678, 0x5678), (0, 1), (0x10000, 1)):
        pieces = fragments(packet, 68, identification=given)
        assert {piece[IPv4Header].identification for piece in pieces} == {used}
    kept = one("ipv4 dst_addr=10.0.0.2 identification=3 / icmp / random:100")
    assert fragments(kept, 68, identification=7)[0][IPv4Header].identification == 3


def test_what_stands_outside_the_ip_header_stands_before_each_fragment() -> None:
    packet = one("ethernet src_addr=02:00:00:00:00:01 / vlan vid=3 / ipv4 / random:100")
    pieces = fragments(packet, 60, identification=1)
    assert len(pieces) == 3
    for piece in pieces:
        assert piece.layers[:2] == packet.layers[:2]
        assert len(piece.emit()) <= 18 + 60


def test_lengths_and_checksums_of_fragments_compute_themselves() -> None:
    packet = one("ipv4 flags=DF dst_addr=10.0.0.2 / udp / random:100")
    for piece in fragments(packet, 60, identification=1):
        assert (piece[IPv4Header].checksum, piece[IPv4Header].total_length) == (None, None)
        assert IPv4Header.verify(piece.emit())
        assert piece[IPv4Header].flags & DF, "what was asked for is not heeded, but stays"


def test_ipv6_fragments_repeat_what_routers_read() -> None:
    packet = one("ipv6 dst_addr=fd00::2 / ipv6_hop_by_hop options=router_alert / udp / random:600")
    first, last = fragments(packet, 400, identification=0x01020304)
    for piece in (first, last):
        assert [type(each) for each in piece.layers[:3]] == [
            IPv6Header,
            HopByHopOptions,
            FragmentHeader,
        ]
        assert piece[FragmentHeader].identification == 0x01020304
        assert len(piece.emit()) <= 400
    assert (first[FragmentHeader].flags, last[FragmentHeader].flags) == (MF, 0)
    payload = b"".join(each for piece in (first, last) for each in piece if isinstance(each, bytes))
    assert payload == packet.emit()[48:]


def test_what_fits_is_not_cut() -> None:
    packet = one("ipv4 / random:100")
    assert fragments(packet, 120, identification=1) == [packet]
    assert len(fragments(packet, 119, identification=1)) == 2


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(UsageError, match="IP header"):
        fragments(one("arp"), 500, identification=1)
    with pytest.raises(EmitError, match="no room"):
        fragments(one("ipv4 / random:30"), 27, identification=1)
