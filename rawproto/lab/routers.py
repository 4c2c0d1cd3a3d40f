"""Making the routers of a lab misbehave: by the kernel where it can, else by our own router.

What is said of a router comes on top of what `build` has configured: settings, routes
and nftables rules (rules.py), and a process where the kernel does not forward
(userspace.py), which dies with the lab.
"""

from __future__ import annotations

import pickle
import socket
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network

from rawproto.errors import LinkError, UsageError
from rawproto.lab import syscalls
from rawproto.lab.batch import Batch, find_program, finish
from rawproto.lab.build import READY_TIMEOUT_S, write_settings
from rawproto.lab.commands import ends_of, mac_addr
from rawproto.lab.keeper import NETNS
from rawproto.lab.namespaces import Keeper, enter, in_thread, python_command
from rawproto.lab.router_config import Entry, Port, RouterConfig
from rawproto.lab.routes import routes_of
from rawproto.lab.rules import ip_commands, nft_rules, settings
from rawproto.lab.tables import TableEntry, table_of
from rawproto.lab.topology import Interface, Router, Topology

__all__ = ["RouterPlan", "begin_userspace", "misbehave", "plan_routers", "restore"]

ETHERNET_MTU = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterPlan:
    """How the misbehaving routers of a lab come to be so.

    Attributes:
        topology: the lab.
        tables: the routing table of each, by its name.
        nft: where that program is, "" where nobody needs it.
    """

    topology: Topology
    tables: dict[str, Sequence[TableEntry]]
    nft: str

    @property
    def routers(self) -> list[Router]:
        """Those that misbehave."""
        return [
            host
            for host in self.topology.hosts
            if isinstance(host, Router) and host.name in self.tables
        ]

    @property
    def userspace(self) -> list[Router]:
        """Those of them for which the kernel does not forward."""
        return [router for router in self.routers if router.behaviour.needs_userspace]


def plan_routers(topology: Topology) -> RouterPlan:
    """Works out what the misbehaving routers of a lab need.

    Raises:
        UsageError: one can't be as it is wanted, or there is no `nft` on this machine.
    """
    found = [host for host in topology.hosts if isinstance(host, Router) and host.behaviour]
    if not found:
        return RouterPlan(topology=topology, tables={}, nft="")
    routes, interfaces = routes_of(topology), topology.interfaces()
    tables: dict[str, Sequence[TableEntry]] = {}
    for router in found:
        if router.behaviour.nat and len(interfaces[router.name]) < 2:
            raise UsageError(f"{router.name}: nat: it has no other side")
        tables[router.name] = table_of(topology, routes, router)
    nft = ""
    if any(nft_rules(router, tables[router.name]) for router in found):
        nft = find_program("nft") or ""
        if not nft:
            raise UsageError("no `nft` on this machine: apt install nftables")
    return RouterPlan(topology=topology, tables=tables, nft=nft)


