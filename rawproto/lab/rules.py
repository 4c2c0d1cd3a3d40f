"""What the kernel is told so that a router misbehaves: settings, `ip` commands, nftables rules.

ICMP errors meet their fate where they leave, in the chain `errors`: dropped, limited, or
given another source. Those of our own router leave by a raw socket, so they pass there too.

Balancing by packet, or by what real routers look at, is beyond the kernel's multipath
routes. Each packet is marked with a way instead, and each way has a table in which
every route has one gateway::

    prerouting: mark = 1 + hash or counter mod ways --> rule: fwmark 2 --> table 1002

Marks are for what comes in; the router's own packets go by the main table. Only the
words: nothing here touches the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from math import lcm

from rawproto.lab.behaviour import Behaviour
from rawproto.lab.tables import TableEntry
from rawproto.lab.topology import MIN_IPV6_MTU, Router, Topology
from rawproto.wire.address import family_of

__all__ = ["ip_commands", "nft_rules", "settings"]

FIRST_TABLE = 1000
MAX_WAYS = 1000
"""Gateways that share no common multiple below it are chosen nearly evenly."""

ETHERNET_MTU = 1500

UNITS = {"s": "second", "m": "minute", "h": "hour"}

INSIDE = '"eth0"'

OWN_ERRORS = """\
icmp type { destination-unreachable, time-exceeded, parameter-problem, redirect } jump errors
icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } \
jump errors"""
TOO_BIG = """\
icmp type destination-unreachable icmp code frag-needed drop
icmpv6 type packet-too-big drop"""


def settings(topology: Topology, router: Router) -> dict[str, str]:
    """What is to be written below /proc/sys/net in a router's namespace."""
    if router.behaviour.needs_userspace:
        return {"ipv4/ip_forward": "0", "ipv6/conf/all/forwarding": "0"}
    mtu = router.behaviour.mtu
    if mtu is None:
        return {}
    # IPv4 has no such setting, its routes have an MTU instead.
    return {
        f"ipv6/conf/{interface.name}/mtu": str(
            min(max(mtu, MIN_IPV6_MTU), topology.links[interface.link - 1].mtu or ETHERNET_MTU)
        )
        for interface in topology.interfaces()[router.name]
        if interface.ipv6 is not None
    }


def ip_commands(
    router: Router, table: Sequence[TableEntry], *, rules: bool = True
) -> dict[int, list[str]]:
    """What changes a router's routes, for `ip -4 -batch` and `ip -6 -batch`.

    Args:
        router: which.
        table: its routing table as it is to be.
        rules: whether to set what leads to the tables too; once is enough.
    """
    behaviour = router.behaviour
    commands: dict[int, list[str]] = {4: [], 6: []}
    if behaviour.needs_userspace:
        return commands
    for version, lines in commands.items():
        entries = [entry for entry in table if ip_network(entry.destination).version == version]
        if behaviour.loop or behaviour.mtu is not None:
            lines += [f"route replace {_route(entry, behaviour.mtu)}" for entry in entries]
        ways = _ways(behaviour, table)
        for way in range(1, ways + 1):
            if rules:
                lines.append(f"rule add fwmark {way} table {FIRST_TABLE + way}")
            for entry in entries:
                words = _route(entry, behaviour.mtu, way)
                lines.append(f"route replace {words} table {FIRST_TABLE + way}")
    return commands


def nft_rules(router: Router, table: Sequence[TableEntry]) -> str:
    """A router's rules for `nft -f`; "" where it needs none.

    Args:
        router: which.
        table: its routing table.
    """
    chains = dict(_chains(router.behaviour, table))
    if not chains:
        return ""
    body = "".join(
        f"  chain {name} {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"
        for name, lines in chains.items()
    )
    return f"table inet rawproto {{\n{body}}}\n"


