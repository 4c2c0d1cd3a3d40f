"""newreno as in RFC 9002 section 7, cubic as in RFC 9438, slow start's end as in RFC 9406."""

from __future__ import annotations

import pytest

from rawproto.transport.congestion import CONTROLLERS, Acked, Burst, Controller, Lost
from rawproto.transport.congestion.cubic import Cubic
from rawproto.transport.congestion.newreno import NewReno

MS = 1_000_000
SECOND = 1_000_000_000
PACKET = 1200
by_loss = pytest.mark.parametrize("name", ["newreno", "cubic"])


def acked(
    packets: float, sent_ns: int, now_ns: int, *, limited: bool = True, rtt_ns: int = 100 * MS
) -> Acked:
    burst = Burst(sent_ns, 0, 0, 0, False)
    size = int(packets * PACKET)
    return Acked(now_ns, size, size, burst, rtt_ns, rtt_ns, rtt_ns, size, 0, limited)


def lost(sent_ns: int, now_ns: int) -> Lost:
    return Lost(now_ns, PACKET, Burst(sent_ns, 0, 0, 0, False), 0, 100 * MS)


def packets(controller: Controller) -> float:
    return controller.window / PACKET


def a_round(controller: Controller, now_ns: int, rtt_ns: int = 100 * MS) -> int:
    """A whole window is acknowledged, packet by packet: when."""
    for _ in range(controller.window // PACKET):
        controller.on_acked(acked(1, now_ns - rtt_ns, now_ns, rtt_ns=rtt_ns))
    return now_ns + rtt_ns


@by_loss
def test_slow_start_doubles_the_window_each_round(name: str) -> None:
    controller = CONTROLLERS[name](PACKET, bytes)
    assert packets(controller) == 10
    assert controller.slow_start
    now_ns = a_round(controller, SECOND)
    assert packets(controller) == 20
    a_round(controller, now_ns)
    assert packets(controller) == 40


@by_loss
def test_losses_of_one_round_shrink_the_window_once(name: str) -> None:
    controller = CONTROLLERS[name](PACKET, bytes)
    controller.on_acked(acked(90, 0, SECOND))
    share = {"newreno": 0.5, "cubic": 0.7}[name]
    controller.on_lost(lost(SECOND, 2 * SECOND))
    assert packets(controller) == pytest.approx(100 * share)
    assert not controller.slow_start
    controller.on_lost(lost(2 * SECOND, 2 * SECOND + 1))
    assert packets(controller) == pytest.approx(100 * share), "sent before the answer to the first"
    controller.on_lost(lost(2 * SECOND + 1, 3 * SECOND))
    assert packets(controller) == pytest.approx(100 * share**2)


@by_loss
def test_window_does_not_grow_while_packets_of_the_lost_round_arrive(name: str) -> None:
    controller = CONTROLLERS[name](PACKET, bytes)
    controller.on_lost(lost(SECOND, 2 * SECOND))
    before = controller.window
    controller.on_acked(acked(50, 2 * SECOND, 3 * SECOND))
    assert controller.window == before
    controller.on_acked(acked(50, 2 * SECOND + 1, 3 * SECOND))
    assert controller.window > before


@by_loss
def test_window_that_was_not_used_does_not_grow(name: str) -> None:
    controller = CONTROLLERS[name](PACKET, bytes)
    before = controller.window
    controller.on_acked(acked(10, 0, SECOND, limited=False))
    assert controller.window == before


@by_loss
def test_window_is_never_less_than_two_packets(name: str) -> None:
    controller = CONTROLLERS[name](PACKET, bytes)
    for at in range(20):
        controller.on_lost(lost(at * SECOND + 1, (at + 1) * SECOND))
    assert packets(controller) == 2


@by_loss
def test_persistent_congestion_leaves_two_packets_and_slow_start(name: str) -> None:
    controller = CONTROLLERS[name](PACKET, bytes)
    controller.on_acked(acked(90, 0, SECOND))
    controller.on_lost(lost(SECOND, 2 * SECOND))
    controller.on_persistent_congestion()
    assert packets(controller) == 2
    assert controller.slow_start


@by_loss
def test_spurious_loss_is_taken_back_once(name: str) -> None:
    controller = CONTROLLERS[name](PACKET, bytes)
    controller.on_acked(acked(90, 0, SECOND))
    controller.on_lost(lost(SECOND, 2 * SECOND))
    controller.on_spurious()
    assert packets(controller) == 100
    assert controller.slow_start
    controller.on_lost(lost(3 * SECOND, 4 * SECOND))
    controller.on_spurious()
    controller.on_spurious()
    assert packets(controller) == 100


@by_loss
def test_larger_packets_leave_a_window_of_ten_at_first_and_of_two_at_least(name: str) -> None:
    controller = CONTROLLERS[name](PACKET, bytes)
    controller.on_packet_size(9000)
    assert controller.window == 10 * 9000
    for at in range(20):
        controller.on_lost(lost(at * SECOND + 1, (at + 1) * SECOND))
    controller.on_packet_size(9000)
    assert controller.window == 2 * 9000


def test_newreno_grows_by_a_packet_each_round_after_a_loss() -> None:
    controller = NewReno(PACKET)
    controller.on_acked(acked(30, 0, SECOND))
    controller.on_lost(lost(SECOND, 2 * SECOND))
    now_ns = 3 * SECOND
    grown = []
    for _ in range(4):
        now_ns = a_round(controller, now_ns)
        grown.append(packets(controller))
    assert grown == [21, 22, 23, 24]


def after_loss_at(window: int) -> tuple[Cubic, int]:
    """cubic that lost at a window of so many packets: it, and the time."""
    controller = Cubic(PACKET)
    controller.on_acked(acked(window - 10, 0, SECOND))
    controller.on_lost(lost(SECOND, 2 * SECOND))
    return controller, 2 * SECOND + 100 * MS


def test_cubic_is_back_at_the_old_window_after_k_seconds_and_flat_there() -> None:
    controller, now_ns = after_loss_at(1000)
    k = (1000 * 0.3 / 0.4) ** (1 / 3)  # 9.1 s
    windows = {}
    for tick in range(160):
        now_ns = a_round(controller, now_ns)
        windows[round((tick + 1) / 10, 1)] = packets(controller)
    assert windows[round(k, 1)] == pytest.approx(1000, rel=0.01)
    first, flat, late = (windows[at + 1] - windows[at] for at in (1.0, 9.0, 14.0))
    assert first > 10 * flat
    assert late > 10 * flat
    seconds = 14.0  # W(t) = C (t - K)^3 + W_max
    assert windows[seconds] == pytest.approx(0.4 * (seconds - k) ** 3 + 1000, rel=0.03)


def test_cubic_is_never_slower_than_reno_would_be() -> None:
    # At 10 ms and 20 packets cubic alone would take seconds; alpha is 3 (1 - 0.7) / (1 + 0.7).
    controller, now_ns = after_loss_at(20)
    rounds = 10
    for _ in range(rounds):
        now_ns = a_round(controller, now_ns, rtt_ns=10 * MS)
    assert packets(controller) >= 14 + int(rounds * 0.529 * 0.9)


def test_cubic_that_lost_ground_makes_room_for_others() -> None:
    controller, now_ns = after_loss_at(1000)
    controller.on_lost(lost(now_ns, now_ns + 100 * MS))
    assert packets(controller) == pytest.approx(490, rel=1e-5)
    # It aims at 700 x (1 + 0.7) / 2 now, and no more at what it had.
    now_ns += SECOND
    for _ in range(60):
        now_ns = a_round(controller, now_ns)
    assert packets(controller) == pytest.approx(595, rel=0.03)


def test_slow_start_of_cubic_ends_where_the_queue_makes_the_rtt_grow() -> None:
    controller, now_ns = Cubic(PACKET), SECOND
    for _ in range(3):
        now_ns = a_round(controller, now_ns)
    assert packets(controller) == 80
    rounds = 0
    while controller.slow_start and rounds < 20:
        now_ns = a_round(controller, now_ns, rtt_ns=130 * MS)
        rounds += 1
    assert not controller.slow_start
    assert rounds <= 8
    assert packets(controller) < 80 * 2**4, "it grew by a quarter of that meanwhile"
