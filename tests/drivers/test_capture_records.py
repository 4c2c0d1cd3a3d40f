"""Records of capture files, made out of blocks as the kernel lays them out; no kernel needed."""

from __future__ import annotations

import io
import struct
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader, RawPcapReader

from rawproto.capture import CapturedPacket, Interface, read
from rawproto.drivers.capture_records import CookedRecords, PcapngRecords, PcapRecords
from rawproto.drivers.sniff import packets_in
from rawproto.link.ring import LARGEST_FRAME, VLAN_VALID, Block

# struct tpacket3_hdr and the sockaddr_ll behind it (linux/if_packet.h).
HEADER = struct.Struct("@IIIIIIHHIIHH8xH2siHBB8s")
FRAME_AT = 82
ETHERNET, TUN = 1, 65534
TPID_VALID = 1 << 6
SECOND = 1_700_000_000

frames = st.lists(
    st.tuples(
        st.binary(min_size=14, max_size=90),  # frame
        st.integers(0, 999_999_999),  # nanoseconds
        st.integers(0, 50),  # how many bytes were cut off
        st.sampled_from([2, 5]),  # interface
        st.sampled_from([0, 1, 4]),  # packet type
        st.sampled_from([None, (0x8100, 100), (0x88A8, 7)]),  # tag taken out
    ),
    max_size=12,
)


def record(frame, rest_ns, cut, interface, packet_type, tag, hardware_type=ETHERNET) -> bytes:
    tpid, tci = tag or (0, 0)
    size = -(-(FRAME_AT + len(frame)) // 8) * 8
    header = HEADER.pack(
        *(size, SECOND, rest_ns, len(frame), len(frame) + cut),
        1 | (VLAN_VALID | TPID_VALID if tag else 0),
        *(FRAME_AT, FRAME_AT + 14, 0, tci, tpid, 0),
        *(17, frame[12:14], interface, hardware_type, packet_type, 6, frame[6:12] + bytes(2)),
    )
    return (header.ljust(FRAME_AT, b"\0") + frame).ljust(size, b"\0")


def block(contents, **options) -> Block:
    return Block(
        bytes(48) + b"".join(record(*c, **options) for c in contents), 48, len(contents), 0
    )


def whole(frame, tag) -> bytes:
    """A frame with its tag where it was."""
    return frame[:12] + (struct.pack("!HH", *tag) if tag else b"") + frame[12:]


class Source:
    """What a capture knows of its interfaces, without any."""

    options = SimpleNamespace(snaplen=LARGEST_FRAME)

    def __init__(self, *watched: int) -> None:
        self.watched = dict.fromkeys(watched)

    def describe(self, index: int) -> Interface:
        return Interface(link_type=1, name=f"eth{index}")


def file_of(records, contents, *, at_once: int) -> bytes:
    """The file that comes of a block when it is encoded in pieces."""
    source = block(contents)
    data = records.begin()
    while source.left:
        parts = records.encode(source, at_once)
        assert len(parts) % records.parts_per_record == 0
        data += b"".join(parts)
    return data + records.end(len(contents), 0)


@given(frames, st.sampled_from([1, 3, 100]))
def test_pcap_holds_the_frames_as_they_were_on_the_wire(contents, at_once) -> None:
    file = file_of(PcapRecords(1, LARGEST_FRAME), contents, at_once=at_once)
    wanted = [
        (whole(frame, tag), rest_ns, len(whole(frame, tag)) + cut)
        for frame, rest_ns, cut, _, _, tag in contents
    ]
    with RawPcapReader(io.BytesIO(file)) as packets:
        found = [(data, about.usec, about.wirelen) for data, about in packets]
        assert packets.nano
    assert found == wanted


@given(frames, st.sampled_from([1, 3, 100]))
def test_pcapng_has_interface_and_direction_besides(contents, at_once) -> None:
    file = file_of(PcapngRecords(Source(5), "why"), contents, at_once=at_once)
    with read(io.BytesIO(file)) as reader:
        found = list(reader)
        names = [reader.interfaces[packet.interface].name for packet in found]
    assert reader.damage is None
    assert names == [f"eth{interface}" for _, _, _, interface, _, _ in contents]
    for packet, (frame, rest_ns, cut, _, packet_type, tag) in zip(found, contents, strict=True):
        assert packet.data == whole(frame, tag)
        assert packet.time_ns == SECOND * 10**9 + rest_ns
        assert packet.original_length == len(packet.data) + cut
        assert packet.direction == ("out" if packet_type == 4 else "in")
    if contents:
        with RawPcapNgReader(io.BytesIO(file)) as packets:
            assert [data for data, _ in packets] == [packet.data for packet in found]


@given(frames)
def test_cooked_tells_what_the_link_layer_told(contents) -> None:
    file = file_of(CookedRecords(LARGEST_FRAME), contents, at_once=100)
    with read(io.BytesIO(file)) as reader:
        found = list(reader)
    for packet, (frame, _, cut, interface, packet_type, tag) in zip(found, contents, strict=True):
        assert packet.link_type == 276
        protocol, index, hardware_type, kind, length = struct.unpack_from("!H2xIHBB", packet.data)
        assert (index, hardware_type, kind, length) == (interface, ETHERNET, packet_type, 6)
        assert packet.data[12:18] == frame[6:12]
        assert struct.pack("!H", protocol) + packet.data[20:] == whole(frame, tag)[12:]
        assert packet.original_length == len(packet.data) + cut


@given(frames)
def test_values_are_what_the_file_has(contents) -> None:
    values: list[CapturedPacket] = list(packets_in(block(contents), Source()))
    with read(io.BytesIO(file_of(PcapngRecords(Source()), contents, at_once=9))) as reader:
        for value, packet in zip(values, reader, strict=True):
            packet.interface = reader.interfaces[packet.interface].name
            assert all(
                getattr(value, name) == getattr(packet, name) for name in CapturedPacket.__slots__
            )


@pytest.mark.parametrize("snaplen", [14, 15, 17, 60])
def test_snaplen_counts_the_tag(snaplen: int) -> None:
    frame = bytes(range(14, 74))[: max(snaplen, 14)]
    contents = [(frame, 0, 0, 2, 0, (0x8100, 5))]
    file = file_of(PcapRecords(1, snaplen), contents, at_once=1)
    with RawPcapReader(io.BytesIO(file)) as packets:
        ((data, about),) = list(packets)
    assert data == whole(frame, (0x8100, 5))[:snaplen]
    assert about.wirelen == len(frame) + 4


def test_headerless_frames_are_raw_ip() -> None:
    contents = [(bytes(20), 0, 0, 2, 0, None)]
    (packet,) = packets_in(block(contents, hardware_type=TUN), Source())
    assert (packet.link_type, packet.data) == (101, bytes(20))


def test_a_second_file_describes_the_interfaces_again() -> None:
    records = PcapngRecords(Source())
    contents = [(bytes(14), 0, 0, interface, 0, None) for interface in (2, 5, 2)]
    file_of(records, contents, at_once=1)
    with read(io.BytesIO(file_of(records, contents[1:2], at_once=1))) as reader:
        (packet,) = reader
        assert reader.interfaces[packet.interface].name == "eth5"
