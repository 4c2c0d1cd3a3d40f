"""Golden packets of IPv4 options and fragments, and of IPv6's extension headers."""

from __future__ import annotations

from collections.abc import Iterator

from scapy.layers.inet import (
    ICMP,
    IP,
    UDP,
    IPOption,
    IPOption_EOL,
    IPOption_LSRR,
    IPOption_NOP,
    IPOption_Router_Alert,
    IPOption_RR,
    IPOption_SSRR,
    IPOption_Timestamp,
)
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    PadN,
    RouterAlert,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.captures.golden import (
    HOST_1,
    HOST_1_V6,
    HOST_2,
    HOST_2_V6,
    MAC_1,
    MAC_2,
    ROUTER,
    ROUTER_V6,
    Golden,
    capture,
)

ETHER = Ether(src=MAC_1, dst=MAC_2)


def v4(**fields: object) -> Packet:
    return ETHER / IP(**{"src": HOST_1, "dst": HOST_2, "id": 0x1234} | fields)


def v6(**fields: object) -> Packet:
    return ETHER / IPv6(**{"src": HOST_1_V6, "dst": HOST_2_V6} | fields)


@capture("ipv4.pcap", "IPv4 headers and what may stand inside them (RFC 791, RFC 2474, RFC 3168)")
def ipv4() -> Iterator[Golden]:
    yield Golden(
        packet=v4(tos=0xB9, flags="DF", ttl=1, proto=253) / Raw(b"experiment"),
        note="expedited, ECT(1), don't fragment, TTL 1, an experimental protocol",
        stack="EthernetHeader / IPv4Header",
        expect={
            "IPv4Header.dscp": 46,
            "IPv4Header.ecn": 1,
            "IPv4Header.flags": 2,
            "IPv4Header.ttl": 1,
            "IPv4Header.protocol": 253,
            "IPv4Header.total_length": 30,
            "IPv4Header.identification": 0x1234,
            "IPv4Header.src_addr": HOST_1,
            "IPv4Header.dst_addr": HOST_2,
            "payload": b"experiment",
        },
    )
    yield Golden(
        packet=v4() / IP(src=ROUTER, dst=HOST_2, id=7) / UDP(sport=1, dport=9) / b"tunnel",
        note="IPv4 in IPv4",
        stack="EthernetHeader / IPv4Header / IPv4Header / UDPHeader",
        expect={"IPv4Header.protocol": 4, "payload": b"tunnel"},
    )
    yield Golden(
        packet=v4() / IPv6(src=HOST_1_V6, dst=HOST_2_V6) / UDP(sport=1, dport=9) / b"6in4",
        note="IPv6 in IPv4",
        stack="EthernetHeader / IPv4Header / IPv6Header / UDPHeader",
        expect={"IPv4Header.protocol": 41, "payload": b"6in4"},
    )


