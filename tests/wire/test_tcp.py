"""TCP: fields, every option and checksums both ways against scapy, over both families; damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire import tcp_options as options
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.tcp import ACK, AE, CWR, ECE, FIN, PSH, RST, SYN, URG, TCPHeader
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

ADDRESSES = {
    4: {"src_addr": "10.0.0.1", "dst_addr": "10.0.0.2"},
    6: {"src_addr": "2001:db8::1", "dst_addr": "2001:db8::2"},
}

ports = st.integers(0, 0xFFFF)
words = st.integers(0, 2**32 - 1)

headers = st.builds(
    TCPHeader,
    src_port=ports,
    dst_port=ports,
    sequence_number=words,
    acknowledgment_number=words,
    reserved=st.integers(0, 7),
    flags=st.integers(0, 511),
    window=ports,
    urgent_pointer=ports,
)

KNOWN_OPTIONS = [
    (options.NoOperation(), ("NOP", None)),
    (options.MSS(mss=1400), ("MSS", 1400)),
    (options.WindowScale(shift=14), ("WScale", 14)),
    (options.SACKPermitted(), ("SAckOK", b"")),
    (options.SACK(blocks=((1, 2),)), ("SAck", (1, 2))),
    (
        options.SACK(blocks=((2**32 - 1, 5), (7, 9), (0, 1), (3, 4))),
        ("SAck", (2**32 - 1, 5, 7, 9, 0, 1, 3, 4)),
    ),
    (options.Timestamps(tsval=2**32 - 1, tsecr=7), ("Timestamp", (2**32 - 1, 7))),
    (options.MD5Signature(digest=bytes(range(16))), ("MD5", bytes(range(16)))),
    (
        options.FastOpen(cookie=bytes(range(8))),
        ("TFO", (0x00010203, 0x04050607)),
    ),
    (options.UnknownOption(kind=253, data=b"abcd"), (253, b"abcd")),
]


def fields_of(segment: TCP) -> dict[str, object]:
    """scapy's fields under the RFC's names."""
    return {
        "src_port": segment.sport,
        "dst_port": segment.dport,
        "sequence_number": segment.seq,
        "acknowledgment_number": segment.ack,
        "data_offset": segment.dataofs,
        "reserved": segment.reserved,
        "flags": int(segment.flags),
        "window": segment.window,
        "checksum": segment.chksum,
        "urgent_pointer": segment.urgptr,
    }


def built_by_scapy(header: TCPHeader, payload: bytes, family: int, their_options=()) -> bytes:
    addresses = ADDRESSES[family]
    outer = (IP if family == 4 else IPv6)(src=addresses["src_addr"], dst=addresses["dst_addr"])
    segment = TCP(
        sport=header.src_port,
        dport=header.dst_port,
        seq=header.sequence_number,
        ack=header.acknowledgment_number,
        reserved=header.reserved,
        flags=header.flags,
        window=header.window,
        urgptr=header.urgent_pointer,
        options=list(their_options),
    )
    return bytes(outer / segment / payload)[len(bytes(outer)) :]


@pytest.mark.parametrize("family", [4, 6])
@given(header=headers, payload=st.binary(max_size=64))
def test_agrees_with_scapy_both_ways(family: int, header: TCPHeader, payload: bytes) -> None:
    data = built_by_scapy(header, payload, family)
    assert header.emit(payload, **ADDRESSES[family]) == data
    parsed, rest = TCPHeader.parse(data)
    read = fields_of(TCP(data))
    assert {name: getattr(parsed, name) for name in read} == read
    assert rest == payload
    assert parsed.recomputed() == header
    assert parsed.emit(rest) == data
    assert TCPHeader.verify(data, **ADDRESSES[family]) is True


@pytest.mark.parametrize(("option", "theirs"), KNOWN_OPTIONS, ids=lambda value: str(value)[:14])
def test_each_option_agrees_with_scapy_both_ways(option, theirs) -> None:
    header = TCPHeader(src_port=1, dst_port=2, flags=SYN, options=(option,))
    data = header.emit(b"payload", **ADDRESSES[4])
    assert TCP(data).options[0] == theirs
    built = built_by_scapy(header, b"payload", 4, [theirs])
    for segment in (data, built):
        parsed, payload = TCPHeader.parse(segment)
        assert parsed.options[0] == option
        assert parsed.options[0].kind == option.emit()[0]
        assert payload == b"payload"
        assert parsed.emit(payload) == segment
        assert TCPHeader.verify(segment, **ADDRESSES[4])


def test_all_options_of_a_syn_come_back_in_order() -> None:
    opts = (
        options.MSS(mss=1460),
        options.SACKPermitted(),
        options.Timestamps(tsval=1),
        options.NoOperation(),
        options.WindowScale(shift=7),
        options.FastOpen(),
    )
    data = TCPHeader(flags=SYN, options=opts, checksum=0).emit()
    assert TCPHeader.parse(data)[0].options == opts
    assert [name for name, _ in TCP(data).options][:5] == [
        "MSS",
        "SAckOK",
        "Timestamp",
        "NOP",
        "WScale",
    ]


@pytest.mark.parametrize("size", [0, 4, 8, 16, 38])
def test_fast_open_cookie_has_any_length(size: int) -> None:
    option = options.FastOpen(cookie=b"c" * size)
    assert options.parse_options(option.emit()) == (option,)


@given(st.binary(max_size=40).map(lambda data: data + bytes(-len(data) % 4)))
def test_any_option_field_emits_again_as_it_was(data: bytes) -> None:
    assert options.emit_options(options.parse_options(data)) == data


@given(st.binary(min_size=20, max_size=90).map(lambda d: d[:12] + bytes((d[12] | 0x50,)) + d[13:]))
def test_any_readable_header_emits_again_as_it_was(data: bytes) -> None:
    try:
        header, payload = TCPHeader.parse(data)
    except TruncatedError:
        return
    assert header.emit(payload) == data


@pytest.mark.parametrize(
    "data", [b"\x02", b"\x02\x00ab", b"\x02\x01", b"\x02\x05ab", b"\x08\x0aabcdefg", b"\xfd\xffab"]
)
def test_unreadable_option_is_kept_as_it_is(data: bytes) -> None:
    assert options.parse_options(b"\x01" + data) == (
        options.NoOperation(),
        options.RawOptions(data=data),
    )


@pytest.mark.parametrize("data", [b"\x02\x03a", b"\x03\x02", b"\x04\x03a", b"\x05\x06abcd"])
def test_known_kind_of_another_length_is_an_unknown_option(data: bytes) -> None:
    assert options.parse_options(data) == (options.UnknownOption(kind=data[0], data=data[2:]),)


def test_what_stands_behind_the_end_of_options_is_kept() -> None:
    assert options.parse_options(b"\x00secret!") == (options.EndOfOptions(padding=b"secret!"),)
    assert options.parse_options(b"\x01\x00\x00\x00") == (options.NoOperation(),)


def test_control_bits_have_scapys_places() -> None:
    bits = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "A": ACK, "U": URG, "E": ECE, "C": CWR, "N": AE}
    for letter, bit in bits.items():
        assert str(TCP(TCPHeader(flags=bit, checksum=0).emit()).flags) == letter


def test_forced_fields_go_out_as_they_are() -> None:
    read = fields_of(TCP(TCPHeader(data_offset=15, checksum=0xDEAD).emit()))
    assert (read["data_offset"], read["checksum"]) == (15, 0xDEAD)


def test_ip_headers_give_protocol_and_addresses() -> None:
    data = (IPv4Header(**ADDRESSES[4]) / TCPHeader(flags=SYN) / b"x").emit()
    assert data[9] == 6
    assert TCPHeader.verify(data[20:], **ADDRESSES[4])


def test_damaged_payload_fails_verification() -> None:
    data = TCPHeader().emit(b"abcd", **ADDRESSES[6])
    assert TCPHeader.verify(data[:-1] + b"x", **ADDRESSES[6]) is False
    with pytest.raises(TruncatedError):
        TCPHeader.verify(data[:19], **ADDRESSES[6])


def test_damage_is_located() -> None:
    data = TCPHeader(checksum=1).emit(b"payload")
    assert_parser_is_total(TCPHeader.parse, data)
    assert_truncated_below(TCPHeader.parse, data, 20)
    full = TCPHeader(checksum=1, options=tuple(option for option, _ in KNOWN_OPTIONS[:5])).emit()
    assert_parser_is_total(TCPHeader.parse, full)
    with pytest.raises(TruncatedError) as truncated:
        TCPHeader.parse(full[:-1])
    assert (truncated.value.offset, truncated.value.needed, truncated.value.got) == (20, 20, 19)
    with pytest.raises(MalformedError, match="data_offset 4") as malformed:
        TCPHeader.parse(data[:12] + b"\x40" + data[13:])
    assert malformed.value.offset == 12


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("src_port", 65536),
        ("dst_port", -1),
        ("sequence_number", 2**32),
        ("acknowledgment_number", -1),
        ("data_offset", 16),
        ("reserved", 8),
        ("flags", 512),
        ("flags", "S"),
        ("window", 65536),
        ("checksum", -1),
        ("urgent_pointer", 65536),
    ],
)
def test_field_that_does_not_fit_is_named(name: str, value: object) -> None:
    with pytest.raises(EmitError, match=name) as refused:
        TCPHeader(**{"checksum": 0, name: value}).emit()
    assert refused.value.value == value


@pytest.mark.parametrize(
    ("option", "match"),
    [
        (options.MSS(mss=65536), "MSS.mss"),
        (options.WindowScale(shift=256), "shift"),
        (options.SACK(blocks=((0, 2**32),)), "blocks"),
        (options.SACK(blocks=(1,)), "blocks"),
        (options.SACK(blocks=((1, 2),) * 5), "40 bytes"),
        (options.Timestamps(tsval=-1), "Timestamps"),
        (options.UnknownOption(kind=256), "UnknownOption"),
        (options.FastOpen(cookie=bytes(254)), "cookie"),
    ],
)
def test_option_that_does_not_fit_is_named(option, match: str) -> None:
    with pytest.raises(EmitError, match=match):
        TCPHeader(options=(option,), checksum=0).emit()


def test_missing_addresses_are_named() -> None:
    with pytest.raises(EmitError, match="addresses"):
        TCPHeader().emit(b"x")