def begin_userspace(keeper: Keeper) -> subprocess.Popen[bytes]:
    """Starts the process of our own routers; it waits to be told what to be.

    Raises:
        LinkError: the lab is down.
    """

    def begin() -> subprocess.Popen[bytes]:
        keeper.enter()
        process = subprocess.Popen(
            python_command("userspace"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            start_new_session=True,  # Ctrl-C at our terminal is not for the lab
        )
        keeper.adopt(process)
        return process

    return in_thread(begin)


def misbehave(
    plan: RouterPlan, keeper: Keeper, ip: str, userspace: subprocess.Popen[bytes] | None
) -> None:
    """Has the routers of a lab that is configured do as they should not.

    Args:
        plan: as `plan_routers` has worked it out.
        keeper: what holds the lab.
        ip: where that program is.
        userspace: as begun, None where nobody needs it.

    Raises:
        LinkError: the kernel, `ip` or `nft` refused something, or our own router did.
    """
    in_thread(lambda: _configure(plan, plan.routers, keeper, ip, first=True))
    if userspace is not None:
        assert userspace.stdin is not None
        assert userspace.stdout is not None
        configs = [
            router_config(plan.topology, router, plan.tables[router.name])
            for router in plan.userspace
        ]
        with userspace.stdin as told, userspace.stdout as heard:
            try:
                pickle.dump(configs, told)
                told.flush()
            except BrokenPipeError:
                pass  # what became of it is said below
            answer = heard.readline().decode(errors="replace").strip()
        if answer != "ready":
            raise LinkError("start routers", "", None, answer or "they died")


def restore(topology: Topology, number: int, keeper: Keeper, ip: str) -> None:
    """Has the routers at the ends of a link misbehave again, which may have been made anew.

    Args:
        topology: the lab.
        number: of the link.
        keeper: what holds the lab.
        ip: where that program is.

    Raises:
        LinkError: the kernel or `ip` refused something, or our own router does not follow.
    """
    plan = plan_routers(topology)
    ends = ends_of(topology)[number - 1]
    routers = [router for router in plan.routers if router.name in (end.host for end in ends)]
    if routers:
        in_thread(lambda: _configure(plan, routers, keeper, ip, first=False))
    for end in ends:
        if end.host in (router.name for router in plan.userspace):
            in_thread(partial(_await_packet_socket, end, keeper))


def _await_packet_socket(end: Interface, keeper: Keeper) -> None:
    """Returns when somebody takes packets from an interface, as our own router does.

    For a thread of its own, which it leaves inside the lab. See /proc/net/packet, proc(5).
    """
    enter(keeper.network_namespace(end.host), syscalls.CLONE_NEWNET)
    index = str(socket.if_nametoindex(end.name))
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        with open("/proc/thread-self/net/packet") as table:
            if index in (line.split()[4] for line in table):
                return
        if time.monotonic() > deadline:
            raise LinkError("restore router", f"{end.host} {end.name}", None, "it has died")
        time.sleep(0.0005)


def _configure(
    plan: RouterPlan, routers: Collection[Router], keeper: Keeper, ip: str, *, first: bool
) -> None:
    """For a thread of its own, which it leaves inside the lab."""
    keeper.enter()
    batches = []
    for router in routers:
        table = plan.tables[router.name]
        enter(f"{NETNS}/{router.name}", syscalls.CLONE_NEWNET)
        write_settings(settings(plan.topology, router))
        for version, commands in ip_commands(router, table, rules=first).items():
            if commands:
                arguments = (f"-{version}", "-batch", "-")
                batches.append(Batch(keeper, ip, router.name, commands, arguments))
        if first and (rules := nft_rules(router, table)):
            batches.append(Batch(keeper, plan.nft, router.name, [rules], ("-f", "-")))
    finish(batches)


def router_config(topology: Topology, router: Router, table: Sequence[TableEntry]) -> RouterConfig:
    """What our own router goes by in place of the kernel's.

    Args:
        topology: the lab.
        router: which.
        table: its routing table.
    """
    ports, numbers = [], {}
    ends = ends_of(topology)
    for number, interface in enumerate(topology.interfaces()[router.name]):
        pair = ends[interface.link - 1]
        side = pair.index(interface)
        macs = [mac_addr(interface.link, end) for end in (2 - side, 1 + side)]
        ports.append(
            Port(
                name=interface.name,
                mtu=topology.links[interface.link - 1].mtu or ETHERNET_MTU,
                addresses=interface.addresses,
                peers=pair[1 - side].addresses,
                mac_addresses=bytes.fromhex("".join(macs).replace(":", "")),
            )
        )
        for network in topology.links[interface.link - 1].networks:
            numbers[ip_network(network)] = number

    def entry(line: TableEntry) -> Entry:
        network = ip_network(line.destination)
        hops = line.gateways or (str(network.network_address),)
        return Entry(
            network=network.network_address.packed,
            prefix_length=network.prefixlen,
            ports=tuple(
                number for hop in hops for on, number in numbers.items() if ip_address(hop) in on
            ),
            on_link=line.interface is not None,
        )

    behaviour = router.behaviour
    return RouterConfig(
        host=router.name,
        ports=ports,
        # The kernel has refused gateways that are on no link.
        entries=[entry(line) for line in table],
        mtu=behaviour.mtu,
        per_packet=behaviour.balance == "packet",
        drop_ptb=behaviour.drop_ptb,
        nat=behaviour.nat,
        mpls=behaviour.mpls,
        interface_info=behaviour.interface_info,
    )
