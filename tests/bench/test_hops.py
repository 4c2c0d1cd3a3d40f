"""What the bench of traceroute reads in the tools' tables."""

from __future__ import annotations

from tests.bench.hops import mistakes, read_mtr, read_nmap, read_traceroute

PATH = [("10.99.1.2",), (), ("10.99.3.2", "10.99.3.6")]


def test_table_of_traceroute_is_read_hop_by_hop() -> None:
    lines = [
        "traceroute to h2 (10.99.3.2), 30 hops max, 60 byte packets",
        " 1  10.99.1.2  0.048 ms  0.009 ms  0.008 ms",
        " 2  * * *",
        " 3  10.99.3.2  0.032 ms 10.99.3.6  0.012 ms !H *",
    ]
    assert read_traceroute(lines) == PATH
    assert read_traceroute(["12  fd99:12::2  0.097 ms [rate limited]"])[11] == ("fd99:12::2",)


def test_time_that_looks_like_an_address_is_none() -> None:
    assert read_traceroute([" 1  10.99.1.2  10.990 ms <MPLS:L=100,E=0,S=1,T=1>"]) == PATH[:1]


def test_report_of_mtr_is_read_hop_by_hop() -> None:
    lines = [
        "Start: 2026-11-21T05:13:30+0000",
        "HOST: h1                          Loss%   Snt   Last   Avg  Best  Wrst StDev",
        "  1.|-- 10.99.1.2                  0.0%     3    0.1   0.1   0.1   0.1   0.0",
        "  2.|-- ???                       100.0     3    0.0   0.0   0.0   0.0   0.0",
        " 10.|-- fd99:10::2                 0.0%     3    0.1   0.2   0.1   0.2   0.0",
    ]
    assert read_mtr(lines) == [("10.99.1.2",), *[()] * 8, ("fd99:10::2",)]


def test_table_of_nmap_is_read_hop_by_hop() -> None:
    lines = [
        "Other addresses for h2 (not scanned): fd99:12::2",
        "TRACEROUTE (using proto 1/icmp)",
        "HOP RTT       ADDRESS",
        "1   0.01 ms   10.99.1.2",
        "2   ... 4",
        "5   120.46 ms 10.99.5.2",
        "6   ...",
        "7   --        10.99.7.2",
        "Nmap done: 1 IP address (1 host up) scanned in 3.10 seconds",
    ]
    assert read_nmap(lines) == [
        ("10.99.1.2",),
        *[()] * 3,
        ("10.99.5.2",),
        (),
        ("10.99.7.2",),
    ]


def test_every_hop_that_is_not_as_built_is_a_mistake() -> None:
    assert mistakes(PATH, PATH) == 0
    assert mistakes([("10.99.1.3",), ("10.99.2.2",), PATH[2]], PATH) == 2
    assert mistakes(PATH[:1], PATH) == mistakes([*PATH, (), ()], PATH) == 2
