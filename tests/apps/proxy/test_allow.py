"""What an exit's rules allow: names for what they have, networks for addresses; else nothing."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.apps.proxy.allow import AllowList, parse_rule, plain_address
from rawproto.errors import UsageError

EVERYTHING = AllowList([parse_rule("*:*")])


def allows(rules: str, name: str, address: str, port: int) -> bool:
    return AllowList(map(parse_rule, rules.split())).allows(name, address, port)


@pytest.mark.parametrize(
    ("rules", "name", "address", "port", "allowed"),
    [
        ("", "a.example", "192.0.2.1", 80, False),
        ("192.0.2.0/24:80,8000-8010", "", "192.0.2.7", 80, True),
        ("192.0.2.0/24:80,8000-8010", "", "192.0.2.7", 8010, True),
        ("192.0.2.0/24:80,8000-8010", "", "192.0.2.7", 81, False),
        ("192.0.2.0/24:80", "", "192.0.3.7", 80, False),
        ("192.0.2.0/24:80", "a.example", "192.0.2.7", 80, True),
        ("192.0.2.0/24:80", "", "::ffff:192.0.2.7", 80, True),
        ("[::ffff:192.0.2.0/120]:80", "", "192.0.2.7", 80, True),
        ("[2001:db8::/32]:443", "", "2001:db8:1::1", 443, True),
        ("[2001:db8::]/32:443", "", "2001:db9::1", 443, False),
        ("A.Example.:80", "a.example", "192.0.2.1", 80, True),
        ("a.example:80", "A.EXAMPLE.", "192.0.2.1", 80, True),
        ("a.example:80", "b.example", "192.0.2.1", 80, False),
        ("a.example:80", "192.0.2.1", "192.0.2.1", 80, False),
        ("a.example:80", "a.example", "127.0.0.1", 80, False),
        ("a.example:80", "a.example", "::ffff:127.0.0.1", 80, False),
        ("a.example:80", "a.example", "169.254.169.254", 80, False),
        ("localhost:80", "localhost", "127.0.0.1", 80, True),
        ("localhost:80", "localhost", "::1", 80, True),
        ("localhost:80", "127.0.0.1", "127.0.0.1", 80, False),
        ("localhost:80", "localhost", "169.254.1.1", 80, False),
        ("127.0.0.1:80", "localhost", "127.0.0.1", 80, True),
        ("127.0.0.1:80", "", "127.0.0.2", 80, False),
        ("[fe80::/64]:1", "", "fe80::1%lo", 1, True),
        ("[::]/0:*", "", "fe80::1", 1, False),
        ("[::]/0:*", "", "::1", 1, False),
        ("[::]/0:*", "", "::ffff:127.0.0.1", 1, False),
        ("[::]/0:*", "", "192.0.2.1", 1, False),
    ],
)  # fmt: skip
def test_rule_allows_what_it_names(
    rules: str, name: str, address: str, port: int, allowed: bool
) -> None:
    assert allows(rules, name, address, port) is allowed


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "127.0.0.1", "127.255.1.1", "169.254.169.254", "224.0.0.1", "255.255.255.255",
     "::", "::1", "fe80::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.0.1"],
)  # fmt: skip
def test_everything_is_not_this_host_nor_its_cable(address: str) -> None:
    assert not EVERYTHING.allows("", address, 80)


@given(st.integers(0, 2**32 - 1), st.integers(0, 65535))
def test_address_within_ipv6_is_judged_as_itself(number: int, port: int) -> None:
    four = str(IPv4Address(number))
    assert EVERYTHING.allows("", four, port) is EVERYTHING.allows("", f"::ffff:{four}", port)


@given(st.ip_addresses())
def test_plain_address_is_the_same_but_for_the_form(address: IPv4Address | IPv6Address) -> None:
    plain = plain_address(str(address))
    mapped = getattr(address, "ipv4_mapped", None)
    assert plain == (ip_address(mapped) if mapped else address)


@pytest.mark.parametrize(
    ("rules", "host", "port", "allowed"),
    [
        ("", "localhost", 8000, False),
        ("8000-8100", "localhost", 8000, True),
        ("8000-8100", "127.0.0.1", 8100, True),
        ("8000-8100", "::1", 8100, True),
        ("8000-8100", "localhost", 0, False),
        ("0", "localhost", 0, True),
        ("8000-8100", "*", 8000, False),
        ("8000-8100", "10.0.0.1", 8000, False),
        ("10.0.0.1:8000", "10.0.0.1", 8000, True),
        ("10.0.0.1:8000", "localhost", 8000, False),
        ("*:8000", "*", 8000, True),
        ("*:8000", "10.0.0.1", 8000, True),
        ("*:8000", "localhost", 8001, False),
    ],
)
def test_listening_is_for_the_loopback_unless_a_rule_says_more(
    rules: str, host: str, port: int, allowed: bool
) -> None:
    found = AllowList([parse_rule(each, "localhost") for each in rules.split()])
    assert found.allows_bind(host, port) is allowed


def test_unix_sockets_are_reached_by_their_whole_path_alone() -> None:
    found = AllowList([parse_rule("unix:/run/a.sock"), parse_rule("*:*")])
    assert found.allows_path("/run/a.sock")
    assert not any(map(found.allows_path, ("/run/b.sock", "/run/../run/a.sock", "", "@a")))
    assert not EVERYTHING.allows_path("")


@pytest.mark.parametrize(
    "text",
    ["", "a", "a:", ":80", "a:b", "a:70000", "a:9-8", "a:1,", "a b:1", "10.0.0.1/8:1",
     "300.1.1.1:1", "2001:db8::1:80", "[a]:1", "[10.0.0.0/33]:1", "unix:", "unix:a",
     "/x:1", "a:1-2-3", "a*b:1"],
)  # fmt: skip
def test_what_is_no_rule_is_told(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_rule(text)
    assert "\n" not in str(error.value)
    assert str(error.value)


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_told_to_be_none(text: str) -> None:
    try:
        rule = parse_rule(text)
    except UsageError:
        return
    assert rule.path or (rule.ports and (rule.name or rule.networks))
