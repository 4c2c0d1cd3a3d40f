"""What routers and this host say about probes that do not arrive, in the words of iputils.

h1 ---- r1 ---- r2 ---- h2        the middle link takes 1400 bytes
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from rawproto import lab
from tests.live.pinging import PROCESS, Wire, say, set_sysctl

H2, H2_V6 = "10.99.3.2", "fd99:3::2"
R1, R1_V6 = "10.99.1.2", "fd99:1::2"
R2, R2_V6 = "10.99.2.2", "fd99:2::2"
NARROW = 1400


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    chain = lab.chain(3)
    links = [
        replace(link, mtu=NARROW if number == 2 else None)
        for number, link in enumerate(chain.links, 1)
    ]
    with lab.up(replace(chain, links=tuple(links))) as network:
        # Give up on neighbours that do not answer after one question, in 10 ms and not 3 s.
        for family in ("ipv4", "ipv6"):
            set_sysctl(network.host("r2"), f"{family}/neigh/eth1/mcast_solicit", "1")
            set_sysctl(network.host("r2"), f"{family}/neigh/eth1/retrans_time_ms", "10")
        # h2 need not learn the way's MTU by losing an answer.
        way = "-6 route add fd99:1::/64 via fd99:3::1 mtu 1400"
        network.host("h2").run(["ip", *way.split()], check=True)
        yield network


@pytest.fixture(scope="module")
def h1(network: lab.Network) -> lab.LiveHost:
    return network.host("h1")


@pytest.fixture(autouse=True)
def _forget_path_mtus(network: lab.Network) -> None:
    for name in ("h1", "h2"):
        for family in ("-4", "-6"):
            network.host(name).run(["ip", family, "route", "flush", "cache"], check=True)


@contextmanager
def filtering(host: lab.LiveHost, hook: str, rule: str) -> Iterator[None]:
    """One rule of a firewall, for a while."""
    family = "ip6" if "icmpv6" in rule else "ip"
    chain = f"type filter hook {hook} priority 0; {rule}"
    rules = f"table {family} t {{\nchain c {{\n{chain}\n}}\n}}\n"
    host.run(["nft", "-f", "-"], input=rules, check=True)
    try:
        yield
    finally:
        host.run(["nft", "flush", "ruleset"], check=True)


@contextmanager
def refusing(host: lab.LiveHost, *route: str) -> Iterator[None]:
    """A route that refuses, for a while."""
    family = "-6" if any(":" in word for word in route) else "-4"
    host.run(["ip", family, "route", "add", *route], check=True)
    try:
        yield
    finally:
        host.run(["ip", family, "route", "del", *route], check=True)


@pytest.mark.parametrize(
    ("host", "ttl", "router", "words"),
    [
        (H2, 1, R1, "Time to live exceeded"),
        (H2, 2, R2, "Time to live exceeded"),
        (H2_V6, 1, R1_V6, "Time exceeded: Hop limit"),
        (H2_V6, 2, R2_V6, "Time exceeded: Hop limit"),
    ],
)
def test_expiry_on_the_way_is_told_by_the_router(
    host: str, ttl: int, router: str, words: str, h1: lab.LiveHost
) -> None:
    said = say(h1, "-n", f"-t{ttl}", "-c2", "-i0.01", host)
    assert said.code == 1
    assert said.lines[1:3] == [f"From {router} icmp_seq={number} {words}" for number in (1, 2)]
    assert "2 packets transmitted, 0 received, +2 errors, 100% packet loss" in said.out
    (error, _) = say(h1, "--json", f"-t{ttl}", "-c1", host).records()
    numbers = (3, 0) if ":" in host else (11, 0)
    assert (error["src_addr"], error["icmp_type"], error["code"]) == (router, *numbers)


@pytest.mark.parametrize(
    ("host", "router", "words"),
    [
        ("10.99.3.77", R2, "Destination Host Unreachable"),
        ("fd99:3::77", R2_V6, "Destination unreachable: Address unreachable"),
        ("192.0.2.1", R1, "Destination Net Unreachable"),
        ("2001:db8::1", R1_V6, "Destination unreachable: No route"),
    ],
)
def test_a_router_that_knows_no_way_says_so(
    host: str, router: str, words: str, h1: lab.LiveHost
) -> None:
    said = say(h1, "-n", "-c1", host)
    assert (said.code, said.lines[1]) == (1, f"From {router} icmp_seq=1 {words}")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("reject with icmp type net-unreachable", "Destination Net Unreachable"),
        ("reject with icmp type host-unreachable", "Destination Host Unreachable"),
        ("reject with icmp type prot-unreachable", "Destination Protocol Unreachable"),
        ("reject with icmp type port-unreachable", "Destination Port Unreachable"),
        ("reject with icmp type net-prohibited", "Destination Net Prohibited"),
        ("reject with icmp type host-prohibited", "Destination Host Prohibited"),
        ("reject with icmp type admin-prohibited", "Packet filtered"),
        (
            "reject with icmpv6 type admin-prohibited",
            "Destination unreachable: Administratively prohibited",
        ),
        ("reject with icmpv6 type no-route", "Destination unreachable: No route"),
        (
            "reject with icmpv6 type addr-unreachable",
            "Destination unreachable: Address unreachable",
        ),
        ("reject with icmpv6 type port-unreachable", "Destination unreachable: Port unreachable"),
    ],
)
def test_a_firewall_that_rejects_is_quoted_as_iputils_quotes_it(
    verdict: str, words: str, network: lab.Network, h1: lab.LiveHost
) -> None:
    host, router = (H2_V6, R1_V6) if "icmpv6" in verdict else (H2, R1)
    with filtering(network.host("r1"), "forward", verdict):
        said = say(h1, "-n", "-c1", host)
        theirs = h1.run(["ping", "-n", "-c1", host], timeout=20)
    assert said.lines[1] == f"From {router} icmp_seq=1 {words}"
    assert theirs.stdout.splitlines()[1] == said.lines[1]
    assert theirs.returncode == said.code == 1


def test_an_error_counts_for_its_own_target_alone(h1: lab.LiveHost) -> None:
    said = say(h1, "--json", "-c2", "-i0.01", "-W5", "192.0.2.1", H2, "2001:db8::1", H2_V6)
    counts = [(one["target"], one["received"], one["errors"]) for one in said.records("summary")]
    assert counts == [("192.0.2.1", 0, 2), (H2, 2, 0), ("2001:db8::1", 0, 2), (H2_V6, 2, 0)]


def test_a_name_stands_before_the_address_of_who_complains(h1: lab.LiveHost) -> None:
    done = h1.run([*PROCESS, "-c1", "-t1", "h2"], timeout=20)
    assert done.stdout.splitlines()[1] == f"From r1 ({R1_V6}) icmp_seq=1 Time exceeded: Hop limit"


# --- path MTU -----------------------------------------------------------------------------------

SIZE = 1420
"""Fits the first link in either family, not the second."""
TOO_BIG = {
    H2: f"From {R1} icmp_seq=1 Frag needed and DF set (mtu = {NARROW})",
    H2_V6: f"From {R1_V6} icmp_seq=1 Packet too big: mtu={NARROW}",
}
BOTH = pytest.mark.parametrize("host", [H2, H2_V6], ids=["IPv4", "IPv6"])


@BOTH
def test_do_learns_the_path_mtu_and_then_refuses_here(host: str, h1: lab.LiveHost) -> None:
    said = say(h1, "-n", "-M", "do", f"-s{SIZE}", "-c2", "-i0.3", host)
    assert said.lines[1:3] == [
        TOO_BIG[host],
        f"rawproto ping: {host}: icmp_seq=2 local error: message too long, mtu={NARROW}",
    ]
    assert "2 packets transmitted, 0 received, +2 errors, 100% packet loss" in said.out


@BOTH
def test_want_learns_the_path_mtu_and_then_cuts_here(
    host: str, network: lab.Network, h1: lab.LiveHost
) -> None:
    with Wire(network.host("r1"), "eth0") as wire:
        said = say(h1, "-n", f"-s{SIZE}", "-c2", "-i0.3", "-W5", host)
        packets = wire.packets(3)
    assert said.code == 0
    assert said.lines[1] == TOO_BIG[host]
    assert "2 packets transmitted, 1 received, +1 errors, 50% packet loss" in said.out
    whole, *fragments = packets
    assert len(whole) == SIZE + (48 if IPv6 in whole else 28)
    assert [len(each) <= NARROW for each in fragments] == [True] * 2
    if IP in whole:
        assert [str(each.flags) for each in packets] == ["DF", "MF", ""]


def test_dont_leaves_the_cutting_to_the_router(network: lab.Network, h1: lab.LiveHost) -> None:
    with Wire(network.host("r1"), "eth0") as ours, Wire(network.host("r2"), "eth0") as theirs:
        said = say(h1, "-n", "-M", "dont", f"-s{SIZE}", "-c2", "-i0.01", "-W5", H2)
        left, arrived = ours.packets(2), theirs.packets(4)
    assert (said.code, said.out.count(f"{SIZE + 8} bytes from {H2}")) == (0, 2)
    assert [(str(each.flags), len(each)) for each in left] == [("", SIZE + 28)] * 2
    assert [str(each.flags) for each in arrived] == ["MF", "", "MF", ""]


@BOTH
def test_probe_asks_the_path_each_time_whatever_this_host_has_learned(
    host: str, h1: lab.LiveHost
) -> None:
    said = say(h1, "-n", "-M", "probe", f"-s{SIZE}", "-c3", "-i0.01", host)
    words = TOO_BIG[host].partition("icmp_seq=1 ")
    assert said.lines[1:4] == [f"{words[0]}icmp_seq={number} {words[2]}" for number in (1, 2, 3)]


def test_fragments_are_not_refused_by_what_the_first_of_them_has_taught(h1: lab.LiveHost) -> None:
    said = say(h1, "-n", "-s4000", "-c2", "-i0.3", "-W5", H2_V6)
    assert said.lines[1] == TOO_BIG[H2_V6]
    assert said.lines[2].startswith(f"4008 bytes from {H2_V6}: icmp_seq=2 ")


@BOTH
@pytest.mark.parametrize("how", ["do", "probe"])
def test_more_than_the_interface_takes_and_not_to_be_cut_is_one_line(
    how: str, host: str, h1: lab.LiveHost
) -> None:
    said = say(h1, "-M", how, "-s1473", "-c1", host)
    size = 1473 + (48 if ":" in host else 28)
    assert (said.code, said.out) == (2, "")
    assert said.error == (
        f"rawproto ping: send to {host}: a packet of {size} bytes"
        " is above the MTU of 1500 and must not be cut\n"
    )


# --- this host ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "words"),
    [
        (("prohibit", "10.99.3.0/24"), "Permission denied"),
        (("unreachable", "10.99.3.0/24"), "No route to host"),
        (("blackhole", "10.99.3.0/24"), "Invalid argument"),
        (("prohibit", "fd99:3::/64"), "Permission denied"),
        (("unreachable", "fd99:3::/64"), "No route to host"),
    ],
)
def test_a_route_of_this_host_that_refuses_is_one_line(
    route: tuple[str, str], words: str, h1: lab.LiveHost
) -> None:
    host = H2_V6 if ":" in route[1] else H2
    with refusing(h1, *route, "metric", "1"):
        said = say(h1, "-c1", host)
    assert (said.code, said.out) == (2, "")
    assert said.error == f"rawproto ping: route to {host}: {words}\n"


@BOTH
def test_a_firewall_of_this_host_is_a_local_error_for_each_probe(
    host: str, h1: lab.LiveHost
) -> None:
    kind = "icmpv6" if ":" in host else "icmp"
    with filtering(h1, "output", f"{kind} type echo-request drop"):
        said = say(h1, "-c2", "-i0.01", host)
    assert said.code == 1
    assert said.lines[2] == (
        f"rawproto ping: {host}: icmp_seq=2 local error: "
        "Operation not permitted (a firewall rule of this host?)"
    )
    assert "2 packets transmitted, 0 received, +2 errors, 100% packet loss" in said.out


def test_mark_is_seen_by_rules_and_by_firewalls(h1: lab.LiveHost) -> None:
    with refusing(h1, "prohibit", "10.99.3.0/24", "table", "77"):
        h1.run(["ip", "rule", "add", "fwmark", "7", "table", "77"], check=True)
        refused = say(h1, "-m", "7", "-c1", H2)
        assert (refused.code, refused.error.count("Permission denied")) == (2, 1)
        assert say(h1, "-m", "8", "-c1", H2).code == 0
        h1.run(["ip", "rule", "del", "fwmark", "7", "table", "77"], check=True)
    with filtering(h1, "output", "meta l4proto icmp meta mark 9 drop"):
        assert "local error: Operation not permitted" in say(h1, "-m", "9", "-c1", H2).out
        assert say(h1, "-m", "8", "-c1", H2).code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("-I eth9 10.99.1.2", "interface eth9: No such device"),
        ("-I 10.99.9.9 10.99.1.2", "send from 10.99.9.9: Cannot assign requested address"),
        ("-I fd99:9::9 fd99:1::2", "send from fd99:9::9: Cannot assign requested address"),
        ("-I fe80::1 fd99:1::2", "route to fe80::1: needs an interface"),
        ("-I 10.99.1.1 fd99:1::2", "10.99.1.1 and fd99:1::2 are of different families"),
        ("fe80::1", "route to fe80::1: needs an interface, as in fe80::1%eth0"),
        ("-I lo fe80::1%eth0", "fe80::1%eth0 is not on interface lo"),
        ("-4 fd99:1::2", "fd99:1::2: Address family for hostname not supported"),
        ("-6 10.99.1.2", "10.99.1.2: Address family for hostname not supported"),
        ("-R fd99:1::2", "record route and timestamp are options of IPv4 alone"),
        ("-F 1 10.99.1.2", "a flow label is a field of IPv6 alone"),
        ("-i 0.00005 10.99.1.2", "interval 0.05 ms: must be at least 0.1 ms"),
        ("--pcap /proc/none/a.pcap 10.99.1.2", "/proc/none/a.pcap: No such file or directory"),
        ("--pcap a.txt 10.99.1.2", "a.txt: name it .pcap or .pcapng"),
        # What is wrong with all is told once.
        ("-I eth9 10.99.1.2 fd99:1::2", "interface eth9: No such device"),
    ],
)
def test_bad_input_is_one_line(words: str, told: str, h1: lab.LiveHost) -> None:
    said = say(h1, "-c1", *words.split())
    assert (said.code, said.out, said.error.count("\n")) == (2, "", 1)
    assert said.error.startswith(f"rawproto ping: {told}")


def test_a_target_that_cannot_be_pinged_stops_no_other(h1: lab.LiveHost) -> None:
    said = say(h1, "-n", "-c1", "fe80::1", R1, "10.99.1.255", R1_V6)
    assert said.code == 2
    assert said.error.splitlines() == [
        "rawproto ping: route to fe80::1: needs an interface, as in fe80::1%eth0",
        "rawproto ping: 10.99.1.255 is a broadcast address: -b says that this is meant",
    ]
    assert [line for line in said.lines if line.startswith("PING ")] == [
        f"PING {R1} ({R1}) 56(84) bytes of data.",
        f"PING {R1_V6} ({R1_V6}) 56 data bytes",
    ]
    assert said.out.count("1 packets transmitted, 1 received, 0% packet loss") == 2


def test_json_has_a_record_of_a_target_that_cannot_be_pinged(h1: lab.LiveHost) -> None:
    said = say(h1, "--json", "-c1", "fe80::1", R1)
    assert (said.code, said.error.count("\n")) == (2, 1)
    assert [record["type"] for record in said.records()] == ["error", "reply", "summary"]
    (error,) = said.records("error")
    assert error["target"] == "fe80::1"
    assert error["message"] == "route to fe80::1: needs an interface, as in fe80::1%eth0"
    assert {error[name] for name in ("src_addr", "sequence_number", "icmp_type", "code")} == {None}


def test_where_no_target_can_be_pinged_each_is_told_in_one_line(h1: lab.LiveHost) -> None:
    said = say(h1, "--json", "-c1", "fe80::1", "10.99.1.255")
    assert (said.code, said.out, said.error.count("\n")) == (2, "", 2)
