"""pcapng files, read."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.capture import (
    TLS_KEY_LOG,
    CapturedPacket,
    CustomBlock,
    Interface,
    InterfaceStatistics,
    PcapngReader,
    Secrets,
    Section,
    UnknownBlock,
    pcapng,
    read,
)
from rawproto.capture.source import Source
from rawproto.errors import MalformedError, TruncatedError, WireError
from tests.capture.build import block, interface, option, packet, section

NS = option(9, b"\x09")


def reader_of(*data: bytes) -> PcapngReader:
    reader = read(io.BytesIO(b"".join(data)))
    assert isinstance(reader, PcapngReader)
    return reader


@pytest.mark.parametrize("order", ["<", ">"])
def test_packets_of_either_byte_order_are_read(order: str) -> None:
    reader = reader_of(
        section(order),
        interface(order, 101, options=option(9, b"\x09", order)),
        packet(b"12345", 1_700_000_000_123_456_789, order=order, original=1500),
        packet(b"", 7, order=order),
    )
    assert reader.format == "pcapng"
    assert reader.link_type == 101, "known before the first packet is read"
    assert list(reader) == [
        CapturedPacket(
            time_ns=1_700_000_000_123_456_789, data=b"12345", original_length=1500, link_type=101
        ),
        CapturedPacket(time_ns=7, data=b"", link_type=101),
    ]
    assert reader.damage is None


def test_sections_follow_one_another_in_their_own_byte_order() -> None:
    reader = reader_of(
        section("<"),
        interface("<", 1, options=option(2, b"eth0")),
        packet(b"a"),
        section(">"),
        interface(">", 101, options=option(2, b"tun0", ">") + option(9, b"\x00", ">")),
        interface(">", 228, options=option(2, b"tun1", ">")),
        packet(b"b", 3, number=0, order=">"),
        packet(b"c", 3, number=1, order=">"),
    )
    packets = list(reader)
    assert [(p.data, p.interface, p.link_type) for p in packets] == [
        (b"a", 0, 1),
        (b"b", 1, 101),
        (b"c", 2, 228),
    ]
    assert [reader.interfaces[p.interface].name for p in packets] == ["eth0", "tun0", "tun1"]
    assert packets[1].time_ns == 3 * 10**9


@pytest.mark.parametrize(
    ("options", "ticks", "time_ns"),
    [
        (b"", 1_000_001, 1_000_001_000),
        (option(9, b"\x06"), 1_000_001, 1_000_001_000),
        (option(9, b"\x00"), 5, 5 * 10**9),
        (option(9, b"\x03"), 5, 5 * 10**6),
        (option(9, b"\x0c"), 1_999, 1),
        (option(9, b"\x80"), 5, 5 * 10**9),
        (option(9, b"\x81"), 3, 1_500_000_000),
        (option(9, b"\xa0"), 0x1_8000_0000, 1_500_000_000),
        (option(9, b"\xff"), 2**63, 0),
        (option(9, b"\x09") + option(14, struct.pack("<q", 100)), 7, 100 * 10**9 + 7),
        (option(9, b"\x09") + option(14, struct.pack("<q", -1)), 10**9 + 7, 7),
    ],
)
def test_times_are_exact_in_every_resolution(options: bytes, ticks: int, time_ns: int) -> None:
    [got] = reader_of(section(), interface(options=options), packet(b"", ticks))
    assert got.time_ns == time_ns


def test_an_interfaces_options_are_read() -> None:
    options = (
        option(1, b"one")
        + option(1, b"two")
        + option(2, "eth\u00e9\0".encode())
        + option(3, b"uplink")
        + option(6, bytes.fromhex("020000000001"))
        + option(8, struct.pack("<Q", 10**9))
        + option(9, b"\x89")
        + option(11, b"\x00icmp or arp")
        + option(12, b"Linux 6.18")
        + option(15, b"virtio")
        + option(2988, b"custom")
        + option(0, b"")
        + b"what stands behind the end is not read"
    )
    reader = reader_of(section(), interface(link_type=1, snaplen=96, options=options))
    assert reader.interfaces == [
        Interface(
            link_type=1,
            name="eth\u00e9",
            description="uplink",
            snaplen=96,
            ticks_per_second=512,
            mac_addr="02:00:00:00:00:01",
            speed_bps=10**9,
            filter="icmp or arp",
            os="Linux 6.18",
            hardware="virtio",
            comment="one\ntwo",
        )
    ]


def test_what_is_no_text_is_replaced_and_what_is_no_address_left_out() -> None:
    reader = reader_of(section(), interface(options=option(2, b"\xff\xfe") + option(6, b"123")))
    assert reader.interfaces[0].name == "\ufffd\ufffd"
    assert reader.interfaces[0].mac_addr == ""


def test_a_packets_direction_and_comments_are_read_and_its_drops_counted() -> None:
    def flags(value: int) -> bytes:
        return option(2, struct.pack("<I", value))

    reader = reader_of(
        section(),
        interface(),
        packet(b"in", options=flags(0b0101)),
        packet(b"out", options=flags(0xFF000002)),
        packet(b"none", options=flags(0)),
        packet(b"both", options=flags(3)),
        packet(b"said", options=option(1, b"hello") + flags(1) + option(1, b"world")),
        packet(b"lost", options=option(4, struct.pack("<Q", 5)) + option(0, b"")),
        packet(b"lost", options=option(4, struct.pack("<Q", 5)) + option(0, b"")),
    )
    packets = list(reader)
    assert [p.direction for p in packets] == ["in", "out", "", "", "in", "", ""]
    assert [p.comment for p in packets[3:6]] == ["", "hello\nworld", ""]
    assert reader.dropped == 10


def test_simple_packets_are_of_the_first_interface_and_have_no_time() -> None:
    body = struct.pack("<I", 100) + bytes(range(60))
    reader = reader_of(section(), interface(link_type=228, snaplen=60), block(3, body))
    assert list(reader) == [
        CapturedPacket(time_ns=0, data=bytes(range(60)), original_length=100, link_type=228)
    ]
    [got] = reader_of(section(), interface(), block(3, struct.pack("<I", 3) + b"abc"))
    assert got.data == b"abc"


def test_obsolete_packet_blocks_are_read() -> None:
    body = struct.pack("<HHIIII", 1, 3, 0, 1_500_000, 5, 9) + b"12345\0\0\0"
    options = option(1, b"old") + option(2, struct.pack("<I", 2))
    unknown = struct.pack("<HHIIII", 0, 0xFFFF, 0, 0, 0, 0)
    reader = reader_of(
        section(),
        interface(),
        interface(link_type=101),
        block(2, body + options),
        block(2, unknown),
    )
    assert list(reader) == [
        CapturedPacket(
            time_ns=1_500_000_000,
            data=b"12345",
            original_length=9,
            link_type=101,
            interface=1,
            direction="out",
            comment="old",
        ),
        CapturedPacket(time_ns=0, data=b""),
    ]
    assert reader.dropped == 3, "0xFFFF says that nobody knows"


def test_all_blocks_come_in_order() -> None:
    head = option(1, b"why") + option(2, b"x86") + option(3, b"Linux") + option(4, b"by hand")
    counts = b"".join(option(code, struct.pack("<Q", code * 10)) for code in (4, 5, 6, 7, 8))
    reader = reader_of(
        section(options=head),
        interface(options=NS),
        block(10, struct.pack("<II", TLS_KEY_LOG, 5) + b"keys!"),
        block(4, b"names"),
        packet(b"packet", 5),
        block(0xBAD, struct.pack("<I", 32473) + b"data"),
        block(0x40000BAD, struct.pack("<I", 32473) + b"mine"),
        block(0x777, b"????"),
        block(5, struct.pack("<III", 0, 0, 9) + counts + option(1, b"end")),
        block(5, struct.pack("<III", 0, 0, 10)),
    )
    assert list(reader.blocks()) == [
        Section(comment="why", hardware="x86", os="Linux", application="by hand"),
        Interface(link_type=1),
        Secrets(secrets_type=TLS_KEY_LOG, data=b"keys!"),
        UnknownBlock(block_type=4, body=b"names\0\0\0"),
        CapturedPacket(time_ns=5, data=b"packet"),
        CustomBlock(enterprise_number=32473, data=b"data"),
        CustomBlock(enterprise_number=32473, data=b"mine", copy=False),
        UnknownBlock(block_type=0x777, body=b"????"),
        InterfaceStatistics(
            time_ns=9,
            received=40,
            dropped_by_interface=50,
            accepted_by_filter=60,
            dropped_by_os=70,
            delivered=80,
            comment="end",
        ),
        InterfaceStatistics(time_ns=10),
    ]
    assert reader.damage is None
    assert reader.skipped_blocks == 2
    assert reader.secrets == [Secrets(secrets_type=TLS_KEY_LOG, data=b"keys!")]
    assert reader.statistics == {0: InterfaceStatistics(time_ns=10)}


def test_packets_alone_come_by_iteration_and_the_rest_is_kept() -> None:
    keys = block(10, struct.pack("<II", 1, 0))
    reader = reader_of(section(), interface(), packet(b"a"), keys, block(9, b""), packet(b"b"))
    assert next(reader).data == b"a"
    assert reader.secrets == []
    assert [p.data for p in reader] == [b"b"]
    assert reader.secrets == [Secrets(secrets_type=1, data=b"")]
    assert reader.skipped_blocks == 1


def test_a_file_may_describe_no_interface() -> None:
    reader = reader_of(section())
    assert reader.link_type is None
    assert list(reader) == []
    assert reader.damage is None


WHOLE = [
    section(options=option(4, b"app")),
    interface(options=NS),
    packet(b"first", 1),
    block(4, b""),
    packet(b"second", 2, options=option(1, b"!")),
    block(5, struct.pack("<III", 0, 0, 0)),
    packet(b"", 3),
]


def test_each_truncation_keeps_what_came_before_and_tells_where() -> None:
    starts = [sum(map(len, WHOLE[:n])) for n in range(len(WHOLE) + 1)]
    whole = b"".join(WHOLE)
    data = [b"first", b"second", b""]
    packets_at = [starts[3], starts[5], starts[7]]
    for end in range(len(whole)):
        if end < 4:
            with pytest.raises(TruncatedError):
                read(io.BytesIO(whole[:end]))
            continue
        if end < starts[1]:
            with pytest.raises(TruncatedError) as refused:
                reader_of(whole[:end])
            assert refused.value.layer == "pcapng"
            continue
        reader = reader_of(whole[:end])
        complete = sum(at <= end for at in packets_at)
        assert [p.data for p in reader] == data[:complete]
        before = max(start for start in starts if start <= end)
        if end == before:
            assert reader.damage is None
        else:
            assert isinstance(reader.damage, TruncatedError)
            assert (reader.damage.layer, reader.damage.offset) == ("pcapng", before)
            assert reader.damage.got == end - before < reader.damage.needed


BEFORE = section() + interface() + packet(b"good")


@pytest.mark.parametrize(
    ("bad", "offset", "complaint"),
    [
        (struct.pack("<III", 6, 0, 0), 4, "a block of 0 bytes"),
        (struct.pack("<III", 6, 8, 8), 4, "a block of 8 bytes"),
        (struct.pack("<III", 6, 33, 8) + bytes(40), 4, "a block of 33 bytes"),
        (struct.pack("<III", 6, 0xFFFF_FFFC, 8), 4, "a block of 4294967292 bytes"),
        (struct.pack("<III", 9, 0xFFFF_FFFC, 8), 4, "a block of 4294967292 bytes"),
        (block(9, b"1234")[:-1] + b"\1", 12, "ends otherwise"),
        (packet(b"1234")[:-1] + b"\1", 32, "ends otherwise"),
        (block(6, bytes(16)), 8, "20 bytes needed, 16 there"),
        (packet(b"", number=1), 8, "interface 1, but only 1 there"),
        (packet(b"", number=0xFFFF_FFFF), 8, "interface 4294967295"),
        (block(6, struct.pack("<IIIII", 0, 0, 0, 5, 5) + b"1234"), 20, "5 bytes in a block of 36"),
        (block(6, struct.pack("<IIIII", 0, 0, 0, 0xFFFF_FFFF, 5)), 20, "4294967295 bytes"),
        (block(2, struct.pack("<HHIIII", 0, 0, 0, 0, 5, 5) + b"1234"), 20, "5 bytes"),
        (block(2, struct.pack("<HHIIII", 1, 0, 0, 0, 0, 0)), 8, "interface 1"),
        (block(2, b"1234"), 8, "20 bytes needed, 4 there"),
        (block(3, struct.pack("<I", 5) + b"1234"), 8, "5 bytes"),
        (block(3, b""), 8, "4 bytes needed, 0 there"),
        (block(5, struct.pack("<III", 2, 0, 0)), 8, "interface 2"),
        (block(1, b"1234"), 8, "8 bytes needed"),
        (block(10, struct.pack("<II", 1, 9) + bytes(8)), 12, "9 bytes"),
        (block(0xBAD, b""), 8, "4 bytes needed"),
        (section(version=2), 12, "version 2.0"),
        (section()[:8] + b"\1\2\3\4" + section()[12:], 8, "no byte-order magic: 01020304"),
        (packet(b"", options=struct.pack("<HH", 1, 99)), 28, "option 1 reaches behind"),
        (interface(options=option(2988, b"") * 1025), 16 + 4 * 1024, "more than 1024 options"),
    ],
)
def test_damage_ends_the_reading_where_it_is(bad: bytes, offset: int, complaint: str) -> None:
    reader = reader_of(BEFORE, bad, packet(b"not to be believed"))
    assert [p.data for p in reader] == [b"good"]
    assert isinstance(reader.damage, WireError)
    assert complaint in str(reader.damage)
    assert (reader.damage.layer, reader.damage.offset) == ("pcapng", len(BEFORE) + offset)


def test_endless_interfaces_and_secrets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcapng, "_MAX_INTERFACES", 100)
    monkeypatch.setattr(pcapng, "_MAX_SECRETS_BYTES", 1000)
    reader = reader_of(section(), interface() * 101)
    assert list(reader) == []
    assert len(reader.interfaces) == 100
    assert "more than 100 interfaces" in str(reader.damage)
    reader = reader_of(
        section(), interface(), block(10, struct.pack("<II", 1, 300) + bytes(300)) * 4
    )
    assert list(reader) == []
    assert len(reader.secrets) == 3
    assert "more than 1000 bytes of secrets" in str(reader.damage)


def test_what_does_not_begin_with_a_section_is_refused() -> None:
    with pytest.raises(MalformedError, match="no pcapng file begins with 01000000"):
        PcapngReader(Source(io.BytesIO(interface())))


@given(st.data())
def test_damaged_files_raise_nothing_once_opened(data: st.DataObject) -> None:
    whole = bytearray(b"".join(WHOLE))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    whole += data.draw(st.binary(max_size=40))
    try:
        reader = reader_of(bytes(whole))
    except WireError:
        return
    for value in reader.blocks():
        assert not isinstance(value, bytes)
    if reader.damage is not None:
        assert 0 <= reader.damage.offset <= len(whole)


def test_every_single_damaged_byte_is_survived() -> None:
    whole = b"".join(WHOLE)
    for at in range(4, len(whole)):
        for value in (0x00, 0xFF, whole[at] ^ 1, whole[at] ^ 0x80):
            try:
                reader = reader_of(whole[:at] + bytes((value,)) + whole[at + 1 :])
            except WireError:
                continue
            assert len(list(reader)) <= 3
