"""What people write of links, what it means, and what is wrong with it."""

from __future__ import annotations

import pytest

from rawproto.errors import UsageError
from rawproto.impair.config import GilbertElliott, Impairment
from rawproto.lab.impairments import Change, impairment, link_model, parse_change
from rawproto.lab.topology import chain

PERFECT = Impairment(corrupt_from=14)


def both(**settings: str) -> tuple[Impairment, Impairment]:
    return impairment(settings, "forward"), impairment(settings, "backward")


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        ({"rate": "10mbit"}, "rate_bps", 10_000_000),
        ({"rate": "1.5Gbit"}, "rate_bps", 1_500_000_000),
        ({"rate": "64kbit"}, "rate_bps", 64_000),
        ({"rate": "500bit"}, "rate_bps", 500),
        ({"delay": "20ms"}, "delay_ns", 20_000_000),
        ({"delay": "0.5s"}, "delay_ns", 500_000_000),
        ({"delay": "150us"}, "delay_ns", 150_000),
        ({"delay": "7ns"}, "delay_ns", 7),
        ({"delay": "0"}, "delay_ns", 0),
        ({"delay": "20ms", "jitter": "5ms"}, "jitter_ns", 5_000_000),
        ({"loss": "1%"}, "loss", 0.01),
        ({"loss": "100%"}, "loss", 1.0),
        ({"loss": "0.1%"}, "loss", 0.001),
        ({"duplicate": "2%"}, "duplicate", 0.02),
        ({"corrupt": "3%"}, "corrupt", 0.03),
        ({"reorder": "4%"}, "reorder", 0.04),
        ({"reorder": "4%", "hold": "3ms"}, "reorder_delay_ns", 3_000_000),
        ({"rate": "1mbit", "queue": "50"}, "queue_packets", 50),
        ({"rate": "1mbit", "queue": "64KB"}, "queue_bytes", 64_000),
        ({"rate": "1mbit", "queue": "64KiB"}, "queue_bytes", 65_536),
        ({"rate": "1mbit", "queue": "0"}, "queue_packets", 0),
    ],
)
def test_setting_means_its_quantity_both_ways(
    settings: dict[str, str], field: str, value: float
) -> None:
    forward, backward = both(**settings)
    assert forward == backward
    assert getattr(forward, field) == pytest.approx(value)


def test_queue_in_bytes_does_not_count_packets() -> None:
    forward, _ = both(rate="1mbit", queue="64KB")
    assert forward.queue_packets > 10**9


def test_nothing_said_is_a_perfect_link_and_headers_of_frames_are_never_corrupted() -> None:
    assert both() == (PERFECT, PERFECT)


def test_burst_makes_losses_come_in_runs() -> None:
    forward, _ = both(loss="1%", burst="4")
    assert forward.loss == 0
    assert forward.burst_loss == GilbertElliott.of_mean(loss=0.01, burst=4)


def test_direction_says_more_than_both() -> None:
    forward, backward = both(**{"delay": "20ms", "loss": "1%", "backward.loss": "5%"})
    assert (forward.loss, backward.loss) == (0.01, 0.05)
    assert forward.delay_ns == backward.delay_ns == 20_000_000


