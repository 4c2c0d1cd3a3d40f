"""A running lab: `with lab.up(chain(3)) as network:`, and programs and sockets on its hosts.

Every host is a network namespace, every link a veth pair. Addresses and routes are
set through `ip -batch`, one run for the links and one on each host, these side by side.

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
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from rawproto.errors import LinkError, UsageError
from rawproto.lab import syscalls
from rawproto.lab.devices import disable_transmit_checksums
from rawproto.lab.keeper import NETNS
from rawproto.lab.namespaces import Keeper, enter, in_thread
from rawproto.lab.routes import routes_of
from rawproto.lab.topology import MIN_IPV6_MTU, Interface, Topology

__all__ = ["LiveHost", "Network", "up"]

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


def up(topology: Topology) -> Network:
    """Builds a topology out of namespaces; when this returns, all of it works.

    The lab lives until it is closed or this process ends, in whatever way
    (`network.keeper.release()` lets it outlive the process).

    Args:
        topology: what to build.

    Raises:
        PrivilegeError: this process may not make namespaces (see `become_root`).
        UsageError: there is no `ip` on this machine.
        LinkError: the kernel or `ip` refused something.
    """
    ip = _find_ip()
    names = [host.name for host in topology.hosts]
    keeper = Keeper.start(names, hosts_file(topology))
    try:
        in_thread(lambda: _configure(topology, keeper, ip))
        in_thread(lambda: _await_links(topology, keeper))
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
        topology: what it was built from.
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

    def close(self) -> None:
        """Takes the lab down: programs, interfaces and namespaces. May be called twice."""
        self.keeper.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def hosts_file(topology: Topology) -> str:
    """The lab's lines of /etc/hosts: every address, with the name of its host."""
    return "".join(
        f"{address}\t{name}\n"
        for name, interfaces in topology.interfaces().items()
        for interface in interfaces
        for address in interface.addresses
    )


def _find_ip() -> str:
    # Debian keeps `ip` where only root's PATH leads.
    for directory in [*os.get_exec_path(), "/usr/sbin", "/sbin"]:
        path = os.path.abspath(os.path.join(directory, "ip"))
        if os.access(path, os.X_OK):
            return path
    raise UsageError("no `ip` on this machine: apt install iproute2")


def link_commands(topology: Topology) -> Iterator[str]:
    """What makes all links, for `ip -batch`: each end is made in its host's namespace.

    MAC addresses tell link and end (02:00:00:00:0c:02 is the second end of link 12), so
    that captures can be read and come out the same each time.
    """
    by_end = {
        (one.host, one.link): one for found in topology.interfaces().values() for one in found
    }
    for number, link in enumerate(topology.links, 1):
        ends = []
        for end, host in enumerate(link.ends, 1):
            mac = (0x02_00_00_00_00_00 | number << 8 | end).to_bytes(6, "big").hex(":")
            mtu = f" mtu {link.mtu}" if link.mtu is not None else ""
            ends.append(f"name {by_end[host, number].name} netns {host} address {mac}{mtu}")
        yield f"link add {ends[0]} type veth peer {ends[1]}"


def host_commands(topology: Topology) -> dict[str, list[str]]:
    """What sets each host's addresses and routes, for `ip -batch` on that host."""
    commands: dict[str, list[str]] = {}
    routes = routes_of(topology)
    for host, interfaces in topology.interfaces().items():
        lines = ["link set lo up"]
        for interface in interfaces:
            lines.append(f"link set {interface.name} up")
            if interface.ipv4 is not None:
                lines.append(f"addr add {interface.ipv4} dev {interface.name}")
            if interface.ipv6 is not None:
                lines.append(f"addr add {interface.ipv6} dev {interface.name} nodad")
        for route in routes[host]:
            word = "via" if len(route.gateways) == 1 else "nexthop via"
            hops = " ".join(f"{word} {gateway}" for gateway in route.gateways)
            lines.append(f"route add {route.destination} {hops}")
        commands[host] = lines
    return commands


def _configure(topology: Topology, keeper: Keeper, ip: str) -> None:
    """Makes empty namespaces a network. For a thread of its own, which it leaves inside."""
    keeper.enter()
    for host in topology.hosts:
        enter(f"{NETNS}/{host.name}", syscalls.CLONE_NEWNET)
        _write_settings((ROUTER_SETTINGS if host.forwards else {}) | SETTINGS)
    _finish([_Batch(keeper, ip, "links", link_commands(topology))])
    batches = []
    commands = host_commands(topology)
    for name, interfaces in topology.interfaces().items():
        enter(f"{NETNS}/{name}", syscalls.CLONE_NEWNET)
        for interface in interfaces:
            disable_transmit_checksums(interface.name)
        batches.append(_Batch(keeper, ip, name, commands[name]))
    _finish(batches)


def _write_settings(settings: Mapping[str, str]) -> None:
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


class _Batch:
    """One `ip -batch` in the calling thread's namespaces, reading from memory as from a file."""

    def __init__(self, keeper: Keeper, ip: str, name: str, commands: Iterable[str]) -> None:
        self.name = name
        self.commands = list(commands)
        with open(os.memfd_create("ip-batch"), "w+") as script:
            script.writelines(f"{command}\n" for command in self.commands)
            script.seek(0)
            self.process = subprocess.Popen(
                [ip, "-batch", "-"],
                stdin=script,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        keeper.adopt(self.process)

    def failure(self) -> LinkError | None:
        """Waits for its end, and says which command failed."""
        with self.process as process:
            _, complaint = process.communicate()
        if process.returncode == 0:
            return None
        # "RTNETLINK answers: File exists\nCommand failed -:3\n"
        reason = complaint.partition("\n")[0] or f"exit {process.returncode}"
        place = re.search(r"Command failed -:(\d+)", complaint)
        if place is not None:
            reason += f" (ip {self.commands[int(place[1]) - 1]})"
        return LinkError("configure", self.name, None, reason)


def _finish(batches: Iterable[_Batch]) -> None:
    failures = [batch.failure() for batch in batches]
    for failure in failures:
        if failure is not None:
            raise failure


def _await_links(topology: Topology, keeper: Keeper) -> None:
    """Returns when every interface can send. For a thread of its own, which it leaves inside.

    The kernel reports carriers from a work queue, a moment after both ends are up; an
    interface that can send IPv6 has a link-local address that is not tentative.
    """
    if not os.path.isdir("/proc/sys/net/ipv6"):
        return
    deadline = time.monotonic() + READY_TIMEOUT_S
    for name, interfaces in topology.interfaces().items():
        enter(keeper.network_namespace(name), syscalls.CLONE_NEWNET)
        wanted = {
            interface.name
            for interface in interfaces
            if (topology.links[interface.link - 1].mtu or MIN_IPV6_MTU) >= MIN_IPV6_MTU
        }
        while missing := wanted - _link_local_ready():
            if time.monotonic() > deadline:
                raise LinkError("bring up", f"{name} {min(missing)}", None, "it has no carrier")
            time.sleep(0.0005)


def _link_local_ready() -> set[str]:
    """Interfaces of the calling thread's namespace with a settled link-local address."""
    ready = set()
    with open("/proc/thread-self/net/if_inet6") as table:
        for line in table:
            address, _, _, _, flags, name = line.split()
            if address.startswith("fe80") and not int(flags, 16) & IFA_F_TENTATIVE:
                ready.add(name)
    return ready
