"""What a trace makes of quotes: short and long, rewritten by NATs and firewalls, wrong."""

from __future__ import annotations

import copy
import random
from typing import get_args

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from rawproto.machine import Datagram, Transmit
from rawproto.probe.trace_events import TraceHop, TraceMethod
from tests.probe.topology import MS, Path, addresses, chain, machine_for, trace
from tests.probe.virtual import Answer, VirtualNetwork

METHODS = get_args(TraceMethod)


def rewritten(hops: list[TraceHop]) -> list[tuple[str, ...]]:
    """What was found rewritten at each hop, the same for all its probes."""
    found = [{answer.rewritten for answer in hop.answers} for hop in hops]
    assert all(len(each) == 1 for each in found)
    return [each.pop() for each in found]


def masquerade(packet: Packet) -> Packet:
    """A NAT: another source address and port, checksums to match."""
    packet.src = "192.0.2.1" if IP in packet else "2001:db8::1"
    for layer in (UDP, TCP):
        if layer in packet:
            packet[layer].sport = 61_000
            del packet[layer].chksum
    if IP in packet:
        del packet[IP].chksum
    return type(packet)(bytes(packet))


@pytest.mark.parametrize("quoted_bytes", [8, 12, 28, 1000])
@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("method", METHODS)
def test_quotes_of_any_length_tell_the_probe(
    method: TraceMethod, v6: bool, quoted_bytes: int
) -> None:
    path = chain(5, v6, quoted_bytes=quoted_bytes)
    hops, summary = trace(path, method)
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert rewritten(hops) == [()] * 5
    assert summary.reached


@pytest.mark.parametrize(
    ("method", "v6", "quoted_bytes", "found"),
    [
        ("udp", False, 8, ("src_addr", "checksum", "src_port")),
        ("udp", False, 28, ("src_addr", "checksum", "src_port")),
        ("udp", True, 1000, ("src_addr", "checksum", "src_port")),
        ("tcp", False, 8, ("src_addr", "src_port")),
        ("tcp", True, 1000, ("src_addr", "src_port")),
        ("icmp", False, 8, ("src_addr",)),
        ("icmp", True, 1000, ("src_addr",)),
    ],
)
def test_nat_is_found_by_what_the_quote_has_otherwise(
    method: TraceMethod, v6: bool, quoted_bytes: int, found: tuple[str, ...]
) -> None:
    path = chain(5, v6, quoted_bytes=quoted_bytes)
    path.nodes[1].rewrite = masquerade
    hops, summary = trace(path, method)
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert rewritten(hops)[:4] == [(), (), found, found]
    assert summary.reached


def test_nat_that_mends_all_but_the_checksum_is_found_too() -> None:
    def renumber(packet: Packet) -> Packet:
        packet[UDP].chksum = (packet[UDP].chksum + 77) & 0xFFFF
        return packet

    for quoted_bytes in (8, 28):
        path = chain(4, quoted_bytes=quoted_bytes)
        path.nodes[0].rewrite = renumber
        hops, _ = trace(path)
        assert rewritten(hops)[:3] == [(), ("checksum",), ("checksum",)]


def test_load_balancer_that_rewrites_the_destination_is_found() -> None:
    def forward(packet: Packet) -> Packet:
        packet.dst = "192.168.0.7"
        del packet.chksum
        return IP(bytes(packet))

    path = chain(4)
    path.nodes[1].rewrite = forward
    hops, _ = trace(path, "icmp")
    assert rewritten(hops)[2] == ("dst_addr",)


@pytest.mark.parametrize("quoted_bytes", [8, 28])
@pytest.mark.parametrize("method", METHODS)
def test_firewall_that_renumbers_packets_hides_no_hop_and_is_no_nat(
    method: TraceMethod, quoted_bytes: int
) -> None:
    chance = random.Random(5)

    def scrub(packet: Packet) -> Packet:
        packet.id = chance.randrange(1 << 16)
        return packet

    path = chain(5, quoted_bytes=quoted_bytes)
    path.nodes[0].rewrite = scrub
    hops, _ = trace(path, method)
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert rewritten(hops) == [()] * 5