def test_change_is_read_into_its_parts() -> None:
    assert parse_change("3:delay=20ms,forward.loss=1%") == Change(
        link=3, settings={"delay": "20ms", "forward.loss": "1%"}
    )
    assert parse_change("all:perfect,seed=7") == Change(
        link=None, settings={"seed": "7"}, perfect=True
    )


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ("1:delay=40ms", {"delay": "40ms", "loss": "1%", "forward.loss": "5%"}),
        ("1:loss=2%", {"delay": "20ms", "loss": "2%"}),
        ("1:forward.loss=2%", {"delay": "20ms", "loss": "1%", "forward.loss": "2%"}),
        ("1:perfect", {}),
        ("1:perfect,rate=1mbit", {"rate": "1mbit"}),
    ],
)
def test_change_keeps_what_it_does_not_speak_of(change: str, after: dict[str, str]) -> None:
    before = {"delay": "20ms", "loss": "1%", "forward.loss": "5%"}
    assert parse_change(change).applied(before) == after


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("3", "'3' is not of the form 3:delay=20ms,loss=1% or all:delay=20ms"),
        ("x:delay=1ms", "'x:delay=1ms' is not of the form"),
        ("3:", "3:: '' is not of the form delay=20ms"),
        ("3:delay", "3:delay: 'delay' is not of the form delay=20ms"),
        ("3:delay=", "3:delay=: 'delay=' is not of the form delay=20ms"),
        ("3:loss=1%,loss=2%", "loss is there twice"),
        ("3:delay=20", "3:delay=20: delay=20: wants a time, as 20ms (s, ms, us, ns)"),
        ("3:delay=-1ms", "delay=-1ms: wants a time"),
        ("3:delay=1001s", "delay=1001s: wants a time"),
        ("3:loss=0.1", "loss=0.1: wants a share in per cent, as 1%"),
        ("3:loss=101%", "loss=101%: wants a share"),
        ("3:rate=10mb", "rate=10mb: wants bits a second, as 10mbit (bit, kbit, mbit, gbit)"),
        ("3:rate=0bit", "rate=0bit: wants bits a second"),
        ("3:rate=0", "rate=0: wants bits a second"),
        ("3:queue=1.5", "queue=1.5: wants packets, as 50, or bytes, as 64KB"),
        ("3:burst=0.5", "burst=0.5: wants packets, 1 or more in the mean"),
        ("3:seed=x", "seed=x: wants a whole number"),
        ("3:by=magic", "by=magic: wants emulator or netem"),
        ("3:forward.mtu=1400", "forward.mtu: mtu is the same both ways"),
        ("3:up.loss=1%", "unknown key 'up.loss' (known are rate, queue, delay,"),
        ("3:speed=1", "unknown key 'speed'"),
        ("9:delay=1ms", "no link 9 in lab chain-6 (they are 1 to 6)"),
        ("0:delay=1ms", "no link 0 in lab chain-6"),
        ("3:queue=50", "3:queue=50: links[3]: queue: without a rate nothing ever waits"),
        ("3:burst=4", "burst: without a loss there are no bursts of it"),
        ("3:hold=4ms", "hold: without a reorder nothing is held back"),
        ("3:jitter=4ms", "jitter: more than the delay, packets would arrive before they are sent"),
        ("3:loss=100%,burst=4", "links[3]: no bursts of 4.0 packets lose 1.0 of all"),
        ("3:mtu=100", "links[3].mtu: 100 is not 1280 to 65535"),
    ],
)
def test_wrong_change_is_answered_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        chain(6).changed(text)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_changes_of_a_topology_come_one_after_the_other() -> None:
    topology = chain(3).changed("all:delay=10ms", "2:delay=20ms,loss=1%,mtu=1400", "2:loss=2%")
    assert [link.impairments for link in topology.links] == [
        {"delay": "10ms"},
        {"delay": "20ms", "loss": "2%"},
        {"delay": "10ms"},
    ]
    assert [link.mtu for link in topology.links] == [None, 1400, None]


def drops(**options: object) -> list[int]:
    model = link_model({"loss": "20%"}, **{"seed": 7, "link": 3, "direction": "forward"} | options)
    return [number for number in range(500) if not model.offer(b"packet", number)]


def test_seed_gives_the_same_drops_every_time() -> None:
    assert drops() == drops()
    assert len(drops()) == pytest.approx(100, abs=30)


def test_links_directions_and_seeds_have_chances_of_their_own() -> None:
    others = [drops(seed=8), drops(link=4), drops(direction="backward")]
    assert drops() not in others
    assert others[0] != others[1] != others[2]
