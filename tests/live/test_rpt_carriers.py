"""What RPT's carriers make of many packets at once, between two ports of this host."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from rawproto.link.rpt_carrier import Carrier, Family, RawCarrier
from rawproto.link.rpt_udp import UDPCarrier

pytestmark = pytest.mark.live

HOSTS: dict[Family, str] = {4: "127.0.0.1", 6: "::1"}
SIZES = [1200] * 40 + [700] + [1400] * 3 + [50, 60, 1400, 1400]


def packets_for(port: int) -> list[bytes]:
    """Short packets for a port, no two alike."""
    return [
        bytes([1, 16]) + port.to_bytes(2, "big") + bytes([number]) * (size - 4)
        for number, size in enumerate(SIZES)
    ]


@pytest.fixture(params=[(RawCarrier, 4), (RawCarrier, 6), (UDPCarrier, 4), (UDPCarrier, 6)])
def carriers(request: pytest.FixtureRequest) -> Iterator[tuple[Carrier, Carrier, str]]:
    kind, family = request.param
    addr = HOSTS[family]
    with closing(kind(family, addr)) as one, closing(kind(family, addr)) as other:
        yield one, other, addr


def received(carrier: Carrier, count: int) -> list[tuple[bytes, int]]:
    """The packets that come, with their ECN bits, as far as `count` and 5 s go."""
    found: list[tuple[bytes, int]] = []
    while len(found) < count and select.select(carrier.filenos(), [], [], 5)[0]:
        found += [(data, ecn) for data, _, ecn in carrier.receive(64)]
    return found


def send_all(carrier: Carrier, packets: list[bytes], addr: str, port: int, ecn: int) -> list[int]:
    """How many packets each call took."""
    taken: list[int] = []
    while packets:
        taken.append(carrier.send_many(packets, (addr, port), ecn))
        packets = packets[taken[-1] :]
    return taken


def test_packets_sent_by_few_calls_come_one_by_one_and_as_they_were(
    carriers: tuple[Carrier, Carrier, str],
) -> None:
    one, other, addr = carriers
    packets = packets_for(other.port)
    taken = send_all(one, packets, addr, other.port if other.udp else 0, ecn=2)
    assert sum(taken) == len(packets)
    assert taken[0] >= 32
    arrived = received(other, len(packets))
    assert [data for data, _ in arrived] == packets
    again = send_all(one, packets[:2], addr, other.port if other.udp else 0, ecn=0)
    assert again == [2]
    assert [data for data, _ in received(other, 2)] == packets[:2]


def test_carrier_does_without_segmentation_where_the_kernel_refuses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(UDPCarrier(4, HOSTS[4])) as one, closing(UDPCarrier(4, HOSTS[4])) as other:

        class Refusing:
            """A socket over a device that cannot compute checksums."""

            def __init__(self, sock: socket.socket) -> None:
                self.sendto, self.close = sock.sendto, sock.close

            def sendmsg(self, *_: object) -> int:
                raise OSError(errno.EIO, "no checksums here")

        monkeypatch.setattr(one, "_socket", Refusing(one._socket))
        packets = packets_for(other.port)
        taken = send_all(one, packets, HOSTS[4], other.port, ecn=0)
        assert taken == [1] * len(packets)
        assert [data for data, _ in received(other, len(packets))] == packets