def spoilt(change, path: Path):
    """A path whose routers answer twice: first with what `change` makes of it, then well."""

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        found = path(transmit, now_ns)
        for delay_ns, datagram in list(found):
            wrong = copy.copy(datagram)
            change(wrong)
            found.append((delay_ns - MS // 2, wrong))
        return found

    return answer


def with_quote(datagram: Datagram, change) -> None:
    """Changes what an ICMP error quotes."""
    quote = IP(datagram.data[8:])
    change(quote)
    message = ICMP(datagram.data[:8])
    del message.chksum
    datagram.data = bytes(message / bytes(quote))
    datagram.src_addr = "10.66.66.66"


def of_other_port(quote: Packet) -> None:
    quote[UDP].dport = 53


def of_another_protocol(quote: Packet) -> None:
    quote.proto = 132


def of_a_later_fragment(quote: Packet) -> None:
    quote.frag = 100


def of_an_unknown_probe(quote: Packet) -> None:
    quote.id = quote[UDP].chksum = 65_535
    quote[UDP].remove_payload()


@pytest.mark.parametrize(
    "change", [of_other_port, of_another_protocol, of_a_later_fragment, of_an_unknown_probe]
)
def test_quotes_of_what_we_did_not_send_are_no_answers(change) -> None:
    path = chain(4, quoted_bytes=28)
    network = VirtualNetwork(
        machine_for(path), spoilt(lambda datagram: with_quote(datagram, change), path)
    )
    *hops, _ = network.run()
    assert addresses(hops) == [{node.addr} for node in path.nodes]


def test_quote_that_is_cut_off_is_no_answer() -> None:
    def cut(datagram: Datagram) -> None:
        message = ICMP(datagram.data[: 8 + 20 + 7])
        del message.chksum
        datagram.data, datagram.src_addr = bytes(message), "10.66.66.66"

    for method in METHODS:
        path = chain(4)
        *hops, _ = VirtualNetwork(machine_for(path, method), spoilt(cut, path)).run()
        assert addresses(hops) == [{node.addr} for node in path.nodes]


def test_messages_that_were_damaged_on_the_way_are_lost() -> None:
    def damage(datagram: Datagram) -> None:
        # Another sequence number would be that of another probe.
        at = 8 + 20 + 7 if datagram.data[0] in (3, 11) else 7
        data = bytearray(datagram.data)
        data[at] ^= 1
        datagram.data, datagram.src_addr = bytes(data), "10.66.66.66"

    path = chain(4)
    *hops, _ = VirtualNetwork(machine_for(path, "icmp"), spoilt(damage, path)).run()
    assert addresses(hops) == [{node.addr} for node in path.nodes]


@pytest.mark.parametrize(("icmp_type", "code"), [(5, 1), (5, 0), (4, 0)])
def test_redirects_and_source_quenches_are_no_answers(icmp_type: int, code: int) -> None:
    def retype(datagram: Datagram) -> None:
        message = ICMP(bytes((icmp_type, code)) + datagram.data[2:])
        del message.chksum
        datagram.data, datagram.src_addr = bytes(message), "10.66.66.66"

    path = chain(4)
    *hops, summary = VirtualNetwork(machine_for(path), spoilt(retype, path)).run()
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert summary.reached


def test_duplicates_and_overtaking_answers_change_nothing() -> None:
    chance = random.Random(8)
    path = chain(12, v6=True)

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        found = path(transmit, now_ns)
        return [
            (chance.randrange(1, 50) * MS, copy.copy(datagram))
            for _, datagram in found
            for _ in range(3)
        ]

    *hops, summary = VirtualNetwork(machine_for(path), answer).run()
    assert addresses(hops) == [{node.addr} for node in path.nodes]
    assert {answer.rtt_ns // MS for hop in hops for answer in hop.answers} <= set(range(1, 50))
    assert summary.reached


def test_ipv6_probes_with_extension_headers_in_the_quote_are_known() -> None:
    path = chain(4, v6=True, quoted_bytes=1000)

    def insert(packet: Packet) -> Packet:
        # Hop-by-hop options that some tunnel has added.
        data = bytes(packet)
        header = IPv6(data[:40])
        options = bytes((header.nh, 0, 1, 4, 0, 0, 0, 0))
        header.nh = 0
        header.plen += 8
        return IPv6(bytes(header) + options + data[40:])

    path.nodes[0].rewrite = insert
    hops, _ = trace(path)
    assert addresses(hops) == [{node.addr} for node in path.nodes]
