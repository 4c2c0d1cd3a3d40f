"""Capture files by name: formats, pipes, gzip, memory, and whose the files are."""

from __future__ import annotations

import gzip
import io
import os
import random
import tracemalloc
import zlib
from pathlib import Path

import pytest

from rawproto.capture import (
    CapturedPacket,
    Interface,
    PcapngReader,
    PcapngWriter,
    PcapReader,
    PcapWriter,
    open_writer,
    read,
    write,
)
from rawproto.capture.files import Format
from rawproto.errors import EmitError, MalformedError, TruncatedError, UsageError
from tests.capture.build import interface, packet, pcap, section

PACKETS = [
    CapturedPacket(time_ns=10**18 + number, data=bytes(number * 9), link_type=101)
    for number in range(20)
]


@pytest.mark.parametrize(
    ("name", "reader_class"),
    [("x.pcap", PcapReader), ("x.cap", PcapReader), ("X.PCAPNG", PcapngReader)],
)
def test_the_suffix_tells_the_format_to_write(
    tmp_path: Path, name: str, reader_class: type
) -> None:
    path = tmp_path / name
    assert write(path, PACKETS) == path.stat().st_size
    assert write(str(path), iter(PACKETS)) == path.stat().st_size
    with read(str(path)) as reader:
        assert type(reader) is reader_class
        assert list(reader) == PACKETS


def test_the_beginning_tells_the_format_to_read(tmp_path: Path) -> None:
    path = tmp_path / "capture.bin"
    for format in ("pcapng", "pcap"):
        write(path, PACKETS, format=format)
        with read(path) as reader:
            assert reader.format == format


def test_a_format_that_nobody_names_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.txt: name it \.pcap or \.pcapng"):
        write(tmp_path / "x.txt", PACKETS)
    assert not (tmp_path / "x.txt").exists()
    with pytest.raises(UsageError, match="give the format"):
        open_writer(io.BytesIO())
    with pytest.raises(UsageError, match="name it"):
        open_writer(tmp_path / "x.pcap", format="snoop")


def test_a_copy_keeps_interfaces_and_all_that_packets_say(tmp_path: Path) -> None:
    interfaces = [Interface(link_type=1, name="eth0"), Interface(link_type=101, name="tun0")]
    packets = [
        CapturedPacket(time_ns=1, data=b"a", interface=1, link_type=101, direction="out"),
        CapturedPacket(time_ns=2, data=b"b", interface=0, comment="b"),
    ]
    write(tmp_path / "one.pcapng", packets, interfaces=interfaces)
    write(tmp_path / "two.pcapng", read(tmp_path / "one.pcapng"))
    copy = read(tmp_path / "two.pcapng")
    assert list(copy) == packets
    assert copy.interfaces == interfaces
    assert (tmp_path / "one.pcapng").read_bytes() == (tmp_path / "two.pcapng").read_bytes()


def test_writing_that_fails_half_way_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    with pytest.raises(EmitError):
        write(path, [*PACKETS, CapturedPacket(time_ns=-1, data=b"", link_type=101)])
    reader = read(path)
    assert list(reader) == PACKETS
    assert reader.damage is None


@pytest.mark.parametrize("format", ["pcap", "pcapng"])
def test_many_packets_at_once_are_the_same_file_as_one_by_one(format: Format) -> None:
    packets = [
        CapturedPacket(time_ns=number, data=bytes(number % 300), interface=f"eth{number % 3}")
        for number in range(1000)
    ]
    together, alone = io.BytesIO(), io.BytesIO()
    with open_writer(together, format=format) as writer:
        writer.write_all(packets)
    with open_writer(alone, format=format) as other:
        for packet in packets:
            other.write(packet)
    assert [each.data for each in read(io.BytesIO(together.getvalue()))] == [
        each.data for each in packets
    ]
    if format == "pcap":  # pcapng may describe its interfaces earlier
        assert together.getvalue() == alone.getvalue()
    assert writer.bytes_written == other.bytes_written == len(together.getvalue())


def test_packets_before_one_that_is_refused_are_written_whole() -> None:
    """Also where they were not yet enough to go to the file together."""
    file = io.BytesIO()
    packets = [CapturedPacket(time_ns=0, data=bytes(10))] * 300
    bad = CapturedPacket(time_ns=0, data=b"", original_length=-1)
    with open_writer(file, format="pcap") as writer, pytest.raises(EmitError):
        writer.write_all([*packets, bad, *packets])
    reader = read(io.BytesIO(file.getvalue()))
    assert len(list(reader)) == 300
    assert reader.damage is None


def test_what_cannot_be_opened_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere.pcap")
    with pytest.raises(IsADirectoryError):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "no" / "where.pcap", PACKETS)


