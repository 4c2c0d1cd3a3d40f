"""The craft notation: what an expression stands for, and what is said of one that says nothing."""

from __future__ import annotations

import random
from itertools import product

import pytest

from rawproto import (
    EthernetHeader,
    ICMPDestinationUnreachable,
    ICMPEcho,
    ICMPExtensions,
    ICMPTimeExceeded,
    ICMPTimestamp,
    IPv4Header,
    IPv6Header,
    NeighborSolicitation,
    Packet,
    SegmentRoutingHeader,
    TCPHeader,
    UDPHeader,
    VLANTag,
)
from rawproto.errors import EmitError, UsageError
from rawproto.packets.notation import MAX_DATA_BYTES, MAX_PACKETS, NotationError, craft
from rawproto.wire.arp import ARPMessage
from rawproto.wire.dns import DNSMessage
from rawproto.wire.dns_rdata import MX, TXT, A
from rawproto.wire.dns_record import DNSQuestion, DNSRecord, EDNSOption, OPTRecord
from rawproto.wire.icmp_objects import InterfaceInformation, MPLSLabel, MPLSLabelStack
from rawproto.wire.ipv4_options import RecordRoute, SourceRoute, Timestamp
from rawproto.wire.ndp_options import SourceLinkLayerAddress
from rawproto.wire.tcp import ACK, AE, CWR, SYN
from rawproto.wire.tcp_options import MSS, SACK, NoOperation, SACKPermitted, Timestamps


def one(expression: str) -> Packet:
    """The packet of an expression that stands for one."""
    (packet,) = craft(expression)
    return packet


def refusal(expression: str) -> NotationError:
    with pytest.raises(NotationError) as caught:
        craft(expression)
    assert "\n" not in str(caught.value), "one line"
    assert isinstance(caught.value, UsageError)
    return caught.value


def test_fields_are_given_by_name_and_the_rest_is_the_classes_default() -> None:
    packet = one("ipv4 dst_addr=10.0.0.2 ttl=3 / udp dst_port=53 / hex:0001")
    meant = IPv4Header(dst_addr="10.0.0.2", ttl=3) / UDPHeader(dst_port=53) / b"\x00\x01"
    assert packet == meant
    assert packet.emit().hex() == ("4500001e000000000311adce000000000a00000200000035000af5a20001")


def test_white_space_around_slashes_and_equals_signs_means_nothing() -> None:
    tight = one("ipv4 ttl=3/udp dst_port=53/hex:01")
    assert one("  ipv4\n  ttl = 3 /\n\tudp dst_port= 53\n/ hex:01 ") == tight


@pytest.mark.parametrize("written", ["80", "0x50", "0X50", "0b1010000", "080"])
def test_numbers_in_the_usual_bases(written: str) -> None:
    assert one(f"udp dst_port={written}").layers[0] == UDPHeader(dst_port=80)


@pytest.mark.parametrize(
    "written", ["time_exceeded", "time-exceeded", "TIME_EXCEEDED", '"time exceeded"', "11", "0xb"]
)
def test_an_icmp_type_by_any_spelling_picks_its_class(written: str) -> None:
    assert one(f"icmp code=1 icmp_type={written}").layers == (ICMPTimeExceeded(code=1),)


def test_numbers_have_the_names_of_their_field() -> None:
    packet = one("ipv4 protocol=sctp ecn=ect_1 / icmp icmp_type=3 code=port_unreachable")
    assert packet.layers == (IPv4Header(protocol=132, ecn=1), ICMPDestinationUnreachable(code=3))
    assert one("ethernet ethertype=802.1q").layers == (EthernetHeader(ethertype=0x8100),)


@pytest.mark.parametrize("written", ["SYN,ACK", "syn+ack", "SYN|ACK", "0x12", "SYN,0x10", "18"])
def test_flags_by_name_or_number(written: str) -> None:
    assert one(f"tcp flags={written} window=1").layers == (TCPHeader(flags=SYN | ACK, window=1),)


