"""Two links joined in memory: what one sends the other receives, at once and whole.

For tests and examples: no sockets, no privilege, and time is whatever clock the
pair is given. Such a link is what a raw link between two hosts would be, without
the hosts: it takes whole IP packets, hands over datagrams, and drops fragments and
what is no IP packet.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable
from typing import Self

from rawproto.errors import LinkError
from rawproto.link.base import Arrival, Transmitted
from rawproto.link.decapsulate import datagram_from_packet
from rawproto.machine import Datagram, Transmit

__all__ = ["MemoryLink"]


class MemoryLink:
    """One end; `MemoryLink.pair` makes both.

    Args:
        clock: monotonic, ns.
        capacity: most packets that wait to be received; further ones are dropped.

    Attributes:
        identifier: None: the ICMP identifier goes out as laid out.
    """

    identifier: None = None

    def __init__(
        self, clock: Callable[[], int] = time.monotonic_ns, *, capacity: int = 65_536
    ) -> None:
        self._clock = clock
        self._capacity = capacity
        self._peer: MemoryLink | None = None
        self._stamps: list[Transmitted] = []
        self._waiting: deque[Datagram] = deque()
        self._dropped = 0
        self._closed = False

    @classmethod
    def pair(
        cls, clock: Callable[[], int] = time.monotonic_ns, *, capacity: int = 65_536
    ) -> tuple[MemoryLink, MemoryLink]:
        """Both ends of a cable, on one clock."""
        one, other = cls(clock, capacity=capacity), cls(clock, capacity=capacity)
        one._peer, other._peer = other, one
        return one, other

    @property
    def dropped(self) -> int:
        """Packets that found `capacity` others waiting."""
        return self._dropped

    def fileno(self) -> int:
        """There is none: `poll_timeout` tells of arrivals."""
        return -1

    def send(self, transmit: Transmit) -> int:
        """Hands one packet to the other end; see `link.base.Link.send`."""
        if self._closed or self._peer is None:
            raise LinkError("send to", transmit.dst_addr, errno.EBADF)
        now_ns = self._clock()
        self._peer._deliver(bytes(transmit.data), now_ns)
        if len(self._stamps) < self._capacity:
            self._stamps.append(
                Transmitted(
                    token=transmit.token, sched_ns=now_ns, sent_ns=now_ns, stamp_source="user"
                )
            )
        return now_ns

    def receive(self, limit: int = 64) -> list[Arrival]:
        """What has arrived; see `link.base.Link.receive`."""
        if self._closed:
            raise LinkError("receive", "", errno.EBADF)
        arrivals: list[Arrival] = [*self._stamps]
        self._stamps.clear()
        for _ in range(min(limit, len(self._waiting))):
            arrivals.append(self._waiting.popleft())
        return arrivals

    def poll_timeout(self) -> int | None:
        """The past while something waits to be received, else None."""
        if self._stamps:
            return self._stamps[0].sent_ns
        return self._waiting[0].received_ns if self._waiting else None

    def close(self) -> None:
        """What was on its way is gone."""
        self._closed = True
        self._stamps.clear()
        self._waiting.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _deliver(self, packet: bytes, now_ns: int) -> None:
        if self._closed:
            return
        if len(self._waiting) >= self._capacity:
            self._dropped += 1
            return
        datagram = datagram_from_packet(packet, now_ns)
        if datagram is not None:
            self._waiting.append(datagram)
