"""The routing tables of misbehaving routers, and what the kernel is told about them."""

from __future__ import annotations

import pytest

from rawproto.errors import UsageError
from rawproto.lab.routers import plan_routers, router_config
from rawproto.lab.routes import routes_of
from rawproto.lab.rules import ip_commands, nft_rules, settings
from rawproto.lab.tables import TableEntry, table_of
from rawproto.lab.topology import LinkSpec, Route, Router, Topology, chain, diamond, star


def table(topology: Topology, name: str) -> tuple[TableEntry, ...]:
    return table_of(topology, routes_of(topology), router(topology, name))


def router(topology: Topology, name: str) -> Router:
    found = topology.host(name)
    assert isinstance(found, Router)
    return found


def ways(topology: Topology, name: str) -> dict[str, tuple[str, ...]]:
    return {entry.destination: entry.gateways for entry in table(topology, name)}


def rules(topology: Topology, name: str) -> list[str]:
    text = nft_rules(router(topology, name), table(topology, name))
    return [line.strip() for line in text.splitlines()]


def commands(topology: Topology, name: str, version: int) -> list[str]:
    return ip_commands(router(topology, name), table(topology, name))[version]


# --- routing tables -------------------------------------------------------------------------------


def test_table_of_a_proper_router_holds_its_links_and_the_computed_routes() -> None:
    assert ways(chain(3), "r1") == {
        "10.99.1.0/24": (),
        "fd99:1::/64": (),
        "10.99.2.0/24": (),
        "fd99:2::/64": (),
        "10.99.3.0/24": ("10.99.2.2",),
        "fd99:3::/64": ("fd99:2::2",),
    }


def test_loop_sends_back_what_lies_beyond_and_leaves_the_way_home_alone() -> None:
    found = ways(chain(5).misbehaving("r3:loop"), "r3")
    assert found["10.99.1.0/24"] == found["10.99.2.0/24"] == ("10.99.3.1",)
    assert found["10.99.5.0/24"] == ("10.99.3.1",)
    assert found["fd99:5::/64"] == ("fd99:3::1",)
    # Its neighbour beyond is on its own link, and has to be sent back by name.
    assert found["10.99.4.2/32"] == ("10.99.3.1",)
    assert found["fd99:4::2/128"] == ("fd99:3::1",)
    assert "10.99.3.1/32" not in found


def test_loop_in_a_diamond_goes_back_over_all_equal_paths() -> None:
    found = ways(diamond(2).misbehaving("r2:loop"), "r2")
    back = ("10.99.3.1", "10.99.5.1")
    assert found["10.99.1.0/24"] == found["10.99.6.2/32"] == back


@pytest.mark.parametrize("topology", [chain(3), star(3)], ids=lambda topology: topology.name)
def test_router_with_only_hosts_before_it_has_nowhere_to_loop_to(topology: Topology) -> None:
    with pytest.raises(UsageError) as refused:
        plan_routers(topology.misbehaving("r1:loop"))
    assert str(refused.value) == "r1: loop: no router before it, on the way from h1"


def test_nat_needs_another_side() -> None:
    link = LinkSpec(ends=("h1", "r1"), ipv4="10.99.1.0/24", ipv6=None)
    lonely = Topology(name="x", hosts=(*chain(1).hosts, Router(name="r1")), links=(link,))
    with pytest.raises(UsageError, match="r1: nat: it has no other side"):
        plan_routers(lonely.misbehaving("r1:nat"))


def test_missing_nft_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rawproto.lab.routers.find_program", lambda name: None)
    with pytest.raises(UsageError, match="no `nft` on this machine: apt install nftables"):
        plan_routers(chain(3).misbehaving("r1:silent"))
    assert plan_routers(chain(3).misbehaving("r1:mtu=1400", "r2:userspace")).nft == ""


def test_proper_lab_needs_no_plan() -> None:
    plan = plan_routers(chain(3))
    assert (plan.routers, plan.userspace, plan.nft) == ([], [], "")


# --- what the kernel is told ----------------------------------------------------------------------


def test_errors_are_dropped_limited_and_rewritten_in_this_order() -> None:
    spec = "r1:silent,icmp-rate=30/m,answer-from=fd99:9::9/10.99.9.9,drop-ptb"
    lines = rules(chain(3).misbehaving(spec), "r1")
    start = lines.index("chain errors {")
    assert lines[start + 1 : lines.index("}", start)] == [
        "drop",
        "icmp type destination-unreachable icmp code frag-needed drop",
        "icmpv6 type packet-too-big drop",
        "limit rate over 30/minute burst 1 packets drop",
        "ip6 saddr set fd99:9::9",
        "ip saddr set 10.99.9.9",
    ]
    assert "type filter hook output priority filter; policy accept;" in lines


def test_packets_and_their_errors_that_pass_are_left_to_other_chains() -> None:
    lines = rules(chain(3).misbehaving("r1:drop-ptb,nat"), "r1")
    forward = lines.index("chain forward {")
    assert "icmpv6 type packet-too-big drop" in lines[forward:]
    assert 'iifname "eth0" oifname != "eth0" masquerade' in lines


def test_our_own_router_leaves_the_kernel_only_what_leaves_by_it() -> None:
    topology = chain(3).misbehaving("r1:userspace,nat,balance=packet,drop-ptb,mtu=1200,silent")
    lines = rules(topology, "r1")
    assert [line.split()[1] for line in lines if line.startswith("chain")] == [
        "errors",
        "output",
        "input",
    ]
    assert 'iifname != { "eth0", "lo" } meta l4proto { tcp, udp } drop' in lines
    assert commands(topology, "r1", 4) == commands(topology, "r1", 6) == []
    assert settings(topology, router(topology, "r1")) == {
        "ipv4/ip_forward": "0",
        "ipv6/conf/all/forwarding": "0",
    }


