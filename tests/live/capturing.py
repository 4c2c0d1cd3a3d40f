"""For the live tests of captures: frames of all kinds between two hosts that are else silent."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether

from rawproto import lab
from rawproto.drivers.capture_session import CaptureFileOptions, CaptureSession
from rawproto.drivers.capture_source import CaptureOptions
from tests.live.pinging import set_sysctl

MAC = {"src": "02:00:00:00:00:98", "dst": "02:00:00:00:00:99"}
"""Nobody's: whoever gets such frames doesn't answer."""
IP4, IP6 = {"src": "192.0.2.1", "dst": "192.0.2.2"}, {"src": "fd97::1", "dst": "fd97::2"}

ASSORTED = [
    bytes(each)
    for each in (
        Ether(**MAC) / IP(**IP4) / UDP(sport=53, dport=4000) / b"x",
        Ether(**MAC) / IP(**IP4) / UDP(sport=4000, dport=53) / bytes(range(200)),
        Ether(**MAC) / IP(**IP4) / TCP(sport=80, dport=5000, flags="SA") / b"odd",
        Ether(**MAC) / IP(**IP4) / ICMP() / bytes(1400),
        Ether(**MAC) / IPv6(**IP6) / UDP(sport=53, dport=53) / b"y",
        Ether(**MAC) / IPv6(**IP6) / ICMPv6EchoRequest(data=b"z" * 61),
        Ether(src=MAC["src"], dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="192.0.2.1", pdst="192.0.2.9"),
        Ether(**MAC) / Dot1Q(vlan=100, prio=3) / IP(**IP4) / UDP(sport=1, dport=2) / b"tagged",
        Ether(**MAC) / Dot1AD(vlan=7) / Dot1Q(vlan=8) / IP(**IP4) / UDP(sport=1, dport=2) / b"QinQ",
        Ether(**MAC, type=0x88B5) / b"experiment",
    )
]
"""Frames of which no two are alike."""


@contextmanager
def quiet_pair() -> Iterator[lab.Network]:
    """Two hosts, h1 and h2, that send nothing by themselves."""
    with lab.up(lab.pair()) as network:
        for name in ("h1", "h2"):
            set_sysctl(network.host(name), "ipv6/conf/all/disable_ipv6", "1")
        yield network


def send(host: lab.LiveHost, frames: Iterable[bytes], interface: str = "eth0") -> None:
    """Sends frames as they are."""
    with host.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with sock:
        for each in frames:
            sock.sendto(each, (interface, 0x88B5))


def capture(host: lab.LiveHost, path: str, *interfaces: str, **options: object) -> CaptureSession:
    """A capture into a file; options are those of its file or of what to capture."""
    names = CaptureOptions.__slots__
    what = {name: value for name, value in options.items() if name in names}
    where = {name: value for name, value in options.items() if name not in names}
    with host.entered():
        return CaptureSession(
            CaptureOptions(interfaces=interfaces or ("eth0",), **what),
            CaptureFileOptions(path=path, **where),
        )


def finish(session: CaptureSession) -> CaptureSession:
    """Ends a capture: what came until now is in the file."""
    with session:
        session.source.finish()
        session.run()
    return session
