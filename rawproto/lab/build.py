"""Making empty namespaces a network, and one link of it anew while it runs.

Addresses and routes are set through `ip -batch`, one run for the links and one on
each host, these side by side.

What is set so that the lab shows paths, and not the kernel's own caution:

- routers forward both families; hosts don't;
- no duplicate address detection, no router solicitations and no reverse path filter,
  so that every address works from the first packet;
- ICMP errors are not rate limited (RFC 1812 section 4.3.2.8 lets routers do so;
  Linux would send one a second to each host);
- equal-cost paths are chosen by addresses and ports together;
- every group may open ICMP datagram sockets.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from rawproto.errors import LinkError
from rawproto.lab import netem, syscalls
from rawproto.lab.batch import Batch, finish
from rawproto.lab.commands import (
    EMULATOR_NAMESPACE,
    ends_of,
    host_commands,
    link_commands,
    port_names,
)
from rawproto.lab.devices import disable_offloads
from rawproto.lab.impairments import DIRECTIONS, impairment
from rawproto.lab.keeper import NETNS
from rawproto.lab.namespaces import Keeper, enter
from rawproto.lab.topology import MIN_IPV6_MTU, Interface, Topology

__all__ = ["await_links", "configure", "remake_link", "set_mtu", "set_netem", "write_settings"]

READY_TIMEOUT_S = 5.0
"""Carriers come up in a few milliseconds; this bounds the wait for those that don't."""

IFA_F_TENTATIVE = 0x40

EVERYONE = "0 2147483647"

ROUTER_SETTINGS = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}

# "default" is what an interface made later starts with.
SETTINGS = {
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/fib_multipath_hash_policy": "1",
    "ipv4/icmp_ratelimit": "0",
    "ipv4/icmp_ratemask": "0",
    "ipv4/ping_group_range": EVERYONE,
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
    "ipv6/conf/all/router_solicitations": "0",
    "ipv6/conf/default/router_solicitations": "0",
    "ipv6/fib_multipath_hash_policy": "1",
    "ipv6/icmp/ratelimit": "0",
    "ipv6/icmp/ratemask": "\n",
}

EMULATOR_SETTINGS = {"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1"}
"""The emulator's ends of links have no addresses, and send nothing by themselves."""


# --- each for a thread of its own, which it leaves inside the lab --------------------------------


def configure(topology: Topology, made: Mapping[int, str], keeper: Keeper, ip: str) -> None:
    """Makes empty namespaces a network.

    Args:
        topology: what to make.
        made: how each link is to be made, by number; see links.py.
        keeper: what holds the namespaces.
        ip: where that program is.

    Raises:
        LinkError: the kernel or `ip` refused something.
    """
    emulated = [number for number, way in made.items() if way == "emulator"]
    keeper.enter()
    for host in topology.hosts:
        _enter(host.name)
        write_settings((ROUTER_SETTINGS if host.forwards else {}) | SETTINGS)
    _enter(EMULATOR_NAMESPACE)
    write_settings(EMULATOR_SETTINGS)
    finish([Batch(keeper, ip, "links", link_commands(topology, emulated))])
    commands = host_commands(topology)
    jobs = [
        (host, [interface.name for interface in interfaces], commands[host])
        for host, interfaces in topology.interfaces().items()
    ]
    _start(keeper, ip, [*jobs, *_emulator_job(emulated)])


def remake_link(topology: Topology, number: int, keeper: Keeper, ip: str) -> None:
    """Puts the emulator into a link that runs without it.

    Interfaces can't be joined otherwise once they are made: both ends are made anew,
    and with them their addresses and the routes that led over them. Raises LinkError.
    """
    keeper.enter()
    ends = ends_of(topology)[number - 1]
    _enter(ends[0].host)
    # The other end of a pair goes with the first.
    finish([Batch(keeper, ip, ends[0].host, [f"link del {ends[0].name}"])])
    finish([Batch(keeper, ip, f"link {number}", link_commands(topology, [number], [number]))])
    commands = host_commands(topology, "replace")
    jobs = [(end.host, [end.name], commands[end.host]) for end in ends]
    _start(keeper, ip, [*jobs, *_emulator_job([number])])


