"""Topologies as people write them: on the command line, and in TOML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.errors import UsageError
from rawproto.lab.spec import from_document, read, to_document, topology_of
from rawproto.lab.topology import (
    Host,
    LinkSpec,
    Route,
    Router,
    Topology,
    chain,
    diamond,
    pair,
    star,
)

LINK = "hosts = ['a', 'b']\n[[links]]\nends = ['a', 'b']\n"

OFFICE = """
name = "office"
hosts = ["h1", "h2"]
routers = ["r1"]

[[links]]
ends = ["h1", "r1"]
mtu = 1400

[[links]]
ends = ["r1", "h2"]
ipv4 = "192.0.2.0/24"
ipv6 = false

[[routes]]
host = "r1"
to = "203.0.113.0/24"
via = "192.0.2.2"
"""


@pytest.mark.parametrize(
    ("words", "topology"),
    [
        (["pair"], pair()),
        (["chain", "12"], chain(12)),
        (["chain:12"], chain(12)),
        (["diamond:4"], diamond(4)),
        (["star", "3"], star(3)),
    ],
)
def test_words_name_a_builder_and_its_size(words: list[str], topology: Topology) -> None:
    assert topology_of(words) == topology


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["ring", "3"],
            "no topology 'ring'; there are pair, chain N, diamond N, star N, or a TOML",
        ),
        (["pair", "2"], "pair takes no number; for more hops, chain N"),
        (["chain"], "chain wants one number, as in `chain 3`"),
        (["chain:"], "chain wants one number, as in `chain 3`, not ''"),
        (["chain", "many"], "chain wants one number, as in `chain 3`, not 'many'"),
        (["chain:3", "4"], "chain wants one number, as in `chain 3`, not '3 4'"),
        (["chain", "-3"], "chain wants one number, as in `chain 3`, not '-3'"),
        (["chain", "²"], "chain wants one number, as in `chain 3`, not '²'"),
        (["chain", "9" * 5000], "chain wants one number, as in `chain 3`, not '999"),
        (["chain", "255"], "chain 255: wants 1 to 254"),
        (["lab.toml", "3"], "lab.toml is a file: '3' behind it has no meaning"),
        (["none/lab"], "none/lab: No such file or directory"),
    ],
)
def test_words_that_name_nothing_are_answered_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        topology_of(words)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_toml_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "whatever.toml"
    path.write_text(OFFICE)
    assert topology_of([str(path)]) == Topology(
        name="office",
        hosts=(Host(name="h1"), Host(name="h2"), Router(name="r1")),
        links=(
            LinkSpec(ends=("h1", "r1"), ipv4="10.99.1.0/24", ipv6="fd99:1::/64", mtu=1400),
            LinkSpec(ends=("r1", "h2"), ipv4="192.0.2.0/24", ipv6=None),
        ),
        routes=(Route(host="r1", destination="203.0.113.0/24", gateways=("192.0.2.2",)),),
    )


def test_file_without_a_name_is_called_as_the_file(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text('hosts = ["a", "b"]\n[[links]]\nends = ["a", "b"]\n')
    assert read(str(path)).name == "two"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hosts = [", "Invalid value (at end of document)"),
        ("hosts = h1", "Invalid value (at line 1, column 9)"),
        ("", "hosts: a lab needs at least one"),
        ("hosts = 'h1'", "hosts: 'h1' is not a list of strings"),
        ("hosts = ['h1', 2]", "hosts: 2 is not a string"),
        ("hosts = ['h 1']", "hosts: 'h 1' is not letters, digits, '-' and '_', at most 31"),
        ("name = 3\nhosts = ['h1']", "name: 3 is not a string"),
        ("host = ['h1']", "unknown key 'host' (known are name, hosts, routers, links, routes)"),
        ("hosts = ['h1']\nlinks = 3", "links: wants tables, each begun with [[links]]"),
        ("hosts = ['h1']\n[links]\nends = []", "links: wants tables, each begun with [[links]]"),
        (
            "[[links]]\nend = ['h1']",
            "links[1]: unknown key 'end' (known are ends, ipv4, ipv6, mtu, rate, queue, delay,",
        ),
        ("[[links]]\nends = ['h1']", "links[1].ends: wants two hosts, as in ends = "),
        ("[[links]]\nends = ['a', 'b']\nmtu = 'big'", "links[1].mtu: 'big' is not a whole number"),
        ("[[links]]\nends = ['a', 'b']\nmtu = true", "links[1].mtu: True is not a whole number"),
        (f"{LINK}delay = 20", "links[1]: delay=20: wants a time, as 20ms (s, ms, us, ns)"),
        (f"{LINK}delay = true", "links[1].delay: True is not a string"),
        (f"{LINK}loss = inf", "links[1]: loss=inf: wants a share in per cent, as 1%"),
        (f"{LINK}jitter = '1ms'", "links[1]: jitter: more than the delay"),
        (f"{LINK}forward = '1%'", 'links[1].forward: wants a table, as { loss = "1%" }'),
        (f"{LINK}forward = {{ los = '1%' }}", "links[1]: unknown key 'forward.los' (known are"),
        (f"{LINK}forward = {{ mtu = 1400 }}", "links[1]: forward.mtu: mtu is the same both ways"),
        (f"{LINK}forward = {{ loss = [] }}", "links[1].forward.loss: [] is not a string"),
        ("[[links]]\nends = ['a', 'b']\nipv4 = 10", "links[1].ipv4: 10 is not a string"),
        ("[[links]]\nends = ['a', 'b']\nipv6 = true", "links[1].ipv6: True is not a string"),
        ("hosts = ['a']\n[[links]]\nends = ['a', 'b']", "links[1].ends: no host 'b' (there are a)"),
        ("[[routes]]\nhost = 'a'\nvia = '::1'", "routes[1]: 'to' is missing"),
        ("[[routes]]\nhost = 1\nto = 'x'\nvia = 'y'", "routes[1].host: 1 is not a string"),
        ("[[routes]]\nhost = 'a'\nto = 'x'\nvia = 7", "routes[1].via: 7 is not a list of strings"),
    ],
)
def test_wrong_file_is_answered_with_its_name_and_the_place(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        read(str(path))
    assert str(refused.value).startswith(f"{path}: {message}")
    assert "\n" not in str(refused.value)


def test_file_that_is_no_text_or_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_bytes(b"hosts = ['\xff']")
    with pytest.raises(UsageError, match="not UTF-8 at byte 10"):
        read(str(path))
    path.write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(UsageError, match="larger than"):
        read(str(path))
    with pytest.raises(UsageError, match="Is a directory"):
        read(f"{tmp_path}/")


@pytest.mark.parametrize("topology", [pair(), chain(5), diamond(3), star(4)], ids=lambda t: t.name)
def test_builders_survive_being_written_down(topology: Topology) -> None:
    document = json.loads(json.dumps(to_document(topology)))
    assert from_document(document, "other") == topology


def test_everything_in_a_file_survives_being_written_down(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(OFFICE)
    topology = read(str(path))
    assert from_document(to_document(topology), "other") == topology


def test_impairments_stand_beside_the_rest_of_a_link(tmp_path: Path) -> None:
    path = tmp_path / "slow.toml"
    path.write_text(
        f'{LINK}mtu = 1400\ndelay = "20ms"\nseed = 7\nforward = {{ loss = "5%", burst = 3 }}\n'
        'backward.queue = "64KB"\nbackward.rate = "1mbit"\n'
    )
    topology = read(str(path))
    (link,) = topology.links
    assert (link.mtu, link.impairments) == (
        1400,
        {
            "delay": "20ms",
            "seed": "7",
            "forward.loss": "5%",
            "forward.burst": "3",
            "backward.queue": "64KB",
            "backward.rate": "1mbit",
        },
    )
    assert from_document(json.loads(json.dumps(to_document(topology))), "slow") == topology


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["name", "hosts", "routers", "links", "routes", "ends", "mtu", "to", "via", "loss", "forward"]
)


@given(
    st.dictionaries(
        KEYS, VALUES | st.lists(st.dictionaries(KEYS, VALUES, max_size=4), max_size=3), max_size=5
    )
)
def test_any_document_gives_a_topology_or_a_usage_error(document: dict[str, object]) -> None:
    try:
        assert isinstance(from_document(document, "lab"), Topology)
    except UsageError as refused:
        assert "\n" not in str(refused)
