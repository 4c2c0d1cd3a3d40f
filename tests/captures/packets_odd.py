"""Golden packets that contradict themselves or one another, and link types seen more seldom."""

from __future__ import annotations

from collections.abc import Iterator

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
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

LOOP, IPV4, IPV6 = 108, 228, 229
ETHER = Ether(src=MAC_1, dst=MAC_2)
TO = ETHER / IP(src=HOST_1, dst=HOST_2, id=0x1234)
TO_V6 = ETHER / IPv6(src=HOST_1_V6, dst=HOST_2_V6)
INSIDE = IP(src=HOST_1, dst=HOST_2, id=0x1234) / UDP(sport=1024, dport=9) / b"data"
INSIDE_V6 = IPv6(src=HOST_1_V6, dst=HOST_2_V6) / UDP(sport=1024, dport=9) / b"data"
UDP_STACK = "EthernetHeader / IPv4Header / UDPHeader"


def patched(packet: Packet, at: int, new: bytes) -> bytes:
    """A packet's bytes with others in the place of some."""
    data = bytes(packet)
    return data[:at] + new + data[at + len(new) :]


@capture("contradictions.pcap", "Headers that deny what is there: damage is told, nothing is lost")
def contradictions() -> Iterator[Golden]:
    whole = bytes(TO / UDP(sport=1024, dport=9) / b"data")
    yield Golden(
        packet=patched(TO, 14, b"\x65"),
        note="version 6 behind the EtherType of IPv4",
        stack="EthernetHeader",
        damaged=True,
    )
    yield Golden(
        packet=patched(TO_V6, 14, b"\x40"),
        note="version 4 behind the EtherType of IPv6",
        stack="EthernetHeader",
        damaged=True,
    )
    yield Golden(
        packet=patched(TO, 14, b"\x44"),
        note="an IPv4 header of 16 bytes",
        stack="EthernetHeader",
        expect={"payload": patched(TO, 14, b"\x44")[14:]},
        damaged=True,
    )
    yield Golden(
        packet=TO / TCP(sport=1, dport=2, dataofs=4),
        note="a TCP header of 16 bytes",
        stack="EthernetHeader / IPv4Header",
        damaged=True,
    )
    yield Golden(
        packet=TO / UDP(sport=1024, dport=9, len=7, chksum=1) / b"data",
        note="UDP of 7 bytes, fewer than its header has",
        stack="EthernetHeader / IPv4Header",
        damaged=True,
    )
    yield Golden(
        packet=TO / UDP(sport=1024, dport=9, len=1000, chksum=1) / b"data",
        note="UDP of more bytes than there are",
        stack=UDP_STACK,
        expect={"UDPHeader.length": 1000, "payload": b"data"},
        damaged=True,
    )
    yield Golden(
        packet=TO / UDP(sport=1024, dport=9, len=10, chksum=0) / b"data",
        note="UDP of fewer bytes than IPv4 carries: the rest belongs to nobody",
        stack=UDP_STACK,
        expect={"UDPHeader.length": 10, "payload": b"da", "trailer": b"ta"},
        computes=False,
        scapy_errs=frozenset({"length"}),
    )
    yield Golden(
        packet=ETHER / IP(src=HOST_1, dst=HOST_2, len=40) / UDP(sport=1, dport=9) / b"data",
        note="IPv4 of more bytes than there are, in a packet that was not cut",
        stack=UDP_STACK,
        expect={"IPv4Header.total_length": 40},
        wrong=(2,),  # scapy's pseudo-header takes UDP for as long as IPv4 claims
        damaged=True,
    )
    yield Golden(
        packet=ETHER
        / IPv6(src=HOST_1_V6, dst=HOST_2_V6, plen=100)
        / UDP(sport=1, dport=9)
        / b"data",
        note="likewise IPv6",
        stack="EthernetHeader / IPv6Header / UDPHeader",
        expect={"IPv6Header.payload_length": 100},
        damaged=True,
    )
    yield Golden(
        packet=TO_V6 / IPv6ExtHdrHopByHop(nh=59, len=9),
        note="hop-by-hop options of 80 bytes, 8 of them there",
        stack="EthernetHeader / IPv6Header",
        damaged=True,
    )
    yield Golden(
        packet=ETHER / Dot1Q(vlan=5) / Raw(whole[14:]),
        note="a tag whose length of 0 denies the packet behind it: IEEE 802.3",
        stack="EthernetHeader / VLANTag",
        expect={"VLANTag.ethertype": 0, "VLANTag.vid": 5},
        scapy_errs=frozenset({"ethertype"}),
    )
    yield Golden(
        packet=ETHER / ARP(hwtype=32, hwlen=8, hwsrc=b"8 bytes!", hwdst=bytes(8), psrc=HOST_1),
        note="ARP with hardware addresses of 8 bytes, as InfiniBand's and FireWire's",
        stack="EthernetHeader / ARPMessage",
        expect={
            "ARPMessage.hardware_length": 8,
            "ARPMessage.sender_hardware_addr": b"8 bytes!".hex(":"),
            "ARPMessage.sender_protocol_addr": HOST_1,
        },
        scapy_errs=frozenset({"sender_hardware_addr", "target_hardware_addr"}),
    )