def test_flags_may_be_in_alternatives() -> None:
    flags = [packet[TCPHeader].flags for packet in craft("tcp flags={SYN+ACK,AE,0}")]
    assert flags == [SYN | ACK, AE, 0]


def test_checksums_and_lengths_go_out_as_given() -> None:
    packet = one("ipv4 checksum=0xbad total_length=7 / udp checksum=0 length=9 / text:hi")
    data = packet.emit()
    assert (data[10:12].hex(), data[2:4].hex()) == ("0bad", "0007")
    assert (data[26:28].hex(), data[24:26].hex()) == ("0000", "0009")


def test_auto_leaves_a_field_to_be_computed() -> None:
    assert one("ipv4 checksum=auto protocol=none / udp").layers == (IPv4Header(), UDPHeader())


def test_layers_begin_where_one_likes() -> None:
    packet = one("ethernet dst_addr=02-00-00-00-00-0A / vlan vid=5 pcp=3 / arp")
    assert packet.layers[:2] == (
        EthernetHeader(dst_addr="02:00:00:00:00:0a"),
        VLANTag(vid=5, pcp=3),
    )
    assert one("hex:45").layers == (b"\x45",)


def test_addresses_get_the_text_that_parsers_give_them() -> None:
    packet = one("ipv6 src_addr=2001:DB8:0:0::1 dst_addr=::ffff:10.0.0.1")
    assert packet.layers == (IPv6Header(src_addr="2001:db8::1", dst_addr="::ffff:10.0.0.1"),)


def test_tcp_options_by_name_with_one_value_several_or_none() -> None:
    packet = one("tcp options=[mss=1400,nop,sack_permitted,timestamps(1, tsecr=2),sack=(1,2)]")
    options = packet[TCPHeader].options
    assert options == (
        MSS(mss=1400),
        NoOperation(),
        SACKPermitted(),
        Timestamps(tsval=1, tsecr=2),
        SACK(blocks=((1, 2),)),
    )
    assert one("tcp options=nop,mss window=2")[TCPHeader].options == (NoOperation(), MSS())
    assert one("tcp options=[]")[TCPHeader].options == ()


def test_ipv4_options_with_lists_of_addresses() -> None:
    packet = one(
        "ipv4 options=[record_route=[0.0.0.0,0.0.0.0],source_route(strict=yes,addresses=10.0.0.1),"
        "timestamp(flag=1,entries=[(10.0.0.1,5),(none,6)])]"
    )
    assert packet[IPv4Header].options == (
        RecordRoute(addresses=("0.0.0.0",) * 2),
        SourceRoute(strict=True, addresses=("10.0.0.1",)),
        Timestamp(flag=1, entries=(("10.0.0.1", 5), (None, 6))),
    )


def test_an_error_quotes_a_packet_and_carries_objects() -> None:
    packet = one(
        "icmp icmp_type=time_exceeded original_datagram=[ipv4 ttl=1 / udp dst_port=33434] "
        "extensions=[mpls=[100,(label=200,ttl=2)],"
        "interface_information(role=incoming,if_index=3,if_name=eth0)]"
    )
    assert packet.layers == (
        ICMPTimeExceeded(
            original_datagram=(IPv4Header(ttl=1) / UDPHeader(dst_port=33434)).emit(),
            extensions=ICMPExtensions(
                objects=(
                    MPLSLabelStack(labels=(MPLSLabel(label=100), MPLSLabel(label=200, ttl=2))),
                    InterfaceInformation(role=0, if_index=3, if_name="eth0"),
                )
            ),
        ),
    )


def test_an_extension_structure_may_be_malformed_on_purpose() -> None:
    packet = one("icmp icmp_type=3 extensions=(version=1,checksum=0xbad,objects=[raw=hex:00])")
    extensions = packet[ICMPDestinationUnreachable].extensions
    assert extensions is not None
    assert (extensions.version, extensions.checksum) == (1, 0xBAD)


