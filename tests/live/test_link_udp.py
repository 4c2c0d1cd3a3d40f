"""UDP without privilege: our packets as the kernel puts them on the wire, and what comes back."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from rawproto.errors import LinkError
from rawproto.link.base import Arrival, Transmitted
from rawproto.link.packet import PacketLink
from rawproto.link.ports import reserve_port
from rawproto.link.raw import RawLink
from rawproto.link.udp import UDPLink
from rawproto.machine import Datagram, ICMPError, Transmit
from rawproto.wire.icmp import ICMPTimeExceeded
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmp_objects import MPLSLabel, MPLSLabelStack
from rawproto.wire.icmpv6 import ICMPv6TimeExceeded
from rawproto.wire.ipv4 import DF, MF, IPv4Header
from rawproto.wire.ipv4_options import RecordRoute
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.udp import UDPHeader
from tests.live.namespaces import Namespace, namespace_pair

A, B, A6, B6 = "10.98.0.1", "10.98.0.2", "fd98::1", "fd98::2"
CLOSED = 33_434
DATA = b"\x12\x34datagram"

Hosts = tuple[Namespace, Namespace]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with namespace_pair() as (here, there):
        # Networks behind the other host, most of which it has no way to.
        here.ip(f"route add 10.97.0.0/16 via {B}", f"route add fd97::/48 via {B6}")
        there.sysctl("net/ipv4/ip_forward", "1")
        there.sysctl("net/ipv6/conf/all/forwarding", "1")
        # Errors as fast as they are provoked. (An `icmp_ratelimit` of 0 would empty the
        # bucket out of which the kernel pays for those of routes that refuse.)
        there.sysctl("net/ipv4/icmp_ratemask", "0")
        there.sysctl("net/ipv6/icmp/ratelimit", "0")
        there.ip(
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


def open_udp(stack: ExitStack, host: Namespace, address: str = A, **options) -> UDPLink:
    with host.entered():
        return stack.enter_context(UDPLink(reserve_port("udp", address), **options))


def open_wire(stack: ExitStack, host: Namespace) -> PacketLink:
    with host.entered():
        return stack.enter_context(PacketLink("rplk-b", ignore_outgoing=True))


def datagrams(wire: PacketLink) -> list[bytes]:
    """UDP over the cable, from the IP header on."""
    packets = [each.data[14:] for each in wire.receive_frames(1000)]
    return [each for each in packets if each[9 if each[0] >> 4 == 4 else 6] == 17]


def packet(
    link: UDPLink, dst_addr: str = B, dst_port: int = CLOSED, data: bytes = DATA, **fields
) -> Transmit:
    """A datagram, whole; `fields` are the IP header's."""
    src_addr = link.src_addr
    datagram = UDPHeader(src_port=link.src_port, dst_port=dst_port).emit(
        data, src_addr=src_addr, dst_addr=dst_addr
    )
    header: IPv4Header | IPv6Header
    if ":" in dst_addr:
        header = IPv6Header(
            **{"src_addr": src_addr, "dst_addr": dst_addr, "next_header": 17} | fields
        )
    else:
        header = IPv4Header(**{"src_addr": src_addr, "dst_addr": dst_addr, "protocol": 17} | fields)
    return Transmit(data=header.emit(datagram), dst_addr=dst_addr, token=data[1])


def await_arrivals(link: UDPLink, kind: type, count: int = 1) -> list[Arrival]:
    """Receives until so many of a kind were there."""
    got: list[Arrival] = []
    for _ in range(100):
        if len(got) >= count or not select.select([link.fileno()], [], [], 5)[0]:
            break
        got += [each for each in link.receive() if isinstance(each, kind)]
    return got


@pytest.mark.parametrize(
    "fields",
    [
        {"ttl": 3, "dscp": 46, "ecn": 1, "flags": DF, "identification": 77},
        {"ttl": 255, "flags": 0},
    ],
)
def test_ipv4_packet_is_on_the_wire_as_laid_out_but_for_its_identification(
    hosts: Hosts, stack: ExitStack, fields: dict[str, int]
) -> None:
    link, wire = open_udp(stack, hosts[0]), open_wire(stack, hosts[1])
    transmit = packet(link, **fields)
    link.send(transmit)
    (sent,) = datagrams(wire)
    assert sent[:4] + sent[6:10] + sent[12:] == (
        transmit.data[:4] + transmit.data[6:10] + transmit.data[12:]
    )
    assert IPv4Header.verify(sent)


