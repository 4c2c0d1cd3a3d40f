"""What this host drops unread is counted, for every kind of link."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rawproto import lab
from rawproto.link.packet import PacketLink
from rawproto.link.raw import RawLink

pytestmark = pytest.mark.live

FLOOD = 2000


@pytest.mark.parametrize(
    "open_link",
    [
        pytest.param(lambda: RawLink(4, 1, receive_bytes=4096), id="raw"),
        pytest.param(lambda: PacketLink(receive_bytes=4096), id="packet"),
    ],
)
def test_packets_dropped_for_want_of_buffer_are_counted(open_link: Callable) -> None:
    with lab.up(lab.pair()) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        with h1.entered():
            link = open_link()
        with link:
            h1.run(["ping", "-f", "-q", "-c", str(FLOOD), h2.ipv4])
            read = 0
            for _ in range(FLOOD):
                arrivals = link.receive()
                if not arrivals:
                    break
                read += len(arrivals)
            # The kernel tells of what it dropped with the next packet that it queues.
            h1.run(["ping", "-q", "-c", "1", h2.ipv4])
            read += len(link.receive())
            assert 0 < read < FLOOD
            assert link.dropped >= FLOOD - read
