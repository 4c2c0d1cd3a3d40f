"""From a name to the way to a host: which of several addresses is taken, and what is refused."""

from __future__ import annotations

import errno

import pytest

from rawproto.drivers import target
from rawproto.drivers.target import find_destination
from rawproto.errors import LinkError, UsageError
from rawproto.link.routes import Route


def way(dst_addr: str, src_addr: str = "10.0.0.1") -> Route:
    return Route(
        dst_addr=dst_addr,
        src_addr=src_addr,
        gateway=None,
        interface="eth0",
        interface_index=2,
        mtu=1500,
        interface_mtu=1500,
        table=254,
        kind="unicast",
    )


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Route]:
    """What this host has ways to; its resolver knows one name, of three addresses."""
    known: dict[str, Route] = {}

    def lookup(dst_addr: str, **_: object) -> Route:
        if dst_addr not in known:
            raise LinkError("route to", dst_addr, errno.ENETUNREACH)
        return known[dst_addr]

    addresses = ["2001:db8::1", "192.0.2.1", "192.0.2.2"]
    monkeypatch.setattr(target, "resolve_all", lambda name, family: addresses)
    monkeypatch.setattr(target, "lookup", lookup)
    return known


def test_the_first_address_that_has_a_route_is_taken(routes: dict[str, Route]) -> None:
    routes["192.0.2.1"], routes["192.0.2.2"] = way("192.0.2.1"), way("192.0.2.2")
    assert find_destination("www").dst_addr == "192.0.2.1"
    routes["2001:db8::1"] = way("2001:db8::1", "2001:db8::2")
    assert find_destination("www").dst_addr == "2001:db8::1"


def test_an_address_that_nothing_can_be_sent_from_is_passed_over(routes: dict[str, Route]) -> None:
    routes["2001:db8::1"], routes["192.0.2.2"] = way("2001:db8::1", ""), way("192.0.2.2")
    assert find_destination("www").dst_addr == "192.0.2.2"


def test_without_any_route_the_last_refusal_is_told(routes: dict[str, Route]) -> None:
    with pytest.raises(LinkError, match=r"route to 192\.0\.2\.2: Network is unreachable"):
        find_destination("www")


def test_what_no_address_could_mend_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="different families"):
        find_destination("127.0.0.1", source="::1")
