"""Topologies on paper: what the builders give, and what can't be made."""

from __future__ import annotations

import pytest

from rawproto.errors import UsageError
from rawproto.lab.topology import (
    Host,
    Interface,
    LinkSpec,
    Route,
    Router,
    Topology,
    chain,
    diamond,
    numbered_link,
    pair,
    star,
)


def ends(topology: Topology) -> list[tuple[str, str]]:
    return [link.ends for link in topology.links]


def kinds(topology: Topology) -> dict[str, bool]:
    return {host.name: host.forwards for host in topology.hosts}


def build(*links: LinkSpec, routes: tuple[Route, ...] = ()) -> Topology:
    """A lab of hosts h1, h2 and router r1 with these links."""
    hosts = (Host(name="h1"), Host(name="h2"), Router(name="r1"))
    return Topology(name="lab", hosts=hosts, links=links, routes=routes)


def link(
    first: str = "h1",
    second: str = "r1",
    ipv4: str | None = None,
    ipv6: str | None = None,
    mtu: int | None = None,
) -> LinkSpec:
    return LinkSpec(ends=(first, second), ipv4=ipv4, ipv6=ipv6, mtu=mtu)


def test_pair_is_two_hosts_on_link_1() -> None:
    assert ends(pair()) == [("h1", "h2")]
    assert kinds(pair()) == {"h1": False, "h2": False}
    assert pair().interfaces()["h2"] == (
        Interface(
            host="h2", name="eth0", link=1, peer="h1", ipv4="10.99.1.2/24", ipv6="fd99:1::2/64"
        ),
    )


def test_chain_of_n_hops_has_n_links_and_n_minus_1_routers() -> None:
    assert ends(chain(1)) == [("h1", "h2")]
    assert ends(chain(3)) == [("h1", "r1"), ("r1", "r2"), ("r2", "h2")]
    assert kinds(chain(3)) == {"h1": False, "h2": False, "r1": True, "r2": True}
    assert len(chain(254).links) == 254


def test_link_numbers_are_decimal_in_both_families_and_1_is_nearer_h1() -> None:
    interfaces = chain(12).interfaces()
    assert interfaces["r11"][0].addresses == ("10.99.11.2", "fd99:11::2")
    assert interfaces["r11"][1].addresses == ("10.99.12.1", "fd99:12::1")
    assert [interface.name for interface in interfaces["r11"]] == ["eth0", "eth1"]
    assert [interface.peer for interface in interfaces["r11"]] == ["r10", "h2"]
    assert interfaces["h2"][0].addresses == ("10.99.12.2", "fd99:12::2")


def test_diamond_has_its_routers_side_by_side() -> None:
    assert ends(diamond(2)) == [
        ("h1", "r1"),
        ("r1", "m1"),
        ("m1", "r2"),
        ("r1", "m2"),
        ("m2", "r2"),
        ("r2", "h2"),
    ]
    assert [name for name, forwards in kinds(diamond(2)).items() if forwards] == [
        "r1",
        "r2",
        "m1",
        "m2",
    ]


def test_star_has_a_link_for_each_host() -> None:
    assert ends(star(3)) == [("h1", "r1"), ("h2", "r1"), ("h3", "r1")]
    assert kinds(star(3)) == {"h1": False, "h2": False, "h3": False, "r1": True}