def _chains(
    behaviour: Behaviour, table: Sequence[TableEntry]
) -> Iterator[tuple[str, Sequence[str]]]:
    """Chains by name, each a list of lines; one that is jumped to stands before the jump."""
    errors = list(_error_rules(behaviour))
    if errors:
        yield "errors", errors
        yield "output", [_hook("filter", "output", "filter"), *OWN_ERRORS.splitlines()]
    if behaviour.needs_userspace:
        if behaviour.nat:
            # The kernel has the address too, and would refuse what is for hosts inside.
            refusals = f'iifname != {{ {INSIDE}, "lo" }} meta l4proto {{ tcp, udp }} drop'
            yield "input", [_hook("filter", "input", "filter"), refusals]
        return
    if behaviour.drop_ptb:
        yield "forward", [_hook("filter", "forward", "filter"), *TOO_BIG.splitlines()]
    if behaviour.nat:
        masquerade = f"iifname {INSIDE} oifname != {INSIDE} masquerade"
        yield "postrouting", [_hook("nat", "postrouting", "srcnat"), masquerade]
    ways = _ways(behaviour, table)
    if not ways:
        return
    if behaviour.balance == "packet":
        yield "turns", [f"meta mark set numgen inc mod {ways} offset 1"]
        marks = _choices(table)
    else:
        marks = _flows(ways)
    yield "prerouting", [_hook("filter", "prerouting", "mangle"), *marks]


def _hook(kind: str, hook: str, priority: str) -> str:
    return f"type {kind} hook {hook} priority {priority}; policy accept;"


def _error_rules(behaviour: Behaviour) -> Iterator[str]:
    if behaviour.silent:
        yield "drop"
    if behaviour.drop_ptb:
        yield from TOO_BIG.splitlines()
    if behaviour.icmp_rate is not None:
        number, unit = behaviour.icmp_rate
        yield f"limit rate over {number}/{UNITS[unit]} burst 1 packets drop"
    for address in behaviour.answer_from:
        ip = "ip" if family_of(address) == 4 else "ip6"
        yield f"{ip} saddr set {address}"


def _choices(table: Sequence[TableEntry]) -> Iterator[str]:
    """Only what has several gateways takes a turn: else answers would use up those of questions."""

    def length(entry: TableEntry) -> int:
        return ip_network(entry.destination).prefixlen

    for entry in sorted(table, key=length, reverse=True):
        ip = "ip6" if ":" in entry.destination else "ip"
        verdict = "goto turns" if len(entry.gateways) > 1 else "accept"
        yield f"{ip} daddr {entry.destination} {verdict}"


def _flows(ways: int) -> Iterator[str]:
    # The first four bytes behind the IP header: ports, or ICMP's type, code and checksum.
    for fields in ("ip saddr . ip daddr", "ip6 saddr . ip6 daddr . ip6 flowlabel"):
        yield f"meta mark set jhash {fields} . @th,0,32 mod {ways} seed 0x1 offset 1"


def _ways(behaviour: Behaviour, table: Sequence[TableEntry]) -> int:
    """How many ways there are to choose from, so that each gateway is on equally many; or 0."""
    ways = lcm(*(len(entry.gateways) or 1 for entry in table))
    return min(ways, MAX_WAYS) if behaviour.balance and ways > 1 else 0


def _route(entry: TableEntry, mtu: int | None, way: int | None = None) -> str:
    """An entry as `ip route` wants it; with a way, by that one of its gateways alone."""
    version = ip_network(entry.destination).version
    words = entry.destination
    if entry.interface is not None:
        words += f" dev {entry.interface.name} proto kernel"
        if version == 4 and entry.interface.ipv4 is not None:
            words += f" scope link src {entry.interface.ipv4.split('/')[0]}"
        else:
            words += " metric 256"
    elif way is not None or len(entry.gateways) == 1:
        words += f" via {entry.gateways[(way or 0) % len(entry.gateways)]}"
    else:
        words += "".join(f" nexthop via {gateway}" for gateway in entry.gateways)
    return words + f" mtu {mtu}" * (mtu is not None and version == 4)
