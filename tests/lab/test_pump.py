"""The emulator's pump in virtual time: when frames leave, how late, and which are spared."""

from __future__ import annotations

import errno

import pytest

from rawproto.lab import pump as pump_module
from rawproto.lab.impairments import link_model
from rawproto.lab.pump import BATCH, Lane, Lateness, Pump, keeps_link_running
from rawproto.wire.arp import ARPMessage
from rawproto.wire.ethernet import EthernetHeader
from rawproto.wire.icmpv6 import ICMPv6Echo
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import HopByHopOptions
from rawproto.wire.ndp import NeighborSolicitation
from rawproto.wire.udp import UDPHeader

MS = 1_000_000
EPOCH = 1_700_000_000 * 10**9
"""Where the other clock stands when ours is at 0."""
NEAR, FAR = 11, 12

ETHERNET = EthernetHeader(src_addr="02:00:00:00:01:01", dst_addr="02:00:00:00:01:02")
IPV4 = IPv4Header(src_addr="10.0.0.1", dst_addr="10.0.0.2")
IPV6 = IPv6Header(src_addr="fe80::1", dst_addr="fe80::2")


def packet(number: int) -> bytes:
    return (ETHERNET / IPV4 / UDPHeader(src_port=1, dst_port=number) / b"payload").emit()


class World:
    """A trunk, and both of its clocks."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.waiting: list[tuple[int, int, bytes]] = []
        self.sent: list[tuple[int, str, bytes]] = []
        self.down = False

    def arrives(self, frame: bytes, at_ns: int, index: int = NEAR) -> None:
        self.waiting.append((EPOCH + at_ns, index, frame))

    # what a trunk does

    def fileno(self) -> int:
        return 0

    def receive(self, limit: int) -> list[tuple[int, int, bytes]]:
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    def send(self, frame: bytes, interface: str) -> None:
        if self.down:
            raise OSError(errno.ENETDOWN, "Network is down")
        self.sent.append((self.now_ns, interface, frame))


class Bench:
    """A pump with one link between two interfaces, and the time in our hands."""

    def __init__(self, **impairments: str) -> None:
        self.world = World()
        self.lateness = Lateness()
        self.pump = Pump(self.world, lambda: self.world.now_ns, lambda: EPOCH + self.world.now_ns)
        for index, target, direction in ((NEAR, "far", "forward"), (FAR, "near", "backward")):
            model = link_model(impairments, seed=7, link=1, direction=direction)
            self.pump.lanes[index] = Lane(target, model, self.lateness)

    def turn(self, now_ns: int) -> int | None:
        """One turn of the pump's loop: when it wants the next."""
        self.world.now_ns = now_ns
        self.pump.take()
        return self.pump.deliver()


def test_frame_leaves_by_the_other_interface_when_it_is_due() -> None:
    bench = Bench(delay="20ms")
    bench.world.arrives(packet(1), 5 * MS)
    bench.world.arrives(packet(2), 6 * MS, FAR)
    assert bench.turn(6 * MS) == 25 * MS
    assert bench.turn(25 * MS - 1) == 25 * MS
    assert bench.world.sent == []
    assert bench.turn(25 * MS) == 26 * MS
    assert bench.turn(26 * MS) is None
    assert bench.world.sent == [(25 * MS, "far", packet(1)), (26 * MS, "near", packet(2))]


def test_delay_counts_from_the_kernels_stamp_and_what_is_more_is_lateness() -> None:
    bench = Bench(delay="20ms")
    for number in range(10):
        bench.world.arrives(packet(number), 5 * MS)
    bench.turn(24 * MS)  # seen 19 ms later
    bench.turn(25 * MS + 300_000)
    assert [at_ns for at_ns, _, _ in bench.world.sent] == [25 * MS + 300_000] * 10
    assert [frame for _, _, frame in bench.world.sent] == [packet(number) for number in range(10)]
    assert (bench.lateness.count, bench.lateness.max_ns) == (10, 300_000)


def test_step_of_the_clock_moves_no_frame() -> None:
    bench = Bench(delay="20ms")
    bench.pump._bridge._realtime = lambda: EPOCH + 3600 * 10**9 + bench.world.now_ns
    bench.world.waiting.append((EPOCH + 3600 * 10**9 + 5 * MS, NEAR, packet(1)))
    assert bench.turn(6 * MS) == 25 * MS


def test_stamps_out_of_order_keep_the_frames_in_theirs() -> None:
    bench = Bench(delay="1ms")
    bench.world.arrives(packet(1), 5 * MS)
    bench.world.arrives(packet(2), 5 * MS - 100)
    bench.turn(8 * MS)
    assert [frame for _, _, frame in bench.world.sent] == [packet(1), packet(2)]


def test_no_batch_keeps_others_waiting() -> None:
    bench = Bench()
    for number in range(BATCH + 1):
        bench.world.arrives(packet(number), 1 * MS)
    assert bench.turn(1 * MS) is None
    assert len(bench.world.sent) == BATCH
    bench.turn(1 * MS)
    assert len(bench.world.sent) == BATCH + 1


