"""What an exit may reach: rules, and the question whether one allows an address.

::

    rule   HOST ":" ports            the addresses that this name has, asked for by this name
           NET ":" ports             an address or a network, IPv6 in brackets; `*` for all
           "unix:" path
    ports  "*" | port["-" port] *("," port["-" port])

What no rule names is denied. Addresses that mean this host, its neighbours on the cable or
many at once (RFC 6890: 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3, ::, ::1, fe80::/10,
ff00::/8) are allowed by rules that name a part of just those, never by a larger network, and of
names only `localhost` may lead to the loopback. An IPv4 address within an IPv6 one
(::ffff:0:0/96) is judged as what it is. Whoever asks resolves first, and connects to the very
address that was judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from rawproto.errors import UsageError

__all__ = ["AllowList", "Rule", "parse_rule", "plain_address"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_EVERYWHERE: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_SPECIAL: tuple[Network, ...] = (
    *_LOOPBACK,
    *map(ip_network, ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
    *map(ip_network, ("::/128", "fe80::/10", "ff00::/8")),
)
_RULE = re.compile(r"(?:\[([^\[\]]+)\](/[0-9]+)?|([^:\[\]]+)):([0-9*,-]+)")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,62})\.)*[a-z0-9_](?:[a-z0-9_-]{0,62})\.?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule.

    Attributes:
        name: of a host, in lower case; "" for none.
        networks: of addresses.
        path: of a Unix socket; "" for none.
        ports: ranges.
    """

    name: str = ""
    networks: tuple[Network, ...] = ()
    path: str = ""
    ports: tuple[range, ...] = ()

    def allows(self, name: str, address: Address, port: int) -> bool:
        """Whether an address that a name has (as it was asked for, "" for none) is allowed."""
        if not any(port in each for each in self.ports):
            return False
        special = next((each for each in _SPECIAL if address in each), None)
        if self.name:
            local = special in _LOOPBACK and name == "localhost"
            return name == self.name and (special is None or local)
        return any(
            address in each and (special is None or _is_within(each, special))
            for each in self.networks
        )


def _is_within(small: Network, large: Network) -> bool:
    return small.network_address in large and small.prefixlen >= large.prefixlen


class AllowList:
    """Rules, of which one has to allow what is asked for.

    Args:
        rules: as `parse_rule` reads them.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = tuple(rules)

    def allows(self, name: str, address: str, port: int) -> bool:
        """Whether a rule allows it.

        Args:
            name: the host that was asked for.
            address: one that it has.
            port: 0 to 65535.
        """
        plain = plain_address(address)
        name = name.lower().removesuffix(".")
        return any(rule.allows(name, plain, port) for rule in self._rules)

    def allows_bind(self, host: str, port: int) -> bool:
        """Whether a rule allows listening.

        Args:
            host: an address, `localhost`, or `*` for all addresses, which takes a rule for `*`.
            port: 0 for any that is free, which takes a rule that has 0.
        """
        rules = [rule for rule in self._rules if any(port in each for each in rule.ports)]
        if any(rule.networks == _EVERYWHERE for rule in rules):
            return True
        if host in ("localhost", "127.0.0.1", "::1") and any(
            rule.name == "localhost" for rule in rules
        ):
            return True
        if host in ("*", "localhost"):
            return False
        address = plain_address(host)
        return any(address in network for rule in rules for network in rule.networks)

    def allows_path(self, path: str) -> bool:
        """Whether a rule names this Unix socket."""
        return any(rule.path == path for rule in self._rules if rule.path)


def plain_address(text: str) -> Address:
    """An address, as IPv4 if it is one within IPv6. Raises ValueError."""
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_rule(text: str, host: str | None = None) -> Rule:
    """Reads one rule.

    Args:
        text: it.
        host: stands for the host where only ports are given, None if there has to be one.

    Raises:
        UsageError: it is none.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith(("/", "@")) or len(path) < 2:
            raise UsageError(f"{text}: a rule for a Unix socket has its whole path")
        return Rule(path=path)
    if host is not None and ":" not in text:
        text = f"{host}:{text}"
    found = _RULE.fullmatch(text)
    if found is None:
        raise UsageError(f"{text}: a rule is HOST:PORTS, NET:PORTS or unix:PATH")
    place, ports = (found[1] or found[3]) + (found[2] or ""), _ports(text, found[4])
    if place == "*":
        return Rule(networks=_EVERYWHERE, ports=ports)
    if not found[1] and _NAME.fullmatch(place.lower()) and not re.fullmatch("[0-9.]+", place):
        return Rule(name=place.lower().removesuffix("."), ports=ports)
    try:
        return Rule(networks=(_network(place),), ports=ports)
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from None


def _network(text: str) -> Network:
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        inner = network.network_address.ipv4_mapped
        if inner is not None:
            return IPv4Network((inner, network.prefixlen - 96))
    return network


def _ports(text: str, ports: str) -> tuple[range, ...]:
    if ports == "*":
        return (range(1 << 16),)
    ranges = []
    for each in ports.split(","):
        found = _PORTS.fullmatch(each)
        if found is None:
            raise UsageError(f"{text}: {each!r} is no port")
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last <= 0xFFFF:
            raise UsageError(f"{text}: {each} is no range of ports")
        ranges.append(range(first, last + 1))
    return tuple(ranges)
