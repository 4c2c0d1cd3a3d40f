"""How routers misbehave, in words: read, written, and refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.errors import UsageError
from rawproto.lab.behaviour import KINDS, Behaviour, Rate, parse_spec
from rawproto.lab.spec import from_document, read, to_document
from rawproto.lab.topology import Router, Topology, chain

LABELS = st.lists(st.integers(0, (1 << 20) - 1), min_size=1, max_size=16).map(tuple)
ADDRESSES = st.tuples(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))

BEHAVIOURS = st.builds(
    Behaviour,
    silent=st.booleans(),
    icmp_rate=st.none() | st.builds(Rate, st.integers(1, 999999), st.sampled_from("smh")),
    answer_from=st.just(()) | ADDRESSES | ADDRESSES.map(lambda both: both[1:]),
    drop_ptb=st.booleans(),
    mtu=st.none() | st.integers(68, 65535),
    loop=st.booleans(),
    balance=st.none() | st.sampled_from(["flow", "packet"]),
    nat=st.none() | st.sampled_from(["full", "addresses", "plain"]),
    mpls=st.just(()) | LABELS,
    interface_info=st.booleans(),
    userspace=st.booleans(),
)


def behaviour_of(topology: Topology, name: str) -> Behaviour:
    router = topology.host(name)
    assert isinstance(router, Router)
    return router.behaviour


@pytest.mark.parametrize(
    ("text", "behaviour"),
    [
        ("silent", Behaviour(silent=True)),
        ("icmp-rate=1/s", Behaviour(icmp_rate=Rate(1, "s"))),
        ("icmp-rate=30/m", Behaviour(icmp_rate=Rate(30, "m"))),
        ("answer-from=10.99.9.9", Behaviour(answer_from=("10.99.9.9",))),
        (
            "answer-from=10.99.9.9/fd99:9::9",
            Behaviour(answer_from=("10.99.9.9", "fd99:9::9")),
        ),
        ("drop-ptb,mtu=1200", Behaviour(drop_ptb=True, mtu=1200)),
        ("loop", Behaviour(loop=True)),
        ("balance=packet", Behaviour(balance="packet")),
        ("nat", Behaviour(nat="full")),
        ("nat=plain", Behaviour(nat="plain")),
        ("mpls=100/200,interface-info", Behaviour(mpls=(100, 200), interface_info=True)),
        ("userspace", Behaviour(userspace=True)),
    ],
)
def test_words_are_read_and_written_again(text: str, behaviour: Behaviour) -> None:
    name, words = parse_spec(f"r4:{text}")
    assert (name, Behaviour.of(words)) == ("r4", behaviour)
    assert str(behaviour) == text
    assert behaviour


@given(BEHAVIOURS)
def test_any_behaviour_survives_being_written_down(behaviour: Behaviour) -> None:
    assert Behaviour.of(behaviour.words()) == behaviour
    if behaviour:
        words = parse_spec(f"r1:{behaviour}")[1]
        assert Behaviour.of(words) == behaviour
    topology = chain(3).misbehaving(f"r1:{behaviour}") if behaviour else chain(3)
    document = json.loads(json.dumps(to_document(topology)))
    assert from_document(document, "other") == topology


@pytest.mark.parametrize(
    ("text", "beyond_the_kernel"),
    [
        ("silent,icmp-rate=1/s,answer-from=::9,drop-ptb,mtu=1200,loop,balance=packet,nat", False),
        ("nat=addresses", True),
        ("nat=plain", True),
        ("mpls=3", True),
        ("interface-info", True),
        ("userspace", True),
    ],
)
def test_our_own_router_is_used_only_beyond_what_the_kernel_can(
    text: str, beyond_the_kernel: bool
) -> None:
    assert Behaviour.of(parse_spec(f"r1:{text}")[1]).needs_userspace is beyond_the_kernel


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("r4", "'r4' is not of the form r4:silent,icmp-rate=1/s or all:silent"),
        ("r4:", "'r4:' is not of the form"),
        (":silent", "':silent' is not of the form"),
        ("r4:silnt", "r4:silnt: unknown word 'silnt' (did you mean silent?)"),
        (
            "r4:icmp_rate=1/s",
            "r4:icmp_rate=1/s: unknown word 'icmp_rate' (did you mean icmp-rate?)",
        ),
        ("r4:x", "r4:x: unknown word 'x' (known are silent, icmp-rate, "),
        ("r4:silent,,loop", "r4:silent,,loop: unknown word '' (known are"),
        ("r4:silent,silent", "r4:silent,silent: silent is there twice"),
        ("r4:silent=yes", "r4:silent=yes: silent=yes: takes no value"),
        ("r4:mpls", "r4:mpls: mpls: wants labels, as 100/200"),
        ("r4:mpls=", "r4:mpls=: mpls= has no value"),
        ("r4:mpls=100/", "r4:mpls=100/: mpls=100/: wants labels"),
        ("r4:mpls=1048576", "r4:mpls=1048576: mpls=1048576: wants labels"),
        ("r4:mpls=" + "/".join(["1"] * 17), "r4:mpls=1/1"),
        ("r4:icmp-rate=0/s", "r4:icmp-rate=0/s: icmp-rate=0/s: wants a rate, as 1/s"),
        ("r4:icmp-rate=1", "r4:icmp-rate=1: icmp-rate=1: wants a rate"),
        ("r4:icmp-rate=²/s", "r4:icmp-rate=²/s: icmp-rate=²/s: wants a rate"),
        ("r4:mtu=67", "r4:mtu=67: mtu=67: wants bytes, 68 to 65535"),
        ("r4:balance=both", "r4:balance=both: balance=both: wants flow or packet"),
        ("r4:balance", "r4:balance: balance: wants flow or packet"),
        ("r4:nat=half", "r4:nat=half: nat=half: takes addresses, plain or nothing"),
        ("r4:answer-from=h1", "r4:answer-from=h1: answer-from=h1: wants an address"),
        ("r4:answer-from=10.0.0.1/10.0.0.2", "r4:answer-from=10.0.0.1/10.0.0.2: answer-from="),
    ],
)
def test_what_makes_no_sense_is_answered_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_spec(text)
    assert str(refused.value).startswith(complaint)
    assert "\n" not in str(refused.value)


@given(
    st.text(max_size=30) | st.lists(st.sampled_from([*KINDS, "=", ",", ":", "/", "1"])).map("".join)
)
def test_any_text_is_a_spec_or_a_usage_error(text: str) -> None:
    try:
        _, words = parse_spec(f"r1:{text}")
        assert Behaviour.of(words)
    except UsageError:
        pass


# --- in a topology ----------------------------------------------------------------------------


def test_specs_add_up_router_by_router() -> None:
    topology = chain(4).misbehaving("all:interface-info", "r2:silent,mtu=1400", "r2:mtu=1300")
    assert behaviour_of(topology, "r1") == Behaviour(interface_info=True)
    assert behaviour_of(topology, "r2") == Behaviour(interface_info=True, silent=True, mtu=1300)
    assert [host.name for host in topology.hosts] == [host.name for host in chain(4).hosts]


def test_builders_make_routers_that_do_as_they_should() -> None:
    assert not behaviour_of(chain(2), "r1")


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("r9:silent", "no host 'r9' in lab chain-3 (there are h1, h2, r1, r2)"),
        ("h1:silent", "h1:silent: h1 is no router"),
    ],
)
def test_only_routers_that_are_there_misbehave(spec: str, complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        chain(3).misbehaving(spec)
    assert str(refused.value) == complaint


# --- in a file --------------------------------------------------------------------------------

LINKS = '[[links]]\nends = ["h1", "r1"]\n[[links]]\nends = ["r1", "r2"]\n'


def test_file_says_the_same_words(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(
        'hosts = ["h1"]\n'
        'routers = ["r1", { name = "r2", silent = true, icmp-rate = "1/s", mtu = 1200, nat = true,'
        ' mpls = [100, 200], answer-from = "::9", loop = false }]\n' + LINKS
    )
    topology = read(str(path))
    assert not behaviour_of(topology, "r1")
    assert behaviour_of(topology, "r2") == Behaviour(
        silent=True,
        icmp_rate=Rate(1, "s"),
        mtu=1200,
        nat="full",
        mpls=(100, 200),
        answer_from=("::9",),
    )


def test_file_may_give_each_router_a_table(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(
        'hosts = ["h1"]\n[[routers]]\nname = "r1"\n[[routers]]\nname = "r2"\nnat = "plain"\n'
        + LINKS
    )
    topology = read(str(path))
    assert behaviour_of(topology, "r2") == Behaviour(nat="plain")


@pytest.mark.parametrize(
    ("routers", "complaint"),
    [
        ("'r1'", "routers: 'r1' is not a list of names or tables"),
        ("[1]", "routers[1]: 1 is not a string"),
        ("[{ silent = true }]", "routers[1]: 'name' is missing"),
        ("[{ name = 1 }]", "routers[1].name: 1 is not a string"),
        (
            "['r1', { name = 'r2', silnt = false }]",
            "routers[2]: unknown word 'silnt' (did you mean silent?)",
        ),
        ("[{ name = 'r1', mtu = 'big' }]", "routers[1]: mtu=big: wants bytes"),
        ("[{ name = 'r1', mpls = [{}] }]", "routers[1]: mpls: {} is not a string"),
        ("[{ name = 'r1', mtu = true }]", "routers[1]: mtu: wants bytes"),
    ],
)
def test_wrong_router_in_a_file_is_answered_with_its_place(
    tmp_path: Path, routers: str, complaint: str
) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(f"hosts = ['h1']\nrouters = {routers}\n")
    with pytest.raises(UsageError) as refused:
        read(str(path))
    assert str(refused.value).startswith(f"{path}: {complaint}")
