"""IPv6 extension headers: each option and header both ways against scapy, damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP
from scapy.layers.inet6 import (
    HBHOptUnknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    Jumbo,
    Pad1,
    PadN,
    RouterAlert,
)

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire import ipv6_options as options
from rawproto.wire.address import unpack_ipv6
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import (
    MF,
    DestinationOptions,
    FragmentHeader,
    HopByHopOptions,
    RoutingHeader,
    SegmentRoutingHeader,
    UnknownRoutingHeader,
    parse_routing,
)
from rawproto.wire.tcp import TCPHeader
from rawproto.wire.udp import UDPHeader
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

ipv6_addresses = st.binary(min_size=16, max_size=16).map(unpack_ipv6)
A, B, C = "2001:db8::a", "2001:db8::b", "2001:db8::c"

KNOWN_OPTIONS = [
    (options.Pad1(), Pad1()),
    (options.PadN(), PadN(optdata=b"")),
    (options.PadN(data=b"\0\0\0"), PadN(optdata=b"\0\0\0")),
    (options.PadN(data=b"hidden"), PadN(optdata=b"hidden")),
    (options.RouterAlert(value=0), RouterAlert(value=0)),
    (options.RouterAlert(value=0xBEEF), RouterAlert(value=0xBEEF)),
    (options.JumboPayload(length=70000), Jumbo(jumboplen=70000)),
    (options.UnknownOption(kind=0x3E, data=b"abc"), HBHOptUnknown(otype=0x3E, optdata=b"abc")),
]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(HopByHopOptions, IPv6ExtHdrHopByHop), (DestinationOptions, IPv6ExtHdrDestOpt)],
    ids=["hop-by-hop", "destination"],
)
@pytest.mark.parametrize(
    ("option", "their_option"), KNOWN_OPTIONS, ids=lambda value: type(value).__name__
)
def test_each_option_agrees_with_scapy_both_ways(ours, theirs, option, their_option) -> None:
    data = ours(next_header=6, options=(option,)).emit(b"payload")
    read = theirs(data)
    assert (read.nh, read.len) == (6, len(data) // 8 - 1)
    assert bytes(read.options[0]) == option.emit()
    assert read.options[0].otype == option.kind
    header, payload = ours.parse(data)
    assert header.options[0] == option
    assert payload == b"payload"
    assert header.emit(payload) == data
    built = bytes(theirs(nh=6, options=[their_option], autopad=1))
    header, rest = ours.parse(built)
    assert header.options[0] == option
    assert rest == b""
    assert header.emit() == built


def test_option_fields_are_scapys() -> None:
    header = HopByHopOptions(
        options=(options.RouterAlert(value=7), options.JumboPayload(length=66000))
    )
    alert, jumbo = IPv6ExtHdrHopByHop(header.emit()).options[:2]
    assert (alert.value, jumbo.jumboplen) == (7, 66000)


@given(
    st.lists(
        st.builds(
            options.UnknownOption,
            kind=st.integers(2, 255).filter(lambda kind: kind not in (5, 0xC2)),
            data=st.binary(max_size=40),
        ),
        max_size=6,
    )
)
def test_options_are_padded_to_8_bytes_and_come_back(unknown: list[options.UnknownOption]) -> None:
    data = DestinationOptions(next_header=59, options=tuple(unknown)).emit()
    assert len(data) % 8 == 0
    header, rest = DestinationOptions.parse(data)
    assert rest == b""
    assert header.options[: len(unknown)] == tuple(unknown)
    padding = header.options[len(unknown) :]
    assert len(padding) <= 1
    assert all(isinstance(option, options.Pad1 | options.PadN) for option in padding)
    assert header.emit() == data


@given(st.binary(max_size=120))
def test_any_option_field_emits_again_as_it_was(data: bytes) -> None:
    assert b"".join([option.emit() for option in options.parse_options(data)]) == data


@pytest.mark.parametrize("kind", [5, 0xC2])
def test_known_kind_of_another_length_is_an_unknown_option(kind: int) -> None:
    option = options.UnknownOption(kind=kind, data=b"abc")
    assert options.parse_options(option.emit()) == (option,)


@pytest.mark.parametrize("data", [b"\x05", b"\x05\x03ab", b"\x01\xff", b"\xc2\x04abc"])
def test_unreadable_option_is_kept_as_it_is(data: bytes) -> None:
    assert options.parse_options(b"\x00" + data) == (options.Pad1(), options.RawOptions(data=data))


@pytest.mark.parametrize("routing_type", [0, 2])
@given(st.lists(ipv6_addresses, max_size=6), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_routing_header_agrees_with_scapy_both_ways(
    routing_type: int, addresses: list[str], left: int, reserved: int
) -> None:
    header = RoutingHeader(
        next_header=59,
        routing_type=routing_type,
        segments_left=left,
        reserved=reserved,
        addresses=tuple(addresses),
    )
    data = bytes(
        IPv6ExtHdrRouting(
            nh=59, type=routing_type, segleft=left, reserved=reserved, addresses=addresses
        )
    )
    assert header.emit() == data
    read = IPv6ExtHdrRouting(data)
    parsed, rest = parse_routing(data + b"payload")
    assert isinstance(parsed, RoutingHeader)
    assert rest == b"payload"
    assert (
        parsed.next_header,
        parsed.hdr_ext_len,
        parsed.routing_type,
        parsed.segments_left,
        parsed.reserved,
        list(parsed.addresses),
    ) == (read.nh, read.len, read.type, read.segleft, read.reserved, read.addresses)
    assert parsed.recomputed() == header
    assert parsed.emit() == data


@given(st.lists(ipv6_addresses, min_size=1, max_size=6), st.integers(0, 255), st.integers(0, 65535))
def test_segment_routing_header_agrees_with_scapy_both_ways(
    segments: list[str], flags: int, tag: int
) -> None:
    header = SegmentRoutingHeader(
        next_header=59, flags=flags, tag=tag, segment_list=tuple(segments)
    )
    data = header.emit()
    read = IPv6ExtHdrSegmentRouting(data)
    assert (read.type, read.lastentry, read.segleft, read.addresses, read.tag) == (
        4,
        len(segments) - 1,
        len(segments) - 1,
        segments,
        tag,
    )
    built = bytes(
        IPv6ExtHdrSegmentRouting(
            nh=59,
            addresses=segments,
            tag=tag,
            segleft=1,
            lastentry=len(segments) - 1,
            protected=1,
            oam=1,
        )
    )
    parsed, rest = parse_routing(built)
    assert isinstance(parsed, SegmentRoutingHeader)
    assert (parsed.segment_list, parsed.segments_left, parsed.tag) == (tuple(segments), 1, tag)
    assert parsed.flags == 0b0110_0000
    assert rest == b""
    assert parsed.emit() == built


def test_what_stands_behind_the_segment_list_is_kept_and_padded() -> None:
    header = SegmentRoutingHeader(next_header=59, segment_list=(A,), tlvs=b"\x05\x03abc")
    data = header.emit()
    assert len(data) == 32
    parsed, _ = parse_routing(data)
    assert parsed.tlvs == b"\x05\x03abc\0\0\0"
    assert parsed.emit() == data


@pytest.mark.parametrize(
    "data",
    [
        b"\x3b\x00\x03\x01abcd",  # a type we don't know
        b"\x3b\x01\x00\x01" + bytes(12),  # type 0 with half an address
        b"\x3b\x02\x04\x00\x01" + bytes(19),  # a segment list that is longer than the header
    ],
)
def test_routing_header_that_cannot_be_read_is_kept_as_bytes(data: bytes) -> None:
    header, rest = parse_routing(data + b"payload")
    assert isinstance(header, UnknownRoutingHeader)
    assert (header.routing_type, header.segments_left) == (data[2], data[3])
    assert header.data == data[4:]
    assert rest == b"payload"
    assert header.emit() == data


def test_contradictions_are_located_where_one_type_is_asked_for() -> None:
    with pytest.raises(MalformedError, match="half an address"):
        RoutingHeader.parse(b"\x3b\x01\x00\x01" + bytes(12))
    with pytest.raises(MalformedError, match="last_entry 1"):
        SegmentRoutingHeader.parse(b"\x3b\x02\x04\x00\x01" + bytes(19))


@pytest.mark.parametrize(
    ("routing", "theirs"),
    [
        (RoutingHeader(addresses=(B, C)), IPv6ExtHdrRouting(addresses=[B, C])),
        (
            RoutingHeader(addresses=(B, C), segments_left=0),
            IPv6ExtHdrRouting(addresses=[B, C], segleft=0),
        ),
        (
            SegmentRoutingHeader(segment_list=(C, B)),
            IPv6ExtHdrSegmentRouting(addresses=[C, B], segleft=1, lastentry=1),
        ),
        (
            SegmentRoutingHeader(segment_list=(C, B), segments_left=0),
            IPv6ExtHdrSegmentRouting(addresses=[C, B], segleft=0, lastentry=1),
        ),
    ],
    ids=["type 0 under way", "type 0 arrived", "type 4 under way", "type 4 arrived"],
)
def test_checksum_covers_the_final_destination_as_scapys_does(routing, theirs) -> None:
    ours = (IPv6Header(src_addr=A, dst_addr=B) / routing / TCPHeader(dst_port=80) / b"data").emit()
    built = bytes(IPv6(src=A, dst=B) / theirs / TCP(sport=0, dport=80, flags=0, window=0) / b"data")
    assert ours == built


def test_one_segment_is_the_destination_itself() -> None:
    routing = SegmentRoutingHeader(segment_list=(C,))
    assert routing.addresses_within(A, B) == (A, B)
    assert RoutingHeader().addresses_within(A, B) == (A, B)
    assert UnknownRoutingHeader(segments_left=3).addresses_within(A, B) == (A, B)


@given(
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 0x1FFF),
    st.integers(0, 7),
    st.integers(0, 2**32 - 1),
)
def test_fragment_header_agrees_with_scapy_both_ways(
    next_header: int, reserved: int, offset: int, flags: int, identification: int
) -> None:
    header = FragmentHeader(
        next_header=next_header,
        reserved=reserved,
        fragment_offset=offset,
        flags=flags,
        identification=identification,
    )
    data = bytes(
        IPv6ExtHdrFragment(
            nh=next_header, res1=reserved, offset=offset, res2=flags >> 1, m=flags & MF,
            id=identification,
        )
    )  # fmt: skip
    assert header.emit() == data
    assert FragmentHeader.parse(data + b"payload") == (header, b"payload")
    read = IPv6ExtHdrFragment(data)
    assert (read.nh, read.res1, read.offset, read.res2, read.m, read.id) == (
        next_header,
        reserved,
        offset,
        flags >> 1,
        flags & MF,
        identification,
    )


@pytest.mark.parametrize(
    "header",
    [
        HopByHopOptions(),
        DestinationOptions(),
        RoutingHeader(),
        SegmentRoutingHeader(),
        UnknownRoutingHeader(),
        FragmentHeader(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_next_header_comes_from_what_is_inside(header) -> None:
    assert header.emit()[0] == 59
    assert header.emit(b"plain")[0] == 255
    assert (header / UDPHeader(checksum=0)).emit()[0] == 17
    assert (IPv6Header() / header).emit()[6] == type(header).ip_protocol


def test_forced_length_goes_out_as_it_is() -> None:
    assert HopByHopOptions(hdr_ext_len=7).emit()[1] == 7
    assert RoutingHeader(hdr_ext_len=255, addresses=(A,)).emit()[1] == 255


@pytest.mark.parametrize(
    ("parse", "header"),
    [
        (
            HopByHopOptions.parse,
            HopByHopOptions(options=(options.RouterAlert(), options.JumboPayload(length=9))),
        ),
        (DestinationOptions.parse, DestinationOptions(options=(options.PadN(data=b"abc"),))),
        (parse_routing, RoutingHeader(addresses=(A, B))),
        (parse_routing, SegmentRoutingHeader(segment_list=(A, B), tlvs=b"\0\0")),
        (parse_routing, UnknownRoutingHeader()),
        (RoutingHeader.parse, RoutingHeader(addresses=(A, B))),
        (SegmentRoutingHeader.parse, SegmentRoutingHeader(segment_list=(A, B))),
        (FragmentHeader.parse, FragmentHeader()),
    ],
)
def test_damage_is_located(parse, header) -> None:
    data = header.emit()
    assert_parser_is_total(parse, data)
    assert_truncated_below(parse, data, len(data))
    with pytest.raises(TruncatedError) as truncated:
        parse(data[:-1])
    assert (truncated.value.needed, truncated.value.got) == (len(data), len(data) - 1)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (HopByHopOptions(next_header=256), "next_header"),
        (HopByHopOptions(hdr_ext_len=-1), "hdr_ext_len"),
        (HopByHopOptions(options=(options.RouterAlert(value=65536),)), "RouterAlert.value"),
        (HopByHopOptions(options=(options.JumboPayload(length=-1),)), "JumboPayload.length"),
        (HopByHopOptions(options=(options.PadN(data=bytes(256)),)), "255 bytes"),
        (HopByHopOptions(options=(options.UnknownOption(kind=256),)), "0 to 255"),
        (HopByHopOptions(options=(options.PadN(data=bytes(255)),) * 9), "2048 bytes"),
        (RoutingHeader(segments_left=256), "segments_left"),
        (RoutingHeader(reserved=-1), "reserved"),
        (RoutingHeader(addresses=("10.0.0.1",)), "IPv6"),
        (RoutingHeader(addresses=(A,) * 128), "2048 bytes"),
        (SegmentRoutingHeader(tag=65536), "tag"),
        (SegmentRoutingHeader(last_entry=256), "last_entry"),
        (UnknownRoutingHeader(routing_type=256), "routing_type"),
        (FragmentHeader(fragment_offset=8192), "fragment_offset"),
        (FragmentHeader(flags=8), "flags"),
        (FragmentHeader(identification=2**32), "identification"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_field_that_does_not_fit_is_named(header, match: str) -> None:
    with pytest.raises(EmitError, match=match):
        header.emit()
