"""What `ip` is told to make a topology real, and what its hosts' names resolve to.

Only the words: nothing here touches the machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rawproto.lab.routes import routes_of
from rawproto.lab.topology import Interface, Topology

__all__ = [
    "EMULATOR_NAMESPACE",
    "ends_of",
    "host_commands",
    "hosts_file",
    "link_commands",
    "mac_addr",
    "port_names",
]

EMULATOR_NAMESPACE = "_links"
"""Where the emulator works; no host can be called that."""

MAX_MTU = 65535


def hosts_file(topology: Topology) -> str:
    """The lab's lines of /etc/hosts: every address, with the name of its host."""
    return "".join(
        f"{address}\t{name}\n"
        for name, interfaces in topology.interfaces().items()
        for interface in interfaces
        for address in interface.addresses
    )


def ends_of(topology: Topology) -> list[tuple[Interface, Interface]]:
    """The two interfaces of every link, in order."""
    by_end = {
        (one.host, one.link): one for found in topology.interfaces().values() for one in found
    }
    return [
        (by_end[link.ends[0], number], by_end[link.ends[1], number])
        for number, link in enumerate(topology.links, 1)
    ]


def port_names(link: int) -> tuple[str, str]:
    """The emulator's interfaces that face the first and the second end of a link."""
    return f"{link}a", f"{link}b"


def mac_addr(link: int, end: int) -> str:
    """The MAC address of the first (1) or second (2) end of a link.

    It tells both (02:00:00:00:0c:02 is the second end of link 12), so that captures can
    be read and come out the same each time.
    """
    return (0x02_00_00_00_00_00 | link << 8 | end).to_bytes(6, "big").hex(":")


def link_commands(
    topology: Topology, emulated: Collection[int] = (), numbers: Collection[int] | None = None
) -> Iterator[str]:
    """What makes links, each end in the namespace where it belongs.

    Args:
        topology: the lab.
        emulated: the links whose ends face the emulator instead of each other.
        numbers: the links to make, None for all.
    """
    for number, interfaces in enumerate(ends_of(topology), 1):
        if numbers is not None and number not in numbers:
            continue
        mtu = topology.links[number - 1].mtu
        ends = []
        for end, interface in enumerate(interfaces, 1):
            mac = mac_addr(number, end)
            words = f"name {interface.name} netns {interface.host} address {mac}"
            ends.append(words if mtu is None else f"{words} mtu {mtu}")
        if number not in emulated:
            yield f"link add {ends[0]} type veth peer {ends[1]}"
            continue
        for words, port in zip(ends, port_names(number), strict=True):
            peer = f"name {port} netns {EMULATOR_NAMESPACE} mtu {MAX_MTU}"
            yield f"link add {words} type veth peer {peer}"


def host_commands(topology: Topology, verb: str = "add") -> dict[str, list[str]]:
    """What sets each host's addresses and routes, for `ip -batch` on that host.

    Args:
        topology: the lab.
        verb: `"replace"` puts back what has gone with an interface, and leaves the rest.
    """
    commands: dict[str, list[str]] = {}
    routes = routes_of(topology)
    for host, interfaces in topology.interfaces().items():
        lines = ["link set lo up"]
        for interface in interfaces:
            lines.append(f"link set {interface.name} up")
            if interface.ipv4 is not None:
                lines.append(f"addr {verb} {interface.ipv4} dev {interface.name}")
            if interface.ipv6 is not None:
                lines.append(f"addr {verb} {interface.ipv6} dev {interface.name} nodad")
        for route in routes[host]:
            word = "via" if len(route.gateways) == 1 else "nexthop via"
            hops = " ".join(f"{word} {gateway}" for gateway in route.gateways)
            lines.append(f"route {verb} {route.destination} {hops}")
        commands[host] = lines
    return commands
