"""traceroute beside the topologies built: chains and diamonds, all methods, both families."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from rawproto import lab
from tests.live.tracing import (
    FAMILIES,
    METHODS,
    chain_path,
    path_of,
    summary_of,
    target,
    traced,
)

WAYS = 4


@pytest.fixture(scope="module")
def chain() -> Iterator[lab.LiveHost]:
    with lab.up(lab.chain(12)) as network:
        yield network.host("h1")


@pytest.fixture(scope="module")
def diamond() -> Iterator[lab.Network]:
    with lab.up(lab.diamond(WAYS)) as network:
        yield network


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_traced_path_is_the_chain_that_was_built(
    method: str, family: int, chain: lab.LiveHost
) -> None:
    began_ns = time.time_ns()
    said = traced(chain, "--method", method, target(family, 12))
    assert path_of(said) == chain_path(family, 12)
    assert all(len(hop["probes"]) == 3 for hop in said.records("hop"))
    told_ns = [each["time_ns"] for kind in ("hop", "summary") for each in said.records(kind)]
    times = [began_ns, *told_ns, time.time_ns()]
    assert times == sorted(times)
    summary = summary_of(said)
    assert (summary["reached"], summary["hops"]) == (True, 12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_a_hop_that_is_the_target_is_the_only_one(
    method: str, family: int, chain: lab.LiveHost
) -> None:
    said = traced(chain, "--method", method, target(family, 1))
    assert path_of(said) == chain_path(family, 1)
    said = traced(chain, "--method", method, "127.0.0.1" if family == 4 else "::1")
    assert (len(path_of(said)), summary_of(said)["reached"]) == (1, True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_one_trace_of_a_diamond_takes_one_of_its_ways(
    method: str, family: int, diamond: lab.Network
) -> None:
    end = diamond.host("h2").ipv4 if family == 4 else diamond.host("h2").ipv6
    said = traced(diamond.host("h1"), "--method", method, "-q", "6", end)
    path = path_of(said)
    assert [len(hop) for hop in path] == [1, 1, 1, 1], "all probes of a hop took one way"
    names = [name_of(diamond, addresses) for addresses in path]
    assert names in [["r1", f"m{way}", "r2", "h2"] for way in range(1, WAYS + 1)]
    (entered,) = path[2]
    assert entered in link_end(diamond, names[1], "r2"), "by the link from the same router"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["udp", "tcp"])
def test_traces_with_other_ports_see_the_other_ways(
    method: str, family: int, diamond: lab.Network
) -> None:
    end = diamond.host("h2").ipv4 if family == 4 else diamond.host("h2").ipv6
    seen = set()
    for port in range(20_000, 20_016):
        words = ("--method", method, "-q1", "-f2", "-m2", "--sport", str(port), end)
        (addresses,) = path_of(traced(diamond.host("h1"), *words))
        seen.add(name_of(diamond, addresses))
    # That 16 flows leave out one of four ways has a chance of 4 * (3/4)**16; two, a small one.
    assert seen <= {f"m{way}" for way in range(1, WAYS + 1)}
    assert len(seen) > 1


def name_of(network: lab.Network, addresses: set[str]) -> str:
    """The host that has all of them."""
    (name,) = [
        host.name
        for host in network.topology.hosts
        if addresses <= set(network.host(host.name).addresses)
    ]
    return name


def link_end(network: lab.Network, one: str, other: str) -> set[str]:
    """The addresses of `other` on its link with `one`."""
    (number,) = [
        number
        for number, link in enumerate(network.topology.links, 1)
        if set(link.ends) == {one, other}
    ]
    return {f"10.99.{number}.2", f"fd99:{number}::2"}
