"""ICMP datagram sockets: the fields we lay out, as the kernel puts them on the wire."""

from __future__ import annotations

import errno
import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from rawproto.errors import LinkError
from rawproto.link.base import Arrival, Transmitted
from rawproto.link.dgram import DgramLink
from rawproto.link.packet import PacketLink
from rawproto.link.raw import RawLink
from rawproto.machine import Datagram, ICMPError, Transmit
from rawproto.wire.icmp import ICMPTimeExceeded
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import MPLSLabel, MPLSLabelStack
from rawproto.wire.icmpv6 import ICMPv6TimeExceeded
from rawproto.wire.ipv4 import DF, MF, IPv4Header
from rawproto.wire.ipv4_options import RecordRoute
from rawproto.wire.ipv6 import IPv6Header
from tests.live.namespaces import Namespace, namespace_pair

A, B, A6, B6 = "10.98.0.1", "10.98.0.2", "fd98::1", "fd98::2"

Hosts = tuple[Namespace, Namespace]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with namespace_pair() as (here, there):
        here.sysctl("net/ipv4/ping_group_range", "0 0")
        # Networks behind the other host, most of which it has no way to.
        here.ip(f"route add 10.97.0.0/16 via {B}", f"route add fd97::/48 via {B6}")
        here.ip("addr add 10.98.0.7/24 dev rplk-a", "addr add fd98::7/64 dev rplk-a nodad")
        there.sysctl("net/ipv4/ip_forward", "1")
        there.sysctl("net/ipv6/conf/all/forwarding", "1")
        # Errors as fast as they are provoked.
        there.sysctl("net/ipv4/icmp_ratelimit", "0")
        there.sysctl("net/ipv6/icmp/ratelimit", "0")
        there.ip(
            "route add unreachable 10.97.1.0/24",
            "route add prohibit 10.97.2.0/24",
            "route add unreachable fd97:0:0:1::/64",
            "link add rplk-n type veth peer name rplk-m",
            "link set rplk-n mtu 1300 up",
            "link set rplk-m up",
            "addr add 10.97.3.1/24 dev rplk-n",
            "addr add fd97:0:0:3::1/64 dev rplk-n nodad",
        )
        yield here, there


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def open_dgram(stack: ExitStack, host: Namespace, family: int, **options) -> DgramLink:
    with host.entered():
        return stack.enter_context(DgramLink(family, **options))


def open_wire(stack: ExitStack, host: Namespace) -> PacketLink:
    with host.entered():
        return stack.enter_context(PacketLink("rplk-b", ignore_outgoing=True))


def echoes(wire: PacketLink, ethertype: int) -> list[bytes]:
    """Echo requests, or fragments of some, that came over the cable."""
    packets = [each.data[14:] for each in wire.receive_frames(1000) if each.ethertype == ethertype]
    if ethertype == 0x0800:
        return packets
    return [data for data in packets if data[6] == 44 or (data[6] == 58 and data[40] == 128)]


def request(dst_addr: str, *, data: bytes = b"ping", number: int = 1, **fields) -> Transmit:
    """An echo request, whole; `fields` are the IP header's."""
    if ":" in dst_addr:
        header6 = {"src_addr": A6, "dst_addr": dst_addr, "next_header": 58} | fields
        echo = ICMPv6Echo(sequence_number=number).emit(
            data, src_addr=header6["src_addr"], dst_addr=dst_addr
        )
        packet = IPv6Header(**header6).emit(echo)
    else:
        header4 = {"src_addr": A, "dst_addr": dst_addr, "protocol": 1} | fields
        packet = IPv4Header(**header4).emit(ICMPEcho(sequence_number=number).emit(data))
    return Transmit(data=packet, dst_addr=dst_addr, token=number)


def await_arrivals(link: DgramLink, kind: type, count: int = 1) -> list[Arrival]:
    """Receives until so many of a kind were there."""
    got: list[Arrival] = []
    for _ in range(100):
        if len(got) >= count or not select.select([link.fileno()], [], [], 5)[0]:
            break
        got += [each for each in link.receive() if isinstance(each, kind)]
    return got


