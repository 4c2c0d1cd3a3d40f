"""ICMP extensions: both forms in both families, every object against scapy and the RFCs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.mpls import MPLS, ICMPExtension_MPLS
from scapy.layers.inet import (
    ICMP,
    ICMPExtension_Header,
    ICMPExtension_InterfaceInformation,
    ICMPExtension_Object,
)
from scapy.packet import Raw

from rawproto.errors import EmitError, TruncatedError
from rawproto.wire.address import unpack_ipv6
from rawproto.wire.icmp import (
    ICMPDestinationUnreachable,
    ICMPParameterProblem,
    ICMPTimeExceeded,
    parse_icmp,
)
from rawproto.wire.icmp_error import ExtensibleError
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import (
    ICMPObject,
    InterfaceIdentification,
    InterfaceInformation,
    MPLSLabel,
    MPLSLabelStack,
    RawObjects,
    UnknownObject,
    parse_objects,
)
from rawproto.wire.icmpv6 import ICMPv6DestinationUnreachable, ICMPv6TimeExceeded, parse_icmpv6
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

ADDRESSES_V6 = {"src_addr": "2001:db8::1", "dst_addr": "2001:db8::2"}

bits32 = st.integers(0, 0xFFFFFFFF)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=15)
addresses = st.one_of(
    st.ip_addresses(v=4).map(str), st.binary(min_size=16, max_size=16).map(unpack_ipv6)
)

labels = st.builds(
    MPLSLabel,
    label=st.integers(0, (1 << 20) - 1),
    exp=st.integers(0, 7),
    bottom_of_stack=st.booleans(),
    ttl=st.integers(0, 255),
)
stacks = st.builds(MPLSLabelStack, labels=st.lists(labels, max_size=4).map(tuple))
information = st.builds(
    InterfaceInformation,
    role=st.integers(0, 3),
    if_index=st.none() | bits32,
    if_addr=st.none() | addresses,
    if_name=st.none() | names,
    mtu=st.none() | bits32,
)
identification = st.one_of(
    st.builds(InterfaceIdentification, if_name=names),
    st.builds(InterfaceIdentification, if_index=bits32),
    st.builds(InterfaceIdentification, if_addr=addresses),
)
unknown = st.builds(
    UnknownObject,
    class_num=st.integers(4, 255),
    c_type=st.integers(0, 255),
    data=st.binary(max_size=12),
)
objects = st.lists(st.one_of(stacks, information, identification, unknown), max_size=4).map(tuple)

STACK = MPLSLabelStack(
    labels=(
        MPLSLabel(label=24001, exp=5, bottom_of_stack=False, ttl=1),
        MPLSLabel(label=16, bottom_of_stack=True, ttl=254),
    )
)
EXTENSIONS = ICMPExtensions(objects=(STACK,))


@given(st.lists(labels, max_size=4))
def test_scapy_builds_the_same_label_stack_and_reads_ours(stack: list[MPLSLabel]) -> None:
    # scapy looks for no label behind the bottom of the stack.
    stack = [replace(each, bottom_of_stack=each is stack[-1]) for each in stack]
    theirs = ICMPExtension_Header() / ICMPExtension_MPLS(
        stack=[
            MPLS(label=each.label, cos=each.exp, s=int(each.bottom_of_stack), ttl=each.ttl)
            for each in stack
        ]
    )
    ours = ICMPExtensions(objects=(MPLSLabelStack(labels=tuple(stack)),))
    data = ours.emit()
    assert bytes(theirs) == data
    assert ICMPExtensions.parse(data)[0].recomputed() == ours
    read = ICMPExtension_Header(data)
    assert (read.version, read.reserved) == (2, 0)
    assert read.chksum == ICMPExtensions.parse(data)[0].checksum
    seen = [layer for each in read[ICMPExtension_MPLS].stack for layer in each.iterpayloads()]
    assert [(each.label, each.cos, each.s, each.ttl) for each in seen if MPLS in each] == [
        (each.label, each.exp, int(each.bottom_of_stack), each.ttl) for each in stack
    ]


@given(information)
def test_scapy_builds_the_same_interface_information(info: InterfaceInformation) -> None:
    fields: dict[str, object] = {"classtype": info.role}
    if info.if_index is not None:
        fields |= {"has_ifindex": 1, "ifindex": info.if_index}
    if info.if_addr is not None:
        family = "ip6" if ":" in info.if_addr else "ip4"
        fields |= {"has_ipaddr": 1, "afi": 2 if family == "ip6" else 1, family: info.if_addr}
    if info.if_name is not None:
        # scapy leaves padding and the length byte's own count to its caller.
        name = info.if_name.encode()
        name += bytes(-(1 + len(name)) % 4)
        fields |= {"has_ifname": 1, "ifname_len": 1 + len(name), "ifname": name}
    if info.mtu is not None:
        fields |= {"has_mtu": 1, "mtu": info.mtu}
    data = bytes(ICMPExtension_InterfaceInformation(**fields))
    assert info.emit() == data
    assert parse_objects(data) == (info,)


@given(st.builds(InterfaceInformation, role=st.integers(0, 3), if_index=bits32, mtu=bits32))
def test_scapy_reads_our_interface_information(info: InterfaceInformation) -> None:
    read = ICMPExtension_Object(info.emit())
    assert (read.classnum, read.classtype, read.ifindex, read.mtu) == (
        2,
        info.role,
        info.if_index,
        info.mtu,
    )


def test_interface_information_has_the_layout_of_rfc_5837() -> None:
    # By the figures of section 4: role 2, all four parts; a name of 6 bytes takes 8.
    data = bytes.fromhex(
        "001c 02 8f"
        "00000007"  # if_index
        "0001 0000 c0000201"  # address
        "08 657468302e35 00"  # name, its length and padding counted
        "000005dc"  # MTU
    )
    info = InterfaceInformation(role=2, if_index=7, if_addr="192.0.2.1", if_name="eth0.5", mtu=1500)
    assert parse_objects(data) == (info,)
    assert info.emit() == data
    assert info.roles[info.role] == "outgoing"


def test_interface_identification_has_the_layout_of_rfc_8335() -> None:
    by_name = bytes.fromhex("000c 03 01 65746831 30000000")
    by_index = bytes.fromhex("0008 03 02 0000002a")
    by_v4 = bytes.fromhex("000c 03 03 0001 04 00 c0000201")
    by_v6 = bytes.fromhex("0018 03 03 0002 10 00 20010db8000000000000000000000001")
    expected = (
        InterfaceIdentification(if_name="eth10"),
        InterfaceIdentification(if_index=42),
        InterfaceIdentification(if_addr="192.0.2.1"),
        InterfaceIdentification(if_addr="2001:db8::1"),
    )
    data = by_name + by_index + by_v4 + by_v6
    assert parse_objects(data) == expected
    assert b"".join(each.emit() for each in expected) == data


@given(objects)
def test_objects_round_trip(each: tuple[ICMPObject, ...]) -> None:
    structure = ICMPExtensions(objects=each)
    data = structure.emit()
    parsed, rest = ICMPExtensions.parse(data)
    assert rest == b""
    assert parsed.recomputed() == structure
    assert parsed.emit() == data
    assert ICMPExtensions.verify(data) is True


@given(st.binary(min_size=4, max_size=80))
def test_any_structure_emits_again_as_it_was(data: bytes) -> None:
    assert ICMPExtensions.parse(data)[0].emit() == data
    as_version_2 = bytes((0x20,)) + data[1:]
    assert ICMPExtensions.parse(as_version_2)[0].emit() == as_version_2


@given(st.sampled_from([1, 2, 3]), st.integers(0, 255), st.binary(max_size=40))
def test_any_object_of_a_known_class_emits_again_as_it_was(
    class_num: int, c_type: int, body: bytes
) -> None:
    data = (4 + len(body)).to_bytes(2, "big") + bytes((class_num, c_type)) + body
    (parsed,) = parse_objects(data)
    assert parsed.emit() == data


@pytest.mark.parametrize(
    "data",
    [
        "0007 01 01 aabbcc",  # labels that are no words
        "0008 02 18 00000001",  # a reserved bit in the c_type
        "0010 02 04 0003 0000 c0000201 00000000",  # an address family of its own
        "000c 02 04 0001 0001 c0000201",  # reserved bits before the address
        "0006 02 08 0001",  # half an index
        "0008 02 02 09414243",  # a name longer than its object
        "0008 02 02 00000000",  # a name without room for its own length
        "0008 02 02 04ffffff",  # no UTF-8
        "0008 02 02 04410042",  # a zero inside the name
        "0004 03 02",  # no index
        "0008 03 03 0001 08 00",  # an address shorter than it says
        "0008 03 04 00000001",  # a c_type that RFC 8335 does not define
        "0005 63 01 aa",
    ],
)
def test_object_that_says_what_its_fields_cannot_is_kept(data: str) -> None:
    whole = bytes.fromhex(data)
    assert parse_objects(whole) == (
        UnknownObject(class_num=whole[2], c_type=whole[3], data=whole[4:]),
    )


@pytest.mark.parametrize(
    "rest", [b"\x00", b"\x00\x08\x01", b"\x00\x03\x01\x01", b"\x00\x09\x01\x01xyzw"]
)
def test_rest_that_is_no_object_is_kept(rest: bytes) -> None:
    first = STACK.emit()
    assert parse_objects(first + rest) == (STACK, RawObjects(data=rest))


def test_structure_of_another_version_is_kept() -> None:
    data = ICMPExtensions(version=3, objects=(STACK,)).emit()
    parsed, _ = ICMPExtensions.parse(data)
    assert (parsed.version, parsed.objects) == (3, (RawObjects(data=STACK.emit()),))
    assert parsed.emit() == data


def test_structure_may_carry_no_checksum() -> None:
    data = ICMPExtensions(checksum=0, objects=(STACK,)).emit()
    assert ICMPExtensions.verify(data) is None
    assert ICMPExtensions.verify(data[:2] + b"\x00\x01" + data[4:]) is False
    with pytest.raises(TruncatedError):
        ICMPExtensions.verify(data[:3])


# Both forms, in the messages of both families that may carry extensions.

EXTENSIBLE = [
    ICMPDestinationUnreachable,
    ICMPTimeExceeded,
    ICMPParameterProblem,
    ICMPv6DestinationUnreachable,
    ICMPv6TimeExceeded,
]


def emit(message: ExtensibleError) -> bytes:
    if message.layer == "icmpv6":
        return message.emit(**ADDRESSES_V6)
    return message.emit()


def parse(kind: type[ExtensibleError], data: bytes) -> ExtensibleError:
    message, payload = (parse_icmpv6 if kind.layer == "icmpv6" else parse_icmp)(data)
    assert type(message) is kind
    assert payload == b""
    return message


@pytest.mark.parametrize("kind", EXTENSIBLE)
@given(original=st.binary(max_size=200), each=objects)
def test_compliant_form_round_trips(
    kind: type[ExtensibleError], original: bytes, each: tuple[ICMPObject, ...]
) -> None:
    message = kind(original_datagram=original, extensions=ICMPExtensions(objects=each))
    data = emit(message)
    parsed = parse(kind, data)
    unit = kind.length_unit
    padded = len(parsed.original_datagram)
    assert parsed.length == padded // unit
    assert padded % unit == 0
    assert padded >= 128
    assert padded - len(original) < max(unit, 129 - len(original))
    assert parsed.original_datagram == original.ljust(padded, b"\0")
    assert parsed.extensions.recomputed() == message.extensions
    assert not parsed.noncompliant
    assert parsed.emit() == data
    assert emit(parsed.recomputed()) == data


@pytest.mark.parametrize("kind", EXTENSIBLE)
@given(original=st.binary(max_size=128), each=objects)
def test_form_of_old_routers_is_told_apart_and_round_trips(
    kind: type[ExtensibleError], original: bytes, each: tuple[ICMPObject, ...]
) -> None:
    message = kind(length=0, original_datagram=original, extensions=ICMPExtensions(objects=each))
    data = emit(message)
    assert data[136] == 0x20
    parsed = parse(kind, data)
    assert (parsed.length, parsed.noncompliant) == (0, True)
    assert parsed.original_datagram == original.ljust(128, b"\0")
    assert parsed.extensions.recomputed() == message.extensions
    assert parsed.emit() == data
    compliant = parse(kind, emit(parsed.recomputed()))
    assert not compliant.noncompliant
    assert compliant.extensions == parsed.extensions


@pytest.mark.parametrize("kind", EXTENSIBLE)
@pytest.mark.parametrize(
    "structure",
    [
        ICMPExtensions(version=3, objects=(STACK,)).emit(),
        ICMPExtensions(checksum=0, objects=(STACK,)).emit(),
        ICMPExtensions(checksum=0x1234, objects=(STACK,)).emit(),
        ICMPExtensions(objects=(RawObjects(data=b"\x00\x03\x01\x01"),)).emit(),
        ICMPExtensions().emit()[:3],
    ],
    ids=["version", "no checksum", "wrong checksum", "no objects", "cut short"],
)
def test_long_quote_without_length_is_not_taken_for_extensions(
    kind: type[ExtensibleError], structure: bytes
) -> None:
    data = emit(kind(original_datagram=bytes(range(128)) + structure))
    parsed = parse(kind, data)
    assert parsed.extensions is None
    assert parsed.original_datagram == bytes(range(128)) + structure
    assert parsed.emit() == data


@pytest.mark.parametrize("kind", EXTENSIBLE)
def test_length_beyond_the_message_leaves_all_to_the_quote(kind: type[ExtensibleError]) -> None:
    data = emit(kind(length=255, original_datagram=bytes(range(100))))
    parsed = parse(kind, data)
    assert (parsed.length, parsed.extensions) == (255, None)
    assert parsed.original_datagram == bytes(range(100))
    assert parsed.emit() == data


@pytest.mark.parametrize("kind", EXTENSIBLE)
def test_stated_length_is_trusted_even_below_128_bytes(kind: type[ExtensibleError]) -> None:
    message = kind(length=32 // kind.length_unit, original_datagram=b"x", extensions=EXTENSIONS)
    data = emit(message)
    parsed = parse(kind, data)
    assert parsed.original_datagram == b"x".ljust(32, b"\0")
    assert parsed.extensions.objects == (STACK,)
    assert parsed.emit() == data
    # Three bytes behind it are no structure.
    cut = parse(kind, data[: 8 + 32 + 3])
    assert cut.extensions is None
    assert cut.emit() == data[: 8 + 32 + 3]


@pytest.mark.parametrize("icmp_type", [3, 11, 12])
def test_scapy_reads_our_extensions_and_we_read_scapys(icmp_type: int) -> None:
    original = bytes(range(128))
    structure = ICMPExtension_Header() / ICMPExtension_MPLS(
        stack=[MPLS(label=24001, cos=5, s=0, ttl=1), MPLS(label=16, s=1, ttl=254)]
    )
    theirs = bytes(ICMP(type=icmp_type, length=32, ext=structure) / Raw(original))
    parsed, _ = parse_icmp(theirs)
    assert isinstance(parsed, ExtensibleError)
    assert parsed.original_datagram == original
    assert parsed.extensions.objects == (STACK,)
    assert type(parsed)(original_datagram=original, extensions=EXTENSIONS).emit() == theirs
    read = ICMP(theirs)
    assert read.length == parsed.length == 32
    assert bytes(read.ext) == parsed.extensions.emit()


def test_length_counts_words_of_4_bytes_in_icmp_and_of_8_in_icmpv6() -> None:
    quote = bytes(130)
    v4 = emit(ICMPTimeExceeded(original_datagram=quote, extensions=EXTENSIONS))
    v6 = emit(ICMPv6TimeExceeded(original_datagram=quote, extensions=EXTENSIONS))
    assert (v4[5], len(v4) - len(EXTENSIONS.emit())) == (33, 8 + 132)
    assert (v6[4], len(v6) - len(EXTENSIONS.emit())) == (17, 8 + 136)


def test_quote_too_long_to_count_is_refused() -> None:
    ICMPTimeExceeded(original_datagram=bytes(1020), extensions=EXTENSIONS).emit()
    with pytest.raises(EmitError, match="more than 1020 bytes"):
        ICMPTimeExceeded(original_datagram=bytes(1021), extensions=EXTENSIONS).emit()


@pytest.mark.parametrize(
    ("each", "words"),
    [
        (MPLSLabelStack(labels=(MPLSLabel(label=1 << 20),)), "MPLSLabelStack.labels"),
        (MPLSLabelStack(labels=(MPLSLabel(exp=8),)), "MPLSLabelStack.labels"),
        (MPLSLabelStack(labels=(MPLSLabel(ttl=-1),)), "MPLSLabelStack.labels"),
        (MPLSLabelStack(labels=(MPLSLabel(ttl="1"),)), "MPLSLabelStack.labels"),
        (InterfaceInformation(role=4), "InterfaceInformation"),
        (InterfaceInformation(mtu=-1), "InterfaceInformation"),
        (InterfaceInformation(if_name="x" * 64), "at most 63 bytes"),
        (InterfaceInformation(if_name="a\0b"), "none of them zero"),
        (InterfaceInformation(if_name="\ud800"), "UTF-8"),
        (InterfaceInformation(if_addr="eth0"), "not an IPv4 address"),
        (InterfaceIdentification(), "needs a name, an index or an address"),
        (InterfaceIdentification(if_name="a", if_index=1), "needs a name"),
        (InterfaceIdentification(if_index=1 << 32), "if_index"),
        (UnknownObject(class_num=256), "UnknownObject"),
        (UnknownObject(data=bytes(65532)), "UnknownObject"),
    ],
)
def test_object_that_does_not_fit_is_refused(each: ICMPObject, words: str) -> None:
    with pytest.raises(EmitError, match=words):
        ICMPExtensions(objects=(each,)).emit()


@pytest.mark.parametrize("field", [{"version": 16}, {"reserved": 4096}, {"checksum": 65536}])
def test_structure_that_does_not_fit_is_refused(field: dict[str, int]) -> None:
    with pytest.raises(EmitError, match=f"ICMPExtensions.{next(iter(field))}"):
        ICMPExtensions(**field).emit()


def test_longest_name_fills_its_field() -> None:
    info = InterfaceInformation(if_name="x" * 63)
    assert info.emit()[4] == 64
    assert parse_objects(info.emit()) == (info,)


def test_damage_gives_a_wire_error_or_a_structure() -> None:
    whole = ICMPExtensions(
        objects=(STACK, InterfaceInformation(if_index=1, if_name="eth0", mtu=1500))
    ).emit()
    assert_parser_is_total(ICMPExtensions.parse, whole)
    assert_truncated_below(ICMPExtensions.parse, whole, 4)
    error = ICMPTimeExceeded(original_datagram=b"q", extensions=EXTENSIONS).emit()
    assert_parser_is_total(parse_icmp, error)
