"""A filter in words says how it was understood."""

from __future__ import annotations

from rawproto.filter.grammar import parse
from rawproto.filter.words import describe
from tests.filter.expressions import EXPRESSIONS


def shape(expression: str) -> list[tuple[int, str]]:
    return [(depth, text) for depth, text, _ in describe(expression, parse(expression))]


def words(expression: str) -> str:
    ((_, _, found),) = describe(expression, parse(expression))
    return found


def test_what_joins_stands_around_what_is_joined() -> None:
    assert shape("ip") == [(0, "ip")]
    assert shape("ip or arp") == [(0, "any of"), (1, "ip"), (1, "arp")]
    # `and` and `or` bind alike, from left to right.
    assert shape("ip or arp and tcp  port 80 and udp") == [
        (0, "all of"),
        (1, "any of"),
        (2, "ip"),
        (2, "arp"),
        (1, "tcp port 80"),
        (1, "udp"),
    ]
    assert shape("ip and (arp or not rarp)") == [
        (0, "all of"),
        (1, "ip"),
        (1, "any of"),
        (2, "arp"),
        (2, "not"),
        (3, "rarp"),
    ]


def test_qualifiers_that_were_taken_over_are_told() -> None:
    lines = describe("src port 80 or 443", parse("src port 80 or 443"))
    assert lines[2][1] == "443"
    assert lines[2][2].startswith("TCP, UDP or SCTP with source port 443: over IPv4")


def test_words_say_what_surprises_people() -> None:
    assert "in IPv4, ARP or RARP" in words("host 192.0.2.1")
    assert words("host 2001:db8::1").endswith("in IPv6")
    assert "no later fragment" in words("udp port 53")
    assert "not over IPv6" in words("tcp[13] = 2")
    assert "looks behind it" in words("vlan 7")
    assert words("icmp") == "IPv4 with protocol 1"
    assert "next header 6" in words("tcp")
    assert words("arp") == "EtherType 0x0806"
    assert words("src and dst net 10.0.0.0/8") == (
        "source and destination address within 10.0.0.0/8: in IPv4, ARP or RARP"
    )


def test_every_primitive_has_words() -> None:
    joins = {"all of", "any of", "not"}
    for expression in EXPRESSIONS:
        for _, text, found in describe(expression, parse(expression)):
            assert bool(found) is (text not in joins), expression
