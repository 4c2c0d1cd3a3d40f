"""ICMPv6: every message both ways against scapy, its pseudo-header, its damage, its words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLQuery,
    ICMPv6MLReport2,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    ICMPv6Unknown,
    IPv6,
)
from scapy.packet import Packet, Raw

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire import icmpv6 as ours
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import InterfaceIdentification
from rawproto.wire.icmpv6 import ICMPv6Message, describe, parse_icmpv6, peek_echo, peek_error
from rawproto.wire.ipv6 import IPv6Header
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

ADDRESSES = {"src_addr": "2001:db8::1", "dst_addr": "2001:db8::2"}

bits8 = st.integers(0, 0xFF)
bits16 = st.integers(0, 0xFFFF)
bits32 = st.integers(0, 0xFFFFFFFF)
quotes = st.binary(max_size=120)


def through_scapy(message: Packet) -> bytes:
    """A message's bytes as scapy builds them inside an IPv6 packet, checksum computed."""
    outer = IPv6(src=ADDRESSES["src_addr"], dst=ADDRESSES["dst_addr"])
    return bytes(outer / message)[40:]


def assert_agrees(message: ICMPv6Message, payload: bytes, theirs: Packet) -> None:
    """Both build the same bytes; reading them gives both their fields again."""
    data = message.emit(payload, **ADDRESSES)
    assert through_scapy(theirs) == data
    parsed, rest = parse_icmpv6(data)
    assert type(parsed) is type(message)
    assert rest == payload
    assert parsed.recomputed() == message
    assert parsed.emit(rest) == data
    read = type(theirs)(data)
    assert read.cksum == parsed.checksum
    for name, value in theirs.fields.items():
        assert getattr(read, name) == value, name
    assert ICMPv6Message.verify(data, **ADDRESSES)
    assert not ICMPv6Message.verify(data, src_addr="2001:db8::3", dst_addr="2001:db8::2")


@given(st.booleans(), bits8, bits16, bits16, st.binary(max_size=64))
def test_echo_agrees_with_scapy(
    request: bool, code: int, identifier: int, sequence_number: int, payload: bytes
) -> None:
    message = ours.ICMPv6Echo(
        icmp_type=128 if request else 129,
        code=code,
        identifier=identifier,
        sequence_number=sequence_number,
    )
    kind = ICMPv6EchoRequest if request else ICMPv6EchoReply
    theirs = kind(code=code, id=identifier, seq=sequence_number, data=payload)
    assert_agrees(message, payload, theirs)


@given(bits8, st.integers(0, 0xFFFFFF), quotes)
def test_unreachable_and_time_exceeded_agree_with_scapy(
    code: int, unused: int, quote: bytes
) -> None:
    for kind, theirs in (
        (ours.ICMPv6DestinationUnreachable, ICMPv6DestUnreach),
        (ours.ICMPv6TimeExceeded, ICMPv6TimeExceeded),
    ):
        message = kind(code=code, unused=unused, original_datagram=quote)
        built = theirs(code=code, unused=unused)
        assert_agrees(message, b"", built / Raw(quote) if quote else built)


@given(bits8, bits32, quotes)
def test_packet_too_big_and_parameter_problem_agree_with_scapy(
    code: int, word: int, quote: bytes
) -> None:
    too_big = ours.ICMPv6PacketTooBig(code=code, mtu=word, original_datagram=quote)
    problem = ours.ICMPv6ParameterProblem(code=code, pointer=word, original_datagram=quote)
    for message, built in (
        (too_big, ICMPv6PacketTooBig(code=code, mtu=word)),
        (problem, ICMPv6ParamProblem(code=code, ptr=word)),
    ):
        assert_agrees(message, b"", built / Raw(quote) if quote else built)


@pytest.mark.parametrize(
    "theirs",
    [
        ICMPv6MLQuery(mladdr="ff02::1"),
        ICMPv6MLReport2(),
        ICMPv6Unknown(type=155, code=2, msgbody=b"rpl"),
        ICMPv6Unknown(type=100, msgbody=b""),
    ],
    ids=lambda each: each.name,
)
def test_message_without_a_class_is_kept_whole(theirs: Packet) -> None:
    data = through_scapy(theirs)
    parsed, payload = parse_icmpv6(data)
    assert isinstance(parsed, ours.ICMPv6Unknown)
    # scapy calls the second byte of an MLDv2 report by its new name.
    code = theirs.code if hasattr(theirs, "code") else theirs.reserved
    assert (parsed.icmp_type, parsed.code) == (theirs.type, code)
    assert payload == data[4:]
    assert parsed.emit(payload) == data
    assert parsed.recomputed().emit(payload, **ADDRESSES) == data


def test_extended_echo_differs_from_icmps_by_its_type_alone() -> None:
    structure = ICMPExtensions(objects=(InterfaceIdentification(if_addr="2001:db8::9"),))
    request = ours.ICMPv6ExtendedEcho(identifier=7, sequence_number=9, extensions=structure)
    data = request.emit(**ADDRESSES)
    assert data[0] == 160
    assert data[4:8] == b"\x00\x07\x09\x01"
    assert data[8:] == structure.emit()
    parsed, _ = parse_icmpv6(data)
    assert parsed.recomputed() == request
    assert parsed.interface.if_addr == "2001:db8::9"
    reply = ours.ICMPv6ExtendedEchoReply(state=2, active=True, ipv6=True)
    data = reply.emit(**ADDRESSES)
    assert (data[0], data[7]) == (161, 0b01000101)
    assert parse_icmpv6(data)[0].recomputed() == reply
    assert ICMPv6Message.verify(data, **ADDRESSES)


