"""The scripts of docs/packets.md do what the page says, between hosts of a lab."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.dns import DNS, DNSRR

from rawproto import IPv4Header, TCPHeader, ask, lab, send
from rawproto.wire.tcp import ACK, SYN
from tests.live.crafting import answering

PAGE = (Path(__file__).parents[2] / "docs" / "packets.md").read_text()
SCRIPTS = dict(re.findall(r"^```python\n# (\w+)\.py[^\n]*\n(.*?)^```", PAGE, re.M | re.S))
H2 = "10.99.3.2"
MOST_LINES = 12


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    topology = lab.chain(3)
    with lab.up(topology) as network:
        yield network


def said(network: lab.Network, name: str, *words: str) -> list[str]:
    """What a script prints on h1: its lines."""
    done = network.host("h1").run([sys.executable, "-c", SCRIPTS[name], *words], timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_page_has_the_four_scripts_of_about_ten_lines() -> None:
    assert set(SCRIPTS) == {"syn_scan", "arp_scan", "dns_query", "traceroute"}
    for code in SCRIPTS.values():
        assert len([line for line in code.splitlines() if line]) <= MOST_LINES


def test_syn_scan_finds_the_open_ports(network: lab.Network) -> None:
    with (
        network.host("h2").entered(),
        socket.create_server(("", 22)),
        socket.create_server(("", 1024)),
    ):
        lines = said(network, "syn_scan", H2)
    assert sorted(line.split()[:2] for line in lines) == [["1024", "open"], ["22", "open"]]


def test_arp_scan_finds_who_is_there(network: lab.Network) -> None:
    (line,) = said(network, "arp_scan", "10.99.1.0/28")
    mac_addr = network.host("r1").run(["cat", "/sys/class/net/eth0/address"]).stdout.strip()
    assert line == f"10.99.1.2 is at {mac_addr}"


def test_dns_query_prints_the_records(network: lab.Network) -> None:
    def respond(data: bytes) -> bytes:
        query = DNS(data)
        record = DNSRR(rrname=query.qd[0].qname, type="A", ttl=60, rdata="192.0.2.7")
        return bytes(DNS(id=query.id, qr=1, qd=query.qd, an=record))

    with (
        network.host("h2").entered(),
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server,
    ):
        server.bind(("::", 53))
        with answering(server, respond):
            lines = said(network, "dns_query", H2, "www.example")
    assert lines == ["www.example. 60 A(address='192.0.2.7')"]


def test_traceroute_names_each_router_once(network: lab.Network) -> None:
    lines = said(network, "traceroute", H2)
    assert [line.split()[:2] for line in lines] == [
        ["1", "10.99.1.2"],
        ["2", "10.99.2.2"],
        ["3", H2],
    ]


def test_kernel_kept_quiet_lets_a_handshake_be_made_by_hand(network: lab.Network) -> None:
    h1, h2 = network.host("h1"), network.host("h2")
    (quiet,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
    h1.run(["sh", "-ec", quiet], check=True)
    with h2.entered():
        server = socket.create_server(("", 80))
    with server, h1.entered():
        server.settimeout(5)
        syn = IPv4Header(dst_addr=H2) / TCPHeader(dst_port=80, flags=SYN, window=1024)
        ((asked, (answer,)),) = ask(syn)
        came = answer.packet[TCPHeader]
        acknowledgment = replace(
            asked[TCPHeader],
            flags=ACK,
            sequence_number=came.acknowledgment_number,
            acknowledgment_number=came.sequence_number + 1 & 0xFFFFFFFF,
        )
        send(IPv4Header(dst_addr=H2) / acknowledgment / b"by hand")
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            assert connection.recv(100) == b"by hand"
