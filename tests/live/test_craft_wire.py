"""Craft against the kernel and real services: what is sent, judged by scapy, and its answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, defragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrFragment,
    defragment6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet as Scapy
from scapy.utils import PcapReader

from rawproto import lab
from rawproto.drivers.ask import ask
from rawproto.drivers.send import send
from rawproto.packets.answers import Answer
from rawproto.wire.arp import ARPMessage
from rawproto.wire.ethernet import EthernetHeader
from rawproto.wire.icmp import ICMPExtendedEcho, ICMPExtendedEchoReply, ICMPTimestamp
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import InterfaceIdentification
from rawproto.wire.icmpv6 import ICMPv6ExtendedEcho, ICMPv6ExtendedEchoReply
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Layer, Packet
from rawproto.wire.ndp import NeighborAdvertisement, NeighborSolicitation
from rawproto.wire.tcp import ACK, RST, SYN, TCPHeader
from rawproto.wire.udp import UDPHeader
from tests.live.crafting import CLOSED, ECHO, H1, H1_V6, H2, H2_V6, OPEN, Passing, say, services
from tests.live.pinging import set_sysctl, stamping

SHORT_NS = 200_000_000
IP4, IP6 = IPv4Header(dst_addr=H2), IPv6Header(dst_addr=H2_V6)
FAMILIES = pytest.mark.parametrize("header", [IP4, IP6], ids=["IPv4", "IPv6"])


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with lab.up(lab.pair()) as network, stamping(network.host("h1")):
        set_sysctl(network.host("h2"), "ipv4/icmp_echo_enable_probe", "1")
        for name in ("icmp_ratelimit", "icmp_msgs_per_sec"):
            set_sysctl(network.host("h2"), f"ipv4/{name}", "0" if "rate" in name else "100000")
        set_sysctl(network.host("h2"), "ipv6/icmp/ratelimit", "0")
        yield network


@pytest.fixture(scope="module")
def h1(network: lab.Network) -> lab.LiveHost:
    return network.host("h1")


@pytest.fixture(scope="module")
def h2(network: lab.Network) -> lab.LiveHost:
    return network.host("h2")


@pytest.fixture(scope="module")
def silent(h2: lab.LiveHost) -> Iterator[socket.socket]:
    with services(h2) as silent:
        yield silent


@pytest.fixture(scope="module")
def module_wire(h2: lab.LiveHost) -> Iterator[Passing]:
    with Passing(h2, is_ours) as wire:
        yield wire


@pytest.fixture
def wire(module_wire: Passing) -> Passing:
    module_wire.forget()
    return module_wire


def is_ours(packet: Scapy) -> bool:
    """Whether h1 sent it on purpose, and not its kernel to find a neighbour or a router."""
    if ARP in packet:
        return packet[ARP].op == 1
    if ICMPv6ND_NS in packet:
        return packet[IPv6].dst.startswith("ff02::1:ff")
    return (
        any(kind in packet for kind in (ICMP, TCP, UDP, ICMPv6EchoRequest, IPv6ExtHdrFragment))
        or (IPv6 in packet and packet[IPv6].nh == 58 and packet.load[:1] == b"\xa0")
        or (IP in packet and packet[IP].frag > 0)
    )


def asked(host: lab.LiveHost, *packets: Packet, **options: Any) -> list[tuple[Packet, Answer]]:
    """Each packet and the one answer that it got from the kernel's stamps."""
    with host.entered():
        told = list(ask(packets, in_order=True, **options))
    for _, answers in told:
        (answer,) = answers
        assert (answer.tx_stamp, answer.rx_stamp) == ("kernel", "kernel")
        assert 0 < answer.rtt_ns < 10**9
        assert answer.valid
    return [(request, answers[0]) for request, answers in told]


def as_sent(packet: Scapy, request: Packet) -> Scapy:
    """What arrived is what `ask` said that it sent, and scapy finds nothing wrong with it."""
    inner = packet[IP] if IP in packet else packet[IPv6]
    assert bytes(inner) == request.emit()
    again = inner.copy()
    for layer in again.iterpayloads():
        for name in ("chksum", "cksum", "len", "plen"):
            if name in layer.fields:
                delattr(layer, name)
    assert bytes(again) == bytes(inner)
    return inner


@FAMILIES
def test_syn_to_an_open_and_a_closed_port(
    h1: lab.LiveHost, wire: Passing, silent: socket.socket, header: Layer
) -> None:
    packets = [header / TCPHeader(dst_port=port, flags=SYN) for port in (OPEN, CLOSED)]
    told = asked(h1, *packets)
    flags = [answer.packet[TCPHeader].flags for _, answer in told]
    assert flags == [SYN | ACK, RST | ACK]
    syns = [each for each in wire.taken(2, TCP) if each[TCP].flags == "S"]
    for packet, (request, answer) in zip(syns, told, strict=True):
        assert as_sent(packet, request)[TCP].dport == request[TCPHeader].dst_port
        acknowledged = answer.packet[TCPHeader].acknowledgment_number
        assert acknowledged == packet[TCP].seq + 1


