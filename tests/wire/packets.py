"""Packets of every kind that `dissect` knows, built by scapy: material for several tests."""

from __future__ import annotations

from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    RouterAlert,
)
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback

MAC1, MAC2 = "02:00:00:00:00:01", "02:00:00:00:00:02"

_ETHER = Ether(src=MAC1, dst=MAC2)
_IP = IP(src="10.0.0.1", dst="10.0.0.2", id=7)
_IP6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
_TCP = TCP(sport=40000, dport=80, seq=1000, ack=2000, flags="PA", window=512)
_SYN = TCP(
    sport=40000,
    dport=443,
    seq=1,
    flags="S",
    options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)],
)
_UDP = UDP(sport=5000, dport=6000)
_QUOTE = IP(src="10.0.0.1", dst="10.9.9.9") / UDP(sport=1, dport=33434) / b"probe"
_QUOTE6 = IPv6(src="2001:db8::1", dst="2001:db8::9") / UDP(sport=1, dport=33434) / b"probe"
_QUERY = DNS(id=77, rd=1, qd=[DNSQR(qname="example.com")])
_ANSWER = DNS(
    id=77,
    qr=1,
    rd=1,
    ra=1,
    qd=[DNSQR(qname="example.com")],
    an=[DNSRR(rrname="example.com", type="A", ttl=300, rdata="93.184.216.34")],
)


PACKETS: dict[str, tuple[int, bytes, tuple[str, ...]]] = {
    name: (link_type, bytes(packet), layers)
    for name, link_type, packet, layers in [
        ("tcp", 1, _ETHER / _IP / _TCP / b"data", ("EthernetHeader", "IPv4Header", "TCPHeader")),
        ("syn", 1, _ETHER / _IP / _SYN, ("EthernetHeader", "IPv4Header", "TCPHeader")),
        ("udp", 1, _ETHER / _IP / _UDP / b"data", ("EthernetHeader", "IPv4Header", "UDPHeader")),
        ("tcp6", 1, _ETHER / _IP6 / _TCP / b"data", ("EthernetHeader", "IPv6Header", "TCPHeader")),
        (
            "ip options",
            1,
            _ETHER / IP(src="10.0.0.1", dst="10.0.0.2", options=[IPOption_RR()]) / _UDP,
            ("EthernetHeader", "IPv4Header", "UDPHeader"),
        ),
        (
            "echo",
            1,
            _ETHER / _IP / ICMP(id=1, seq=2) / b"data",
            ("EthernetHeader", "IPv4Header", "ICMPEcho"),
        ),
        (
            "unreachable",
            1,
            _ETHER / _IP / ICMP(type=3, code=3) / _QUOTE,
            ("EthernetHeader", "IPv4Header", "ICMPDestinationUnreachable"),
        ),
        (
            "unreachable6",
            1,
            _ETHER / _IP6 / ICMPv6DestUnreach(code=4) / _QUOTE6,
            ("EthernetHeader", "IPv6Header", "ICMPv6DestinationUnreachable"),
        ),
        (
            "echo6",
            1,
            _ETHER / _IP6 / ICMPv6EchoRequest(id=1, seq=2, data=b"data"),
            ("EthernetHeader", "IPv6Header", "ICMPv6Echo"),
        ),
        (
            "neighbour solicitation",
            1,
            _ETHER / _IP6 / ICMPv6ND_NS(tgt="fe80::1") / ICMPv6NDOptSrcLLAddr(lladdr=MAC1),
            ("EthernetHeader", "IPv6Header", "NeighborSolicitation"),
        ),
        (
            "arp",
            1,
            _ETHER / ARP(hwsrc=MAC1, psrc="10.0.0.1", pdst="10.0.0.2") / bytes(18),
            ("EthernetHeader", "ARPMessage"),
        ),
        (
            "query",
            1,
            _ETHER / _IP / UDP(sport=40000, dport=53) / _QUERY,
            ("EthernetHeader", "IPv4Header", "UDPHeader", "DNSMessage"),
        ),
        (
            "answer",
            1,
            _ETHER / _IP6 / UDP(sport=53, dport=40000) / _ANSWER,
            ("EthernetHeader", "IPv6Header", "UDPHeader", "DNSMessage"),
        ),
        (
            "two tags",
            1,
            _ETHER / Dot1AD(vlan=100) / Dot1Q(vlan=200, prio=5) / _IP / _UDP,
            ("EthernetHeader", "VLANTag", "VLANTag", "IPv4Header", "UDPHeader"),
        ),
        (
            "ipv4 in ipv6 in ipv4",
            1,
            _ETHER / _IP / _IP6 / IP(src="10.1.0.1", dst="10.1.0.2") / _UDP,
            ("EthernetHeader", "IPv4Header", "IPv6Header", "IPv4Header", "UDPHeader"),
        ),
        (
            "extension headers",
            1,
            _ETHER
            / _IP6
            / IPv6ExtHdrHopByHop(options=[RouterAlert()])
            / IPv6ExtHdrDestOpt()
            / IPv6ExtHdrRouting(addresses=["2001:db8::3"])
            / IPv6ExtHdrFragment(id=9)
            / _UDP
            / b"data",
            (
                "EthernetHeader",
                "IPv6Header",
                "HopByHopOptions",
                "DestinationOptions",
                "RoutingHeader",
                "FragmentHeader",
                "UDPHeader",
            ),
        ),
        (
            "segment routing",
            101,
            _IP6
            / IPv6ExtHdrSegmentRouting(
                addresses=["2001:db8::9", "2001:db8::2"], segleft=1, lastentry=1
            )
            / _TCP,
            ("IPv6Header", "SegmentRoutingHeader", "TCPHeader"),
        ),
        (
            "cooked",
            113,
            CookedLinux(proto=0x0800) / _IP / _UDP,
            ("LinuxCooked", "IPv4Header", "UDPHeader"),
        ),
        (
            "cooked 2",
            276,
            CookedLinuxV2(proto=0x86DD) / _IP6 / _UDP,
            ("LinuxCooked2", "IPv6Header", "UDPHeader"),
        ),
        ("null", 0, Loopback(type=2) / _IP / _UDP, ("LoopbackHeader", "IPv4Header", "UDPHeader")),
        (
            "loop",
            108,
            b"\0\0\0\x18" + bytes(_IP6 / _UDP),
            ("LoopbackHeader", "IPv6Header", "UDPHeader"),
        ),
        ("raw 4", 101, _IP / _UDP, ("IPv4Header", "UDPHeader")),
        ("raw 6", 12, _IP6 / _UDP, ("IPv6Header", "UDPHeader")),
        ("ipv4", 228, _IP / _UDP, ("IPv4Header", "UDPHeader")),
        ("ipv6", 229, _IP6 / _UDP, ("IPv6Header", "UDPHeader")),
    ]
}
"""Name -> (link type, bytes, the classes of its layers)."""
