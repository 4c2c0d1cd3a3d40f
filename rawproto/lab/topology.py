"""What a lab looks like: hosts, routers, links and routes, as plain values.

A topology only says what is wanted; interfaces and addresses follow from it, and
`routes.py` works out who reaches what through whom. Nothing here touches the
machine, so all of it is tested without privilege.

    pair        h1 ── h2
    chain N     h1 ── r1 ── ... ── r(N-1) ── h2                  N links, so N hops
    diamond N   h1 ── r1 ── m1 ... mN (side by side) ── r2 ── h2   N equal-cost paths
    star N      h1 ... hN, each on a link of its own to r1

Link i, counted from 1, is 10.99.i.0/24 and fd99:i::/64 with i written in decimal in
both families, so that 10.99.12.1 and fd99:12::1 are neighbours on paper too. The
first end of a link has `.1` and `::1`, the second `.2` and `::2`; the builders put
the end nearer h1 first. A host's interfaces are eth0, eth1, ... in the order of the links.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import pairwise
from typing import ClassVar

from rawproto.errors import UsageError
from rawproto.lab.behaviour import ALL, PROPER, Behaviour, parse_spec
from rawproto.lab.impairments import Change, check, parse_change

__all__ = [
    "Host",
    "Interface",
    "LinkSpec",
    "Route",
    "Router",
    "Topology",
    "chain",
    "diamond",
    "numbered_link",
    "pair",
    "star",
]

MAX_LINKS = 254
"""So many third bytes has 10.99.0.0/16 to give."""

MIN_IPV6_MTU = 1280
"""RFC 8200 section 5; below it Linux takes IPv6 off the interface."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """An end system: sends and receives, forwards nothing."""

    name: str
    forwards: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Router(Host):
    """A host that forwards what is not for itself.

    Attributes:
        behaviour: what it does beside, that it should not.
    """

    behaviour: Behaviour = PROPER
    forwards: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """A wire between two hosts.

    Attributes:
        ends: names of the two hosts.
        ipv4: its network, None for none (`"10.99.1.0/24"`).
        ipv6: likewise (`"fd99:1::/64"`).
        mtu: in bytes, None for the 1500 of Ethernet.
        impairments: what it does to packets, as `{"delay": "20ms", "forward.loss": "1%"}`;
            see impairments.py for all that can be said.
    """

    ends: tuple[str, str]
    ipv4: str | None
    ipv6: str | None
    mtu: int | None = None
    impairments: Mapping[str, str] = field(default_factory=dict)

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks it has, IPv4 first."""
        return tuple(network for network in (self.ipv4, self.ipv6) if network is not None)

    def changed(self, change: Change) -> LinkSpec:
        """The same link with other impairments, and perhaps another MTU."""
        impairments = change.applied(self.impairments)
        mtu = impairments.pop("mtu", self.mtu)
        return replace(self, impairments=impairments, mtu=None if mtu is None else int(mtu))


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One end of a link, as it follows from a topology.

    Attributes:
        host: whose it is.
        name: its name there (`"eth0"`).
        link: number of the link, from 1.
        peer: the host at the other end.
        ipv4: address with prefix length (`"10.99.1.1/24"`), None for none.
        ipv6: likewise.
    """

    host: str
    name: str
    link: int
    peer: str
    ipv4: str | None
    ipv6: str | None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses without prefix length, IPv4 first."""
        return tuple(text.split("/")[0] for text in (self.ipv4, self.ipv6) if text is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A static route at one host.

    Attributes:
        host: where it is set.
        destination: a network (`"10.99.3.0/24"`, `"::/0"`).
        gateways: addresses of the next hops; several share the flows among them.
    """

    host: str
    destination: str
    gateways: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A whole lab on paper; what contradicts itself can't be made.

    Attributes:
        name: what to call it (`"chain-12"`).
        hosts: hosts and routers, in the order in which they are shown.
        links: in order; the first is link 1.
        routes: set beside the computed ones, and instead of those to the same destination.

    Raises:
        UsageError: from the constructor, naming what does not fit (`links[2].ends: ...`).
    """

    name: str
    hosts: tuple[Host, ...]
    links: tuple[LinkSpec, ...]
    routes: tuple[Route, ...] = ()

    def __post_init__(self) -> None:
        names: set[str] = set()
        if not NAME.fullmatch(self.name):
            raise UsageError(f"name: {self.name!r} is not letters, digits, '-' and '_', at most 31")
        if not self.hosts:
            raise UsageError("hosts: a lab needs at least one")
        for host in self.hosts:
            if not NAME.fullmatch(host.name):
                raise UsageError(
                    f"hosts: {host.name!r} is not letters, digits, '-' and '_', at most 31"
                )
            if host.name in names:
                raise UsageError(f"hosts: {host.name!r} is there twice")
            names.add(host.name)
        networks: list[tuple[IPv4Network | IPv6Network, int]] = []
        for number, link in enumerate(self.links, 1):
            _check_link(f"links[{number}]", link, names)
            for network in map(ip_network, link.networks):
                for other, taken in networks:
                    if network.version == other.version and network.overlaps(other):
                        raise UsageError(f"links[{number}]: {network} overlaps link {taken}")
                networks.append((network, number))
        for number, route in enumerate(self.routes, 1):
            _check_route(f"routes[{number}]", route, names)

    def host(self, name: str) -> Host:
        """The host or router of that name. Raises UsageError."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise UsageError(f"no host {name!r} in lab {self.name} (there are {known})")

    @property
    def first_host(self) -> Host:
        """h1, or in a lab without one the first of all."""
        return next((host for host in self.hosts if host.name == "h1"), self.hosts[0])

    def misbehaving(self, *specs: str) -> Topology:
        """The same lab with other routers, each spec as `"r4:silent,icmp-rate=1/s"` or `"all:..."`.

        What a spec says comes beside what was said before, or instead where both say it.

        Raises:
            UsageError: what is wrong with a spec, beginning with its text.
        """
        hosts = list(self.hosts)
        for text in specs:
            name, words = parse_spec(text)
            if name != ALL and not self.host(name).forwards:
                raise UsageError(f"{text}: {name} is no router")
            for position, host in enumerate(hosts):
                if isinstance(host, Router) and name in (ALL, host.name):
                    behaviour = Behaviour.of(host.behaviour.words() | words)
                    hosts[position] = replace(host, behaviour=behaviour)
        return replace(self, hosts=tuple(hosts))

    def check_link_number(self, number: int) -> None:
        """Raises UsageError if there is no link of that number."""
        if not 1 <= number <= len(self.links):
            known = f"they are 1 to {len(self.links)}" if self.links else "there are none"
            raise UsageError(f"no link {number} in lab {self.name} ({known})")

    def changed(self, *changes: str) -> Topology:
        """The same lab with other links, each change as `"3:delay=20ms,loss=1%"` or `"all:..."`.

        Raises:
            UsageError: what is wrong with a change, beginning with its text.
        """
        found = self
        links = list(self.links)
        for text in changes:
            change = parse_change(text)
            if change.link is not None:
                self.check_link_number(change.link)
            numbers = range(1, len(links) + 1) if change.link is None else [change.link]
            for number in numbers:
                links[number - 1] = links[number - 1].changed(change)
            try:
                found = replace(self, links=tuple(links))
            except UsageError as error:
                raise UsageError(f"{text}: {error}") from None
        return found

    def interfaces(self) -> dict[str, tuple[Interface, ...]]:
        """Every host's interfaces, in the order of the links; a host without links has none."""
        found: dict[str, tuple[Interface, ...]] = {host.name: () for host in self.hosts}
        for number, link in enumerate(self.links, 1):
            for end, host in enumerate(link.ends):
                interface = Interface(
                    host=host,
                    name=f"eth{len(found[host])}",
                    link=number,
                    peer=link.ends[1 - end],
                    ipv4=_address(link.ipv4, end),
                    ipv6=_address(link.ipv6, end),
                )
                found[host] += (interface,)
        return found


def _address(network: str | None, end: int) -> str | None:
    """The address of the first (0) or second (1) end, with prefix length."""
    if network is None:
        return None
    parsed = ip_network(network)
    first = 0 if parsed.num_addresses == 2 else 1  # RFC 3021 and RFC 6164: both are hosts'
    return f"{parsed[first + end]}/{parsed.prefixlen}"


def _check_link(where: str, link: LinkSpec, names: set[str]) -> None:
    for end in link.ends:
        if end not in names:
            raise UsageError(
                f"{where}.ends: no host {end!r} (there are {', '.join(sorted(names))})"
            )
    if link.ends[0] == link.ends[1]:
        raise UsageError(f"{where}.ends: {link.ends[0]!r} is linked to itself")
    for family, text, version in (("ipv4", link.ipv4, 4), ("ipv6", link.ipv6, 6)):
        if text is None:
            continue
        try:
            network = ip_network(text)
        except ValueError as error:
            raise UsageError(f"{where}.{family}: {error}") from None
        if network.version != version:
            raise UsageError(f"{where}.{family}: {text} is not an IPv{version} network")
        if network.num_addresses < 2:
            raise UsageError(f"{where}.{family}: {text} has no room for two hosts")
    least = 68 if link.ipv6 is None else MIN_IPV6_MTU
    if link.mtu is not None and not least <= link.mtu <= 65535:
        raise UsageError(f"{where}.mtu: {link.mtu} is not {least} to 65535")
    try:
        check(link.impairments)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _check_route(where: str, route: Route, names: set[str]) -> None:
    if route.host not in names:
        raise UsageError(f"{where}.host: no host {route.host!r}")
    if not route.gateways:
        raise UsageError(f"{where}.via: no gateway")
    try:
        version = ip_network(route.destination).version
    except ValueError as error:
        raise UsageError(f"{where}.to: {error}") from None
    for gateway in route.gateways:
        try:
            agrees = ip_address(gateway).version == version
        except ValueError as error:
            raise UsageError(f"{where}.via: {error}") from None
        if not agrees:
            raise UsageError(f"{where}.via: {gateway} is not of {route.destination}'s family")


def numbered_link(number: int, first: str, second: str, mtu: int | None = None) -> LinkSpec:
    """Link `number` between two hosts, with the addresses that its number gives it.

    Raises:
        UsageError: the number is not 1 to 254.
    """
    if not 1 <= number <= MAX_LINKS:
        raise UsageError(f"link {number}: a lab has at most {MAX_LINKS} numbered links")
    return LinkSpec(
        ends=(first, second), ipv4=f"10.99.{number}.0/24", ipv6=f"fd99:{number}::/64", mtu=mtu
    )


def _numbered(ends: Iterator[tuple[str, str]]) -> tuple[LinkSpec, ...]:
    return tuple(numbered_link(number, *pair) for number, pair in enumerate(ends, 1))


def _check_size(kind: str, size: int, least: int, most: int) -> None:
    if not least <= size <= most:
        raise UsageError(f"{kind} {size}: wants {least} to {most}")


def pair() -> Topology:
    """Two hosts and the wire between them."""
    hosts = (Host(name="h1"), Host(name="h2"))
    return Topology(name="pair", hosts=hosts, links=_numbered(iter([("h1", "h2")])))


def chain(hops: int) -> Topology:
    """`h1`, routers `r1` to `r(hops-1)` and `h2` in a row: `hops` links. Raises UsageError."""
    _check_size("chain", hops, 1, MAX_LINKS)
    routers = [Router(name=f"r{number}") for number in range(1, hops)]
    hosts = (Host(name="h1"), Host(name="h2"), *routers)
    names = ["h1", *(router.name for router in routers), "h2"]
    links = _numbered(pairwise(names))
    return Topology(name=f"chain-{hops}", hosts=hosts, links=links)


def diamond(paths: int) -> Topology:
    """`h1`-`r1`, then routers `m1` to `m(paths)` side by side, then `r2`-`h2`.

    All `paths` cost the same; `r1` and `r2` spread flows over them by their ports.

    Raises:
        UsageError: the number is not 1 to 126.
    """
    _check_size("diamond", paths, 1, (MAX_LINKS - 2) // 2)
    middle = [Router(name=f"m{number}") for number in range(1, paths + 1)]
    outer = (Router(name="r1"), Router(name="r2"))
    hosts = (Host(name="h1"), Host(name="h2"), *outer, *middle)

    def ends() -> Iterator[tuple[str, str]]:
        yield "h1", "r1"
        for router in middle:
            yield "r1", router.name
            yield router.name, "r2"
        yield "r2", "h2"

    return Topology(name=f"diamond-{paths}", hosts=hosts, links=_numbered(ends()))


def star(arms: int) -> Topology:
    """Router `r1` with hosts `h1` to `h(arms)` around it. Raises UsageError."""
    _check_size("star", arms, 2, MAX_LINKS)
    names = [f"h{number}" for number in range(1, arms + 1)]
    hosts = (*(Host(name=name) for name in names), Router(name="r1"))
    links = _numbered((name, "r1") for name in names)
    return Topology(name=f"star-{arms}", hosts=hosts, links=links)
