"""Packet sockets: frames as they pass, and packets that no raw socket would send."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from scapy.layers.l2 import Dot1Q, Ether

from rawproto.errors import LinkError
from rawproto.filter.assembler import assemble
from rawproto.link.base import Transmitted
from rawproto.link.interfaces import interface
from rawproto.link.packet import Frame, PacketLink
from rawproto.link.raw import RawLink
from rawproto.link.timestamps import ClockBridge
from rawproto.machine import Datagram, Transmit
from rawproto.wire.ethernet import EthernetHeader, VLANTag
from rawproto.wire.icmp_echo import ICMPEcho
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from tests.live.namespaces import Namespace, namespace, namespace_pair

A, B, A6, B6 = "10.98.0.1", "10.98.0.2", "fd98::1", "fd98::2"
IPV4 = 0x0800

Hosts = tuple[Namespace, Namespace]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with namespace_pair() as pair:
        yield pair


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def open_packet(
    stack: ExitStack, host: Namespace, device: str | None = None, **options
) -> PacketLink:
    with host.entered():
        return stack.enter_context(PacketLink(device, **options))


def ipv4_frames(link: PacketLink) -> list[Frame]:
    return [frame for frame in link.receive_frames(1000) if frame.ethertype == IPV4]


def udp_less(number: int, **fields) -> bytes:
    """An IPv4 packet of the test protocol."""
    shared = {"identification": 1 + number, "protocol": 253, "src_addr": A, "dst_addr": B}
    return IPv4Header(**(shared | fields)).emit(b"packet %d" % number)


FORCED = {
    "checksum": udp_less(1, checksum=0xDEAD),
    "total_length": udp_less(2, total_length=9),
    "ihl": udp_less(3, ihl=15),
    "version": udp_less(4, version=5),
    "identification": udp_less(5, identification=0),
    "src_addr": udp_less(6, src_addr="0.0.0.0"),
    "no header at all": b"\x40",
}


@pytest.mark.parametrize("field", FORCED)
def test_forced_header_goes_out_as_it_is(hosts: Hosts, stack: ExitStack, field: str) -> None:
    link = open_packet(stack, hosts[0], "rplk-a")
    wire = open_packet(stack, hosts[1], "rplk-b", ignore_outgoing=True)
    with hosts[0].entered():
        link.resolve(B)
    wire.receive_frames(1000)
    link.send(Transmit(data=FORCED[field], dst_addr=B, token=1))
    (frame,) = ipv4_frames(wire)
    assert frame.data[14:] == FORCED[field]
    read = Ether(frame.data)
    with hosts[0].entered():
        assert read.src == interface("rplk-a").mac_addr
    with hosts[1].entered():
        assert read.dst == interface("rplk-b").mac_addr


def test_next_hop_is_resolved_through_the_gateway(hosts: Hosts, stack: ExitStack) -> None:
    hosts[0].ip(f"route replace 10.97.0.0/16 via {B}", f"route replace fd97::/48 via {B6}")
    wire = open_packet(stack, hosts[1], "rplk-b", ignore_outgoing=True)
    with hosts[0].entered():
        link = stack.enter_context(PacketLink())
        for number, dst_addr in enumerate(("10.97.1.1", "fd97::1")):
            if ":" in dst_addr:
                packet = IPv6Header(next_header=59, src_addr=A6, dst_addr=dst_addr).emit()
            else:
                packet = udp_less(number, dst_addr=dst_addr)
            link.send(Transmit(data=packet, dst_addr=dst_addr, token=number))
            frames = [each for each in wire.receive_frames(100) if each.data[14:] == packet]
            assert len(frames) == 1
            with hosts[1].entered():
                assert frames[0].data[:6].hex(":") == interface("rplk-b").mac_addr


def test_nobody_answering_for_the_next_hop_is_one_error(hosts: Hosts, stack: ExitStack) -> None:
    here, _ = hosts
    here.sysctl("net/ipv4/neigh/rplk-a/retrans_time_ms", "10")
    link = open_packet(stack, here, "rplk-a")
    with here.entered(), pytest.raises(LinkError, match=r"10\.98\.0\.99 on rplk-a") as refused:
        link.send(Transmit(data=udp_less(1), dst_addr="10.98.0.99", token=1))
    assert refused.value.errno == errno.EHOSTUNREACH


def test_own_ipv4_addresses_are_out_of_reach_and_it_says_so(hosts: Hosts, stack: ExitStack) -> None:
    link = open_packet(stack, hosts[0])
    with hosts[0].entered():
        for dst_addr in ("127.0.0.1", A):
            with pytest.raises(LinkError, match="own IPv4 addresses"):
                link.send(Transmit(data=udp_less(1), dst_addr=dst_addr, token=1))


def test_both_directions_are_told_apart_and_stamped(hosts: Hosts, stack: ExitStack) -> None:
    wire = open_packet(stack, hosts[0], "rplk-a")
    with hosts[0].entered():
        raw = stack.enter_context(RawLink(4, 1))
    index = wire.interface and _index(hosts[0], wire.interface)
    before = time.time_ns()
    echo = ICMPEcho(identifier=1).emit(b"both ways")
    packet = IPv4Header(identification=1, protocol=1, src_addr=A, dst_addr=B).emit(echo)
    raw.send(Transmit(data=packet, dst_addr=B, token=1))
    request, reply = ipv4_frames(wire)
    assert (request.direction, reply.direction) == ("out", "in")
    assert (request.packet_type, reply.packet_type) == (4, 0)
    assert request.data[14:] == packet
    for frame in (request, reply):
        assert frame.length == len(frame.data) == 14 + len(packet)
        assert (frame.interface, frame.hardware_type, frame.ethertype) == (index, 1, IPV4)
        assert frame.stamp_source == "kernel"
        assert frame.checksum_ready
    assert before <= request.real_ns <= reply.real_ns <= time.time_ns()


def _index(host: Namespace, name: str) -> int:
    with host.entered():
        return interface(name).index


def test_capture_stamps_lie_between_ours(hosts: Hosts, stack: ExitStack) -> None:
    """The frame's way out is stamped between SCHED and SND of the same packet."""
    bridge = ClockBridge()
    wire = open_packet(stack, hosts[0], "rplk-a")
    with hosts[0].entered():
        raw = stack.enter_context(RawLink(4, 253, bridge=bridge))
    for number in range(20):
        raw.send(Transmit(data=udp_less(number), dst_addr=B, token=number))
        frame = next(each for each in ipv4_frames(wire) if each.direction == "out")
        stamp = raw.receive()[0]
        assert isinstance(stamp, Transmitted)
        assert stamp.sched_ns is not None
        assert stamp.sched_ns <= frame.real_ns - bridge.offset_ns <= stamp.sent_ns