@capture(
    "odd-fragments.pcap", "Fragments that do not fit each other (RFC 5722, RFC 1858, RFC 8200)"
)
def odd_fragments() -> Iterator[Golden]:
    segment = bytes(TCP(sport=1024, dport=80, flags="S", chksum=0x1234)) + b"data"
    for note, fields, payload, inside in (
        (
            "the first, of eight bytes: TCP's flags are in the next",
            {"flags": "MF"},
            segment[:8],
            "",
        ),
        ("one over it, with the flags that a filter has not seen", {"frag": 1}, segment[8:], ""),
        ("another first one, as long as both", {"flags": "MF"}, segment, " / TCPHeader"),
        ("one that ends behind byte 65,535", {"frag": 0x1FFF}, bytes(64), ""),
    ):
        yield Golden(
            packet=ETHER / IP(src=HOST_1, dst=HOST_2, id=0x77, proto=6, **fields) / Raw(payload),
            note=note,
            stack=f"EthernetHeader / IPv4Header{inside}",
            expect={
                "IPv4Header.identification": 0x77,
                "IPv4Header.fragment_offset": fields.get("frag", 0),
            },
            damaged=payload == segment[:8],
            computes=not inside,
        )
    yield Golden(
        packet=TO_V6 / IPv6ExtHdrFragment(nh=17, offset=1, m=1, id=9) / Raw(bytes(7)),
        note="an IPv6 fragment in the middle, of 7 bytes: not a multiple of 8",
        stack="EthernetHeader / IPv6Header / FragmentHeader",
        expect={"FragmentHeader.fragment_offset": 1, "FragmentHeader.flags": 1},
    )


@capture("raw-ipv4.pcap", "IPv4 packets under a link type of their own", IPV4)
def raw_ipv4() -> Iterator[Golden]:
    yield Golden(
        packet=INSIDE, note="UDP", stack="IPv4Header / UDPHeader", expect={"payload": b"data"}
    )
    yield Golden(
        packet=IP(src=HOST_1, dst=HOST_2) / ICMP(id=1, seq=2),
        note="an echo request",
        stack="IPv4Header / ICMPEcho",
        expect={"ICMPEcho.sequence_number": 2},
    )


@capture("raw-ipv6.pcap", "IPv6 packets under a link type of their own", IPV6)
def raw_ipv6() -> Iterator[Golden]:
    yield Golden(
        packet=INSIDE_V6, note="UDP", stack="IPv6Header / UDPHeader", expect={"payload": b"data"}
    )
    yield Golden(
        packet=IPv6(src=HOST_1_V6, dst=HOST_2_V6) / INSIDE,
        note="IPv4 in IPv6",
        stack="IPv6Header / IPv4Header / UDPHeader",
        expect={"IPv6Header.next_header": 4, "payload": b"data"},
    )
    yield Golden(
        packet=IPv6(src=HOST_1_V6, dst=HOST_2_V6) / INSIDE_V6,
        note="IPv6 in IPv6",
        stack="IPv6Header / IPv6Header / UDPHeader",
        expect={"IPv6Header.next_header": 41, "payload": b"data"},
    )


@capture("loopback-openbsd.pcap", "OpenBSD's loopback header, in network byte order", LOOP)
def loopback_openbsd() -> Iterator[Golden]:
    yield Golden(
        packet=b"\x00\x00\x00\x02" + bytes(INSIDE),
        note="IPv4",
        stack="LoopbackHeader / IPv4Header / UDPHeader",
        expect={"LoopbackHeader.family": 2, "LoopbackHeader.byte_order": "big"},
        scapy_reads=1,
    )
    yield Golden(
        packet=b"\x00\x00\x00\x18" + bytes(INSIDE_V6),
        note="IPv6, by OpenBSD's number for it",
        stack="LoopbackHeader / IPv6Header / UDPHeader",
        expect={"LoopbackHeader.family": 24},
        scapy_reads=1,
    )
