"""Ways and neighbours as the kernel decides them, in namespaces with tricky tables."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator

import pytest

from rawproto.errors import LinkError, UsageError
from rawproto.link.interfaces import interface, interface_index, interface_mtu, interfaces
from rawproto.link.routes import lookup, resolve_neighbor
from tests.live.namespaces import Namespace, namespace_pair

A, B = "10.98.0.1", "10.98.0.2"

Hosts = tuple[Namespace, Namespace]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with namespace_pair() as (here, there):
        here.ip(
            "link add rplk-c type veth peer name rplk-d",
            "link set rplk-c mtu 1400 up",
            "link set rplk-d up",
            "addr add 10.96.0.1/24 dev rplk-c",
            "addr add fd96::1/64 dev rplk-c nodad",
            # Several tables, rules by mark, by source and by DSCP.
            f"route add 10.58.0.0/16 via {B}",
            "route add 10.58.0.0/16 via 10.96.0.77 table 100",
            "rule add fwmark 7 table 100",
            f"route add default via {B} table 4242",
            "rule add from 10.96.0.1 table 4242",
            "route add default via 10.96.0.88 table 101",
            "rule add dsfield 0x10 table 101",
            # Multipath; through a gateway of the other family; a locked MTU; refusals.
            f"route add 10.59.0.0/16 nexthop via {B} nexthop via 10.96.0.2",
            "route add 10.60.0.0/16 via inet6 fd98::2",
            f"route add 10.61.0.0/16 via {B} mtu 1300",
            "route add fd61::/64 via fd98::2 mtu 1290",
            "route add unreachable 10.55.0.0/16",
            "route add blackhole 10.56.0.0/16",
            "route add prohibit 10.57.0.0/16",
            "route add unreachable fd55::/64",
            "route add prohibit fd57::/64",
            # A default that is nothing but a device.
            "route add default dev rplk-c",
            "route add fd60::/64 dev rplk-c",
        )
        yield here, there


@pytest.fixture(autouse=True)
def inside(hosts: Hosts) -> Iterator[None]:
    with hosts[0].entered():
        yield


def way(dst_addr: str, **told) -> tuple[str, str, str | None]:
    """(interface, source, gateway)."""
    route = lookup(dst_addr, **told)
    assert route.dst_addr == dst_addr.partition("%")[0]
    assert route.interface_index == interface_index(route.interface)
    return route.interface, route.src_addr, route.gateway


def test_neighbour_on_the_cable_needs_no_gateway() -> None:
    assert way(B) == ("rplk-a", A, None)
    assert way("fd98::2") == ("rplk-a", "fd98::1", None)
    assert lookup(B).next_hop == B


def test_routing_tables_are_chosen_by_mark_source_and_dscp() -> None:
    assert way("10.58.1.1") == ("rplk-a", A, B)
    assert way("10.58.1.1", mark=7) == ("rplk-c", "10.96.0.1", "10.96.0.77")
    assert way("10.58.1.1", src_addr="10.96.0.1") == ("rplk-a", "10.96.0.1", B)
    assert way("10.58.1.1", dscp=4) == ("rplk-c", "10.96.0.1", "10.96.0.88")
    tables = [lookup("10.58.1.1", **told).table for told in ({}, {"mark": 7}, {"dscp": 4})]
    assert tables == [254, 100, 101]
    assert lookup("10.58.1.1", src_addr="10.96.0.1").table == 4242


def test_an_interface_overrides_what_the_tables_prefer() -> None:
    assert way(B, interface="rplk-c") == ("rplk-c", "10.96.0.1", None)
    assert way(f"{B}%rplk-c") == ("rplk-c", "10.96.0.1", None)
    assert way("10.58.1.1", interface=interface_index("rplk-a")) == ("rplk-a", A, B)


def test_multipath_gives_one_of_its_paths_with_a_source_that_fits() -> None:
    ways = {way(f"10.59.0.{last}") for last in range(1, 100)}
    assert ways == {("rplk-a", A, B), ("rplk-c", "10.96.0.1", "10.96.0.2")}


def test_default_that_is_only_a_device_leads_to_everybody_on_the_link() -> None:
    assert way("203.0.113.9") == ("rplk-c", "10.96.0.1", None)
    assert way("fd60::9") == ("rplk-c", "fd96::1", None)


def test_gateway_may_be_of_the_other_family() -> None:
    assert way("10.60.0.1") == ("rplk-a", A, "fd98::2")


def test_mtu_is_the_routes_and_the_interfaces_stands_beside_it() -> None:
    assert [(lookup(to).mtu, lookup(to).interface_mtu) for to in (B, "10.61.0.1", "fd61::1")] == [
        (1500, 1500),
        (1300, 1500),
        (1290, 1500),
    ]
    assert lookup("10.96.0.9").mtu == 1400


def test_own_addresses_and_groups_are_known_for_what_they_are() -> None:
    kinds = {
        "127.0.0.1": ("local", "lo"),
        A: ("local", "lo"),
        "::1": ("local", "lo"),
        "fd98::1": ("local", "lo"),
        "10.98.0.255": ("broadcast", "rplk-a"),
        "255.255.255.255": ("broadcast", "rplk-c"),
        "224.0.0.1%rplk-a": ("multicast", "rplk-a"),
        "ff02::1%rplk-a": ("multicast", "rplk-a"),
        B: ("unicast", "rplk-a"),
    }
    found = {to: (lookup(to).kind, lookup(to).interface) for to in kinds}
    assert found == kinds
    assert lookup("127.0.0.1").src_addr == "127.0.0.1"


def test_link_local_goes_by_its_scope_and_never_without() -> None:
    for name in ("rplk-a", "rplk-c"):
        (link_local,) = [
            each.addr
            for one in interfaces()
            if one.name == name
            for each in one.addresses
            if each.scope == "link"
        ]
        assert way(f"fe80::9%{name}") == (name, link_local, None)
        assert way("fe80::9", interface=name) == (name, link_local, None)
        assert way(f"fe80::9%{interface_index(name)}") == (name, link_local, None)
    for bare in ("fe80::9", "ff02::1"):
        with pytest.raises(LinkError, match=f"needs an interface, as in {bare}%eth0"):
            lookup(bare)
    with pytest.raises(UsageError, match="not on interface rplk-a"):
        lookup("fe80::9%rplk-c", interface="rplk-a")


@pytest.mark.parametrize(
    ("dst_addr", "number"),
    [
        ("10.55.0.1", errno.EHOSTUNREACH),
        ("10.56.0.1", errno.EINVAL),
        ("10.57.0.1", errno.EACCES),
        ("fd55::1", errno.EHOSTUNREACH),
        ("fd57::1", errno.EACCES),
        ("2001:db8::1", errno.ENETUNREACH),
        ("fe80::1%nope", errno.ENODEV),
    ],
)
def test_no_way_keeps_the_kernels_errno(dst_addr: str, number: int) -> None:
    with pytest.raises(LinkError) as refused:
        lookup(dst_addr)
    assert refused.value.errno == number
    assert dst_addr.partition("%")[2] or dst_addr in str(refused.value)


def test_source_that_is_not_ours_is_named() -> None:
    for src_addr in ("10.98.0.77", "127.0.0.1"):
        with pytest.raises(LinkError, match=f"is {src_addr} an address of this host's"):
            lookup(B, src_addr=src_addr)


@pytest.mark.parametrize(
    ("dst_addr", "src_addr"),
    [("host", None), ("", None), (B, "fd98::1"), (B, "here"), ("1.2.3", A)],
)
def test_what_is_no_address_is_the_callers_mistake(dst_addr: str, src_addr: str | None) -> None:
    with pytest.raises(UsageError):
        lookup(dst_addr, src_addr=src_addr)


def test_neighbour_is_resolved_and_remembered_by_the_kernel(hosts: Hosts) -> None:
    with hosts[1].entered():
        mac_addr = interface("rplk-b").mac_addr
    for next_hop in (B, "fd98::2"):
        hosts[0].run("ip", "neigh", "flush", "dev", "rplk-a")
        assert resolve_neighbor(next_hop, "rplk-a") == mac_addr
        assert mac_addr in hosts[0].run("ip", "neigh", "show", next_hop)
        assert resolve_neighbor(next_hop, interface_index("rplk-a")) == mac_addr


def test_groups_and_interfaces_that_resolve_nothing_need_no_answer() -> None:
    assert resolve_neighbor("10.98.0.255", "rplk-a") == "ff:ff:ff:ff:ff:ff"
    assert resolve_neighbor("255.255.255.255", "rplk-a") == "ff:ff:ff:ff:ff:ff"
    assert resolve_neighbor("239.129.1.2", "rplk-a") == "01:00:5e:01:01:02"
    assert resolve_neighbor("ff02::1:ff00:9", "rplk-a") == "33:33:ff:00:00:09"
    assert resolve_neighbor("127.0.0.1", "lo") == "00:00:00:00:00:00"


def test_silent_neighbour_is_given_up_in_the_time_given(hosts: Hosts) -> None:
    for next_hop in ("10.98.0.99", "fd98::99"):
        with pytest.raises(LinkError, match=f"resolve {next_hop} on rplk-a") as refused:
            resolve_neighbor(next_hop, "rplk-a", timeout_ns=20_000_000)
        assert refused.value.errno == errno.EHOSTUNREACH


def test_interfaces_are_those_that_ip_shows(hosts: Hosts) -> None:
    shown = json.loads(hosts[0].run("ip", "-j", "address"))
    assert [
        (one.name, one.index, one.mtu, {(each.addr, each.prefix_length) for each in one.addresses})
        for one in interfaces()
    ] == [
        (
            one["ifname"],
            one["ifindex"],
            one["mtu"],
            {(each["local"], each["prefixlen"]) for each in one["addr_info"]},
        )
        for one in sorted(shown, key=lambda one: one["ifindex"])
    ]
    by_name = {one.name: one for one in interfaces()}
    assert {each.scope for each in by_name["lo"].addresses} == {"host"}
    assert {each.scope for each in by_name["rplk-a"].addresses} == {"global", "link"}
    macs = {one["ifname"]: one["address"] for one in shown}
    assert by_name["rplk-a"].mac_addr == macs["rplk-a"]
    assert by_name["lo"].has_ethernet_header


def test_interface_is_found_by_name_and_index() -> None:
    assert interface_mtu("rplk-c") == interface_mtu(interface_index("rplk-c")) == 1400
    for name in ("nope", "", "a-name-far-too-long-for-linux", "é"):
        with pytest.raises(LinkError) as refused:
            interface(name)
        assert refused.value.errno == errno.ENODEV
    with pytest.raises(LinkError, match="No such device"):
        interface(4_000_000)
    with pytest.raises(LinkError):
        interface_index("nope")