def test_ignored_outgoing_frames_are_not_seen(hosts: Hosts, stack: ExitStack) -> None:
    wire = open_packet(stack, hosts[0], "rplk-a", ignore_outgoing=True)
    with hosts[0].entered():
        raw = stack.enter_context(RawLink(4, 1))
    echo = ICMPEcho(identifier=1).emit()
    packet = IPv4Header(identification=1, protocol=1, src_addr=A, dst_addr=B).emit(echo)
    raw.send(Transmit(data=packet, dst_addr=B, token=1))
    assert [frame.direction for frame in ipv4_frames(wire)] == ["in"]


@pytest.mark.parametrize("tpid", [0x8100, 0x88A8])
def test_vlan_tag_that_the_kernel_took_out_is_put_back(
    hosts: Hosts, stack: ExitStack, tpid: int
) -> None:
    link = open_packet(stack, hosts[0], "rplk-a")
    wire = open_packet(stack, hosts[1], "rplk-b", promiscuous=True, ignore_outgoing=True)
    sent = (
        EthernetHeader(dst_addr="02:00:00:00:00:02", src_addr="02:00:00:00:00:01")
        / VLANTag(tpid=tpid, pcp=5, dei=1, vid=42, ethertype=0x0800)
        / udp_less(1)
    ).emit()
    link.send_frame(sent)
    (frame,) = [each for each in wire.receive_frames(100) if each.data[:6] == sent[:6]]
    # The kernel knows it by what is inside, so it did take the tag out.
    assert frame.ethertype == 0x0800
    assert frame.data == sent
    assert frame.length == len(sent)
    assert Ether(frame.data)[Dot1Q].vlan == 42 if tpid == 0x8100 else True