def test_ipv4_fields_are_on_the_wire(hosts: Hosts, stack: ExitStack) -> None:
    link = open_dgram(stack, hosts[0], 4, identifier=4711)
    wire = open_wire(stack, hosts[1])
    assert link.identifier == 4711
    for number, fields in enumerate(
        [
            {"ttl": 3, "dscp": 46, "ecn": 1, "flags": DF},
            {"ttl": 255, "flags": 0},
            {"src_addr": "10.98.0.7", "flags": DF},
        ]
    ):
        link.send(request(B, number=number, **fields))
        (packet,) = echoes(wire, 0x0800)
        header, message = IPv4Header.parse(packet)
        assert {name: getattr(header, name) for name in fields} == fields
        echo, data = ICMPEcho.parse(message)
        assert (echo.identifier, echo.sequence_number, data) == (4711, number, b"ping")
        assert IPv4Header.verify(packet)


def test_ipv6_fields_are_on_the_wire(hosts: Hosts, stack: ExitStack) -> None:
    link = open_dgram(stack, hosts[0], 6, identifier=4712)
    wire = open_wire(stack, hosts[1])
    link.send(request(B6))
    await_arrivals(link, Datagram)
    echoes(wire, 0x86DD)
    for number, fields in enumerate(
        [
            {"hop_limit": 3, "traffic_class": 0xB9, "flow_label": 0},
            {"hop_limit": 255, "flow_label": 0xABCDE},
        ]
    ):
        link.send(request(B6, number=number, **fields))
        (packet,) = echoes(wire, 0x86DD)
        header, message = IPv6Header.parse(packet)
        assert {name: getattr(header, name) for name in fields} == fields
        echo, data = ICMPv6Echo.parse(message)
        assert (echo.identifier, echo.sequence_number, data) == (4712, number, b"ping")


@pytest.mark.parametrize(
    ("src_addr", "dst_addr"), [("10.98.0.7", B), (A, B), ("fd98::7", B6), (A6, B6)]
)
def test_source_given_at_opening_is_the_only_one(
    hosts: Hosts, stack: ExitStack, src_addr: str, dst_addr: str
) -> None:
    link = open_dgram(stack, hosts[0], 6 if ":" in dst_addr else 4, src_addr=src_addr)
    wire = open_wire(stack, hosts[1])
    link.send(request(dst_addr, src_addr=src_addr))
    await_arrivals(link, Datagram)
    (packet,) = echoes(wire, 0x86DD if ":" in dst_addr else 0x0800)
    header = (IPv6Header if ":" in dst_addr else IPv4Header).parse(packet)[0]
    assert header.src_addr == src_addr
    other = {A: "10.98.0.7", "10.98.0.7": A, A6: "fd98::7", "fd98::7": A6}[src_addr]
    with pytest.raises(LinkError, match="the one address"):
        link.send(request(dst_addr, src_addr=other))
    stranger = "fd98::99" if ":" in dst_addr else "10.98.0.99"
    with pytest.raises(LinkError, match=f"send from {stranger}: Cannot assign") as refused:
        open_dgram(stack, hosts[0], 6 if ":" in dst_addr else 4, src_addr=stranger)
    assert refused.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize(("family", "dst_addr", "reply"), [(4, B, 0), (6, B6, 129)])
def test_reply_comes_with_what_the_kernel_tells(
    hosts: Hosts, stack: ExitStack, family: int, dst_addr: str, reply: int
) -> None:
    link = open_dgram(stack, hosts[0], family)
    ecn = {"ecn": 2} if family == 4 else {"traffic_class": 2}
    entered_ns = link.send(request(dst_addr, number=9, **ecn))
    (datagram,) = await_arrivals(link, Datagram)
    assert isinstance(datagram, Datagram)
    assert (datagram.data[0], datagram.data[-4:]) == (reply, b"ping")
    assert int.from_bytes(datagram.data[4:6], "big") == link.identifier
    assert datagram.src_addr == dst_addr
    # For IPv6 the kernel chose which of its addresses to send from.
    assert datagram.dst_addr in ((A,) if family == 4 else (A6, "fd98::7"))
    assert (datagram.ttl, datagram.ecn, datagram.header) == (64, 2, b"")
    assert datagram.stamp_source == "kernel"
    assert datagram.received_ns > entered_ns
    assert datagram.interface > 0


def test_an_identifier_that_is_taken_gives_another(hosts: Hosts, stack: ExitStack) -> None:
    for family in (4, 6):
        first = open_dgram(stack, hosts[0], family, identifier=600 + family)
        second = open_dgram(stack, hosts[0], family, identifier=600 + family)
        any_other = open_dgram(stack, hosts[0], family)
        identifiers = {first.identifier, second.identifier, any_other.identifier}
        assert first.identifier == 600 + family
        assert len(identifiers) == 3
        assert all(0 < identifier < 0x10000 for identifier in identifiers)