def test_dns_questions_and_records_as_zone_files_name_them() -> None:
    packet = one(
        "dns identifier=7 rd=no questions=[example.com,(example.com,AAAA)] "
        "answers=[A(name=example.com,ttl=60,address=192.0.2.1),MX(name=a,exchange=mx.a)] "
        'authorities=TXT(name=b,strings=["two words",hex:ff]) '
        "additionals=[OPT(flags=DO,options=[(10,hex:01)])]"
    )
    assert packet.layers == (
        DNSMessage(
            identifier=7,
            rd=False,
            questions=(
                DNSQuestion(qname="example.com"),
                DNSQuestion(qname="example.com", qtype=28),
            ),
            answers=(
                DNSRecord(name="example.com", ttl=60, rdata=A(address="192.0.2.1")),
                DNSRecord(name="a", rdata=MX(exchange="mx.a")),
            ),
            authorities=(DNSRecord(name="b", rdata=TXT(strings=(b"two words", b"\xff"))),),
            additionals=(OPTRecord(flags=0x8000, options=(EDNSOption(code=10, data=b"\x01"),)),),
        ),
    )


def test_neighbour_discovery_is_icmpv6() -> None:
    packet = one(
        "icmpv6 target_addr=fe80::1 icmp_type=neighbor_solicitation "
        "options=source_link_layer_address=02:00:00:00:00:01"
    )
    assert packet.layers == (
        NeighborSolicitation(
            target_addr="fe80::1",
            options=(SourceLinkLayerAddress(mac_addr="02:00:00:00:00:01"),),
        ),
    )


def test_routing_headers_take_their_form_from_the_routing_type() -> None:
    packet = one("ipv6_routing segment_list=fd00::1,fd00::2 routing_type=segment_routing")
    assert packet.layers == (SegmentRoutingHeader(segment_list=("fd00::1", "fd00::2")),)


def test_names_of_hosts_are_looked_up_in_the_family_of_their_field() -> None:
    def resolve(name: str, family: int | None) -> str:
        known = {("h1", 4): "10.0.0.1", ("h1", 6): "fd00::1", ("a.b-c", None): "10.0.0.3"}
        if (name, family) not in known:
            raise UsageError(f"{name}: no such host")
        return known[name, family]

    (packet,) = craft("ipv4 dst_addr=h1 / ipv6 dst_addr=h1", resolve=resolve)
    assert packet == IPv4Header(dst_addr="10.0.0.1") / IPv6Header(dst_addr="fd00::1")
    (error,) = craft(
        "icmp icmp_type=3 extensions=[interface_information(if_addr=a.b-c)]", resolve=resolve
    )
    assert "10.0.0.3" in repr(error)
    with pytest.raises(NotationError, match=r"h9: no such host \(at character 15\)"):
        craft("ipv4 dst_addr=h9", resolve=resolve)


@pytest.mark.parametrize(
    ("letters", "flags"),
    [("S", SYN), ("SA", SYN | ACK), ("S.", SYN | ACK), ("S,A", SYN | ACK), ("AE", AE), ("W", CWR)],
)
def test_flags_of_tcp_have_letters(letters: str, flags: int) -> None:
    assert one(f"tcp flags={letters}").layers == (TCPHeader(flags=flags),)


@pytest.mark.parametrize("words", ["IP / TCP", "ip / tcp", "IPv4 / Tcp"])
def test_layers_go_by_other_cases_and_by_tcpdumps_names(words: str) -> None:
    assert one(words) == IPv4Header() / TCPHeader()
    assert one("ether / ip6 / icmp6") == one("ethernet / ipv6 / icmpv6")


@pytest.mark.parametrize(
    ("name", "number"), [("EF", 46), ("af41", 34), ("CS6", 48), ("cs0", 0), ("LE", 1)]
)
def test_classes_of_service_have_names(name: str, number: int) -> None:
    assert one(f"ipv4 dscp={name}").layers == (IPv4Header(dscp=number),)


