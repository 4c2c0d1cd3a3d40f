"""Neighbour discovery: every message and option both ways against scapy, and their damage."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptRedirectedHdr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
)
from scapy.packet import Packet

from rawproto.errors import EmitError
from rawproto.wire.address import unpack_ipv6, unpack_mac
from rawproto.wire.icmp_message import ICMPv6Message
from rawproto.wire.icmpv6 import parse_icmpv6
from rawproto.wire.ndp import (
    ICMPv6Redirect,
    NeighborAdvertisement,
    NeighborSolicitation,
    RouterAdvertisement,
    RouterSolicitation,
)
from rawproto.wire.ndp_options import (
    MTUOption,
    NDPOption,
    PrefixInformation,
    RawOptions,
    RecursiveDNSServer,
    RedirectedHeader,
    SourceLinkLayerAddress,
    TargetLinkLayerAddress,
    UnknownNDPOption,
    emit_options,
    parse_options,
)
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

ADDRESSES = {"src_addr": "fe80::1", "dst_addr": "ff02::1"}

bits8 = st.integers(0, 0xFF)
bits16 = st.integers(0, 0xFFFF)
bits32 = st.integers(0, 0xFFFFFFFF)
addresses = st.binary(min_size=16, max_size=16).map(unpack_ipv6)
macs = st.binary(min_size=6, max_size=6).map(unpack_mac)


def through_scapy(message: Packet) -> bytes:
    outer = IPv6(src=ADDRESSES["src_addr"], dst=ADDRESSES["dst_addr"])
    return bytes(outer / message)[40:]


@st.composite
def options_of_both(draw: st.DrawFn) -> tuple[NDPOption, Packet]:
    """One option, ours and scapy's."""
    which = draw(st.integers(0, 6))
    if which < 2:
        mac = draw(macs)
        if which == 0:
            return SourceLinkLayerAddress(mac_addr=mac), ICMPv6NDOptSrcLLAddr(lladdr=mac)
        return TargetLinkLayerAddress(mac_addr=mac), ICMPv6NDOptDstLLAddr(lladdr=mac)
    if which == 2:
        on_link, autonomous, router = (draw(st.booleans()) for _ in range(3))
        prefix, length = draw(addresses), draw(bits8)
        valid, preferred = draw(bits32), draw(bits32)
        return (
            PrefixInformation(
                prefix=prefix,
                prefix_length=length,
                on_link=on_link,
                autonomous=autonomous,
                router_address=router,
                valid_lifetime_s=valid,
                preferred_lifetime_s=preferred,
            ),
            ICMPv6NDOptPrefixInfo(
                prefix=prefix,
                prefixlen=length,
                L=on_link,
                A=autonomous,
                R=router,
                validlifetime=valid,
                preferredlifetime=preferred,
            ),
        )
    if which == 3:
        quote = bytes(IPv6(src=draw(addresses), dst="ff02::2") / draw(st.binary(max_size=16)))
        quote += bytes(-len(quote) % 8)
        return RedirectedHeader(original_datagram=quote), ICMPv6NDOptRedirectedHdr(pkt=quote)
    if which == 4:
        mtu = draw(bits32)
        return MTUOption(mtu=mtu), ICMPv6NDOptMTU(mtu=mtu)
    if which == 5:
        lifetime = draw(bits32)
        servers = draw(st.lists(addresses, min_size=1, max_size=3))
        return (
            RecursiveDNSServer(lifetime_s=lifetime, addresses=tuple(servers)),
            ICMPv6NDOptRDNSS(lifetime=lifetime, dns=servers),
        )
    data = draw(st.binary(min_size=6, max_size=6))
    return UnknownNDPOption(kind=253, data=data), ICMPv6NDOptUnknown(type=253, data=data)


