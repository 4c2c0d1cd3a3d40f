"""traceroute without privilege: by the kernel's own sockets, right, and frank about what it lacks.

h1 ---- r1 ---- r2 ---- r3 ---- h2        the third link takes 1400 bytes
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.utils import rdpcap

from rawproto import lab
from rawproto.link.packet import PacketLink
from rawproto.link.raw import RawLink
from rawproto.machine import Transmit
from rawproto.wire.icmp import ICMPTimeExceeded
from rawproto.wire.ipv4 import IPv4Header
from tests.live.pinging import Said
from tests.live.tracing import (
    FAMILIES,
    chain_path,
    hops_of,
    path_of,
    probes_at,
    summary_of,
    target,
)
from tests.probe.judge import flow_of

LINKS = 4
NARROW = 1400
TIMEOUT_S = 30
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
"""Root in name alone; works inside a user namespace too, where there is no other user to be."""
TRACEROUTE = [sys.executable, "-m", "rawproto.cli.main", "traceroute"]


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    chain = lab.chain(LINKS)
    links = [
        replace(link, mtu=NARROW if number == 3 else None)
        for number, link in enumerate(chain.links, 1)
    ]
    with lab.up(replace(chain, links=tuple(links))) as network:
        yield network


@pytest.fixture(scope="module")
def h1(network: lab.Network) -> lab.LiveHost:
    return network.host("h1")


def traced(h1: lab.LiveHost, *words: str) -> Said:
    """A trace that succeeded, and said in one line what it lacks."""
    done = h1.run([*UNPRIVILEGED, *TRACEROUTE, "-n", *words], timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["udp", "icmp"])
def test_traced_path_is_the_chain_that_was_built(
    method: str, family: int, h1: lab.LiveHost
) -> None:
    said = traced(h1, "--json", "--method", method, target(family, LINKS))
    assert path_of(said) == chain_path(family, LINKS)
    assert (summary_of(said)["reached"], summary_of(said)["hops"]) == (True, LINKS)
    for hop in said.records("hop"):
        for probe in hop["probes"]:
            assert probe["reply_ttl"] == 65 - hop["ttl"]
            quotes = probe["icmp_type"] not in (0, 129)
            assert (probe["nat"] is None) == (probe["rewritten"] is None) == quotes
            assert probe["tx_stamp"] == "kernel"


@pytest.mark.parametrize("family", FAMILIES)
def test_probes_are_of_one_flow_and_as_the_privileged_ones_but_for_what_the_kernel_chooses(
    family: int, h1: lab.LiveHost, network: lab.Network
) -> None:
    sport = 40_000 + family
    seen = []
    for privilege in ([], UNPRIVILEGED):
        words = ["-n", "-q1", "-m4", f"--sport={sport}", "-t", "32", target(family, LINKS)]
        with probes_at(network.host("r1")) as wire:
            h1.run([*privilege, *TRACEROUTE, *words], timeout=TIMEOUT_S, check=True)
            seen.append(wire.probes(4))
    for packets in seen:
        assert hops_of(packets) == [1, 2, 3, 4]
        assert len({packet[UDP].chksum for packet in packets}) == 4
        for packet in packets:
            assert packet[UDP].chksum == int.from_bytes(bytes(packet[UDP].payload)[:2], "big")
    flows = {flow_of(packet) for packets in seen for packet in packets}
    assert len(flows) == 1
    if family == 4:
        assert {(packet.tos, str(packet.flags)) for each in seen for packet in each} == {
            (0x20, "DF")
        }
    else:
        assert {(packet.tc, packet.fl) for each in seen for packet in each} == {(0x20, 0)}


@pytest.mark.parametrize(
    ("method", "lacking"),
    [
        ("udp", ["UDP socket", "no -T", "no NAT", "--pcap", "8 bytes", "(README.md, Privilege)"]),
        ("icmp", ["ICMP socket", "no -T", "no NAT", "--pcap", "(README.md, Privilege)"]),
    ],
)
def test_it_says_what_is_missing_and_how_to_have_it(
    method: str, lacking: list[str], h1: lab.LiveHost
) -> None:
    said = traced(h1, "--method", method, target(4, LINKS))
    assert said.error.startswith("rawproto traceroute: without CAP_NET_RAW, ")
    for part in lacking:
        assert part in said.error
    assert said.lines[0].startswith(f"traceroute to {target(4, LINKS)} ")
    assert len(said.lines) == 1 + LINKS


def test_with_privilege_nothing_is_missing(h1: lab.LiveHost) -> None:
    done = h1.run([*TRACEROUTE, "-n", target(4, LINKS)], timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["udp", "icmp"])
def test_mtu_is_found(method: str, family: int, h1: lab.LiveHost) -> None:
    said = traced(h1, "--json", "--mtu", "--method", method, target(family, LINKS))
    (narrowing,) = said.records("mtu")
    limiting = "10.99.2.2" if family == 4 else "fd99:2::2"
    assert (narrowing["mtu"], narrowing["src_addr"]) == (NARROW, limiting)
    assert summary_of(said)["mtu"] == NARROW
    assert path_of(said) == chain_path(family, LINKS)


@pytest.mark.parametrize("method", ["udp", "icmp"])
def test_source_is_as_asked(method: str, h1: lab.LiveHost, network: lab.Network) -> None:
    h1.run(["ip", "-6", "addr", "replace", "fd99:1::77/64", "dev", "eth0", "nodad"], check=True)
    with probes_at(network.host("r1")) as wire:
        said = traced(h1, "--json", "--method", method, "-s", "fd99:1::77", "-m1", "fd99:4::2")
        packets = wire.probes(3)
    assert path_of(said) == [{"fd99:1::2"}]
    assert {packet.src for packet in packets} == {"fd99:1::77"}


@pytest.mark.parametrize("words", [[], ["-i", "eth0"]], ids=["scope", "scope-and-interface"])
@pytest.mark.parametrize("method", ["udp", "icmp"])
def test_link_local_target_is_reached(
    method: str, words: list[str], h1: lab.LiveHost, network: lab.Network
) -> None:
    shown = network.host("r1").run(
        ["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"]
    )
    address = shown.stdout.split()[3].partition("/")[0]
    said = traced(h1, "--json", "--method", method, *words, f"{address}%eth0")
    assert path_of(said) == [{address}]


def test_capture_holds_the_probes(h1: lab.LiveHost, tmp_path: Path) -> None:
    file = tmp_path / "trace.pcap"
    traced(h1, "-q1", "-m2", "--pcap", str(file), target(4, LINKS))
    assert [packet.ttl for packet in rdpcap(str(file))] == [1, 2]


PATIENTLY = ["-w", "5,100000,100000"]
"""Answers are waited for to the end, because a thread of a busy test may be slow to give them."""


class ShortQuoter:
    """While its `with` block lasts, a router that quotes 8 bytes of UDP, as RFC 792 has it.

    Args:
        router: which; its kernel is told to leave the complaint to us.
        address: who says it.
    """

    def __init__(self, router: lab.LiveHost, address: str) -> None:
        self._router = router
        self._address = address
        self._stop_reader, self._stop_writer = os.pipe()
        with router.entered():
            self._frames = PacketLink("eth0", ignore_outgoing=True)
            self._raw = RawLink(4, 255)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> ShortQuoter:
        rule = "type filter hook prerouting priority 0; ip ttl 1 udp dport 33434 drop"
        rules = f"table ip t {{\nchain c {{\n{rule}\n}}\n}}\n"
        self._router.run(["nft", "-f", "-"], input=rules, check=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._stop_writer, b"!")
        self._thread.join()
        self._router.run(["nft", "flush", "ruleset"], check=True)
        self._frames.close()
        self._raw.close()
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def _run(self) -> None:
        waiting = [self._stop_reader, self._frames.fileno()]
        for _ in range(10_000):
            if self._stop_reader in select.select(waiting, [], [])[0]:
                return
            for frame in self._frames.receive_frames():
                packet = frame.data[14:]
                if frame.ethertype == 0x0800 and packet[8] == 1 and packet[9] == 17:
                    self._complain(packet)

    def _complain(self, packet: bytes) -> None:
        dst_addr = IPv4Header.parse(packet)[0].src_addr
        header = IPv4Header(identification=1, src_addr=self._address, dst_addr=dst_addr)
        error = ICMPTimeExceeded(original_datagram=packet[:28])
        self._raw.send(Transmit(data=(header / error).emit(), dst_addr=dst_addr, token=0))


def test_router_that_quotes_8_bytes_is_told_from_the_others(
    h1: lab.LiveHost, network: lab.Network
) -> None:
    with ShortQuoter(network.host("r2"), "10.99.2.2"):
        said = traced(h1, "--json", *PATIENTLY, target(4, LINKS))
    assert path_of(said) == chain_path(4, LINKS)
    assert all(len(hop["probes"]) == 3 for hop in said.records("hop"))


def test_routers_that_all_quote_8_bytes_are_told_apart(
    h1: lab.LiveHost, network: lab.Network
) -> None:
    with (
        ShortQuoter(network.host("r1"), "10.99.1.2"),
        ShortQuoter(network.host("r2"), "10.99.2.2"),
        ShortQuoter(network.host("r3"), "10.99.3.2"),
    ):
        said = traced(h1, "--json", *PATIENTLY, target(4, LINKS))
    assert path_of(said) == chain_path(4, LINKS)
