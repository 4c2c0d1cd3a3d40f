"""Golden packets of UDP, TCP and DNS, and of what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator

from scapy.layers.dns import (
    DNS,
    DNSQR,
    DNSRR,
    DNSRRMX,
    DNSRROPT,
    DNSRRSOA,
    DNSRRSRV,
    EDNS0TLV,
)
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.captures.golden import (
    HOST_1,
    HOST_1_V6,
    HOST_2,
    HOST_2_V6,
    MAC_1,
    MAC_2,
    Golden,
    capture,
)

ETHER = Ether(src=MAC_1, dst=MAC_2)
TO = ETHER / IP(src=HOST_1, dst=HOST_2, id=0x1234)
FROM = ETHER / IP(src=HOST_2, dst=HOST_1, id=0x4321)
TO_V6 = ETHER / IPv6(src=HOST_1_V6, dst=HOST_2_V6)
UDP_STACK = "EthernetHeader / IPv4Header / UDPHeader"
TCP_STACK = "EthernetHeader / IPv4Header / TCPHeader"


@capture("udp.pcap", "UDP (RFC 768, RFC 8200 section 8.1)")
def udp() -> Iterator[Golden]:
    # The checksum of two zero bytes, put in their place, makes the sum come to zero.
    sums_to_zero = bytes(TO / UDP(sport=0, dport=9) / Raw(b"\0\0"))[40:42]
    yield Golden(
        packet=TO / UDP(sport=1024, dport=9) / b"odd",
        note="an odd number of bytes",
        stack=UDP_STACK,
        expect={
            "UDPHeader.src_port": 1024,
            "UDPHeader.dst_port": 9,
            "UDPHeader.length": 11,
            "payload": b"odd",
        },
    )
    yield Golden(
        packet=TO / UDP(sport=1024, dport=9, chksum=0) / b"data",
        note="no checksum, which IPv4 allows",
        stack=UDP_STACK,
        expect={"UDPHeader.checksum": 0},
        computes=False,
    )
    yield Golden(
        packet=TO / UDP(sport=1024, dport=9),
        note="no data",
        stack=UDP_STACK,
        expect={"UDPHeader.length": 8, "payload": b""},
    )
    yield Golden(
        packet=TO / UDP(sport=0, dport=9) / Raw(sums_to_zero),
        note="a checksum that comes to 0 and is sent as 0xFFFF",
        stack=UDP_STACK,
        expect={"UDPHeader.checksum": 0xFFFF},
    )
    yield Golden(
        packet=TO_V6 / UDP(sport=1024, dport=33434) / b"over six",
        note="over IPv6",
        stack="EthernetHeader / IPv6Header / UDPHeader",
        expect={"UDPHeader.length": 16, "payload": b"over six"},
    )


@capture("tcp.pcap", "TCP and its options (RFC 9293, 7323, 2018, 7413, 2385)")
def tcp() -> Iterator[Golden]:
    yield Golden(
        packet=TO
        / TCP(
            sport=40000,
            dport=80,
            seq=1000,
            flags="S",
            window=64240,
            options=[
                ("MSS", 1460),
                ("SAckOK", b""),
                ("Timestamp", (12345, 0)),
                ("NOP", None),
                ("WScale", 7),
            ],
        ),
        note="SYN with what Linux offers",
        stack=TCP_STACK,
        expect={
            "TCPHeader.sequence_number": 1000,
            "TCPHeader.flags": 0x02,
            "TCPHeader.data_offset": 10,
            "TCPHeader.window": 64240,
            "TCPHeader.options.0.mss": 1460,
            "TCPHeader.options.1.kind": 4,
            "TCPHeader.options.2.tsval": 12345,
            "TCPHeader.options.3.kind": 1,
            "TCPHeader.options.4.shift": 7,
        },
    )
    yield Golden(
        packet=FROM
        / TCP(sport=80, dport=40000, seq=5000, ack=1001, flags="SAE", options=[("MSS", 1400)]),
        note="SYN and ACK, ECN echoed",
        stack=TCP_STACK,
        expect={"TCPHeader.flags": 0x52, "TCPHeader.acknowledgment_number": 1001},
    )
    yield Golden(
        packet=TO
        / TCP(
            sport=40000,
            dport=80,
            seq=1001,
            ack=5001,
            flags="PA",
            options=[("NOP", None), ("NOP", None), ("Timestamp", (12350, 777))],
        )
        / b"GET / HTTP/1.0\r\n\r\n",
        note="data, with timestamps",
        stack=TCP_STACK,
        expect={
            "TCPHeader.flags": 0x18,
            "TCPHeader.options.2.tsecr": 777,
            "payload": b"GET / HTTP/1.0\r\n\r\n",
        },
    )
    yield Golden(
        packet=FROM
        / TCP(
            sport=80,
            dport=40000,
            seq=5001,
            ack=1001,
            flags="A",
            options=[("NOP", None), ("NOP", None), ("SAck", (2000, 3000, 4000, 4500))],
        ),
        note="two blocks selectively acknowledged",
        stack=TCP_STACK,
        expect={"TCPHeader.options.2.blocks": ((2000, 3000), (4000, 4500))},
    )
    yield Golden(
        packet=TO
        / TCP(sport=40001, dport=80, flags="S", options=[("TFO", (0xDEADBEEF, 0x01020304))])
        / b"early",
        note="fast open: data in the SYN under a cookie",
        stack=TCP_STACK,
        expect={
            "TCPHeader.options.0.cookie": bytes.fromhex("deadbeef01020304"),
            "payload": b"early",
        },
    )
    yield Golden(
        packet=TO
        / TCP(sport=40000, dport=179, flags="PAU", urgptr=3, options=[(19, bytes(range(16)))])
        / b"bgp",
        note="signed (MD5) and urgent",
        stack=TCP_STACK,
        expect={
            "TCPHeader.options.0.digest": bytes(range(16)),
            "TCPHeader.urgent_pointer": 3,
            "TCPHeader.flags": 0x38,
        },
    )
    yield Golden(
        packet=TO / TCP(sport=40000, dport=80, flags="FA", options=[(253, b"\x12\x34")]),
        note="FIN, with an option for experiments",
        stack=TCP_STACK,
        expect={
            "TCPHeader.flags": 0x11,
            "TCPHeader.options.0.kind": 253,
            "TCPHeader.options.0.data": b"\x12\x34",
        },
    )
    yield Golden(
        packet=TO_V6 / TCP(sport=40000, dport=80, flags="RA", window=0, reserved=5),
        note="RST over IPv6, reserved bits set",
        stack="EthernetHeader / IPv6Header / TCPHeader",
        expect={"TCPHeader.flags": 0x14, "TCPHeader.reserved": 5, "TCPHeader.window": 0},
    )


NAME = "www.example.com."


def query(**fields: object) -> Packet:
    return UDP(sport=40000, dport=53) / DNS(**{"id": 0xBEEF, "rd": 1} | fields)


def response(**fields: object) -> Packet:
    message = DNS(**{"id": 0xBEEF, "qr": 1, "rd": 1, "ra": 1} | fields)
    return UDP(sport=53, dport=40000) / Raw(bytes(message.compress()))


@capture("dns.pcap", "DNS (RFC 1035, 3596, 2782, 6891, 8659)")
def dns() -> Iterator[Golden]:
    stack = UDP_STACK + " / DNSMessage"
    yield Golden(
        packet=TO
        / query(
            qd=[DNSQR(qname=NAME, qtype=28)],
            ar=[DNSRROPT(rclass=1232, z=0x8000, rdata=[EDNS0TLV(optcode=65001, optdata=b"abc")])],
        ),
        note="query for AAAA, with EDNS",
        stack=stack,
        expect={
            "DNSMessage.identifier": 0xBEEF,
            "DNSMessage.qr": False,
            "DNSMessage.rd": True,
            "DNSMessage.questions.0.qname": NAME,
            "DNSMessage.questions.0.qtype": 28,
            "DNSMessage.opt.udp_payload_size": 1232,
            "DNSMessage.opt.flags": 0x8000,
            "DNSMessage.opt.options.0.code": 65001,
            "DNSMessage.opt.options.0.data": b"abc",
        },
    )
    yield Golden(
        packet=FROM
        / response(
            aa=1,
            qd=[DNSQR(qname=NAME, qtype=255)],
            an=[
                DNSRR(rrname=NAME, type=5, ttl=300, rdata="web.example.com."),
                DNSRR(rrname="web.example.com.", type=1, ttl=60, rdata="192.0.2.80"),
                DNSRR(rrname="web.example.com.", type=28, ttl=60, rdata="2001:db8::80"),
                DNSRRMX(rrname="example.com.", ttl=60, preference=10, exchange="mail.example.com."),
                DNSRR(rrname="example.com.", type=16, ttl=60, rdata=[b"v=spf1 -all", b"two"]),
                DNSRR(
                    rrname="example.com.", type=257, ttl=60, rdata=b"\x80\x05issueca.example.net"
                ),
                DNSRR(rrname="example.com.", type=99, ttl=60, rdata=b"\x00\x01\x02"),
            ],
            ns=[DNSRR(rrname="example.com.", type=2, ttl=900, rdata="ns.example.com.")],
            ar=[DNSRR(rrname="ns.example.com.", type=1, ttl=900, rdata="192.0.2.53")],
        ),
        note="response with records of many types, its names compressed",
        stack=stack,
        expect={
            "DNSMessage.qr": True,
            "DNSMessage.aa": True,
            "DNSMessage.ancount": 7,
            "DNSMessage.answers.0.rdata.cname": "web.example.com.",
            "DNSMessage.answers.0.ttl": 300,
            "DNSMessage.answers.1.name": "web.example.com.",
            "DNSMessage.answers.1.rdata.address": "192.0.2.80",
            "DNSMessage.answers.2.rdata.address": "2001:db8::80",
            "DNSMessage.answers.3.rdata.preference": 10,
            "DNSMessage.answers.3.rdata.exchange": "mail.example.com.",
            "DNSMessage.answers.4.rdata.strings": (b"v=spf1 -all", b"two"),
            "DNSMessage.answers.5.rdata.tag": "issue",
            "DNSMessage.answers.5.rdata.value": b"ca.example.net",
            "DNSMessage.answers.6.rtype": 99,
            "DNSMessage.answers.6.rdata.data": b"\x00\x01\x02",
            "DNSMessage.authorities.0.rdata.nsdname": "ns.example.com.",
            "DNSMessage.additionals.0.rdata.address": "192.0.2.53",
        },
        computes=False,
    )
    yield Golden(
        packet=FROM
        / response(
            rcode=3,
            qd=[DNSQR(qname="nowhere.example.com.", qtype=1)],
            ns=[
                DNSRRSOA(
                    rrname="example.com.",
                    ttl=900,
                    mname="ns.example.com.",
                    rname="hostmaster.example.com.",
                    serial=2024010100,
                    refresh=7200,
                    retry=3600,
                    expire=1209600,
                    minimum=300,
                )
            ],
        ),
        note="no such name, with the zone's SOA",
        stack=stack,
        expect={
            "DNSMessage.rcode": 3,
            "DNSMessage.authorities.0.rdata.rname": "hostmaster.example.com.",
            "DNSMessage.authorities.0.rdata.serial": 2024010100,
            "DNSMessage.authorities.0.rdata.minimum": 300,
        },
        computes=False,
    )
    yield Golden(
        packet=FROM
        / response(
            qd=[DNSQR(qname="_sip._udp.example.com.", qtype=33)],
            an=[
                DNSRRSRV(
                    rrname="_sip._udp.example.com.",
                    ttl=60,
                    priority=1,
                    weight=2,
                    port=5060,
                    target="sip.example.com.",
                )
            ],
        ),
        note="SRV",
        stack=stack,
        expect={
            "DNSMessage.answers.0.rdata.port": 5060,
            "DNSMessage.answers.0.rdata.target": "sip.example.com.",
        },
        computes=False,
    )
    yield Golden(
        packet=TO_V6
        / response(
            qd=[DNSQR(qname="2.100.51.198.in-addr.arpa.", qtype=12)],
            an=[DNSRR(rrname="2.100.51.198.in-addr.arpa.", type=12, ttl=60, rdata="h2.example.")],
        ),
        note="PTR, over IPv6",
        stack="EthernetHeader / IPv6Header / UDPHeader / DNSMessage",
        expect={"DNSMessage.answers.0.rdata.ptrdname": "h2.example."},
        computes=False,
    )
    odd = bytes.fromhex("beef0100 0001 0000 0000 0000 04612e6220 00 0001 0001")
    yield Golden(
        packet=TO / UDP(sport=40000, dport=53) / Raw(odd),
        note="a dot and a space inside a label",
        stack=stack,
        expect={"DNSMessage.questions.0.qname": "a\\.b\\032."},
        scapy_errs=frozenset({"questions"}),  # it does not escape
    )
    loop = bytes.fromhex("beef8180 0001 0001 0000 0000 c00c 0001 0001")
    yield Golden(
        packet=FROM / UDP(sport=53, dport=40000) / Raw(loop),
        note="a name that points to itself: no DNS message",
        stack=UDP_STACK,
        expect={"payload": loop},
        damaged=True,
    )


@capture("truncated.pcap", "Packets cut short by the capture's snapshot length")
def truncated() -> Iterator[Golden]:
    whole = TO / UDP(sport=1024, dport=9) / bytes(range(100))
    for caplen, stack, note, expect in (
        (10, "", "inside the Ethernet header", {}),
        (30, "EthernetHeader", "inside the IPv4 header", {}),
        (40, "EthernetHeader / IPv4Header", "inside the UDP header", {}),
        (50, UDP_STACK, "inside the data", {"payload": bytes(range(8))}),
    ):
        yield Golden(
            packet=whole, note=note, stack=stack, expect=expect, damaged=True, caplen=caplen
        )
    yield Golden(
        packet=ETHER / ARP(hwsrc=MAC_1, psrc=HOST_1, pdst=HOST_2),
        note="inside an ARP message",
        stack="EthernetHeader",
        damaged=True,
        caplen=30,
    )
    yield Golden(
        packet=ETHER / Dot1Q(vlan=5) / IP(src=HOST_1, dst=HOST_2),
        note="inside a VLAN tag",
        stack="EthernetHeader",
        damaged=True,
        caplen=16,
    )
    yield Golden(
        packet=TO / TCP(sport=1, dport=2, options=[("Timestamp", (1, 2))]),
        note="inside TCP's options",
        stack="EthernetHeader / IPv4Header",
        damaged=True,
        caplen=60,
    )
    yield Golden(
        packet=TO / ICMP(id=1, seq=2) / bytes(56),
        note="inside the data of an echo request",
        stack="EthernetHeader / IPv4Header / ICMPEcho",
        expect={"ICMPEcho.sequence_number": 2, "payload": bytes(14)},
        damaged=True,
        caplen=56,
    )
    yield Golden(
        packet=TO_V6 / ICMPv6ND_NS(tgt=HOST_2_V6),
        note="inside a neighbour solicitation",
        stack="EthernetHeader / IPv6Header",
        damaged=True,
        caplen=70,
    )


@capture("bad-checksum.pcap", "Checksums that are wrong: data like any other, and told as wrong")
def bad_checksum() -> Iterator[Golden]:
    yield Golden(
        packet=ETHER
        / IP(src=HOST_1, dst=HOST_2, id=1, chksum=0xBAD0)
        / UDP(sport=1, dport=9)
        / b"x",
        note="IPv4's",
        stack=UDP_STACK,
        expect={"IPv4Header.checksum": 0xBAD0},
        wrong=(1,),
    )
    yield Golden(
        packet=TO / UDP(sport=1, dport=9, chksum=0xBAD1) / b"x",
        note="UDP's",
        stack=UDP_STACK,
        expect={"UDPHeader.checksum": 0xBAD1},
        wrong=(2,),
    )
    yield Golden(
        packet=TO_V6 / UDP(sport=1, dport=9, chksum=0) / b"x",
        note="UDP's missing over IPv6, where it must be",
        stack="EthernetHeader / IPv6Header / UDPHeader",
        expect={"UDPHeader.checksum": 0},
        wrong=(2,),
    )
    yield Golden(
        packet=TO / TCP(sport=1, dport=9, chksum=0xBAD2) / b"x",
        note="TCP's",
        stack=TCP_STACK,
        expect={"TCPHeader.checksum": 0xBAD2},
        wrong=(2,),
    )
    yield Golden(
        packet=TO / ICMP(chksum=0xBAD3) / b"x",
        note="ICMP's",
        stack="EthernetHeader / IPv4Header / ICMPEcho",
        expect={"ICMPEcho.checksum": 0xBAD3},
        wrong=(2,),
    )
    yield Golden(
        packet=TO_V6 / ICMPv6EchoRequest(cksum=0xBAD4, data=b"x"),
        note="ICMPv6's",
        stack="EthernetHeader / IPv6Header / ICMPv6Echo",
        expect={"ICMPv6Echo.checksum": 0xBAD4},
        wrong=(2,),
    )