@st.composite
def messages_of_both(draw: st.DrawFn) -> tuple[ICMPv6Message, Packet]:
    """One message, ours and scapy's, without options."""
    which, code = draw(st.integers(0, 4)), draw(bits8)
    target, destination = draw(addresses), draw(addresses)
    word = draw(bits32)
    if which == 0:
        return RouterSolicitation(code=code, reserved=word), ICMPv6ND_RS(code=code, res=word)
    if which == 1:
        limit, flags, lifetime = draw(bits8), draw(bits8), draw(bits16)
        retrans = draw(bits32)
        return (
            RouterAdvertisement(
                code=code,
                cur_hop_limit=limit,
                flags=flags,
                router_lifetime_s=lifetime,
                reachable_time_ms=word,
                retrans_timer_ms=retrans,
            ),
            ICMPv6ND_RA(
                code=code,
                chlim=limit,
                M=flags >> 7,
                O=flags >> 6 & 1,
                H=flags >> 5 & 1,
                prf=flags >> 3 & 3,
                P=flags >> 2 & 1,
                res=flags & 3,
                routerlifetime=lifetime,
                reachabletime=word,
                retranstimer=retrans,
            ),
        )
    if which == 2:
        return (
            NeighborSolicitation(code=code, reserved=word, target_addr=target),
            ICMPv6ND_NS(code=code, res=word, tgt=target),
        )
    if which == 3:
        flags, reserved = word >> 29, word & 0x1FFFFFFF
        return (
            NeighborAdvertisement(code=code, flags=flags, reserved=reserved, target_addr=target),
            ICMPv6ND_NA(
                code=code, R=flags >> 2, S=flags >> 1 & 1, O=flags & 1, res=reserved, tgt=target
            ),
        )
    return (
        ICMPv6Redirect(code=code, reserved=word, target_addr=target, destination_addr=destination),
        ICMPv6ND_Redirect(code=code, res=word, tgt=target, dst=destination),
    )


@given(messages_of_both(), st.lists(options_of_both(), max_size=3))
def test_every_message_agrees_with_scapy(
    both: tuple[ICMPv6Message, Packet], options: list[tuple[NDPOption, Packet]]
) -> None:
    message, theirs = both
    message = replace(message, options=tuple(ours for ours, _ in options))
    stacked = theirs
    for _, option in options:
        stacked = stacked / option
    data = message.emit(**ADDRESSES)
    assert through_scapy(stacked) == data
    parsed, payload = parse_icmpv6(data)
    assert payload == b""
    assert parsed.recomputed() == message
    assert parsed.emit() == data
    read = type(theirs)(data)
    assert read.cksum == parsed.checksum
    for name, value in theirs.fields.items():
        assert getattr(read, name) == value, name
    seen = [type(layer) for layer in read.iterpayloads()][1 : 1 + len(options)]
    assert seen == [type(option) for _, option in options]
    assert ICMPv6Message.verify(data, **ADDRESSES)


@given(options_of_both())
def test_scapy_reads_each_option_as_we_meant_it(both: tuple[NDPOption, Packet]) -> None:
    ours, theirs = both
    data = ours.emit()
    assert bytes(theirs) == data
    read = type(theirs)(data)
    assert (read.type, read.len * 8) == (ours.kind, len(data))
    for name, value in theirs.fields.items():
        if name != "pkt":
            assert getattr(read, name) == value, name
    assert parse_options(data) == (ours,)


def test_router_preference_is_a_signed_number() -> None:
    assert [RouterAdvertisement(flags=bits << 3).preference for bits in range(4)] == [0, 1, -2, -1]
    assert RouterAdvertisement.value_names["preference"][-1] == "low"


def test_redirected_header_is_padded() -> None:
    data = RedirectedHeader(original_datagram=b"0123456789").emit()
    assert data == b"\x04\x03" + bytes(6) + b"0123456789" + bytes(6)


