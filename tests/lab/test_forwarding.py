"""Our own router, packet by packet, with scapy to say what its packets are."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.packet import Packet, Raw

from rawproto.lab.forwarding import ITSELF, Departure, Forwarder, flow_key
from rawproto.lab.topology import Route, Topology, chain, diamond
from rawproto.wire.icmp import parse_icmp
from rawproto.wire.icmp_error import ExtensibleError
from rawproto.wire.icmp_objects import InterfaceInformation, MPLSLabel, MPLSLabelStack
from rawproto.wire.icmpv6 import parse_icmpv6
from tests.fuzz.targets import admitted
from tests.lab.forwarders import (
    FAMILIES,
    FAR,
    NEAR,
    addresses,
    checksums_are_right,
    echo,
    forwarder,
    ip,
    parsed,
    udp,
)

families = pytest.mark.parametrize("family", FAMILIES)


def the_error(departures: list[Departure]) -> Packet:
    """The one error that a router sends instead of a packet, checked by scapy."""
    (departure,) = departures
    assert departure.port == ITSELF
    assert checksums_are_right(departure.packet)
    return parsed(departure.packet)


def ttl(packet: Packet) -> int:
    return packet.ttl if packet.version == 4 else packet.hlim


# --- what passes ----------------------------------------------------------------------------------


@families
def test_packet_leaves_by_the_other_port_with_one_hop_less_and_nothing_else_changed(
    family: str,
) -> None:
    router, packet = forwarder("r2:userspace"), udp(family, ttl=9, size=100)
    ((port, passed),) = router.handle(packet, NEAR)
    assert port == FAR
    assert ttl(parsed(passed)) == 8
    assert checksums_are_right(passed)
    expected = udp(family, ttl=8, size=100)
    assert passed == expected


@families
@given(first=st.integers(2, 255), identification=st.integers(0, 0xFFFF), tos=st.integers(0, 255))
def test_header_checksum_stays_right_whatever_stands_in_the_header(
    family: str, first: int, identification: int, tos: int
) -> None:
    fields = {"id": identification, "tos": tos} if family == "ipv4" else {"tc": tos}
    ((_, passed),) = forwarder("r2:userspace").handle(udp(family, ttl=first, **fields), NEAR)
    assert passed == udp(family, ttl=first - 1, **fields)


def test_longest_prefix_wins() -> None:
    plain = chain(4)
    routes = (
        Route(host="r2", destination="10.0.0.0/8", gateways=("10.99.2.1",)),
        Route(host="r2", destination="10.88.0.0/16", gateways=("10.99.3.2",)),
        Route(host="r2", destination="0.0.0.0/0", gateways=("10.99.3.2",)),
    )
    topology = Topology(name="x", hosts=plain.hosts, links=plain.links, routes=routes)
    router = forwarder("r2:userspace", topology)
    for dst, port in (("10.88.1.1", FAR), ("10.87.1.1", NEAR), ("192.0.2.1", FAR)):
        packet = bytes(IP(src="10.99.1.1", dst=dst) / UDP())
        assert [leaving.port for leaving in router.handle(packet, NEAR)] == [port]


@families
def test_what_is_for_the_router_or_for_this_link_alone_is_left_to_the_kernel(family: str) -> None:
    router = forwarder("r2:userspace")
    own, peer = addresses(family, (2, 2), (2, 1))
    strange = {
        "ipv4": ["224.0.0.5", "255.255.255.255", "127.0.0.1", "0.0.0.0"],
        "ipv6": ["ff02::1", "fe80::1", "::1", "::"],
    }[family]
    for dst in (own, *strange):
        assert router.handle(bytes(ip(family, peer, dst, 1) / UDP()), NEAR) == []
    for src in strange:
        (far,) = addresses(family, (4, 2))
        assert router.handle(bytes(ip(family, src, far, 1) / UDP()), NEAR) == []


@families
def test_what_stands_behind_the_end_of_a_packet_is_cut_off(family: str) -> None:
    packet = udp(family, ttl=9)
    ((_, passed),) = forwarder("r2:userspace").handle(packet + bytes(20), NEAR)
    assert passed == udp(family, ttl=8)


def test_packet_with_a_wrong_header_checksum_is_dropped() -> None:
    packet = bytearray(udp("ipv4"))
    packet[10] ^= 1
    assert forwarder("r2:userspace").handle(bytes(packet), NEAR) == []


# --- errors ---------------------------------------------------------------------------------------


@families
@pytest.mark.parametrize("hops", [0, 1])
def test_time_is_exceeded_when_no_hop_is_left(family: str, hops: int) -> None:
    packet = udp(family, ttl=hops)
    error = the_error(forwarder("r2:userspace").handle(packet, NEAR))
    ours, sender = addresses(family, (2, 2), (1, 1))
    assert (error.src, error.dst, ttl(error)) == (ours, sender, 64)
    if family == "ipv4":
        assert (error[ICMP].type, error[ICMP].code) == (11, 0)
        assert error.tos == 0xC0
        assert bytes(error)[28:] == packet
    else:
        assert error[ICMPv6TimeExceeded].code == 0
        assert bytes(error)[48:] == packet


@families
def test_error_is_sent_from_the_side_where_it_leaves(family: str) -> None:
    src, dst = addresses(family, (4, 2), (1, 1))
    error = the_error(forwarder("r2:userspace").handle(bytes(ip(family, src, dst, 1) / UDP()), FAR))
    assert error.src == addresses(family, (3, 1))[0]


def test_errors_without_df_are_told_apart_by_their_identification() -> None:
    router = forwarder("r2:userspace")
    seen = [the_error(router.handle(udp("ipv4", ttl=1), NEAR)).id for _ in range(3)]
    assert len(set(seen)) == 3
    assert 0 not in seen  # which a raw socket would fill in by itself


@families
def test_network_without_a_route_and_neighbour_that_is_nobody_are_unreachable(family: str) -> None:
    router = forwarder("r2:userspace")
    (src,) = addresses(family, (1, 1))
    nowhere, nobody = addresses(family, (200, 1), (3, 9))
    for dst, code in ((nowhere, 0), (nobody, 1 if family == "ipv4" else 3)):
        error = the_error(router.handle(bytes(ip(family, src, dst) / UDP()), NEAR))
        if family == "ipv4":
            assert (error[ICMP].type, error[ICMP].code) == (3, code)
        else:
            assert error[ICMPv6DestUnreach].code == code


def test_too_big_a_packet_with_df_is_answered_with_the_mtu() -> None:
    router = forwarder("r2:userspace,mtu=600")
    packet = udp("ipv4", size=573, flags="DF")
    error = the_error(router.handle(packet, NEAR))
    assert (error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (3, 4, 600)
    assert len(error) == 576  # RFC 1812 section 4.3.2.3
    assert bytes(error)[28:] == packet[:548]
    assert len(router.handle(udp("ipv4", size=572, flags="DF"), NEAR)) == 1


def test_too_big_a_packet_without_df_is_cut() -> None:
    packet = udp("ipv4", size=1400, ttl=9, id=77)
    pieces = forwarder("r2:userspace,mtu=600").handle(packet, NEAR)
    assert {piece.port for piece in pieces} == {FAR}
    assert [len(piece.packet) for piece in pieces] == [596, 596, 276]
    assert all(checksums_are_right(piece.packet[:20]) for piece in pieces)
    found = [parsed(piece.packet) for piece in pieces]
    assert [(one.frag * 8, int(one.flags.MF), one.ttl, one.id) for one in found] == [
        (0, 1, 8, 77),
        (576, 1, 8, 77),
        (1152, 0, 8, 77),
    ]
    assert b"".join(bytes(one.payload) for one in found) == packet[20:]


@pytest.mark.parametrize(("mtu", "told"), [(1400, 1400), (600, 1280)])
def test_too_big_a_packet_of_ipv6_is_answered_with_at_least_1280(mtu: int, told: int) -> None:
    router = forwarder(f"r2:userspace,mtu={mtu}")
    packet = udp("ipv6", size=told - 47)
    error = the_error(router.handle(packet, NEAR))
    assert error[ICMPv6PacketTooBig].mtu == told
    assert len(error) == 1280
    assert len(router.handle(udp("ipv6", size=told - 48), NEAR)) == 1


def test_mtu_of_the_link_counts_without_another() -> None:
    router = forwarder("r2:userspace", chain(4).changed("3:mtu=1300"))
    error = the_error(router.handle(udp("ipv6", size=1300), NEAR))
    assert error[ICMPv6PacketTooBig].mtu == 1300


def about_errors(family: str) -> list[bytes]:
    src, dst = addresses(family, (1, 1), (4, 2))
    outer, inner = ip(family, src, dst, 1), ip(family, dst, src) / UDP()
    if family == "ipv4":
        return [bytes(outer / ICMP(type=kind) / inner) for kind in (3, 4, 5, 11, 12)]
    kinds = (ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded)
    hidden = outer / IPv6ExtHdrHopByHop() / ICMPv6TimeExceeded() / inner
    return [*(bytes(outer / kind() / inner) for kind in kinds), bytes(hidden)]


@families
def test_no_error_is_sent_about_an_error(family: str) -> None:
    router = forwarder("r2:userspace")
    for packet in about_errors(family):
        assert router.handle(packet, NEAR) == []
    asked = echo(family, *addresses(family, (1, 1), (200, 1)), 7)
    assert len(router.handle(asked, NEAR)) == 1


def test_no_error_is_sent_about_a_later_fragment() -> None:
    later = udp("ipv4", ttl=1, frag=10)
    assert forwarder("r2:userspace").handle(later, NEAR) == []
    first = udp("ipv4", ttl=1, flags="MF")
    assert the_error(forwarder("r2:userspace").handle(first, NEAR))


# --- extensions -----------------------------------------------------------------------------------


def message(error: Packet) -> ExtensibleError:
    data = bytes(error)
    read = parse_icmp(data[20:]) if error.version == 4 else parse_icmpv6(data[40:])
    assert isinstance(read[0], ExtensibleError)
    return read[0]


@families
def test_labels_and_interface_stand_behind_128_bytes_of_the_packet(family: str) -> None:
    packet = udp(family, ttl=1, size=400)
    router = forwarder("r2:mpls=100/16001,interface-info", chain(4).changed("2:mtu=1400"))
    error = the_error(router.handle(packet, NEAR))
    read = message(error)
    assert read.original_datagram == packet[:128]
    assert not read.noncompliant
    assert read.extensions is not None
    assert read.extensions.verify(read.extensions.emit())
    assert read.extensions.objects == (
        MPLSLabelStack(
            labels=(
                MPLSLabel(label=100, ttl=1, bottom_of_stack=False),
                MPLSLabel(label=16001, ttl=1, bottom_of_stack=True),
            )
        ),
        InterfaceInformation(
            role=0, if_index=0, if_addr=addresses(family, (2, 2))[0], if_name="eth0", mtu=1400
        ),
    )
    # A reader older than RFC 4884 looks behind exactly 128 bytes (its section 5.3).
    assert read.extensions.emit() == bytes(error)[(20 if family == "ipv4" else 40) + 8 + 128 :]


@families
def test_short_packet_is_padded_before_extensions(family: str) -> None:
    packet = udp(family, ttl=1, size=4)
    read = message(the_error(forwarder("r2:mpls=3").handle(packet, NEAR)))
    assert read.original_datagram == packet.ljust(128, b"\0")


@families
def test_interface_is_the_one_the_packet_came_in_by(family: str) -> None:
    src, dst = addresses(family, (4, 2), (1, 1))
    packet = bytes(ip(family, src, dst, 1) / UDP())
    read = message(the_error(forwarder("r2:interface-info").handle(packet, FAR)))
    assert read.extensions is not None
    (information,) = read.extensions.objects
    assert isinstance(information, InterfaceInformation)
    assert (information.if_name, information.if_addr) == ("eth1", addresses(family, (3, 1))[0])


def test_unreachables_carry_extensions_too_but_packet_too_big_has_no_room_for_them() -> None:
    nowhere = bytes(IP(src="10.99.1.1", dst="10.99.200.1") / UDP())
    assert message(the_error(forwarder("r2:mpls=3").handle(nowhere, NEAR))).extensions
    router = forwarder("r2:mpls=3,mtu=1280")
    too_big = the_error(router.handle(udp("ipv4", size=1300, flags="DF"), NEAR))
    assert message(too_big).extensions
    assert the_error(router.handle(udp("ipv6", size=1300), NEAR))[ICMPv6PacketTooBig].mtu == 1280


# --- other misbehaviour -------------------------------------------------------------------------


def errors_that_pass(family: str) -> tuple[bytes, bytes]:
    """From h2 to h1: packet too big, and port unreachable."""
    src, dst = addresses(family, (4, 2), (1, 1))
    outer, inner = ip(family, src, dst), ip(family, dst, src) / UDP()
    if family == "ipv4":
        big = outer / ICMP(type=3, code=4, nexthopmtu=600) / inner
        return bytes(big), bytes(outer / ICMP(type=3, code=3) / inner)
    return bytes(outer / ICMPv6PacketTooBig(mtu=1300) / inner), bytes(
        outer / ICMPv6DestUnreach(code=4) / inner
    )


@families
def test_packet_too_big_of_others_is_dropped_where_it_is_to_be(family: str) -> None:
    big, unreachable = errors_that_pass(family)
    assert len(forwarder("r2:userspace").handle(big, FAR)) == 1
    router = forwarder("r2:userspace,drop-ptb")
    assert router.handle(big, FAR) == []
    assert len(router.handle(unreachable, FAR)) == 1
    assert len(router.handle(udp(family), NEAR)) == 1


def test_fragment_that_looks_like_packet_too_big_is_none() -> None:
    looks = bytes(IP(src="10.99.4.2", dst="10.99.1.1", frag=10, proto=1) / Raw(b"\3\4" + bytes(20)))
    assert len(forwarder("r2:userspace,drop-ptb").handle(looks, FAR)) == 1


@families
def test_looping_router_sends_what_is_for_beyond_back_to_where_it_came_from(family: str) -> None:
    router = forwarder("r3:userspace,loop")
    ((port, _),) = router.handle(udp(family), NEAR)
    assert port == NEAR
    src, dst = addresses(family, (4, 2), (1, 1))
    ((port, _),) = router.handle(bytes(ip(family, src, dst) / UDP()), FAR)
    assert port == NEAR


def spread(router: Forwarder, packets: list[bytes]) -> list[int]:
    return [leaving.port for packet in packets for leaving in router.handle(packet, 0)]


def across(family: str, port: int = 40000, label: int = 0) -> bytes:
    src, dst = addresses(family, (1, 1), (8, 2))
    fields = {"fl": label} if family == "ipv6" else {}
    return bytes(ip(family, src, dst, **fields) / UDP(sport=port))


@families
def test_packets_take_equal_paths_in_turn_or_flow_by_flow(family: str) -> None:
    same = [across(family)] * 9
    turns = spread(forwarder("r1:userspace,balance=packet", diamond(3)), same)
    assert Counter(turns) == {1: 3, 2: 3, 3: 3}
    assert turns[:3] == turns[3:6] == turns[6:]
    by_flow = forwarder("r1:userspace,balance=flow", diamond(3))
    assert len(set(spread(by_flow, same))) == 1
    flows = [across(family, port) for port in range(40000, 40060)]
    assert set(spread(by_flow, flows)) == {1, 2, 3}
    # By flow is also what a router does of which nothing is said.
    assert spread(forwarder("r1:userspace", diamond(3)), flows) == spread(by_flow, flows)


def test_flow_label_and_the_checksum_of_icmp_belong_to_a_flow() -> None:
    router = forwarder("r1:userspace", diamond(3))
    assert len(set(spread(router, [across("ipv6", label=label) for label in range(40)]))) == 3
    src, dst = addresses("ipv4", (1, 1), (8, 2))
    echoes = [echo("ipv4", src, dst, identifier) for identifier in range(40)]
    assert set(spread(router, echoes)) == {1, 2, 3}


def test_fragments_of_a_packet_stay_together() -> None:
    pieces = forwarder("r2:userspace,mtu=600").handle(udp("ipv4", size=1400), NEAR)
    assert len({flow_key(piece.packet) for piece in pieces}) == 1
    src, dst = addresses("ipv6", (1, 1), (4, 2))
    whole = IPv6(src=src, dst=dst) / IPv6ExtHdrFragment(offset=5, m=1, id=1, nh=17) / Raw(bytes(8))
    assert flow_key(bytes(whole))[:3] == bytes(3)


# --- whatever comes -------------------------------------------------------------------------------

SPECS = [
    "r2:userspace,drop-ptb,mtu=600",
    "r2:mpls=1/2,interface-info",
    "r2:nat,userspace",
    "r2:nat=plain",
]
SEEDS = [
    *(
        udp(family, ttl=hops, size=size)
        for family in FAMILIES
        for hops in (1, 9)
        for size in (0, 700)
    ),
    *(
        packet
        for family in FAMILIES
        for packet in (*about_errors(family), *errors_that_pass(family))
    ),
    bytes(
        IP(src="10.99.1.1", dst="10.99.4.2", options=b"\x07\x27\x04" + bytes(36)) / Raw(bytes(700))
    ),
    bytes(
        IPv6(src="fd99:1::1", dst="fd99:4::2", hlim=1)
        / IPv6ExtHdrHopByHop()
        / ICMPv6EchoRequest(data=b"x")
    ),
]


@pytest.mark.parametrize("spec", SPECS)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 120),
    port=st.sampled_from([NEAR, FAR]),
)
def test_whatever_arrives_the_router_stands(
    spec: str, seed: bytes, changes: list[tuple[int, int]], cut: int, port: int
) -> None:
    router = forwarder(spec)
    router.handle(udp("ipv4"), NEAR)
    data = bytearray(seed)
    for at, value in changes:
        data[at % len(data)] = value
    hostile = bytes(data)
    for packet in (hostile, admitted(hostile), admitted(hostile[: max(len(data) - cut, 0)])):
        for leaving in router.handle(packet, port):
            assert leaving.packet[0] >> 4 in (4, 6)
            assert len(leaving.packet) <= 1500


@given(st.binary(max_size=80), st.sampled_from([NEAR, FAR]))
def test_random_bytes_go_nowhere_or_somewhere_but_raise_nothing(data: bytes, port: int) -> None:
    router = forwarder("r2:nat=plain,mpls=7")
    for start in (b"", b"\x45", b"\x4f", b"\x60"):
        router.handle(start + data, port)
