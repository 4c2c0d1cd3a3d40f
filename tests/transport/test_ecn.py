"""Which counts of marks are believed, and what a path has to show (RFC 9000 appendix A.4)."""

from __future__ import annotations

import pytest

from rawproto.transport.ecn import ECN, ECT0, TEST_PACKETS, Stage


def tried(stage: Stage = Stage.WAITING) -> ECN:
    """A path on which the test's packets have left, and perhaps come."""
    ecn = ECN()
    ecn.begin()
    ecn.on_sent(TEST_PACKETS)
    if stage is Stage.CAPABLE:
        assert not ecn.on_ack(TEST_PACKETS, (TEST_PACKETS, 0, 0))
    assert ecn.stage is stage
    return ecn


def test_nothing_is_marked_before_the_path_begins() -> None:
    ecn = ECN()
    assert (ecn.stage, ecn.mark) == (Stage.OFF, 0)
    assert not ecn.on_ack(0, (0, 0, 5))
    assert ecn.stage is Stage.OFF


def test_ten_packets_try_the_path_and_all_are_marked_once_one_of_them_has_come() -> None:
    ecn = ECN()
    ecn.begin()
    assert ecn.mark == ECT0
    ecn.on_sent(4)
    assert ecn.mark == ECT0
    ecn.on_sent(6)
    assert (ecn.stage, ecn.mark) == (Stage.WAITING, 0)
    assert not ecn.on_ack(1, (1, 0, 0))
    assert (ecn.stage, ecn.mark) == (Stage.CAPABLE, ECT0)


def test_more_marks_are_congestion_and_as_many_as_before_are_none() -> None:
    ecn = tried(Stage.CAPABLE)
    ecn.on_sent(10)
    assert ecn.on_ack(5, (13, 0, 2))
    assert not ecn.on_ack(2, (15, 0, 2))
    assert ecn.on_ack(3, (15, 0, 5))


def test_lost_acknowledgements_let_counts_be_ahead() -> None:
    ecn = tried(Stage.CAPABLE)
    ecn.on_sent(10)
    assert not ecn.on_ack(1, (18, 0, 0))
    assert not ecn.on_ack(7, (18, 0, 0))
    assert ecn.stage is Stage.CAPABLE


@pytest.mark.parametrize("stage", [Stage.WAITING, Stage.CAPABLE])
@pytest.mark.parametrize(
    ("acked", "counts"),
    [
        (3, None),  # nobody counts
        (3, (TEST_PACKETS + 1, 0, 0)),  # less than came
        (3, (TEST_PACKETS, 3, 0)),  # made ECT(1) under way
        (3, (5, 0, 50)),  # more than were sent
    ],
)
def test_counts_that_do_not_add_up_end_it(
    stage: Stage, acked: int, counts: tuple[int, int, int] | None
) -> None:
    ecn = tried(stage)
    ecn.on_sent(3)
    if stage is Stage.WAITING:
        acked += TEST_PACKETS
    assert not ecn.on_ack(acked, counts)
    assert (ecn.stage, ecn.mark) == (Stage.FAILED, 0)
    assert not ecn.on_ack(1, (5, 0, 6)), "and nothing is believed any more"


def test_counts_that_fall_end_it() -> None:
    ecn = tried(Stage.CAPABLE)
    ecn.on_sent(10)
    assert not ecn.on_ack(0, (9, 0, 3))
    assert ecn.stage is Stage.FAILED


def test_path_that_drops_all_of_the_test_ends_it_and_one_that_drops_some_does_not() -> None:
    ecn = tried()
    ecn.on_lost(TEST_PACKETS - 1)
    assert ecn.stage is Stage.WAITING
    ecn.on_lost(1)
    assert ecn.stage is Stage.FAILED


def test_another_path_is_tried_anew_and_counts_go_on() -> None:
    ecn = tried(Stage.CAPABLE)
    assert not ecn.on_ack(3, None)
    assert ecn.stage is Stage.FAILED
    ecn.begin()
    assert (ecn.stage, ecn.mark) == (Stage.TESTING, ECT0)
    ecn.on_sent(10)
    assert not ecn.on_ack(10, (2 * TEST_PACKETS, 0, 0))
    assert ecn.stage is Stage.CAPABLE
