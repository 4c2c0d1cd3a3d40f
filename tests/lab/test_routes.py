"""Routes: worked out by hand for the builders, and by forwarding for any graph."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from rawproto.lab.routes import routes_of
from rawproto.lab.topology import (
    Host,
    LinkSpec,
    Route,
    Router,
    Topology,
    chain,
    diamond,
    numbered_link,
    pair,
    star,
)

IPNetwork = IPv4Network | IPv6Network


def table(topology: Topology, host: str) -> dict[str, tuple[str, ...]]:
    return {route.destination: route.gateways for route in routes_of(topology)[host]}


def test_hosts_of_a_pair_need_no_route() -> None:
    assert routes_of(pair()) == {"h1": (), "h2": ()}


def test_host_has_a_default_route_and_router_has_none() -> None:
    assert table(chain(3), "h1") == {"0.0.0.0/0": ("10.99.1.2",), "::/0": ("fd99:1::2",)}
    assert table(chain(3), "h2") == {"0.0.0.0/0": ("10.99.3.1",), "::/0": ("fd99:3::1",)}
    assert table(chain(3), "r1") == {"10.99.3.0/24": ("10.99.2.2",), "fd99:3::/64": ("fd99:2::2",)}
    assert table(star(3), "r1") == {}


def test_diamond_shares_flows_among_all_its_paths_in_both_directions() -> None:
    there = table(diamond(3), "r1")
    assert there["10.99.8.0/24"] == ("10.99.2.2", "10.99.4.2", "10.99.6.2")
    assert there["fd99:8::/64"] == ("fd99:2::2", "fd99:4::2", "fd99:6::2")
    assert there["10.99.5.0/24"] == ("10.99.4.2",)
    assert table(diamond(3), "r2")["10.99.1.0/24"] == ("10.99.3.1", "10.99.5.1", "10.99.7.1")


def test_parallel_links_share_flows_too() -> None:
    hosts = (Host(name="h2"), Router(name="r1"), Router(name="r2"))
    ends = [("r1", "r2"), ("r1", "r2"), ("r2", "h2")]
    links = tuple(numbered_link(number, *names) for number, names in enumerate(ends, 1))
    topology = Topology(name="lab", hosts=hosts, links=links)
    assert table(topology, "r1")["10.99.3.0/24"] == ("10.99.1.2", "10.99.2.2")


def test_hosts_do_not_lie_on_the_way() -> None:
    hosts = (Host(name="h1"), Host(name="h2"), Host(name="h3"))
    links = (numbered_link(1, "h1", "h2"), numbered_link(2, "h2", "h3"))
    assert table(Topology(name="lab", hosts=hosts, links=links), "h1") == {}


def test_host_with_two_ways_out_gets_a_route_for_each_network() -> None:
    hosts = (
        Host(name="h1"),
        Host(name="h2"),
        Host(name="h3"),
        Router(name="r1"),
        Router(name="r2"),
    )
    ends = [("h1", "r1"), ("h1", "r2"), ("r1", "h2"), ("r2", "h3")]
    links = tuple(numbered_link(number, *names) for number, names in enumerate(ends, 1))
    topology = Topology(name="lab", hosts=hosts, links=links)
    found = table(topology, "h1")
    assert found["10.99.3.0/24"] == ("10.99.1.2",)
    assert found["10.99.4.0/24"] == ("10.99.2.2",)
    assert "0.0.0.0/0" not in found


def test_family_takes_only_links_that_have_it() -> None:
    hosts = (Host(name="h1"), Host(name="h2"), Router(name="r1"), Router(name="r2"))
    links = (
        numbered_link(1, "h1", "r1"),
        LinkSpec(ends=("r1", "h2"), ipv4=None, ipv6="fd99:2::/64"),  # the short way is IPv6 only
        numbered_link(3, "r1", "r2"),
        numbered_link(4, "r2", "h2"),
    )
    topology = Topology(name="lab", hosts=hosts, links=links)
    assert table(topology, "h2")["0.0.0.0/0"] == ("10.99.4.1",)
    assert table(topology, "h2")["fd99:1::/64"] == ("fd99:2::1",)
    assert "10.99.2.0/24" not in table(topology, "h1")


def test_stated_route_replaces_the_computed_one_and_stands_beside_the_others() -> None:
    plain = chain(4)
    stated = (
        Route(host="r1", destination="10.99.3.0/24", gateways=("10.99.1.1",)),
        Route(host="r1", destination="203.0.113.0/24", gateways=("10.99.2.2",)),
    )
    topology = Topology(name="lab", hosts=plain.hosts, links=plain.links, routes=stated)
    found = routes_of(topology)
    assert found["r1"][:2] == stated
    assert [route.destination for route in found["r1"]].count("10.99.3.0/24") == 1
    assert table(topology, "r1")["10.99.4.0/24"] == ("10.99.2.2",)
    assert found["r2"] == routes_of(plain)["r2"]


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Up to eight routers, linked at random, and hosts hanging on some of them."""
    routers = [f"r{number}" for number in range(draw(st.integers(1, 8)))]
    pairs = [(one, two) for one in routers for two in routers if one < two]
    ends = draw(st.lists(st.sampled_from(pairs), max_size=14)) if pairs else []
    leaves = draw(st.lists(st.sampled_from(routers), min_size=1, max_size=4))
    ends += [(f"h{number}", router) for number, router in enumerate(leaves)]
    return Topology(
        name="random",
        hosts=(
            *(Host(name=f"h{number}") for number in range(len(leaves))),
            *(Router(name=name) for name in routers),
        ),
        links=tuple(numbered_link(number, *names) for number, names in enumerate(ends, 1)),
    )


