"""What people see of a packet on one line."""

from __future__ import annotations

import pytest

from rawproto.wire import icmp, icmpv6, tcp_options
from rawproto.wire.arp import ARPMessage
from rawproto.wire.cooked import LinuxCooked, LoopbackHeader
from rawproto.wire.dissect import RAW, dissect
from rawproto.wire.dns import DNSMessage
from rawproto.wire.dns_rdata import MX, TXT, A, UnknownData
from rawproto.wire.dns_record import DNSQuestion, DNSRecord, OPTRecord
from rawproto.wire.ethernet import EthernetHeader, VLANTag
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import (
    DestinationOptions,
    FragmentHeader,
    HopByHopOptions,
    RoutingHeader,
)
from rawproto.wire.layer import Layer, Packet
from rawproto.wire.ndp import NeighborAdvertisement, NeighborSolicitation
from rawproto.wire.show import summary
from rawproto.wire.tcp import ACK, FIN, PSH, RST, SYN, URG, TCPHeader
from rawproto.wire.udp import UDPHeader

ETHERNET = EthernetHeader(src_addr="02:00:00:00:00:01", dst_addr="02:00:00:00:00:02")
IP = IPv4Header(src_addr="10.0.0.1", dst_addr="10.0.0.2", identification=7)
IP6 = IPv6Header(src_addr="2001:db8::1", dst_addr="2001:db8::2")
UDP = UDPHeader(src_port=5000, dst_port=6000)
QUOTE = (IPv4Header(src_addr="10.0.0.1", dst_addr="10.9.9.9") / UDP / b"probe").emit()
QUOTE6 = (IPv6Header(src_addr="::1", dst_addr="2001:db8::9") / DestinationOptions() / UDP).emit()
TCP_QUOTE = (IPv4Header(dst_addr="10.9.9.9") / TCPHeader(dst_port=443)).emit()[:28]

SYN_OPTIONS = (
    tcp_options.MSS(mss=1460),
    tcp_options.SACKPermitted(),
    tcp_options.Timestamps(tsval=1),
    tcp_options.NoOperation(),
    tcp_options.WindowScale(shift=7),
)

ANSWER = DNSMessage(
    identifier=77,
    qr=True,
    ra=True,
    questions=(DNSQuestion(qname="example.com."),),
    answers=(DNSRecord(name="example.com.", ttl=300, rdata=A(address="93.184.216.34")),),
)


