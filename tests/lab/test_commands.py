"""What `ip -batch` is told, and what the hosts' names resolve to."""

from __future__ import annotations

import os

import pytest

from rawproto.errors import PrivilegeError, UsageError
from rawproto.lab import namespaces, network
from rawproto.lab.commands import host_commands, hosts_file, link_commands
from rawproto.lab.topology import Host, LinkSpec, Topology, chain, diamond, pair


def test_each_end_of_a_link_is_made_on_its_host_with_a_mac_address_that_tells_where() -> None:
    commands = list(link_commands(chain(12)))
    assert len(commands) == 12
    assert commands[11] == (
        "link add name eth1 netns r11 address 02:00:00:00:0c:01"
        " type veth peer name eth0 netns h2 address 02:00:00:00:0c:02"
    )


def test_mtu_is_set_at_both_ends() -> None:
    hosts = (Host(name="h1"), Host(name="h2"))
    links = (LinkSpec(ends=("h1", "h2"), ipv4=None, ipv6=None, mtu=9000),)
    (command,) = link_commands(Topology(name="lab", hosts=hosts, links=links))
    assert command.count(" mtu 9000") == 2


def test_host_is_told_its_addresses_and_routes() -> None:
    assert host_commands(chain(2))["h1"] == [
        "link set lo up",
        "link set eth0 up",
        "addr add 10.99.1.1/24 dev eth0",
        "addr add fd99:1::1/64 dev eth0 nodad",
        "route add 0.0.0.0/0 via 10.99.1.2",
        "route add ::/0 via fd99:1::2",
    ]


def test_several_gateways_become_next_hops() -> None:
    commands = host_commands(diamond(2))["r1"]
    assert "route add 10.99.6.0/24 nexthop via 10.99.2.2 nexthop via 10.99.4.2" in commands


def test_every_address_has_its_hosts_name() -> None:
    assert hosts_file(pair()).splitlines() == [
        "10.99.1.1\th1",
        "fd99:1::1\th1",
        "10.99.1.2\th2",
        "fd99:1::2\th2",
    ]


def test_machine_without_ip_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="no `ip` on this machine: apt install iproute2"):
        network.up(pair())


def test_kernel_that_refuses_namespaces_is_worded_with_what_would_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(flags: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(namespaces.syscalls, "unshare", refuse)
    monkeypatch.setattr(namespaces, "is_privileged", lambda: False)
    with pytest.raises(PrivilegeError, match=r"needs CAP_SYS_ADMIN.*; run as root, or allow user"):
        namespaces.become_root()
    with pytest.raises(PrivilegeError, match=r"; run as root, or call become_root\(\) before"):
        namespaces.Keeper.start(["h1"], "")


def test_what_a_thread_raises_reaches_its_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        namespaces.in_thread(lambda: 1 // 0)
    assert namespaces.in_thread(lambda: 3) == 3