def test_a_file_of_the_callers_stays_open() -> None:
    file = io.BytesIO()
    assert write(file, PACKETS, format="pcapng") == len(file.getvalue())
    file.seek(0)
    with read(file) as reader:
        assert list(reader) == PACKETS
    assert not file.closed


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_that_was_read_or_refused_is_closed(tmp_path: Path) -> None:
    good, bad = tmp_path / "x.pcap", tmp_path / "bad.pcap"
    write(good, PACKETS)
    bad.write_bytes(b"no capture at all")
    before = descriptors()
    readers = [read(good), read(good)]
    list(readers[0])
    with pytest.raises(MalformedError):
        read(bad)
    assert descriptors() == before + 1
    next(readers[1])
    readers[1].close()
    assert descriptors() == before


def test_a_raw_file_is_not_written_to(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb", buffering=0) as raw:
        for writer in (PcapWriter, PcapngWriter):
            with pytest.raises(UsageError, match="buffered"):
                writer(raw)


@pytest.mark.parametrize("format", ["pcap", "pcapng"])
def test_packets_come_out_of_a_pipe_as_they_go_in(format: str) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb") as sink:
        writer = open_writer(sink, format=format)
        writer.write(PACKETS[0])
        writer.flush()
        reader = read(source)
        assert next(reader) == PACKETS[0]
        for packet_ in PACKETS[1:]:
            writer.write(packet_)
            writer.flush()
            assert next(reader) == packet_, "the pipe is still open for writing"
        sink.close()
        assert list(reader) == []
        assert reader.damage is None


class Dripping(io.RawIOBase):
    """A file that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.data.read(1)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("format", ["pcap", "pcapng"])
def test_bytes_may_come_one_by_one(format: str, compress) -> None:
    file = io.BytesIO()
    write(file, PACKETS, format=format)
    reader = read(Dripping(compress(file.getvalue())))
    assert list(reader) == PACKETS
    assert reader.damage is None


@pytest.mark.parametrize("format", ["pcap", "pcapng"])
def test_gzip_is_read_on_the_fly(tmp_path: Path, format: str) -> None:
    file = io.BytesIO()
    write(file, PACKETS, format=format)
    path = tmp_path / "x.pcap.gz"
    path.write_bytes(gzip.compress(file.getvalue()))
    assert list(read(path)) == PACKETS
    # Members may be joined, and padded with zeros as on tapes.
    half = len(file.getvalue()) // 2
    members = [gzip.compress(file.getvalue()[:half]), gzip.compress(file.getvalue()[half:])]
    path.write_bytes(b"".join(members) + bytes(1000))
    reader = read(path)
    assert list(reader) == PACKETS
    assert reader.damage is None


def test_damaged_gzip_ends_the_reading_with_what_came_before() -> None:
    rng = random.Random(1)
    whole = pcap(*[(number, 0, rng.randbytes(1000)) for number in range(2000)])
    compressed = gzip.compress(whole)
    reader = read(io.BytesIO(compressed[: len(compressed) // 2]))
    count = len(list(reader))
    assert 900 < count < 1100
    assert reader.damage is not None
    assert reader.damage.reason == "gzip ends early"
    assert reader.damage.offset == 24 + count * 1016, "where it is in what was inflated"
    for damaged in (compressed[:-8] + bytes(8), compressed + b"rubbish"):
        reader = read(io.BytesIO(damaged))
        assert len(list(reader)) == 2000
        assert "gzip is damaged" in str(reader.damage)
    with pytest.raises(TruncatedError):
        read(io.BytesIO(compressed[:12]))


def test_what_inflates_before_the_damage_is_read_to_the_last_packet() -> None:
    whole = pcap(*[(number, 0, bytes(1000)) for number in range(100)])
    deflate = zlib.compressobj(wbits=31)
    compressed = deflate.compress(whole) + deflate.flush(zlib.Z_FULL_FLUSH)
    reader = read(io.BytesIO(compressed + b"\xff" * 5000))  # no deflate block begins so
    assert len(list(reader)) == 100
    assert reader.damage is not None
    assert reader.damage.offset == len(whole)
    assert reader.damage.reason.startswith("gzip is damaged")


class Endless(io.RawIOBase):
    """A file of one header and a great many times the same record, counted."""

    def __init__(self, header: bytes, record: bytes, times: int) -> None:
        self.parts = iter([header, *[record * 100] * (times // 100)])

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return next(self.parts, b"")


@pytest.mark.parametrize(
    ("header", "record"),
    [
        (pcap(), pcap((1, 1, bytes(1400)))[24:]),
        (section() + interface(), packet(bytes(1400))),
    ],
    ids=["pcap", "pcapng"],
)
def test_memory_does_not_grow_with_the_file(header: bytes, record: bytes) -> None:
    reader = read(Endless(header, record, 20_000))
    tracemalloc.start()
    try:
        count = sum(1 for _ in reader)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 2_000_000, "of 28 megabytes"


def test_a_bomb_of_gzip_inflates_in_pieces() -> None:
    lie = pcap() + b"\0" * 8 + b"\xff\xff\xff\0" * 2  # a packet of 16 MB - 1
    bomb = gzip.compress(lie + bytes(60_000_000))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        reader = read(io.BytesIO(bomb))
        next(reader)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 << 24
