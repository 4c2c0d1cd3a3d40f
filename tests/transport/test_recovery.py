"""Losses and probe time-outs as RFC 9002 section 6 and 7.6 have them, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from rawproto.transport.congestion import Acked, Lost
from rawproto.transport.constants import MAX_ACK_DELAY_NS
from rawproto.transport.recovery import Recovery

MS = 1_000_000
SECOND = 1_000_000_000
SIZE = 1200


class Recorder:
    """A controller that writes down what it is told."""

    window, pacing_rate, slow_start = 1 << 20, None, False

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def on_acked(self, acked: Acked) -> None:
        self.told.append(("acked", acked))

    def on_lost(self, lost: Lost) -> None:
        self.told.append(("lost", lost))

    def on_restart(self, now_ns: int) -> None:
        self.told.append(("restart", now_ns))

    def on_spurious(self) -> None:
        self.told.append(("spurious", None))

    def on_persistent_congestion(self) -> None:
        self.told.append(("persistent", None))

    def on_packet_size(self, size: int) -> None:
        raise AssertionError("recovery knows no packet sizes")

    def names(self) -> list[str]:
        return [name for name, _ in self.told]


def made() -> tuple[Recovery, Recorder]:
    recorder = Recorder()
    return Recovery(recorder), recorder


def send(recovery: Recovery, *numbers: int, at_ns: int, size: int = SIZE, rest: Any = None) -> None:
    """As the sender does: remembered, and in flight."""
    burst = recovery.burst(at_ns, False)
    for number in numbers:
        recovery.sent[number] = (burst, size, None, 0, 0, rest)
        recovery.in_flight += size
    recovery.last_eliciting_ns = at_ns


def ack(recovery: Recovery, *numbers: int, at_ns: int) -> tuple[int, int]:
    """(how many packets are acknowledged by this for the first time, how many are lost by it)."""
    ranges = [(number, number + 1) for number in sorted(numbers, reverse=True)]
    acked, lost = recovery.on_acked(ranges, 0, at_ns, True)
    return len(acked), len(lost)


def test_refused_probe_takes_no_room_and_its_loss_is_none() -> None:
    recovery, recorder = made()
    send(recovery, 0, 1, at_ns=0)
    send(recovery, 2, at_ns=0, size=65_507, rest=[("probe", 65_507)])
    send(recovery, 3, at_ns=0, size=1400, rest=[("probe", 1400)])
    recovery.on_refused(1480)
    assert recovery.in_flight == 2 * SIZE + 1400
    send(recovery, 4, 5, 6, at_ns=0)
    assert ack(recovery, 0, 1, 3, 4, 5, 6, at_ns=80 * MS) == (6, 1)
    assert recovery.in_flight == 0
    assert "lost" not in recorder.names()


def test_three_packets_later_makes_a_loss() -> None:
    recovery, recorder = made()
    send(recovery, 0, 1, 2, 3, at_ns=0)
    assert ack(recovery, 2, at_ns=80 * MS) == (1, 0)
    assert ack(recovery, 3, at_ns=81 * MS) == (1, 1)
    assert list(recovery.sent) == [1]
    assert recovery.in_flight == SIZE
    assert recovery.lost_packets == 1
    assert recorder.names() == ["acked", "lost", "acked"]


def test_nine_eighths_of_an_rtt_later_makes_a_loss() -> None:
    recovery, _ = made()
    send(recovery, 0, at_ns=0)
    send(recovery, 1, at_ns=MS)
    ack(recovery, 1, at_ns=81 * MS)
    assert recovery.loss_ns == 90 * MS
    assert recovery.on_loss_timeout(90 * MS - 1) == []
    assert len(recovery.on_loss_timeout(90 * MS)) == 1
    assert (recovery.in_flight, recovery.loss_ns) == (0, None)


def test_packets_after_the_largest_acknowledged_are_never_lost() -> None:
    recovery, _ = made()
    send(recovery, *range(10), at_ns=0)
    assert ack(recovery, 0, at_ns=80 * MS) == (1, 0)
    assert recovery.on_loss_timeout(100 * SECOND) == []
    assert recovery.loss_ns is None


def test_second_acknowledgement_changes_nothing() -> None:
    recovery, recorder = made()
    send(recovery, 0, 1, at_ns=0)
    assert ack(recovery, 0, 1, at_ns=80 * MS) == (2, 0)
    before = recovery.rtt.smoothed_rtt, recovery.delivered
    assert ack(recovery, 0, 1, at_ns=500 * MS) == (0, 0)
    assert (recovery.rtt.smoothed_rtt, recovery.delivered) == before == (80 * MS, 2 * SIZE)
    assert recorder.names() == ["acked"]


def test_only_a_new_largest_gives_an_rtt() -> None:
    recovery, recorder = made()
    send(recovery, 0, 1, at_ns=0)
    ack(recovery, 1, at_ns=50 * MS)
    ack(recovery, 0, at_ns=58 * MS)
    assert [told.rtt_ns for _, told in recorder.told] == [50 * MS, None]
    assert recovery.rtt.latest_rtt == 50 * MS


def test_acknowledgement_of_acknowledgements_alone_gives_no_rtt() -> None:
    recovery, _ = made()
    send(recovery, 0, at_ns=0, size=0, rest=[("ack", 5)])
    ack(recovery, 0, at_ns=700 * MS)
    assert not recovery.rtt.sampled
    assert recovery.largest_acked == 0


def test_probe_timeout_doubles_to_eight_seconds_and_begins_anew_when_something_arrives() -> None:
    recovery, _ = made()
    assert recovery.pto_ns() is None
    send(recovery, 0, 1, at_ns=0)
    first = (250 + 500) * MS + MAX_ACK_DELAY_NS
    waits = []
    for recovery.pto_count in range(7):
        waits.append(recovery.pto_ns())
    assert waits[:4] == [first, 2 * first, 4 * first, 8 * first]
    assert waits[4:] == [8 * SECOND] * 3
    ack(recovery, 0, at_ns=80 * MS)
    assert recovery.pto_count == 0
    assert recovery.pto_ns() == (80 + 160) * MS + MAX_ACK_DELAY_NS


def test_loss_of_a_size_probe_is_no_sign_of_congestion() -> None:
    recovery, recorder = made()
    send(recovery, 0, at_ns=0, rest=[("probe", 9000)])
    send(recovery, 1, 2, 3, at_ns=0)
    assert ack(recovery, 1, 2, 3, at_ns=80 * MS) == (3, 1)
    assert recorder.names() == ["acked"]


def test_acknowledgements_alone_are_not_in_flight_and_no_loss() -> None:
    recovery, recorder = made()
    send(recovery, 0, at_ns=0, size=0, rest=[("ack", 5)])
    assert recovery.pto_ns() is None
    assert recovery.oldest() is None
    send(recovery, 1, 2, 3, at_ns=0)
    ack(recovery, 3, at_ns=80 * MS)
    assert recorder.names() == ["acked"]


def test_loss_that_arrives_after_all_is_undone() -> None:
    recovery, recorder = made()
    send(recovery, 0, 1, 2, 3, at_ns=0)
    ack(recovery, 3, at_ns=80 * MS)
    ack(recovery, 0, at_ns=85 * MS)
    assert recorder.names() == ["lost", "acked", "spurious"]
    assert recovery.spurious_packets == 1
    assert ack(recovery, 0, at_ns=86 * MS) == (0, 0)
    assert recovery.spurious_packets == 1


def test_loss_is_not_undone_while_another_of_its_round_is_missing() -> None:
    recovery, recorder = made()
    send(recovery, 0, 1, 2, 3, 4, at_ns=0)
    ack(recovery, 4, at_ns=80 * MS)
    assert recovery.lost_packets == 2
    ack(recovery, 1, at_ns=85 * MS)
    assert "spurious" not in recorder.names()


def run_of_losses(span_ns: int, *, hole: int = -1, skipped: int = -1) -> Recorder:
    """Packets every 100 ms for so long, of which only the last arrives, and perhaps `hole`."""
    recovery, recorder = made()
    recovery.skipped.append(skipped)
    send(recovery, 0, at_ns=0)
    ack(recovery, 0, at_ns=50 * MS)
    count = span_ns // (100 * MS) + 1
    for number in range(1, count + 1):
        if number != skipped:
            send(recovery, number, at_ns=100 * MS * number)
    last = count + 1
    send(recovery, last, at_ns=100 * MS * last)
    ack(recovery, *{last, hole} - {-1}, at_ns=100 * MS * last + 50 * MS)
    return recorder


def test_nothing_through_for_three_ptos_is_persistent_congestion() -> None:
    pto = (50 + 100) * MS + MAX_ACK_DELAY_NS  # 175 ms
    assert "persistent" in run_of_losses(3 * pto + 200 * MS).names()
    assert "persistent" not in run_of_losses(3 * pto - 200 * MS).names()


def test_packet_that_arrived_in_between_breaks_persistent_congestion() -> None:
    assert "persistent" not in run_of_losses(900 * MS, hole=5).names()


def test_number_that_was_left_out_does_not_break_persistent_congestion() -> None:
    assert "persistent" in run_of_losses(900 * MS, skipped=5).names()


@pytest.mark.parametrize("packets", [1, 10])
def test_delivery_rate_is_what_came_in_the_time_it_took(packets: int) -> None:
    recovery, recorder = made()
    send(recovery, *range(packets), at_ns=0)
    ack(recovery, *range(packets), at_ns=100 * MS)
    assert recorder.told[-1][1].delivery_rate == packets * SIZE * 10


def test_sample_tells_what_was_lost_and_in_flight_when_its_burst_left_and_by_now() -> None:
    recovery, recorder = made()
    send(recovery, 0, 1, at_ns=SECOND)
    send(recovery, 2, 3, 4, 5, 6, at_ns=SECOND + MS)
    ack(recovery, 5, at_ns=SECOND + 100 * MS)  # three later than 2: it and those before are lost
    assert recovery.lost == 3 * SIZE
    burst = recovery.burst(SECOND + 10 * MS, False)
    recovery.sent[7] = (burst, SIZE, None, 0, 0, None)
    recovery.in_flight += SIZE
    recovery.on_sent(burst, False)
    ack(recovery, 7, at_ns=SECOND + 110 * MS)
    told = dict(recorder.told[-1:])["acked"]
    assert (told.burst.lost, told.burst.in_flight) == (3 * SIZE, 4 * SIZE)
    assert told.lost == 5 * SIZE, "3 and 4 are three before 7"
    assert (told.in_flight, told.remaining) == (4 * SIZE, SIZE)


def test_rate_is_what_was_delivered_while_a_packet_was_under_way() -> None:
    recovery, recorder = made()
    for number in range(4):
        send(recovery, number, at_ns=SECOND + number * 10 * MS)
    for number in range(4):
        ack(recovery, number, at_ns=SECOND + (50 + number * 25) * MS)
    rates = [told.delivery_rate for name, told in recorder.told if name == "acked"]
    assert rates == [number * SIZE * SECOND // ((25 + number * 25) * MS) for number in range(1, 5)]


def test_lack_of_data_marks_what_is_sent_until_all_that_was_in_flight_is_acknowledged() -> None:
    recovery, _ = made()
    send(recovery, 0, 1, at_ns=SECOND)
    recovery.on_sent(None, True)
    assert recovery.burst(SECOND + MS, False).app_limited
    send(recovery, 2, at_ns=SECOND + MS)
    ack(recovery, 0, 1, at_ns=SECOND + 50 * MS)
    assert recovery.burst(SECOND + 50 * MS, False).app_limited
    ack(recovery, 2, at_ns=SECOND + 51 * MS)
    assert not recovery.burst(SECOND + 51 * MS, False).app_limited


def test_controller_hears_of_a_restart_after_idleness_and_not_after_a_loss_of_all() -> None:
    recovery, recorder = made()
    send(recovery, 0, at_ns=SECOND)
    recovery.on_sent(None, True)
    ack(recovery, 0, at_ns=SECOND + 50 * MS)
    send(recovery, 1, at_ns=9 * SECOND)
    assert ("restart", 9 * SECOND) in recorder.told
    recorder.told.clear()
    ack(recovery, 1, at_ns=9 * SECOND + 50 * MS)
    send(recovery, 2, 3, 4, 5, at_ns=10 * SECOND)
    ack(recovery, 5, at_ns=10 * SECOND + 50 * MS)
    recovery.on_loss_timeout(20 * SECOND)
    assert not recovery.in_flight
    send(recovery, 6, at_ns=20 * SECOND)
    assert "restart" not in [name for name, at in recorder.told if at == 20 * SECOND]


class Counted(int):
    """A number that counts how often one is compared with it."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == other

    def __lt__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) < other

    def __le__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) <= other

    def __gt__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) > other

    __hash__ = int.__hash__


