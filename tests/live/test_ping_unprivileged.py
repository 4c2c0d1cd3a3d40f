"""ping without privilege sends from where it is told, which for IPv6 only the socket can say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rawproto import lab
from tests.live.pinging import PROCESS, Wire

H2, H2_V6 = "10.99.1.2", "fd99:1::2"
SECOND, SECOND_V6 = "10.99.1.77", "fd99:1::77"
TIMEOUT_S = 30
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with lab.up(lab.pair()) as network:
        h1 = network.host("h1")
        for address in (f"{SECOND}/24", f"{SECOND_V6}/64"):
            h1.run(["ip", "addr", "add", address, "dev", "eth0"], check=True)
        # The kernel would not choose it by itself, nor wait for others to claim it.
        h1.run(
            [
                "ip",
                "addr",
                "change",
                f"{SECOND_V6}/64",
                "dev",
                "eth0",
                "nodad",
                "preferred_lft",
                "0",
            ],
            check=True,
        )
        yield network


def link_local(host: lab.LiveHost) -> str:
    shown = host.run(["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"])
    return shown.stdout.split()[3].partition("/")[0]


@pytest.mark.parametrize("option", ["-I", "--source"])
@pytest.mark.parametrize("privilege", [[], UNPRIVILEGED], ids=["privileged", "unprivileged"])
@pytest.mark.parametrize(("source", "dst_addr"), [(SECOND, H2), (SECOND_V6, H2_V6)])
def test_source_is_as_asked(
    source: str, dst_addr: str, privilege: list[str], option: str, network: lab.Network
) -> None:
    with Wire(network.host("h2")) as wire:
        done = network.host("h1").run(
            [*privilege, *PROCESS, "-n", "-c2", "-i0.02", option, source, dst_addr],
            timeout=TIMEOUT_S,
        )
        packets = wire.packets(2)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"PING {dst_addr} ({dst_addr}) from {source} : " in done.stdout
    assert {packet.src for packet in packets} == {source}


@pytest.mark.parametrize("form", ["{}%eth0", "{}"], ids=["scope", "interface"])
def test_link_local_source_needs_no_more_than_its_interface(
    form: str, network: lab.Network
) -> None:
    h1, h2 = network.host("h1"), network.host("h2")
    words = ["--source", form.format(link_local(h1)), f"{link_local(h2)}%eth0"]
    if "%" not in form:
        words = ["-I", "eth0", *words]
    with Wire(h2) as wire:
        done = h1.run([*UNPRIVILEGED, *PROCESS, "-n", "-c1", *words], timeout=TIMEOUT_S)
        (packet,) = wire.packets(1)
    assert (done.returncode, done.stderr) == (0, "")
    assert (packet.src, packet.dst) == (link_local(h1), link_local(h2))


def test_large_packets_are_left_whole_for_the_kernel_to_cut(network: lab.Network) -> None:
    with Wire(network.host("h2")) as wire:
        done = network.host("h1").run(
            [*UNPRIVILEGED, *PROCESS, "-n", "-c1", "-s3000", "-I", SECOND_V6, H2_V6],
            timeout=TIMEOUT_S,
        )
        pieces = wire.packets(3)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"3008 bytes from {H2_V6}: icmp_seq=1 " in done.stdout
    assert {(packet.src, packet.nh) for packet in pieces} == {(SECOND_V6, 44)}