@capture("ipv4-options.pcap", "IPv4 options (RFC 791 section 3.1, RFC 2113)")
def ipv4_options() -> Iterator[Golden]:
    stack = "EthernetHeader / IPv4Header / ICMPEcho"
    echo = ICMP(id=1, seq=1)
    yield Golden(
        packet=v4(options=[IPOption_RR(routers=[ROUTER, "0.0.0.0", "0.0.0.0"], pointer=8)]) / echo,
        note="record route, one of three slots filled; padded by a zero",
        stack=stack,
        expect={
            "IPv4Header.ihl": 9,
            "IPv4Header.options.0.addresses": (ROUTER, "0.0.0.0", "0.0.0.0"),
            "IPv4Header.options.0.pointer": 8,
            "IPv4Header.options.0.recorded": (ROUTER,),
        },
    )
    yield Golden(
        packet=v4(
            options=[
                IPOption_NOP(),
                IPOption_LSRR(routers=[ROUTER], pointer=4),
                IPOption_NOP(),
                IPOption_SSRR(routers=["203.0.113.1", "203.0.113.2"], pointer=12),
                IPOption_EOL(),
            ]
        )
        / echo,
        note="loose and strict source route, aligned by no-operations",
        stack=stack,
        expect={
            "IPv4Header.options.0.kind": 1,
            "IPv4Header.options.1.strict": False,
            "IPv4Header.options.1.addresses": (ROUTER,),
            "IPv4Header.options.3.strict": True,
            "IPv4Header.options.3.pointer": 12,
        },
    )
    yield Golden(
        packet=v4(options=[IPOption_Router_Alert(alert=0)]) / echo,
        note="router alert",
        stack=stack,
        expect={"IPv4Header.options.0.kind": 148, "IPv4Header.options.0.value": 0},
    )
    yield Golden(
        packet=v4(
            options=[
                IPOption_Timestamp(
                    length=12,
                    pointer=13,
                    oflw=2,
                    flg=1,
                    internet_address=ROUTER,
                    timestamp=43200000,
                )
            ]
        )
        / echo,
        note="Internet timestamp with addresses: noon by one router, two found no slot",
        stack=stack,
        expect={
            "IPv4Header.options.0.flag": 1,
            "IPv4Header.options.0.overflow": 2,
            "IPv4Header.options.0.entries": ((ROUTER, 43200000),),
        },
    )
    yield Golden(
        # RFC 791 by hand: scapy's class has one slot only.
        packet=v4(options=[IPOption(bytes.fromhex("440c0900 00000001 80000002"))]) / echo,
        note="Internet timestamp, times alone: one slot filled, the next non-standard",
        stack=stack,
        expect={
            "IPv4Header.options.0.flag": 0,
            "IPv4Header.options.0.entries": ((None, 1), (None, 0x80000002)),
            "IPv4Header.options.0.recorded": ((None, 1),),
        },
    )
    yield Golden(
        packet=v4(options=[IPOption(copy_flag=1, optclass=2, option=30, value=b"data!!")]) / echo,
        note="an option that nobody knows",
        stack=stack,
        expect={"IPv4Header.options.0.kind": 222, "IPv4Header.options.0.data": b"data!!"},
    )
    yield Golden(
        packet=v4(options=[Raw(bytes.fromhex("0727 0400"))]) / echo,
        note="a record route that runs out of its field: kept as it is",
        stack=stack,
        expect={"IPv4Header.options.0.data": bytes.fromhex("07270400")},
    )


@capture("ipv4-fragments.pcap", "IPv4 fragments (RFC 791 section 3.2)")
def ipv4_fragments() -> Iterator[Golden]:
    datagram = bytes(UDP(sport=1024, dport=9, len=48, chksum=0x1111) / bytes(range(40)))
    yield Golden(
        packet=v4(flags="MF", frag=0, proto=17) / Raw(datagram[:16]),
        note="the first: UDP's header and 8 bytes",
        stack="EthernetHeader / IPv4Header / UDPHeader",
        expect={
            "IPv4Header.flags": 1,
            "IPv4Header.fragment_offset": 0,
            "UDPHeader.length": 48,
            "payload": bytes(range(8)),
        },
        computes=False,
    )
    yield Golden(
        packet=v4(flags="MF", frag=2, proto=17) / Raw(datagram[16:40]),
        note="the second: no UDP header begins here",
        stack="EthernetHeader / IPv4Header",
        expect={
            "IPv4Header.flags": 1,
            "IPv4Header.fragment_offset": 2,
            "payload": bytes(range(8, 32)),
        },
    )
    yield Golden(
        packet=v4(flags=0, frag=5, proto=17) / Raw(datagram[40:]),
        note="the last",
        stack="EthernetHeader / IPv4Header",
        expect={
            "IPv4Header.flags": 0,
            "IPv4Header.fragment_offset": 5,
            "payload": bytes(range(32, 40)),
        },
    )


@capture("ipv6.pcap", "IPv6 headers (RFC 8200, RFC 6437)")
def ipv6() -> Iterator[Golden]:
    yield Golden(
        packet=v6(tc=0xBA, fl=0xABCDE, hlim=1, nh=253) / Raw(b"experiment"),
        note="traffic class and flow label, hop limit 1, an experimental protocol",
        stack="EthernetHeader / IPv6Header",
        expect={
            "IPv6Header.traffic_class": 0xBA,
            "IPv6Header.dscp": 46,
            "IPv6Header.ecn": 2,
            "IPv6Header.flow_label": 0xABCDE,
            "IPv6Header.hop_limit": 1,
            "IPv6Header.payload_length": 10,
            "IPv6Header.src_addr": HOST_1_V6,
            "IPv6Header.dst_addr": HOST_2_V6,
            "payload": b"experiment",
        },
    )
    yield Golden(
        packet=v6(nh=59),
        note="nothing inside",
        stack="EthernetHeader / IPv6Header",
        expect={"IPv6Header.next_header": 59, "payload": b""},
    )


