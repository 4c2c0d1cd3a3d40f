"""Which way a link is made, and what netem and `ip` are told for it."""

from __future__ import annotations

import json

import pytest

from rawproto.errors import UsageError
from rawproto.lab import netem
from rawproto.lab.commands import link_commands
from rawproto.lab.impairments import impairment
from rawproto.lab.links import choose
from rawproto.lab.topology import chain, pair


def made(monkeypatch: pytest.MonkeyPatch, change: str, *, netem_there: bool) -> str:
    monkeypatch.setattr(netem, "available", lambda: netem_there)
    return choose(pair().changed(change))[1]


@pytest.mark.parametrize(
    ("change", "with_netem", "without"),
    [
        ("1:perfect", "veth", "veth"),
        ("1:mtu=1400", "veth", "veth"),
        ("1:delay=20ms,loss=1%,burst=3,duplicate=1%,corrupt=1%", "netem", "emulator"),
        ("1:rate=10mbit,queue=50", "netem", "emulator"),
        ("1:by=emulator", "emulator", "emulator"),
        ("1:delay=20ms,by=emulator", "emulator", "emulator"),
        ("1:delay=20ms,jitter=5ms", "emulator", "emulator"),
        ("1:backward.reorder=1%", "emulator", "emulator"),
        ("1:rate=1mbit,queue=64KB", "emulator", "emulator"),
        ("1:rate=1mbit,delay=20ms", "emulator", "emulator"),
        ("1:loss=1%,seed=7", "emulator", "emulator"),
    ],
)
def test_netem_makes_what_it_can_make_alike_and_the_emulator_the_rest(
    monkeypatch: pytest.MonkeyPatch, change: str, with_netem: str, without: str
) -> None:
    assert made(monkeypatch, change, netem_there=True) == with_netem
    assert made(monkeypatch, change, netem_there=False) == without


def test_whoever_insists_on_netem_is_told_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(monkeypatch, "1:delay=1ms,by=netem", netem_there=True) == "netem"
    with pytest.raises(UsageError, match="link 1: by=netem: this kernel has no netem, or this"):
        made(monkeypatch, "1:delay=1ms,by=netem", netem_there=False)
    with pytest.raises(UsageError, match="link 1: by=netem: netem's jitter reorders packets"):
        made(monkeypatch, "1:delay=2ms,jitter=1ms,by=netem", netem_there=True)


def test_netem_is_told_each_direction() -> None:
    settings = {"delay": "20ms", "forward.loss": "1%", "backward.loss": "0.05%"}
    settings |= {"duplicate": "2%", "corrupt": "3%"}
    told = [netem.command("eth1", impairment(settings, way)) for way in ("forward", "backward")]
    assert told == [
        "qdisc replace dev eth1 root netem limit 1000000 delay 20000.000us"
        f" loss random {share} duplicate 2% corrupt 3%"
        for share in ("1%", "0.05%")
    ]


def test_netem_is_told_of_queue_and_bursts() -> None:
    settings = {"rate": "10mbit", "queue": "50", "loss": "1%", "burst": "4"}
    assert netem.command("eth0", impairment(settings, "forward")) == (
        "qdisc replace dev eth0 root netem limit 50 loss gemodel 0.2525253% 25% rate 10000000bit"
    )


def test_counters_of_netem_have_our_names() -> None:
    other = {"kind": "noqueue", "bytes": 9, "packets": 9, "drops": 9}
    shown = {"kind": "netem", "handle": "8001:", "bytes": 980, "packets": 10, "drops": 2}
    assert netem.counters(json.dumps([other, shown])) == {
        "delivered": 10,
        "delivered_bytes": 980,
        "dropped": 2,
    }
    assert netem.counters("[]") == {}


def test_ends_of_an_emulated_link_face_the_emulator() -> None:
    commands = list(link_commands(chain(3).changed("2:mtu=1400"), emulated=[2]))
    assert commands[0].startswith("link add name eth0 netns h1 ")
    assert commands[1:3] == [
        (
            "link add name eth1 netns r1 address 02:00:00:00:02:01 mtu 1400"
            " type veth peer name 2a netns _links mtu 65535"
        ),
        (
            "link add name eth0 netns r2 address 02:00:00:00:02:02 mtu 1400"
            " type veth peer name 2b netns _links mtu 65535"
        ),
    ]
    assert list(link_commands(chain(3), [2], [2])) == [
        command.replace(" mtu 1400", "") for command in commands[1:3]
    ]
