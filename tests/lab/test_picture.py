"""The drawing of a lab, and its table."""

from __future__ import annotations

import pytest

from rawproto.lab.picture import draw, table
from rawproto.lab.topology import (
    Host,
    LinkSpec,
    Router,
    Topology,
    chain,
    diamond,
    numbered_link,
    pair,
    star,
)


def lab(*ends: tuple[str, str]) -> Topology:
    """Hosts h..., routers of any other name, linked so."""
    names = dict.fromkeys(name for pair in ends for name in pair)
    return Topology(
        name="lab",
        hosts=tuple(Host(name=n) if n.startswith("h") else Router(name=n) for n in names),
        links=tuple(numbered_link(number, *pair) for number, pair in enumerate(ends, 1)),
    )


@pytest.mark.parametrize(
    ("topology", "drawing"),
    [
        (pair(), ["h1 ── h2"]),
        (chain(3), ["h1 ── r1 ── r2 ── h2"]),
        (
            diamond(3),
            [
                "          ┌─ m1 ─┐",
                "h1 ── r1 ─┼─ m2 ─┼─ r2 ── h2",
                "          └─ m3 ─┘",
            ],
        ),
        (
            diamond(2),
            [
                "h1 ── r1 ─┬─ m1 ─┬─ r2 ── h2",
                "          └─ m2 ─┘",
            ],
        ),
        (
            star(5),
            [
                "          ┌─ h2",
                "h1 ── r1 ─┼─ h3",
                "          ├─ h4",
                "          └─ h5",
            ],
        ),
        (
            lab(("h1", "a"), ("h1", "b"), ("a", "cc"), ("b", "d"), ("cc", "h2"), ("d", "h2")),
            [
                "h1 ─┬─ a ── cc ─┬─ h2",
                "    └─ b ── d  ─┘",
            ],
        ),
        (
            lab(("h1", "a"), ("a", "b"), ("a", "c"), ("a", "d"), ("a", "e")),
            [
                "         ┌─ b",
                "h1 ── a ─┼─ c",
                "         ├─ d",
                "         └─ e",
            ],
        ),
        (Topology(name="one", hosts=(Host(name="h1"),), links=()), ["h1"]),
    ],
    ids=lambda value: value.name if isinstance(value, Topology) else "",
)
def test_plain_labs_are_drawn(topology: Topology, drawing: list[str]) -> None:
    assert draw(topology).splitlines() == drawing


def test_wide_diamond_keeps_its_columns() -> None:
    rows = draw(diamond(10)).splitlines()
    assert rows[0] == "          ┌─ m1  ─┐"
    assert rows[4] == "h1 ── r1 ─┼─ m5  ─┼─ r2 ── h2"
    assert rows[9] == "          └─ m10 ─┘"


@pytest.mark.parametrize(
    "topology",
    [
        lab(("h1", "a"), ("h1", "b"), ("a", "b")),  # a link within a column
        lab(("a", "b"), ("a", "b")),  # two links as one line
        lab(("h1", "a"), ("h1", "b"), ("a", "c"), ("b", "c"), ("b", "d"), ("a", "d")),  # crossing
        lab(("h1", "a"), ("a", "b"), ("a", "c"), ("b", "d"), ("b", "e"), ("c", "f")),  # 2, then 3
        lab(("h1", "a"), ("h2", "b")),  # two parts
    ],
    ids=["within", "parallel", "crossing", "uneven", "apart"],
)
def test_what_would_mislead_is_not_drawn(topology: Topology) -> None:
    assert draw(topology) is None


def test_long_chain_goes_on_in_the_next_line() -> None:
    rows = draw(chain(30), 60).splitlines()
    assert max(map(len, rows)) <= 60
    assert [row.startswith("  ── ") for row in rows] == [False, True, True, True]
    names = " ".join(rows).replace("─", " ").split()
    assert names == ["h1", *(f"r{number}" for number in range(1, 30)), "h2"]


def test_drawing_that_is_too_wide_is_left_out() -> None:
    assert draw(diamond(2), 28) is not None
    assert draw(diamond(2), 27) is None


def test_table_shows_each_link_with_both_ends() -> None:
    assert table(chain(2)).splitlines() == [
        "link  from     to       IPv4                  IPv6",
        "1     h1 eth0  r1 eth0  10.99.1.1  10.99.1.2  fd99:1::1  fd99:1::2",
        "2     r1 eth1  h2 eth0  10.99.2.1  10.99.2.2  fd99:2::1  fd99:2::2",
    ]


def test_table_shows_a_family_that_a_link_lacks() -> None:
    hosts = (Host(name="h1"), Host(name="h2"))
    links = (LinkSpec(ends=("h1", "h2"), ipv4="192.0.2.0/31", ipv6=None),)
    row = table(Topology(name="lab", hosts=hosts, links=links)).splitlines()[1]
    assert row.split() == ["1", "h1", "eth0", "h2", "eth0", "192.0.2.0", "192.0.2.1", "-", "-"]