@FAMILIES
def test_datagram_to_an_answering_and_a_closed_port(
    h1: lab.LiveHost, wire: Passing, silent: socket.socket, header: Layer
) -> None:
    packets = [header / UDPHeader(dst_port=port) / b"hello" for port in (ECHO, CLOSED)]
    (_, reply), (request, error) = asked(h1, *packets)
    assert (reply.kind, reply.found.payload) == ("reply", b"olleh")
    assert error.kind == "error"
    assert error.packet.layers[-1].code == (3 if header is IP4 else 4)  # type: ignore[union-attr]
    assert as_sent(wire.taken(2, UDP)[1], request)[UDP].dport == CLOSED


@FAMILIES
def test_datagram_to_a_silent_port_has_no_answer(
    h1: lab.LiveHost, silent: socket.socket, header: Layer
) -> None:
    with h1.entered():
        ((request, answers),) = ask(header / UDPHeader(dst_port=OPEN) / b"?", timeout_ns=SHORT_NS)
    assert answers == []
    data, (src_addr, src_port, *_) = silent.recvfrom(100)
    assert (data, src_port) == (b"?", request[UDPHeader].src_port)
    assert src_addr.removeprefix("::ffff:") in (H1, H1_V6)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (IP4 / ICMPEcho() / b"data", ICMPEcho),
        (IP4 / ICMPTimestamp(), ICMPTimestamp),
        (
            IP4
            / ICMPExtendedEcho(
                extensions=ICMPExtensions(objects=(InterfaceIdentification(if_name="lo"),))
            ),
            ICMPExtendedEchoReply,
        ),
        (IP6 / ICMPv6Echo() / b"data", ICMPv6Echo),
        (
            IP6
            / ICMPv6ExtendedEcho(
                extensions=ICMPExtensions(objects=(InterfaceIdentification(if_name="lo"),))
            ),
            ICMPv6ExtendedEchoReply,
        ),
    ],
    ids=["echo", "timestamp", "extended echo", "echo of IPv6", "extended echo of IPv6"],
)
def test_icmp_of_each_type_that_kernels_answer(
    h1: lab.LiveHost, wire: Passing, request_: Packet, reply: type[Layer]
) -> None:
    ((request, answer),) = asked(h1, request_)
    assert reply in answer.packet
    assert as_sent(wire.taken(1, IP if IPv4Header in request else IPv6)[0], request)


@FAMILIES
def test_fragments_that_the_far_kernel_puts_together(
    h1: lab.LiveHost, wire: Passing, silent: socket.socket, header: Layer
) -> None:
    payload = bytes(range(256)) * 15
    with h1.entered():
        sent = send(header / UDPHeader(src_port=9, dst_port=OPEN) / payload, fragment_bytes=1280)
    assert sent.packets == 1
    assert silent.recv(65_536) == payload
    pieces = wire.taken(4, IP if header is IP4 else IPv6ExtHdrFragment)
    assert len(pieces) == 4
    assert all(len(piece) <= 1280 + 14 for piece in pieces)
    whole = defragment(pieces) if header is IP4 else [defragment6(pieces)]
    assert bytes(whole[0][UDP].payload) == payload


@FAMILIES
def test_fragmented_echo_is_one_question(h1: lab.LiveHost, header: Layer) -> None:
    echo = ICMPEcho() if header is IP4 else ICMPv6Echo()
    ((_, answer),) = asked(h1, header / echo / bytes(1300), fragment_bytes=1280)
    assert len(answer.found.payload) == 1300


def test_arp_request(h1: lab.LiveHost, wire: Passing) -> None:
    ((request, answer),) = asked(h1, Packet((ARPMessage(target_protocol_addr=H2),)))
    (frame,) = [each for each in wire.taken(1, ARP) if each[Ether].dst == "ff:ff:ff:ff:ff:ff"]
    assert bytes(frame) == request.emit()
    assert (frame[ARP].psrc, frame[ARP].pdst) == (H1, H2)
    reply = answer.packet[ARPMessage]
    assert (reply.operation, answer.src_addr) == (2, H2)
    assert reply.sender_hardware_addr == answer.packet[EthernetHeader].src_addr


def test_neighbor_solicitation(h1: lab.LiveHost, wire: Passing) -> None:
    solicitation = IPv6Header(src_addr=H1_V6) / NeighborSolicitation(target_addr=H2_V6)
    ((request, answer),) = asked(h1, solicitation, interface="eth0")
    (frame,) = [each for each in wire.taken(1, ICMPv6ND_NS) if bytes(each[IPv6]) == request.emit()]
    assert (frame[IPv6].hlim, frame[ICMPv6ND_NS].tgt) == (255, H2_V6)
    assert answer.packet[NeighborAdvertisement].target_addr == H2_V6


