"""The real links, between two namespaces, keep the same contract as the fakes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from rawproto.filter.assembler import assemble
from rawproto.link.base import Link
from rawproto.link.dgram import DgramLink
from rawproto.link.fault import FaultLink
from rawproto.link.open import DualLink
from rawproto.link.packet import PacketLink
from rawproto.link.ports import reserve_port
from rawproto.link.raw import RawLink
from rawproto.link.tap import TapLink
from rawproto.link.udp import UDPLink
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.udp import UDPHeader
from tests.link.contract import Bench, each_clause
from tests.live.namespaces import Namespace, namespace_pair

TEST_PROTOCOL = 253  # RFC 3692
ADDRESSES = {4: ("10.98.0.1", "10.98.0.2"), 6: ("fd98::1", "fd98::2")}
ICMP = {4: 1, 6: 58}
UDP = 17

# Neighbour discovery would come in between.
ECHO_ONLY = {
    4: None,
    6: assemble("ldb [0]\njeq #128, ok\njeq #129, ok\nret #0\nok: ret #-1").to_bytes(),
}


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Namespace, Namespace]]:
    with namespace_pair() as pair:
        yield pair


def ip_packet(family: int, protocol: int, number: int, data: bytes) -> bytes:
    src_addr, dst_addr = ADDRESSES[family]
    if family == 6:
        return IPv6Header(
            traffic_class=0xB9,
            flow_label=0,
            hop_limit=41,
            next_header=protocol,
            src_addr=src_addr,
            dst_addr=dst_addr,
        ).emit(data)
    return IPv4Header(
        dscp=46,
        ecn=1,
        identification=number + 1,
        ttl=41,
        protocol=protocol,
        src_addr=src_addr,
        dst_addr=dst_addr,
    ).emit(data)


def plain(family: int, number: int) -> tuple[bytes, bytes]:
    data = b"packet %d of the contract" % number
    return ip_packet(family, TEST_PROTOCOL, number, data), data


def echo(family: int, is_reply: bool, identifier: int, number: int) -> tuple[bytes, bytes]:
    src_addr, dst_addr = ADDRESSES[family]
    if family == 6:
        data = ICMPv6Echo(
            icmp_type=129 if is_reply else 128, identifier=identifier, sequence_number=number
        ).emit(b"contract", src_addr=src_addr, dst_addr=dst_addr)
    else:
        data = ICMPEcho(
            icmp_type=0 if is_reply else 8, identifier=identifier, sequence_number=number
        ).emit(b"contract")
    return ip_packet(family, ICMP[family], number, data), data


def open_raw(family: int) -> Link:
    return RawLink(family, TEST_PROTOCOL)


def open_packet(family: int) -> Link:
    # One device has the cable's name in each namespace.
    for name in ("rplk-a", "rplk-b"):
        try:
            link = PacketLink(name, ethertype=0x86DD if family == 6 else 0x0800)
        except OSError:
            continue
        if name == "rplk-a":
            link.resolve(ADDRESSES[family][1])
        return link
    raise AssertionError("no cable here")


def open_tapped(family: int) -> Link:
    return TapLink(open_raw(family), lambda packet: None)


def open_fault(family: int) -> Link:
    return FaultLink(open_raw(family), random.Random(1))


def open_dual(family: int) -> Link:
    return DualLink(RawLink(4, TEST_PROTOCOL), RawLink(6, TEST_PROTOCOL))


OPENERS = [open_raw, open_packet, open_tapped, open_fault, open_dual]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("opener", OPENERS, ids=lambda each: each.__name__.removeprefix("open_"))
@each_clause
def test_link_keeps_the_contract(
    hosts: tuple[Namespace, Namespace],
    clause: Callable[[Bench], None],
    opener: Callable[[int], Link],
    family: int,
) -> None:
    here, there = hosts
    with ExitStack() as stack:
        with here.entered():
            sender = stack.enter_context(opener(family))
        with there.entered():
            receiver = stack.enter_context(opener(family))
        src_addr, dst_addr = ADDRESSES[family]
        clause(
            Bench(
                sender=sender,
                receiver=receiver,
                packet=partial(plain, family),
                src_addr=src_addr,
                dst_addr=dst_addr,
                protocol=TEST_PROTOCOL,
                ttl=41,
                ecn=1,
            )
        )


@pytest.fixture(scope="module")
def unprivileged_hosts(
    hosts: tuple[Namespace, Namespace],
) -> tuple[Namespace, Namespace]:
    """The same hosts, where everybody may ping."""
    for host in hosts:
        host.sysctl("net/ipv4/ping_group_range", "0 0")
    return hosts


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("sends", [True, False], ids=["sends", "receives"])
@each_clause
def test_datagram_link_keeps_the_contract(
    unprivileged_hosts: tuple[Namespace, Namespace],
    clause: Callable[[Bench], None],
    sends: bool,
    family: int,
) -> None:
    here, there = unprivileged_hosts
    with ExitStack() as stack:
        with (here if sends else there).entered():
            dgram = stack.enter_context(DgramLink(family))
        with (there if sends else here).entered():
            raw = stack.enter_context(RawLink(family, ICMP[family], bpf=ECHO_ONLY[family]))
        src_addr, dst_addr = ADDRESSES[family]
        clause(
            Bench(
                sender=dgram if sends else raw,
                receiver=raw if sends else dgram,
                packet=partial(echo, family, not sends, dgram.identifier),
                src_addr=src_addr,
                dst_addr=dst_addr,
                protocol=ICMP[family],
                ttl=41,
                ecn=1,
            )
        )


def udp(family: int, src_port: int, dst_port: int, number: int) -> tuple[bytes, bytes]:
    src_addr, dst_addr = ADDRESSES[family]
    data = UDPHeader(src_port=src_port, dst_port=dst_port).emit(
        b"datagram %d of the contract" % number, src_addr=src_addr, dst_addr=dst_addr
    )
    return ip_packet(family, UDP, number, data), data


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("sends", [True, False], ids=["sends", "receives"])
@each_clause
def test_udp_link_keeps_the_contract(
    hosts: tuple[Namespace, Namespace],
    clause: Callable[[Bench], None],
    sends: bool,
    family: int,
) -> None:
    here, there = hosts
    src_addr, dst_addr = ADDRESSES[family]
    with ExitStack() as stack:
        # Where the other host has nothing bound, it would complain.
        with here.entered():
            source = stack.enter_context(reserve_port("udp", src_addr))
        with there.entered():
            target = stack.enter_context(reserve_port("udp", dst_addr))
        ports = source.getsockname()[1], target.getsockname()[1]
        link = stack.enter_context(UDPLink(source if sends else target))
        with (there if sends else here).entered():
            raw = stack.enter_context(RawLink(family, UDP))
        clause(
            Bench(
                sender=link if sends else raw,
                receiver=raw if sends else link,
                packet=partial(udp, family, *ports),
                src_addr=src_addr,
                dst_addr=dst_addr,
                protocol=UDP,
                ttl=41,
                ecn=1,
            )
        )
