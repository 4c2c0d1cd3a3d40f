"""DNS messages: header, sections and every kind of record both ways against scapy."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import dns as scapy_dns
from scapy.packet import Packet

from rawproto.errors import EmitError, MalformedError, TruncatedError, WireError
from rawproto.wire.address import unpack_ipv6
from rawproto.wire.dns import DNSMessage
from rawproto.wire.dns_rdata import (
    AAAA,
    CAA,
    CNAME,
    MX,
    NS,
    PTR,
    SOA,
    SRV,
    TXT,
    A,
    RecordData,
    UnknownData,
)
from rawproto.wire.dns_record import DNSQuestion, DNSRecord, EDNSOption, OPTRecord
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

bits8 = st.integers(0, 0xFF)
bits16 = st.integers(0, 0xFFFF)
bits32 = st.integers(0, 0xFFFFFFFF)
label = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)
names = st.lists(label, min_size=1, max_size=4).map(lambda each: ".".join(each) + ".")
# scapy has a bit of its own on top of the class, and other ideas of classes 254 and 255.
classes = st.integers(0, 0x7FFF)
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.binary(min_size=16, max_size=16).map(unpack_ipv6)
strings = st.lists(st.binary(max_size=40), min_size=1, max_size=3).map(tuple)


@st.composite
def records_of_both(draw: st.DrawFn) -> tuple[DNSRecord, Packet]:
    """One record, ours and scapy's."""
    name, ttl = draw(names), draw(bits32)
    common = {"rrname": name, "rclass": 1, "ttl": ttl}
    which = draw(st.integers(0, 10))
    rdata: RecordData
    if which == 0:
        rdata = A(address=draw(ipv4))
        theirs = scapy_dns.DNSRR(type=1, rdata=rdata.address, **common)
    elif which == 1:
        rdata = AAAA(address=draw(ipv6))
        theirs = scapy_dns.DNSRR(type=28, rdata=rdata.address, **common)
    elif which == 2:
        rdata = NS(nsdname=draw(names))
        theirs = scapy_dns.DNSRR(type=2, rdata=rdata.nsdname, **common)
    elif which == 3:
        rdata = CNAME(cname=draw(names))
        theirs = scapy_dns.DNSRR(type=5, rdata=rdata.cname, **common)
    elif which == 4:
        rdata = PTR(ptrdname=draw(names))
        theirs = scapy_dns.DNSRR(type=12, rdata=rdata.ptrdname, **common)
    elif which == 5:
        mname, rname = draw(names), draw(names)
        numbers = [draw(bits32) for _ in range(5)]
        fields = ("serial", "refresh", "retry", "expire", "minimum")
        numbered = dict(zip(fields, numbers, strict=True))
        rdata = SOA(mname=mname, rname=rname, **numbered)
        theirs = scapy_dns.DNSRRSOA(mname=mname, rname=rname, **numbered, **common)
    elif which == 6:
        rdata = MX(preference=draw(bits16), exchange=draw(names))
        theirs = scapy_dns.DNSRRMX(preference=rdata.preference, exchange=rdata.exchange, **common)
    elif which == 7:
        rdata = TXT(strings=draw(strings))
        theirs = scapy_dns.DNSRR(type=16, rdata=list(rdata.strings), **common)
    elif which == 8:
        rdata = SRV(
            priority=draw(bits16), weight=draw(bits16), port=draw(bits16), target=draw(names)
        )
        theirs = scapy_dns.DNSRRSRV(
            priority=rdata.priority,
            weight=rdata.weight,
            port=rdata.port,
            target=rdata.target,
            **common,
        )
    elif which == 9:
        rdata = CAA(flags=draw(bits8), tag="issue", value=draw(st.binary(max_size=20)))
        # scapy has no class for it: RFC 8659 section 4.1 by hand.
        raw = bytes((rdata.flags, 5)) + b"issue" + rdata.value
        theirs = scapy_dns.DNSRR(type=257, rdata=raw, **common)
    else:
        rdata = UnknownData(rtype=99, data=draw(st.binary(max_size=20)))
        theirs = scapy_dns.DNSRR(type=99, rdata=rdata.data, **common)
    return DNSRecord(name=name, ttl=ttl, rdata=rdata), theirs


@st.composite
def opts_of_both(draw: st.DrawFn) -> tuple[OPTRecord, Packet]:
    options = draw(st.lists(st.tuples(st.integers(0xFDE9, 0xFFFE), st.binary(max_size=8))))
    ours = OPTRecord(
        udp_payload_size=draw(bits16),
        extended_rcode=draw(bits8),
        version=draw(bits8),
        flags=draw(bits16),
        options=tuple(EDNSOption(code=code, data=data) for code, data in options),
    )
    theirs = scapy_dns.DNSRROPT(
        rclass=ours.udp_payload_size,
        extrcode=ours.extended_rcode,
        version=ours.version,
        z=ours.flags,
        rdata=[scapy_dns.EDNS0TLV(optcode=code, optdata=data) for code, data in options],
    )
    return ours, theirs