def test_stack_hands_its_addresses_to_the_checksum() -> None:
    outer = IPv6Header(**ADDRESSES)
    for message in (ours.ICMPv6Echo(identifier=1), ours.ICMPv6TimeExceeded()):
        data = (outer / message / b"inside").emit()
        assert data[6] == 58
        assert data[40:] == message.emit(b"inside", **ADDRESSES)


def test_peeks_tell_what_the_whole_parse_does() -> None:
    reply = ours.ICMPv6Echo(icmp_type=129, identifier=1, sequence_number=2, checksum=0).emit()
    assert peek_echo(memoryview(reply)) == (129, 1, 2)
    assert peek_error(reply) is None
    error = ours.ICMPv6PacketTooBig(checksum=0, original_datagram=b"quoted").emit()
    assert peek_error(memoryview(error)) == (2, 0)
    assert peek_echo(error) is None
    assert peek_error(error[:7]) is None
    errors = [number for number in range(256) if peek_error(bytes((number, 9)) + bytes(6))]
    assert errors == list(range(128))


WHOLES = {
    "echo": ours.ICMPv6Echo(identifier=1).emit(b"payload", **ADDRESSES),
    "unreachable": ours.ICMPv6DestinationUnreachable(original_datagram=bytes(48)).emit(**ADDRESSES),
    "too big": ours.ICMPv6PacketTooBig(original_datagram=bytes(48)).emit(**ADDRESSES),
    "time exceeded": ours.ICMPv6TimeExceeded(
        original_datagram=bytes(48),
        extensions=ICMPExtensions(objects=(InterfaceIdentification(if_index=7),)),
    ).emit(**ADDRESSES),
    "parameter problem": ours.ICMPv6ParameterProblem(original_datagram=bytes(48)).emit(**ADDRESSES),
    "extended echo": ours.ICMPv6ExtendedEcho(extensions=ICMPExtensions()).emit(**ADDRESSES),
    "extended echo reply": ours.ICMPv6ExtendedEchoReply().emit(**ADDRESSES),
}


@pytest.mark.parametrize("whole", WHOLES.values(), ids=WHOLES)
def test_damage_gives_a_wire_error_or_a_message(whole: bytes) -> None:
    assert_parser_is_total(parse_icmpv6, whole)
    assert_truncated_below(parse_icmpv6, whole, 8)
    with pytest.raises(TruncatedError) as truncated:
        parse_icmpv6(whole[:7])
    assert (truncated.value.needed, truncated.value.got) == (8, 7)


@given(st.binary(min_size=40, max_size=240))
def test_any_message_emits_again_as_it_was(data: bytes) -> None:
    message, payload = parse_icmpv6(data)
    assert message.emit(payload) == data


@given(st.sampled_from([1, 2, 3, 4, 133, 134, 135, 136, 137, 160, 161]), st.binary(min_size=39))
def test_any_message_with_a_class_emits_again_as_it_was(icmp_type: int, rest: bytes) -> None:
    data = bytes((icmp_type,)) + rest
    message, payload = parse_icmpv6(data)
    assert not isinstance(message, ours.ICMPv6Unknown)
    assert message.emit(payload) == data


@pytest.mark.parametrize("whole", WHOLES.values(), ids=WHOLES)
def test_class_refuses_the_types_of_others(whole: bytes) -> None:
    for kind in (ours.ICMPv6Echo, ours.ICMPv6PacketTooBig, ours.ICMPv6TimeExceeded):
        if whole[0] not in kind.icmp_types:
            with pytest.raises(MalformedError, match=f"type {whole[0]} is no {kind.__name__}"):
                kind.parse(whole)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (ours.ICMPv6Echo(identifier=65536), "identifier"),
        (ours.ICMPv6Echo(checksum=-1), "checksum"),
        (ours.ICMPv6Echo(code=None), "ICMPv6Echo"),
        (ours.ICMPv6DestinationUnreachable(unused=1 << 24), "unused"),
        (ours.ICMPv6TimeExceeded(length=256), "length"),
        (ours.ICMPv6PacketTooBig(mtu=1 << 32), "mtu"),
        (ours.ICMPv6ParameterProblem(pointer=-1), "pointer"),
        (ours.ICMPv6ParameterProblem(code=256), "code"),
        (ours.ICMPv6Unknown(icmp_type=256), "icmp_type"),
    ],
)
def test_field_that_does_not_fit_is_named(message: ICMPv6Message, name: str) -> None:
    with pytest.raises(EmitError, match=name):
        message.emit(**ADDRESSES)


@pytest.mark.parametrize("message", [ours.ICMPv6Echo(), ours.ICMPv6PacketTooBig()])
def test_checksum_wants_addresses(message: ICMPv6Message) -> None:
    with pytest.raises(EmitError, match="addresses"):
        message.emit()
    with pytest.raises(EmitError, match="addresses"):
        message.emit(src_addr="::1")
    with pytest.raises(TruncatedError):
        ICMPv6Message.verify(b"\x80\0\0", **ADDRESSES)


@pytest.mark.parametrize(
    ("icmp_type", "code", "words"),
    [
        (1, 0, "Destination unreachable: No route"),
        (1, 1, "Destination unreachable: Administratively prohibited"),
        (1, 3, "Destination unreachable: Address unreachable"),
        (1, 4, "Destination unreachable: Port unreachable"),
        (1, 9, "Destination unreachable: Unknown code 9"),
        (2, 0, "Packet too big"),
        (3, 0, "Time exceeded: Hop limit"),
        (3, 1, "Time exceeded: Defragmentation failure"),
        (4, 1, "Parameter problem: Unknown header"),
        (129, 0, "Echo reply"),
        (200, 0, "Unknown ICMPv6 type: 200"),
    ],
)
def test_messages_are_described_in_pings_words(icmp_type: int, code: int, words: str) -> None:
    assert describe(icmp_type, code) == words
