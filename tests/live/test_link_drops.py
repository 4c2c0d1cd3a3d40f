"""What this host drops unread is counted by packet sockets too."""

from __future__ import annotations

import pytest

from rawproto import lab
from rawproto.link.packet import PacketLink

pytestmark = pytest.mark.live

FLOOD = 2000


def test_frames_dropped_for_want_of_buffer_are_counted() -> None:
    with lab.up(lab.pair()) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        with h1.entered():
            link = PacketLink(receive_bytes=4096)
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