@pytest.mark.parametrize(
    ("build_it", "size", "message"),
    [
        (chain, 0, "chain 0: wants 1 to 254"),
        (chain, 255, "chain 255: wants 1 to 254"),
        (diamond, 0, "diamond 0: wants 1 to 126"),
        (diamond, 127, "diamond 127: wants 1 to 126"),
        (star, 1, "star 1: wants 2 to 254"),
        (star, 255, "star 255: wants 2 to 254"),
    ],
)
def test_size_out_of_range_is_refused(build_it, size: int, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        build_it(size)
    assert str(refused.value) == message


def test_largest_sizes_fit() -> None:
    assert len(diamond(126).links) == 254
    assert len(star(254).links) == 254


def test_small_networks_give_both_ends_an_address() -> None:
    topology = build(link(ipv4="192.0.2.4/31", ipv6="2001:db8::/127"))
    assert topology.interfaces()["h1"][0].ipv4 == "192.0.2.4/31"
    assert topology.interfaces()["r1"][0].ipv4 == "192.0.2.5/31"
    assert topology.interfaces()["h1"][0].addresses == ("192.0.2.4", "2001:db8::")
    assert topology.interfaces()["r1"][0].addresses == ("192.0.2.5", "2001:db8::1")
    wider = build(link(ipv4="192.0.2.4/30"))
    assert wider.interfaces()["r1"][0].addresses == ("192.0.2.6",)


def test_host_without_links_has_no_interfaces() -> None:
    assert build().interfaces() == {"h1": (), "h2": (), "r1": ()}


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([link("h1", "r9")], "links[1].ends: no host 'r9' (there are h1, h2, r1)"),
        ([link("h1", "h1")], "links[1].ends: 'h1' is linked to itself"),
        ([link(ipv4="10.0.0.0/33")], "links[1].ipv4: '10.0.0.0/33' does not appear to be"),
        ([link(ipv4="10.0.0.1/24")], "links[1].ipv4: 10.0.0.1/24 has host bits set"),
        ([link(ipv4="fd00::/64")], "links[1].ipv4: fd00::/64 is not an IPv4 network"),
        ([link(ipv6="10.0.0.0/24")], "links[1].ipv6: 10.0.0.0/24 is not an IPv6 network"),
        ([link(ipv4="10.0.0.0/32")], "links[1].ipv4: 10.0.0.0/32 has no room for two hosts"),
        ([link(mtu=67)], "links[1].mtu: 67 is not 68 to 65535"),
        ([link(ipv6="fd00::/64", mtu=1279)], "links[1].mtu: 1279 is not 1280 to 65535"),
        ([link(mtu=65536)], "links[1].mtu: 65536 is not 68 to 65535"),
        (
            [link(ipv4="10.0.0.0/8"), link(ipv6="fd00::/64"), link(ipv4="10.9.0.0/24")],
            "links[3]: 10.9.0.0/24 overlaps link 1",
        ),
    ],
)
def test_link_that_contradicts_itself_is_named(links: list[LinkSpec], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        build(*links)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (Route(host="x", destination="10.0.0.0/8", gateways=("10.99.1.2",)), "host: no host 'x'"),
        (Route(host="h1", destination="10.0.0.0/8", gateways=()), "via: no gateway"),
        (Route(host="h1", destination="ten", gateways=("10.99.1.2",)), "to: 'ten' does not"),
        (Route(host="h1", destination="::/0", gateways=("here",)), "via: 'here' does not"),
        (
            Route(host="h1", destination="::/0", gateways=("10.99.1.2",)),
            "via: 10.99.1.2 is not of ::/0's family",
        ),
    ],
)
def test_route_that_contradicts_itself_is_named(route: Route, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        build(link(), routes=(route,))
    assert str(refused.value).startswith(f"routes[1].{message}")


@pytest.mark.parametrize("name", ["", "a b", "../x", "-h", "x" * 32, "h\n1", "ü"])
def test_name_that_would_not_do_as_a_file_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not letters, digits"):
        Topology(name="lab", hosts=(Host(name=name),), links=())
    with pytest.raises(UsageError, match=r"^name: "):
        Topology(name=name, hosts=(Host(name="h1"),), links=())


def test_hosts_must_be_there_once() -> None:
    with pytest.raises(UsageError, match="at least one"):
        Topology(name="lab", hosts=(), links=())
    with pytest.raises(UsageError, match="'h1' is there twice"):
        Topology(name="lab", hosts=(Host(name="h1"), Router(name="h1")), links=())


def test_unknown_host_is_answered_with_the_known_ones() -> None:
    assert chain(2).host("r1") == Router(name="r1")
    with pytest.raises(UsageError) as refused:
        chain(2).host("r2")
    assert str(refused.value) == "no host 'r2' in lab chain-2 (there are h1, h2, r1)"


def test_link_numbers_end_where_the_address_plan_ends() -> None:
    assert numbered_link(254, "a", "b").networks == ("10.99.254.0/24", "fd99:254::/64")
    for number in (0, 255):
        with pytest.raises(UsageError, match=f"link {number}: "):
            numbered_link(number, "a", "b")