@capture("ipv6-extension-headers.pcap", "IPv6 extension headers (RFC 8200 section 4, RFC 8754)")
def ipv6_extension_headers() -> Iterator[Golden]:
    echo = ICMPv6EchoRequest(id=1, seq=1, data=b"ping")
    yield Golden(
        packet=v6() / IPv6ExtHdrHopByHop(options=[RouterAlert(value=0)]) / echo,
        note="hop-by-hop: router alert for MLD, and padding",
        stack="EthernetHeader / IPv6Header / HopByHopOptions / ICMPv6Echo",
        expect={
            "IPv6Header.next_header": 0,
            "HopByHopOptions.next_header": 58,
            "HopByHopOptions.hdr_ext_len": 0,
            "HopByHopOptions.options.0.value": 0,
            "HopByHopOptions.options.1.kind": 1,
        },
    )
    yield Golden(
        packet=v6()
        / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optdata=b"0123456789")])
        / echo,
        note="destination options: one for experiments (RFC 4727)",
        stack="EthernetHeader / IPv6Header / DestinationOptions / ICMPv6Echo",
        expect={
            "DestinationOptions.options.0.kind": 0x1E,
            "DestinationOptions.options.0.data": b"0123456789",
            "DestinationOptions.hdr_ext_len": 1,
        },
    )
    yield Golden(
        packet=v6(dst=ROUTER_V6)
        / IPv6ExtHdrRouting(type=2, segleft=1, addresses=[HOST_2_V6])
        / echo,
        note="routing header of type 2: the checksum covers the address in it",
        stack="EthernetHeader / IPv6Header / RoutingHeader / ICMPv6Echo",
        expect={
            "RoutingHeader.routing_type": 2,
            "RoutingHeader.segments_left": 1,
            "RoutingHeader.addresses": (HOST_2_V6,),
        },
    )
    yield Golden(
        packet=v6(dst=ROUTER_V6)
        / IPv6ExtHdrSegmentRouting(segleft=1, lastentry=1, tag=7, addresses=[HOST_2_V6, ROUTER_V6])
        / echo,
        note="segment routing: the last segment stands first, and the checksum covers it",
        stack="EthernetHeader / IPv6Header / SegmentRoutingHeader / ICMPv6Echo",
        expect={
            "SegmentRoutingHeader.segments_left": 1,
            "SegmentRoutingHeader.last_entry": 1,
            "SegmentRoutingHeader.tag": 7,
            "SegmentRoutingHeader.segment_list": (HOST_2_V6, ROUTER_V6),
        },
    )
    yield Golden(
        packet=v6(nh=43) / Raw(bytes.fromhex("3b00 fd07 00000001")),
        note="routing header of a type for experiments, nothing behind it",
        stack="EthernetHeader / IPv6Header / UnknownRoutingHeader",
        expect={
            "UnknownRoutingHeader.routing_type": 253,
            "UnknownRoutingHeader.segments_left": 7,
            "UnknownRoutingHeader.data": bytes.fromhex("00000001"),
        },
    )
    whole = bytes(UDP(sport=1024, dport=9, len=24, chksum=0x1111) / bytes(range(16)))
    yield Golden(
        packet=v6() / IPv6ExtHdrFragment(nh=17, offset=0, m=1, id=0xDEADBEEF) / Raw(whole[:16]),
        note="the first of two fragments",
        stack="EthernetHeader / IPv6Header / FragmentHeader / UDPHeader",
        expect={
            "FragmentHeader.next_header": 17,
            "FragmentHeader.fragment_offset": 0,
            "FragmentHeader.flags": 1,
            "FragmentHeader.identification": 0xDEADBEEF,
            "payload": bytes(range(8)),
        },
        computes=False,
    )
    yield Golden(
        packet=v6() / IPv6ExtHdrFragment(nh=17, offset=2, m=0, id=0xDEADBEEF) / Raw(whole[16:]),
        note="the second: no UDP header begins here",
        stack="EthernetHeader / IPv6Header / FragmentHeader",
        expect={"FragmentHeader.fragment_offset": 2, "payload": bytes(range(8, 16))},
    )
    yield Golden(
        packet=v6()
        / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))])
        / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))])
        / IPv6ExtHdrFragment(offset=0, m=0, id=1)
        / echo,
        note="three in a row, the fragment header of a packet that is whole (RFC 6946)",
        stack="EthernetHeader / IPv6Header / HopByHopOptions / DestinationOptions"
        " / FragmentHeader / ICMPv6Echo",
        expect={"FragmentHeader.flags": 0, "payload": b"ping"},
    )
