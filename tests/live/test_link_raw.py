"""Raw links on a real cable: what leaves, what comes back, what the kernel does about it."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import IPv6

from rawproto.errors import LinkError
from rawproto.filter.assembler import assemble
from rawproto.link.base import Transmitted
from rawproto.link.interfaces import interface
from rawproto.link.options import attach_filter
from rawproto.link.packet import Frame, PacketLink
from rawproto.link.raw import RawLink
from rawproto.machine import Datagram, Transmit
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.ipv4 import DF, IPv4Header
from rawproto.wire.ipv4_options import RecordRoute
from rawproto.wire.ipv6 import IPv6Header
from tests.live.namespaces import Namespace, namespace_pair

A, B, A6, B6 = "10.98.0.1", "10.98.0.2", "fd98::1", "fd98::2"

Hosts = tuple[Namespace, Namespace]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with namespace_pair() as pair:
        yield pair


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def open_raw(stack: ExitStack, host: Namespace, family: int, protocol: int, **options) -> RawLink:
    with host.entered():
        return stack.enter_context(RawLink(family, protocol, **options))


def open_wire(stack: ExitStack, host: Namespace, device: str) -> PacketLink:
    """What really arrives at the other end of the cable."""
    with host.entered():
        return stack.enter_context(PacketLink(device, ignore_outgoing=True))


def ip_frames(wire: PacketLink, ethertype: int) -> list[bytes]:
    frames: list[Frame] = wire.receive_frames(1000)
    return [frame.data[14:] for frame in frames if frame.ethertype == ethertype]


def test_ipv4_packet_is_on_the_wire_byte_for_byte(hosts: Hosts, stack: ExitStack) -> None:
    link = open_raw(stack, hosts[0], 4, 1)
    wire = open_wire(stack, hosts[1], "rplk-b")
    packets = [
        (IPv4Header(**fields, src_addr=A, dst_addr=B) / ICMPEcho(identifier=7) / bytes(size)).emit()
        for fields, size in (
            ({"identification": 0xBEEF, "dscp": 46, "ecn": 1, "ttl": 3, "flags": DF}, 0),
            ({"identification": 1, "ttl": 255, "options": (RecordRoute(),)}, 56),
            ({"identification": 2, "flags": 1, "fragment_offset": 0}, 1400),
            ({"identification": 0, "flags": DF}, 33),  # 0 stays 0 where DF is set
            ({"identification": 3, "flags": 4, "ttl": 0}, 1472 - 8),
        )
    ]
    for number, packet in enumerate(packets):
        link.send(Transmit(data=packet, dst_addr=B, token=number))
    assert ip_frames(wire, 0x0800) == packets
    read = IP(packets[0])
    assert (read.id, read.tos, read.ttl, read.flags.DF) == (0xBEEF, 46 << 2 | 1, 3, 1)
    assert read[ICMP].id == 7


def test_ipv6_packet_is_on_the_wire_byte_for_byte(hosts: Hosts, stack: ExitStack) -> None:
    link = open_raw(stack, hosts[0], 6, 58)
    other = open_raw(stack, hosts[1], 6, 253)
    wire = open_wire(stack, hosts[1], "rplk-b")
    hop_by_hop = bytes((58, 0, 1, 4, 0, 0, 0, 0))
    echo = ICMPv6Echo(identifier=9).emit(b"labelled", src_addr=A6, dst_addr=B6)
    fields = {"traffic_class": 0xB9, "flow_label": 0xABCDE, "hop_limit": 2}
    packets = [
        IPv6Header(**fields, next_header=58, src_addr=A6, dst_addr=B6).emit(echo),
        IPv6Header(**fields, next_header=0, src_addr=A6, dst_addr=B6).emit(hop_by_hop + echo),
        IPv6Header(next_header=253, payload_length=3, src_addr=A6, dst_addr=B6).emit(b"longer"),
    ]
    for number, packet in enumerate(packets):
        link.send(Transmit(data=packet, dst_addr=B6, token=number))
    other.receive()
    seen = [data for data in ip_frames(wire, 0x86DD) if data[6] != 58 or data[40] == 128]
    assert seen == packets
    read = IPv6(seen[0])
    assert (read.tc, read.fl, read.hlim, read.nh) == (0xB9, 0xABCDE, 2, 58)


GOOD = IPv4Header(identification=5, protocol=253, src_addr=A, dst_addr=B).emit(b"data")
SPOILT = {
    "checksum": GOOD[:10] + b"\x12\x34" + GOOD[12:],
    "total_length": IPv4Header(
        identification=5, total_length=999, protocol=253, src_addr=A, dst_addr=B
    ).emit(b"data"),
    "ihl": b"\x4f" + GOOD[1:],
    "src_addr": IPv4Header(identification=5, protocol=253, dst_addr=B).emit(b"data"),
    "identification": IPv4Header(protocol=253, src_addr=A, dst_addr=B).emit(b"data"),
}


@pytest.mark.parametrize("field", SPOILT)
def test_header_that_the_kernel_would_change_is_refused(
    hosts: Hosts, stack: ExitStack, field: str
) -> None:
    link = open_raw(stack, hosts[0], 4, 1)
    wire = open_wire(stack, hosts[1], "rplk-b")
    with pytest.raises(LinkError, match=f"{field}.*packet socket"):
        link.send(Transmit(data=SPOILT[field], dst_addr=B, token=1))
    with pytest.raises(LinkError, match="no whole IPv4 header"):
        link.send(Transmit(data=GOOD[:19], dst_addr=B, token=1))
    assert ip_frames(wire, 0x0800) == []


@pytest.mark.parametrize("field", ["checksum", "total_length", "src_addr", "identification"])
def test_the_kernel_does_change_what_is_refused(hosts: Hosts, stack: ExitStack, field: str) -> None:
    with hosts[0].entered():
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, 255))
    wire = open_wire(stack, hosts[1], "rplk-b")
    sock.sendto(SPOILT[field], (B, 0))
    (seen,) = ip_frames(wire, 0x0800)
    assert seen != SPOILT[field]
    assert IPv4Header.verify(seen)


def test_packet_above_the_mtu_is_refused_with_its_size(hosts: Hosts, stack: ExitStack) -> None:
    for family, packet, dst_addr in (
        (4, IPv4Header(identification=1, src_addr=A, dst_addr=B).emit(bytes(1481)), B),
        (6, IPv6Header(src_addr=A6, dst_addr=B6).emit(bytes(1461)), B6),
    ):
        link = open_raw(stack, hosts[0], family, 253)
        with pytest.raises(LinkError, match=f"send to {dst_addr}: 1501 bytes .* MTU") as refused:
            link.send(Transmit(data=packet, dst_addr=dst_addr, token=1))
        assert refused.value.errno == errno.EMSGSIZE


def test_no_route_keeps_the_kernels_errno(hosts: Hosts, stack: ExitStack) -> None:
    link = open_raw(stack, hosts[0], 4, 1)
    packet = IPv4Header(identification=1, src_addr=A, dst_addr="192.0.2.9").emit(b"x")
    with pytest.raises(LinkError) as refused:
        link.send(Transmit(data=packet, dst_addr="192.0.2.9", token=1))
    assert refused.value.errno == errno.ENETUNREACH
    assert str(refused.value) == "send to 192.0.2.9: Network is unreachable"


def test_a_failed_send_shifts_no_stamp(hosts: Hosts, stack: ExitStack) -> None:
    """Each kind of failure, between good sends whose stamps are still on their way."""
    here, _ = hosts
    here.nft(
        "table ip rplk {\n chain out {\n type filter hook output priority 0\n"
        " ip ttl 33 drop\n }\n}\n"
    )
    try:
        link = open_raw(stack, here, 4, 253)
        bad = [
            (IPv4Header(identification=1, ttl=33, src_addr=A, dst_addr=B).emit(b"x"), B),
            (IPv4Header(identification=1, src_addr=A, dst_addr=B).emit(bytes(1481)), B),
            (IPv4Header(identification=1, src_addr=A, dst_addr="192.0.2.9").emit(), "192.0.2.9"),
            (SPOILT["checksum"], B),
        ]
        entered: dict[int, int] = {}
        stamps: list[Transmitted] = []
        for token in range(40):
            entered[token] = link.send(Transmit(data=GOOD, dst_addr=B, token=token))
            packet, dst_addr = bad[token % len(bad)]
            with pytest.raises(LinkError):
                link.send(Transmit(data=packet, dst_addr=dst_addr, token=1000 + token))
            if token % 3 == 0:
                stamps += [each for each in link.receive() if isinstance(each, Transmitted)]
        stamps += [each for each in link.receive() if isinstance(each, Transmitted)]
    finally:
        here.nft("delete table ip rplk\n")
    assert [stamp.token for stamp in stamps] == [*range(40)]
    for stamp in stamps:
        assert stamp.stamp_source == "kernel"
        assert stamp.sched_ns is not None
        assert entered[stamp.token] <= stamp.sched_ns <= stamp.sent_ns
        assert stamp.sent_ns < entered.get(stamp.token + 1, 1 << 62)


def test_a_full_send_buffer_shifts_no_stamp(hosts: Hosts, stack: ExitStack) -> None:
    """Packets that wait for a neighbour's address fill the buffer; EAGAIN takes no OPT_ID."""
    here, _ = hosts
    silent = "10.98.0.66"
    link = open_raw(stack, here, 4, 253)
    link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    packet = IPv4Header(identification=1, protocol=253, src_addr=A, dst_addr=silent).emit(b"wait")
    taken: dict[int, int] = {}
    refused = 0
    for token in range(100):
        try:
            taken[token] = link.send(Transmit(data=packet, dst_addr=silent, token=token))
        except LinkError as error:
            assert error.errno == errno.EAGAIN
            refused += 1
            if refused == 1:
                # Room for a few more, whose numbers would be wrong if refusals counted.
                link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    assert refused > 1
    here.ip(f"neigh replace {silent} lladdr 02:00:00:00:00:66 dev rplk-a nud permanent")
    stamps = [each for each in link.receive() if isinstance(each, Transmitted)]
    here.ip(f"neigh del {silent} dev rplk-a")
    assert [stamp.token for stamp in stamps] == [*taken]
    for stamp in stamps:
        assert stamp.sched_ns is not None
        assert taken[stamp.token] <= stamp.sched_ns <= stamp.sent_ns