@st.composite
def messages_of_both(draw: st.DrawFn) -> tuple[DNSMessage, Packet]:
    flags = {name: draw(st.booleans()) for name in ("qr", "aa", "tc", "rd", "ra", "z", "ad", "cd")}
    numbers = {"opcode": draw(st.integers(0, 15)), "rcode": draw(st.integers(0, 15))}
    identifier = draw(bits16)
    asked = draw(st.lists(st.tuples(names, bits16, classes), max_size=2))
    sections = [draw(st.lists(records_of_both(), max_size=2)) for _ in range(3)]
    opt = draw(st.lists(opts_of_both(), max_size=1))
    ours = DNSMessage(
        identifier=identifier,
        **flags,
        **numbers,
        questions=tuple(DNSQuestion(qname=n, qtype=t, qclass=c) for n, t, c in asked),
        answers=tuple(each for each, _ in sections[0]),
        authorities=tuple(each for each, _ in sections[1]),
        additionals=tuple(each for each, _ in sections[2] + opt),
    )
    theirs = scapy_dns.DNS(
        id=identifier,
        **{name: int(value) for name, value in flags.items()},
        **numbers,
        qd=[scapy_dns.DNSQR(qname=n, qtype=t, qclass=c) for n, t, c in asked],
        an=[each for _, each in sections[0]],
        ns=[each for _, each in sections[1]],
        ar=[each for _, each in sections[2] + opt],
    )
    return ours, theirs


def assert_same_record(ours: DNSRecord | OPTRecord, theirs: Packet) -> None:
    """Field by field; scapy keeps names and texts as bytes."""
    assert theirs.rrname == ours.name.encode()
    assert theirs.type == ours.rtype
    if isinstance(ours, OPTRecord):
        assert (theirs.rclass, theirs.extrcode) == (ours.udp_payload_size, ours.extended_rcode)
        assert (theirs.version, theirs.z) == (ours.version, ours.flags)
        seen = [(each.optcode, each.optdata) for each in theirs.rdata]
        assert seen == [(each.code, each.data) for each in ours.options]
        return
    assert (theirs.rclass, theirs.ttl) == (ours.rclass, ours.ttl)
    rdata = ours.rdata
    if isinstance(rdata, SOA | MX | SRV):
        for name in rdata.__slots__:
            value = getattr(rdata, name)
            assert getattr(theirs, name) == (value.encode() if isinstance(value, str) else value)
    elif isinstance(rdata, NS | CNAME | PTR):
        (name,) = rdata.__slots__
        assert theirs.rdata == getattr(rdata, name).encode()
    elif isinstance(rdata, A | AAAA):
        assert theirs.rdata == rdata.address
    elif isinstance(rdata, TXT):
        assert tuple(theirs.rdata) == rdata.strings
    elif isinstance(rdata, CAA):
        assert theirs.rdata == bytes((rdata.flags, 5)) + b"issue" + rdata.value
    else:
        assert theirs.rdata == rdata.data


def assert_same(ours: DNSMessage, theirs: Packet) -> None:
    for name in ("qr", "opcode", "aa", "tc", "rd", "ra", "z", "ad", "cd", "rcode"):
        assert getattr(theirs, name) == getattr(ours, name), name
    assert theirs.id == ours.identifier
    counts = (theirs.qdcount, theirs.ancount, theirs.nscount, theirs.arcount)
    assert counts == (ours.qdcount, ours.ancount, ours.nscount, ours.arcount)
    for question, seen in zip(ours.questions, theirs.qd, strict=True):
        assert (seen.qname, seen.qtype) == (question.qname.encode(), question.qtype)
        assert seen.unicastresponse << 15 | seen.qclass == question.qclass
    for section, seen in (
        (ours.answers, theirs.an),
        (ours.authorities, theirs.ns),
        (ours.additionals, theirs.ar),
    ):
        for record, each in zip(section, seen, strict=True):
            assert_same_record(record, each)


@given(messages_of_both())
def test_both_build_the_same_bytes_and_read_each_others(both: tuple[DNSMessage, Packet]) -> None:
    ours, theirs = both
    data = ours.emit()
    assert bytes(theirs) == data
    parsed, rest = DNSMessage.parse(data)
    assert rest == b""
    assert parsed.recomputed() == ours
    assert parsed.emit() == data
    assert_same(parsed, scapy_dns.DNS(data))