@pytest.mark.parametrize(
    "fields",
    [
        {"hop_limit": 3, "traffic_class": 0xB9, "flow_label": 0},
        {"hop_limit": 255, "flow_label": 0xABCDE},
    ],
)
def test_ipv6_packet_is_on_the_wire_as_laid_out(
    hosts: Hosts, stack: ExitStack, fields: dict[str, int]
) -> None:
    link, wire = open_udp(stack, hosts[0], A6), open_wire(stack, hosts[1])
    transmit = packet(link, B6, **fields)
    link.send(transmit)
    assert datagrams(wire) == [transmit.data]


@pytest.mark.parametrize("address", [A, A6])
def test_link_takes_over_the_port_that_was_reserved(
    hosts: Hosts, stack: ExitStack, address: str
) -> None:
    with hosts[0].entered():
        link = stack.enter_context(UDPLink(reserve_port("udp", address, 4000)))
        assert (link.src_addr, link.src_port) == (address, 4000)
        with pytest.raises(LinkError, match=f"use udp port 4000 of {address}: Address already"):
            reserve_port("udp", address, 4000)
        link.close()
        reserve_port("udp", address, 4000).close()


def test_link_local_source_may_be_given_its_interface_too(hosts: Hosts, stack: ExitStack) -> None:
    shown = hosts[0].run("ip", "-6", "-o", "addr", "show", "dev", "rplk-a", "scope", "link")
    address = shown.split()[3].partition("/")[0]
    wire = open_wire(stack, hosts[1])
    with hosts[0].entered():
        reserved = reserve_port("udp", address, scope=socket.if_nametoindex("rplk-a"))
        link = stack.enter_context(UDPLink(reserved, interface="rplk-a"))
    transmit = packet(link, B6)
    link.send(transmit)
    assert datagrams(wire) == [transmit.data]


def test_interface_that_is_none_is_refused(hosts: Hosts, stack: ExitStack) -> None:
    with pytest.raises(LinkError) as refused:
        open_udp(stack, hosts[0], interface="nope")
    assert refused.value.errno == errno.ENODEV


