"""Our ping beside iputils', line by line: the same words but for figures, and what is ours."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from rawproto import lab
from tests.live.pinging import say, set_sysctl
from tests.live.responder import Request, Responder

pytestmark = pytest.mark.skipif(shutil.which("ping") is None, reason="iputils-ping is not there")

H1, H2, H2_V6 = "10.99.1.1", "10.99.2.2", "fd99:2::2"
NOBODY = "10.99.1.77"
FIGURES = (
    (r"time=[\d.]+ ms", "time=T ms"),
    (r"time \d+ms", "time Tms"),
    (r"= [\d.]+/[\d.]+/[\d.]+/[\d.]+ ms", "= N/N/N/N ms"),
    (r"ipg/ewma [\d.]+/[\d.]+ ms", "ipg/ewma N/N ms"),
    (r"^\[\d+\.\d{6}\]", "[DATE]"),
    (r"\t\d+ absolute$", "\tN absolute"),
    (r"^(\t[^\t]*)?\t-?\d+$", r"\1\tN"),
)
THEIRS = (
    (r"^PING ([^ (]+)\(", r"PING \1 ("),  # releases from 2024 on have the space too
    (r", pipe \d+$", ""),
    (r"^pipe \d+$", ""),
)
OURS = (r"^rtt p50/", r"^queued in this host ")


def words_of(out: str) -> list[str]:
    """The lines without their figures."""
    lines = []
    for line in out.splitlines():
        for pattern, word in FIGURES + THEIRS:
            line = re.sub(pattern, word, line)
        if line and not any(re.match(pattern, line) for pattern in OURS):
            lines.append(line)
    return lines


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with lab.up(lab.chain(2)) as network:
        for family in ("ipv4", "ipv6"):
            set_sysctl(network.host("r1"), f"{family}/neigh/eth1/mcast_solicit", "1")
            set_sysctl(network.host("r1"), f"{family}/neigh/eth1/retrans_time_ms", "10")
        # Nobody is there, and the kernel does not say so while the module runs.
        set_sysctl(network.host("h1"), "ipv4/neigh/eth0/mcast_solicit", "1000")
        yield network


@pytest.fixture(scope="module")
def h1(network: lab.Network) -> lab.LiveHost:
    return network.host("h1")


@pytest.mark.parametrize(
    "words",
    [
        f"-c1 {H2}",
        f"-c1 {H2_V6}",
        f"-c1 -s3000 {H2}",
        f"-c1 -s3000 {H2_V6}",
        f"-c1 -s16 {H2}",
        f"-q -c1 {H2}",
        f"-D -c1 {H2}",
        f"-n -c1 {H2}",
        f"-I eth0 -c1 {H2}",
        f"-I eth0 -c1 {H2_V6}",
        f"-I {H1} -c1 {H2}",
        f"-I fd99:1::1 -c1 {H2_V6}",
        "-c1 fe80::ff:fe00:102%eth0",
        f"-R -c2 -i0.3 {H2}",
        f"-T tsonly -c1 {H2}",
        "-T tsandaddr -c1 10.99.1.2",
        f"-f -c1 {H2}",
        f"-A -c1 {H2}",
        f"-f -i0.2 -c2 {H2}",
        f"-i0 -c2 {H2}",
        f"-p abc -c1 {H2}",
        f"-q -p ff00 -c1 {H2}",
        f"-F 0x12345 -c1 {H2_V6}",
        f"-c1 -s65527 {H2_V6}",
        f"-a -B -e 77 -m 5 -c1 {H2}",
        f"-l2 -c2 {H2}",
        f"-Q 0xb8 -M do -t 9 -c1 {H2}",
        f"-w 20 -c1 {H2}",
        f"-O -c3 -i0.01 -W0.1 {NOBODY}",
        f"-c1 -W0.1 {NOBODY}",
        f"-t1 -c2 -i0.01 {H2}",
        f"-t1 -c2 -i0.01 {H2_V6}",
        "-c1 10.99.2.77",
        "-c1 fd99:2::77",
        "-c1 192.0.2.1",
        "-c1 2001:db8::1",
        f"-t1 -q -c1 {H2}",
    ],
)
def test_the_same_command_line_has_the_same_words_and_exit_code(
    words: str, h1: lab.LiveHost
) -> None:
    theirs = h1.run(["ping", *words.split()], timeout=20)
    ours = say(h1, *words.split())
    expected = words_of(theirs.stdout)
    if "-T tsandaddr" in words:
        # iputils counts 40 bytes of options where it sends 36.
        expected[0] = expected[0].replace("(124)", "(120)")
    assert words_of(ours.out) == expected
    assert ours.code == theirs.returncode
    assert ours.error == ""


def test_duplicates_are_marked_alike(h1: lab.LiveHost, network: lab.Network) -> None:
    def script(request: Request) -> list[bytes]:
        return [request.reply()] * (2 if request.sequence_number == 1 else 1)

    words = ["-n", "-c2", "-i0.4", H2]
    with Responder(network.host("h2"), script):
        theirs = h1.run(["ping", *words], timeout=20)
        ours = say(h1, *words)
    assert "icmp_seq=1 ttl=63 time=T ms (DUP!)" in words_of(ours.out)[2]
    assert words_of(ours.out) == words_of(theirs.stdout)


@pytest.mark.parametrize(
    "words",
    [
        "-c1 -I eth9 10.99.2.2",
        "-c1 -I 10.9.9.9 10.99.2.2",
        "-c1 -4 fd99:2::2",
        "-c1 -6 10.99.2.2",
        "-c1 10.99.1.255",
        "-c1 -p xyz 10.99.2.2",
        "-c1 -M bogus 10.99.2.2",
        "-c1 -Q 256 10.99.2.2",
        "-c1 -T bogus 10.99.2.2",
    ],
)
def test_what_iputils_refuses_with_2_so_do_we(words: str, h1: lab.LiveHost) -> None:
    theirs = h1.run(["ping", *words.split()], timeout=20)
    ours = say(h1, *words.split())
    assert (ours.code, theirs.returncode) == (2, 2)
    assert (ours.out, ours.error.count("\n")) == ("", 1)
