"""Other addresses, ports and MACs: everywhere, with checksums that stay as right as they were."""

from __future__ import annotations

from random import Random

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR
from scapy.layers.inet6 import (
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from rawproto.errors import UsageError
from rawproto.packets.rewrite import Rewrite
from rawproto.wire.dissect import RAW, checksums, dissect
from tests.captures.make import CAPTURES

MAC_A, MAC_B, MAC_C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
A, B, C = "192.0.2.1", "198.51.100.2", "203.0.113.77"
A6, B6, C6 = "2001:db8:1::1", "2001:db8:2::2", "2001:db8:77::3"
TO_C = {"addresses": [f"{A}={C}", f"{A6}={C6}"], "ports": ["53=5353"], "macs": [f"{MAC_A}={MAC_C}"]}

# What is captured, and what scapy makes of it with the new values from the beginning.
PAIRS: dict[str, tuple[Packet, Packet]] = {
    "UDP": (
        Ether(src=MAC_A, dst=MAC_B) / IP(src=A, dst=B) / UDP(sport=1000, dport=53) / b"odd",
        Ether(src=MAC_C, dst=MAC_B) / IP(src=C, dst=B) / UDP(sport=1000, dport=5353) / b"odd",
    ),
    "TCP over IPv6 and a VLAN": (
        Ether(src=MAC_B, dst=MAC_A) / Dot1Q(vlan=7) / IPv6(src=B6, dst=A6) / TCP(sport=53) / b"x",
        Ether(src=MAC_B, dst=MAC_C) / Dot1Q(vlan=7) / IPv6(src=B6, dst=C6) / TCP(sport=5353) / b"x",
    ),
    "ARP": (
        Ether(src=MAC_A, dst=MAC_B) / ARP(op=2, hwsrc=MAC_A, psrc=A, hwdst=MAC_B, pdst=B),
        Ether(src=MAC_C, dst=MAC_B) / ARP(op=2, hwsrc=MAC_C, psrc=C, hwdst=MAC_B, pdst=B),
    ),
    "neighbour solicitation": (
        Ether(src=MAC_A, dst=MAC_B)
        / IPv6(src=B6, dst=A6, hlim=255)
        / ICMPv6ND_NS(tgt=A6)
        / ICMPv6NDOptSrcLLAddr(lladdr=MAC_A),
        Ether(src=MAC_C, dst=MAC_B)
        / IPv6(src=B6, dst=C6, hlim=255)
        / ICMPv6ND_NS(tgt=C6)
        / ICMPv6NDOptSrcLLAddr(lladdr=MAC_C),
    ),
    "an ICMP error about UDP": (
        Ether(src=MAC_A, dst=MAC_B)
        / IP(src=B, dst=A)
        / ICMP(type=3, code=3)
        / IP(src=A, dst=B)
        / UDP(sport=4000, dport=53)
        / b"12345",
        Ether(src=MAC_C, dst=MAC_B)
        / IP(src=B, dst=C)
        / ICMP(type=3, code=3)
        / IP(src=C, dst=B)
        / UDP(sport=4000, dport=5353)
        / b"12345",
    ),
    "an ICMPv6 error about TCP": (
        Ether(src=MAC_A, dst=MAC_B)
        / IPv6(src=B6, dst=A6)
        / ICMPv6TimeExceeded()
        / IPv6(src=A6, dst=B6)
        / TCP(sport=4000, dport=53),
        Ether(src=MAC_C, dst=MAC_B)
        / IPv6(src=B6, dst=C6)
        / ICMPv6TimeExceeded()
        / IPv6(src=C6, dst=B6)
        / TCP(sport=4000, dport=5353),
    ),
    "a tunnel": (
        Ether(src=MAC_A, dst=MAC_B) / IP(src=B, dst=A) / IP(src=A, dst=B) / UDP(sport=9, dport=53),
        Ether(src=MAC_C, dst=MAC_B)
        / IP(src=B, dst=C)
        / IP(src=C, dst=B)
        / UDP(sport=9, dport=5353),
    ),
    "a source route": (
        Ether(src=MAC_A, dst=MAC_B) / IP(src=B, dst=B, options=[IPOption_LSRR(routers=[B, A])]),
        Ether(src=MAC_C, dst=MAC_B) / IP(src=B, dst=B, options=[IPOption_LSRR(routers=[B, C])]),
    ),
    "a routing header, whose last address the checksum covers": (
        Ether(src=MAC_A, dst=MAC_B)
        / IPv6(src=B6, dst=B6)
        / IPv6ExtHdrRouting(addresses=[A6], segleft=1)
        / UDP(sport=9, dport=53),
        Ether(src=MAC_C, dst=MAC_B)
        / IPv6(src=B6, dst=B6)
        / IPv6ExtHdrRouting(addresses=[C6], segleft=1)
        / UDP(sport=9, dport=5353),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_rewritten_is_what_scapy_builds_with_the_new_values(name: str) -> None:
    before, after = (bytes(packet) for packet in PAIRS[name])
    assert before != after
    assert Rewrite(**TO_C).apply(before) == after


def everything(back: bool) -> Rewrite:
    """Every address of the goldens to another one and, as its own opposite, back."""
    pairs = [
        ("192.0.2.0/24", "10.1.2.0/24"),
        ("198.51.100.0/24", "10.1.3.0/24"),
        ("203.0.113.0/24", "10.1.4.0/24"),
        ("2001:db8::/32", "fd77:77::/32"),
    ]
    ports = [("9", "900"), ("80", "8000"), ("33434", "30434")]
    macs = [("02:00:00:00:00:01", MAC_A), ("02:00:00:00:00:02", MAC_B)]
    return Rewrite(
        **{
            name: ["=".join(pair[::-1] if back else pair) for pair in each]
            for name, each in (("addresses", pairs), ("ports", ports), ("macs", macs))
        }
    )


@pytest.mark.parametrize("name", CAPTURES)
def test_rewriting_every_golden_keeps_its_verdicts_and_is_undone_by_the_opposite(name: str) -> None:
    there, back, link_type = everything(False), everything(True), CAPTURES[name].link_type
    for golden in CAPTURES[name].packets():
        data = golden.captured
        changed = there.apply(data, link_type)
        found, after = dissect(data, link_type), dissect(changed, link_type)
        assert checksums(after) == checksums(found), golden.note
        assert [type(layer) for layer in after.layers] == [type(layer) for layer in found.layers]
        assert b"\x20\x01\x0d\xb8" not in b"".join(
            after.data[start:end]
            for layer, (start, end) in zip(after.layers, after.spans, strict=True)
            if layer.layer != "dns"
        ), golden.note
        assert back.apply(changed, link_type) == data, golden.note


def test_checksum_that_was_wrong_stays_wrong_by_as_much() -> None:
    wrong = bytes(
        Ether(dst="02:00:00:00:00:02")
        / IP(src=A, dst=B, chksum=0x1234)
        / UDP(sport=9, dport=53, chksum=0x4321)
        / b"x"
    )
    right = bytes(Ether(dst="02:00:00:00:00:02") / IP(src=A, dst=B) / UDP(sport=9, dport=53) / b"x")
    rewrite = Rewrite(**TO_C)
    for at in (24, 40):
        errors = [
            (int.from_bytes(new[at : at + 2], "big") - int.from_bytes(old[at : at + 2], "big"))
            % 0xFFFF
            for old, new in ((right, wrong), (rewrite.apply(right), rewrite.apply(wrong)))
        ]
        assert errors[0] == errors[1] != 0


def test_every_checksum_is_mended_when_that_is_asked_for() -> None:
    wrong = (
        Ether(dst="02:00:00:00:00:02")
        / IP(src=A, dst=B, chksum=0x1234)
        / UDP(sport=9, dport=53, chksum=0x4321)
        / b"x"
    )
    right = Ether(dst="02:00:00:00:00:02") / IP(src=A, dst=B) / UDP(sport=9, dport=53) / b"x"
    assert Rewrite(mend_all=True).apply(bytes(wrong) + bytes(3)) == bytes(right) + bytes(3)
    both = Rewrite(addresses=[f"{A}={C}"], mend_all=True).apply(bytes(wrong))
    assert [right for _, right in checksums(dissect(both))] == [True, True]


def test_udp_that_carries_no_checksum_carries_none_afterwards() -> None:
    data = bytes(
        Ether(dst="02:00:00:00:00:02") / IP(src=A, dst=B) / UDP(sport=9, dport=53, chksum=0) / b"x"
    )
    changed = Rewrite(**TO_C).apply(data)
    assert changed[40:42] == b"\0\0"
    assert checksums(dissect(changed)) == [(1, True), (2, None)]


def test_checksum_is_mended_in_a_packet_that_was_cut_short() -> None:
    data = bytes(
        Ether(dst="02:00:00:00:00:02")
        / IP(src=A, dst=B)
        / UDP(sport=9, dport=53)
        / bytes(range(200))
    )
    whole, cut = (Rewrite(**TO_C).apply(each) for each in (data, data[:60]))
    assert cut == whole[:60]


def test_ports_in_the_eight_bytes_that_an_old_router_quotes_of_tcp() -> None:
    quoted = bytes(IP(src=A, dst=B, len=60) / TCP(sport=4000, dport=53))[:28]
    changed = Rewrite(**TO_C).apply(bytes(IP(src=B, dst=A) / ICMP(type=11) / quoted), RAW)
    inner = dissect(changed, RAW).layers[1].original_datagram
    assert inner[20:24] == (4000).to_bytes(2, "big") + (5353).to_bytes(2, "big")
    assert checksums(dissect(changed, RAW)) == [(0, True), (1, True)]


def test_hosts_of_a_network_keep_their_numbers_and_the_first_match_holds() -> None:
    rewrite = Rewrite(
        addresses=[f"{A}={C}", "192.0.2.0/24=10.9.8.0/24", f"{B}={B}", "198.51.100.0/24=10.0.0.1"]
    )
    for address, becomes in {
        A: C,
        "192.0.2.200": "10.9.8.200",
        B: B,
        "198.51.100.9": "10.0.0.1",
    }.items():
        changed = rewrite.apply(bytes(IP(src=address, dst=address)), RAW)
        assert IP(changed).src == IP(changed).dst == becomes


def test_mac_of_either_end_is_set_whatever_stood_there() -> None:
    frame = bytes(Ether(src=MAC_A, dst=MAC_B) / ARP(hwsrc=MAC_A))
    changed = Ether(Rewrite(macs=[f"src={MAC_C}", f"dst={MAC_A}"]).apply(frame))
    assert (changed.src, changed.dst, changed.hwsrc) == (MAC_C, MAC_A, MAC_A)


def test_dns_keeps_what_it_says() -> None:
    golden = next(CAPTURES["dns.pcap"].packets())
    changed = everything(back=False).apply(golden.captured)
    assert changed[42:] == golden.captured[42:]


@pytest.mark.parametrize("length", range(60))
def test_anything_cut_anywhere_is_as_long_as_before(length: int) -> None:
    data = bytes(PAIRS["an ICMP error about UDP"][0])[:length]
    assert len(Rewrite(**TO_C).apply(data)) == length


MENDING = Rewrite(mend_all=True)


@pytest.mark.parametrize("rewrite", [everything(back=False), MENDING])
def test_damaged_packets_keep_their_length_and_gain_no_wrong_checksum(rewrite: Rewrite) -> None:
    rng = Random(20240101)
    goldens = [
        (golden.captured, capture.link_type)
        for capture in CAPTURES.values()
        for golden in capture.packets()
    ]
    for _ in range(4000):
        whole, link_type = rng.choice(goldens)
        damaged = bytearray(whole[: rng.randrange(1, len(whole) + 200)])
        for _ in range(rng.randrange(4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        data = bytes(damaged)
        changed = rewrite.apply(data, link_type)
        assert len(changed) == len(data), data.hex()
        verdicts = [right for _, right in checksums(dissect(data, link_type))]
        if rewrite is MENDING:
            verdicts = [None if right is None else True for right in verdicts]
        after = [right for _, right in checksums(dissect(changed, link_type))]
        assert after == verdicts, data.hex()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"addresses": ["10.0.0.1"]}, "10.0.0.1: must be ADDRESS=ADDRESS"),
        ({"addresses": ["10.0.0.1=fd00::1"]}, "different families"),
        ({"addresses": ["10.0.0.0/24=10.1.0.0/16"]}, "of one size"),
        ({"addresses": ["10.0.0.1/24=10.1.0.0/24"]}, "has host bits set"),
        ({"addresses": ["host=10.1.0.0"]}, "does not appear to be"),
        ({"macs": ["02:00=02:00:00:00:00:01"]}, "02:00 is not a MAC address"),
        ({"ports": ["80=99999"]}, "a number from 0 to 65535"),
        ({"ports": ["80="]}, "must be PORT=PORT"),
    ],
)
def test_what_is_no_pair_is_refused_in_a_line(arguments: dict[str, list[str]], words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        Rewrite(**arguments)
    assert "\n" not in str(refused.value)
