"""RPT packets: bytes written out, the parser contract, dissection, a line and a picture of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.errors import EmitError, MalformedError, TruncatedError, WireError
from rawproto.wire.dissect import RAW, checksums, dissect
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Layer
from rawproto.wire.rpt import (
    LONG,
    SHORT,
    RPTHandshake,
    RPTInit,
    RPTLong,
    RPTReset,
    RPTRetry,
    RPTShort,
    RPTVersion,
    parse_rpt,
)
from rawproto.wire.show import diagram, summary
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

PORTS: dict[str, Any] = {"suite": 0x21, "dst_port": 4000, "src_port": 50000}
CIDS: dict[str, Any] = {"dst_cid": 0x2222222222222222, "src_cid": 0x1111111111111111}
LONGS: dict[str, RPTLong] = {
    "init": RPTInit(**PORTS, **CIDS, token=b"tok", message=bytes(32), padding=bytes(9)),
    "retry": RPTRetry(**PORTS, **CIDS, token=b"token"),
    "handshake": RPTHandshake(**PORTS, **CIDS, message=b"message"),
    "reset": RPTReset(**PORTS, **CIDS, code=1, token=bytes(range(16))),
    "version": RPTVersion(**PORTS, **CIDS, versions=(1, 7)),
}
SHORT_ONE = RPTShort(
    key_phase=1, ack_every=16, dst_port=4000, src_port=50000, dst_cid=0x33, packet_number=7
)
each_long = pytest.mark.parametrize("name", LONGS)

u8, u16, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 64))
long_fields = {
    "version": st.integers(0, 15),
    "suite": u8,
    "dst_port": u16,
    "src_port": u16,
    "dst_cid": u64,
    "src_cid": u64,
}
longs: st.SearchStrategy[RPTLong] = st.one_of(
    st.builds(
        RPTInit,
        token=st.binary(max_size=255),
        message=st.binary(max_size=300),
        padding=st.binary(max_size=30),
        **long_fields,
    ),
    st.builds(RPTRetry, token=st.binary(max_size=255), **long_fields),
    st.builds(RPTHandshake, message=st.binary(max_size=300), **long_fields),
    st.builds(RPTReset, code=u8, token=st.binary(min_size=16, max_size=16), **long_fields),
    st.builds(RPTVersion, versions=st.lists(u8, min_size=1, max_size=9).map(tuple), **long_fields),
)


def test_data_packet_is_laid_out_as_the_specification_draws_it() -> None:
    data = SHORT_ONE.emit(bytes(16))
    assert data.hex() == "41100fa0c350000000000000003300000007" + 32 * "0"
    assert parse_rpt(data) == (SHORT_ONE, bytes(16))


def test_init_is_laid_out_as_the_specification_draws_it() -> None:
    data = RPTInit(**PORTS, **CIDS, token=b"\xaa", message=b"\xbb\xcc", padding=bytes(2)).emit()
    head = "81210fa0c350" + "22" * 8 + "11" * 8 + "0008"
    assert data[:-4].hex() == head + "01aa0002bbcc0000"
    assert data[-4:] == crc32(data[:-4]).to_bytes(4, "big")


@given(longs)
def test_long_packet_is_read_as_it_was_written(packet: RPTLong) -> None:
    data = packet.emit()
    assert type(packet).verify(data)
    parsed, behind = parse_rpt(data + b"behind")
    assert behind == b"behind"
    assert isinstance(parsed, RPTLong)
    assert parsed.recomputed() == packet
    assert parsed.emit(behind) == data + b"behind"
    assert parsed.length == len(data) - LONG.size - 4


@given(
    st.builds(
        RPTShort,
        key_phase=st.integers(0, 1),
        reserved=st.integers(0, 3),
        version=st.integers(0, 15),
        ack_every=u8,
        dst_port=u16,
        src_port=u16,
        dst_cid=u64,
        packet_number=st.integers(0, (1 << 32) - 1),
    ),
    st.binary(min_size=16, max_size=40),
)
def test_short_packet_is_read_as_it_was_written(packet: RPTShort, sealed: bytes) -> None:
    assert parse_rpt(packet.emit(sealed)) == (packet, sealed)


@each_long
def test_any_bytes_make_a_long_packet_or_a_wire_error(name: str) -> None:
    packet = LONGS[name]
    data = packet.emit()
    assert_parser_is_total(parse_rpt, data)
    assert_parser_is_total(type(packet).parse, data)
    assert_truncated_below(parse_rpt, data, len(data))
    assert_truncated_below(type(packet).parse, data, len(data))


def test_any_bytes_make_a_short_packet_or_a_wire_error() -> None:
    assert_parser_is_total(parse_rpt, SHORT_ONE.emit(bytes(20)))
    assert_truncated_below(parse_rpt, SHORT_ONE.emit(bytes(20)), SHORT.size + 16)
    with pytest.raises(TruncatedError) as truncated:
        parse_rpt(SHORT_ONE.emit(bytes(15)))
    assert (truncated.value.needed, truncated.value.got) == (34, 33)


@given(st.binary(max_size=80))
def test_random_bytes_raise_nothing_but_wire_errors(data: bytes) -> None:
    for first in (b"", b"\x01", b"\x81", b"\x91", b"\xa1", b"\xb1", b"\xc1"):
        try:
            packet, behind = parse_rpt(first + data)
        except WireError:
            continue
        assert packet.emit(behind) == first + data


@each_long
def test_other_forms_and_types_are_refused(name: str) -> None:
    packet = LONGS[name]
    for wrong in {bytes([0x80 | kind << 4 | 1]) for kind in range(8)} - {packet.emit()[:1]}:
        with pytest.raises(MalformedError):
            type(packet).parse(wrong + packet.emit()[1:])
    for unknown in (b"\xd1", b"\xe1", b"\xf1"):
        with pytest.raises(MalformedError, match="unknown type"):
            parse_rpt(unknown + packet.emit()[1:])
    with pytest.raises(MalformedError, match="long"):
        RPTShort.parse(packet.emit().ljust(40, b"\0"))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (RPTInit, ""),
        (RPTInit, "05aabb"),
        (RPTInit, "02aabb00"),
        (RPTInit, "000005aabb"),
        (RPTReset, "00" * 16),
        (RPTReset, "00" * 18),
        (RPTVersion, ""),
    ],
)
def test_body_that_contradicts_itself_is_malformed(kind: type[RPTLong], body: str) -> None:
    whole = RPTHandshake(message=bytes.fromhex(body)).emit()
    with pytest.raises(MalformedError) as malformed:
        kind.parse(bytes([0x81 | kind.packet_type << 4]) + whole[1:])
    assert malformed.value.offset >= LONG.size


@each_long
def test_damage_in_any_byte_is_seen_by_the_crc(name: str) -> None:
    data = LONGS[name].emit()
    assert RPTLong.verify(data)
    for at in range(len(data)):
        assert not RPTLong.verify(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        assert not RPTLong.verify(data[:at])


def test_wrong_length_and_checksum_go_out_as_they_are() -> None:
    packet = replace(LONGS["handshake"], length=3, checksum=0x01020304)
    data = packet.emit()
    assert data[22:24] == b"\0\3"
    assert data[-4:] == b"\1\2\3\4"
    assert not RPTLong.verify(data)


@pytest.mark.parametrize(
    ("packet", "field", "value"),
    [
        (RPTShort, "key_phase", 2),
        (RPTShort, "reserved", 4),
        (RPTShort, "version", 16),
        (RPTShort, "ack_every", 256),
        (RPTShort, "dst_port", 65536),
        (RPTShort, "src_port", -1),
        (RPTShort, "dst_cid", 1 << 64),
        (RPTShort, "packet_number", 1 << 32),
        (RPTInit, "version", 16),
        (RPTInit, "suite", 256),
        (RPTInit, "dst_port", 65536),
        (RPTInit, "src_cid", -1),
        (RPTInit, "length", 65536),
        (RPTInit, "checksum", 1 << 32),
        (RPTInit, "token", bytes(256)),
        (RPTInit, "message", bytes(65536)),
        (RPTReset, "code", 256),
        (RPTVersion, "versions", (256,)),
    ],
)
def test_field_out_of_range_is_named(packet: type[Layer], field: str, value: object) -> None:
    with pytest.raises(EmitError, match=field):
        packet(**{field: value}).emit()


def test_body_larger_than_its_length_can_say_is_refused() -> None:
    with pytest.raises(EmitError):
        RPTHandshake(message=bytes(65536)).emit()


LINES = {
    "init": "RPT init, xxpsk3-aesgcm, cid 1111111111111111 > 2222222222222222, token of 3 bytes",
    "retry": "RPT retry, xxpsk3-aesgcm, cid 1111111111111111 > 2222222222222222, token of 5 bytes",
    "handshake": "RPT handshake, xxpsk3-aesgcm, cid 1111111111111111 > 2222222222222222",
    "reset": "RPT reset, key, cid 1111111111111111 > 2222222222222222",
    "version": "RPT version, 1 7, cid 1111111111111111 > 2222222222222222",
}
AROUND = {
    "IP 10.0.0.1.50000 > 10.0.0.2.4000": IPv4Header(src_addr="10.0.0.1", dst_addr="10.0.0.2"),
    "IP6 fd00::1.50000 > fd00::2.4000": IPv6Header(src_addr="fd00::1", dst_addr="fd00::2"),
}


@pytest.mark.parametrize("way", AROUND)
@each_long
def test_long_packet_in_a_capture_is_a_layer_with_a_line_of_its_own(name: str, way: str) -> None:
    data = (AROUND[way] / LONGS[name]).emit()
    found = dissect(data, RAW)
    layer = found.layers[-1]
    assert isinstance(layer, RPTLong)
    assert layer.recomputed() == LONGS[name]
    assert (found.payload, found.damage) == (b"", None)
    assert found.packet.emit() == data
    length = len(LONGS[name].emit())
    assert summary(found) == f"{way}: {LINES[name]}, length {length}"
    checksums(found)


@pytest.mark.parametrize("way", AROUND)
def test_data_packet_in_a_capture_keeps_its_sealed_bytes_as_payload(way: str) -> None:
    found = dissect((AROUND[way] / SHORT_ONE / bytes(range(28))).emit(), RAW)
    assert found.layers[-1] == SHORT_ONE
    assert found.payload == bytes(range(28))
    line = "RPT data, pn 7, cid > 0000000000000033, key phase 1, length 46"
    assert summary(found) == f"{way}: {line}"


def test_other_versions_and_unknown_numbers_are_said() -> None:
    ip = AROUND["IP 10.0.0.1.50000 > 10.0.0.2.4000"]
    for packet, words in (
        (RPTReset(version=2, code=99), "RPT reset, version 2, code 99, cid"),
        (RPTHandshake(suite=0xFE), "RPT handshake, suite 0xfe, cid"),
        (RPTVersion(versions=tuple(range(20))), "RPT version, 0 1 2 3 4 5 6 7 ..., cid"),
    ):
        assert words in summary(dissect((ip / packet).emit(), RAW))


def test_what_others_do_with_its_number_is_kept_and_no_damage() -> None:
    ip = AROUND["IP 10.0.0.1.50000 > 10.0.0.2.4000"]
    for data in (b"experiment", b"\xffsomething else", b"\x11" + bytes(40)):
        found = dissect((replace(ip, protocol=253) / data).emit(), RAW)
        assert (len(found.layers), found.payload, found.damage) == (1, data, None)
    found = dissect((replace(ip, protocol=253) / b"\xf1not a type".ljust(50)).emit(), RAW)
    assert isinstance(found.damage, MalformedError)
    found = dissect((replace(ip, protocol=253) / LONGS["reset"].emit()[:-5]).emit(), RAW)
    assert isinstance(found.damage, TruncatedError)
    assert "[|rpt, 5 bytes missing]" in summary(found)


@each_long
def test_picture_holds_the_whole_body_and_the_crc(name: str) -> None:
    packet, _ = parse_rpt(LONGS[name].emit())
    picture = diagram(packet)
    assert f"0x{packet.checksum:08x}" in picture  # type: ignore[union-attr]
    assert picture.index("length") < picture.index("checksum")
    for part in {"init": ("token_length", "message_length", "token, 3", "padding, 9")}.get(
        name, ()
    ):
        assert part in picture
    assert max(map(len, picture.splitlines())) <= 65