def test_packet_from_ethernet_on(h1: lab.LiveHost, wire: Passing) -> None:
    ((request, answer),) = asked(h1, EthernetHeader() / IP4 / ICMPEcho())
    (frame,) = wire.taken(1, ICMP)
    assert bytes(frame) == request.emit()
    assert frame[Ether].dst == answer.packet[EthernetHeader].src_addr


def test_forced_checksum_of_ipv4_arrives_as_it_is_and_is_dropped(
    h1: lab.LiveHost, h2: lab.LiveHost, wire: Passing
) -> None:
    before = counter(h2, "Ip", "InHdrErrors")
    said = say(h1, "--answer", "0.2", f"ipv4 dst_addr={H2} checksum=0x1234 / icmp")
    assert (said.code, "no answer" in said.out) == (1, True)
    (packet,) = wire.taken(1, ICMP)
    assert packet[IP].chksum == 0x1234
    assert counter(h2, "Ip", "InHdrErrors") == before + 1


@pytest.mark.parametrize(
    ("expression", "table", "name"),
    [
        (f"ipv4 dst_addr={H2} / icmp checksum=1", "Icmp", "InCsumErrors"),
        (f"ipv4 dst_addr={H2} / udp dst_port={ECHO} checksum=1 / text:x", "Udp", "InCsumErrors"),
        (f"ipv4 dst_addr={H2} / tcp dst_port={OPEN} flags=SYN checksum=1", "Tcp", "InCsumErrors"),
    ],
)
def test_forced_checksum_inside_is_dropped_by_the_far_end(
    h1: lab.LiveHost,
    h2: lab.LiveHost,
    wire: Passing,
    silent: socket.socket,
    expression: str,
    table: str,
    name: str,
) -> None:
    before = counter(h2, table, name)
    said = say(h1, "--answer", "0.2", expression)
    assert said.code == 1
    (packet,) = wire.taken(1, IP)
    assert packet[IP].payload.chksum == 1
    assert counter(h2, table, name) == before + 1


def test_forced_checksum_of_ipv6_is_dropped_by_the_far_end(h1: lab.LiveHost, wire: Passing) -> None:
    said = say(h1, "--answer", "0.2", f"ipv6 dst_addr={H2_V6} / icmpv6 checksum=1")
    assert said.code == 1
    (packet,) = wire.taken(1, ICMPv6EchoRequest)
    assert packet[ICMPv6EchoRequest].cksum == 1


def test_what_a_raw_socket_would_rewrite_arrives_as_it_is(h1: lab.LiveHost, wire: Passing) -> None:
    packets = [
        IPv4Header(src_addr=H1, dst_addr=H2, total_length=1000) / ICMPEcho(),
        IPv4Header(src_addr=H1, dst_addr=H2, identification=0) / ICMPEcho(),
        IPv4Header(src_addr="0.0.0.0", dst_addr=H2, identification=7) / ICMPEcho(),
    ]
    with h1.entered():
        send(packets, fill=False)
    long, unidentified, nobody = (packet[IP] for packet in wire.taken(3, ICMP))
    assert (long.len, unidentified.id, nobody.src) == (1000, 0, "0.0.0.0")


def test_capture_holds_what_went_out_and_came_in(h1: lab.LiveHost, tmp_path: Path) -> None:
    file = tmp_path / "echo.pcapng"
    said = say(h1, "--answer", "1", "--pcap", str(file), f"ipv4 dst_addr={H2} / icmp / text:abc")
    assert said.code == 0
    with PcapReader(str(file)) as reader:
        request, reply = reader
    assert (request[ICMP].type, reply[ICMP].type) == (8, 0)
    assert request[ICMP].id == reply[ICMP].id
    assert request.time <= reply.time


@pytest.mark.parametrize("form", [[], ["--fragment", "1280"]])
def test_capture_of_what_is_only_sent(
    h1: lab.LiveHost, wire: Passing, tmp_path: Path, form: list[str]
) -> None:
    file = tmp_path / "out.pcap"
    words = ["--send", *form, "--pcap", str(file), f"ipv4 dst_addr={H2} / icmp / random:1400"]
    assert say(h1, *words).code == 0
    with PcapReader(str(file)) as reader:
        kept = [bytes(packet) for packet in reader]
    assert kept == [bytes(packet[IP]) for packet in wire.taken(len(kept), IP)]
    assert len(kept) == (2 if form else 1)


def counter(host: lab.LiveHost, table: str, name: str) -> int:
    """One of the counts of /proc/net/snmp."""
    with host.entered(), open("/proc/thread-self/net/snmp") as file:
        names, values = [line.split()[1:] for line in file if line.startswith(f"{table}:")]
    return int(values[names.index(name)])
