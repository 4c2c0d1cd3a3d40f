"""Our own router without sockets, as it would stand in a lab, and packets for it."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP, UDP, IPerror
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPerror6, IPv6
from scapy.packet import Packet, Raw

from rawproto.lab.forwarding import Forwarder
from rawproto.lab.routers import plan_routers, router_config
from rawproto.lab.topology import Topology, chain

NEAR, FAR = 0, 1
"""The ports of a router in a chain: towards h1, towards h2."""

FAMILIES = ["ipv4", "ipv6"]


def forwarder(spec: str, topology: Topology | None = None) -> Forwarder:
    """The router of a spec (`"r2:mtu=1200"`) in a topology, else in a chain of four hops."""
    name = spec.partition(":")[0]
    plan = plan_routers((topology or chain(4)).misbehaving(spec))
    (router,) = (router for router in plan.routers if router.name == name)
    return Forwarder(router_config(plan.topology, router, plan.tables[name]))


def addresses(family: str, *links_and_ends: tuple[int, int]) -> list[str]:
    form = "10.99.{}.{}" if family == "ipv4" else "fd99:{}::{}"
    return [form.format(link, end) for link, end in links_and_ends]


def ip(family: str, src: str, dst: str, ttl: int = 64, **fields: int) -> Packet:
    if family == "ipv4":
        return IP(src=src, dst=dst, ttl=ttl, **fields)
    return IPv6(src=src, dst=dst, hlim=ttl, **fields)


def udp(
    family: str,
    ttl: int = 64,
    size: int = 32,
    sport: int = 40000,
    dport: int = 33434,
    **fields: int,
) -> bytes:
    """A datagram from h1 to h2 in a chain of four."""
    src, dst = addresses(family, (1, 1), (4, 2))
    return bytes(
        ip(family, src, dst, ttl, **fields) / UDP(sport=sport, dport=dport) / Raw(bytes(size))
    )


def echo(family: str, src: str, dst: str, identifier: int, *, reply: bool = False) -> bytes:
    """An echo request or reply."""
    if family == "ipv4":
        return bytes(
            IP(src=src, dst=dst) / ICMP(type=0 if reply else 8, id=identifier, seq=1) / b"x"
        )
    kind = ICMPv6EchoReply if reply else ICMPv6EchoRequest
    return bytes(IPv6(src=src, dst=dst) / kind(id=identifier, seq=1, data=b"x"))


def parsed(packet: bytes) -> Packet:
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


def checksums_are_right(packet: bytes) -> bool:
    """Whether scapy, building the packet anew, comes to the same checksums."""
    found = parsed(packet)
    again = found.copy()
    layer = again
    # What an error quotes is no longer the sender's.
    while layer and not isinstance(layer, Raw | IPerror | IPerror6):
        for field in layer.fields.keys() & {"chksum", "cksum"}:
            delattr(layer, field)
        layer = layer.payload
    return bytes(again) == packet
