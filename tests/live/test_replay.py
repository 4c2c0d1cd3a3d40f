"""A capture sent again between two hosts: what comes out there, when, and what scapy says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from rawproto.capture import CapturedPacket, read, write
from rawproto.link.packet import Frame, PacketLink
from tests.live.namespaces import Namespace, namespace_pair

pytestmark = pytest.mark.live

MS = 1_000_000
A, B, A6, B6 = "10.98.0.1", "10.98.0.2", "fd98::1", "fd98::2"
MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
Hosts = tuple[Namespace, Namespace]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with namespace_pair() as pair:
        yield pair


@pytest.fixture
def wire(hosts: Hosts) -> Iterator[PacketLink]:
    """Everything that comes in at b."""
    with ExitStack() as stack:
        with hosts[1].entered():
            link = stack.enter_context(PacketLink("rplk-b", ignore_outgoing=True))
        yield link


def replay(host: Namespace, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [str(each) for each in arguments]
    return subprocess.run(
        [
            "nsenter",
            f"--net={host.path}",
            *(sys.executable, "-m", "rawproto.cli.main", "replay"),
            *words,
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def save(path: Path, packets: list[tuple[float, Packet | bytes]], link_type: int = 1) -> Path:
    write(
        path,
        [
            CapturedPacket(time_ns=10**18 + round(at * MS), data=bytes(data), link_type=link_type)
            for at, data in packets
        ],
    )
    return path


def udp(number: int) -> Packet:
    return Ether(src=MAC_A, dst=MAC_B) / IP(src=A, dst=B, id=number) / UDP(sport=7, dport=9) / b"hi"


def arrived(wire: PacketLink) -> list[Frame]:
    """What came, but for what the hosts say to each other of their own accord."""
    frames = wire.receive_frames(10_000)
    return [frame for frame in frames if MAC_A in _macs(frame.data)]


def _macs(data: bytes) -> list[str]:
    return [data[6:12].hex(":"), data[:6].hex(":")]


def test_frames_arrive_as_they_are_and_as_far_apart_as_they_were(
    hosts: Hosts, wire: PacketLink, tmp_path: Path
) -> None:
    times_ms = [0, 1, 1.5, 30, 30, 60, 61, 62]
    frames: list[tuple[float, Packet | bytes]] = [(at, udp(n)) for n, at in enumerate(times_ms)]
    frames[3] = (30, Ether(src=MAC_A, dst=MAC_B) / ARP(hwsrc=MAC_A, psrc=A))
    done = replay(hosts[0], "-i", "rplk-a", "--json", save(tmp_path / "x.pcap", frames))
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert (summary["packets"], summary["rounds"], summary["refused"]) == (8, 1, {})
    found = arrived(wire)
    assert [frame.data for frame in found] == [bytes(data) for _, data in frames]
    # How late one is, the first too, is up to the machine, and told.
    for frame, at in zip(found, times_ms, strict=True):
        late_ns = frame.real_ns - found[0].real_ns - at * MS
        assert abs(late_ns) < summary["late_max_ms"] * MS + 50 * MS


def test_rewritten_frames_have_right_checksums(
    hosts: Hosts, wire: PacketLink, tmp_path: Path
) -> None:
    packet = Ether(src=MAC_A, dst=MAC_B) / IP(src="192.0.2.1", dst=B) / TCP(dport=80) / b"GET"
    path = save(tmp_path / "x.pcap", [(0, packet)])
    options = ["--rewrite", f"192.0.2.0/24={A}", "--port", "80=8080", "--mac", f"{MAC_B}={MAC_A}"]
    assert replay(hosts[0], "-i", "rplk-a", *options, path).returncode == 0
    (frame,) = arrived(wire)
    found = Ether(frame.data)
    assert (found.dst, found[IP].src, found[TCP].dport) == (MAC_A, A, 8080)
    again = found.copy()
    del again[IP].chksum, again[TCP].chksum
    assert bytes(again) == frame.data


def test_packets_captured_without_ethernet_get_a_header_to_their_next_hop(
    hosts: Hosts, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        with hosts[1].entered():
            wire = stack.enter_context(PacketLink("rplk-b", ignore_outgoing=True))
        packets = [
            (0.0, IP(src=A, dst=B, id=5) / UDP(sport=7, dport=9) / b"four"),
            (1.0, IPv6(src=A6, dst=B6) / UDP(sport=7, dport=9) / b"six"),
            # A raw socket would write another checksum: it goes by a packet socket.
            (2.0, IP(src=A, dst=B, id=6, chksum=0xDEAD) / UDP(sport=7, dport=9) / b"bad"),
        ]
        path = save(tmp_path / "x.pcap", packets, link_type=101)
        for interface in ([], ["-i", "rplk-a"]):
            done = replay(hosts[0], *interface, path)
            assert (done.returncode, done.stderr) == (0, "")
            found = [Ether(frame.data) for frame in wire.receive_frames(1000)]
            assert [bytes(each.payload) for each in found if UDP in each] == [
                bytes(packet) for _, packet in packets
            ]


def test_silent_neighbours_do_not_stop_the_schedule(hosts: Hosts, tmp_path: Path) -> None:
    # With a wrong checksum they go by a packet socket, for which we ask for neighbours ourselves.
    packets: list[tuple[float, Packet | bytes]] = [
        (n, IP(src=A, dst=f"10.98.0.{100 + n % 20}", chksum=0xDEAD) / UDP(sport=7, dport=9))
        for n in range(40)
    ]
    packets.append((40.0, IP(src=A, dst=B, chksum=0xDEAD) / UDP(sport=7, dport=9) / b"alive"))
    with ExitStack() as stack:
        with hosts[1].entered():
            wire = stack.enter_context(PacketLink("rplk-b", ignore_outgoing=True))
        done = replay(hosts[0], "--json", save(tmp_path / "x.pcap", packets, link_type=101))
        found = [Ether(frame.data) for frame in wire.receive_frames(1000)]
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert summary["refused"] == {"nobody on the link answers for them": 40}
    assert summary["packets"] == 1
    assert summary["duration_ms"] < 3000
    assert [bytes(each[UDP].payload)[:5] for each in found if UDP in each] == [b"alive"]


def test_rounds_rates_and_limits(hosts: Hosts, wire: PacketLink, tmp_path: Path) -> None:
    path = save(tmp_path / "x.pcap", [(n * 1000, udp(n)) for n in range(4)])
    done = replay(hosts[0], "-i", "rplk-a", "--rate", 1000, "--loop", 0, "-c", 10, "--json", path)
    assert done.returncode == 0
    summary = json.loads(done.stdout)
    assert (summary["packets"], summary["rounds"]) == (10, 3)
    assert summary["duration_ms"] >= 9.0
    assert [IP(frame.data[14:]).id for frame in arrived(wire)] == [0, 1, 2, 3] * 2 + [0, 1]

    assert replay(hosts[0], "-i", "rplk-a", "--fast", "--loop", 100, path).returncode == 0
    assert len(arrived(wire)) == 400


def test_what_the_interface_cannot_take_is_told_and_the_rest_goes(
    hosts: Hosts, wire: PacketLink, tmp_path: Path
) -> None:
    big = Ether(src=MAC_A, dst=MAC_B) / IP(src=A, dst=B) / UDP() / bytes(3000)
    path = save(tmp_path / "x.pcap", [(0, udp(1)), (1, big), (2, udp(2))])
    done = replay(hosts[0], "-i", "rplk-a", path)
    assert done.returncode == 1
    assert "1 packet not sent: 3042 bytes are more than its MTU of 1500 allows" in done.stdout
    assert len(arrived(wire)) == 2


def test_damaged_file_is_replayed_up_to_its_damage(
    hosts: Hosts, wire: PacketLink, tmp_path: Path
) -> None:
    path = save(tmp_path / "x.pcap", [(0, udp(1)), (1, udp(2))])
    path.write_bytes(path.read_bytes()[:-10])
    done = replay(hosts[0], "-i", "rplk-a", path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"rawproto replay: {path}: pcap at byte ")
    assert done.stderr.count("\n") == 1
    assert len(arrived(wire)) == 1


def test_interface_that_vanishes_ends_it_in_one_line(hosts: Hosts, tmp_path: Path) -> None:
    hosts[0].ip("link add rplk-c type veth peer name rplk-d", "link set rplk-c up")
    path = save(tmp_path / "x.pcap", [(0, udp(1)), (1, udp(2))])
    hosts[0].ip("link set rplk-c down")
    done = replay(hosts[0], "-i", "rplk-c", path)
    hosts[0].ip("link del rplk-c")
    assert done.returncode == 2
    assert done.stderr == "rawproto replay: send by rplk-c: Network is down\n"


def test_written_capture_is_what_would_be_sent_and_when(hosts: Hosts, tmp_path: Path) -> None:
    path = save(tmp_path / "x.pcap", [(0, udp(1)), (10, udp(2))])
    out = tmp_path / "out.pcap"
    options = ["--speed", 10, "--rewrite", f"{A}=10.1.1.1", "-w", out]
    assert replay(hosts[0], *options, path).returncode == 0
    found = list(read(out))
    assert [packet.time_ns - 10**18 for packet in found] == [0, MS]
    assert [IP(packet.data[14:]).src for packet in found] == ["10.1.1.1"] * 2
