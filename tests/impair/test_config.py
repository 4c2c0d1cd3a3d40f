"""What a link may be like, and what is refused."""

from __future__ import annotations

import random

import pytest

from rawproto.errors import UsageError
from rawproto.impair import GilbertElliott, Impairment, LinkModel


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": 1.01},
        {"loss": -0.1},
        {"loss": float("nan")},
        {"duplicate": 2},
        {"reorder": -1},
        {"corrupt": 1.5},
        {"rate_bps": 0},
        {"rate_bps": -1},
        {"queue_packets": -1},
        {"queue_bytes": -1},
        {"delay_ns": -1},
        {"jitter_ns": -1},
        {"reorder_delay_ns": -1},
        {"corrupt_from": -1},
        {"mtu": -1},
        {"delay_ns": 5, "jitter_ns": 6},
        {"burst_loss": GilbertElliott(good_to_bad=1.1, bad_to_good=0.5)},
        {"burst_loss": GilbertElliott(good_to_bad=0.1, bad_to_good=0.5, loss_bad=2)},
    ],
)
def test_a_value_that_makes_no_sense_is_named(fields: dict[str, object]) -> None:
    impairment = Impairment(**fields)
    with pytest.raises(UsageError) as refused:
        LinkModel(impairment, random.Random(1))
    assert any(name in str(refused.value) for name in fields)


def test_a_chain_is_found_for_a_mean_loss_and_burst() -> None:
    chain = GilbertElliott.of_mean(loss=0.2, burst=4)
    assert chain.bad_to_good == 0.25
    share_bad = chain.good_to_bad / (chain.good_to_bad + chain.bad_to_good)
    assert share_bad == pytest.approx(0.2)


@pytest.mark.parametrize(("loss", "burst"), [(1.0, 2), (-0.1, 2), (0.5, 0.9), (0.9, 1)])
def test_a_chain_that_cannot_be_is_refused(loss: float, burst: float) -> None:
    with pytest.raises(UsageError, match="burst"):
        GilbertElliott.of_mean(loss=loss, burst=burst)
