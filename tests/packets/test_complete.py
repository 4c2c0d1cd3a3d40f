"""What a person leaves out is filled in, and what he gives stays."""

from __future__ import annotations

import pytest

from rawproto.errors import LinkError, UsageError
from rawproto.packets.complete import Completed, complete
from rawproto.wire.arp import ARPMessage
from rawproto.wire.dissect import ETHERNET, RAW
from rawproto.wire.dns import DNSMessage
from rawproto.wire.ethernet import BROADCAST, EthernetHeader, VLANTag
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Packet
from rawproto.wire.ndp import NeighborSolicitation, RouterSolicitation
from rawproto.wire.ndp_options import SourceLinkLayerAddress
from rawproto.wire.udp import UDPHeader
from tests.packets.surroundings import GROUP_MAC, NEIGHBOR_MAC, OWN_MAC, Host

LAST, FIRST = "10.0.0.2", "10.0.0.1"


def completed(packet: Packet, host: Host | None = None, **options: object) -> Completed:
    return complete(packet, host or Host(), **options)  # type: ignore[arg-type]


def test_source_address_is_that_of_the_way() -> None:
    for header, own in (
        (IPv4Header(dst_addr=LAST), FIRST),
        (IPv6Header(dst_addr="fd00::2"), "fd00::1"),
    ):
        made = completed(header / b"x")
        assert made.packet.layers[0].src_addr == own  # type: ignore[union-attr]
        assert (made.link_type, made.dst_addr, made.interface) == (RAW, header.dst_addr, "")


def test_given_source_address_stays() -> None:
    made = completed(IPv4Header(src_addr="192.0.2.9", dst_addr=LAST) / b"x")
    assert made.packet[IPv4Header].src_addr == "192.0.2.9"


def test_identification_is_given_to_whole_packets_without_one() -> None:
    for header, wanted in (
        (IPv4Header(dst_addr=LAST), 77),
        (IPv4Header(dst_addr=LAST, identification=5), 5),
        (IPv4Header(dst_addr=LAST, flags=MF), 0),
        (IPv4Header(dst_addr=LAST, fragment_offset=3), 0),
    ):
        made = completed(header / b"x", identification=77)
        assert made.packet[IPv4Header].identification == wanted


def test_dns_query_goes_to_its_port_where_none_is_given() -> None:
    for header, message, wanted in (
        (UDPHeader(), DNSMessage(), 53),
        (UDPHeader(dst_port=5353), DNSMessage(), 5353),
        (UDPHeader(), DNSMessage(qr=True), 0),
    ):
        packet = IPv4Header(dst_addr=LAST) / header / message
        assert completed(packet).packet[UDPHeader].dst_port == wanted
        assert completed(packet, fill=False).packet[UDPHeader].dst_port == header.dst_port


def test_frame_gets_both_mac_addresses_and_its_interface() -> None:
    host = Host()
    made = completed(EthernetHeader() / IPv4Header(dst_addr="192.0.2.7") / b"x", host)
    assert made.packet[EthernetHeader] == EthernetHeader(src_addr=OWN_MAC, dst_addr=NEIGHBOR_MAC)
    assert (made.link_type, made.interface, made.dst_addr) == (ETHERNET, "eth0", "192.0.2.7")
    assert "10.0.0.254 on eth0" in host.asked  # the gateway's, not that of the host behind it


def test_given_mac_addresses_stay_and_nobody_is_looked_for() -> None:
    host = Host()
    given = EthernetHeader(src_addr="02:00:00:00:00:aa", dst_addr="02:00:00:00:00:bb")
    made = completed(given / VLANTag(vid=7) / IPv4Header(dst_addr=LAST) / b"x", host)
    assert made.packet[EthernetHeader] == given
    assert not [each for each in host.asked if " on " in each]


def test_group_goes_to_its_own_mac_address() -> None:
    made = completed(EthernetHeader() / IPv4Header(dst_addr="224.0.0.1") / ICMPEcho())
    assert made.packet[EthernetHeader].dst_addr == GROUP_MAC
    assert made.group


def test_arp_request_is_broadcast_in_the_name_of_this_host() -> None:
    made = completed(Packet((ARPMessage(target_protocol_addr=LAST),)))
    ethernet, arp = made.packet.layers
    assert ethernet == EthernetHeader(src_addr=OWN_MAC, dst_addr=BROADCAST)
    assert arp == ARPMessage(
        sender_hardware_addr=OWN_MAC, sender_protocol_addr=FIRST, target_protocol_addr=LAST
    )
    assert (made.link_type, made.interface, made.group) == (ETHERNET, "eth0", False)