@pytest.mark.parametrize(
    "data",
    [
        "01 02 aabbccddeeff 0000000000000000",  # a link-layer address of another length
        "03 01 000000000000",  # a prefix without its prefix
        "03 04 40 c1 00000001 00000001 00000000 20010db8000000000000000000000000",  # reserved
        "04 01 000000000001",  # reserved bits
        "05 01 0001 000005dc",  # reserved bits
        "05 02 0000 000005dc 0000000000000000",  # too long
        "19 02 0000 00000001 0000000000000000",  # half an address
        "0e 01 0123456789ab",
    ],
)
def test_option_that_says_what_its_fields_cannot_is_kept(data: str) -> None:
    whole = bytes.fromhex(data)
    assert parse_options(whole) == (UnknownNDPOption(kind=whole[0], data=whole[2:]),)
    assert emit_options(parse_options(whole)) == whole


@pytest.mark.parametrize("rest", [b"\x01", b"\x01\x00abcdef", b"\x01\x02abcdef"])
def test_rest_that_is_no_option_is_kept(rest: bytes) -> None:
    first = MTUOption(mtu=9000)
    assert parse_options(first.emit() + rest) == (first, RawOptions(data=rest))


@given(st.binary(max_size=80))
def test_any_options_emit_again_as_they_were(data: bytes) -> None:
    assert emit_options(parse_options(data)) == data


@given(st.sampled_from([1, 2, 3, 4, 5, 25]), st.integers(1, 5), st.data())
def test_any_option_of_a_known_kind_emits_again_as_it_was(
    kind: int, units: int, data: st.DataObject
) -> None:
    size = units * 8 - 2
    whole = bytes((kind, units)) + data.draw(st.binary(min_size=size, max_size=size))
    assert emit_options(parse_options(whole)) == whole


@pytest.mark.parametrize(
    "option",
    [
        PrefixInformation(prefix_length=256),
        PrefixInformation(valid_lifetime_s=-1),
        MTUOption(mtu=1 << 32),
        RecursiveDNSServer(lifetime_s=1 << 32),
        RecursiveDNSServer(addresses=("::1",) * 128),
        UnknownNDPOption(kind=256),
        UnknownNDPOption(kind=253, data=b"odd"),
    ],
    ids=repr,
)
def test_option_that_does_not_fit_is_refused(option: NDPOption) -> None:
    with pytest.raises(EmitError, match=type(option).__name__):
        option.emit()


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (RouterSolicitation(reserved=1 << 32), "reserved"),
        (RouterAdvertisement(router_lifetime_s=65536), "router_lifetime_s"),
        (NeighborAdvertisement(flags=8), "flags"),
        (NeighborAdvertisement(reserved=1 << 29), "reserved"),
        (NeighborSolicitation(target_addr="10.0.0.1"), "not an IPv6 address"),
        (ICMPv6Redirect(destination_addr="x"), "not an IPv6 address"),
        (NeighborSolicitation(options=(SourceLinkLayerAddress(mac_addr="x"),)), "not a MAC"),
    ],
)
def test_field_that_does_not_fit_is_named(message: ICMPv6Message, name: str) -> None:
    with pytest.raises(EmitError, match=name):
        message.emit(**ADDRESSES)


OPTIONS = (
    SourceLinkLayerAddress(mac_addr="02:00:00:00:00:01"),
    PrefixInformation(prefix="2001:db8::"),
    MTUOption(),
)


@pytest.mark.parametrize(
    ("message", "fixed"),
    [
        (RouterSolicitation(options=OPTIONS), 8),
        (RouterAdvertisement(options=OPTIONS), 16),
        (NeighborSolicitation(options=OPTIONS), 24),
        (NeighborAdvertisement(options=OPTIONS), 24),
        (ICMPv6Redirect(options=OPTIONS), 40),
    ],
    ids=lambda value: type(value).__name__,
)
def test_damage_gives_a_wire_error_or_a_message(message: ICMPv6Message, fixed: int) -> None:
    whole = message.emit(**ADDRESSES)
    assert_parser_is_total(parse_icmpv6, whole)
    assert_truncated_below(parse_icmpv6, whole, fixed)
    number = 0
    for name, width in message.layout:
        value = getattr(parse_icmpv6(whole)[0], name)
        number = number << width | (0 if isinstance(value, str) else value)
    assert sum(width for _, width in message.layout) == fixed * 8
    assert number.to_bytes(fixed, "big") == whole[:fixed]