def test_a_firewall_is_named_when_it_refuses(hosts: Hosts, stack: ExitStack) -> None:
    here, _ = hosts
    here.nft(
        "table ip rplk {\n chain out {\n type filter hook output priority 0\n"
        " ip daddr 10.98.0.2 drop\n }\n}\n"
    )
    try:
        link = open_raw(stack, here, 4, 253)
        with pytest.raises(LinkError, match="firewall") as refused:
            link.send(Transmit(data=GOOD, dst_addr=B, token=1))
        assert refused.value.errno == errno.EPERM
    finally:
        here.nft("delete table ip rplk\n")


def test_stamps_of_the_kernel_enclose_the_flight(hosts: Hosts, stack: ExitStack) -> None:
    sender, receiver = (open_raw(stack, host, 4, 253) for host in hosts)
    for number in range(50):
        entered_ns = sender.send(Transmit(data=GOOD, dst_addr=B, token=number))
        (stamp,) = sender.receive()
        (datagram,) = receiver.receive()
        assert isinstance(stamp, Transmitted)
        assert isinstance(datagram, Datagram)
        assert (stamp.stamp_source, datagram.stamp_source) == ("kernel", "kernel")
        assert stamp.sched_ns is not None
        assert entered_ns <= stamp.sched_ns <= stamp.sent_ns <= datagram.received_ns