def test_arp_reply_goes_to_whom_it_is_for() -> None:
    reply = ARPMessage(operation=2, target_hardware_addr=NEIGHBOR_MAC, target_protocol_addr=LAST)
    assert completed(Packet((reply,))).packet[EthernetHeader].dst_addr == NEIGHBOR_MAC


def test_tag_alone_gets_an_ethernet_header() -> None:
    made = completed(VLANTag(vid=7) / IPv4Header(dst_addr=LAST) / b"x")
    assert [type(each) for each in made.packet.layers[:3]] == [EthernetHeader, VLANTag, IPv4Header]


def test_neighbor_solicitation_is_one_that_neighbors_take() -> None:
    made = completed(IPv6Header() / NeighborSolicitation(target_addr="fd00::12:3456"))
    header, message = made.packet.layers
    assert header == IPv6Header(src_addr="fd00::1", dst_addr="ff02::1:ff12:3456", hop_limit=255)
    assert message.options == (SourceLinkLayerAddress(mac_addr=OWN_MAC),)  # type: ignore[union-attr]
    assert not made.group  # one alone answers


def test_router_solicitation_goes_to_all_routers() -> None:
    made = completed(IPv6Header() / RouterSolicitation())
    assert made.packet[IPv6Header].dst_addr == "ff02::2"
    assert made.group


def test_other_icmpv6_keeps_its_hop_limit() -> None:
    made = completed(IPv6Header(dst_addr="fd00::2") / ICMPv6Echo())
    assert made.packet[IPv6Header].hop_limit == 64


@pytest.mark.parametrize(
    ("dst_addr", "group"),
    [(LAST, False), ("10.0.0.255", True), ("255.255.255.255", True), ("224.0.0.1", True)],
)
def test_group_is_known_as_one(dst_addr: str, group: bool) -> None:
    assert completed(IPv4Header(dst_addr=dst_addr) / ICMPEcho()).group is group


def test_as_it_is_means_as_it_is() -> None:
    packet = EthernetHeader() / IPv4Header(dst_addr=LAST) / UDPHeader() / DNSMessage()
    made = completed(packet, fill=False, identification=9)
    assert made.packet == packet
    assert made.interface == "eth0"


def test_as_it_is_an_ip_packet_asks_for_no_way() -> None:
    host = Host()
    packet = IPv4Header(dst_addr="203.0.113.1") / b"x"
    assert completed(packet, host, fill=False).packet == packet
    assert host.asked == []


def test_own_interface_wins_over_that_of_the_way() -> None:
    made = completed(
        EthernetHeader(dst_addr=NEIGHBOR_MAC) / IPv4Header(dst_addr=LAST) / b"x",
        Host(interface="eth7"),
    )
    assert made.interface == "eth7"


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (Packet((UDPHeader(dst_port=9),)), "begins with ethernet, arp, ipv4 or ipv6, not udp"),
        (Packet((b"abc",)), "not plain bytes"),
        (Packet(()), "not nothing"),
        (IPv4Header() / b"x", "ipv4: dst_addr is not given"),
        (IPv6Header() / b"x", "ipv6: dst_addr is not given"),
        (EthernetHeader() / b"x", "needs an interface"),
    ],
)
def test_what_nobody_can_guess_is_said_in_a_line(packet: Packet, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        completed(packet)
    assert "\n" not in str(caught.value)


def test_frame_of_unknown_content_needs_a_destination() -> None:
    with pytest.raises(UsageError, match="ethernet: dst_addr is not given"):
        completed(EthernetHeader(ethertype=0x88B5) / b"x", Host(interface="eth0"))
    made = completed(EthernetHeader(ethertype=0x88B5) / b"x", Host(interface="lo"))
    assert made.packet[EthernetHeader].dst_addr == "00:00:00:00:00:00"


def test_interface_without_frames_refuses_one() -> None:
    with pytest.raises(LinkError, match="tun0"):
        completed(EthernetHeader() / IPv4Header(dst_addr=LAST) / b"x", Host(interface="tun0"))


def test_no_way_is_told() -> None:
    with pytest.raises(LinkError, match=r"203\.0\.113\.1"):
        completed(IPv4Header(dst_addr="203.0.113.1") / b"x")
