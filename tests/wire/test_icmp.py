"""ICMP: every message both ways against scapy, its checksum, its damage, its words."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.icmp import (
    ICMPDestinationUnreachable,
    ICMPEcho,
    ICMPExtendedEcho,
    ICMPExtendedEchoReply,
    ICMPMessage,
    ICMPParameterProblem,
    ICMPRedirect,
    ICMPTimeExceeded,
    ICMPTimestamp,
    ICMPUnknown,
    describe,
    parse_icmp,
    peek_echo,
    peek_error,
)
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import InterfaceIdentification, UnknownObject
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.udp import UDPHeader
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

bits8 = st.integers(0, 0xFF)
bits16 = st.integers(0, 0xFFFF)
bits32 = st.integers(0, 0xFFFFFFFF)
addresses = st.ip_addresses(v=4).map(str)
# Below 128 bytes nothing can be taken for extensions, which test_icmp_ext.py looks at.
quotes = st.binary(max_size=120)

echoes = st.builds(
    ICMPEcho,
    icmp_type=st.sampled_from([0, 8]),
    code=bits8,
    identifier=bits16,
    sequence_number=bits16,
)
timestamps = st.builds(
    ICMPTimestamp,
    icmp_type=st.sampled_from([13, 14]),
    code=bits8,
    identifier=bits16,
    sequence_number=bits16,
    originate_timestamp=bits32,
    receive_timestamp=bits32,
    transmit_timestamp=bits32,
)
errors = st.one_of(
    st.builds(
        ICMPDestinationUnreachable,
        code=bits8,
        unused=bits8,
        next_hop_mtu=bits16,
        original_datagram=quotes,
    ),
    st.builds(
        ICMPTimeExceeded, code=bits8, unused=bits8, unused_low=bits16, original_datagram=quotes
    ),
    st.builds(
        ICMPParameterProblem, code=bits8, pointer=bits8, unused=bits16, original_datagram=quotes
    ),
    st.builds(ICMPRedirect, code=bits8, gateway_addr=addresses, original_datagram=quotes),
)
messages = st.one_of(echoes, timestamps, errors)

# Our names of fields, by the names of scapy's.
SCAPY_NAMES = {
    "type": "icmp_type",
    "chksum": "checksum",
    "id": "identifier",
    "seq": "sequence_number",
    "ts_ori": "originate_timestamp",
    "ts_rx": "receive_timestamp",
    "ts_tx": "transmit_timestamp",
    "gw": "gateway_addr",
    "ptr": "pointer",
    "nexthopmtu": "next_hop_mtu",
}


def scapy_fields(message: ICMPMessage) -> dict[str, object]:
    """Our message's fields as arguments of scapy's ICMP."""
    names = {ours: theirs for theirs, ours in SCAPY_NAMES.items()}
    if isinstance(message, ICMPDestinationUnreachable):
        names["unused"] = "reserved"
    elif isinstance(message, ICMPTimeExceeded):
        names |= {"unused": "reserved", "unused_low": "unused"}
    return {
        names.get(field.name, field.name): getattr(message, field.name)
        for field in dataclasses.fields(message)
        if field.name not in {"original_datagram", "extensions", "length", "checksum"}
    }


@given(messages, st.binary(max_size=64))
def test_scapy_reads_what_we_emit(message: ICMPMessage, payload: bytes) -> None:
    data = message.emit(payload)
    read = ICMP(data)
    for name, value in scapy_fields(message).items():
        assert getattr(read, name) == value, name
    assert ICMPMessage.verify(data)
    assert read.chksum == int.from_bytes(data[2:4], "big")
    if not isinstance(message, ICMPTimestamp | ICMPEcho):
        payload = message.original_datagram + payload
    assert data.endswith(payload)
    assert len(data) == len(payload) + (20 if isinstance(message, ICMPTimestamp) else 8)


@given(messages, st.binary(max_size=64))
def test_we_read_what_scapy_builds(message: ICMPMessage, payload: bytes) -> None:
    quote = getattr(message, "original_datagram", b"")
    if quote or not isinstance(message, ICMPTimestamp | ICMPEcho):
        payload = b""
    theirs = ICMP(**scapy_fields(message))
    data = bytes(theirs / Raw(quote + payload) if quote + payload else theirs)
    assert message.emit(payload) == data
    parsed, rest = parse_icmp(data)
    assert type(parsed) is type(message)
    assert rest == payload
    assert parsed.recomputed() == message
    assert parsed.emit(rest) == data
    assert parsed.checksum == int.from_bytes(data[2:4], "big")


@pytest.mark.parametrize("icmp_type", [4, 9, 10, 15, 16, 17, 18, 30, 44, 255])
def test_message_without_a_class_is_kept_whole(icmp_type: int) -> None:
    data = bytes(ICMP(type=icmp_type, code=7) / Raw(b"0123456789"))
    parsed, payload = parse_icmp(data)
    assert isinstance(parsed, ICMPUnknown)
    assert (parsed.icmp_type, parsed.code) == (icmp_type, 7)
    assert payload == data[4:]
    assert parsed.emit(payload) == data
    assert parsed.recomputed().emit(payload) == data


def test_extended_echo_request_has_the_layout_of_rfc_8335() -> None:
    # scapy has no class for it: the bytes are laid out here by the RFC's figures.
    request = ICMPExtendedEcho(
        identifier=0x1234,
        sequence_number=0x56,
        local=True,
        extensions=ICMPExtensions(objects=(InterfaceIdentification(if_name="eth0"),)),
    )
    data = request.emit()
    assert data[:2] == b"\x2a\x00"
    assert data[4:8] == b"\x12\x34\x56\x01"
    assert data[8:10] == b"\x20\x00"
    assert data[12:] == b"\x00\x08\x03\x01eth0"
    assert ICMPMessage.verify(data)
    assert ICMPExtensions.verify(data[8:])
    parsed, payload = parse_icmp(data)
    assert isinstance(parsed, ICMPExtendedEcho)
    assert payload == b""
    assert parsed.interface == InterfaceIdentification(if_name="eth0")
    assert parsed.recomputed() == request
    assert parsed.emit() == data


def test_extended_echo_reply_bits_have_the_places_of_rfc_8335() -> None:
    data = bytes.fromhex("2b02 0000 1234 56 5d")
    parsed, payload = parse_icmp(data + b"rest")
    assert isinstance(parsed, ICMPExtendedEchoReply)
    assert (parsed.code, parsed.identifier, parsed.sequence_number) == (2, 0x1234, 0x56)
    assert (parsed.state, parsed.reserved) == (2, 3)
    assert (parsed.active, parsed.ipv4, parsed.ipv6) == (True, False, True)
    assert payload == b"rest"
    assert parsed.emit(payload) == data + b"rest"


@given(
    st.builds(
        ICMPExtendedEchoReply,
        code=bits8,
        identifier=bits16,
        sequence_number=bits8,
        state=st.integers(0, 7),
        reserved=st.integers(0, 3),
        active=st.booleans(),
        ipv4=st.booleans(),
        ipv6=st.booleans(),
    )
)
def test_extended_echo_reply_round_trips(reply: ICMPExtendedEchoReply) -> None:
    assert parse_icmp(reply.emit())[0].recomputed() == reply


def test_extended_echo_request_without_extensions_is_read() -> None:
    parsed, payload = parse_icmp(bytes.fromhex("2a00 0000 0001 02 fe aabbcc"))
    assert isinstance(parsed, ICMPExtendedEcho)
    assert (parsed.local, parsed.reserved, parsed.extensions) == (False, 0x7F, None)
    assert parsed.interface is None
    assert payload == bytes.fromhex("aabbcc")


def test_interface_is_found_behind_other_objects() -> None:
    other, asked = UnknownObject(class_num=99), InterfaceIdentification(if_index=3)
    request = ICMPExtendedEcho(extensions=ICMPExtensions(objects=(other, asked)))
    assert request.interface is asked
    assert ICMPExtendedEcho(extensions=ICMPExtensions(objects=(other,))).interface is None


def test_original_datagram_may_be_stacked() -> None:
    quoted = IPv4Header(ttl=1, src_addr="10.0.0.1", dst_addr="10.9.0.1") / UDPHeader(dst_port=33434)
    outer = IPv4Header(src_addr="10.0.0.254", dst_addr="10.0.0.1")
    data = (outer / ICMPTimeExceeded() / quoted).emit()
    read = IP(data)
    assert (read.proto, read[ICMP].type) == (1, 11)
    assert bytes(read[ICMP].payload) == quoted.emit()
    parsed, payload = parse_icmp(IPv4Header.parse(data)[1])
    assert parsed.original_datagram == quoted.emit()
    assert payload == b""


def test_peeks_tell_what_the_whole_parse_does() -> None:
    reply = ICMPEcho(icmp_type=0, identifier=0xABCD, sequence_number=0xFEDC).emit(b"data")
    assert peek_echo(reply) == peek_echo(memoryview(reply)) == (0, 0xABCD, 0xFEDC)
    assert peek_echo(reply[:7]) is None
    assert peek_error(reply) is None
    error = ICMPDestinationUnreachable(code=4, original_datagram=b"quoted").emit()
    assert peek_error(error) == peek_error(memoryview(error)) == (3, 4)
    assert error[8:] == b"quoted"
    assert peek_echo(error) is None
    assert peek_error(error[:7]) is None
    errors = [number for number in range(256) if peek_error(bytes((number, 9)) + bytes(6))]
    assert errors == [3, 4, 5, 11, 12], "those that quote a datagram (RFC 1122 section 3.2.2)"


WHOLES = {
    "echo": ICMPEcho(identifier=1, sequence_number=2).emit(b"payload"),
    "timestamp": ICMPTimestamp(identifier=1).emit(b"payload"),
    "unreachable": ICMPDestinationUnreachable(original_datagram=bytes(28)).emit(),
    "time exceeded": ICMPTimeExceeded(original_datagram=bytes(28)).emit(),
    "parameter problem": ICMPParameterProblem(original_datagram=bytes(28)).emit(),
    "redirect": ICMPRedirect(original_datagram=bytes(28)).emit(),
    "extended echo": ICMPExtendedEcho(
        extensions=ICMPExtensions(objects=(InterfaceIdentification(if_index=7),))
    ).emit(),
    "extended echo reply": ICMPExtendedEchoReply().emit(),
    "unknown": ICMPUnknown(icmp_type=99).emit(b"payload"),
}


@pytest.mark.parametrize("whole", WHOLES.values(), ids=WHOLES)
def test_damage_gives_a_wire_error_or_a_message(whole: bytes) -> None:
    assert_parser_is_total(parse_icmp, whole)
    fixed = {13: 20, 99: 4}.get(whole[0], 8)
    assert_truncated_below(parse_icmp, whole, fixed)
    with pytest.raises(TruncatedError) as truncated:
        parse_icmp(whole[: fixed - 1])
    assert (truncated.value.needed, truncated.value.got) == (fixed, fixed - 1)


@given(st.binary(min_size=20, max_size=200))
def test_any_message_emits_again_as_it_was(data: bytes) -> None:
    message, payload = parse_icmp(data)
    assert message.emit(payload) == data


@pytest.mark.parametrize("whole", WHOLES.values(), ids=WHOLES)
def test_class_refuses_the_types_of_others(whole: bytes) -> None:
    for kind in (ICMPEcho, ICMPTimestamp, ICMPRedirect, ICMPTimeExceeded):
        if whole[0] not in kind.icmp_types:
            with pytest.raises(MalformedError, match=f"type {whole[0]} is no {kind.__name__}"):
                kind.parse(whole + bytes(20))


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (ICMPEcho(identifier=65536), "identifier"),
        (ICMPEcho(sequence_number=-1), "sequence_number"),
        (ICMPEcho(checksum=65536), "checksum"),
        (ICMPEcho(icmp_type=256), "icmp_type"),
        (ICMPEcho(code="0"), "code"),
        (ICMPTimestamp(transmit_timestamp=1 << 32), "transmit_timestamp"),
        (ICMPTimestamp(code=256), "code"),
        (ICMPDestinationUnreachable(next_hop_mtu=65536), "next_hop_mtu"),
        (ICMPTimeExceeded(length=256), "length"),
        (ICMPParameterProblem(pointer=256), "pointer"),
        (ICMPExtendedEcho(reserved=128), "reserved"),
        (ICMPExtendedEchoReply(reserved=4), "reserved"),
        (ICMPExtendedEchoReply(state=8), "state"),
        (ICMPUnknown(icmp_type=-1), "icmp_type"),
    ],
)
def test_field_that_does_not_fit_is_named(message: ICMPMessage, name: str) -> None:
    with pytest.raises(EmitError, match=f"{type(message).__name__}.{name}"):
        message.emit(b"x")


def test_gateway_that_is_no_address_is_refused() -> None:
    with pytest.raises(EmitError, match="not an IPv4 address"):
        ICMPRedirect(gateway_addr="fe80::1").emit()


def test_forced_checksum_goes_out_and_fails_verification() -> None:
    data = ICMPEcho(checksum=0xBEEF).emit(b"x")
    assert data[2:4] == b"\xbe\xef"
    assert not ICMPMessage.verify(data)
    assert ICMPMessage.verify(ICMPEcho().emit(b"x"))
    with pytest.raises(TruncatedError):
        ICMPMessage.verify(b"\x08\x00\xff")


def test_layouts_describe_the_bytes_that_go_out() -> None:
    for whole in WHOLES.values():
        message, _ = parse_icmp(whole)
        number = 0
        for name, width in message.layout:
            value = getattr(message, name)
            number = number << width | (0 if isinstance(value, str) else int(value))
        size = sum(width for _, width in message.layout) // 8
        assert number.to_bytes(size, "big") == whole[:size]


@pytest.mark.parametrize(
    ("icmp_type", "code", "words"),
    [
        (3, 0, "Destination Net Unreachable"),
        (3, 1, "Destination Host Unreachable"),
        (3, 3, "Destination Port Unreachable"),
        (3, 4, "Frag needed and DF set"),
        (3, 13, "Packet filtered"),
        (3, 99, "Dest Unreachable, Bad Code: 99"),
        (5, 1, "Redirect Host"),
        (11, 0, "Time to live exceeded"),
        (11, 1, "Frag reassembly time exceeded"),
        (11, 2, "Time exceeded, Bad Code: 2"),
        (12, 0, "Parameter problem"),
        (0, 0, "Echo Reply"),
        (200, 0, "Bad ICMP type: 200"),
    ],
)
def test_messages_are_described_in_pings_words(icmp_type: int, code: int, words: str) -> None:
    assert describe(icmp_type, code) == words
