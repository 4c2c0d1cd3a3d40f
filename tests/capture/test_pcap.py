"""pcap files, read and written."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.capture import CapturedPacket, PcapReader, PcapWriter, read
from rawproto.errors import EmitError, MalformedError, TruncatedError, UsageError, WireError
from tests.capture.build import pcap

SECOND = 10**9


def reader_of(data: bytes) -> PcapReader:
    reader = read(io.BytesIO(data))
    assert isinstance(reader, PcapReader)
    return reader


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("magic", "unit_ns"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1), (0xA1B2CD34, 1000)]
)
def test_both_byte_orders_and_all_magics_are_read(order: str, magic: int, unit_ns: int) -> None:
    reader = reader_of(
        pcap((1, 2, b"one"), (4_000_000_000, 999_999, b""), order=order, magic=magic)
    )
    assert reader.link_type == 1
    assert reader.interfaces[0].snaplen == 65535
    assert reader.interfaces[0].ticks_per_second == SECOND // unit_ns
    assert list(reader) == [
        CapturedPacket(time_ns=SECOND + 2 * unit_ns, data=b"one"),
        CapturedPacket(time_ns=4_000_000_000 * SECOND + 999_999 * unit_ns, data=b""),
    ]
    assert reader.damage is None


def test_bits_about_the_fcs_are_no_link_type() -> None:
    assert reader_of(pcap(link_type=0x3400_0065)).link_type == 101


def test_a_packet_cut_by_the_snaplen_keeps_its_original_length() -> None:
    record = struct.pack("<IIII", 0, 0, 2, 1500) + b"ab"
    [packet] = reader_of(pcap() + record)
    assert (packet.data, packet.original_length) == (b"ab", 1500)


def test_more_than_a_million_microseconds_carry_over() -> None:
    [packet] = reader_of(pcap((1, 2_500_000, b"")))
    assert packet.time_ns == 3_500_000_000


def test_each_truncation_keeps_what_came_before_and_tells_where() -> None:
    records = [(1, 0, b"first"), (2, 0, b""), (3, 0, b"the third")]
    whole = pcap(*records)
    starts = [24, 24 + 16 + 5, 24 + 16 + 5 + 16, len(whole)]
    for end in range(len(whole)):
        if end < 24:
            with pytest.raises(TruncatedError) as refused:
                reader_of(whole[:end])
            assert (refused.value.layer, refused.value.got) == ("pcap", end)
            continue
        reader = reader_of(whole[:end])
        complete = sum(start <= end for start in starts[1:])
        assert [p.data for p in reader] == [data for _, _, data in records[:complete]]
        if end == starts[complete]:
            assert reader.damage is None
        else:
            assert isinstance(reader.damage, TruncatedError)
            assert reader.damage.layer == "pcap"
            assert reader.damage.offset == starts[complete]
            assert reader.damage.got == end - starts[complete]
            assert reader.damage.needed > reader.damage.got


def test_a_length_that_cannot_be_is_damage_not_memory() -> None:
    lie = struct.pack("<IIII", 0, 0, 0xFFFF_FFFF, 60) + bytes(60)
    reader = reader_of(pcap((1, 0, b"good")) + lie)
    assert [p.data for p in reader] == [b"good"]
    assert isinstance(reader.damage, MalformedError)
    assert reader.damage.offset == 24 + 20 + 8
    assert "4294967295" in reader.damage.reason


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "0 there"),
        (b"\xd4", "1 there"),
        (b"PK\x03\x04" + bytes(40), "not a capture file: it begins with 504b0304"),
        (pcap(version=(2, 3)), "version 2.3"),
        (pcap(version=(543, 0)), "version 543.0"),
    ],
)
def test_what_is_no_capture_is_refused_at_once(data: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        reader_of(data)


@given(st.binary(max_size=200), st.integers(0, 3), st.data())
def test_damaged_files_raise_nothing_once_opened(
    junk: bytes, packets: int, data: st.DataObject
) -> None:
    whole = bytearray(pcap(*[(n, n, bytes(n * 7)) for n in range(packets)]) + junk)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(4, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    try:
        reader = reader_of(bytes(whole))
    except WireError:
        return
    assert all(isinstance(packet.data, bytes) for packet in reader)


def written(*packets: CapturedPacket, **options: object) -> bytes:
    file = io.BytesIO()
    with PcapWriter(file, **options) as writer:
        for packet in packets:
            writer.write(packet)
    assert writer.bytes_written == len(file.getvalue())
    return file.getvalue()


def test_bytes_are_as_the_format_has_them() -> None:
    packet = CapturedPacket(time_ns=5 * SECOND + 7, data=b"data", original_length=9, link_type=101)
    assert written(packet) == (
        bytes.fromhex("4d3cb2a1 0200 0400 00000000 00000000 00000400 65000000")
        + bytes.fromhex("05000000 07000000 04000000 09000000")
        + b"data"
    )
    micro = written(packet, nanoseconds=False)
    assert micro[:4] == bytes.fromhex("d4c3b2a1")
    assert micro[24:32] == bytes.fromhex("05000000 00000000")


@given(
    st.lists(
        st.builds(
            CapturedPacket,
            time_ns=st.integers(0, 2**32 * SECOND - 1),
            data=st.binary(max_size=40),
            original_length=st.none() | st.integers(0, 2**32 - 1),
            link_type=st.just(228),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_written_is_read_again(packets: list[CapturedPacket]) -> None:
    reader = reader_of(written(*packets))
    assert list(reader) == packets
    assert reader.link_type == 228
    assert reader.damage is None


def test_a_file_without_packets_has_a_header_all_the_same() -> None:
    assert reader_of(written()).link_type == 1
    assert reader_of(written(link_type=276)).link_type == 276
    assert list(reader_of(written())) == []


def test_one_file_has_one_link_type() -> None:
    raw = CapturedPacket(time_ns=0, data=b"", link_type=101)
    ethernet = CapturedPacket(time_ns=0, data=b"", link_type=1)
    with pytest.raises(EmitError, match="of link type 101; pcapng can mix"):
        written(raw, ethernet)
    with pytest.raises(EmitError, match="of link type 1;"):
        written(raw, link_type=1)
    with pytest.raises(UsageError, match="link type 65536"):
        written(link_type=65536)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"time_ns": -1}, "time_ns"),
        ({"time_ns": 2**32 * SECOND}, "time_ns"),
        ({"original_length": -1}, "original_length"),
        ({"original_length": 2**32}, "original_length"),
        ({"data": bytes(262_145)}, "data"),
        ({"link_type": 65536}, "link_type"),
    ],
)
def test_what_the_format_cannot_say_is_refused_by_name(fields: dict, name: str) -> None:
    with pytest.raises(EmitError) as refused:
        written(CapturedPacket(**{"time_ns": 0, "data": b""} | fields))
    assert refused.value.field == f"CapturedPacket.{name}"