def test_host_by_name_in_arp_is_its_ipv4_address() -> None:
    asked = []

    def resolve(name: str, family: object) -> str:
        asked.append((name, family))
        return "10.99.1.2"

    (packet,) = craft("arp target_protocol_addr=h2", resolve=resolve)
    assert packet.layers == (ARPMessage(target_protocol_addr="10.99.1.2"),)
    assert asked == [("h2", 4)]
    with pytest.raises(NotationError, match="neither dotted IPv4 nor hexadecimal"):
        craft("arp target_hardware_addr=h2", resolve=resolve)


@pytest.mark.parametrize("mistyped", ["10.0.0.256", "10.0.0", "fe80::g", "1.2.3.4.5"])
def test_a_mistyped_address_is_no_name(mistyped: str) -> None:
    with pytest.raises(NotationError, match="not an IPv4 address"):
        craft(f"ipv4 dst_addr={mistyped}", resolve=lambda name, family: "10.0.0.1")


# --- payload -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "data"),
    [
        ("text:hello", b"hello"),
        ("text:GET/index.html", b"GET/index.html"),
        (r'text:"a b\n\x00\xff\"\\"', b'a b\n\x00\xff"\\'),
        ("text:'single \"quotes\"'", b'single "quotes"'),
        ("text:größe", "größe".encode()),
        ("text:", b""),
        ('"quotes alone"', b"quotes alone"),
        ("hex:0001fF", b"\x00\x01\xff"),
        ("hex:00:01-02", b"\x00\x01\x02"),
        ('hex:"00 01"', b"\x00\x01"),
        ("file:name.bin", b"<name.bin>"),
        ('file:"with space"', b"<with space>"),
        ("file:/tmp/a.bin", b"</tmp/a.bin>"),
    ],
)
def test_payload(written: str, data: bytes) -> None:
    (packet,) = craft(f"ipv4 / {written}", read_file=lambda name: f"<{name}>".encode())
    assert packet.layers == (IPv4Header(), data)


def test_data_in_brackets_ends_where_they_do() -> None:
    packet = one("icmp icmp_type=3 original_datagram=[ipv4 / text:abc] / text:[abc]")
    assert packet[ICMPDestinationUnreachable].original_datagram[20:] == b"abc"
    assert packet.layers[1] == b"[abc]"


def test_random_bytes_are_new_for_each_packet_and_the_same_for_a_seed() -> None:
    def payloads(seed: int) -> list[object]:
        packets = craft("ipv4 ttl=1..3 / random:16", rng=random.Random(seed))
        return [packet.layers[1] for packet in packets]

    first = payloads(1)
    assert {len(each) for each in first if isinstance(each, bytes)} == {16}
    assert len(set(first)) == 3
    assert payloads(1) == first != payloads(2)


def test_random_fields_stay_within_their_width() -> None:
    packets = craft(
        "ethernet src_addr=random / ipv4 ttl=1..50 flags=0 src_addr=random / udp src_port=random",
        rng=random.Random(4),
    )
    macs, addresses, ports = set(), set(), set()
    for packet in packets:
        packet.emit()
        macs.add(packet[EthernetHeader].src_addr)
        addresses.add(packet[IPv4Header].src_addr)
        ports.add(packet[UDPHeader].src_port)
    assert min(map(len, (macs, addresses, ports))) > 45
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs), "locally administered, one host's"


# --- sweeps ------------------------------------------------------------------------------------


def test_ranges_alternatives_and_prefixes_make_all_combinations_the_last_fastest() -> None:
    packets = craft("ipv4 dst_addr=10.0.0.0/30 ttl=1..2 / tcp dst_port={22,80,8000..8001}")
    made = [(p[IPv4Header].dst_addr, p[IPv4Header].ttl, p[TCPHeader].dst_port) for p in packets]
    addresses = [f"10.0.0.{last}" for last in range(4)]
    assert made == list(product(addresses, (1, 2), (22, 80, 8000, 8001)))
    assert len(packets) == 32


