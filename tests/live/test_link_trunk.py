"""The trunk: frames of all interfaces of a namespace, as they are, and what it loses is counted."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawproto.link.trunk import Trunk
from tests.live.namespaces import Namespace, namespace_pair

Hosts = tuple[Namespace, Namespace]

EXPERIMENT = b"\x88\xb5"
"""An EtherType for experiments (IEEE 802): no kernel sends it."""
TO_B = bytes.fromhex("02aabbccddee 020000000001")
BOUND_S = 5.0


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with namespace_pair() as pair:
        for host, device in zip(pair, ("rplk-a", "rplk-b"), strict=True):
            host.ip(f"link set {device} mtu 9000")
            host.sysctl("net/ipv6/conf/all/disable_ipv6", "1")  # it reports by itself
        yield pair


@pytest.fixture
def outside(hosts: Hosts) -> Iterator[socket.socket]:
    """A packet socket at the far end of b's cable."""
    with hosts[0].entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    with sock:
        sock.bind(("rplk-a", 0x88B5))
        sock.settimeout(BOUND_S)
        yield sock


def open_trunk(host: Namespace, **options: int) -> Trunk:
    with host.entered():
        return Trunk(**options)


def index_of(host: Namespace, name: str) -> int:
    with host.entered():
        return socket.if_nametoindex(name)


def frames_of(trunk: Trunk, count: int) -> list[tuple[int, int, bytes]]:
    """The next frames that it receives; fewer if no more come."""
    found: list[tuple[int, int, bytes]] = []
    while len(found) < count and select.select([trunk], [], [], BOUND_S)[0]:
        found += trunk.receive(1000)
    return found


def frame(number: int, size: int = 60) -> bytes:
    return (TO_B + EXPERIMENT + number.to_bytes(4, "big")).ljust(size, b"\xa5")


def test_frames_come_whole_and_in_order_with_stamp_and_interface(
    hosts: Hosts, outside: socket.socket
) -> None:
    sent = [frame(number, 60 + 100 * number) for number in range(15)]
    with open_trunk(hosts[1]) as trunk:
        before = time.time_ns()
        for each in sent:
            outside.send(each)
        received = frames_of(trunk, len(sent))
        after = time.time_ns()
    assert [each for _, _, each in received] == sent
    assert {index for _, index, _ in received} == {index_of(hosts[1], "rplk-b")}
    stamps = [stamp for stamp, _, _ in received]
    assert [before, *stamps, after] == sorted([before, *stamps, after])


@pytest.mark.parametrize(
    "tag", [b"\x81\x00\x20\x64", b"\x88\xa8\x20\x64"], ids=["802.1Q", "802.1ad"]
)
def test_tag_that_the_kernel_takes_out_is_put_back(
    hosts: Hosts, outside: socket.socket, tag: bytes
) -> None:
    tagged = TO_B + tag + frame(1)[12:]
    with open_trunk(hosts[1]) as trunk:
        outside.send(tagged)
        assert [each for _, _, each in frames_of(trunk, 1)] == [tagged]


def test_what_it_sends_leaves_by_the_interface_named_and_does_not_come_back(
    hosts: Hosts, outside: socket.socket
) -> None:
    with open_trunk(hosts[1]) as trunk:
        trunk.send(frame(7), "rplk-b")
        assert outside.recv(2000) == frame(7)
        outside.send(frame(8))
        assert [each for _, _, each in frames_of(trunk, 1)] == [frame(8)]
        with pytest.raises(OSError, match="No such device"):
            trunk.send(frame(7), "rplk-none")


def test_interfaces_that_come_later_belong_to_it_and_are_told_apart(hosts: Hosts) -> None:
    with open_trunk(hosts[1]) as trunk:
        hosts[1].ip(
            "link add name rplk-x type veth peer name rplk-y",
            "link set rplk-x up",
            "link set rplk-y up",
        )
        try:
            trunk.send(frame(1), "rplk-x")
            trunk.send(frame(2), "rplk-y")
            names = ("rplk-y", "rplk-x")
            wanted = [(index_of(hosts[1], name), frame(1 + at)) for at, name in enumerate(names)]
            assert [(index, each) for _, index, each in frames_of(trunk, 2)] == wanted
        finally:
            hosts[1].ip("link del rplk-x")


def test_frames_for_which_there_is_no_room_are_counted_and_the_next_ones_come(
    hosts: Hosts, outside: socket.socket
) -> None:
    with open_trunk(hosts[1], slots=64) as trunk:
        for number in range(100):
            outside.send(frame(number))
        assert [each for _, _, each in frames_of(trunk, 64)] == [
            frame(number) for number in range(64)
        ]
        assert trunk.dropped == 36
        for number in range(200, 300):
            outside.send(frame(number))
            assert [each for _, _, each in frames_of(trunk, 1)] == [frame(number)]
        assert trunk.dropped == 36


def test_limit_leaves_the_rest_for_later(hosts: Hosts, outside: socket.socket) -> None:
    with open_trunk(hosts[1]) as trunk:
        for number in range(5):
            outside.send(frame(number))
        taken = [len(trunk.receive(2)) for _ in range(4) if select.select([trunk], [], [], 0)[0]]
    assert taken == [2, 2, 1]


def test_frame_longer_than_its_slot_is_lost_and_counted(
    hosts: Hosts, outside: socket.socket
) -> None:
    with open_trunk(hosts[1]) as trunk, open_trunk(hosts[1], mtu=9000) as wide:
        outside.send(frame(1, 9014))
        outside.send(frame(2))
        assert [each for _, _, each in frames_of(trunk, 1)] == [frame(2)]
        assert trunk.dropped == 1
        assert [each for _, _, each in frames_of(wide, 2)] == [frame(1, 9014), frame(2)]
        assert wide.dropped == 0


def test_longest_frame_of_its_mtu_fits_tagged_or_not(hosts: Hosts, outside: socket.socket) -> None:
    # Of 1952 bytes, the largest MTU for slots of 2048.
    longest = frame(1, 14 + 1952)
    tagged = longest[:12] + b"\x81\0\0\1" + longest[12:]
    with open_trunk(hosts[1], mtu=1952) as trunk:
        outside.send(longest)
        outside.send(tagged)
        assert [each for _, _, each in frames_of(trunk, 2)] == [longest, tagged]


def test_closing_gives_descriptors_and_memory_back(hosts: Hosts) -> None:
    def held() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text()
        return len(os.listdir("/proc/self/fd")), maps.count("socket:")

    before = held()
    with open_trunk(hosts[1]):
        assert held() > before
    assert held() == before
