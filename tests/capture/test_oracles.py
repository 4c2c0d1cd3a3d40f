"""Other readers and writers of captures, both ways: scapy, dpkt, and tshark where it is."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import dpkt
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgReader as ScapyPcapNgReader
from scapy.utils import PcapNgWriter as ScapyPcapNgWriter
from scapy.utils import PcapReader as ScapyPcapReader
from scapy.utils import PcapWriter as ScapyPcapWriter

from rawproto.capture import (
    TLS_KEY_LOG,
    CapturedPacket,
    Interface,
    InterfaceStatistics,
    PcapngReader,
    PcapngWriter,
    PcapWriter,
    Section,
    read,
    write,
)

SECOND = 10**9
FRAMES = [
    bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP() / UDP() / bytes(n))
    for n in range(8)
]
PACKETS = [
    CapturedPacket(
        time_ns=1_700_000_000 * SECOND + 123_456_789 * n,
        data=frame,
        original_length=len(frame) + 10 * (n % 2),
        direction=("", "in", "out")[n % 3],
        comment=("", "caf\u00e9")[n % 2],
    )
    for n, frame in enumerate(FRAMES)
]
# What is left of them in a pcap file.
PLAIN = [
    CapturedPacket(time_ns=p.time_ns, data=p.data, original_length=p.original_length)
    for p in PACKETS
]


def nanoseconds(time: object) -> int:
    """scapy's and tshark's times are decimal numbers."""
    seconds, _, fraction = str(time).partition(".")
    return int(seconds) * SECOND + int(fraction.ljust(9, "0"))


def test_scapy_reads_our_pcap(tmp_path: Path) -> None:
    write(tmp_path / "x.pcap", PACKETS)
    with ScapyPcapReader(str(tmp_path / "x.pcap")) as reader:
        found = [(nanoseconds(p.time), bytes(p), p.wirelen) for p in reader]
    assert found == [(p.time_ns, p.data, p.original_length) for p in PACKETS]


def test_we_read_scapys_pcap(tmp_path: Path) -> None:
    for nano in (True, False):
        for order in ("<", ">"):
            path = tmp_path / "x.pcap"
            with ScapyPcapWriter(str(path), nano=nano, endianness=order, linktype=1) as writer:
                writer.write_header(None)
                for p in PACKETS:
                    seconds, rest = divmod(p.time_ns, SECOND)
                    unit = 1 if nano else 1000
                    writer.write_packet(
                        p.data, sec=seconds, usec=rest // unit, wirelen=p.original_length
                    )
            with read(path) as reader:
                found = [(p.time_ns, p.data, p.original_length) for p in reader]
            assert found == [(p.time_ns // unit * unit, p.data, p.original_length) for p in PACKETS]


def test_scapy_reads_our_pcapng(tmp_path: Path) -> None:
    write(
        tmp_path / "x.pcapng", PACKETS, interfaces=[Interface(link_type=1, name="eth7", snaplen=99)]
    )
    with ScapyPcapNgReader(str(tmp_path / "x.pcapng")) as reader:
        found = list(reader)
    assert [bytes(p) for p in found] == FRAMES
    assert [nanoseconds(p.time) for p in found] == [p.time_ns for p in PACKETS]
    assert [p.wirelen for p in found] == [p.original_length for p in PACKETS]
    assert [p.direction or 0 for p in found] == [n % 3 for n in range(8)]
    assert [(p.comments or [b""])[0].decode() for p in found] == [p.comment for p in PACKETS]
    assert {p.sniffed_on for p in found} == {"eth7"}


def test_we_read_scapys_pcapng(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    with ScapyPcapNgWriter(str(path)) as writer:
        for p in PACKETS:
            frame = Ether(p.data)
            frame.time = p.time_ns // 1000 / 1e6
            frame.sniffed_on = "eth7"
            frame.comment = p.comment
            frame.direction = ("", "in", "out").index(p.direction)
            writer.write(frame)
    reader = read(path)
    found = list(reader)
    assert reader.damage is None
    assert [p.data for p in found] == FRAMES
    assert [p.direction for p in found] == [p.direction for p in PACKETS]
    assert [p.comment for p in found] == [p.comment for p in PACKETS]
    # A float of scapy's holds a time of today to less than a microsecond.
    assert all(abs(p.time_ns - q.time_ns) <= 1000 for p, q in zip(found, PACKETS, strict=True))
    assert [reader.interfaces[p.interface].name for p in found] == ["eth7"] * 8


def test_dpkt_reads_our_pcap() -> None:
    file = io.BytesIO()
    write(file, PACKETS, format="pcap")
    file.seek(0)
    found = [(nanoseconds(time), data) for time, data in dpkt.pcap.Reader(file)]
    assert found == [(p.time_ns, p.data) for p in PACKETS]
    file = io.BytesIO()
    with PcapWriter(file, nanoseconds=False) as writer:
        for p in PACKETS:
            writer.write(p)
    file.seek(0)
    times = [time for time, _ in dpkt.pcap.Reader(file)]
    assert times == pytest.approx([p.time_ns / SECOND for p in PACKETS], abs=2e-6)


def test_we_read_dpkts_pcap() -> None:
    file = io.BytesIO()
    writer = dpkt.pcap.Writer(file, nano=True)
    for p in PACKETS:
        writer.writepkt_time(p.data, p.time_ns / SECOND)
    file.seek(0)
    found = list(read(file))
    assert [p.data for p in found] == FRAMES
    assert all(abs(p.time_ns - q.time_ns) <= 1000 for p, q in zip(found, PACKETS, strict=True))


def test_dpkt_reads_our_pcapng() -> None:
    file = io.BytesIO()
    write(file, PACKETS, format="pcapng")
    file.seek(0)
    found = list(dpkt.pcapng.Reader(file))
    assert [data for _, data in found] == FRAMES
    assert [float(time) for time, _ in found] == pytest.approx(
        [p.time_ns / SECOND for p in PACKETS], abs=1e-6
    )


def test_we_read_dpkts_pcapng() -> None:
    file = io.BytesIO()
    writer = dpkt.pcapng.Writer(file)
    for p in PACKETS:
        writer.writepkt(p.data, p.time_ns / SECOND)
    file.seek(0)
    reader = read(file)
    found = list(reader)
    assert [p.data for p in found] == FRAMES
    assert all(abs(p.time_ns - q.time_ns) <= 1000 for p, q in zip(found, PACKETS, strict=True))
    assert reader.interfaces[0].ticks_per_second == 10**6


needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


def tshark(path: Path, *fields: str) -> list[list[str]]:
    """The fields of each packet, as tshark sees them."""
    names = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", *names]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [line.split("\t") for line in out.splitlines()]


@needs_tshark
def test_tshark_reads_our_pcapng(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    interfaces = [Interface(link_type=1, name="eth7", description="uplink")]
    with path.open("wb") as file:
        head = Section(os="Linux", application="rawproto", comment="by hand")
        writer = PcapngWriter(file, interfaces, section=head)
        writer.write_secrets(TLS_KEY_LOG, b"# no keys\n")
        for p in PACKETS:
            writer.write(p)
        writer.write_custom(32473, b"anything")
        writer.write_statistics(InterfaceStatistics(interface=0, received=8, dropped_by_os=0))
        writer.close()
    fields = ["time_epoch", "cap_len", "len", "comment", "packet_flags_direction", "interface_name"]
    # tshark shows custom blocks too, as packets without a time.
    found = [row for row in tshark(path, *[f"frame.{field}" for field in fields]) if row[0]]
    assert [
        (nanoseconds(time), int(captured), int(length), comment, name)
        for time, captured, length, comment, _, name in found
    ] == [(p.time_ns, len(p.data), p.original_length, p.comment, "eth7") for p in PACKETS]
    # Without the option there is no field, and zero says unknown.
    assert [int(row[4], 0) if row[4] else 0 for row in found] == [n % 3 for n in range(8)]


@needs_tshark
def test_tshark_reads_our_pcap(tmp_path: Path) -> None:
    write(tmp_path / "x.pcap", PACKETS)
    found = tshark(tmp_path / "x.pcap", "frame.time_epoch", "frame.cap_len", "frame.len")
    assert [
        (nanoseconds(time), int(captured), int(length)) for time, captured, length in found
    ] == [(p.time_ns, len(p.data), p.original_length) for p in PACKETS]


@needs_tshark
@pytest.mark.skipif(shutil.which("editcap") is None, reason="editcap is not installed")
def test_what_wireshark_rewrites_is_read_as_we_wrote_it(tmp_path: Path) -> None:
    interfaces = [Interface(link_type=1, name="eth7", description="uplink", snaplen=65535)]
    write(tmp_path / "ours.pcapng", PACKETS, interfaces=interfaces)

    def editcap(format: str) -> Path:
        path = tmp_path / f"theirs.{format}"
        command = ["editcap", "-F", format, str(tmp_path / "ours.pcapng"), str(path)]
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        return path

    reader = read(editcap("pcapng"))
    assert isinstance(reader, PcapngReader)
    assert list(reader) == PACKETS
    assert reader.damage is None
    assert reader.interfaces == interfaces
    assert list(read(editcap("nsecpcap"))) == PLAIN
    assert [p.time_ns for p in read(editcap("pcap"))] == [p.time_ns // 1000 * 1000 for p in PACKETS]
    # The variant with 8 more bytes a record, of which scapy and dpkt know nothing.
    assert [p.data for p in read(editcap("modpcap"))] == FRAMES