def test_drops_are_the_models_whatever_else_is_on_the_wire() -> None:
    bench = Bench(loss="30%", delay="1ms")
    request = (ETHERNET / ARPMessage(target_protocol_addr="10.0.0.2")).emit()
    for number in range(200):
        bench.world.arrives(packet(number), number)
        if number % 3 == 0:
            bench.world.arrives(request, number)
    while bench.world.waiting:
        bench.turn(1 * MS)
    while bench.turn(10 * MS) is not None:
        pass
    model = link_model({"loss": "30%"}, seed=7, link=1, direction="forward")
    wanted = [packet(number) for number in range(200) if model.offer(packet(number), number)]
    assert [frame for _, _, frame in bench.world.sent if frame != request] == wanted
    assert 100 < len(wanted) < 180
    lane = bench.pump.lanes[NEAR]
    assert (lane.upkeep, lane.model.statistics.offered) == (67, 200)


def test_what_keeps_the_link_running_takes_its_time_too() -> None:
    bench = Bench(delay="20ms", loss="100%")
    request = (ETHERNET / ARPMessage(target_protocol_addr="10.0.0.2")).emit()
    bench.world.arrives(request, 0)
    assert bench.turn(0) == 20 * MS


def test_frame_of_an_unknown_interface_is_passed_over() -> None:
    bench = Bench()
    bench.world.arrives(packet(1), 0, 99)
    assert bench.turn(0) is None
    assert bench.world.sent == []


def test_frames_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "MAX_PENDING", 3)
    bench = Bench(delay="1s")
    for number in range(5):
        bench.world.arrives(packet(number), 0)
    bench.turn(0)
    assert bench.pump.overrun == 2
    bench.turn(1000 * MS)
    assert len(bench.world.sent) == 3


def test_frame_that_the_kernel_does_not_take_is_counted() -> None:
    bench = Bench()
    bench.world.down = True
    bench.world.arrives(packet(1), 0)
    assert bench.turn(0) is None
    assert bench.pump.lanes[NEAR].refused == 1


def under_ethernet(ethertype: int, payload: bytes) -> bytes:
    return ETHERNET.emit()[:12] + ethertype.to_bytes(2, "big") + payload


SPARED = {
    "ARP": (ETHERNET / ARPMessage(target_protocol_addr="10.0.0.2")).emit(),
    "neighbour solicitation": (
        ETHERNET / IPV6 / NeighborSolicitation(target_addr="fe80::2")
    ).emit(),
    "listener report": under_ethernet(
        0x86DD,
        IPv6Header(src_addr="fe80::1", dst_addr="ff02::16", next_header=0).emit(
            # RFC 3810: behind a hop-by-hop header with a router alert
            b"\x3a\0\5\2\0\0\1\0" + b"\x8f\0\0\0\0\0\0\1" + bytes(20)
        ),
    ),
    "group membership": under_ethernet(
        0x0800, IPv4Header(src_addr="10.0.0.1", dst_addr="224.0.0.22", protocol=2).emit(bytes(8))
    ),
}
IMPAIRED = {
    "UDP": packet(1),
    "echo request": (ETHERNET / IPV6 / ICMPv6Echo(icmp_type=128)).emit(),
    "VLAN": under_ethernet(0x8100, b"\0\1\x08\x06" + bytes(40)),
    "hop-by-hop before UDP": (ETHERNET / IPV6 / HopByHopOptions() / UDPHeader()).emit(),
    "too short to tell": bytes(14),
    "nothing": b"",
    "IPv6 cut short": under_ethernet(0x86DD, IPV6.emit()[:7]),
}


@pytest.mark.parametrize("kind", SPARED)
def test_what_keeps_a_link_running_is_known(kind: str) -> None:
    assert keeps_link_running(SPARED[kind])


@pytest.mark.parametrize("kind", IMPAIRED)
def test_users_packets_are_not_taken_for_it(kind: str) -> None:
    assert not keeps_link_running(IMPAIRED[kind])


def test_lateness_has_quantiles_to_the_microsecond() -> None:
    lateness = Lateness()
    assert (lateness.quantile_ns(0.5), lateness.max_ns) == (0, 0)
    for us in range(1, 101):
        lateness.record(us * 1000 - 1)
    assert lateness.quantile_ns(0.5) == 50_000
    assert lateness.quantile_ns(0.99) == 99_000
    assert (lateness.quantile_ns(1.0), lateness.max_ns) == (99_999, 99_999)


def test_lateness_beyond_its_buckets_is_the_worst_that_was_seen() -> None:
    lateness = Lateness()
    for late_ns in (500, 5 * MS, 90 * MS):
        lateness.record(late_ns)
    assert lateness.quantile_ns(0.33) == 1000
    assert lateness.quantile_ns(0.99) == 90 * MS
