"""When each packet of a capture is sent again, in virtual time."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import pytest

from rawproto.capture import CapturedPacket
from rawproto.drivers.replay import Pace, PaperOutlet, Replay, Unsendable
from rawproto.errors import LinkError, UsageError
from rawproto.machine import Transmit
from rawproto.packets.rewrite import Rewrite
from rawproto.wire.dissect import ETHERNET, RAW
from rawproto.wire.ethernet import EthernetHeader
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.udp import UDPHeader

MS = 1_000_000
FIRST_NS = 1_700_000_000 * 10**9
LOOK_NS = 1000
"""How long a look at the virtual clock takes."""


class World:
    """A clock that each look moves on a little, and an outlet that notes when it sent what."""

    def __init__(self, *, refuse: dict[int, int] | None = None) -> None:
        self.now_ns = 5 * 10**9
        self.start_ns: int | None = None
        self.sent: list[tuple[int, bytes | Transmit]] = []
        self.slept_ns = 0
        self._refuse = refuse or {}
        self._paper = PaperOutlet(frames=True)

    def clock(self) -> int:
        self.now_ns += LOOK_NS
        if self.start_ns is None:
            self.start_ns = self.now_ns
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept_ns += round(seconds * 1e9)
        self.now_ns += round(seconds * 1e9)

    def ready(self, data: bytes, link_type: int) -> bytes | Transmit:
        return self._paper.ready(data, link_type)

    def send(self, ready: bytes | Transmit) -> None:
        number = self._refuse.pop(0, 0)
        self._refuse = {key - 1: value for key, value in self._refuse.items()}
        if number:
            raise LinkError("send by", "eth0", number)
        assert self.start_ns is not None
        self.sent.append((self.now_ns - self.start_ns, ready))

    def close(self) -> None:
        pass

    @property
    def times_ns(self) -> list[int]:
        """When packets were sent, as exactly as the clock shows."""
        return [at // (10 * LOOK_NS) * 10 * LOOK_NS for at, _ in self.sent]

    def replay(self, rounds: Iterable[Iterable[CapturedPacket]], pace: Pace, **options) -> Replay:
        return Replay(rounds, pace, self, clock=self.clock, sleep=self.sleep, **options)


def frame(number: int = 0, size: int = 100) -> bytes:
    addresses = {"src_addr": "192.0.2.1", "dst_addr": "198.51.100.2"}
    packet = EthernetHeader() / IPv4Header(**addresses) / UDPHeader(src_port=number)
    return (packet / bytes(size - 42)).emit()


def captured(*times_ms: float, size: int = 100) -> list[CapturedPacket]:
    return [
        CapturedPacket(time_ns=FIRST_NS + round(at * MS), data=frame(number, size))
        for number, at in enumerate(times_ms)
    ]


def test_packets_leave_as_far_apart_as_they_came() -> None:
    world = World()
    result = world.replay([captured(0, 1, 1.5, 400, 400)], Pace()).run()
    assert world.times_ns == [0, MS, MS * 3 // 2, 400 * MS, 400 * MS]
    assert (result.packets, result.bytes, result.rounds) == (5, 500, 1)
    assert result.duration_ns // (10 * LOOK_NS) == 400 * MS // (10 * LOOK_NS)
    assert 0 <= result.lateness.max_ns <= 3 * LOOK_NS


def test_it_sleeps_for_all_but_the_last_moment_of_a_pause() -> None:
    world = World()
    world.replay([captured(0, 1000)], Pace()).run()
    assert 999 * MS < world.slept_ns < 1000 * MS


@pytest.mark.parametrize(
    ("pace", "times_ms"),
    [
        (Pace(speed=10), [0, 1, 2, 10]),
        (Pace(speed=0.5), [0, 20, 40, 200]),
        (Pace(max_gap_ns=15 * MS), [0, 10, 20, 35]),
        (Pace(rate_pps=1000), [0, 1, 2, 3]),
        (Pace(rate_bps=800_000), [0, 1, 2, 3]),  # 100 bytes are 800 bits: a millisecond
        (Pace(rate_pps=3), [0, 1000 / 3, 2000 / 3, 1000]),
    ],
)
def test_pace_is_a_multiple_a_rate_or_capped(pace: Pace, times_ms: list[float]) -> None:
    due = [pace.due_ns(packet.time_ns, 100) for packet in captured(0, 10, 20, 100)]
    assert due == pytest.approx([at * MS for at in times_ms], abs=1)


def test_rate_of_bits_counts_those_before_a_packet() -> None:
    pace = Pace(rate_bps=8_000_000)
    assert [pace.due_ns(0, size) for size in (1000, 500, 60)] == [0, MS, MS * 3 // 2]


def test_rates_do_not_drift() -> None:
    pace = Pace(rate_pps=300_000)
    due = [pace.due_ns(0, 60) for _ in range(300_001)]
    assert due[-1] == 10**9


def test_clock_that_was_set_back_while_capturing_is_no_pause() -> None:
    world = World()
    world.replay([captured(0, 10, -5000, -4990)], Pace()).run()
    assert world.times_ns == [0, 10 * MS, 10 * MS, 20 * MS]


def test_next_round_follows_as_far_apart_as_the_last_two_packets() -> None:
    world = World()
    packets = captured(0, 10, 15)
    result = world.replay([packets] * 2, Pace()).run()
    assert world.times_ns == [0, 10 * MS, 15 * MS, 20 * MS, 30 * MS, 35 * MS]
    assert result.rounds == 2


def test_packet_that_comes_late_delays_none_behind_it() -> None:
    class Slow(World):
        def send(self, ready: bytes | Transmit) -> None:
            super().send(ready)
            if len(self.sent) == 2:
                self.now_ns += 7 * MS

    world = Slow()
    result = world.replay([captured(0, 10, 12, 30)], Pace()).run()
    assert world.times_ns == [0, 10 * MS, 17 * MS, 30 * MS]
    assert result.lateness.max_ns // MS == 5


@pytest.mark.parametrize("fast", [False, True])
def test_limits_end_it_in_the_middle_of_a_round(fast: bool) -> None:
    world = World()
    rounds = [captured(0, 10, 15)] * 1000
    assert world.replay(rounds, Pace(fast=fast), max_packets=5).run().packets == 5
    assert len(world.sent) == 5


def test_nothing_that_is_due_behind_the_limit_of_time_is_waited_for() -> None:
    world = World()
    world.replay([captured(0, 10, 5000)], Pace(), max_ns=100 * MS).run()
    assert len(world.sent) == 2
    assert world.slept_ns < 11 * MS


def test_fast_replay_ends_in_time_too() -> None:
    world = World()
    result = world.replay([captured(0)] * 10**6, Pace(fast=True), max_ns=100 * LOOK_NS).run()
    assert 64 < result.packets < 10**5
    assert world.slept_ns == 0


def test_empty_capture_ends_endless_rounds() -> None:
    world = World()
    result = world.replay(iter(list, None), Pace()).run()
    assert (result.packets, result.rounds) == (0, 0)


def test_packet_that_the_kernel_refuses_is_counted_and_the_next_one_goes() -> None:
    world = World(refuse={1: errno.EMSGSIZE})
    result = world.replay([captured(0, 1, 2)], Pace()).run()
    assert result.packets == 2
    assert result.refused == {"Message too long": 1}


@pytest.mark.parametrize("fast", [False, True])
def test_interface_that_is_gone_ends_it(fast: bool) -> None:
    world = World(refuse={1: errno.ENETDOWN})
    replay = world.replay([captured(0, 1, 2)], Pace(fast=fast))
    with pytest.raises(LinkError, match="Network is down"):
        replay.run()
    assert replay.result.packets == 1


def test_what_was_captured_without_ethernet_goes_out_as_an_ip_packet() -> None:
    ip = frame()[14:]
    ready = PaperOutlet(frames=True).ready(ip, RAW)
    assert isinstance(ready, Transmit)
    assert (ready.data, ready.dst_addr) == (ip, "198.51.100.2")
    assert PaperOutlet(frames=True).ready(frame(), ETHERNET) == frame()


def test_without_an_interface_the_ip_packet_inside_goes_out_without_its_padding() -> None:
    ready = PaperOutlet(frames=False).ready(frame(size=50) + bytes(10), ETHERNET)
    assert isinstance(ready, Transmit)
    assert ready.data == frame(size=50)[14:]


def test_what_has_no_ip_packet_is_counted_where_nothing_can_take_it() -> None:
    arp = EthernetHeader(ethertype=0x0806).emit(bytes(46))
    with pytest.raises(Unsendable, match="no interface for frames"):
        PaperOutlet(frames=False).ready(arp, ETHERNET)
    world = World()
    odd = [CapturedPacket(time_ns=0, data=arp, link_type=147)]
    result = world.replay([odd + captured(0)], Pace()).run()
    assert result.unsendable == {"not Ethernet, and no IP": 1}
    assert result.packets == 1


def test_what_is_sent_is_rewritten() -> None:
    world = World()
    world.replay([captured(0)], Pace(), rewrite=Rewrite(addresses=["192.0.2.1=192.0.2.99"])).run()
    assert world.sent[0][1][26:30] == bytes([192, 0, 2, 99])


def test_packets_that_were_cut_short_are_counted() -> None:
    packet = CapturedPacket(time_ns=0, data=frame(), original_length=1500)
    assert World().replay([[packet]], Pace()).run().truncated == 1


def test_plan_tells_what_would_be_sent_and_sends_nothing() -> None:
    world = World()
    replay = world.replay([captured(0, 10, 20)], Pace(speed=2), max_packets=2)
    assert [due_ns for _, due_ns in replay.plan()] == [0, 5 * MS]
    assert world.sent == []
    assert replay.result.packets == 2


@pytest.mark.parametrize(
    "options",
    [
        {"speed": 0},
        {"speed": float("nan")},
        {"rate_pps": -1},
        {"rate_bps": float("inf")},
        {"speed": 2, "fast": True},
        {"rate_pps": 2, "rate_bps": 2},
        {"max_gap_ns": -1},
    ],
)
def test_pace_that_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Pace(**options)