def set_mtu(topology: Topology, number: int, keeper: Keeper, ip: str) -> None:
    """Gives both ends of a link its MTU. Raises LinkError."""
    mtu = topology.links[number - 1].mtu
    keeper.enter()
    _start(
        keeper,
        ip,
        [
            (end.host, [], [f"link set {end.name} mtu {mtu}"])
            for end in ends_of(topology)[number - 1]
        ],
    )


def set_netem(topology: Topology, numbers: Collection[int], keeper: Keeper, tc: str) -> None:
    """Has netem do what these links do to packets. Raises LinkError."""
    keeper.enter()
    jobs: dict[str, list[str]] = {}
    ends = ends_of(topology)
    for number in numbers:
        impairments = topology.links[number - 1].impairments
        for end, direction in zip(ends[number - 1], DIRECTIONS, strict=True):
            words = netem.command(end.name, impairment(impairments, direction))
            jobs.setdefault(end.host, []).append(words)
    _start(keeper, tc, [(host, [], commands) for host, commands in jobs.items()])


def await_links(ends: Iterable[Interface], topology: Topology, keeper: Keeper) -> None:
    """Returns when all these interfaces can send.

    The kernel reports carriers from a work queue, a moment after both ends are up; an
    interface that can send IPv6 has a link-local address that is not tentative.

    Raises:
        LinkError: one never could.
    """
    if not os.path.isdir("/proc/sys/net/ipv6"):
        return
    deadline = time.monotonic() + READY_TIMEOUT_S
    wanted: dict[str, set[str]] = {}
    for end in ends:
        if (topology.links[end.link - 1].mtu or MIN_IPV6_MTU) >= MIN_IPV6_MTU:
            wanted.setdefault(end.host, set()).add(end.name)
    for host, names in wanted.items():
        enter(keeper.network_namespace(host), syscalls.CLONE_NEWNET)
        while missing := names - _link_local_ready():
            if time.monotonic() > deadline:
                raise LinkError("bring up", f"{host} {min(missing)}", None, "it has no carrier")
            time.sleep(0.0005)


# --- their parts ---------------------------------------------------------------------------------

Job = tuple[str, Sequence[str], Sequence[str]]
"""A namespace, interfaces that are new in there, and commands."""


def _emulator_job(emulated: Sequence[int]) -> list[Job]:
    if not emulated:
        return []
    ports = [port for number in emulated for port in port_names(number)]
    return [(EMULATOR_NAMESPACE, ports, [f"link set {port} up" for port in ports])]


def _start(keeper: Keeper, program: str, jobs: Iterable[Job]) -> None:
    batches = []
    for namespace, interfaces, commands in jobs:
        _enter(namespace)
        for interface in interfaces:
            disable_offloads(interface)
        batches.append(Batch(keeper, program, namespace, commands))
    finish(batches)


def _enter(namespace: str) -> None:
    enter(f"{NETNS}/{namespace}", syscalls.CLONE_NEWNET)


def write_settings(settings: Mapping[str, str]) -> None:
    """Writes below /proc/sys/net in the calling thread's network namespace. Raises LinkError."""
    for name, value in settings.items():
        path = f"/proc/sys/net/{name}"
        try:
            _write(path, value)
        except FileNotFoundError:
            continue  # a kernel without this knob has nothing to be turned off
        except OSError as error:
            # A user namespace has one group only, and can open the range to no other.
            if value != EVERYONE or error.errno != errno.EINVAL:
                raise LinkError("set", name, error.errno) from None
            _write(path, "0 0")


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _link_local_ready() -> set[str]:
    """Interfaces of the calling thread's namespace with a settled link-local address."""
    ready = set()
    with open("/proc/thread-self/net/if_inet6") as table:
        for line in table:
            address, _, _, _, flags, name = line.split()
            if address.startswith("fe80") and not int(flags, 16) & IFA_F_TENTATIVE:
                ready.add(name)
    return ready
