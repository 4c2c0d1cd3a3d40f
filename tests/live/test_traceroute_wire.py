"""Every option of traceroute by its effect on the wire, judged by scapy; both families.

h1 -- r1 -- r2 -- r3 -- h2        what arrives at r1 is what h1 sent
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Packet
from scapy.utils import PcapReader

from rawproto import lab
from tests.live.pinging import PATIENCE_S, say
from tests.live.tracing import (
    FAMILIES,
    METHODS,
    ProbeWire,
    chain_path,
    hops_of,
    path_of,
    probes_at,
    summary_of,
    target,
    traced,
)
from tests.probe.judge import flow_of, judged_probe

HOPS, LAST = 4, 6
"""Hops of the chain, and how far the traces of these tests look."""
OTHER, OTHER_V6 = "10.99.1.7", "fd99:1::7"
"""Further addresses of h1, which no route prefers."""


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with lab.up(lab.chain(HOPS)) as network:
        h1 = network.host("h1")
        h1.run(["ip", "addr", "add", f"{OTHER}/24", "dev", "eth0"], check=True)
        words = f"addr add {OTHER_V6}/64 dev eth0 nodad preferred_lft 0"
        h1.run(["ip", *words.split()], check=True)
        yield network


@pytest.fixture(scope="module")
def h1(network: lab.Network) -> lab.LiveHost:
    return network.host("h1")


@pytest.fixture(scope="module")
def module_wire(network: lab.Network) -> Iterator[ProbeWire]:
    with probes_at(network.host("r1")) as wire:
        yield wire


@pytest.fixture
def wire(module_wire: ProbeWire) -> ProbeWire:
    module_wire.forget()
    return module_wire


def sent_by(
    h1: lab.LiveHost, wire: ProbeWire, family: int, words: str, count: int = 3
) -> list[Packet]:
    """The probes of a trace of one hop with these options."""
    said = traced(h1, "-f2", "-m2", *words.split(), target(family, HOPS))
    assert path_of(said) == chain_path(family, HOPS)[1:2]
    return wire.probes(count)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_probes_are_sound_and_of_one_flow(
    method: str, family: int, h1: lab.LiveHost, wire: ProbeWire
) -> None:
    words = ["--method", method, f"-m{LAST}", target(family, HOPS)]
    said = say(h1, *words, "-n", verb="traceroute")
    assert said.code == 0
    packets = [judged_probe(frame.data[14:]) for frame in wire.frames(HOPS * 3)]
    assert {flow_of(packet) for packet in packets} == {flow_of(packets[0])}
    assert len({bytes(packet) for packet in packets}) == len(packets), "each is known by itself"
    numbers = hops_of(packets)
    assert all(numbers.count(hop) == 3 for hop in range(1, HOPS + 1))
    assert set(numbers) <= set(range(1, LAST + 1))
    size = (40 if method == "tcp" else 60) if family == 4 else (60 if method == "tcp" else 80)
    assert {len(packet) for packet in packets} == {size}
    if family == 4:
        assert {str(packet.flags) for packet in packets} == {"DF"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("method", "layer"), [("udp", UDP), ("tcp", TCP)])
def test_ports_are_as_asked(
    method: str, layer: type[Packet], family: int, h1: lab.LiveHost, wire: ProbeWire
) -> None:
    common = f"--method {method} -q1"
    (packet,) = sent_by(h1, wire, family, f"{common} -p 4433 --sport 5533", 1)
    assert (packet[layer].dport, packet[layer].sport) == (4433, 5533)
    (packet,) = sent_by(h1, wire, family, common, 1)
    assert packet[layer].dport == (33434 if method == "udp" else 80)
    low, high = h1.run(["cat", "/proc/sys/net/ipv4/ip_local_port_range"]).stdout.split()
    assert int(low) <= packet[layer].sport <= int(high)
    if method == "tcp":
        assert str(packet[TCP].flags) == "S"


def test_methods_have_their_letters(h1: lab.LiveHost, wire: ProbeWire) -> None:
    for family, echo in ((4, ICMP), (6, ICMPv6EchoRequest)):
        for letter, layer in (("-I", echo), ("-U", UDP), ("-T", TCP), ("", UDP)):
            (packet,) = sent_by(h1, wire, family, f"{letter} -q1", 1)
            assert layer in packet


def test_tos_and_flow_label_are_as_asked(h1: lab.LiveHost, wire: ProbeWire) -> None:
    assert {packet.tos for packet in sent_by(h1, wire, 4, "-t 184")} == {184}
    packets = sent_by(h1, wire, 6, "-t 184 -l 0x12345")
    assert {(packet.tc, packet.fl) for packet in packets} == {(184, 0x12345)}


@pytest.mark.parametrize("family", FAMILIES)
def test_size_is_that_of_the_whole_packet(family: int, h1: lab.LiveHost, wire: ProbeWire) -> None:
    for size in (100, 101, 1500):
        said = traced(h1, "-f2", "-m2", target(family, HOPS), str(size))
        assert len(path_of(said)) == 1
        assert {len(packet) for packet in wire.probes(3)} == {size}


@pytest.mark.parametrize(("family", "address"), [(4, OTHER), (6, OTHER_V6)])
def test_source_is_as_asked_by_address_or_interface(
    family: int, address: str, h1: lab.LiveHost, wire: ProbeWire
) -> None:
    for words, source in (
        (f"-s {address}", address),
        (f"-i {address}", address),
        ("-i eth0", "10.99.1.1" if family == 4 else "fd99:1::1"),
    ):
        for method in METHODS:
            packets = sent_by(h1, wire, family, f"--method {method} {words}")
            assert {packet.src for packet in packets} == {source}


def test_first_last_and_queries_say_how_many_probes_go_where(
    h1: lab.LiveHost, wire: ProbeWire
) -> None:
    said = traced(h1, "-f2", "-m3", "-q5", target(4, HOPS))
    assert hops_of(wire.probes(10)) == [2] * 5 + [3] * 5
    assert path_of(said) == chain_path(4, HOPS)[1:3]
    assert (summary_of(said)["reached"], summary_of(said)["hops"]) == (False, 3)


def test_a_window_of_one_sends_after_each_answer(h1: lab.LiveHost, tmp_path: Path) -> None:
    file = tmp_path / "one.pcap"
    traced(h1, "-N1", "-q2", "--pcap", str(file), target(4, HOPS))
    sources = [source_of(bytes(packet)) for packet in read(file)]
    assert [source == "10.99.1.1" for source in sources] == [True, False] * (2 * HOPS)


def test_gap_between_probes_is_kept_in_seconds_or_milliseconds(
    h1: lab.LiveHost, wire: ProbeWire
) -> None:
    for gap in ("0.1", "100"):
        traced(h1, "-z", gap, "-q1", "-m4", target(4, HOPS))
        times = [frame.real_ns for frame in wire.frames(4)]
        # On the way some of it may be lost again.
        assert all(two - one > 50e6 for one, two in pairwise(times))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_tcpdump_sees_what_the_capture_file_and_the_records_say(
    method: str, family: int, h1: lab.LiveHost, tmp_path: Path
) -> None:
    theirs, ours = tmp_path / "theirs.pcap", tmp_path / "ours.pcapng"
    command = ["tcpdump", "-i", "eth0", "-w", str(theirs), "-U", "--immediate-mode", "-Z", "root"]
    command += ["-n", "ip or ip6 and not icmp6[0] == 135 and not icmp6[0] == 136"]
    with h1.popen(command, stderr=subprocess.PIPE, text=True) as tcpdump:
        assert any("listening on" in line for line in tcpdump.stderr)
        words = ["--method", method, f"-m{HOPS}", "--pcap", str(ours), target(family, HOPS)]
        said = traced(h1, *words)
        sent = HOPS * 3
        await_all(theirs, [bytes(packet) for packet in read(ours)])
        tcpdump.terminate()
        tcpdump.wait(PATIENCE_S)
    captured = [bytes(packet.payload) for packet in read(theirs)]
    recorded = [bytes(packet) for packet in read(ours)]
    source = "10.99.1.1" if family == 4 else "fd99:1::1"
    probes = [data for data in recorded if source_of(data) == source]
    assert len(probes) == sent
    assert sorted(probes) == sorted(data for data in captured if is_probe(data, source))
    for data in probes:
        judged_probe(data)
    answers = [data for data in recorded if source_of(data) != source]
    assert len(answers) == sent
    # The kernel keeps IPv6 headers: traffic class and flow label of an answer are not known.
    start = 0 if family == 4 else 4
    assert {data[start:] for data in answers} <= {data[start:] for data in captured}
    told = [probe["src_addr"] for hop in said.records("hop") for probe in hop["probes"]]
    assert sorted(told) == sorted(map(source_of, answers))


def await_all(pcap: Path, wanted: list[bytes]) -> None:
    """Until a capture file has all of these, whatever else passed, or patience ends.

    Of IPv6 headers ours does not know all.
    """
    ends = {data[4:] for data in wanted}
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if pcap.stat().st_size >= 24 and ends <= {bytes(p.payload)[4:] for p in read(pcap)}:
            return
        time.sleep(0.01)


def read(pcap: Path) -> list[Packet]:
    """The packets of a capture file."""
    with PcapReader(str(pcap)) as reader:
        return [packet.copy() for packet in reader]


def source_of(data: bytes) -> str:
    """Of an IP packet."""
    return (IP if data[0] >> 4 == 4 else IPv6)(data).src


def is_probe(data: bytes, source: str) -> bool:
    """Whether it is one that we sent; the kernel resets connections on its own."""
    packet = (IP if data[0] >> 4 == 4 else IPv6)(data)
    return packet.src == source and not (TCP in packet and packet[TCP].flags != "S")
