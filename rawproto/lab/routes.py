"""Static routes for any topology: who reaches which network through whom.

Every link costs one, and all shortest paths are taken, so that a diamond comes
out as routes with several next hops (equal-cost multipath). Only routers lie on
the way, and only links that have the family.

A host whose every network lies behind the same gateways gets one default route
instead, as hosts in the world have; a router gets none, so that it answers
"network unreachable" for what isn't there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from rawproto.lab.topology import Route, Topology

__all__ = ["routes_of"]

DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}


def routes_of(topology: Topology) -> dict[str, tuple[Route, ...]]:
    """Every host's routes, beside those that its own links give it.

    Those that the topology itself states stand first, and replace what would have
    been computed for the same destination.
    """
    routes = {
        host.name: tuple(route for route in topology.routes if route.host == host.name)
        for host in topology.hosts
    }
    for version in (4, 6):
        family = _Family(topology, version)
        for host in topology.hosts:
            reached = family.gateways(host.name)
            if not host.forwards and len(set(reached.values())) == 1:
                reached = {DEFAULT[version]: next(iter(reached.values()))}
            stated = {route.destination for route in routes[host.name]}
            routes[host.name] += tuple(
                Route(host=host.name, destination=network, gateways=gateways)
                for network, gateways in reached.items()
                if network not in stated
            )
    return routes


class _Family:
    """The links of one family as a graph: hosts are its nodes."""

    def __init__(self, topology: Topology, version: int) -> None:
        self.routers = {host.name for host in topology.hosts if host.forwards}
        self.networks: dict[int, str] = {}
        self.edges: dict[str, list[tuple[int, str]]] = {host.name: [] for host in topology.hosts}
        self.addresses: dict[tuple[int, str], str] = {}
        for number, link in enumerate(topology.links, 1):
            network = link.ipv4 if version == 4 else link.ipv6
            if network is not None:
                self.networks[number] = network
                for host, peer in (link.ends, link.ends[::-1]):
                    self.edges[host].append((number, peer))
        for host, interfaces in topology.interfaces().items():
            for interface in interfaces:
                address = interface.ipv4 if version == 4 else interface.ipv6
                if address is not None:
                    self.addresses[interface.link, host] = address.split("/")[0]

    def gateways(self, source: str) -> Mapping[str, tuple[str, ...]]:
        """For each network that `source` isn't on: the gateways of all shortest paths to it."""
        own = {link for link, _ in self.edges[source]}
        cost: dict[int, int] = {}
        hops: dict[int, set[tuple[int, str]]] = {}
        for router, distance, first_hops in self._routers_from(source):
            for link, _ in self.edges[router]:
                if link not in own and distance == cost.setdefault(link, distance):
                    hops.setdefault(link, set()).update(first_hops)
        return {
            self.networks[link]: tuple(self.addresses[hop] for hop in sorted(hops[link]))
            for link in sorted(hops)
        }

    def _routers_from(self, source: str) -> Iterator[tuple[str, int, set[tuple[int, str]]]]:
        """Routers by rising distance, each with the first hops (link, neighbour) towards it.

        A search in breadth: when a router's turn comes, all of the nearer ones have
        had theirs, so its first hops are complete.
        """
        distance = {source: 0}
        first_hops: dict[str, set[tuple[int, str]]] = {source: set()}
        queue = deque([source])
        while queue:
            name = queue.popleft()
            if name != source:
                yield name, distance[name], first_hops[name]
            for link, peer in self.edges[name]:
                if peer not in self.routers:
                    continue
                if peer not in distance:
                    distance[peer] = distance[name] + 1
                    first_hops[peer] = set()
                    queue.append(peer)
                if distance[peer] == distance[name] + 1:
                    first_hops[peer] |= {(link, peer)} if name == source else first_hops[name]
