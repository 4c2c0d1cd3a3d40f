"""What traceroute says to what cannot be: one line, exit code 2, and nothing left behind."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rawproto import lab
from rawproto.drivers.traceroute import traceroute
from rawproto.errors import LinkError, PrivilegeError, UsageError
from tests.drivers.scripted import descriptors
from tests.live.pinging import Said, say, set_sysctl

H1, H2, H1_V6, H2_V6 = "10.99.1.1", "10.99.2.2", "fd99:1::1", "fd99:2::2"
METHODS = ("icmp", "udp", "tcp")
TIMEOUT_S = 30
TRACEROUTE = [sys.executable, "-m", "rawproto.cli.main", "traceroute"]
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
"""Root in name alone; works inside a user namespace too, where there is no other user to be."""
REFUSING = {
    "198.51.100.0/24": "unreachable",
    "198.51.101.0/24": "prohibit",
    "fd97::/48": "unreachable",
    "fd97:1::/48": "prohibit",
}
"""Networks to which h1 has a route that refuses."""


@pytest.fixture(scope="module")
def h1() -> Iterator[lab.LiveHost]:
    with lab.up(lab.chain(2)) as network:
        h1 = network.host("h1")
        for prefix, kind in REFUSING.items():
            family = "-6" if ":" in prefix else "-4"
            h1.run(["ip", family, "route", "add", kind, prefix], check=True)
        yield h1


def refused(h1: lab.LiveHost, *words: str) -> str:
    """What is said of a trace that cannot be: one line behind the verb's name."""
    before = descriptors()
    said = say(h1, *words, verb="traceroute")
    assert descriptors() == before
    return told(said)


def told(said: Said) -> str:
    assert (said.code, said.out, said.error.count("\n")) == (2, "", 1), said
    verb, _, line = said.error.partition(": ")
    assert verb == "rawproto traceroute"
    return line.rstrip("\n")


def run(h1: lab.LiveHost, *command: str, **options) -> Said:
    done = h1.run([*command], timeout=TIMEOUT_S, **options)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("dst_addr", "reason"),
    [
        ("198.51.100.1", "No route to host"),
        ("198.51.101.1", "Permission denied"),
        ("fd97::1", "No route to host"),
        ("fd97:1::1", "Permission denied"),
    ],
)
def test_no_route(dst_addr: str, reason: str, method: str, h1: lab.LiveHost) -> None:
    assert refused(h1, "--method", method, dst_addr) == f"route to {dst_addr}: {reason}"


def test_no_route_without_any_network(h1: lab.LiveHost) -> None:
    alone = ["unshare", "--net", *TRACEROUTE]
    assert told(run(h1, *alone, H2)) == f"route to {H2}: Network is unreachable"
    assert told(run(h1, *alone, H2_V6)) == f"route to {H2_V6}: Network is unreachable"


def test_no_such_host(h1: lab.LiveHost) -> None:
    # No name server is to be reached from here, and the resolver shall see that soon.
    environment = {**os.environ, "RES_OPTIONS": "timeout:1 attempts:1"}
    line = told(run(h1, *TRACEROUTE, "nonesuch.invalid", env=environment))
    assert line.startswith("nonesuch.invalid: ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["-f9", "-m5", H2], "first hop 9 is past the last, 5"),
        (["-f31", H2], "first hop 31 is past the last, 30"),
        (["-f0", H2], "first hop 0: must be 1 to 255"),
        (["-m256", H2], "last hop 256: must be 1 to 255"),
        (["-q0", H2], "queries 0: must be 1 to 10"),
        (["-N1001", H2], "window 1001: must be 1 to 1000"),
        (["-p65536", H2], "port 65536: must be 1 to 65535"),
        (["--sport=-1", H2], "source port -1: must be 0 to 65535"),
        (["-z=-1", H2], "gap in ms -1000: must be 0 to 1000000"),
        (["-w0", H2], "wait in ms 0: must be 1 to 1000000"),
        (["-wlong", H2], "-w long: must be MAX[,HERE[,NEAR]]"),
        (["-w1,2,3,4", H2], "-w 1,2,3,4: must be MAX[,HERE[,NEAR]]"),
        (["-t256", H2], "tos 256: must be 0 to 255"),
        ([H2, "27"], "size 27: must be 28 to 65000"),
        (["-l5", H2], "a flow label is a field of IPv6 alone"),
        (["-6", H2], f"{H2}: Address family for hostname not supported"),
        (["-s", "10.9.9.9", H2], "send from 10.9.9.9: Cannot assign requested address"),
        (["-s", H1_V6, H2], f"{H1_V6} and {H2} are of different families"),
        (["-i", "nope", H2], "interface nope: No such device"),
        (["fe80::1"], "route to fe80::1: needs an interface, as in fe80::1%eth0"),
        (["--pcap", "trace.txt", H2], "trace.txt: name it .pcap or .pcapng, or give the format"),
        (["-I", "-T", H2], "argument -T: not allowed with argument -I"),
        ([], "the following arguments are required: HOST"),
    ],
)
def test_what_makes_no_sense(words: list[str], line: str, h1: lab.LiveHost) -> None:
    assert refused(h1, *words).partition(" (see ")[0] == line