def test_balance_gives_each_way_a_table_with_one_gateway() -> None:
    topology = diamond(3).misbehaving("r1:balance=packet")
    assert "meta mark set numgen inc mod 3 offset 1" in rules(topology, "r1")
    lines = commands(topology, "r1", 4)
    assert [line for line in lines if line.startswith("rule")] == [
        f"rule add fwmark {way} table {1000 + way}" for way in (1, 2, 3)
    ]
    for way, middle in ((1, 4), (2, 6), (3, 2)):
        assert f"route replace 10.99.8.0/24 via 10.99.{middle}.2 table {1000 + way}" in lines
        own = f"dev eth{way} proto kernel scope link src 10.99.{2 * way}.1"
        # Each table is whole: a longer prefix must win in it as in the main one.
        assert f"route replace 10.99.{2 * way}.0/24 {own} table 1001" in lines
    assert "route replace fd99:8::/64 via fd99:4::2 table 1001" in commands(topology, "r1", 6)


def test_ways_are_so_many_that_every_gateway_is_on_equally_many() -> None:
    plain = diamond(3)
    two = ("10.99.2.2", "10.99.4.2")
    route = Route(host="r1", destination="203.0.113.0/24", gateways=two)
    mixed = Topology(name="mixed", hosts=plain.hosts, links=plain.links, routes=(route,))
    topology = mixed.misbehaving("r1:balance=packet")
    assert "meta mark set numgen inc mod 6 offset 1" in rules(topology, "r1")
    lines = commands(topology, "r1", 4)
    for gateway in two:
        words = f"route replace 203.0.113.0/24 via {gateway} table"
        assert len([line for line in lines if line.startswith(words)]) == 3


def test_only_what_has_several_ways_takes_a_turn_and_the_longest_prefix_decides() -> None:
    plain = diamond(2)
    gateways = ("10.99.2.2", "10.99.4.2")
    routes = (
        Route(host="r1", destination="203.0.113.0/24", gateways=gateways[:1]),
        Route(host="r1", destination="203.0.0.0/16", gateways=gateways),
    )
    mixed = Topology(name="mixed", hosts=plain.hosts, links=plain.links, routes=routes)
    lines = rules(mixed.misbehaving("r1:balance=packet"), "r1")
    assert "ip daddr 10.99.1.0/24 accept" in lines
    assert "ip6 daddr fd99:1::/64 accept" in lines
    assert "ip6 daddr fd99:6::/64 goto turns" in lines
    one, several = "ip daddr 203.0.113.0/24 accept", "ip daddr 203.0.0.0/16 goto turns"
    assert lines.index("chain turns {") < lines.index(one) < lines.index(several)


def test_balance_by_flow_looks_at_the_first_four_bytes_behind_the_header() -> None:
    lines = rules(diamond(2).misbehaving("r1:balance=flow"), "r1")
    assert [line for line in lines if "jhash" in line] == [
        "meta mark set jhash ip saddr . ip daddr . @th,0,32 mod 2 seed 0x1 offset 1",
        (
            "meta mark set jhash ip6 saddr . ip6 daddr . ip6 flowlabel . @th,0,32"
            " mod 2 seed 0x1 offset 1"
        ),
    ]


def test_balance_without_equal_paths_is_nothing() -> None:
    topology = chain(4).misbehaving("r1:balance=packet")
    assert rules(topology, "r1") == []
    assert commands(topology, "r1", 4) == []


def test_mtu_is_one_of_routes_for_ipv4_and_of_interfaces_for_ipv6() -> None:
    topology = chain(3).changed("2:mtu=1300").misbehaving("r1:mtu=1400")
    assert commands(topology, "r1", 4) == [
        "route replace 10.99.1.0/24 dev eth0 proto kernel scope link src 10.99.1.2 mtu 1400",
        "route replace 10.99.2.0/24 dev eth1 proto kernel scope link src 10.99.2.1 mtu 1400",
        "route replace 10.99.3.0/24 via 10.99.2.2 mtu 1400",
    ]
    # No more than the link takes, and no less than IPv6 wants.
    assert settings(topology, router(topology, "r1")) == {
        "ipv6/conf/eth0/mtu": "1400",
        "ipv6/conf/eth1/mtu": "1300",
    }
    small = chain(3).misbehaving("r1:mtu=500")
    assert set(settings(small, router(small, "r1")).values()) == {"1280"}


def test_routes_are_made_to_misbehave_again_without_their_rules() -> None:
    topology = diamond(2).misbehaving("r1:balance=flow")
    again = ip_commands(router(topology, "r1"), table(topology, "r1"), rules=False)
    assert all(line.startswith("route replace") for line in again[4] + again[6])
    assert len(again[4]) == len(commands(topology, "r1", 4)) - 2


def test_frames_of_our_own_router_go_from_its_end_of_a_link_to_the_other() -> None:
    plan = plan_routers(chain(3).misbehaving("r2:userspace"))
    config = router_config(plan.topology, plan.routers[0], plan.tables["r2"])
    assert [port.mac_addresses.hex(":", 6) for port in config.ports] == [
        "020000000201:020000000202",
        "020000000302:020000000301",
    ]
    assert [(port.addresses, port.peers) for port in config.ports] == [
        (("10.99.2.2", "fd99:2::2"), ("10.99.2.1", "fd99:2::1")),
        (("10.99.3.1", "fd99:3::1"), ("10.99.3.2", "fd99:3::2")),
    ]