def test_without_timestamps_arrivals_have_the_users(hosts: Hosts, stack: ExitStack) -> None:
    sender, receiver = (open_raw(stack, host, 4, 253, timestamps=False) for host in hosts)
    entered_ns = sender.send(Transmit(data=GOOD, dst_addr=B, token=1))
    assert sender.receive() == []
    (datagram,) = receiver.receive()
    assert isinstance(datagram, Datagram)
    assert datagram.stamp_source == "user"
    assert entered_ns < datagram.received_ns


def test_link_local_address_goes_by_its_scope(hosts: Hosts, stack: ExitStack) -> None:
    with hosts[1].entered():
        link_local = next(each.addr for each in _addresses("rplk-b") if each.scope == "link")
        index = interface("rplk-b").index
    sender, receiver = (open_raw(stack, host, 6, 253) for host in hosts)
    packet = IPv6Header(next_header=253, src_addr="fe80::77", dst_addr=link_local).emit(b"here")
    with hosts[0].entered():
        for scope in ("rplk-a", str(interface("rplk-a").index)):
            sender.send(Transmit(data=packet, dst_addr=f"{link_local}%{scope}", token=1))
    got = _await(receiver, 2)
    assert [datagram.data for datagram in got] == [b"here", b"here"]
    assert (got[0].src_addr, got[0].dst_addr, got[0].interface) == ("fe80::77", link_local, index)
    with pytest.raises(LinkError, match="interface nope: No such device"):
        sender.send(Transmit(data=packet, dst_addr=f"{link_local}%nope", token=1))