@pytest.mark.parametrize("words", [["-U"], ["-I"]])
@pytest.mark.parametrize("dst_addr", [H2, H2_V6])
def test_size_above_the_mtu(words: list[str], dst_addr: str, h1: lab.LiveHost) -> None:
    assert refused(h1, *words, dst_addr, "1501") == (
        f"send to {dst_addr}: a probe of 1501 bytes is above the MTU of 1500 and must not be cut; "
        "--mtu sends what fits"
    )


def test_capture_that_cannot_be_written(h1: lab.LiveHost, tmp_path: Path) -> None:
    file = tmp_path / "nonesuch" / "trace.pcap"
    assert refused(h1, "--pcap", str(file), H2) == f"{file}: No such file or directory"


@pytest.mark.parametrize("privilege", [[], UNPRIVILEGED], ids=["privileged", "unprivileged"])
@pytest.mark.parametrize("address", [H1, H1_V6])
def test_source_port_that_is_in_use(address: str, privilege: list[str], h1: lab.LiveHost) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    dst_addr = H2_V6 if ":" in address else H2
    for method, kind in (("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM)):
        with h1.entered():
            taken = socket.socket(family, kind)
        with closing(taken):
            taken.bind((address, 0))
            port = taken.getsockname()[1]
            words = ["--method", method, f"--sport={port}", dst_addr]
            line = told(run(h1, *privilege, *TRACEROUTE, *words))
            assert line == f"use {method} port {port} of {address}: Address already in use"


def test_source_port_is_free_again_behind_a_trace(h1: lab.LiveHost) -> None:
    for method in ("udp", "tcp", "udp"):
        said = say(h1, "-n", "--method", method, "--sport=40000", H2, verb="traceroute")
        assert (said.code, said.error) == (0, "")


@pytest.mark.parametrize("dst_addr", [H2, H2_V6])
def test_tcp_without_privilege(dst_addr: str, h1: lab.LiveHost) -> None:
    line = told(run(h1, *UNPRIVILEGED, *TRACEROUTE, "-T", dst_addr))
    assert line.startswith("send TCP by hand: Operation not permitted (needs CAP_NET_RAW); ")
    for way in ("run it with sudo", "(README.md, Privilege)", "UDP would do without"):
        assert way in line


@pytest.mark.parametrize("dst_addr", [H2, H2_V6])
def test_echoes_without_privilege_where_no_group_may_ping(dst_addr: str, h1: lab.LiveHost) -> None:
    with h1.entered(), open("/proc/sys/net/ipv4/ping_group_range") as file:
        before = file.read()
    set_sysctl(h1, "ipv4/ping_group_range", "1 0")
    try:
        line = told(run(h1, *UNPRIVILEGED, *TRACEROUTE, "-I", dst_addr))
    finally:
        set_sysctl(h1, "ipv4/ping_group_range", before)
    assert line.startswith("open ICMP socket: Operation not permitted (needs CAP_NET_RAW); ")
    for way in ("sudo", "README.md, Privilege", "net.ipv4.ping_group_range='0 2147483647'"):
        assert way in line


@pytest.mark.parametrize(
    ("host", "options", "error"),
    [
        ("198.51.100.1", {}, LinkError),
        (H2, {"first_ttl": 9, "max_ttl": 5}, UsageError),
        (H2, {"source_port": 70_000}, UsageError),
        (H2, {"interface": "nope"}, LinkError),
    ],
)
def test_library_raises_and_leaves_nothing_behind(
    host: str, options: dict, error: type[Exception], h1: lab.LiveHost
) -> None:
    before = descriptors()
    with h1.entered(), pytest.raises(error):
        traceroute(host, **options)
    assert descriptors() == before


def test_library_names_the_capability_that_is_missing(h1: lab.LiveHost) -> None:
    code = f"""
from rawproto.drivers.traceroute import traceroute
from rawproto.errors import PrivilegeError
try:
    traceroute("{H2}", method="tcp")
except PrivilegeError as error:
    print(error.capability, error.errno)
"""
    done = h1.run([*UNPRIVILEGED, sys.executable, "-c", code], timeout=TIMEOUT_S)
    assert (done.stdout, done.stderr) == ("CAP_NET_RAW 1\n", "")
    assert issubclass(PrivilegeError, PermissionError)