def test_promiscuous_hears_what_is_for_others(hosts: Hosts, stack: ExitStack) -> None:
    header = EthernetHeader(
        dst_addr="02:00:00:00:00:77", src_addr="02:00:00:00:00:01", ethertype=0x88B5
    )
    link = open_packet(stack, hosts[0], "rplk-a")
    wire = open_packet(stack, hosts[1], "rplk-b", ethertype=0x88B5, promiscuous=True)
    shown = hosts[1].run("ip", "-d", "link", "show", "rplk-b")
    assert "promiscuity 1" in shown
    link.send_frame(header.emit(b"for somebody else"), token=5)
    (frame,) = wire.receive_frames()
    assert (frame.packet_type, frame.direction) == (3, "in")
    assert frame.data == header.emit(b"for somebody else")
    assert wire.receive() == []
    # Other packets may have come meanwhile: this one hears all protocols.
    (stamp,) = [each for each in link.receive() if isinstance(each, Transmitted)]
    assert (stamp.token, stamp.stamp_source) == (5, "kernel")


def test_frames_need_an_interface_to_leave_by(hosts: Hosts, stack: ExitStack) -> None:
    link = open_packet(stack, hosts[0])
    with pytest.raises(LinkError, match="needs an interface"):
        link.send_frame(bytes(60))
    with pytest.raises(LinkError, match="interface nope: No such device"):
        open_packet(stack, hosts[0], "nope")


def test_all_interfaces_are_told_apart_by_index(hosts: Hosts, stack: ExitStack) -> None:
    everywhere = open_packet(stack, hosts[0])
    with hosts[0].entered():
        raw = stack.enter_context(RawLink(4, 253))
    raw.send(Transmit(data=udp_less(1), dst_addr=B, token=1))
    raw.send(Transmit(data=udp_less(2, dst_addr=A), dst_addr=A, token=2))
    seen = {
        (each.data[14 + 5], each.interface, each.hardware_type) for each in ipv4_frames(everywhere)
    }
    assert {(2, _index(hosts[0], "rplk-a"), 1), (3, _index(hosts[0], "lo"), 772)} <= seen


def test_filter_holds_from_the_first_frame_on(hosts: Hosts, stack: ExitStack) -> None:
    program = assemble("ldh [12]\njne #0x800, drop\nldb [19]\njne #7, drop\nret #-1\ndrop: ret #0")
    link = open_packet(stack, hosts[0], "rplk-a")
    wire = open_packet(stack, hosts[1], "rplk-b", bpf=program.to_bytes())
    with hosts[0].entered():
        for number in (6, 6, 7):
            link.send(Transmit(data=udp_less(number - 1), dst_addr=B, token=number))
    assert [frame.data[19] for frame in wire.receive_frames()] == [7]
    assert wire.dropped == 0


def test_frames_that_found_no_room_are_counted(hosts: Hosts, stack: ExitStack) -> None:
    wire = open_packet(stack, hosts[1], "rplk-b", receive_bytes=8192, ethertype=IPV4)
    with hosts[0].entered():
        raw = stack.enter_context(RawLink(4, 253))
    for number in range(200):
        raw.send(Transmit(data=udp_less(number), dst_addr=B, token=number))
    got = [each for each in wire.receive_frames(1000) if each.direction == "in"]
    assert 0 < len(got) < 200
    # What this host said to it, "protocol unreachable", has passed here too.
    assert wire.dropped >= 200 - len(got)
    assert wire.dropped == wire.dropped


