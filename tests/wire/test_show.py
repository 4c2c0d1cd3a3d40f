"""What people and programs see of a packet: lines, pictures, dictionaries, dumps."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.wire import icmp, icmpv6, ipv4_options, ipv6_options, ndp_options, tcp_options
from rawproto.wire.arp import ARPMessage
from rawproto.wire.cooked import LinuxCooked, LoopbackHeader
from rawproto.wire.dissect import RAW, dissect
from rawproto.wire.dns import DNSMessage
from rawproto.wire.dns_rdata import MX, TXT, A, UnknownData
from rawproto.wire.dns_record import DNSQuestion, DNSRecord, OPTRecord
from rawproto.wire.ethernet import EthernetHeader, VLANTag
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import InterfaceInformation, MPLSLabel, MPLSLabelStack
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import (
    DestinationOptions,
    FragmentHeader,
    HopByHopOptions,
    RoutingHeader,
    SegmentRoutingHeader,
)
from rawproto.wire.layer import Layer, Packet
from rawproto.wire.ndp import NeighborAdvertisement, NeighborSolicitation
from rawproto.wire.show import diagram, fields, hexdump, summary
from rawproto.wire.tcp import ACK, FIN, PSH, RST, SYN, URG, TCPHeader
from rawproto.wire.udp import UDPHeader
from tests.wire.packets import PACKETS

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


def picture(text: str) -> str:
    """What `diagram` draws below its ruler."""
    return dedent(text).strip("\n")


def drawn(layer: Layer | bytes) -> str:
    first, second, *rest = diagram(layer).split("\n")
    assert first.split() == ["0", "1", "2", "3"]
    assert second.split() == [str(bit % 10) for bit in range(32)]
    return "\n".join(rest)


def test_udp_is_drawn_as_the_rfc_draws_it() -> None:
    header = UDPHeader(src_port=40000, dst_port=53, length=37, checksum=0xBEEF)
    assert drawn(header) == picture("""
        +-------------------------------+-------------------------------+
        |           src_port            |           dst_port            |
        |             40000             |              53               |
        +-------------------------------+-------------------------------+
        |            length             |           checksum            |
        |              37               |            0xbeef             |
        +-------------------------------+-------------------------------+
    """)


def test_addresses_of_48_bits_cross_the_rows() -> None:
    header = EthernetHeader(dst_addr="02:00:00:00:00:02", ethertype=0x0800)
    assert drawn(header) == picture("""
        +---------------------------------------------------------------+
        |                           dst_addr                            |
        |                       02:00:00:00:00:02                       |
        +                               +-------------------------------+
        |                               |                               |
        +-------------------------------+                               +
        |                           src_addr                            |
        |                       00:00:00:00:00:00                       |
        +-------------------------------+-------------------------------+
        |           ethertype           |
        |         0x0800 (ipv4)         |
        +-------------------------------+
    """)


def test_narrow_boxes_have_their_names_on_end() -> None:
    assert drawn(VLANTag(vid=100, pcp=3, dei=1, ethertype=0x86DD)) == picture("""
        +-----+-+-----------------------+-------------------------------+
        | pcp |d|          vid          |           ethertype           |
        |  3  |e|          100          |         0x86dd (ipv6)         |
        |     |i|                       |                               |
        |     |1|                       |                               |
        +-----+-+-----------------------+-------------------------------+
    """)


def test_flags_names_and_options_are_drawn() -> None:
    header = TCPHeader(
        src_port=40000,
        dst_port=80,
        sequence_number=12345678,
        data_offset=10,
        flags=SYN | ACK,
        window=64240,
        checksum=0xBEEF,
        options=SYN_OPTIONS,
    )
    assert drawn(header) == picture("""
        +-------------------------------+-------------------------------+
        |           src_port            |           dst_port            |
        |             40000             |              80               |
        +-------------------------------+-------------------------------+
        |                        sequence_number                        |
        |                           12345678                            |
        +---------------------------------------------------------------+
        |                     acknowledgment_number                     |
        |                               0                               |
        +-------+-----+-----------------+-------------------------------+
        | data_ |reser|      flags      |            window             |
        |offset | ved |     ACK,SYN     |             64240             |
        |  10   |  0  |                 |                               |
        +-------+-----+-----------------+-------------------------------+
        |           checksum            |        urgent_pointer         |
        |            0xbeef             |               0               |
        +-------------------------------+-------------------------------+
        |                         option 2, mss                         |
        |                             1460                              |
        +-------------------------------+-------------------------------+
        |   option 4, sack-permitted    |                               |
        +-------------------------------+                               +
        |                     option 8, timestamps                      |
        +                                                               +
        |                       tsval 1, tsecr 0                        |
        +---------------+-----------------------------------------------+
        | no-operation  |            option 3, window-scale             |
        |               |                       7                       |
        +---------------+-----------------------------------------------+
    """)


def test_padding_of_options_is_drawn_and_long_options_are_folded() -> None:
    text = drawn(IPv4Header(options=(ipv4_options.RecordRoute(),)))
    assert text.endswith(
        picture("""
        +---------------------------------------------------------------+
        |                    option 7, record-route                     |
        +                                                               +
        ~   addresses 0.0.0.0 0.0.0.0 0.0.0.0 0.0.0.0 0.0.0.0 0.0.0.0   ~
        +                                                               +
        |              0.0.0.0 0.0.0.0 0.0.0.0, pointer 4               |
        +                                               +---------------+
        |                                               |    padding    |
        +-----------------------------------------------+---------------+
    """)
    )


def test_names_too_long_for_the_line_stand_below_the_number() -> None:
    text = drawn(icmp.ICMPDestinationUnreachable(code=3, checksum=1, length=0))
    assert text.startswith(
        picture("""
        +---------------+---------------+-------------------------------+
        |   icmp_type   |     code      |           checksum            |
        |       3       |       3       |            0x0001             |
        | (destination- |    (port-     |                               |
        | unreachable)  | unreachable)  |                               |
        +---------------+---------------+-------------------------------+
    """)
    )


def test_ipv6_addresses_are_boxes_of_four_rows() -> None:
    lines = drawn(IP6).split("\n")
    at = next(number for number, text in enumerate(lines) if "src_addr" in text)
    assert lines[at - 2] == "|" + " " * 63 + "|"
    assert lines[at - 1] == "+" + " " * 63 + "+"
    assert lines[at + 2].strip("| ") == "2001:db8::1"
    assert len(lines) == 7 + 2 * 8


def test_addresses_of_unusual_length_change_the_picture_of_arp() -> None:
    message = ARPMessage(
        protocol_type=0x86DD,
        sender_hardware_addr="00:11",
        sender_protocol_addr="aa:bb",
        target_hardware_addr="",
        target_protocol_addr="cc:dd",
    )
    text = drawn(message)
    assert "|     sender_hardware_addr      |     sender_protocol_addr      |" in text
    assert "target_hardware_addr" not in text


def test_records_of_dns_are_loose_rows() -> None:
    text = drawn(ANSWER)
    assert "name example.com., rclass 1 (IN), ttl 300," in text
    assert "rdata A 93.184.216.34" in text
    assert "qname example.com., qtype 1 (A), qclass 1 (IN)" in text
    assert "questions[0], dns-question" in text


def test_picture_of_a_hostile_header_is_bounded() -> None:
    pads = HopByHopOptions(options=(ipv6_options.Pad1(),) * 2046)
    records = DNSMessage(answers=(DNSRecord(name=".", rdata=A(address="10.0.0.9")),) * 5000)
    for layer, more in ((pads, "options, 2022 more"), (records, "answers, 4976 more")):
        text = diagram(layer)
        assert more in text
        assert len(text.split("\n")) < 100


def test_extensions_of_an_error_are_drawn_behind_it() -> None:
    extensions = ICMPExtensions(
        objects=(
            MPLSLabelStack(labels=(MPLSLabel(label=16001, ttl=1),)),
            InterfaceInformation(if_name="eth0\x1b[31m", mtu=1500),
        )
    )
    error = icmp.ICMPTimeExceeded(original_datagram=bytes(128), extensions=extensions)
    text = drawn(error)
    assert "original_datagram, 128 bytes" in text
    assert "objects[0], mpls-label-stack" in text
    assert "label 16001" in text
    assert "\x1b" not in text
    assert r"eth0\x1b[31m" in text
    assert "if_index" not in text, "what an object doesn't hold is not drawn"


def test_plain_bytes_are_drawn_byte_by_byte_as_far_as_they_are_few() -> None:
    assert drawn(b"Hi\x00") == picture("""
        +---------------+---------------+---------------+
        |      48       |      69       |      00       |
        |       H       |       i       |               |
        +---------------+---------------+---------------+
    """)
    assert "1468 more bytes" in drawn(bytes(1500))
    assert drawn(b"") == ""


@pytest.mark.parametrize(("link_type", "data", "layers"), PACKETS.values(), ids=PACKETS.keys())
def test_every_layer_is_drawn_in_closed_boxes_with_all_its_names(
    link_type: int, data: bytes, layers: tuple[str, ...]
) -> None:
    for layer in dissect(data, link_type).layers:
        text = diagram(layer)
        lines = text.split("\n")[2:]
        assert all(len(each) <= 65 for each in lines)
        assert all(each[0] in "+|~" and each[-1] in "+|~" for each in lines)
        assert lines[0].strip("+-") == lines[-1].strip("+-") == ""
        for name, bits in layer.layout:
            if 2 * bits > len(name):
                assert name in text


@given(st.lists(st.integers(1, 70), min_size=1, max_size=12))
def test_any_layout_is_drawn_with_every_box_closed(widths: list[int]) -> None:
    class Strange(Layer):
        layout = tuple((f"f{index}", bits) for index, bits in enumerate(widths))

        def __getattr__(self, name: str) -> int:
            return 0

    lines = diagram(Strange()).split("\n")[2:]
    assert len(lines[0]) == 2 * min(32, sum(widths)) + 1
    assert all(each[0] in "+|~" and each[-1] in "+|~" for each in lines)
    for above, row, below in zip(lines, lines[1:], lines[2:], strict=False):
        for at, char in enumerate(row):
            if char == "|":
                assert above[at : at + 1] in ("+", "|")
                assert below[at : at + 1] in ("+", "|")


def test_fields_are_what_json_carries() -> None:
    header = TCPHeader(
        src_port=1,
        dst_port=2,
        flags=SYN | ACK,
        checksum=3,
        options=(
            tcp_options.MSS(mss=1400),
            tcp_options.Timestamps(tsval=5, tsecr=6),
            tcp_options.NoOperation(),
            tcp_options.SACK(blocks=((1, 2),)),
            tcp_options.UnknownOption(kind=253, data=b"\xab\xcd"),
        ),
    )
    assert fields(header) == {
        "layer": "tcp",
        "class": "TCPHeader",
        "src_port": 1,
        "dst_port": 2,
        "sequence_number": 0,
        "acknowledgment_number": 0,
        "data_offset": None,
        "reserved": 0,
        "flags": ["ACK", "SYN"],
        "window": 0,
        "checksum": 3,
        "urgent_pointer": 0,
        "options": [
            {"kind": 2, "kind_name": "mss", "value": 1400},
            {"kind": 8, "kind_name": "timestamps", "value": {"tsval": 5, "tsecr": 6}},
            {"kind": 1, "kind_name": "no-operation", "value": None},
            {"kind": 5, "kind_name": "sack", "value": [[1, 2]]},
            {"kind": 253, "kind_name": "unknown-option", "value": "abcd"},
        ],
    }


def test_enumerations_have_their_names_beside_them() -> None:
    told = fields(IPv4Header(protocol=6, ecn=3))
    assert (told["protocol"], told["protocol_name"]) == (6, "tcp")
    assert (told["ecn"], told["ecn_name"]) == (3, "CE")
    question = fields(ANSWER)["questions"][0]
    assert (question["qtype"], question["qtype_name"]) == (1, "A")
    told = fields(IPv4Header(protocol=200))
    assert (told["protocol"], told["protocol_name"]) == (200, None)


def test_flags_without_a_name_are_hexadecimal() -> None:
    assert fields(FragmentHeader(flags=0b101))["flags"] == ["MF", "0x4"]
    assert fields(IPv4Header(flags=0))["flags"] == []


def test_objects_within_a_layer_tell_their_class() -> None:
    extensions = ICMPExtensions(objects=(MPLSLabelStack(labels=(MPLSLabel(label=5),)),))
    told = fields(icmp.ICMPTimeExceeded(original_datagram=b"\xab", extensions=extensions))
    assert told["original_datagram"] == "ab"
    assert told["code_name"] == "ttl-exceeded-in-transit"
    assert told["extensions"]["layer"] == "icmp_ext"
    stack = told["extensions"]["objects"][0]
    assert stack["class"] == "MPLSLabelStack"
    assert stack["labels"][0]["label"] == 5
    opt = fields(DNSMessage(additionals=(OPTRecord(flags=0x8000),)))["additionals"][0]
    assert (opt["class"], opt["flags"]) == ("OPTRecord", ["DO"])


@pytest.mark.parametrize(
    ("layer", "option"),
    [
        (
            NeighborSolicitation(
                options=(ndp_options.SourceLinkLayerAddress(mac_addr="02:00:00:00:00:01"),)
            ),
            {"kind": 1, "kind_name": "source-link-layer-address", "value": "02:00:00:00:00:01"},
        ),
        (
            HopByHopOptions(options=(ipv6_options.RouterAlert(value=1),)),
            {"kind": 5, "kind_name": "router-alert", "value": 1},
        ),
        (
            IPv4Header(options=(ipv4_options.RawOptions(data=b"\x07"),)),
            {"kind": 7, "kind_name": "raw-options", "value": "07"},
        ),
    ],
)
def test_options_of_all_protocols_look_alike(layer: Layer, option: dict[str, object]) -> None:
    assert fields(layer)["options"] == [option]


def test_segment_list_is_a_list_of_text() -> None:
    header = SegmentRoutingHeader(segment_list=("2001:db8::1",))
    assert fields(header)["segment_list"] == ["2001:db8::1"]


@pytest.mark.parametrize(("link_type", "data", "layers"), PACKETS.values(), ids=PACKETS.keys())
def test_fields_of_every_layer_survive_json(
    link_type: int, data: bytes, layers: tuple[str, ...]
) -> None:
    for layer in dissect(data, link_type).layers:
        told = fields(layer)
        assert json.loads(json.dumps(told)) == told
        assert {name for name, _ in layer.layout} <= set(told)


def test_hexdump_shows_offset_bytes_and_text() -> None:
    assert hexdump(b"") == ""
    assert hexdump(b"GET / HTTP/1.1\r\n\x1b[2J~\x7f", offset=0x40).split("\n") == [
        "0x0040  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a  GET / HTTP/1.1..",
        "0x0050  1b 5b 32 4a 7e 7f                                 .[2J~.",
    ]
