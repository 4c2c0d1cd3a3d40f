"""What counts as a router that limits the rate of its answers."""

from __future__ import annotations

import random

import pytest

from rawproto.probe.trace_events import TraceAnswer, TraceConfig
from rawproto.probe.trace_hops import Hops, Probe, is_cut_off

ANSWER = TraceAnswer(src_addr="10.0.0.1", rtt_ns=1, icmp_type=11, code=0, reply_ttl=64)


def pattern(text: str) -> list[bool]:
    return [each == "!" for each in text]


@pytest.mark.parametrize(
    ("answered", "others_lost", "others_sent"),
    [
        ("!..", 0, 3),  # three of three from beyond
        ("!..", 0, 30),
        ("!..", 1, 30),
        ("!....", 0, 3),
        ("!!!!!!....", 2, 30),
        ("!!......", 3, 12),
        ("!!.", 0, 200),  # one of three stands out where hundreds come back
    ],
)
def test_first_answers_only_are_a_rate_limit(
    answered: str, others_lost: int, others_sent: int
) -> None:
    assert is_cut_off(pattern(answered), others_lost, others_sent)


@pytest.mark.parametrize(
    ("answered", "others_lost", "others_sent"),
    [
        ("!!!", 0, 30),  # nothing lost
        ("...", 0, 30),  # silent
        (".", 0, 30),
        ("!", 0, 30),
        ("", 0, 30),
        ("!!.", 0, 30),  # one loss proves nothing
        (".!!", 0, 30),
        ("..!", 0, 1000),  # it answers later, so it can
        ("!.!", 0, 1000),
        ("!!!!.!....", 0, 1000),
        ("!..", 0, 0),  # nobody to compare with
        ("!..", 0, 2),
        ("!..", 10, 30),  # all lose
        ("!....", 20, 30),
    ],
)
def test_all_else_is_loss_or_silence(answered: str, others_lost: int, others_sent: int) -> None:
    assert not is_cut_off(pattern(answered), others_lost, others_sent)


def limited(chance: random.Random, loss: float, queries: int, limits: dict[int, int]) -> set[int]:
    """Which of twelve hops are taken to limit their rate.

    Args:
        chance: for the losses.
        loss: share of packets that each link loses, one way.
        queries: probes to each hop.
        limits: how many answers those give that do.
    """
    config = TraceConfig(method="udp", dst_addr="", src_addr="", src_port=1, dst_port=1)
    hops = Hops(config)
    for ttl in range(1, 13):
        left = limits.get(ttl, queries)
        for _ in range(queries):
            probe = Probe(0, ttl, 60, 0)
            probe.done = True
            arrives = (1 - loss) ** ttl
            if chance.random() < arrives and left:
                left -= 1
                if chance.random() < arrives:
                    probe.answer = ANSWER
            hops.add(probe)
    return {ttl for ttl in range(1, 13) if hops.is_rate_limited(ttl, 12, 0)}


@pytest.mark.parametrize("loss", [0.001, 0.003, 0.01, 0.02, 0.05])
@pytest.mark.parametrize("queries", [3, 5, 10])
def test_loss_is_hardly_ever_taken_for_a_rate_limit(queries: int, loss: float) -> None:
    chance = random.Random(1)
    wrong = sum(bool(limited(chance, loss, queries, {})) for _ in range(500))
    # On links of 5 % a fourth to seven tenths of all answers are lost.
    assert wrong <= (0.05 if loss < 0.05 else 0.1) * 500


@pytest.mark.parametrize("queries", [3, 5, 10])
@pytest.mark.parametrize("hops", [{4}, {11}, {1, 2}, {4, 5, 6}, set(range(1, 12))])
def test_rate_limits_are_found_wherever_they_are(hops: set[int], queries: int) -> None:
    limits = dict.fromkeys(hops, queries // 3)
    assert limited(random.Random(1), 0, queries, limits) == hops