def test_datagrams_are_whole_packets_only(hosts: Hosts, stack: ExitStack) -> None:
    link = open_packet(stack, hosts[0], "rplk-a")
    other = open_packet(stack, hosts[1], "rplk-b", ethertype=IPV4)
    with hosts[0].entered():
        for number, packet in enumerate(
            (udp_less(0, flags=MF), udp_less(1, fragment_offset=3), b"\x45", udp_less(3))
        ):
            link.send(Transmit(data=packet, dst_addr=B, token=number))
    (datagram,) = [each for each in other.receive() if isinstance(each, Datagram)]
    assert (datagram.data, datagram.stamp_source) == (b"packet 3", "kernel")
    assert datagram.interface == _index(hosts[1], "rplk-b")


def test_interface_going_down_is_told_after_what_came_before(stack: ExitStack) -> None:
    with namespace_pair() as (here, there):
        wire = open_packet(stack, there, "rplk-b", ethertype=IPV4)
        carrier = open_packet(stack, there, "rplk-b", ethertype=IPV4)
        with here.entered():
            raw = stack.enter_context(RawLink(4, 253))
        raw.send(Transmit(data=udp_less(1), dst_addr=B, token=1))
        assert wire.receive_frames() != []
        raw.send(Transmit(data=udp_less(2), dst_addr=B, token=2))
        there.ip("link set rplk-b down")
        frames = wire.receive_frames()
        assert [each.data[14:] for each in frames if each.direction == "in"] == [udp_less(2)]
        datagrams = [each for each in carrier.receive() if isinstance(each, Datagram)]
        assert [each.data for each in datagrams] == [b"packet 1", b"packet 2"]
        for link, receive in ((wire, wire.receive_frames), (carrier, carrier.receive)):
            assert link.poll_timeout() is not None
            with pytest.raises(LinkError, match="rplk-b: Network is down") as down:
                receive()
            assert down.value.errno == errno.ENETDOWN
            assert receive() == []
            assert link.poll_timeout() is None


@pytest.fixture
def tunnel() -> Iterator[tuple[Namespace, int]]:
    """A host with a TUN device, whose frames are bare packets, and its other end."""
    with namespace() as host:
        with host.entered():
            try:
                fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            except OSError as error:
                pytest.skip(f"/dev/net/tun: {error.strerror}")
            # TUNSETIFF with IFF_TUN | IFF_NO_PI
            fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"rplk-t", 0x1001))
        host.ip("addr add 10.44.0.1/24 dev rplk-t", "link set rplk-t up")
        try:
            yield host, fd
        finally:
            os.close(fd)


def test_device_without_ethernet_gets_the_bare_packet(
    tunnel: tuple[Namespace, int], stack: ExitStack
) -> None:
    host, fd = tunnel
    with host.entered():
        link = stack.enter_context(PacketLink("rplk-t"))
        packet = udp_less(1, src_addr="10.44.0.1", dst_addr="10.44.0.2", checksum=1)
        link.send(Transmit(data=packet, dst_addr="10.44.0.2", token=1))
    assert packet in _read_all(fd)
    answer = udp_less(2, src_addr="10.44.0.2", dst_addr="10.44.0.1")
    os.write(fd, answer)
    (datagram,) = [each for each in link.receive() if isinstance(each, Datagram)]
    assert (datagram.data, datagram.src_addr) == (b"packet 2", "10.44.0.2")
    with host.entered():
        assert not interface("rplk-t").has_ethernet_header


def _read_all(fd: int) -> list[bytes]:
    packets = []
    while True:
        try:
            packets.append(os.read(fd, 2000))
        except BlockingIOError:
            return packets
