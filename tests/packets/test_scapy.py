"""scapy as the judge: it reads the fields that an expression gave, and lays out equal bytes."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.dns import DNS
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether

from rawproto.packets.notation import craft

# (expression, scapy's class of the first layer, (layer, scapy's field, value) as it was given)
CASES: list[tuple[str, type, list[tuple[type, str, Any]]]] = [
    (
        (
            "ipv4 src_addr=10.0.0.1 dst_addr=10.0.0.2 ttl=3 dscp=46 ecn=ce flags=DF "
            "identification=0x1234 / udp src_port=1000 dst_port=2000 / text:hello"
        ),
        IP,
        [
            (IP, "src", "10.0.0.1"),
            (IP, "dst", "10.0.0.2"),
            (IP, "ttl", 3),
            (IP, "tos", 46 << 2 | 3),
            (IP, "id", 0x1234),
            (IP, "len", 33),
            (UDP, "sport", 1000),
            (UDP, "dport", 2000),
            (UDP, "len", 13),
        ],
    ),
    (
        (
            "ipv4 dst_addr=10.0.0.2 / tcp src_port=4 dst_port=5 sequence_number=7 flags=SYN,ECE "
            "acknowledgment_number=8 window=64240 urgent_pointer=9 "
            "options=[mss=1460,sack_permitted,timestamps(1,2),nop,window_scale=7] / hex:0102"
        ),
        IP,
        [
            (TCP, "seq", 7),
            (TCP, "ack", 8),
            (TCP, "window", 64240),
            (TCP, "urgptr", 9),
            (TCP, "dataofs", 10),
            (
                TCP,
                "options",
                [
                    ("MSS", 1460),
                    ("SAckOK", b""),
                    ("Timestamp", (1, 2)),
                    ("NOP", None),
                    ("WScale", 7),
                ],
            ),
        ],
    ),
    (
        "ipv4 dst_addr=10.0.0.2 / icmp icmp_type=0 identifier=5 sequence_number=6 / hex:ff",
        IP,
        [(IP, "proto", 1), (ICMP, "type", 0), (ICMP, "id", 5), (ICMP, "seq", 6)],
    ),
    (
        (
            "ipv4 dst_addr=10.0.0.2 / icmp icmp_type=3 code=fragmentation_needed next_hop_mtu=1400 "
            "original_datagram=[ipv4 dst_addr=10.0.0.9 / udp dst_port=7]"
        ),
        IP,
        [(ICMP, "type", 3), (ICMP, "code", 4), (ICMP, "nexthopmtu", 1400)],
    ),
    (
        (
            "ipv4 dst_addr=10.0.0.2 / icmp icmp_type=redirect code=host gateway_addr=10.0.0.254 "
            "/ ipv4 dst_addr=10.0.0.9 / udp"
        ),
        IP,
        [(ICMP, "type", 5), (ICMP, "code", 1), (ICMP, "gw", "10.0.0.254")],
    ),
    (
        (
            "ipv6 src_addr=fe80::1 dst_addr=fe80::2 hop_limit=9 traffic_class=0x22 "
            "flow_label=0x12345 / icmpv6 identifier=1 sequence_number=2 / text:x"
        ),
        IPv6,
        [
            (IPv6, "hlim", 9),
            (IPv6, "tc", 0x22),
            (IPv6, "fl", 0x12345),
            (IPv6, "plen", 9),
            (IPv6, "nh", 58),
            (ICMPv6EchoRequest, "id", 1),
            (ICMPv6EchoRequest, "seq", 2),
        ],
    ),
    (
        (
            "ethernet dst_addr=33:33:ff:00:00:02 src_addr=02:00:00:00:00:01 / "
            "ipv6 src_addr=fe80::1 dst_addr=ff02::1:ff00:2 hop_limit=255 "
            "/ icmpv6 icmp_type=neighbor_solicitation "
            "target_addr=fe80::2 options=source_link_layer_address=02:00:00:00:00:01"
        ),
        Ether,
        [
            (Ether, "type", 0x86DD),
            (ICMPv6ND_NS, "tgt", "fe80::2"),
            (ICMPv6NDOptSrcLLAddr, "lladdr", "02:00:00:00:00:01"),
        ],
    ),
    (
        (
            "ipv6 dst_addr=fd00::1 / ipv6_routing addresses=fd00::2,fd00::3 / ipv6_fragment "
            "identification=77 flags=MF / udp src_port=1 dst_port=2 / hex:0000000000000000"
        ),
        IPv6,
        [
            (IPv6ExtHdrRouting, "addresses", ["fd00::2", "fd00::3"]),
            (IPv6ExtHdrRouting, "segleft", 2),
            (IPv6ExtHdrFragment, "id", 77),
            (IPv6ExtHdrFragment, "m", 1),
        ],
    ),
    (
        (
            "ethernet dst_addr=ff:ff:ff:ff:ff:ff / vlan vid=100 pcp=5 dei=1 / arp operation=reply "
            "sender_hardware_addr=02:00:00:00:00:01 sender_protocol_addr=10.0.0.1 "
            "target_protocol_addr=10.0.0.2"
        ),
        Ether,
        [
            (Dot1Q, "vlan", 100),
            (Dot1Q, "prio", 5),
            (Dot1Q, "dei", 1),
            (ARP, "op", 2),
            (ARP, "hwsrc", "02:00:00:00:00:01"),
            (ARP, "psrc", "10.0.0.1"),
            (ARP, "pdst", "10.0.0.2"),
        ],
    ),
    (
        (
            "ipv4 dst_addr=10.0.0.53 / udp src_port=1 dst_port=53 / dns identifier=9 "
            "questions=(www.example.com,AAAA)"
        ),
        IP,
        [(DNS, "id", 9), (DNS, "rd", 1), (DNS, "qdcount", 1)],
    ),
]


@pytest.mark.parametrize(("expression", "kind", "given"), CASES)
def test_scapy_reads_what_was_written(
    expression: str, kind: type, given: list[tuple[type, str, Any]]
) -> None:
    (packet,) = craft(expression)
    found: Any = kind(packet.emit())
    for layer, field, value in given:
        assert getattr(found[layer], field) == value, (layer.__name__, field)


@pytest.mark.parametrize("expression", [expression for expression, _, _ in CASES])
def test_scapy_computes_equal_lengths_and_checksums(expression: str) -> None:
    (packet,) = craft(expression)
    data = packet.emit()
    kind: Any = next(kind for written, kind, _ in CASES if written == expression)
    found = kind(data)
    layer = found
    while layer:
        for field in ("chksum", "cksum", "len", "ihl", "plen", "dataofs"):
            if field in layer.fields and layer.name != "IP in ICMP":
                layer.delfieldval(field)
        layer = layer.payload
    assert bytes(found) == data