def _addresses(name: str):
    from rawproto.link.interfaces import interfaces

    return next(each for each in interfaces() if each.name == name).addresses


def _await(link: RawLink, count: int) -> list[Datagram]:
    """Waits for neighbour discovery, which is all that takes time here."""
    import select

    got: list[Datagram] = []
    while len(got) < count and select.select([link.fileno()], [], [], 5)[0]:
        got += [each for each in link.receive() if isinstance(each, Datagram)]
    return got


def test_a_bound_link_hears_its_interface_only(hosts: Hosts, stack: ExitStack) -> None:
    sender, there = open_raw(stack, hosts[0], 4, 255), hosts[1]
    cable = open_raw(stack, there, 4, 253, interface="rplk-b")
    loopback = open_raw(stack, there, 4, 253, interface="lo")
    sender.send(Transmit(data=GOOD, dst_addr=B, token=1))
    (datagram,) = cable.receive()
    assert isinstance(datagram, Datagram)
    with there.entered():
        assert datagram.interface == interface("rplk-b").index
    assert loopback.receive() == []
    with pytest.raises(LinkError, match="nope: No such device"):
        open_raw(stack, there, 4, 253, interface="nope")


def test_a_mark_chooses_the_way(hosts: Hosts, stack: ExitStack) -> None:
    here, _ = hosts
    here.ip("rule add fwmark 77 unreachable")
    try:
        open_raw(stack, here, 4, 253).send(Transmit(data=GOOD, dst_addr=B, token=1))
        marked = open_raw(stack, here, 4, 253, mark=77)
        with pytest.raises(LinkError) as refused:
            marked.send(Transmit(data=GOOD, dst_addr=B, token=1))
        assert refused.value.errno == errno.ENETUNREACH
    finally:
        here.ip("rule del fwmark 77 unreachable")