REFUSED = {
    "echo reply": IPv4Header(src_addr=A, dst_addr=B, protocol=1).emit(ICMPEcho(icmp_type=0).emit()),
    "another protocol": IPv4Header(src_addr=A, dst_addr=B, protocol=17).emit(bytes(8)),
    "option": IPv4Header(src_addr=A, dst_addr=B, protocol=1, options=(RecordRoute(),)).emit(
        ICMPEcho().emit()
    ),
    "fragment": IPv4Header(src_addr=A, dst_addr=B, protocol=1, flags=MF).emit(ICMPEcho().emit()),
    "later fragment": IPv4Header(src_addr=A, dst_addr=B, protocol=1, fragment_offset=1).emit(
        ICMPEcho().emit()
    ),
    "nothing": b"",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_needs_a_raw_socket_is_refused(hosts: Hosts, stack: ExitStack, what: str) -> None:
    link = open_dgram(stack, hosts[0], 4)
    with pytest.raises(LinkError, match="needs a raw socket"):
        link.send(Transmit(data=REFUSED[what], dst_addr=B, token=1))


def test_ipv6_extension_headers_are_refused(hosts: Hosts, stack: ExitStack) -> None:
    link = open_dgram(stack, hosts[0], 6)
    packet = IPv6Header(next_header=0, src_addr=A6, dst_addr=B6).emit(bytes((58, 0)) + bytes(14))
    with pytest.raises(LinkError, match=r"extension headers.*raw socket"):
        link.send(Transmit(data=packet, dst_addr=B6, token=1))


def test_large_packet_is_cut_by_the_kernel_but_for_df(hosts: Hosts, stack: ExitStack) -> None:
    wire = open_wire(stack, hosts[1])
    link = open_dgram(stack, hosts[0], 4)
    with pytest.raises(LinkError, match="MTU") as refused:
        link.send(request(B, data=bytes(3000), flags=DF))
    assert refused.value.errno == errno.EMSGSIZE
    assert link.receive() == []  # raised, and not told once more
    link.send(request(B, data=bytes(3000)))
    assert len(echoes(wire, 0x0800)) == 3
    (datagram,) = await_arrivals(link, Datagram)
    assert isinstance(datagram, Datagram)
    assert len(datagram.data) == 3008
    link6 = open_dgram(stack, hosts[0], 6)
    link6.send(request(B6, data=bytes(3000)))
    assert len(echoes(wire, 0x86DD)) == 3
    (datagram,) = await_arrivals(link6, Datagram)
    assert isinstance(datagram, Datagram)
    assert len(datagram.data) == 3008


@pytest.mark.parametrize(
    ("dst_addr", "src_addr", "icmp_type", "code"),
    [
        ("10.97.1.5", B, 3, 1),
        ("10.97.2.5", B, 3, 13),
        ("10.97.9.5", B, 3, 0),
        ("fd97:0:0:1::5", B6, 1, 0),
    ],
)
def test_icmp_error_tells_who_what_and_about_which(
    hosts: Hosts, stack: ExitStack, dst_addr: str, src_addr: str, icmp_type: int, code: int
) -> None:
    link = open_dgram(stack, hosts[0], 6 if ":" in dst_addr else 4)
    entered_ns = link.send(request(dst_addr, number=21))
    (error,) = await_arrivals(link, ICMPError)
    assert isinstance(error, ICMPError)
    assert (error.src_addr, error.dst_addr) == (src_addr, dst_addr)
    if dst_addr == "10.97.9.5":  # no route: by the kernel's version network or host unreachable
        assert error.icmp_type == 3
    else:
        assert (error.icmp_type, error.code) == (icmp_type, code)
    assert error.original[4:8] == link.identifier.to_bytes(2, "big") + b"\x00\x15"
    assert error.original.endswith(b"ping")
    assert (error.mtu, error.extensions) == (None, b"")
    assert error.stamp_source == "kernel"
    assert error.received_ns > entered_ns


def test_time_exceeded_names_the_router(hosts: Hosts, stack: ExitStack) -> None:
    for family, dst_addr, router, expected, hops in (
        (4, "10.97.3.9", B, (11, 0), {"ttl": 1}),
        (6, "fd97:0:0:3::9", B6, (3, 0), {"hop_limit": 1}),
    ):
        link = open_dgram(stack, hosts[0], family)
        link.send(request(dst_addr, **hops))
        (error,) = await_arrivals(link, ICMPError)
        assert isinstance(error, ICMPError)
        assert (error.src_addr, (error.icmp_type, error.code)) == (router, expected)


@pytest.mark.parametrize(
    ("dst_addr", "fields"), [("10.97.3.9", {"flags": DF}), ("fd97:0:0:3::9", {})]
)
def test_too_big_tells_the_next_hops_mtu(
    hosts: Hosts, stack: ExitStack, dst_addr: str, fields: dict[str, int]
) -> None:
    link = open_dgram(stack, hosts[0], 6 if ":" in dst_addr else 4)
    link.send(request(dst_addr, data=bytes(1400), **fields))
    (error,) = await_arrivals(link, ICMPError)
    assert isinstance(error, ICMPError)
    assert error.mtu == 1300


def test_extensions_of_an_error_come_with_it(hosts: Hosts, stack: ExitStack) -> None:
    link = open_dgram(stack, hosts[0], 4)
    link6 = open_dgram(stack, hosts[0], 6)
    with hosts[1].entered():
        router = stack.enter_context(RawLink(4, 255))
        router6 = stack.enter_context(RawLink(6, 255))
    labels = MPLSLabelStack(labels=(MPLSLabel(label=0x12345, bottom_of_stack=1, ttl=1),))
    extensions = ICMPExtensions(objects=(labels,))
    # Errors about echoes that were never sent, from a router of our making.
    echo = ICMPEcho(identifier=link.identifier, sequence_number=33).emit(b"ping")
    original = IPv4Header(src_addr=A, dst_addr="10.97.8.8", protocol=1).emit(echo)
    error = ICMPTimeExceeded(original_datagram=original, extensions=extensions)
    packet = (IPv4Header(identification=1, src_addr=B, dst_addr=A) / error).emit()
    router.send(Transmit(data=packet, dst_addr=A, token=1))
    echo6 = ICMPv6Echo(identifier=link6.identifier).emit(b"ping", src_addr=A6, dst_addr="fd97::8")
    original6 = IPv6Header(src_addr=A6, dst_addr="fd97::8", next_header=58).emit(echo6)
    error6 = ICMPv6TimeExceeded(original_datagram=original6, extensions=extensions)
    packet6 = (IPv6Header(src_addr=B6, dst_addr=A6) / error6).emit()
    router6.send(Transmit(data=packet6, dst_addr=A6, token=1))
    for receiver, sent in ((link, echo), (link6, echo6)):
        (got,) = await_arrivals(receiver, ICMPError)
        assert isinstance(got, ICMPError)
        assert got.extensions == extensions.emit()
        assert got.original.startswith(sent)
        assert not got.original.endswith(got.extensions)


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        (lambda number: request("10.97.3.9", ttl=1, number=number), B),
        (lambda number: request("fd97:0:0:3::9", hop_limit=1, number=number), B6),
    ],
    ids=["ipv4", "ipv6"],
)
def test_an_error_about_one_packet_spoils_no_other(
    hosts: Hosts, stack: ExitStack, bad: Callable[[int], Transmit], good: str
) -> None:
    """The kernel tells a pending error to whichever call comes next, be it send or receive."""
    link = open_dgram(stack, hosts[0], 6 if ":" in good else 4)
    arrivals: list[Arrival] = []
    for number in range(0, 20, 2):
        link.send(bad(number))
        link.send(request(good, number=number + 1))
        if number % 3 == 0:
            assert select.select([link.fileno()], [], [], 5)[0] or link.poll_timeout() is not None
            arrivals += link.receive()
    arrivals += link.receive()
    errors = [each for each in arrivals if isinstance(each, ICMPError)]
    replies = [each for each in arrivals if isinstance(each, Datagram)]
    stamps = [each for each in arrivals if isinstance(each, Transmitted)]
    assert [int.from_bytes(each.original[6:8], "big") for each in errors] == [*range(0, 20, 2)]
    assert [int.from_bytes(each.data[6:8], "big") for each in replies] == [*range(1, 20, 2)]
    assert sorted(each.token for each in stamps) == [*range(20)]
    assert link.receive() == []
    assert link.poll_timeout() is None
