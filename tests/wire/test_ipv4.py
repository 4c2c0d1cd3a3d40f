"""IPv4: fields both ways against scapy, options, damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import (
    IP,
    IPOption_LSRR,
    IPOption_NOP,
    IPOption_Router_Alert,
    IPOption_RR,
    IPOption_Timestamp,
)

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.ipv4 import DF, MF, IPv4Header
from rawproto.wire.ipv4_options import (
    EndOfOptions,
    NoOperation,
    RawOptions,
    RecordRoute,
    RouterAlert,
    SourceRoute,
    Timestamp,
    UnknownOption,
    parse_options,
)
from rawproto.wire.udp import UDPHeader
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

HEADER = IPv4Header(
    dscp=46,
    ecn=2,
    identification=0xBEEF,
    flags=DF,
    ttl=3,
    protocol=253,
    src_addr="10.0.0.1",
    dst_addr="10.0.0.2",
)

ipv4_addresses = st.ip_addresses(v=4).map(str)

headers = st.builds(
    IPv4Header,
    dscp=st.integers(0, 63),
    ecn=st.integers(0, 3),
    identification=st.integers(0, 0xFFFF),
    flags=st.integers(0, 7),
    fragment_offset=st.integers(0, 0x1FFF),
    ttl=st.integers(0, 255),
    protocol=st.integers(0, 255),
    src_addr=ipv4_addresses,
    dst_addr=ipv4_addresses,
)


def fields_of(packet: IP) -> dict[str, object]:
    """scapy's fields under the RFC's names."""
    return {
        "version": packet.version,
        "ihl": packet.ihl,
        "dscp": packet.tos >> 2,
        "ecn": packet.tos & 3,
        "total_length": packet.len,
        "identification": packet.id,
        "flags": int(packet.flags),
        "fragment_offset": packet.frag,
        "ttl": packet.ttl,
        "protocol": packet.proto,
        "checksum": packet.chksum,
        "src_addr": packet.src,
        "dst_addr": packet.dst,
    }


def ours(header: IPv4Header) -> dict[str, object]:
    return {name: getattr(header, name) for name in fields_of(IP(bytes(IP())))}


@given(headers, st.binary(max_size=64))
def test_scapy_reads_what_we_emit(header: IPv4Header, payload: bytes) -> None:
    data = header.emit(payload)
    theirs = fields_of(IP(data))
    parsed, rest = IPv4Header.parse(data)
    assert ours(parsed) == theirs
    assert rest == payload
    assert IPv4Header.verify(data)


@given(headers, st.binary(max_size=64))
def test_we_read_what_scapy_builds(header: IPv4Header, payload: bytes) -> None:
    data = bytes(
        IP(
            tos=header.dscp << 2 | header.ecn,
            id=header.identification,
            flags=header.flags,
            frag=header.fragment_offset,
            ttl=header.ttl,
            proto=header.protocol,
            src=header.src_addr,
            dst=header.dst_addr,
        )
        / payload
    )
    assert header.emit(payload) == data
    parsed, rest = IPv4Header.parse(data)
    assert rest == payload
    assert parsed.recomputed() == header
    assert parsed.emit(rest) == data


@pytest.mark.parametrize(
    ("option", "theirs"),
    [
        (RouterAlert(value=5), IPOption_Router_Alert(alert=5)),
        (RecordRoute(addresses=("1.2.3.4", "0.0.0.0"), pointer=8), None),
        (SourceRoute(addresses=("1.2.3.4",)), IPOption_LSRR(routers=["1.2.3.4"])),
        (SourceRoute(strict=True, addresses=("1.2.3.4", "5.6.7.8"), pointer=8), None),
        (NoOperation(), IPOption_NOP()),
        (Timestamp(entries=((None, 0xDEADBEEF),), pointer=9), None),
        (
            Timestamp(flag=1, overflow=15, entries=(("1.2.3.4", 7), ("0.0.0.0", 0)), pointer=13),
            None,
        ),
        (UnknownOption(kind=222, data=b"abc"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_option_round_trips_and_scapy_agrees(option, theirs) -> None:
    data = IPv4Header(options=(option,), src_addr="10.0.0.1", dst_addr="10.0.0.2").emit()
    parsed, rest = IPv4Header.parse(data)
    assert parsed.options == (option,)
    assert rest == b""
    assert parsed.emit() == data
    read = IP(data).options[0]
    assert bytes(read).startswith(option.emit()[:2])
    if theirs is not None:
        assert bytes(theirs) == option.emit()


def test_record_route_and_timestamp_fields_match_scapys() -> None:
    routes = RecordRoute(addresses=("1.2.3.4", "5.6.7.8", "0.0.0.0"), pointer=12)
    read = IPOption_RR(routes.emit())
    assert tuple(read.routers) == routes.addresses
    assert read.pointer == routes.pointer
    assert routes.recorded == ("1.2.3.4", "5.6.7.8")
    stamps = Timestamp(flag=1, overflow=3, entries=(("1.2.3.4", 99),), pointer=13)
    seen = IPOption_Timestamp(stamps.emit())
    assert (seen.internet_address, seen.timestamp, seen.oflw, seen.flg) == ("1.2.3.4", 99, 3, 1)
    assert stamps.recorded == (("1.2.3.4", 99),)


@given(st.binary(max_size=40).map(lambda data: data + bytes(-len(data) % 4)))
def test_any_option_field_emits_again_as_it_was(data: bytes) -> None:
    header = b"".join([option.emit() for option in parse_options(data)])
    assert header + bytes(-len(header) % 4) == data


@pytest.mark.parametrize(
    "data",
    [
        b"\x07\x27",
        b"\x07\x01",
        b"\x07\x06\x04abc",
        b"\x44\x03\x05",
        b"\x94",
        b"\x44\x0a\x05\x01abcdef",
    ],
)
def test_unreadable_option_is_kept_as_it_is(data: bytes) -> None:
    assert parse_options(data) == (RawOptions(data=data),)


def test_what_stands_behind_the_end_of_options_is_kept() -> None:
    assert parse_options(b"\x00secret!") == (EndOfOptions(padding=b"secret!"),)
    assert parse_options(b"\x01\x00\x00\x00") == (NoOperation(),)


def test_forced_fields_go_out_as_they_are() -> None:
    data = IPv4Header(version=5, ihl=15, total_length=9, checksum=0, protocol=1).emit(b"xy")
    read = IP(data[:20])
    assert (read.version, read.ihl, read.len, read.chksum) == (5, 15, 9, 0)


def test_protocol_comes_from_the_layer_inside_unless_given() -> None:
    addresses = {"src_addr": "10.0.0.1", "dst_addr": "10.0.0.2"}
    assert (IPv4Header(**addresses) / UDPHeader()).emit()[9] == 17
    assert (IPv4Header(protocol=99, **addresses) / UDPHeader()).emit()[9] == 99
    assert (IPv4Header(**addresses) / b"plain").emit()[9] == 255


def test_payload_ends_at_total_length() -> None:
    data = HEADER.emit(b"payload")
    assert IPv4Header.parse(data + b"ethernet padding")[1] == b"payload"
    assert IPv4Header.parse(data[:-3])[1] == b"payl"
    assert IPv4Header.parse(data[:2] + b"\0\0" + data[4:])[1] == b"payload"


def test_damage_is_located() -> None:
    data = HEADER.emit()
    assert_parser_is_total(IPv4Header.parse, HEADER.emit(b"payload"))
    assert_parser_is_total(
        IPv4Header.parse, IPv4Header(options=(RecordRoute(), NoOperation())).emit(b"payload")
    )
    assert_truncated_below(IPv4Header.parse, data, 20)
    with pytest.raises(TruncatedError) as truncated:
        IPv4Header.parse(b"\x46" + data[1:])
    assert (truncated.value.offset, truncated.value.needed, truncated.value.got) == (20, 4, 0)
    with pytest.raises(MalformedError, match="version 6"):
        IPv4Header.parse(b"\x65" + data[1:])
    with pytest.raises(MalformedError, match="ihl 4"):
        IPv4Header.parse(b"\x44" + data[1:])
    with pytest.raises(MalformedError, match="total_length 19"):
        IPv4Header.parse(data[:2] + b"\x00\x13" + data[4:])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 16),
        ("dscp", 64),
        ("ecn", 4),
        ("identification", 65536),
        ("flags", 8),
        ("fragment_offset", 8192),
        ("fragment_offset", -1),
        ("ttl", 256),
        ("protocol", -1),
        ("checksum", 65536),
        ("total_length", 65536),
        ("ihl", 16),
        ("src_addr", "10.0.0"),
        ("dst_addr", "fe80::1"),
        ("dst_addr", None),
        ("ttl", "64"),
    ],
)
def test_field_that_does_not_fit_is_named(name: str, value: object) -> None:
    with pytest.raises(EmitError) as refused:
        IPv4Header(**{name: value}).emit()
    assert refused.value.value == value
    assert name in str(refused.value) or name.endswith("_addr")


def test_too_many_options_and_too_much_payload_are_refused() -> None:
    with pytest.raises(EmitError, match="40 bytes"):
        IPv4Header(options=(RecordRoute(), RecordRoute())).emit()
    with pytest.raises(EmitError, match="65535"):
        IPv4Header().emit(bytes(65516))


def test_verify_tells_a_bad_checksum() -> None:
    data = HEADER.emit()
    assert IPv4Header.verify(data)
    assert not IPv4Header.verify(data[:8] + b"\x09" + data[9:])


def test_flags_have_the_rfcs_places() -> None:
    assert IPv4Header(flags=DF | MF, fragment_offset=1).emit()[6:8] == b"\x60\x01"


def test_timestamp_flag_has_four_bits() -> None:
    with pytest.raises(EmitError, match="flag"):
        Timestamp(flag=16).emit()