def test_broadcasts_must_be_allowed(hosts: Hosts, stack: ExitStack) -> None:
    receiver = open_raw(stack, hosts[1], 4, 253)
    everybody = "10.98.0.255"
    packet = IPv4Header(identification=1, protocol=253, src_addr=A, dst_addr=everybody).emit(b"all")
    transmit = Transmit(data=packet, dst_addr=everybody, token=1)
    with pytest.raises(LinkError) as refused:
        open_raw(stack, hosts[0], 4, 253).send(transmit)
    assert refused.value.errno == errno.EACCES
    open_raw(stack, hosts[0], 4, 253, broadcast=True).send(transmit)
    (datagram,) = receiver.receive()
    assert isinstance(datagram, Datagram)
    assert datagram.dst_addr == everybody


def test_a_filter_lets_through_what_it_accepts_and_counts_nothing_as_dropped(
    hosts: Hosts, stack: ExitStack
) -> None:
    only_ttl_9 = assemble("ldb [8]\njeq #9, ok\nret #0\nok: ret #-1").to_bytes()
    receiver = open_raw(stack, hosts[1], 4, 253, bpf=only_ttl_9)
    sender = open_raw(stack, hosts[0], 4, 255)
    for ttl in (8, 9, 10, 9):
        packet = IPv4Header(identification=1, ttl=ttl, protocol=253, src_addr=A, dst_addr=B).emit(
            b"x"
        )
        sender.send(Transmit(data=packet, dst_addr=B, token=ttl))
    assert [each.ttl for each in receiver.receive() if isinstance(each, Datagram)] == [9, 9]
    assert receiver.dropped == 0
    with pytest.raises(LinkError, match="attach filter"):
        open_raw(stack, hosts[1], 4, 253, bpf=struct.pack("@HBBI", 0x05, 0, 0, 9))


def test_nothing_from_before_the_filter_is_ever_read(hosts: Hosts, stack: ExitStack) -> None:
    with hosts[1].entered():
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, 253))
    sock.setblocking(False)
    sender = open_raw(stack, hosts[0], 4, 255)
    sender.send(Transmit(data=GOOD, dst_addr=B, token=1))
    sender.send(Transmit(data=GOOD, dst_addr=B, token=2))
    attach_filter(sock, assemble("ret #-1").to_bytes())
    with pytest.raises(BlockingIOError):
        sock.recv(100)
    sender.send(Transmit(data=GOOD, dst_addr=B, token=3))
    assert sock.recv(100) == GOOD


def test_what_overflows_the_buffer_is_counted_as_dropped(hosts: Hosts, stack: ExitStack) -> None:
    receiver = open_raw(stack, hosts[1], 4, 253, receive_bytes=8192)
    sender = open_raw(stack, hosts[0], 4, 255)
    for token in range(200):
        sender.send(Transmit(data=GOOD, dst_addr=B, token=token))
    got = len(receiver.receive(1000))
    assert 0 < got < 200
    # The kernel tells with the next packet that finds room.
    sender.send(Transmit(data=GOOD, dst_addr=B, token=200))
    assert len(receiver.receive()) == 1
    assert receiver.dropped == 200 - got


def test_the_kernel_answers_our_ping_through_raw_sockets(hosts: Hosts, stack: ExitStack) -> None:
    link = open_raw(stack, hosts[0], 4, 1)
    request = ICMPEcho(identifier=77, sequence_number=5).emit(b"hello")
    packet = IPv4Header(identification=1, ttl=9, protocol=1, src_addr=A, dst_addr=B).emit(request)
    link.send(Transmit(data=packet, dst_addr=B, token=1))
    stamp, datagram = link.receive()
    assert isinstance(stamp, Transmitted)
    assert isinstance(datagram, Datagram)
    assert (datagram.src_addr, datagram.dst_addr, datagram.ttl) == (B, A, 64)
    reply, data = ICMPEcho.parse(datagram.data)
    assert (reply.icmp_type, reply.identifier, reply.sequence_number) == (0, 77, 5)
    assert data == b"hello"
    assert IPv4Header.parse(datagram.header)[0].src_addr == B