def line(packet: Packet, link_type: int = RAW) -> str:
    return summary(dissect(packet.emit(), link_type))


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (
            TCPHeader(src_port=40000, dst_port=80, flags=SYN, sequence_number=1, window=64240)
            / b"",
            "40000 > 10.0.0.2.80: Flags [S], seq 1, win 64240, length 0",
        ),
        (
            TCPHeader(src_port=1, dst_port=2, flags=SYN, options=SYN_OPTIONS) / b"",
            (
                "1 > 10.0.0.2.2: Flags [S], seq 0, win 0, "
                "options [mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7], length 0"
            ),
        ),
        (
            TCPHeader(
                src_port=1,
                dst_port=2,
                flags=PSH | ACK,
                sequence_number=0xFFFFFFFE,
                acknowledgment_number=9,
            )
            / b"hello",
            "1 > 10.0.0.2.2: Flags [P.], seq 4294967294:3, ack 9, win 0, length 5",
        ),
        (
            TCPHeader(src_port=1, dst_port=2, flags=FIN | ACK | URG, urgent_pointer=3) / b"",
            "1 > 10.0.0.2.2: Flags [F.U], seq 0, ack 0, win 0, urg 3, length 0",
        ),
        (
            TCPHeader(
                src_port=1,
                dst_port=2,
                flags=RST,
                options=(
                    tcp_options.SACK(blocks=((1, 2), (3, 4))),
                    tcp_options.FastOpen(cookie=b"\1\2\3\4"),
                    tcp_options.FastOpen(),
                    tcp_options.UnknownOption(kind=253, data=b"\xab"),
                    tcp_options.RawOptions(data=b"\x09\xff"),
                ),
            )
            / b"",
            (
                "1 > 10.0.0.2.2: Flags [R], seq 0, win 0, options [sack 2 {1:2}{3:4},"
                "tfo cookie 01020304,tfo cookiereq,unknown-253 0xab,bad options], length 0"
            ),
        ),
        (
            TCPHeader(src_port=1, dst_port=2) / b"",
            "1 > 10.0.0.2.2: Flags [none], win 0, length 0",
        ),
        (UDP / b"abc", "5000 > 10.0.0.2.6000: UDP, length 3"),
    ],
)
def test_transport_lines_read_as_tcpdumps(packet: Packet, words: str) -> None:
    assert line(IP / packet) == f"IP 10.0.0.1.{words}"
    expected = words.replace("10.0.0.2", "2001:db8::2")
    assert line(IP6 / packet) == f"IP6 2001:db8::1.{expected}"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (icmp.ICMPEcho(identifier=1, sequence_number=7), "echo request, id 1, seq 7, length 8"),
        (icmp.ICMPEcho(icmp_type=0), "echo reply, id 0, seq 0, length 8"),
        (
            icmp.ICMPDestinationUnreachable(code=3, original_datagram=QUOTE),
            "10.9.9.9 udp port 6000 unreachable, length 41",
        ),
        (
            icmp.ICMPDestinationUnreachable(code=3, original_datagram=TCP_QUOTE),
            "10.9.9.9 tcp port 443 unreachable, length 36",
        ),
        (
            icmp.ICMPDestinationUnreachable(code=1, original_datagram=QUOTE),
            "host 10.9.9.9 unreachable, length 41",
        ),
        (
            icmp.ICMPDestinationUnreachable(code=2, original_datagram=QUOTE),
            "10.9.9.9 protocol udp unreachable, length 41",
        ),
        (
            icmp.ICMPDestinationUnreachable(code=4, next_hop_mtu=1400, original_datagram=QUOTE),
            "10.9.9.9 unreachable - need to frag (mtu 1400), length 41",
        ),
        (
            icmp.ICMPDestinationUnreachable(code=13, original_datagram=QUOTE),
            "host 10.9.9.9 unreachable - admin prohibited filter, length 41",
        ),
        (icmp.ICMPDestinationUnreachable(code=99), "? unreachable - code 99, length 8"),
        (icmp.ICMPTimeExceeded(), "time exceeded in-transit, length 8"),
        (icmp.ICMPTimeExceeded(code=1), "ip reassembly time exceeded, length 8"),
        (
            icmp.ICMPRedirect(code=1, gateway_addr="10.0.0.3", original_datagram=QUOTE),
            "redirect 10.9.9.9 to host 10.0.0.3, length 41",
        ),
        (icmp.ICMPParameterProblem(pointer=20), "parameter problem - octet 20, length 8"),
        (
            icmp.ICMPTimestamp(identifier=1, sequence_number=2),
            "time stamp query id 1 seq 2, length 20",
        ),
        (icmp.ICMPUnknown(icmp_type=10), "router-solicitation, length 4"),
        (icmp.ICMPUnknown(icmp_type=200, code=3), "type-#200, code 3, length 4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_icmp_lines_read_as_tcpdumps(message: Layer, words: str) -> None:
    assert line(IP / message) == f"IP 10.0.0.1 > 10.0.0.2: ICMP {words}"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (icmpv6.ICMPv6Echo(identifier=3, sequence_number=4), "echo request, id 3, seq 4, length 8"),
        (NeighborSolicitation(target_addr="fe80::1"), "neighbor solicitation, who has fe80::1"),
        (NeighborAdvertisement(target_addr="fe80::1"), "neighbor advertisement, tgt is fe80::1"),
        (icmpv6.RouterSolicitation(), "router solicitation, length 8"),
        (icmpv6.RouterAdvertisement(), "router advertisement, length 16"),
        (
            icmpv6.ICMPv6Redirect(target_addr="fe80::2", destination_addr="2001:db8::9"),
            "redirect, 2001:db8::9 to fe80::2",
        ),
        (
            icmpv6.ICMPv6DestinationUnreachable(code=4, original_datagram=QUOTE6),
            "destination unreachable, unreachable port, 2001:db8::9 udp port 6000",
        ),
        (
            icmpv6.ICMPv6DestinationUnreachable(code=0, original_datagram=QUOTE6),
            "destination unreachable, unreachable route 2001:db8::9",
        ),
        (icmpv6.ICMPv6PacketTooBig(mtu=1280), "packet too big, mtu 1280"),
        (
            icmpv6.ICMPv6TimeExceeded(original_datagram=QUOTE6),
            "time exceeded in-transit for 2001:db8::9",
        ),
        (
            icmpv6.ICMPv6ParameterProblem(code=1, pointer=6),
            "parameter problem, next header - octet 6",
        ),
        (icmpv6.ICMPv6Unknown(icmp_type=143), "mldv2 report, length 4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_icmpv6_lines_read_as_tcpdumps(message: Layer, words: str) -> None:
    told = line(IP6 / message)
    assert told.startswith(f"IP6 2001:db8::1 > 2001:db8::2: ICMP6, {words}")
    assert told.endswith(f", length {len(message.emit(src_addr='::', dst_addr='::'))}")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            ARPMessage(sender_protocol_addr="10.0.0.1", target_protocol_addr="10.0.0.2"),
            "Request who-has 10.0.0.2 tell 10.0.0.1",
        ),
        (
            ARPMessage(
                operation=2,
                sender_hardware_addr="02:00:00:00:00:01",
                sender_protocol_addr="10.0.0.1",
            ),
            "Reply 10.0.0.1 is-at 02:00:00:00:00:01",
        ),
        (ARPMessage(operation=3), "rarp-request 0.0.0.0 > 0.0.0.0"),
        (ARPMessage(operation=77), "operation 77 0.0.0.0 > 0.0.0.0"),
    ],
)
def test_arp_lines_read_as_tcpdumps(message: ARPMessage, words: str) -> None:
    assert line(ETHERNET / message / bytes(18), 1) == f"ARP, {words}, length 28"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            DNSMessage(identifier=77, questions=(DNSQuestion(qname="example.com."),)),
            "77+ A? example.com. (29)",
        ),
        (
            DNSMessage(
                identifier=7,
                rd=False,
                cd=True,
                questions=(DNSQuestion(qname="a.", qtype=999),),
                additionals=(OPTRecord(),),
            ),
            "7% [1au] Type999? a. (30)",
        ),
        (ANSWER, "77 1/0/0 A 93.184.216.34 (56)"),
        (DNSMessage(identifier=7, qr=True, aa=True, tc=True, ad=True), "7*-|$ 0/0/0 (12)"),
        (DNSMessage(identifier=7, qr=True, ra=True, rcode=3), "7 NXDomain 0/0/0 (12)"),
        (
            DNSMessage(
                qr=True,
                ra=True,
                answers=(
                    DNSRecord(name=".", rdata=MX(preference=10, exchange="mail.")),
                    DNSRecord(name=".", rdata=TXT(strings=(b"a\x1b[2J", b"b"))),
                    DNSRecord(name=".", rdata=UnknownData(rtype=999, data=b"abc")),
                ),
            ),
            r"0 3/0/0 MX 10 mail., TXT 'a\x1b[2J' 'b', Type999 (3 bytes) (64)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_dns_lines_read_as_tcpdumps(message: DNSMessage, words: str) -> None:
    port = UDPHeader(src_port=53, dst_port=40000)
    assert line(IP / port / message) == f"IP 10.0.0.1.53 > 10.0.0.2.40000: {words}"


def test_only_the_first_answers_are_listed() -> None:
    record = DNSRecord(name=".", rdata=A(address="10.0.0.9"))
    message = DNSMessage(qr=True, answers=(record,) * 500)
    told = line(IP / UDPHeader(src_port=53) / message)
    assert told.count("10.0.0.9") == 8
    assert "500/0/0" in told
    assert ", ..." in told


@pytest.mark.parametrize(
    ("packet", "link_type", "told"),
    [
        (
            ETHERNET / VLANTag(vid=100, pcp=3, dei=1) / IP / UDP,
            1,
            "vlan 100, p 3, DEI, IP 10.0.0.1.5000 > 10.0.0.2.6000: UDP, length 0",
        ),
        (
            IP / IP6 / UDP,
            RAW,
            "IP 10.0.0.1 > 10.0.0.2: IP6 2001:db8::1.5000 > 2001:db8::2.6000: UDP, length 0",
        ),
        (
            IP6 / HopByHopOptions() / RoutingHeader(addresses=("::1",)) / UDP,
            RAW,
            "IP6 2001:db8::1.5000 > 2001:db8::2.6000: HBH srcrt (type=0, segleft=1) UDP, length 0",
        ),
        (
            IP6 / DestinationOptions(next_header=50) / b"secret",
            RAW,
            "IP6 2001:db8::1 > 2001:db8::2: DSTOPT esp, length 6",
        ),
        (
            IPv4Header(flags=MF, identification=9, protocol=17) / UDPHeader(length=99, checksum=1),
            RAW,
            "IP 0.0.0.0.0 > 0.0.0.0.0: UDP, length 91 (frag 9:8@0+)",
        ),
        (
            IPv4Header(fragment_offset=3, identification=9, protocol=17) / bytes(20),
            RAW,
            "IP 0.0.0.0 > 0.0.0.0: udp, length 20 (frag 9:20@24)",
        ),
        (
            IP6 / FragmentHeader(fragment_offset=3, next_header=6) / bytes(20),
            RAW,
            "IP6 2001:db8::1 > 2001:db8::2: tcp, length 20 (frag 0:20@24)",
        ),
        (IPv4Header(protocol=47) / b"gre?", RAW, "IP 0.0.0.0 > 0.0.0.0: gre, length 4"),
        (
            IPv4Header(protocol=200) / b"",
            RAW,
            "IP 0.0.0.0 > 0.0.0.0: ip-proto-200, length 0",
        ),
        (
            EthernetHeader(ethertype=0x88CC) / b"lldp",
            1,
            "00:00:00:00:00:00 > 00:00:00:00:00:00: ethertype 0x88cc (lldp), length 4",
        ),
        (
            EthernetHeader(ethertype=4) / b"llc!",
            1,
            "00:00:00:00:00:00 > 00:00:00:00:00:00: 802.3, length 4",
        ),
        (
            LinuxCooked(protocol_type=0x1234, packet_type=4) / b"x",
            113,
            "00:00:00:00:00:00 > outgoing: ethertype 0x1234, length 1",
        ),
        (LoopbackHeader(family=7) / b"abc", 0, "address family 7, length 3"),
        (Packet((b"whatever",)), 999, "data, length 8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_lines_say_what_is_there(packet: Packet, link_type: int, told: str) -> None:
    assert line(packet, link_type) == told


def test_damage_stands_last_on_the_line() -> None:
    data = (IP / TCPHeader(src_port=1, dst_port=2) / bytes(50)).emit()
    told = summary(dissect(data[:60], RAW))
    assert told.startswith("IP 10.0.0.1.1 > 10.0.0.2.2: Flags [none], seq 0:50")
    assert told.endswith("length 50 [|ipv4, 30 bytes missing]")
    bad = (IP / TCPHeader(data_offset=2)).emit()
    assert summary(dissect(bad, RAW)).endswith(
        "tcp, length 20 [tcp at byte 12: data_offset 2 is below 5]"
    )