@pytest.mark.parametrize(
    ("layer", "first", "last", "count"),
    [
        ("ipv4 dst_addr=10.0.0.254..10.0.1.1", "10.0.0.254", "10.0.1.1", 4),
        ("ipv4 dst_addr=10.0.0.7/29", "10.0.0.0", "10.0.0.7", 8),
        ("ipv4 dst_addr=10.0.0.7/32", "10.0.0.7", "10.0.0.7", 1),
        ("ipv6 dst_addr=fe80::ffff..fe80::1:1", "fe80::ffff", "fe80::1:1", 3),
        ("ipv6 dst_addr=2001:db8::/120", "2001:db8::", "2001:db8::ff", 256),
        ("ethernet dst_addr=02:00:00:00:00:fe..02:00:00:00:01:01", None, "02:00:00:00:01:01", 4),
    ],
)
def test_addresses_have_ranges(layer: str, first: str | None, last: str, count: int) -> None:
    packets = craft(layer)
    made = [packet.layers[0].dst_addr for packet in packets]
    assert len(packets) == len(made) == len(set(made)) == count
    assert made[-1] == last
    assert first in (None, made[0])


def test_options_and_whole_lists_vary_too() -> None:
    def options(expression: str) -> list[object]:
        return [packet[TCPHeader].options for packet in craft(expression)]

    assert options("tcp options=[mss={536,1460},nop]") == [
        (MSS(mss=536), NoOperation()),
        (MSS(mss=1460), NoOperation()),
    ]
    assert options("tcp options={[mss=536],[]}") == [(MSS(mss=536),), ()]


def test_messages_of_several_types_in_one_sweep() -> None:
    packets = craft("icmp icmp_type={0,8,timestamp_request} identifier=5")
    assert [packet.layers[0] for packet in packets] == [
        ICMPEcho(icmp_type=0, identifier=5),
        ICMPEcho(icmp_type=8, identifier=5),
        ICMPTimestamp(identifier=5),
    ]


def test_a_quoted_packet_varies_with_its_sweep() -> None:
    packets = craft("icmp icmp_type=3 original_datagram=[ipv4 ttl=1..2]")
    quotes = [packet[ICMPDestinationUnreachable].original_datagram for packet in packets]
    assert quotes == [IPv4Header(ttl=1).emit(), IPv4Header(ttl=2).emit()]


def test_what_does_not_vary_is_made_once() -> None:
    first, second = craft("ipv4 / tcp options=[mss] / udp dst_port=1..2")
    assert first.layers[1] is second.layers[1]


def test_the_first_of_a_million_packets_costs_no_more_than_one() -> None:
    expression = craft("ipv4 dst_addr=10.0.0.0/12 / udp")
    assert len(expression) == MAX_PACKETS
    assert next(iter(expression))[IPv4Header].dst_addr == "10.0.0.0"