def test_many_wide_ranges_cost_little_each_however_much_is_lost() -> None:
    recovery, _ = made()
    send(recovery, *range(500_000, 505_000), at_ns=0)
    ack(recovery, 504_999, at_ns=80 * MS)
    assert recovery.lost_packets > 4900
    ranges = [(Counted(at), Counted(at + 6000)) for at in range(480_000, 0, -7000)]
    Counted.compared = 0
    assert recovery.on_acked(ranges, 0, 90 * MS, True) == ([], [])
    assert Counted.compared < 64 * len(ranges)
    assert ack(recovery, *range(500_000, 504_900), at_ns=95 * MS) == (4900, 0)


def test_ranges_of_numbers_that_were_not_kept_are_not_walked_through() -> None:
    class Sent(dict[int, Any]):
        asked = 0

        def pop(self, *args: Any) -> Any:
            self.asked += 1
            return super().pop(*args)

    recovery, _ = made()
    recovery.sent = sent = Sent()
    send(recovery, 7, 8, 9, 2_000_000, 2_000_001, at_ns=0)
    ranges = [(at, at + 30_000) for at in range(1_900_000, 0, -40_000)]
    assert recovery.on_acked(ranges, 0, 90 * MS, True) == ([], [])
    assert recovery.on_acked([(8, 2_000_001)], 0, 90 * MS, True)[0]
    assert list(sent) == [2_000_001]
    assert sent.asked <= 4
