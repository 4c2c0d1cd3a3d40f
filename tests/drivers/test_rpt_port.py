"""A port whose device takes packets late, or never."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, cast

import pytest

from rawproto.drivers.rpt.port import Port
from rawproto.transport.constants import MAX_ACK_DELAY_NS

HERE = "10.0.0.2", 0


class Device:
    """A carrier that refuses packets: so many times each, or those above a size for good."""

    ceiling = 1480

    def __init__(self, error: int, *, times: int = 0, most: int = 1 << 16) -> None:
        self._error, self._times, self._most = error, times, most
        self.tries = 0
        self.sent: list[bytes] = []

    def send(self, data: bytes, address: object, ecn: int) -> None:
        self.send_many([data], address, ecn)

    def send_many(self, packets: Sequence[bytes], address: object, ecn: int) -> int:
        self.tries += 1
        if self.tries <= self._times or len(packets[0]) > self._most:
            raise OSError(self._error, "")
        self.sent.append(packets[0])
        return 1


class Source:
    """An endpoint with packets to send, and nothing else to do."""

    def __init__(self, *packets: bytes) -> None:
        self._packets = list(packets)

    def poll_timeout(self) -> None:
        return None

    @property
    def pending(self) -> bool:
        return bool(self._packets)

    def transmit(self, now_ns: int) -> list[Any]:
        packets, self._packets = self._packets, []
        return [(packets, HERE, 0)] if packets else []


def turns(device: Device, source: Source, count: int) -> Port:
    port = Port(cast("Any", source), cast("Any", device))
    for now_ns in range(count):
        port.turn(now_ns)
    return port


def test_busy_device_is_tried_until_it_takes_the_packet() -> None:
    for error, times in ((errno.EAGAIN, 500), (errno.ENOBUFS, 10)):
        device = Device(error, times=times)
        port = turns(device, Source(b"first", b"second"), times)
        assert port.due_ns(0) == 1_000_000
        assert device.sent == []
        port.turn(0)
        assert device.sent == [b"first", b"second"]


def test_packet_that_a_device_drops_for_good_is_lost_and_the_next_one_leaves() -> None:
    large, small = bytes(1480), bytes(1200)
    device = Device(errno.ENOBUFS, most=1300)
    port = turns(device, Source(large, small, large, small), 40)
    assert device.sent == [small, small]
    assert port.due_ns(0) is None


ICMP = [
    errno.ECONNREFUSED,  # port unreachable
    errno.ENOPROTOOPT,  # protocol unreachable
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,  # source route failed
    errno.EMSGSIZE,  # fragmentation needed
]


@pytest.mark.parametrize("error", ICMP)
def test_icmp_error_about_another_packet_costs_this_one_nothing(error: int) -> None:
    told: list[object] = []
    device, source = Device(error, times=2), Source(b"first", b"second")
    source.on_unreachable = source.on_refused = lambda *what: told.append(what)  # type: ignore[attr-defined]
    turns(device, source, 1)
    assert device.sent == [b"first", b"second"]
    assert told == []


def test_address_that_the_kernel_refuses_again_and_again_is_no_way() -> None:
    told: list[Any] = []
    device, source = Device(errno.EHOSTUNREACH, times=9), Source(b"init")
    source.on_unreachable = lambda *what: told.append(what)  # type: ignore[attr-defined]
    turns(device, source, 1)
    assert device.sent == []
    assert [(data, error.errno) for data, error in told] == [(b"init", errno.EHOSTUNREACH)]


class Inbox(Device):
    """A carrier at which packets have come."""

    echoed = False

    def __init__(self, *sizes: int) -> None:
        super().__init__(0)
        self._packets = [(bytes(size), HERE, 0) for size in sizes]

    def receive(self, limit: int, descriptor: int) -> list[Any]:
        taken, self._packets = self._packets[:limit], self._packets[limit:]
        return taken


class Sink(Source):
    """An endpoint to which nothing matters that comes."""

    def receive(self, packets: object, now_ns: int) -> None: ...

    def receive_one(self, packet: object, now_ns: int) -> None: ...


def test_only_small_packets_are_taken_one_by_one() -> None:
    port = Port(cast("Any", Sink()), cast("Any", Inbox(100, 100, 1480, 100, 1480, 1480, 1480)))
    seen = []
    for take in ("one", 1, "one", 1, 1, 64):  # what is large belongs to a transfer: more waits
        if isinstance(take, int):
            port.receive(0, take)
        else:
            port.receive_one(0)
        seen.append(port.sparse)
    assert seen == [True, True, False, True, False, False]


class Asking(Source):
    """An endpoint that lets a question leave at once."""

    def transmit_one(self, *_: object) -> Any:
        return b"lone", HERE, 0


def test_lone_packet_that_a_busy_device_does_not_take_has_a_turn_at_once() -> None:
    device = Device(errno.EAGAIN, times=1)
    port = Port(cast("Any", Asking()), cast("Any", device))
    question = cast("Any", None), cast("Any", None), b"?"
    assert port.send_one(*question, 7) == 7
    assert port.send_one(*question, 7) is None, "what waits goes first"
    port.turn(7)
    assert device.sent == [b"lone"]
    assert port.send_one(*question, 7) == 7 + MAX_ACK_DELAY_NS
    assert device.sent == [b"lone", b"lone"]
