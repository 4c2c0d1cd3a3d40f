"""Golden packets of ICMP, ICMPv6 and neighbour discovery."""

from __future__ import annotations

from collections.abc import Iterator

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLQuery,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptRedirectedHdr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrHopByHop,
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
TO = IP(src=HOST_1, dst=HOST_2, id=0x1234)
FROM = IP(src=HOST_2, dst=HOST_1, id=0x4321)
# The protocol is given because a message of bytes alone does not tell it.
BACK = IP(src=ROUTER, dst=HOST_1, id=0x5678, ttl=254, proto=1)
TO_V6 = IPv6(src=HOST_1_V6, dst=HOST_2_V6)
BACK_V6 = IPv6(src=ROUTER_V6, dst=HOST_1_V6, hlim=254)

# What an error quotes: an IPv4 header and 8 bytes, or an IPv6 packet.
QUOTE = bytes(IP(src=HOST_1, dst=HOST_2, id=7, ttl=1) / UDP(sport=40000, dport=33434) / bytes(32))
QUOTE = QUOTE[:28]
QUOTE_V6 = bytes(TO_V6 / UDP(sport=40000, dport=33434) / bytes(8))


def error(message: ICMP) -> Packet:
    return ETHER / BACK / message / Raw(QUOTE)


def error_v6(message: Packet) -> Packet:
    return ETHER / BACK_V6 / message / Raw(QUOTE_V6)


@capture("icmp.pcap", "ICMP (RFC 792, RFC 950, RFC 1191, RFC 1256)")
def icmp() -> Iterator[Golden]:
    yield Golden(
        packet=ETHER / TO / ICMP(type=8, id=0xABCD, seq=1) / b"abcdefgh",
        note="echo request",
        stack="EthernetHeader / IPv4Header / ICMPEcho",
        expect={
            "ICMPEcho.icmp_type": 8,
            "ICMPEcho.code": 0,
            "ICMPEcho.identifier": 0xABCD,
            "ICMPEcho.sequence_number": 1,
            "payload": b"abcdefgh",
        },
    )
    yield Golden(
        packet=ETHER / FROM / ICMP(type=0, id=0xABCD, seq=1) / b"abcdefgh",
        note="echo reply",
        stack="EthernetHeader / IPv4Header / ICMPEcho",
        expect={"ICMPEcho.icmp_type": 0, "payload": b"abcdefgh"},
    )
    for code, words in (
        (0, "network unreachable"),
        (1, "host unreachable"),
        (2, "protocol unreachable"),
        (3, "port unreachable"),
        (13, "communication prohibited"),
    ):
        yield Golden(
            packet=error(ICMP(type=3, code=code)),
            note=words,
            stack="EthernetHeader / IPv4Header / ICMPDestinationUnreachable",
            expect={
                "ICMPDestinationUnreachable.code": code,
                "ICMPDestinationUnreachable.next_hop_mtu": 0,
                "ICMPDestinationUnreachable.original_datagram": QUOTE,
                "ICMPDestinationUnreachable.extensions": None,
                "payload": b"",
            },
        )
    yield Golden(
        packet=error(ICMP(type=3, code=4, nexthopmtu=1400)),
        note="fragmentation needed, the next hop takes 1400 bytes",
        stack="EthernetHeader / IPv4Header / ICMPDestinationUnreachable",
        expect={
            "ICMPDestinationUnreachable.code": 4,
            "ICMPDestinationUnreachable.next_hop_mtu": 1400,
        },
    )
    for code, words in ((0, "TTL exceeded in transit"), (1, "reassembly time exceeded")):
        yield Golden(
            packet=error(ICMP(type=11, code=code)),
            note=words,
            stack="EthernetHeader / IPv4Header / ICMPTimeExceeded",
            expect={
                "ICMPTimeExceeded.code": code,
                "ICMPTimeExceeded.original_datagram": QUOTE,
            },
        )
    yield Golden(
        packet=error(ICMP(type=12, code=0, ptr=20)),
        note="parameter problem at byte 20",
        stack="EthernetHeader / IPv4Header / ICMPParameterProblem",
        expect={"ICMPParameterProblem.pointer": 20},
    )
    yield Golden(
        packet=error(ICMP(type=5, code=1, gw="203.0.113.1")),
        note="redirect for the host",
        stack="EthernetHeader / IPv4Header / ICMPRedirect",
        expect={
            "ICMPRedirect.code": 1,
            "ICMPRedirect.gateway_addr": "203.0.113.1",
            "ICMPRedirect.original_datagram": QUOTE,
        },
    )
    yield Golden(
        packet=ETHER / TO / ICMP(type=13, id=1, seq=2, ts_ori=43200000, ts_rx=0, ts_tx=0),
        note="timestamp request, sent at noon",
        stack="EthernetHeader / IPv4Header / ICMPTimestamp",
        expect={"ICMPTimestamp.icmp_type": 13, "ICMPTimestamp.originate_timestamp": 43200000},
    )
    yield Golden(
        packet=ETHER
        / FROM
        / ICMP(type=14, id=1, seq=2, ts_ori=43200000, ts_rx=43200010, ts_tx=43200011),
        note="its reply",
        stack="EthernetHeader / IPv4Header / ICMPTimestamp",
        expect={
            "ICMPTimestamp.icmp_type": 14,
            "ICMPTimestamp.receive_timestamp": 43200010,
            "ICMPTimestamp.transmit_timestamp": 43200011,
        },
    )
    for icmp_type, rest, words in (
        (4, bytes(4) + QUOTE, "source quench (deprecated by RFC 6633)"),
        (9, bytes.fromhex("0102 0708 cb007101 00000000"), "router advertisement"),
        (10, bytes(4), "router solicitation"),
        (17, bytes.fromhex("00010002 00000000"), "address mask request"),
        (18, bytes.fromhex("00010002 ffffff00"), "address mask reply"),
        (254, b"experiment", "a type for experiments (RFC 4727)"),
    ):
        yield Golden(
            packet=ETHER / BACK / Raw(by_hand(bytes((icmp_type, 0)), rest)),
            note=words,
            stack="EthernetHeader / IPv4Header / ICMPUnknown",
            expect={"ICMPUnknown.icmp_type": icmp_type, "payload": rest},
        )


