"""RTT and time-outs as RFC 9002 sections 5 and 6.2 compute them."""

from __future__ import annotations

from rawproto.transport.constants import MAX_ACK_DELAY_NS
from rawproto.transport.rtt import RTT

MS = 1_000_000


def after(*samples: tuple[int, int]) -> RTT:
    rtt = RTT()
    for sample_ms, delay_ms in samples:
        rtt.on_sample(sample_ms * MS, delay_ms * MS)
    return rtt


def test_first_sample_is_the_estimate() -> None:
    rtt = after((80, 20))
    assert (rtt.latest_rtt, rtt.smoothed_rtt, rtt.rttvar, rtt.min_rtt) == (
        80 * MS,
        80 * MS,
        40 * MS,
        80 * MS,
    ), "the peer's delay does not count in it"


def test_later_samples_weigh_an_eighth_and_deviation_a_quarter() -> None:
    rtt = after((80, 0), (160, 0))
    assert rtt.rttvar == 40 * MS + (80 * MS - 40 * MS) // 4
    assert rtt.smoothed_rtt == 90 * MS
    assert (rtt.latest_rtt, rtt.min_rtt) == (160 * MS, 80 * MS)


def test_delay_that_the_peer_tells_is_taken_off_as_far_as_it_may_wait() -> None:
    assert after((80, 0), (120, 10)).smoothed_rtt == 80 * MS + (110 - 80) * MS // 8
    assert after((80, 0), (160, 1000)).smoothed_rtt == 80 * MS + (135 - 80) * MS // 8


def test_delay_is_not_believed_below_the_least_rtt() -> None:
    assert after((80, 0), (85, 25)).smoothed_rtt == 80 * MS + 5 * MS // 8
    assert after((80, 0), (40, 25)).min_rtt == 40 * MS


def test_probe_timeout_is_four_deviations_and_the_peers_delay_above() -> None:
    assert after((80, 0)).pto == (80 + 4 * 40) * MS + MAX_ACK_DELAY_NS
    assert RTT().pto == (250 + 4 * 125) * MS + MAX_ACK_DELAY_NS
    steady = after(*[(1, 0)] * 100)
    assert steady.pto >= 2 * MS + MAX_ACK_DELAY_NS, "a deviation is a millisecond at least"
    assert after((60_000, 0)).pto == 8_000 * MS


def test_time_threshold_is_nine_eighths_of_the_larger_estimate() -> None:
    assert after((80, 0)).loss_delay == 90 * MS
    assert after((80, 0), (160, 0)).loss_delay == 180 * MS
    assert after(*[(0, 0)] * 5).loss_delay == MS
