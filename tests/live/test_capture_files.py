"""Captures into files: what was sent is in them, as scapy, tcpdump and tshark read it."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.utils import PcapNgReader, RawPcapNgReader, RawPcapReader

from rawproto import lab, read
from rawproto.errors import LinkError, UsageError
from rawproto.filter.assembler import assemble
from tests.live.capturing import ASSORTED, capture, finish, quiet_pair, send
from tests.live.pinging import set_sysctl

UDP_ONLY = assemble(
    """
        ldh [12]
        jne #0x0800, drop
        ldb [23]
        jne #17, drop
        ret #-1
    drop:
        ret #0
    """
)


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with quiet_pair() as network:
        yield network


@pytest.fixture
def h1(network: lab.Network) -> lab.LiveHost:
    return network.host("h1")


@pytest.fixture
def h2(network: lab.Network) -> lab.LiveHost:
    return network.host("h2")


def frames_in(path: Path) -> list[bytes]:
    """The packets of a file as scapy reads them."""
    reader = RawPcapNgReader if path.suffix == ".pcapng" else RawPcapReader
    with reader(str(path)) as packets:
        return [data for data, _ in packets]


def tshark(path: Path, *fields: str) -> list[list[str]]:
    command = ["tshark", "-n", "-r", str(path), "-Tfields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def tcpdump(path: Path, *options: str) -> list[str]:
    command = ["tcpdump", "-nr", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    # What it knows nothing about it dumps, on lines of their own.
    return [line for line in done.stdout.splitlines() if not line.startswith("\t")]


@pytest.mark.parametrize("name", ["out.pcap", "out.pcapng"])
def test_what_was_sent_is_in_the_file_and_nothing_else(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    session = capture(h2, str(path))
    # Each first packet of an interface and each VLAN tag takes another way than the rest.
    send(h1, ASSORTED * 30)
    finish(session)
    assert frames_in(path) == ASSORTED * 30
    ring = session.source.ring
    assert (session.captured, ring.received, ring.dropped) == (len(ASSORTED) * 30,) * 2 + (0,)
    assert len(tcpdump(path)) == session.captured


def test_our_own_reader_agrees_and_has_times_in_order(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path
) -> None:
    for name in ("out.pcap", "out.pcapng"):
        session = capture(h2, str(tmp_path / name))
        send(h1, ASSORTED)
        finish(session)
        with read(tmp_path / name) as reader:
            packets = list(reader)
        assert reader.damage is None
        assert [packet.data for packet in packets] == ASSORTED
        assert [packet.original_length for packet in packets] == [len(each) for each in ASSORTED]
        times = [packet.time_ns for packet in packets]
        assert times == sorted(times)
        assert any(each % 1000 for each in times)


def test_pcapng_says_interface_direction_comment_and_counts(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path
) -> None:
    path = tmp_path / "out.pcapng"
    session = capture(h1, str(path), comment="of a test")
    send(h1, ASSORTED[:3])
    send(h2, ASSORTED[3:5])
    finish(session)
    told = tshark(path, "frame.interface_name", "frame.packet_flags_direction")
    assert told == [["eth0", "0x00000002"]] * 3 + [["eth0", "0x00000001"]] * 2
    with read(path) as reader:
        assert [packet.direction for packet in reader] == ["out"] * 3 + ["in"] * 2
    described = reader.interfaces[0]
    assert (described.name, described.link_type, described.snaplen) == ("eth0", 1, 262144)
    assert described.mac_addr == "02:00:00:00:01:01"
    (statistics,) = reader.statistics.values()
    assert (statistics.accepted_by_filter, statistics.delivered) == (5, 5)
    assert statistics.dropped_by_os == 0
    told = subprocess.run(["capinfos", str(path)], capture_output=True, text=True).stdout
    assert re.search(r"Capture comment: +of a test\n", told)


def test_filter_holds_in_the_kernel(h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    session = capture(h2, str(path), filter=UDP_ONLY)
    send(h1, ASSORTED)
    finish(session)
    # The kernel takes a VLAN tag out before a filter sees the frame: the program finds 7, too.
    wanted = [ASSORTED[at] for at in (0, 1, 7)]
    assert frames_in(path) == wanted
    assert session.source.ring.received == len(wanted)


@pytest.mark.parametrize(
    ("expression", "places"),
    [
        ("udp port 53", [0, 1, 4]),
        ("arp or icmp6", [5, 6]),
        ("vlan 100", [7]),
        ("vlan 7 and vlan 8 and udp", [8]),
        ("not ip and not ip6 and not vlan", [6, 9]),
        ("ether broadcast", [6]),
        ("tcp[tcpflags] & tcp-syn != 0", [2]),
    ],
)
@pytest.mark.parametrize("interface", ["eth0", "any"])
def test_filter_language_holds_on_the_wire(
    h1: lab.LiveHost,
    h2: lab.LiveHost,
    tmp_path: Path,
    expression: str,
    places: list[int],
    interface: str,
) -> None:
    path = tmp_path / "out.pcapng"
    session = capture(h2, str(path), interface, filter=expression)
    send(h1, ASSORTED)
    finish(session)
    assert frames_in(path) == [ASSORTED[at] for at in places]
    assert session.source.ring.received == len(places)
    with read(path) as reader:
        assert len(list(reader)) == len(places)
    assert reader.interfaces[0].filter == expression


@pytest.mark.parametrize("name", ["out.pcap", "out.pcapng"])
def test_snaplen_cuts_and_the_length_is_kept(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path, name: str
) -> None:
    session = capture(h2, str(tmp_path / name), snaplen=61)
    send(h1, ASSORTED)
    finish(session)
    with read(tmp_path / name) as reader:
        packets = list(reader)
    assert [packet.data for packet in packets] == [each[:61] for each in ASSORTED]
    assert [packet.original_length for packet in packets] == [len(each) for each in ASSORTED]


def test_count_is_exact(h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    with capture(h2, str(path), count=7) as session:
        send(h1, ASSORTED)
        session.run()
    assert frames_in(path) == ASSORTED[:7]
    assert session.captured == 7


# --- several interfaces --------------------------------------------------------------------------


@pytest.fixture
def tunnel(h2: lab.LiveHost) -> Iterator[int]:
    """A device of h2 without link-layer header, tun0: what is written here comes in by it."""
    with h2.entered():
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001))
    set_sysctl(h2, "ipv6/conf/tun0/disable_ipv6", "1")
    h2.run(["ip", "link", "set", "tun0", "up"], check=True)
    yield descriptor
    os.close(descriptor)


def test_any_keeps_every_interface_apart_with_its_own_link_type(
    h1: lab.LiveHost, h2: lab.LiveHost, tunnel: int, tmp_path: Path
) -> None:
    path = tmp_path / "out.pcapng"
    session = capture(h2, str(path), "any")
    bare = ASSORTED[0][14:]
    send(h1, ASSORTED[:2])
    os.write(tunnel, bare)
    with h2.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.sendto(b"to myself", ("127.0.0.1", 9))
    send(h1, ASSORTED[2:4])
    finish(session)
    told = tshark(path, "frame.interface_name", "frame.encap_type", "udp.length")
    names = [name for name, _, _ in told]
    # The loopback's datagram once, though it leaves and comes; and the ICMP error about it.
    assert names == ["eth0", "eth0", "tun0", "lo", "lo", "eth0", "eth0"]
    assert [encapsulation for _, encapsulation, _ in told] == ["1", "1", "7", "1", "1", "1", "1"]
    with PcapNgReader(str(path)) as packets:
        assert bytes(list(packets)[2]) == bare


def test_any_as_pcap_is_cooked_with_the_vlan_tag_in_place(
    h1: lab.LiveHost, h2: lab.LiveHost, tunnel: int, tmp_path: Path
) -> None:
    path = tmp_path / "out.pcap"
    session = capture(h2, str(path), "any")
    send(h1, ASSORTED)
    os.write(tunnel, ASSORTED[0][14:])
    finish(session)
    with read(path) as reader:
        packets = list(reader)
    assert {packet.link_type for packet in packets} == {276}
    payloads = [packet.data[:2] + packet.data[20:] for packet in packets]
    assert payloads == [each[12:] for each in ASSORTED] + [ASSORTED[0][12:]]
    assert [packet.original_length for packet in packets] == [len(p.data) for p in packets]
    lines = tcpdump(path)
    assert len(lines) == len(packets)
    assert "In  IP 192.0.2.1.53 > 192.0.2.2.4000: " in lines[-1]
    assert "vlan 100, p 3" in "".join(tcpdump(path, "-e"))


def test_several_interfaces_are_captured_and_no_other(
    h1: lab.LiveHost, h2: lab.LiveHost, tunnel: int, tmp_path: Path
) -> None:
    path = tmp_path / "out.pcapng"
    session = capture(h2, str(path), "tun0", "lo")
    send(h1, ASSORTED)
    os.write(tunnel, ASSORTED[0][14:])
    finish(session)
    assert tshark(path, "frame.interface_name") == [["tun0"]]
    with read(path) as reader:
        assert len(list(reader)) == 1
    assert sorted(each.name for each in reader.interfaces) == ["lo", "tun0"]


# --- rotation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pcap", ".pcapng"])
def test_rotation_by_size_begins_a_file_when_one_is_full(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path, suffix: str
) -> None:
    session = capture(h2, str(tmp_path / f"out{suffix}"), rotate_bytes=10_000)
    send(h1, ASSORTED * 30)
    finish(session)
    files = sorted(tmp_path.iterdir())
    assert len(files) == session.files > 5
    assert [file.name[:9] for file in files[:2]] == ["out_00001", "out_00002"]
    # Full, and no fuller than by the packet that filled it.
    largest = max(map(len, ASSORTED)) + 300
    assert all(10_000 <= file.stat().st_size <= 10_000 + largest for file in files[:-1])
    assert [frame for file in files for frame in frames_in(file)] == ASSORTED * 30


def test_rotation_keeps_the_last_files(h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path) -> None:
    session = capture(h2, str(tmp_path / "out.pcap"), rotate_bytes=10_000, keep=3)
    send(h1, ASSORTED * 30)
    finish(session)
    files = sorted(tmp_path.iterdir())
    assert [int(file.name[4:9]) for file in files] == [
        session.files - 2,
        session.files - 1,
        session.files,
    ]
    kept = [frame for file in files for frame in frames_in(file)]
    assert kept == (ASSORTED * 30)[-len(kept) :]


def test_rotation_by_time_goes_by_the_packets_own_times(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path
) -> None:
    period_ns = 1_000_000
    session = capture(h2, str(tmp_path / "out.pcap"), rotate_ns=period_ns)
    for _ in range(20):
        send(h1, ASSORTED)
    finish(session)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 1
    times = [[packet.time_ns for packet in read(file)] for file in files]
    assert sum(map(len, times)) == len(ASSORTED) * 20
    assert all(each[-1] - each[0] < period_ns for each in times if each)
    together = [time_ns for each in times for time_ns in each]
    assert together == sorted(together)


# --- what cannot be ------------------------------------------------------------------------------


def test_what_finds_no_room_in_the_ring_is_counted(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path
) -> None:
    path = tmp_path / "out.pcapng"
    session = capture(h2, str(path), buffer_bytes=1 << 20)
    large = ASSORTED[3]
    send(h1, [large] * 1500)
    finish(session)
    ring = session.source.ring
    assert ring.received == 1500
    assert 0 < ring.dropped < 1500
    assert session.captured == 1500 - ring.dropped == len(frames_in(path))
    with read(path) as reader:
        assert len(list(reader)) == session.captured
    assert reader.statistics[0].dropped_by_os == ring.dropped


def test_interface_that_vanishes_ends_the_capture_after_what_it_brought(
    h1: lab.LiveHost, tmp_path: Path
) -> None:
    path = tmp_path / "out.pcapng"
    h1.run(["ip", "link", "add", "going", "type", "veth", "peer", "name", "gone"], check=True)
    for name in ("going", "gone"):
        h1.run(["ip", "link", "set", name, "up"], check=True)
    with capture(h1, str(path), "going") as session:
        send(h1, ASSORTED, "gone")
        h1.run(["ip", "link", "del", "going"], check=True)
        with pytest.raises(LinkError, match="going: the interface is gone"):
            session.run()
    assert [frame for frame in frames_in(path) if frame in ASSORTED] == ASSORTED


def test_interface_that_goes_down_is_waited_for(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path
) -> None:
    path = tmp_path / "out.pcap"
    with capture(h2, str(path), count=4) as session:
        send(h1, ASSORTED[:2])
        h2.run(["ip", "link", "set", "eth0", "down"], check=True)
        h2.run(["ip", "link", "set", "eth0", "up"], check=True)
        # The kernel tells the other end by a work queue; asked in this way, at once.
        while "Link detected: yes" not in h1.run(["ethtool", "eth0"], check=True).stdout:
            pass
        send(h1, ASSORTED[:2])
        session.run()
    assert frames_in(path) == ASSORTED[:2] * 2


@pytest.mark.parametrize(
    ("interfaces", "options", "words"),
    [
        (("nix",), {}, "interface nix: No such device"),
        (("any", "lo"), {}, "any: is all interfaces, so name no other beside it"),
        (("lo",), {"snaplen": 262145}, "snaplen 262145: must be 1 to 262144"),
        (("lo",), {"comment": "so"}, "a comment: only pcapng files can carry it"),
        (("lo",), {"keep": 2}, "rotation: files to keep, but no size and no time to rotate by"),
        (("lo",), {"count": 0}, "the count to capture must be above 0"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    h1: lab.LiveHost, tmp_path: Path, interfaces: tuple[str, ...], options: dict, words: str
) -> None:
    with pytest.raises((UsageError, LinkError)) as caught:
        capture(h1, str(tmp_path / "out.pcap"), *interfaces, **options)
    assert str(caught.value) == words
    assert not list(tmp_path.iterdir())


def test_count_that_ends_with_a_full_file_begins_no_other(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path
) -> None:
    size = 24 + 2 * 16 + sum(map(len, ASSORTED[:2]))
    with capture(h2, str(tmp_path / "out.pcap"), rotate_bytes=size, count=2) as session:
        send(h1, ASSORTED)
        session.run()
    (file,) = tmp_path.iterdir()
    assert frames_in(file) == ASSORTED[:2]


def test_directory_that_goes_away_between_two_files_is_a_loss_that_is_told(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path
) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    with capture(h2, str(directory / "out.pcap"), rotate_bytes=1, keep=1) as session:
        (file,) = directory.iterdir()
        file.unlink()
        directory.rmdir()
        send(h1, ASSORTED)
        session.run()
    assert (session.captured, session.lost) == (0, len(ASSORTED))
    assert isinstance(session.failure, FileNotFoundError)