@given(messages_of_both())
def test_compressed_messages_are_read_and_emitted_again(both: tuple[DNSMessage, Packet]) -> None:
    ours, theirs = both
    by_scapy = bytes(theirs.compress())
    by_us = ours.emit(compress=True)
    for data in (by_scapy, by_us):
        parsed, rest = DNSMessage.parse(data)
        assert rest == b""
        assert parsed.recomputed() == ours
        assert parsed.emit() == data
        # What is changed forgets how it was written, and goes out whole.
        assert replace(parsed).emit() == ours.emit()
        assert parsed.emit(compress=False) == ours.emit()
        assert parsed.emit(compress=True) == by_us
        assert copy.copy(parsed).emit() == data
    assert len(by_us) <= len(ours.emit())
    assert_same(DNSMessage.parse(by_us)[0], scapy_dns.DNS(by_us))


RESPONSE = DNSMessage(
    identifier=0xBEEF,
    qr=True,
    ra=True,
    questions=(DNSQuestion(qname="www.example.com.", qtype=255),),
    answers=(
        DNSRecord(name="www.example.com.", ttl=300, rdata=CNAME(cname="web.example.com.")),
        DNSRecord(name="web.example.com.", ttl=60, rdata=A(address="192.0.2.1")),
        DNSRecord(name="web.example.com.", ttl=60, rdata=AAAA(address="2001:db8::1")),
        DNSRecord(name="example.com.", rdata=MX(preference=10, exchange="mail.example.com.")),
        DNSRecord(name="example.com.", rdata=TXT(strings=(b"v=spf1 -all", b""))),
        DNSRecord(name="_sip._udp.example.com.", rdata=SRV(port=5060, target="web.example.com.")),
        DNSRecord(name="example.com.", rdata=CAA(flags=128, tag="issue", value=b"ca.example")),
        DNSRecord(name="1.2.0.192.in-addr.arpa.", rdata=PTR(ptrdname="web.example.com.")),
    ),
    authorities=(
        DNSRecord(name="example.com.", rdata=NS(nsdname="ns.example.com.")),
        DNSRecord(name="example.com.", rdata=SOA(mname="ns.example.com.", rname="root.example.")),
    ),
    additionals=(OPTRecord(flags=0x8000, options=(EDNSOption(code=10, data=b"cookie!!"),)),),
)


def test_opt_record_is_found() -> None:
    parsed, _ = DNSMessage.parse(RESPONSE.emit())
    assert parsed.opt == RESPONSE.additionals[0]
    behind = replace(RESPONSE, additionals=(RESPONSE.answers[1], *RESPONSE.additionals))
    assert behind.opt == RESPONSE.additionals[0]
    assert DNSMessage().opt is None


def test_srv_target_is_never_compressed_but_read_if_it_is() -> None:
    data = RESPONSE.emit(compress=True)
    assert b"\x03web\x07example\x03com\x00" in data[data.index(b"_sip") :]
    # RFC 2782 forbids what old servers did all the same.
    head = DNSMessage(ancount=1).emit() + b"\x07example\x00\x00\x21\x00\x01\x00\x00\x00\x00"
    data = head + b"\x00\x08" + b"\x00\x00\x00\x00\x00\x35" + b"\xc0\x0c"
    parsed, _ = DNSMessage.parse(data)
    assert parsed.answers[0].rdata == SRV(port=53, target="example.")
    assert parsed.emit() == data


@pytest.mark.parametrize(
    ("rtype", "rclass", "data"),
    [
        (1, 1, b""),  # deleted by a dynamic update, RFC 2136 section 2.5.2
        (1, 1, b"\x01\x02\x03"),
        (1, 3, b"\x01\x02\x03\x04"),  # Chaosnet's A is a name and a number
        (28, 1, bytes(15)),
        (33, 4, b"\x00\x00\x00\x00\x00\x35\x00"),
        (2, 1, b"\x01a"),
        (5, 1, b"\xc0\xff"),
        (5, 1, b"\x01a\x00extra"),
        (12, 1, b"\xc0\x0c\x00"),
        (6, 1, b"\x00\x00" + bytes(19)),
        (15, 1, b"\x00"),
        (16, 1, b"\x05abc"),
        (257, 1, b"\x00\x09issue"),
        (257, 1, b"\x00\x01\xff"),
        (257, 1, b"\x00"),
        (41, 1, b"\x00\x0a\x00\x09short"),
        (41, 1, b"\x00\x0a\x00"),
    ],
)
def test_data_that_is_not_what_its_type_says_is_kept(rtype: int, rclass: int, data: bytes) -> None:
    record = DNSRecord(name="a.", rclass=rclass, ttl=7, rdata=UnknownData(rtype=rtype, data=data))
    tail = DNSRecord(name="b.", rdata=A(address="192.0.2.9"))
    whole = DNSMessage(answers=(record, tail)).emit()
    parsed, _ = DNSMessage.parse(whole)
    assert parsed.answers == (record, tail)
    assert parsed.emit() == whole


