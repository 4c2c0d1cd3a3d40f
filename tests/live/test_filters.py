"""Filters where they belong: in the kernel, on raw sockets; and tcpdump's, in our interpreter."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing

import pytest
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from rawproto.filter.assembler import assemble, disassemble
from rawproto.filter.instructions import Program
from rawproto.filter.interpreter import run
from rawproto.filter.programs import icmp_probe_filter, quoted_port_filter, tcp_answer_filter
from tests.filter.icmp_packets import OURS, Case, ipv4_cases, ipv6_cases
from tests.filter.kernel import attach
from tests.filter.trace_packets import (
    OUR_PORT,
    PORT,
    PROTOCOLS,
    ipv4_error_cases,
    ipv6_error_cases,
    tcp_cases,
)
from tests.live.namespaces import namespace

needs_tcpdump = pytest.mark.skipif(
    shutil.which("tcpdump") is None, reason="tcpdump is not installed"
)


ICMP_OF = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}


def what_comes_through(
    program: Program, family: int, protocol: int, cases: list[Case]
) -> list[str]:
    """Sends the cases to ourselves on a loopback of our own: the names of those received.

    By the time that `sendto` returns, a packet on a loopback has been received or dropped.
    """
    address = "127.0.0.1" if family == 4 else "::1"
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    received = []
    with namespace() as host, host.entered():
        # Else an echo request in the cases would bring a reply that is ours.
        host.sysctl("net/ipv4/icmp_echo_ignore_all", "1")
        sender = socket.socket(kind, socket.SOCK_RAW, protocol)
        receiver = socket.socket(kind, socket.SOCK_RAW, protocol)
    with closing(sender), closing(receiver):
        assert attach(receiver, program)
        if family == 4:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        for case in cases:
            sender.sendto(case.packet, (address, 0))
            try:
                data = receiver.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            # The kernel has filled in checksums, and the identification of IPv4.
            assert len(data) == len(case.packet)
            received.append(case.name)
    return received


def test_the_kernel_lets_ipv4_answers_through_that_are_ours() -> None:
    cases = ipv4_cases()
    through = what_comes_through(icmp_probe_filter(4, OURS), 4, ICMP_OF[4], cases)
    assert through == [case.name for case in cases if case.wanted]


def test_the_kernel_lets_icmpv6_answers_through_that_are_ours() -> None:
    cases = ipv6_cases()
    through = what_comes_through(icmp_probe_filter(6, OURS), 6, ICMP_OF[6], cases)
    assert through == [case.name for case in cases if case.wanted]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
@pytest.mark.parametrize(("family", "cases_of"), [(4, ipv4_error_cases), (6, ipv6_error_cases)])
def test_the_kernel_lets_errors_about_our_port_through(
    family: int, cases_of: Callable[[int], list[Case]], protocol: int
) -> None:
    cases = cases_of(protocol)
    program = quoted_port_filter(family, protocol, PORT)
    through = what_comes_through(program, family, ICMP_OF[family], cases)
    assert through == [case.name for case in cases if case.wanted]


@pytest.mark.parametrize("family", [4, 6])
def test_the_kernel_lets_answers_to_our_segments_through(family: int) -> None:
    # What is no TCP at all would not come to a raw TCP socket by any filter.
    cases = [case for case in tcp_cases(family) if "UDP" not in case.name]
    program = tcp_answer_filter(family, OUR_PORT, PORT)
    through = what_comes_through(program, family, socket.IPPROTO_TCP, cases)
    assert through == [case.name for case in cases if case.wanted]


ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = IP(src="192.0.2.1", dst="192.0.2.2")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
PACKETS = [
    Ether(bytes(packet))
    for packet in (
        ETHER / V4 / ICMP(),
        ETHER / V4 / ICMP(type=0),
        ETHER / V4 / ICMP() / bytes(200),
        ETHER / V4 / UDP(sport=4000, dport=53) / DNS(qd=DNSQR(qname="example.org")),
        ETHER / V4 / UDP(sport=53, dport=4000),
        ETHER / V4 / TCP(sport=4000, dport=22, flags="S"),
        ETHER / V4 / TCP(sport=22, dport=4000, flags="SA"),
        ETHER / V4 / TCP(sport=4000, dport=80, flags="A"),
        ETHER / IP(src="192.0.2.1", dst="192.0.2.9", frag=5) / UDP(dport=53),
        ETHER / IP(src="192.0.2.1", dst="192.0.2.2", options=b"\x94\x04\0\0") / UDP(dport=53),
        ETHER / IP(src="10.0.0.1", dst="192.0.2.2", ttl=1) / UDP(dport=33434),
        ETHER / V6 / ICMPv6EchoRequest(),
        ETHER / V6 / UDP(dport=53),
        ETHER / V6 / TCP(dport=22, flags="S"),
        ETHER / ARP(pdst="192.0.2.2"),
        ETHER / Dot1Q(vlan=5) / IPv6() / TCP(dport=22),
        Ether(dst="ff:ff:ff:ff:ff:ff") / V4 / UDP(dport=67),
    )
]


def behind_ethernet(packet: Packet, kind: type[Packet]) -> bool:
    """Whether there is such a layer; a VLAN tag hides it from filters that do not ask."""
    return kind in packet and Dot1Q not in packet


def tcpdump(how: str, expression: str) -> str:
    command = ["tcpdump", how, "-y", "EN10MB", "-i", "lo", expression]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


@needs_tcpdump
@pytest.mark.parametrize(
    ("expression", "selects"),
    [
        ("icmp[icmptype] = icmp-echo", lambda p: ICMP in p and p[ICMP].type == 8),
        ("greater 100", lambda p: len(p) >= 100),
        ("ip6", lambda p: behind_ethernet(p, IPv6)),
        ("arp", lambda p: ARP in p),
        ("broadcast", lambda p: p.dst == "ff:ff:ff:ff:ff:ff"),
        ("ip[8] = 1", lambda p: IP in p and p[IP].ttl == 1),
        ("tcp[tcpflags] & tcp-syn != 0", lambda p: IP in p and TCP in p and p[TCP].flags.S),
        (
            "tcp port 22",
            lambda p: behind_ethernet(p, TCP) and 22 in (p[TCP].sport, p[TCP].dport),
        ),
        ("udp dst port 53", lambda p: UDP in p and p[UDP].dport == 53),
        ("ip host 10.0.0.1", lambda p: IP in p and p[IP].src == "10.0.0.1"),
    ],
)
def test_tcpdumps_programs_select_in_our_interpreter_what_scapy_would(
    expression: str, selects: Callable[[Packet], bool]
) -> None:
    program = assemble(tcpdump("-ddd", expression))
    chosen = [bytes(p) for p in PACKETS if run(program, bytes(p))]
    assert chosen == [bytes(p) for p in PACKETS if selects(p)]
    assert 0 < len(chosen) < len(PACKETS)


@needs_tcpdump
@pytest.mark.parametrize(
    "expression",
    [
        "vlan 5 and udp",
        "icmp[icmptype] = icmp-echo and greater 100 and inbound",
        "ip6 and udp portrange 33434-33500",
        "ether[0] & 1 = 1 or len <= 36",
        "ip[2:2]*3/2 > -ip[0] or (ip[1] << 2) % 3 = 1 or ether[ip[3]] = 1 ^ 5 | 2",
        "geneve and mpls",
    ],
)
def test_tcpdumps_dialects_agree_for_whatever_it_compiles(expression: str) -> None:
    # libpcap leaves rubbish in the k of `tax`: programs are compared by what they print.
    printed = disassemble(assemble(tcpdump("-d", expression)))
    assert printed == disassemble(assemble(tcpdump("-dd", expression)))
    assert printed == disassemble(assemble(tcpdump("-ddd", expression)))
    assert assemble(printed) == assemble(tcpdump("-d", expression))
