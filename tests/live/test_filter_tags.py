"""VLAN filters on real packet sockets: the kernel takes the tag out on its way in, not out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from rawproto.filter import compile_filter
from tests.filter.kernel import attach
from tests.live.namespaces import Namespace, namespace_pair

pytestmark = pytest.mark.live

ALL = 3
"""ETH_P_ALL"""
BOUND_S = 5.0
MAC = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
INSIDE = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=9, dport=53) / b"tagged"
TAGGED = bytes(Ether(**MAC) / Dot1Q(vlan=7) / INSIDE)
LAST = bytes(Ether(**MAC, type=0x88B5) / b"the end")


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Namespace, Namespace]]:
    with namespace_pair() as pair:
        yield pair


def packet_socket(stack: ExitStack, host: Namespace, device: str, expression: str) -> socket.socket:
    """A socket that gets nothing until its filter is on."""
    with host.entered():
        sock = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    assert attach(sock, compile_filter(expression, live=True))
    with host.entered():
        sock.bind((device, ALL))
    sock.settimeout(BOUND_S)
    return sock


@pytest.mark.parametrize("end", [0, 1], ids=["going out", "coming in"])
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("vlan", True),
        ("vlan 7 and udp port 53", True),
        ("vlan and host 192.0.2.1", True),
        ("vlan 8", False),
        ("vlan 7 and tcp", False),
        ("not vlan", False),
    ],
)
def test_the_same_tagged_frames_pass_with_the_tag_inside_and_beside(
    hosts: tuple[Namespace, Namespace], end: int, expression: str, expected: bool
) -> None:
    with ExitStack() as stack:
        device = ("rplk-a", "rplk-b")[end]
        # The last frame passes, and ends the waiting; `vlan` moves what is asked behind it.
        wanted = f"ether proto 0x88b5 or ({expression})"
        sock = packet_socket(stack, hosts[end], device, wanted)
        sender = packet_socket(stack, hosts[0], "rplk-a", "less 0")
        sender.send(TAGGED)
        sender.send(LAST)
        seen = []
        while not seen or LAST[12:] not in seen[-1]:
            seen.append(sock.recv(2000))
        assert any(b"tagged" in frame for frame in seen) is expected