def test_iterating_again_makes_the_packets_again() -> None:
    expression = craft("ipv4 ttl=1..3")
    assert list(expression) == list(expression)


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "position", "said"),
    [
        ("", 0, "nothing to build"),
        ("ipv4 / ", 7, "a layer or a payload"),
        ("ipv7", 0, "unknown layer ipv7, perhaps ipv"),
        ("ipv4 / tpc", 7, "unknown layer tpc, perhaps tcp"),
        ("ipv4 / zzz", 7, "`rawproto layers` lists all"),
        ("ipv4 / etherned", 7, "perhaps ethernet"),
        ("ipv4 dst=1", 5, "ipv4 has no field dst, perhaps dst_addr"),
        ("tcp dport=1", 4, "tcp has no field dport, perhaps dst_port"),
        ("tcp seq=1", 4, "perhaps sequence_number"),
        ("ipv4 tll=3", 5, "ipv4 has no field tll, perhaps ttl"),
        ("ipv4 tos=8", 5, "ipv4 has no field tos; it is dscp and ecn"),
        ("ipv4 df=1", 5, "write flags=DF"),
        ("ipv6 ttl=1", 5, "it is hop_limit"),
        ("tcp syn=1", 4, "write flags=SYN"),
        ("udp lenght=8", 4, "perhaps length"),
        ("tcp zz=1", 4, "it has src_port, dst_port,"),
        ("ipv4 udp", 5, "layers are separated by /"),
        ("udp dst_port 5", 4, "dst_port without = and a value"),
        ("icmp gateway_addr=10.0.0.1", 5, "icmp_type=redirect has"),
        ("icmp icmp_type={0,3} identifier=1", 21, "icmp_type=destination_unreachable has no"),
        ("ipv4 ttl=256", 9, "ipv4.ttl=256: must be 0 to 255"),
        ("ipv4 ttl=-1", 9, "ipv4.ttl=-1: must be 0 to 255"),
        ("ipv4 ttl=x", 9, "must be a number"),
        ("ipv4 ttl=0x", 9, "must be a number"),
        ("ipv4 ttl=" + "9" * 500, 9, "more digits than any field takes"),
        ("icmp icmp_type=time_excd", 15, "a name, perhaps time_exceeded"),
        ("ipv4 protocol=sttp", 14, "perhaps sctp"),
        ("tcp flags=SYN,AKC", 10, "'AKC' is none of its flags: ACK, AE, CWR"),
        ("tcp flags=SYN,", 10, "'' is none of its flags"),
        ("tcp flags=0x200", 10, "must be 0 to 511"),
        ("ipv4 ttl=1 ttl=2", 11, "ipv4.ttl is given twice"),
        ("ipv4 dst_addr=10.0.0.256", 14, "not an IPv4 address"),
        ("ipv4 dst_addr=::1", 14, "not an IPv4 address"),
        ("ipv6 dst_addr=fe80::1%eth0", 14, "a scope (%interface) is no part of a header"),
        ("ethernet dst_addr=02:00", 18, "not a MAC address"),
        ("arp target_protocol_addr=1:2", 25, "neither dotted IPv4 nor hexadecimal"),
        ("loopback byte_order=middle", 20, "must be little or big"),
        ("dns qr=maybe", 7, "must be true or false"),
        ("dns questions=a..b", 14, "only numbers and addresses have ranges"),
        (f"dns questions={'x' * 64}.b", 14, "a label has 1 to 63 bytes"),
        ("dns answers=A(name=a)", 12, "A needs address"),
        ("dns answers=Q(name=a)", 12, "dns.answers: unknown Q"),
        ("icmp_unknown", 0, "icmp_unknown needs icmp_type"),
        ("tcp options=[mms=1]", 13, "unknown mms, perhaps mss"),
        ("tcp options=[mss=70000]", 13, "mss.mss: must be 0 to 65535"),
        ("tcp options=[mss(1,2)]", 19, "mss has no more fields"),
        ("tcp options=[mss(1,mss=2)]", 19, "mss.mss is given twice"),
        ("tcp options=[mss(size=1)]", 17, "mss has no field size"),
        ("tcp options=[nop=1]", 13, "nop takes no value"),
        ("tcp options=[nop", 16, "] at the end of the list"),
        ("tcp options=[nop,]", 17, "] where a name"),
        ("tcp options=[sack=(1,2,3)]", 22, ") in sack"),
        ("tcp options=[timestamps(1", 25, ") or , in timestamps"),
        ("tcp options=hex:00", 12, "hex: where a name"),
        ("udp dst_port=22,80", 15, "several values are alternatives in braces, {1,2}"),
        ("ipv4 ttl=1, dscp=2", 10, "fields have white space between them"),
        ("udp dst_port=5-9", 13, "a range is written 5..9"),
        ("udp dst_port=5..1", 13, "a range that ends before it begins"),
        ("udp dst_port=1..70000", 13, "must be 0 to 65535"),
        ("udp dst_port=1..", 16, "the end of the range"),
        ("tcp flags=SYN..ACK", 10, "only numbers and addresses have ranges"),
        ("ipv4 dst_addr=10.0.0.1..::1", 14, "not an IPv4 address"),
        ("ipv4 dst_addr=10.0.0.0/33", 14, "a prefix length must be 0 to 32"),
        ("ipv4 ttl=5/3", 9, "only IP addresses have prefixes"),
        ("ipv4 dst_addr=10.0.0.0/8", 14, f"16777216 values, more than the {MAX_PACKETS}"),
        ("ipv6 dst_addr=::/0", 14, "more than"),
        ("ipv4 ttl=0..255 identification=0..65535", 31, "16777216 packets, more than"),
        ("ipv4 ttl={1..3", 14, "} at the end of the alternatives"),
        ("ipv4 ttl={}", 10, "} where a value"),
        ("tcp options={[mss={1,2}]}", 12, "nothing in braces may vary"),
        ("ipv4 ttl={random,2}", 9, "nothing in braces may vary"),
        ("tcp options=[mss=random]", 17, "random is for numbers and addresses of a header"),
        ("ipv4 / hex:0", 7, "half a byte"),
        ("ipv4 / hex:0g", 7, "hexadecimal digits"),
        ("ipv4 / random:x", 7, "random:COUNT"),
        ("ipv4 / random:65536", 7, f"at most {MAX_DATA_BYTES} bytes"),
        ("ipv4 / file:x", 7, "none may be read here"),
        ('ipv4 / "abc', 7, "a quote without an end"),
        (r'ipv4 / "\q"'.replace("\\\\", "\\"), 7, "is no escape"),
        ("ipv4 ttl=text:5 protocol=hex:06", 25, "hex: where a value for ipv4.protocol"),
        ("ipv4 ]", 5, "] where a field or a /"),
        ("ipv4 / [ipv4]", 7, "[ where a layer or a payload"),
        ("icmp icmp_type=3 original_datagram=[udp]", 35, "in brackets: UDPHeader.checksum"),
        ("icmp icmp_type=3 original_datagram=[ipv4", 40, "] behind the packet"),
        ("cooked address=5", 15, "bytes are written hex:00ff"),
    ],
)
def test_refusals_say_where_and_what_may_be_meant(
    expression: str, position: int, said: str
) -> None:
    error = refusal(expression)
    assert said in str(error)
    assert error.position == position
    assert f"(at character {position + 1})" in str(error)


def test_brackets_do_not_nest_without_end() -> None:
    nested = "icmp icmp_type=3 original_datagram=[" * 400
    assert "brackets nest deeper than 16" in str(refusal(nested))


def test_an_endless_expression_is_refused_before_it_is_read() -> None:
    assert "characters" in str(refusal("ipv4 / text:" + "x" * (1 << 18)))


def test_a_file_may_not_be_longer_than_a_packet() -> None:
    with pytest.raises(NotationError, match="at most 65535 bytes"):
        craft("ipv4 / file:x", read_file=lambda name: bytes(MAX_DATA_BYTES + 1))


def test_what_only_the_whole_packet_can_tell_is_told_when_it_is_emitted() -> None:
    packet = one("udp dst_port=5")
    with pytest.raises(EmitError, match="needs an IP header"):
        packet.emit()


def test_a_refusal_steers_no_terminal() -> None:
    assert r"\x1b[2J\n" in str(refusal('ipv4 ttl="\x1b[2J\n"'))


def test_a_long_value_is_cut_short_in_the_message() -> None:
    assert len(str(refusal(f"ipv4 dst_addr={'1' * 5000}"))) < 200
