"""pcapng files, written."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.capture import (
    RPT_KEY_LOG,
    CapturedPacket,
    CustomBlock,
    Interface,
    InterfaceStatistics,
    PcapngReader,
    PcapngWriter,
    Secrets,
    Section,
    read,
)
from rawproto.errors import EmitError
from tests.capture.build import interface, option, packet, section


def reader_of(data: bytes) -> PcapngReader:
    reader = read(io.BytesIO(data))
    assert isinstance(reader, PcapngReader)
    return reader


def test_bytes_are_as_the_format_has_them() -> None:
    file = io.BytesIO()
    with PcapngWriter(file) as writer:
        writer.write(
            CapturedPacket(
                time_ns=1_700_000_000_123_456_789,
                data=b"12345",
                original_length=9,
                link_type=101,
                direction="out",
                comment="hi",
            )
        )
    end = bytes(4)
    assert file.getvalue() == (
        section(options=option(4, b"rawproto") + end)
        + interface(link_type=101, options=option(9, b"\x09") + end)
        + packet(
            b"12345",
            1_700_000_000_123_456_789,
            original=9,
            options=option(1, b"hi") + option(2, struct.pack("<I", 2)) + end,
        )
    )
    assert writer.bytes_written == len(file.getvalue())


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
packets = st.builds(
    CapturedPacket,
    time_ns=st.integers(0, 2**64 - 1),
    data=st.binary(max_size=40),
    original_length=st.none() | st.integers(0, 2**32 - 1),
    link_type=st.just(1),
    interface=st.integers(0, 2),
    direction=st.sampled_from(["", "in", "out"]),
    comment=texts,
)
described = st.builds(
    Interface,
    link_type=st.just(1),
    name=texts,
    description=texts,
    snaplen=st.integers(0, 2**32 - 1),
    mac_addr=st.sampled_from(["", "02:00:00:00:00:0a"]),
    speed_bps=st.integers(0, 2**64 - 1),
    filter=texts,
    os=texts,
    hardware=texts,
    comment=texts,
)


@given(st.lists(packets, max_size=8), st.lists(described, min_size=3, max_size=3))
def test_what_is_written_is_read_again(
    written: list[CapturedPacket], interfaces: list[Interface]
) -> None:
    file = io.BytesIO()
    with PcapngWriter(file, interfaces) as writer:
        for each in written:
            writer.write(each)
    reader = reader_of(file.getvalue())
    assert list(reader) == written
    assert reader.damage is None
    assert reader.interfaces == interfaces[: len(reader.interfaces)]
    assert len(reader.interfaces) == max((each.interface + 1 for each in written), default=0)


def test_interfaces_by_name_are_described_when_they_first_appear() -> None:
    file = io.BytesIO()
    with PcapngWriter(file) as writer:
        for name, link_type in (("eth0", 1), ("tun0", 101), ("eth0", 1), ("eth0", 101)):
            writer.write(CapturedPacket(time_ns=0, data=b"", interface=name, link_type=link_type))
    reader = reader_of(file.getvalue())
    assert [(p.interface, p.link_type) for p in reader] == [(0, 1), (1, 101), (0, 1), (2, 101)]
    assert [i.name for i in reader.interfaces] == ["eth0", "tun0", "eth0"]


def test_interfaces_may_become_known_while_writing() -> None:
    known: list[Interface] = []
    file = io.BytesIO()
    with PcapngWriter(file, known) as writer:
        known.append(Interface(link_type=1, name="eth0"))
        writer.write(CapturedPacket(time_ns=0, data=b"a", interface=0))
        known.append(Interface(link_type=101, name="tun0"))
        writer.write(CapturedPacket(time_ns=0, data=b"b", interface=1, link_type=101))
    reader = reader_of(file.getvalue())
    assert [reader.interfaces[p.interface].name for p in reader] == ["eth0", "tun0"]


def test_an_index_that_nobody_described_makes_a_plain_interface() -> None:
    file = io.BytesIO()
    with PcapngWriter(file) as writer:
        writer.write(CapturedPacket(time_ns=0, data=b"", interface=1000, link_type=228))
    reader = reader_of(file.getvalue())
    assert [(p.interface, p.link_type) for p in reader] == [(0, 228)]


def test_other_blocks_are_written_and_read_again() -> None:
    file = io.BytesIO()
    head = Section(hardware="x86", os="Linux", application="ping", comment="test")
    counts = InterfaceStatistics(
        interface=0,
        time_ns=2**63,
        received=1,
        dropped_by_interface=2,
        accepted_by_filter=3,
        dropped_by_os=2**64 - 1,
        delivered=0,
        comment="fin",
    )
    with PcapngWriter(file, [Interface(link_type=101, name="tun0")], section=head) as writer:
        writer.write_secrets(RPT_KEY_LOG, b"odd")
        writer.write_custom(32473, b"data")
        writer.write_custom(32473, b"mine", copy=False)
        writer.write_statistics(counts)
        writer.write_statistics(InterfaceStatistics(interface="eth0"))
        writer.write_statistics(InterfaceStatistics(interface="eth0", time_ns=1))
    assert list(reader_of(file.getvalue()).blocks()) == [
        head,
        Secrets(secrets_type=RPT_KEY_LOG, data=b"odd"),
        CustomBlock(enterprise_number=32473, data=b"data"),
        CustomBlock(enterprise_number=32473, data=b"mine", copy=False),
        Interface(link_type=101, name="tun0"),
        counts,
        Interface(link_type=1, name="eth0"),
        InterfaceStatistics(interface=1),
        InterfaceStatistics(interface=1, time_ns=1),
    ]


def test_a_file_is_whole_whenever_it_was_flushed(tmp_path) -> None:
    path = tmp_path / "live.pcapng"
    with path.open("wb") as file:
        writer = PcapngWriter(file)
        for number in range(3):
            writer.write(CapturedPacket(time_ns=number, data=b"abc"))
            writer.flush()
            reader = read(path)
            assert len(list(reader)) == number + 1
            assert reader.damage is None


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"time_ns": -1}, "time_ns"),
        ({"time_ns": 2**64}, "time_ns"),
        ({"original_length": -1}, "original_length"),
        ({"data": bytes(262_145)}, "data"),
        ({"direction": "up"}, "direction"),
    ],
)
def test_what_the_format_cannot_say_is_refused_by_name(fields: dict, name: str) -> None:
    file = io.BytesIO()
    writer = PcapngWriter(file)
    writer.write(CapturedPacket(time_ns=0, data=b""))
    before = file.getvalue()
    with pytest.raises(EmitError) as refused:
        writer.write(CapturedPacket(**{"time_ns": 0, "data": b""} | fields))
    assert refused.value.field == f"CapturedPacket.{name}"
    assert file.getvalue() == before, "no half of a block"


def test_other_fields_that_do_not_fit_are_refused() -> None:
    writer = PcapngWriter(io.BytesIO(), [Interface(link_type=1, speed_bps=-1)])
    with pytest.raises(EmitError, match="speed_bps"):
        writer.write(CapturedPacket(time_ns=0, data=b""))
    writer = PcapngWriter(io.BytesIO())
    with pytest.raises(EmitError, match="does not fit"):
        writer.write(CapturedPacket(time_ns=0, data=b"", link_type=65536))
    with pytest.raises(EmitError, match="does not fit"):
        writer.write_secrets(-1, b"")
    with pytest.raises(EmitError, match="more than readers take"):
        writer.write_secrets(1, bytes(1 << 24))
    with pytest.raises(EmitError, match="65535 bytes"):
        writer.write(CapturedPacket(time_ns=0, data=b"", comment="x" * 65536))
    with pytest.raises(EmitError, match="InterfaceStatistics"):
        writer.write_statistics(InterfaceStatistics(received=-1))


def test_comments_of_several_lines_come_back_as_they_were() -> None:
    file = io.BytesIO()
    with PcapngWriter(file) as writer:
        writer.write(CapturedPacket(time_ns=0, data=b"abc", comment="one\ntwo \u2713"))
    assert next(reader_of(file.getvalue())).comment == "one\ntwo \u2713"