def by_hand(type_and_code: bytes, rest: bytes) -> bytes:
    """An ICMP message that scapy would lay out otherwise, or not at all."""
    total = sum(
        int.from_bytes(word, "big")
        for data in (type_and_code, rest + bytes(len(rest) % 2))
        for word in (data[at : at + 2] for at in range(0, len(data), 2))
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return type_and_code + (0xFFFF - total).to_bytes(2, "big") + rest


@capture("icmpv6.pcap", "ICMPv6 (RFC 4443, RFC 2710, RFC 3810)")
def icmpv6() -> Iterator[Golden]:
    yield Golden(
        packet=ETHER / TO_V6 / ICMPv6EchoRequest(id=0xABCD, seq=1, data=b"abcdefgh"),
        note="echo request",
        stack="EthernetHeader / IPv6Header / ICMPv6Echo",
        expect={
            "ICMPv6Echo.icmp_type": 128,
            "ICMPv6Echo.identifier": 0xABCD,
            "ICMPv6Echo.sequence_number": 1,
            "payload": b"abcdefgh",
        },
    )
    yield Golden(
        packet=ETHER
        / IPv6(src=HOST_2_V6, dst=HOST_1_V6)
        / ICMPv6EchoReply(id=0xABCD, seq=1, data=b"abcdefgh"),
        note="echo reply",
        stack="EthernetHeader / IPv6Header / ICMPv6Echo",
        expect={"ICMPv6Echo.icmp_type": 129, "payload": b"abcdefgh"},
    )
    for code, words in (
        (0, "no route"),
        (1, "administratively prohibited"),
        (3, "address unreachable"),
        (4, "port unreachable"),
    ):
        yield Golden(
            packet=error_v6(ICMPv6DestUnreach(code=code)),
            note=words,
            stack="EthernetHeader / IPv6Header / ICMPv6DestinationUnreachable",
            expect={
                "ICMPv6DestinationUnreachable.code": code,
                "ICMPv6DestinationUnreachable.original_datagram": QUOTE_V6,
            },
        )
    yield Golden(
        packet=error_v6(ICMPv6PacketTooBig(mtu=1400)),
        note="packet too big, the next hop takes 1400 bytes",
        stack="EthernetHeader / IPv6Header / ICMPv6PacketTooBig",
        expect={
            "ICMPv6PacketTooBig.mtu": 1400,
            "ICMPv6PacketTooBig.original_datagram": QUOTE_V6,
        },
    )
    yield Golden(
        packet=error_v6(ICMPv6TimeExceeded(code=0)),
        note="hop limit exceeded",
        stack="EthernetHeader / IPv6Header / ICMPv6TimeExceeded",
        expect={
            "ICMPv6TimeExceeded.code": 0,
            "ICMPv6TimeExceeded.original_datagram": QUOTE_V6,
        },
    )
    yield Golden(
        packet=error_v6(ICMPv6ParamProblem(code=1, ptr=6)),
        note="a next header that nobody knows, at byte 6",
        stack="EthernetHeader / IPv6Header / ICMPv6ParameterProblem",
        expect={"ICMPv6ParameterProblem.code": 1, "ICMPv6ParameterProblem.pointer": 6},
    )
    link_local = IPv6(src="fe80::1", dst="ff02::1", hlim=1)
    alert = IPv6ExtHdrHopByHop(options=[RouterAlert(value=0)])
    yield Golden(
        packet=ETHER / link_local / alert / ICMPv6MLQuery(mrd=1000),
        note="multicast listener query",
        stack="EthernetHeader / IPv6Header / HopByHopOptions / ICMPv6Unknown",
        expect={"ICMPv6Unknown.icmp_type": 130},
    )
    yield Golden(
        packet=ETHER / link_local / alert / ICMPv6MLReport2(),
        note="multicast listener report, version 2",
        stack="EthernetHeader / IPv6Header / HopByHopOptions / ICMPv6Unknown",
        expect={"ICMPv6Unknown.icmp_type": 143, "payload": bytes(4)},
    )


@capture("ndp.pcap", "Neighbour and router discovery (RFC 4861, RFC 8106)")
def ndp() -> Iterator[Golden]:
    host = IPv6(src="fe80::1", dst="ff02::2", hlim=255)
    router = IPv6(src="fe80::ff", dst="ff02::1", hlim=255)
    yield Golden(
        packet=ETHER / host / ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=MAC_1),
        note="router solicitation",
        stack="EthernetHeader / IPv6Header / RouterSolicitation",
        expect={"RouterSolicitation.options.0.mac_addr": MAC_1},
    )
    yield Golden(
        packet=ETHER
        / router
        / ICMPv6ND_RA(
            chlim=64,
            M=0,
            O=1,
            H=0,
            prf=1,
            P=0,
            routerlifetime=1800,
            reachabletime=30000,
            retranstimer=1000,
        )
        / ICMPv6NDOptSrcLLAddr(lladdr=MAC_2)
        / ICMPv6NDOptMTU(mtu=1500)
        / ICMPv6NDOptPrefixInfo(
            prefix="2001:db8:1::",
            prefixlen=64,
            L=1,
            A=1,
            validlifetime=86400,
            preferredlifetime=14400,
        )
        / ICMPv6NDOptRDNSS(lifetime=600, dns=["2001:db8::53", "2001:db8::5353"]),
        note="router advertisement: high preference, MTU, a prefix, two resolvers",
        stack="EthernetHeader / IPv6Header / RouterAdvertisement",
        expect={
            "RouterAdvertisement.cur_hop_limit": 64,
            "RouterAdvertisement.flags": 0x48,
            "RouterAdvertisement.preference": 1,
            "RouterAdvertisement.router_lifetime_s": 1800,
            "RouterAdvertisement.reachable_time_ms": 30000,
            "RouterAdvertisement.retrans_timer_ms": 1000,
            "RouterAdvertisement.options.0.mac_addr": MAC_2,
            "RouterAdvertisement.options.1.mtu": 1500,
            "RouterAdvertisement.options.2.prefix": "2001:db8:1::",
            "RouterAdvertisement.options.2.prefix_length": 64,
            "RouterAdvertisement.options.2.valid_lifetime_s": 86400,
            "RouterAdvertisement.options.3.addresses": ("2001:db8::53", "2001:db8::5353"),
        },
    )
    yield Golden(
        packet=ETHER
        / IPv6(src="fe80::1", dst="ff02::1:ff00:2", hlim=255)
        / ICMPv6ND_NS(tgt="fe80::2")
        / ICMPv6NDOptSrcLLAddr(lladdr=MAC_1),
        note="neighbour solicitation",
        stack="EthernetHeader / IPv6Header / NeighborSolicitation",
        expect={
            "NeighborSolicitation.target_addr": "fe80::2",
            "NeighborSolicitation.options.0.mac_addr": MAC_1,
        },
    )
    yield Golden(
        packet=ETHER
        / IPv6(src="fe80::2", dst="fe80::1", hlim=255)
        / ICMPv6ND_NA(tgt="fe80::2", R=1, S=1, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=MAC_2),
        note="neighbour advertisement: router, solicited, override",
        stack="EthernetHeader / IPv6Header / NeighborAdvertisement",
        expect={
            "NeighborAdvertisement.flags": 7,
            "NeighborAdvertisement.options.0.mac_addr": MAC_2,
        },
    )
    yield Golden(
        packet=ETHER / IPv6(src="::", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt="fe80::1"),
        note="duplicate address detection: from no address, without options",
        stack="EthernetHeader / IPv6Header / NeighborSolicitation",
        expect={"IPv6Header.src_addr": "::", "NeighborSolicitation.options": ()},
    )
    yield Golden(
        packet=ETHER
        / IPv6(src="fe80::ff", dst=HOST_1_V6, hlim=255)
        / ICMPv6ND_Redirect(tgt="fe80::fe", dst=HOST_2_V6)
        / ICMPv6NDOptDstLLAddr(lladdr=MAC_2)
        / ICMPv6NDOptRedirectedHdr(pkt=QUOTE_V6),
        note="redirect, with the packet that caused it",
        stack="EthernetHeader / IPv6Header / ICMPv6Redirect",
        expect={
            "ICMPv6Redirect.target_addr": "fe80::fe",
            "ICMPv6Redirect.destination_addr": HOST_2_V6,
            "ICMPv6Redirect.options.1.original_datagram": QUOTE_V6,
        },
    )
    yield Golden(
        packet=ETHER / host / ICMPv6ND_RS() / ICMPv6NDOptUnknown(type=253, data=b"123456"),
        note="an option for experiments",
        stack="EthernetHeader / IPv6Header / RouterSolicitation",
        expect={
            "RouterSolicitation.options.0.kind": 253,
            "RouterSolicitation.options.0.data": b"123456",
        },
    )
