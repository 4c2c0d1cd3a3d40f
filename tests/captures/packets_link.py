"""Golden packets of the link layers and ARP."""

from __future__ import annotations

from collections.abc import Iterator

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import (
    ARP,
    LLC,
    CookedLinux,
    CookedLinuxV2,
    Dot1AD,
    Dot1Q,
    Dot3,
    Ether,
    Loopback,
)
from scapy.packet import Padding, Raw

from tests.captures.golden import (
    HOST_1,
    HOST_1_V6,
    HOST_2,
    HOST_2_V6,
    MAC_1,
    MAC_2,
    NULL,
    RAW,
    SLL,
    SLL2,
    Golden,
    capture,
)

ETHER = Ether(src=MAC_1, dst=MAC_2)
INSIDE = IP(src=HOST_1, dst=HOST_2, id=1) / UDP(sport=1024, dport=9) / b"data"
INSIDE_V6 = IPv6(src=HOST_1_V6, dst=HOST_2_V6) / UDP(sport=1024, dport=9) / b"data"


@capture("ethernet.pcap", "Ethernet II and IEEE 802.3 frames")
def ethernet() -> Iterator[Golden]:
    yield Golden(
        packet=ETHER / INSIDE / Padding(bytes(14)),
        note="a short frame, padded to 60 bytes by its sender",
        stack="EthernetHeader / IPv4Header / UDPHeader",
        expect={
            "EthernetHeader.src_addr": MAC_1,
            "EthernetHeader.dst_addr": MAC_2,
            "EthernetHeader.ethertype": 0x0800,
            "payload": b"data",
            "trailer": bytes(14),
        },
    )
    yield Golden(
        packet=ETHER / INSIDE_V6,
        note="IPv6 inside",
        stack="EthernetHeader / IPv6Header / UDPHeader",
        expect={"EthernetHeader.ethertype": 0x86DD, "payload": b"data"},
    )
    yield Golden(
        packet=Dot3(src=MAC_1, dst="01:80:c2:00:00:00", len=16)
        / LLC(dsap=0x42, ssap=0x42, ctrl=3)
        / Raw(b"spanning tree")
        / Padding(bytes(30)),
        note="an IEEE 802.3 frame: the field is a length of 16, and padding follows",
        stack="EthernetHeader",
        expect={
            "EthernetHeader.ethertype": 16,
            "payload": b"\x42\x42\x03spanning tree",
            "trailer": bytes(30),
        },
    )
    yield Golden(
        packet=Ether(src=MAC_1, dst="ff:ff:ff:ff:ff:ff", type=0x88B5) / Raw(b"experiment"),
        note="an EtherType for experiments, broadcast",
        stack="EthernetHeader",
        expect={
            "EthernetHeader.dst_addr": "ff:ff:ff:ff:ff:ff",
            "EthernetHeader.ethertype": 0x88B5,
            "payload": b"experiment",
        },
    )


@capture("vlan.pcap", "VLAN tags, one and two (IEEE 802.1Q, 802.1ad)")
def vlan() -> Iterator[Golden]:
    yield Golden(
        packet=ETHER / Dot1Q(prio=5, dei=1, vlan=100) / INSIDE,
        note="VLAN 100, priority 5, drop eligible",
        stack="EthernetHeader / VLANTag / IPv4Header / UDPHeader",
        expect={
            "EthernetHeader.ethertype": 0x8100,
            "VLANTag.pcp": 5,
            "VLANTag.dei": 1,
            "VLANTag.vid": 100,
            "VLANTag.ethertype": 0x0800,
        },
    )
    yield Golden(
        packet=ETHER / Dot1Q(prio=7, vlan=0) / INSIDE_V6,
        note="a priority tag (VLAN 0) around IPv6",
        stack="EthernetHeader / VLANTag / IPv6Header / UDPHeader",
        expect={"VLANTag.pcp": 7, "VLANTag.vid": 0, "VLANTag.ethertype": 0x86DD},
    )
    yield Golden(
        packet=ETHER / Dot1AD(vlan=200, prio=1) / Dot1Q(vlan=4094) / INSIDE,
        note="two tags: a provider's around a customer's",
        stack="EthernetHeader / VLANTag / VLANTag / IPv4Header / UDPHeader",
        expect={
            "EthernetHeader.ethertype": 0x88A8,
            "VLANTag.tpid": 0x88A8,
            "VLANTag.vid": 200,
            "VLANTag.ethertype": 0x8100,
        },
    )