def test_text_may_be_empty() -> None:
    message = DNSMessage(answers=(DNSRecord(name="a.", rdata=TXT(strings=())),))
    assert DNSMessage.parse(message.emit())[0].recomputed() == message


def test_what_follows_the_last_record_is_payload() -> None:
    parsed, rest = DNSMessage.parse(RESPONSE.emit(b"tail", compress=True))
    assert rest == b"tail"
    assert parsed.emit(rest) == RESPONSE.emit(b"tail", compress=True)


def test_forced_counts_go_out_as_they_are() -> None:
    data = DNSMessage(qdcount=9, arcount=0, additionals=(OPTRecord(),)).emit()
    assert data[4:12] == b"\x00\x09\x00\x00\x00\x00\x00\x00"
    with pytest.raises(WireError):
        DNSMessage.parse(data)


def test_counts_beyond_the_message_are_refused_at_once() -> None:
    with pytest.raises(TruncatedError) as truncated:
        DNSMessage.parse(bytes(4) + b"\xff" * 8)
    assert truncated.value.offset == 12


def test_header_bits_have_the_places_of_rfc_1035() -> None:
    for name, bit in (
        ("qr", 15),
        ("aa", 10),
        ("tc", 9),
        ("rd", 8),
        ("ra", 7),
        ("z", 6),
        ("ad", 5),
        ("cd", 4),
    ):
        message = DNSMessage(**{"rd": False, name: True})
        assert int.from_bytes(message.emit()[2:4], "big") == 1 << bit
        assert DNSMessage.parse(message.emit())[0].recomputed() == message
    assert DNSMessage(opcode=5, rcode=3, rd=False).emit()[2:4] == b"\x28\x03"


@pytest.mark.parametrize("compress", [False, True])
def test_damage_gives_a_wire_error_or_a_message(compress: bool) -> None:
    whole = RESPONSE.emit(compress=compress)
    assert_parser_is_total(DNSMessage.parse, whole)
    assert_truncated_below(DNSMessage.parse, whole, len(whole))


@given(st.data())
def test_damaged_message_that_is_read_emits_again_as_it_was(data: st.DataObject) -> None:
    whole = bytearray(RESPONSE.emit(compress=True))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(12, len(whole) - 1))] = data.draw(bits8)
    try:
        parsed, rest = DNSMessage.parse(bytes(whole))
    except WireError:
        return
    assert parsed.emit(rest) == whole


def test_root_written_where_it_could_not_be_is_refused_by_name() -> None:
    data = DNSMessage(questions=(DNSQuestion(qname="."),)).emit()
    with pytest.raises(MalformedError, match="pointer to 12") as malformed:
        DNSMessage.parse(data[:12] + b"\xc0\x0c" + data[13:])
    assert malformed.value.offset == 12


def record(rdata: RecordData) -> DNSMessage:
    return DNSMessage(answers=(DNSRecord(name="a.", rdata=rdata),))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (DNSMessage(identifier=65536), "DNSMessage.identifier"),
        (DNSMessage(opcode=16), "DNSMessage.opcode"),
        (DNSMessage(rcode=-1), "DNSMessage.rcode"),
        (DNSMessage(ancount=65536), "DNSMessage.ancount"),
        (DNSMessage(questions=(DNSQuestion(qname="a", qtype=65536),)), "DNSQuestion"),
        (DNSMessage(questions=(DNSQuestion(qname="a..b"),)), "1 to 63"),
        (DNSMessage(answers=(DNSRecord(name="a", ttl=-1, rdata=TXT()),)), "DNSRecord"),
        (DNSMessage(additionals=(OPTRecord(version=256),)), "OPTRecord"),
        (DNSMessage(additionals=(OPTRecord(flags=65536),)), "OPTRecord"),
        (DNSMessage(additionals=(OPTRecord(options=(EDNSOption(code=-1),)),)), "OPTRecord"),
        (record(A(address="::1")), "IPv4"),
        (record(AAAA(address="10.0.0.1")), "IPv6"),
        (record(MX(preference=65536, exchange="a")), "DNSRecord"),
        (record(SOA(mname="a", rname="b", serial=-1)), "DNSRecord"),
        (record(SRV(port=65536, target="a")), "DNSRecord"),
        (record(TXT(strings=(bytes(256),))), "at most 255"),
        (record(CAA(flags=256, tag="issue")), "flags of 0 to 255"),
        (record(CAA(tag="x" * 256)), "CAA"),
        (record(CAA(tag="ü")), "ASCII"),
        (record(UnknownData(rtype=65536)), "DNSRecord"),
        (record(UnknownData(rtype=99, data=bytes(65536))), "DNSRecord"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_field_that_does_not_fit_is_refused(message: DNSMessage, words: str) -> None:
    with pytest.raises(EmitError, match=words):
        message.emit()
