"""BBR over whole paths, as draft-ietf-ccwg-bbr-06 and its appendix of test cases promise it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from rawproto.impair import Impairment
from rawproto.sim.experiment import Experiment, Result
from rawproto.transport.config import Config
from rawproto.transport.congestion.bbr import BBR

MS = 1_000_000
SECOND = 1_000_000_000
RATE = 10_000_000
BDP = 33
LINK = Impairment(rate_bps=RATE, delay_ns=20 * MS, queue_packets=BDP)


class Watched:
    """Flows for some seconds, and what the first one's controller did meanwhile.

    Attributes:
        result: what became of them.
        states: (seconds, state) of the first flow, whenever that changed.
        bandwidths: what it held for the bandwidth, every 10 ms, in bits a second.
    """

    def __init__(
        self,
        seconds: float,
        link: Impairment = LINK,
        *others: str,
        seed: int = 1,
        later: tuple[float, Impairment] | None = None,
    ) -> None:
        names = ("bbr", *others)
        experiment = Experiment(
            seed,
            link,
            replace(link, rate_bps=None),
            flows=len(names),
            size=None,
            duration_ns=int(seconds * SECOND),
            configs=[Config(congestion=name) for name in names],
        )
        controller = experiment.flows[0].client.sender.recovery.controller
        assert isinstance(controller, BBR)
        self.states: list[tuple[float, str]] = []
        self.bandwidths: list[float] = []
        waiting = later

        def look(now_ns: int) -> None:
            nonlocal waiting
            if not self.states or self.states[-1][1] != controller.state:
                self.states.append((now_ns / SECOND, controller.state))
            self.bandwidths.append(controller.path.max_bw * 8)
            if waiting is not None and now_ns >= waiting[0] * SECOND:
                experiment.network.forward.configure(waiting[1])
                waiting = None

        self.result: Result = experiment.run(int((seconds + 100) * SECOND), look)
        assert not any(flow.error for flow in self.result.flows)

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.states]


def test_flow_control_keeps_no_startup_waiting_where_packets_are_lost() -> None:
    link = Impairment(rate_bps=100_000_000, delay_ns=25 * MS, queue_packets=422, loss=0.01)
    flow = Watched(1, link).result.flows[0]
    # With a first window of 1 MiB it stalled twice behind holes, and found the rate 0.25 s later.
    assert flow.received > 7_800_000
    assert flow.packets_lost < 200


def test_startup_finds_the_rate_drains_and_the_queue_stays_short() -> None:
    watched = Watched(5)
    assert watched.names[:2] == ["startup", "drain"] or watched.names[1] in ("down", "cruise")
    assert watched.states[1][0] < 1
    rate = RATE * 1480 / 1500  # its packets are RPT's, without the IP header
    assert watched.bandwidths[100] == pytest.approx(rate, rel=0.02)
    assert watched.bandwidths[-1] == pytest.approx(rate, rel=0.02)
    assert watched.result.goodput_bps > 0.85 * RATE
    assert watched.result.queue_mean < BDP / 3
    assert watched.result.flows[0].mean_rtt < 60 * MS


def test_each_probe_for_bandwidth_begins_within_three_seconds_and_none_for_the_rtt() -> None:
    watched = Watched(12)
    ups = [at for at, name in watched.states if name == "up"]
    assert len(ups) >= 3
    assert max(later - sooner for sooner, later in pairwise(ups)) < 4.2
    assert "probe_rtt" not in watched.names, "alone it sees an empty queue while it cruises"


@pytest.mark.parametrize("other", ["bbr", "cubic"])
def test_rtt_is_probed_every_five_seconds_where_another_keeps_a_queue(other: str) -> None:
    watched = Watched(12, LINK, other)
    assert watched.names.count("probe_rtt") == 2
    for at, name in watched.states[:-1]:
        if name == "probe_rtt":
            ended = next(later for later, _ in watched.states if later > at)
            assert 0.2 <= ended - at < 0.5


@pytest.mark.parametrize("seed", [1, 2])
def test_one_per_cent_of_loss_each_way_costs_little(seed: int) -> None:
    watched = Watched(10, replace(LINK, loss=0.01), seed=seed)
    assert watched.result.goodput_bps > 0.83 * RATE


def test_losses_far_above_the_threshold_are_not_fought() -> None:
    watched = Watched(8, replace(LINK, loss=0.1))
    assert watched.result.goodput_bps < 0.4 * RATE


@pytest.mark.parametrize("other", ["bbr", "cubic"])
def test_two_flows_share_a_queue_of_one_bdp_fairly(other: str) -> None:
    result = Watched(15, LINK, other, seed=2).result
    assert min(flow.goodput_bps for flow in result.flows) > 0.3 * RATE
    assert result.fairness > (0.95 if other == "bbr" else 0.9)


def test_three_times_the_rate_is_found_within_seconds() -> None:
    watched = Watched(7, LINK, later=(3, replace(LINK, rate_bps=3 * RATE)))
    assert watched.bandwidths[280] < 1.02 * RATE
    assert watched.bandwidths[-1] > 0.9 * 3 * RATE


def test_rate_that_falls_to_a_third_is_followed_down() -> None:
    fast = replace(LINK, rate_bps=3 * RATE)
    watched = Watched(11, fast, later=(2, LINK))
    assert watched.bandwidths[180] > 0.9 * 3 * RATE
    assert watched.bandwidths[-1] < 1.1 * RATE
    last = watched.result.flows[0]
    assert last.packets_lost < 0.1 * last.packets_sent


@pytest.mark.parametrize("rate_bps", [128_000, 1_000_000])
def test_path_that_holds_less_than_a_packet_is_filled(rate_bps: int) -> None:
    link = Impairment(rate_bps=rate_bps, delay_ns=MS, queue_packets=10)
    assert Watched(20, link).result.goodput_bps > 0.8 * rate_bps


def test_same_seed_makes_the_same_decisions() -> None:
    lossy = replace(LINK, loss=0.01, jitter_ns=3 * MS)
    first, second = Watched(2, lossy, seed=9), Watched(2, lossy, seed=9)
    assert first.states == second.states
    assert first.bandwidths == second.bandwidths
    assert Watched(2, lossy, seed=10).bandwidths != first.bandwidths