def distances(topology: Topology, source: str) -> dict[str, int]:
    """Hops to each host, by relaxing every link until nothing changes."""
    routers = {host.name for host in topology.hosts if host.forwards}
    found = {source: 0}
    changed = True
    while changed:
        changed = False
        for link in topology.links:
            for here, there in (link.ends, link.ends[::-1]):
                if here in found and (here == source or here in routers):
                    cost = found[here] + 1
                    if cost < found.get(there, cost + 1):
                        found[there] = cost
                        changed = True
    return found


class Forwarding:
    """Hosts that forward by their routes alone, over every choice of gateway."""

    def __init__(self, topology: Topology) -> None:
        self.owner: dict[str, str] = {}
        self.direct: dict[str, list[IPNetwork]] = {}
        for name, interfaces in topology.interfaces().items():
            links = [topology.links[interface.link - 1] for interface in interfaces]
            self.direct[name] = [ip_network(text) for link in links for text in link.networks]
            for interface in interfaces:
                self.owner |= dict.fromkeys(interface.addresses, name)
        self.routes = {
            name: [(ip_network(route.destination), route.gateways) for route in routes]
            for name, routes in routes_of(topology).items()
        }

    def hops(self, host: str, address: str, limit: int) -> set[int | None]:
        """Each number of hops that a packet may take to `address`; None where it is dropped."""
        target = ip_address(address)
        if self.owner[address] == host:
            return {0}
        if any(target in network for network in self.direct[host]):
            return {1}
        matching = [route for route in self.routes[host] if target in route[0]]
        if not matching or limit == 0:
            return {None}
        _, gateways = max(matching, key=lambda route: route[0].prefixlen)
        further = [self.hops(self.owner[gateway], address, limit - 1) for gateway in gateways]
        return {None if taken is None else taken + 1 for found in further for taken in found}


@given(topologies())
def test_every_address_is_reached_by_a_shortest_way_whichever_gateway_is_taken(
    topology: Topology,
) -> None:
    source = topology.hosts[0].name
    distance = distances(topology, source)
    forwarding = Forwarding(topology)
    for name, interfaces in topology.interfaces().items():
        for interface in interfaces:
            expected: set[int | None] = {distance.get(name)}
            if name in distance and distance[name] == distance.get(interface.peer):
                # A network is as near by either end of its link; by one it is a hop further.
                expected.add(distance[name] + 1)
            for address in interface.addresses:
                assert forwarding.hops(source, address, len(topology.hosts)) <= expected
