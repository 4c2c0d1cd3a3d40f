"""A running lab: `with lab.up(chain(3)) as network:`, and programs and sockets on its hosts.

Every host is a network namespace, every link a veth pair, or two with the emulator
between them (see links.py).
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Self

from rawproto.errors import UsageError
from rawproto.lab.batch import find_ip
from rawproto.lab.build import await_links, configure
from rawproto.lab.commands import EMULATOR_NAMESPACE, hosts_file
from rawproto.lab.impairments import parse_change
from rawproto.lab.links import LiveLink, begin_emulator, change_link, choose, start_links
from rawproto.lab.namespaces import Keeper, in_thread
from rawproto.lab.routers import begin_userspace, misbehave, plan_routers, restore
from rawproto.lab.topology import Interface, Topology

__all__ = ["LiveHost", "Network", "up"]


def up(topology: Topology) -> Network:
    """Builds a topology out of namespaces; when this returns, all of it works.

    The lab lives until it is closed or this process ends, in whatever way
    (`network.keeper.release()` lets it outlive the process).

    Args:
        topology: what to build.

    Raises:
        PrivilegeError: this process may not make namespaces (see `become_root`).
        UsageError: there is no `ip` on this machine, a link insists on netem in vain, or a
            router can't be as it is wanted.
        LinkError: the kernel or `ip` refused something.
    """
    ip = find_ip()
    made = choose(topology)
    plan = plan_routers(topology)
    names = [host.name for host in topology.hosts]
    keeper = Keeper.start([*names, EMULATOR_NAMESPACE], hosts_file(topology))
    ends = [end for ends in topology.interfaces().values() for end in ends]
    try:
        # It takes as long to start as all the rest.
        emulator = begin_emulator(keeper) if "emulator" in made.values() else None
        userspace = begin_userspace(keeper) if plan.userspace else None
        in_thread(lambda: configure(topology, made, keeper, ip))
        if plan.routers:
            misbehave(plan, keeper, ip, userspace)
        start_links(topology, made, keeper, emulator)
        in_thread(lambda: await_links(ends, topology, keeper))
    except BaseException:
        keeper.stop()
        raise
    return Network(topology, keeper)


class LiveHost:
    """One host of a running lab.

    Attributes:
        name: its name.
        interfaces: its ends of links, with their addresses.
    """

    def __init__(self, name: str, interfaces: tuple[Interface, ...], keeper: Keeper) -> None:
        self.name = name
        self.interfaces = interfaces
        self._keeper = keeper

    @property
    def addresses(self) -> tuple[str, ...]:
        """All its addresses, in the order of its interfaces, IPv4 before IPv6 on each."""
        return tuple(text for interface in self.interfaces for text in interface.addresses)

    @property
    def ipv4(self) -> str:
        """Its first IPv4 address. Raises UsageError if it has none."""
        return self._first(4)

    @property
    def ipv6(self) -> str:
        """Its first IPv6 address. Raises UsageError if it has none."""
        return self._first(6)

    def _first(self, version: int) -> str:
        for address in self.addresses:
            if (":" in address) == (version == 6):
                return address
        raise UsageError(f"{self.name} has no IPv{version} address")

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a program on this host; it dies with the lab at the latest.

        Options are those of `subprocess.Popen`.

        Raises:
            OSError: the program can't be started.
            LinkError: the lab is down.
        """
        return self._keeper.popen(self.name, argv, **options)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float | None = None,
        check: bool = False,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program on this host to its end, capturing what it prints as text.

        Args:
            argv: the program and its arguments.
            input: what it reads on stdin; None for nothing.
            timeout: seconds after which it is killed.
            check: whether to raise if it exits with anything but 0.
            options: those of `subprocess.Popen`; `stdout=None` leaves it uncaptured.

        Raises:
            OSError, LinkError: as `popen`.
            subprocess.TimeoutExpired, subprocess.CalledProcessError: as `subprocess.run`.
        """
        options = {
            "stdin": subprocess.DEVNULL if input is None else subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            **options,
        }
        with self.popen(argv, **options) as process:
            try:
                stdout, stderr = process.communicate(input, timeout=timeout)
            except BaseException:
                process.kill()
                raise
        result = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
        if check:
            result.check_returncode()
        return result

    def entered(self) -> AbstractContextManager[None]:
        """Puts the calling thread in this host's network, to open sockets there.

        `with host.entered(): sock = socket.socket(...)`; the socket stays on the host
        when the block has ended. Programs started meanwhile are on the host too, but
        don't die with the lab: use `popen` for them.
        """
        return self._keeper.entered(self.name)


class Network(AbstractContextManager["Network"]):
    """A running lab. Leaving its `with` block takes it down.

    Attributes:
        topology: what it is like now.
        keeper: the process that holds it.
        hosts: its hosts by name.
    """

    def __init__(self, topology: Topology, keeper: Keeper) -> None:
        self.topology = topology
        self.keeper = keeper
        self.hosts = {
            name: LiveHost(name, interfaces, keeper)
            for name, interfaces in topology.interfaces().items()
        }

    def host(self, name: str) -> LiveHost:
        """One of its hosts. Raises UsageError if there is none of that name."""
        return self.hosts[self.topology.host(name).name]

    def link(self, number: int) -> LiveLink:
        """One of its links, counted from 1. Raises UsageError if there is none of that number."""
        self.topology.check_link_number(number)
        return LiveLink(self.topology, number, self.keeper)

    def change(self, text: str) -> None:
        """Changes a link while it runs, `"3:delay=40ms,loss=0%"`, or all: `"all:perfect"`.

        Packets that are under way keep the time that they were given. A link that was
        without impairments may be cut for a moment, and made anew: its interfaces then
        have addresses and routes as at first.

        Raises:
            UsageError: what is wrong with the text.
            LinkError: the lab is down, or something in it refused.
        """
        change = parse_change(text)
        wanted = self.topology.changed(text)  # all is looked at before any is done
        numbers = [change.link] if change.link else range(1, len(wanted.links) + 1)
        ip = find_ip()
        for number in numbers:
            links = list(self.topology.links)
            links[number - 1] = wanted.links[number - 1]
            change_link(
                wanted,
                number,
                self.keeper,
                ip,
                before=self.link(number),
                restart="seed" in change.settings,
            )
            self.topology = replace(self.topology, links=tuple(links))
            restore(self.topology, number, self.keeper, ip)

    def close(self) -> None:
        """Takes the lab down: programs, interfaces and namespaces. May be called twice."""
        self.keeper.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
