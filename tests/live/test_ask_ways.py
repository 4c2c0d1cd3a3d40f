"""What is asked of the kernel about the way, once; and what it says when there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rawproto import lab
from rawproto.errors import LinkError
from rawproto.link import ways as module
from rawproto.link.ways import Ways
from tests.live.crafting import H1, H2, H2_V6
from tests.live.pinging import set_sysctl


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with lab.up(lab.pair()) as network:
        h1 = network.host("h1")
        set_sysctl(h1, "ipv4/neigh/eth0/retrans_time_ms", "20")
        h1.run(["ip", "tuntap", "add", "mode", "tun", "name", "tun0"], check=True)
        yield network


@pytest.fixture
def h1(network: lab.Network) -> Iterator[lab.LiveHost]:
    with network.host("h1").entered():
        yield network.host("h1")


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """Whatever a function of the module is called with from here on."""
    calls: list[object] = []
    real = getattr(module, name)

    def call(*arguments: object, **options: object) -> object:
        calls.append(arguments[0])
        return real(*arguments, **options)

    monkeypatch.setattr(module, name, call)
    return calls


def test_same_way_is_asked_for_once(h1: lab.LiveHost, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, "lookup")
    ways = Ways()
    assert {ways.route(H2).src_addr for _ in range(5)} == {H1}
    assert ways.route(H2_V6).interface == "eth0"
    assert calls == [H2, H2_V6]


def test_neighbor_who_is_not_there_is_looked_for_once(
    h1: lab.LiveHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch, "resolve_neighbor")
    ways = Ways()
    for _ in range(3):
        with pytest.raises(LinkError, match=r"resolve 10\.99\.1\.77 on eth0: No route to host"):
            ways.neighbor("10.99.1.77", "eth0")
    assert calls == ["10.99.1.77"]


def test_neighbor_who_is_there_is_known_by_its_address(
    h1: lab.LiveHost, network: lab.Network
) -> None:
    mac_addr = network.host("h2").run(["cat", "/sys/class/net/eth0/address"]).stdout.strip()
    assert Ways().neighbor(H2, "eth0") == mac_addr
    assert Ways().neighbor("224.0.0.251", "eth0") == "01:00:5e:00:00:fb"
    assert Ways().neighbor("ff02::1:ff00:1", "eth0") == "33:33:ff:00:00:01"
    assert Ways().neighbor("10.99.1.255", "eth0") == "ff:ff:ff:ff:ff:ff"


def test_memory_is_bounded(h1: lab.LiveHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 4)
    ways = Ways()
    for number in range(2, 20):
        ways.route(f"10.99.1.{number}")
    assert len(ways._known) <= 4


def test_link_local_address_needs_an_interface(h1: lab.LiveHost) -> None:
    with pytest.raises(LinkError, match="route to fe80::1: needs an interface to leave by"):
        Ways().route("fe80::1")
    assert Ways("eth0").route("fe80::1").interface == "eth0"


def test_interface_without_ethernet_takes_no_frames(h1: lab.LiveHost) -> None:
    with pytest.raises(LinkError, match="send frame by tun0: it takes none"):
        Ways().mac_addr("tun0")


def test_unknown_interface_is_told(h1: lab.LiveHost) -> None:
    with pytest.raises(LinkError, match="interface nope0: No such device"):
        Ways("nope0")