REFUSED: dict[str, Callable[[UDPLink], bytes]] = {
    "another protocol": lambda link: packet(link, protocol=6).data,
    "an option": lambda link: packet(link, options=(RecordRoute(),)).data,
    "a fragment": lambda link: packet(link, flags=MF).data,
    "a later fragment": lambda link: packet(link, fragment_offset=1).data,
    "another source": lambda link: packet(link, src_addr="10.98.0.9").data,
    "another port": lambda link: packet(link).data[:20] + b"\1\2" + packet(link).data[22:],
    "a wrong checksum": lambda link: packet(link).data[:26] + b"\1\2" + DATA,
    "a wrong length": lambda link: packet(link).data + b"\0\0",
    "nothing": lambda link: b"",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_needs_a_raw_socket_is_refused(hosts: Hosts, stack: ExitStack, what: str) -> None:
    link = open_udp(stack, hosts[0])
    with pytest.raises(LinkError, match="needs a raw socket") as refused:
        link.send(Transmit(data=REFUSED[what](link), dst_addr=B, token=1))
    assert refused.value.errno == errno.EOPNOTSUPP


def test_ipv6_extension_headers_are_refused(hosts: Hosts, stack: ExitStack) -> None:
    link = open_udp(stack, hosts[0], A6)
    with pytest.raises(LinkError, match=r"extension headers.*raw socket"):
        link.send(packet(link, B6, next_header=0))


def test_what_is_too_large_is_refused_and_not_cut(hosts: Hosts, stack: ExitStack) -> None:
    wire = open_wire(stack, hosts[1])
    for address, dst_addr, fields in ((A, B, {"flags": DF}), (A6, B6, {})):
        link = open_udp(stack, hosts[0], address)
        with pytest.raises(LinkError, match="more than the MTU") as refused:
            link.send(packet(link, dst_addr, data=bytes(3000), **fields))
        assert refused.value.errno == errno.EMSGSIZE
        assert link.receive() == []
        link.send(packet(link, dst_addr, data=bytes(1400), **fields))
    assert [len(each) for each in datagrams(wire)] == [1428, 1448]


@pytest.mark.parametrize(("address", "dst_addr"), [(A, B), (A6, B6)])
def test_answer_has_its_header_again(
    hosts: Hosts, stack: ExitStack, address: str, dst_addr: str
) -> None:
    link, other = open_udp(stack, hosts[0], address), open_udp(stack, hosts[1], dst_addr)
    ecn = {"ecn": 2, "ttl": 9} if ":" not in address else {"traffic_class": 2, "hop_limit": 9}
    answer = packet(other, address, link.src_port, b"odd", **ecn)
    entered_ns = other.send(answer)
    (datagram,) = await_arrivals(link, Datagram)
    assert isinstance(datagram, Datagram)
    assert datagram.data == answer.data[-11:]
    assert (datagram.src_addr, datagram.dst_addr) == (dst_addr, address)
    assert (datagram.protocol, datagram.ttl, datagram.ecn, datagram.header) == (17, 9, 2, b"")
    assert datagram.stamp_source == "kernel"
    assert datagram.received_ns > entered_ns


@pytest.mark.parametrize(
    ("address", "dst_addr", "fields", "src_addr", "expected"),
    [
        (A, B, {}, B, (3, 3)),
        (A, "10.97.2.5", {}, B, (3, 13)),
        (A, "10.97.3.9", {"ttl": 1}, B, (11, 0)),
        (A6, B6, {}, B6, (1, 4)),
        (A6, "fd97:0:0:1::5", {}, B6, (1, 0)),
        (A6, "fd97:0:0:3::9", {"hop_limit": 1}, B6, (3, 0)),
    ],
)
def test_icmp_error_tells_who_what_and_about_which(
    hosts: Hosts,
    stack: ExitStack,
    address: str,
    dst_addr: str,
    fields: dict[str, int],
    src_addr: str,
    expected: tuple[int, int],
) -> None:
    link = open_udp(stack, hosts[0], address)
    entered_ns = link.send(packet(link, dst_addr, **fields))
    (error,) = await_arrivals(link, ICMPError)
    assert isinstance(error, ICMPError)
    assert (error.src_addr, error.dst_addr) == (src_addr, dst_addr)
    assert (error.icmp_type, error.code) == expected
    assert error.original == DATA
    assert (error.ttl, error.mtu, error.extensions) == (64, None, b"")
    assert error.stamp_source == "kernel"
    assert error.received_ns > entered_ns


@pytest.mark.parametrize(
    ("address", "dst_addr", "fields"), [(A, "10.97.3.9", {"flags": DF}), (A6, "fd97:0:0:3::9", {})]
)
def test_too_big_tells_the_next_hops_mtu_and_is_not_heeded(
    hosts: Hosts, stack: ExitStack, address: str, dst_addr: str, fields: dict[str, int]
) -> None:
    link, wire = open_udp(stack, hosts[0], address), open_wire(stack, hosts[1])
    for _ in range(2):
        link.send(packet(link, dst_addr, data=bytes(1400), **fields))
        (error,) = await_arrivals(link, ICMPError)
        assert isinstance(error, ICMPError)
        assert (error.src_addr, error.mtu) == (B if address == A else B6, 1300)
        assert [len(each) for each in datagrams(wire)] == [1428 if address == A else 1448]


def make_error(link: UDPLink, sent: bytes, extensions: ICMPExtensions | None) -> Transmit:
    """A router of ours complains to a link about a packet."""
    if ":" in link.src_addr:
        error6 = ICMPv6TimeExceeded(original_datagram=sent, extensions=extensions)
        data = (IPv6Header(src_addr=B6, dst_addr=A6, hop_limit=50) / error6).emit()
    else:
        error = ICMPTimeExceeded(original_datagram=sent, extensions=extensions)
        data = (IPv4Header(identification=1, src_addr=B, dst_addr=A, ttl=50) / error).emit()
    return Transmit(data=data, dst_addr=link.src_addr, token=1)


@pytest.mark.parametrize(("address", "dst_addr"), [(A, "10.97.8.8"), (A6, "fd97::8")])
def test_error_is_told_with_what_the_router_quotes_and_adds(
    hosts: Hosts, stack: ExitStack, address: str, dst_addr: str
) -> None:
    family = 6 if ":" in address else 4
    header_bytes = 48 if family == 6 else 28
    link = open_udp(stack, hosts[0], address)
    with hosts[1].entered():
        router = stack.enter_context(RawLink(family, 255))
    sent = packet(link, dst_addr).data
    labels = MPLSLabelStack(labels=(MPLSLabel(label=0x12345, bottom_of_stack=1, ttl=1),))
    extensions = ICMPExtensions(objects=(labels,))
    for quoted, added, original in (
        (sent, None, DATA),
        (sent[: header_bytes + 1], None, DATA[:1]),
        (sent[:header_bytes], None, b""),
        (sent, extensions, DATA.ljust(128 - header_bytes, b"\0")),
        (sent[:header_bytes], extensions, bytes(128 - header_bytes)),
    ):
        router.send(make_error(link, quoted, added))
        (error,) = await_arrivals(link, ICMPError)
        assert isinstance(error, ICMPError)
        assert (error.original, error.ttl) == (original, 50)
        assert error.extensions == (added.emit() if added else b"")


@pytest.mark.parametrize(
    ("address", "bad", "good"), [(A, "10.97.3.9", B), (A6, "fd97:0:0:3::9", B6)]
)
def test_an_error_about_one_packet_spoils_no_other(
    hosts: Hosts, stack: ExitStack, address: str, bad: str, good: str
) -> None:
    """The kernel tells a pending error to whichever call comes next, be it send or receive."""
    link, other = open_udp(stack, hosts[0], address), open_udp(stack, hosts[1], good)
    hops = {"hop_limit" if ":" in address else "ttl": 1}
    arrivals: list[Arrival] = []
    for number in range(0, 20, 2):
        link.send(packet(link, bad, data=bytes((0, number)), **hops))
        link.send(packet(link, good, other.src_port, data=bytes((0, number + 1))))
        other.send(packet(other, address, link.src_port, data=bytes((0, number + 1))))
        if number % 3 == 0:
            assert select.select([link.fileno()], [], [], 5)[0] or link.poll_timeout() is not None
            arrivals += link.receive()
    arrivals += link.receive()
    errors = [each for each in arrivals if isinstance(each, ICMPError)]
    answers = [each for each in arrivals if isinstance(each, Datagram)]
    stamps = [each for each in arrivals if isinstance(each, Transmitted)]
    assert [each.original[1] for each in errors] == [*range(0, 20, 2)]
    assert [each.data[9] for each in answers] == [*range(1, 20, 2)]
    assert sorted(each.token for each in stamps) == [*range(20)]
    assert link.receive() == []
    assert link.poll_timeout() is None


class Refusing:
    """A socket whose next sends are refused, as they are when the kernel has an error to tell."""

    def __init__(self, sock: socket.socket, times: int) -> None:
        self._sock = sock
        self._times = times

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)

    def sendmsg(self, *arguments: object) -> int:
        if self._times:
            self._times -= 1
            raise OSError(errno.EHOSTUNREACH, "No route to host")
        return self._sock.sendmsg(*arguments)  # type: ignore[arg-type]


def test_refusal_whose_error_was_read_before_it_was_told_is_not_believed(
    hosts: Hosts, stack: ExitStack
) -> None:
    link, other = open_udp(stack, hosts[0]), open_udp(stack, hosts[1], B)
    link.send(packet(link, dst_port=other.src_port, data=b"\0\0"))
    link._socket = Refusing(link._socket, 1)  # type: ignore[assignment]
    link.send(packet(link, dst_port=other.src_port, data=b"\0\1"))
    assert [each.data[9] for each in await_arrivals(other, Datagram, 2)] == [0, 1]  # type: ignore[union-attr]
    assert [each.token for each in await_arrivals(link, Transmitted, 2)] == [0, 1]  # type: ignore[union-attr]


def test_refusal_that_is_told_twice_is_believed(hosts: Hosts, stack: ExitStack) -> None:
    link = open_udp(stack, hosts[0])
    link._socket = Refusing(link._socket, 2)  # type: ignore[assignment]
    with pytest.raises(LinkError) as refused:
        link.send(packet(link))
    assert refused.value.errno == errno.EHOSTUNREACH
    link.send(packet(link))
