"""Frames from interface to interface, each by the model of its link and at its time.

    trunk --> arrival, as the kernel stamped it --> model: dropped, or due when? -.
                                                                                  v
    trunk <-- sent, so much too late <------- the moment comes <------- all that is due

A frame is offered to the model at the moment it arrived, not when this process came to
look, so that a delay is the link's alone. What remains is lateness: how long after a
frame was due it was handed to the kernel. It is measured for every frame.

The kernel wakes a sleeper late by up to some hundred microseconds; so it is woken early,
and the rest is waited for with open eyes. A frame that is due at once never sleeps.

What keeps the link itself running (ARP, neighbour discovery, group memberships) takes
its time on the wire, but is spared chance and queue: the n-th packet that a link
drops for a seed is the n-th of the user's packets, whenever some cache expires.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

from rawproto.impair.model import LinkModel
from rawproto.link.timestamps import ClockBridge

__all__ = ["FrameTrunk", "Lane", "Lateness", "Pump", "keeps_link_running"]

BATCH = 16
"""So many frames are taken or sent before others have their turn."""
MAX_PENDING = 131_072
"""Frames under way on all links together; of 1,500 bytes they are 200 MB."""
EARLY_NS = 25_000
"""How long before a frame is due to wake."""


class FrameTrunk(Protocol):
    """What a pump wants of `link.trunk.Trunk`."""

    def fileno(self) -> int: ...
    def receive(self, limit: int) -> list[tuple[int, int, bytes]]: ...
    def send(self, frame: bytes, interface: str) -> None: ...


class Lateness:
    """How late frames left, counted by the microsecond: its size does not depend on how many.

    Attributes:
        count: how many frames.
        max_ns: the latest.
    """

    MOST_US = 2000

    def __init__(self) -> None:
        self.count = 0
        self.max_ns = 0
        self._by_us = [0] * self.MOST_US

    def record(self, late_ns: int) -> None:
        """One frame, late by 0 ns or more."""
        self.count += 1
        if late_ns > self.max_ns:
            self.max_ns = late_ns
        if late_ns < self.MOST_US * 1000:
            self._by_us[late_ns // 1000] += 1

    def quantile_ns(self, share: float) -> int:
        """So late or less were `share` of all, rounded up to a microsecond; 0 for no frames."""
        wanted = share * self.count
        seen = 0
        for us, count in enumerate(self._by_us):
            seen += count
            if count and seen >= wanted:
                return min((us + 1) * 1000, self.max_ns)
        return self.max_ns


class Lane:
    """One direction of a link.

    Args:
        target: the interface by which its frames leave.
        model: what becomes of them before.
        lateness: where it is counted how late they leave.

    Attributes:
        upkeep: frames that keep the link running, which the model never saw.
        refused: frames that the kernel did not take, an interface being down or gone.
    """

    def __init__(self, target: str, model: LinkModel, lateness: Lateness) -> None:
        self.target = target
        self.model = model
        self.lateness = lateness
        self.latest_ns = 0
        self.upkeep = self.refused = 0

    def offer(self, frame: bytes, now_ns: int) -> list[tuple[int, bytes]]:
        """One frame in: (due, frame) for what comes out."""
        if keeps_link_running(frame):
            self.upkeep += 1
            return [(now_ns + self.model.impairment.delay_ns, frame)]
        return self.model.offer(frame, now_ns)


class Pump:
    """Moves the frames of any number of lanes.

    Args:
        trunk: the interfaces of all of them; another may take its place.
        monotonic: the clock of all that is due, ns.
        realtime: the clock of the trunk's stamps, ns.

    Attributes:
        lanes: by the index of the interface where their frames come in.
        overrun: frames dropped because too many were under way.
    """

    def __init__(
        self,
        trunk: FrameTrunk,
        monotonic: Callable[[], int] = time.monotonic_ns,
        realtime: Callable[[], int] = time.time_ns,
    ) -> None:
        self.trunk = trunk
        self.lanes: dict[int, Lane] = {}
        self.overrun = 0
        self._clock = monotonic
        self._bridge = ClockBridge(monotonic, realtime)
        # (when, number, lane, frame): numbered, so that those due at once leave in their order
        self._due: list[tuple[int, int, Lane, bytes]] = []
        self._number = 0

    def run(self, asked: socket.socket, answer: Callable[[], object]) -> None:
        """Pumps until something is raised, and calls `answer` when there is something to read."""
        epoll = select.epoll()
        epoll.register(asked, select.EPOLLIN)
        known: FrameTrunk | None = None
        while True:
            due_ns = self.deliver()
            if known is not self.trunk:  # a closed one has left by itself
                known = self.trunk
                epoll.register(known, select.EPOLLIN)
            ready = epoll.poll(0)
            for descriptor, _ in ready:
                if descriptor == asked.fileno():
                    answer()
                else:
                    self.take()
            if not ready:
                self._sleep(epoll, due_ns)

    def take(self) -> None:
        """Offers what has arrived to the models, a batch at most."""
        arrivals = self.trunk.receive(BATCH)
        self._bridge.sample()
        received_at, due = self._bridge.received_at, self._due
        for real_ns, index, frame in arrivals:
            lane = self.lanes.get(index)
            if lane is None:
                continue
            # Stamps of several cores may be out of order by a little, the model wants them not to.
            at_ns = max(received_at(real_ns, lane.latest_ns) or self._clock(), lane.latest_ns)
            lane.latest_ns = at_ns
            for due_ns, data in lane.offer(frame, at_ns):
                if len(due) >= MAX_PENDING:
                    self.overrun += 1
                else:
                    self._number += 1
                    heappush(due, (due_ns, self._number, lane, data))

    def deliver(self) -> int | None:
        """Sends what is due, a batch at most: when the next is, None for never."""
        due, send, clock = self._due, self.trunk.send, self._clock
        for _ in range(BATCH):
            if not due:
                return None
            late_ns = clock() - due[0][0]
            if late_ns < 0:
                break
            _, _, lane, frame = heappop(due)
            lane.lateness.record(late_ns)
            try:
                send(frame, lane.target)
            except OSError:
                lane.refused += 1
        return due[0][0] if due else None

    def _sleep(self, epoll: select.epoll, due_ns: int | None) -> None:
        left_ns = None if due_ns is None else due_ns - EARLY_NS - self._clock()
        if left_ns is None or left_ns > 0:
            # epoll's own time-out has whole milliseconds only.
            select.select([epoll], [], [], None if left_ns is None else left_ns / 1e9)


def keeps_link_running(frame: bytes) -> bool:
    """Whether a frame is no packet of a user's: ARP, ICMPv6 of RFC 4861 and 3810, or IGMP."""
    ethertype = frame[12:14]
    if ethertype == b"\x08\x00":
        return frame[23:24] == b"\x02"
    if ethertype == b"\x86\xdd":
        if frame[20:21] == b"\x3a":
            return frame[54:55] in _NEIGHBOR_DISCOVERY
        # Multicast listeners report behind a hop-by-hop header of eight bytes.
        return frame[20:21] == b"\0" and frame[54:56] == b"\x3a\0" and frame[62:63] in _LISTENERS
    return ethertype == b"\x08\x06"


_NEIGHBOR_DISCOVERY = tuple(bytes([icmp_type]) for icmp_type in range(133, 138))
_LISTENERS = tuple(bytes([icmp_type]) for icmp_type in (130, 131, 132, 143))
