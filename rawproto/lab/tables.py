"""The whole routing table of one router: its own links, the computed routes, and a loop.

A router that loops sends what lies beyond it back: every network that it does not
reach through the router before it goes there again, and so does every address at the
other end of its own links. What comes from beyond passes, so its answers arrive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from rawproto.errors import UsageError
from rawproto.lab.topology import Interface, Route, Router, Topology

__all__ = ["TableEntry", "table_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """One line of a routing table.

    Attributes:
        destination: a network (`"10.99.3.0/24"`).
        gateways: addresses of the next hops, in order; () for a network that it is on.
        interface: the link it is on, None behind gateways.
    """

    destination: str
    gateways: tuple[str, ...] = ()
    interface: Interface | None = None


def table_of(
    topology: Topology, routes: Mapping[str, Sequence[Route]], router: Router
) -> tuple[TableEntry, ...]:
    """The routing table of one router.

    Args:
        topology: the lab.
        routes: as `routes_of` says of it.
        router: which.

    Raises:
        UsageError: it is to loop, but there is no router to send anything back to.
    """
    interfaces = topology.interfaces()[router.name]
    own = [
        TableEntry(destination=str(ip_network(address, strict=False)), interface=interface)
        for interface in interfaces
        for address in (interface.ipv4, interface.ipv6)
        if address is not None
    ]
    behind = [
        TableEntry(destination=route.destination, gateways=route.gateways)
        for route in routes[router.name]
    ]
    if not router.behaviour.loop:
        return (*own, *behind)
    back = _ways_back(topology, behind)
    if not back:
        first = topology.first_host.name
        raise UsageError(f"{router.name}: loop: no router before it, on the way from {first}")
    looped = [
        TableEntry(
            destination=entry.destination,
            gateways=back.get(ip_network(entry.destination).version, entry.gateways),
        )
        for entry in behind
    ]
    ends = topology.interfaces()
    for interface in interfaces:
        peer = next(end for end in ends[interface.peer] if end.link == interface.link)
        for address in peer.addresses:
            gateways = back.get(ip_address(address).version, ())
            if gateways and address not in gateways:
                width = ip_address(address).max_prefixlen
                looped.append(TableEntry(destination=f"{address}/{width}", gateways=gateways))
    return (*own, *looped)


def _ways_back(topology: Topology, behind: Sequence[TableEntry]) -> dict[int, tuple[str, ...]]:
    """By IP version, the gateways towards the first host."""
    first = topology.interfaces()[topology.first_host.name]
    home = {
        str(ip_network(address, strict=False)): ip_network(address, strict=False).version
        for interface in reversed(first)
        for address in (interface.ipv4, interface.ipv6)
        if address is not None
    }
    return {
        home[entry.destination]: entry.gateways for entry in behind if entry.destination in home
    }