@capture("arp.pcap", "ARP (RFC 826, RFC 5227)")
def arp() -> Iterator[Golden]:
    broadcast = Ether(src=MAC_1, dst="ff:ff:ff:ff:ff:ff")
    yield Golden(
        packet=broadcast
        / ARP(op=1, hwsrc=MAC_1, psrc="192.0.2.1", hwdst="00:00:00:00:00:00", pdst="192.0.2.7")
        / Padding(bytes(18)),
        note="who has 192.0.2.7? (padded)",
        stack="EthernetHeader / ARPMessage",
        expect={
            "ARPMessage.operation": 1,
            "ARPMessage.sender_hardware_addr": MAC_1,
            "ARPMessage.sender_protocol_addr": "192.0.2.1",
            "ARPMessage.target_protocol_addr": "192.0.2.7",
            "ARPMessage.hardware_length": 6,
            "ARPMessage.protocol_length": 4,
            "trailer": bytes(18),
        },
    )
    yield Golden(
        packet=Ether(src=MAC_2, dst=MAC_1)
        / ARP(op=2, hwsrc=MAC_2, psrc="192.0.2.7", hwdst=MAC_1, pdst="192.0.2.1"),
        note="the reply",
        stack="EthernetHeader / ARPMessage",
        expect={"ARPMessage.operation": 2, "ARPMessage.target_hardware_addr": MAC_1},
    )
    yield Golden(
        packet=broadcast
        / ARP(op=1, hwsrc=MAC_1, psrc="0.0.0.0", hwdst="00:00:00:00:00:00", pdst="192.0.2.1"),
        note="an address probe: the sender has no address yet",
        stack="EthernetHeader / ARPMessage",
        expect={"ARPMessage.sender_protocol_addr": "0.0.0.0"},
    )
    yield Golden(
        packet=broadcast
        / ARP(op=1, hwsrc=MAC_1, psrc="192.0.2.1", hwdst="00:00:00:00:00:00", pdst="192.0.2.1"),
        note="an announcement: both addresses are the sender's",
        stack="EthernetHeader / ARPMessage",
        expect={"ARPMessage.target_protocol_addr": "192.0.2.1"},
    )


@capture("cooked-sll.pcap", "Linux cooked capture, version 1", SLL)
def cooked() -> Iterator[Golden]:
    yield Golden(
        packet=CookedLinux(
            pkttype=4, lladdrtype=1, lladdrlen=6, src=bytes.fromhex("0200000000010000")
        )
        / INSIDE,
        note="a packet that this host sent",
        stack="LinuxCooked / IPv4Header / UDPHeader",
        expect={
            "LinuxCooked.packet_type": 4,
            "LinuxCooked.arphrd_type": 1,
            "LinuxCooked.src_addr": MAC_1,
            "LinuxCooked.protocol_type": 0x0800,
        },
    )
    yield Golden(
        packet=CookedLinux(pkttype=0, lladdrtype=772, lladdrlen=6, src=bytes(8)) / INSIDE_V6,
        note="IPv6 through the loopback device",
        stack="LinuxCooked / IPv6Header / UDPHeader",
        expect={"LinuxCooked.arphrd_type": 772, "LinuxCooked.protocol_type": 0x86DD},
    )


@capture("cooked-sll2.pcap", "Linux cooked capture, version 2", SLL2)
def cooked2() -> Iterator[Golden]:
    yield Golden(
        packet=CookedLinuxV2(
            pkttype=1,
            lladdrtype=1,
            lladdrlen=6,
            src=bytes.fromhex("0200000000020000"),
            ifindex=7,
            proto=0x0800,
        )
        / INSIDE,
        note="a broadcast, come in by interface 7",
        stack="LinuxCooked2 / IPv4Header / UDPHeader",
        expect={
            "LinuxCooked2.interface_index": 7,
            "LinuxCooked2.packet_type": 1,
            "LinuxCooked2.src_addr": MAC_2,
        },
    )


@capture("loopback.pcap", "The BSD loopback header", NULL)
def loopback() -> Iterator[Golden]:
    yield Golden(
        packet=Loopback(type=2) / INSIDE,
        note="from a little-endian host",
        stack="LoopbackHeader / IPv4Header / UDPHeader",
        expect={"LoopbackHeader.family": 2, "LoopbackHeader.byte_order": "little"},
    )
    yield Golden(
        packet=b"\x00\x00\x00\x02" + bytes(INSIDE),
        note="from a big-endian host",
        stack="LoopbackHeader / IPv4Header / UDPHeader",
        expect={"LoopbackHeader.family": 2, "LoopbackHeader.byte_order": "big"},
        scapy_errs=frozenset({"family"}),  # it knows the byte order of the host it runs on only
    )
    yield Golden(
        packet=b"\x1e\x00\x00\x00" + bytes(INSIDE_V6),
        note="IPv6 from macOS, little-endian",
        stack="LoopbackHeader / IPv6Header / UDPHeader",
        expect={"LoopbackHeader.family": 30, "LoopbackHeader.byte_order": "little"},
        scapy_reads=1,  # nor other systems' family numbers
    )


@capture("raw-ip.pcap", "IP packets without any link layer", RAW)
def raw_ip() -> Iterator[Golden]:
    yield Golden(
        packet=INSIDE, note="IPv4", stack="IPv4Header / UDPHeader", expect={"payload": b"data"}
    )
    yield Golden(
        packet=INSIDE_V6, note="IPv6", stack="IPv6Header / UDPHeader", expect={"payload": b"data"}
    )
