"""Time stamps in virtual time: clocks that step, drift and are preempted; stamps that stray."""

from __future__ import annotations

import random

import pytest

from rawproto.link.base import Transmitted
from rawproto.link.timestamps import (
    EXTENDED_ERROR,
    SCHED,
    SENT,
    ClockBridge,
    StampQueue,
    split_error_message,
    unpack_stamp,
)

EPOCH = 1_700_000_000 * 10**9


class Clocks:
    """A monotonic and a realtime clock; each reading takes a while."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self.now = 10**12
        self.offset = EPOCH
        self.drift_ppm = 0
        self._rng = rng
        self.readings = 0
        self.preempt_at: dict[int, int] = {}

    def _reading(self) -> None:
        """50 ns pass, or as long as the process was preempted."""
        self.readings += 1
        cost = self.preempt_at.get(self.readings, 0) or 50
        if self._rng is not None and self._rng.random() < 0.2:
            cost += self._rng.randrange(200_000)
        self.pass_time(cost)

    def pass_time(self, ns: int) -> None:
        self.now += ns
        self.offset += ns * self.drift_ppm // 10**6

    def monotonic(self) -> int:
        self._reading()
        return self.now

    def realtime(self) -> int:
        self._reading()
        return self.now + self.offset

    def kernel_stamp(self) -> int:
        """What the kernel would write now: CLOCK_REALTIME."""
        return self.now + self.offset

    def bridge(self) -> ClockBridge:
        return ClockBridge(self.monotonic, self.realtime)


def round_trip(clocks: Clocks, bridge: ClockBridge, flight_ns: int, step_ns: int) -> int | None:
    """The RTT of a packet during whose flight the clock is stepped: as a machine would get it."""
    entered = bridge.sample()
    clocks.pass_time(5_000)
    left = clocks.kernel_stamp()
    clocks.pass_time(flight_ns // 2)
    clocks.offset += step_ns
    clocks.pass_time(flight_ns - flight_ns // 2)
    arrived = clocks.kernel_stamp()
    clocks.pass_time(20_000)
    bridge.sample()
    sent_ns = bridge.sent_at(left, entered)
    received_ns = bridge.received_at(arrived, entered)
    assert sent_ns is not None
    assert received_ns is not None
    assert sent_ns >= entered
    return received_ns - sent_ns


def test_a_round_trip_between_stamps_is_exact_to_the_nanosecond() -> None:
    clocks = Clocks(random.Random(1))
    bridge = clocks.bridge()
    for flight_ns in range(1_000, 400_000, 777):
        assert round_trip(clocks, bridge, flight_ns, 0) == flight_ns
        clocks.pass_time(10**6)


@pytest.mark.parametrize("step_ns", [10**10, -(10**10), 86_400 * 10**9, -86_400 * 10**9, 2 * 10**6])
@pytest.mark.parametrize("flight_ns", [30_000, 1_000_000, 300_000_000])
def test_a_step_of_the_clock_during_the_flight_moves_no_round_trip(
    step_ns: int, flight_ns: int
) -> None:
    clocks = Clocks()
    bridge = clocks.bridge()
    clocks.pass_time(10**9)
    rtt = round_trip(clocks, bridge, flight_ns, step_ns)
    assert rtt == pytest.approx(flight_ns, abs=100)
    # And the next is exact again.
    assert round_trip(clocks, bridge, flight_ns, 0) == flight_ns


@pytest.mark.parametrize("step_ns", [-300_000, 300_000, -20_000, 20_000])
def test_a_small_step_takes_the_older_offset_for_sending_and_the_newer_for_receiving(
    step_ns: int,
) -> None:
    clocks = Clocks()
    bridge = clocks.bridge()
    assert round_trip(clocks, bridge, 1_000_000, step_ns) == pytest.approx(1_000_000, abs=100)


def test_steps_between_packets_move_nothing() -> None:
    clocks = Clocks()
    bridge = clocks.bridge()
    rng = random.Random(7)
    for _ in range(200):
        assert round_trip(clocks, bridge, 50_000, 0) == 50_000
        clocks.offset += rng.randrange(-(10**9), 10**9)
        clocks.pass_time(rng.randrange(10**8))


def test_a_step_right_after_the_sample_is_noticed_by_its_stamp() -> None:
    for step_ns in (10**9, -(10**9)):
        clocks = Clocks()
        bridge = clocks.bridge()
        clocks.pass_time(10**10)
        quiet = bridge.sample()
        clocks.offset += step_ns
        clocks.pass_time(1_000)
        arrived, truth = clocks.kernel_stamp(), clocks.now
        assert bridge.received_at(arrived, quiet) == pytest.approx(truth, abs=100)


def test_preemption_inside_a_sample_moves_no_offset() -> None:
    clocks = Clocks()
    bridge = clocks.bridge()
    offset = bridge.offset_ns
    for _ in range(50):
        clocks.preempt_at = {clocks.readings + at: 50_000_000 for at in (1, 2, 3)}
        bridge.sample()
    assert bridge.offset_ns == offset


def test_the_first_offset_is_good_even_if_most_samples_are_preempted() -> None:
    clocks = Clocks()
    clocks.preempt_at = dict.fromkeys(range(1, 22), 10**7)
    assert clocks.bridge().offset_ns == pytest.approx(EPOCH, abs=100)


def test_a_drifting_clock_is_followed() -> None:
    clocks = Clocks()
    clocks.drift_ppm = 500
    bridge = clocks.bridge()
    for _ in range(300):
        # Over the flight itself the drift is all of the error.
        assert round_trip(clocks, bridge, 200_000, 0) == pytest.approx(200_000, abs=300)
        clocks.pass_time(10**7)
    bridge.sample()
    assert bridge.offset_ns == pytest.approx(clocks.offset, abs=1_000)


def test_a_stamp_that_no_offset_explains_is_no_stamp() -> None:
    clocks = Clocks()
    bridge = clocks.bridge()
    entered = bridge.sample()
    assert bridge.sent_at(clocks.kernel_stamp() - 10**9, entered) is None
    assert bridge.sent_at(clocks.kernel_stamp() + 10**9, entered) is None
    assert bridge.received_at(clocks.kernel_stamp() + 10**9, entered) is None


def test_a_stamp_from_before_the_queue_was_seen_empty_is_believed() -> None:
    clocks = Clocks()
    bridge = clocks.bridge()
    clocks.pass_time(10**6)
    arrived, truth = clocks.kernel_stamp(), clocks.now
    quiet = bridge.sample()
    assert bridge.received_at(arrived, quiet) == pytest.approx(truth, abs=50)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_sched_and_sent_come_back_as_one(clocks: Clocks) -> None:
    queue = StampQueue(bridge := clocks.bridge())
    entered = bridge.sample()
    queue.sent(77, entered)
    clocks.pass_time(1_000)
    sched = clocks.kernel_stamp()
    assert queue.stamped(SCHED, 0, sched) is None
    clocks.pass_time(2_500)
    done = queue.stamped(SENT, 0, clocks.kernel_stamp())
    assert isinstance(done, Transmitted)
    assert (done.token, done.stamp_source) == (77, "kernel")
    assert done.sched_ns is not None
    assert done.sent_ns - done.sched_ns == 2_500
    assert len(queue) == 0


def test_each_counter_finds_its_own_packet_in_any_order(clocks: Clocks) -> None:
    queue = StampQueue(bridge := clocks.bridge())
    for token in (10, 11, 12):
        queue.sent(token, bridge.sample())
        clocks.pass_time(100)
    stamp = clocks.kernel_stamp()
    tokens = [queue.stamped(SENT, counter, stamp).token for counter in (2, 0, 1)]  # type: ignore[union-attr]
    assert tokens == [12, 10, 11]


def test_stamps_of_further_devices_and_of_strangers_are_passed_over(clocks: Clocks) -> None:
    queue = StampQueue(bridge := clocks.bridge())
    queue.sent(1, bridge.sample())
    clocks.pass_time(100)
    first = clocks.kernel_stamp()
    assert queue.stamped(SCHED, 0, first) is None
    clocks.pass_time(100)
    assert queue.stamped(SCHED, 0, clocks.kernel_stamp()) is None
    done = queue.stamped(SENT, 0, clocks.kernel_stamp())
    assert done is not None
    assert done.sched_ns is not None
    assert done.sent_ns - done.sched_ns == 100
    assert queue.stamped(SENT, 0, clocks.kernel_stamp()) is None
    assert queue.stamped(SENT, 4_000_000_000, first) is None
    assert queue.stamped(2, 0, first) is None


def test_the_queue_is_bounded_and_forgets_the_oldest(clocks: Clocks) -> None:
    queue = StampQueue(bridge := clocks.bridge(), capacity=16)
    for token in range(1_000):
        queue.sent(token, bridge.sample())
    assert len(queue) == 16
    stamp = clocks.kernel_stamp() + 1
    clocks.pass_time(10)
    assert queue.stamped(SENT, 983, stamp) is None
    done = queue.stamped(SENT, 999, stamp)
    assert done is not None
    assert done.token == 999


def test_after_a_restart_counting_begins_at_zero_and_old_stamps_are_nobodys(
    clocks: Clocks,
) -> None:
    queue = StampQueue(bridge := clocks.bridge())
    for token in range(5):
        queue.sent(token, bridge.sample())
    queue.restart()
    assert queue.stamped(SENT, 3, clocks.kernel_stamp()) is None
    queue.sent(50, bridge.sample())
    clocks.pass_time(10)
    done = queue.stamped(SENT, 0, clocks.kernel_stamp())
    assert done is not None
    assert done.token == 50


def test_counters_wrap_at_32_bits(clocks: Clocks) -> None:
    queue = StampQueue(bridge := clocks.bridge())
    queue._next = 0xFFFFFFFF
    for token in (1, 2):
        queue.sent(token, bridge.sample())
        clocks.pass_time(10)
    stamp = clocks.kernel_stamp()
    assert queue.stamped(SENT, 0xFFFFFFFF, stamp).token == 1  # type: ignore[union-attr]
    assert queue.stamped(SENT, 0, stamp).token == 2  # type: ignore[union-attr]


def test_a_message_of_the_error_queue_falls_into_stamp_and_error() -> None:
    # As the kernel gave it for a SCHED stamp on a raw IPv4 socket, offender included.
    stamp = bytes.fromhex("12f6006b000000001a835c1500000000") + bytes(32)
    extended = bytes.fromhex("2a000000040000000100000007000000") + bytes(16)
    parts = split_error_message([(1, 37, stamp), (0, 11, extended)])
    assert parts == (stamp, extended)
    assert unpack_stamp(stamp) == 0x6B00F612 * 10**9 + 0x155C831A
    assert EXTENDED_ERROR.unpack_from(extended) == (42, 4, 0, 0, 0, 1, 7)
    for carrier in ((41, 25), (263, 16)):
        assert split_error_message([(*carrier, extended)]) == (None, extended)
    assert split_error_message([(0, 8, b""), (1, 40, b"1234")]) == (None, None)
