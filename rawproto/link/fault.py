"""A link that goes wrong on purpose: any link behind two of `rawproto.impair`'s models.

    send --> [model out] --> link inside --> [model in] --> receive

It stands for a network between the wrapped link and the world. A packet that the
model delays or loses counts as sent when it was handed over: for it the stamps of the
link inside are kept back, as they would tell when the emulated network let it go.

Delayed packets leave and arrive within `receive`; `poll_timeout` says when to call
it. The same seed and the same packets give the same faults; with the wrapped link in
memory and a virtual clock a whole run is repeatable.
"""

from __future__ import annotations

import dataclasses
import errno
import heapq
import random
import time
from collections.abc import Callable
from typing import Self

from rawproto.errors import LinkError
from rawproto.impair import Impairment, LinkModel
from rawproto.link.base import Arrival, Link, Transmitted, arrival_order
from rawproto.machine import Datagram, Transmit

__all__ = ["FaultLink"]

_MAX_PENDING = 65_536
_IPV6_HEADER = bytes(40)


class FaultLink:
    """A link, worse.

    Args:
        link: what carries the packets; owned from here on.
        rng: where chance comes from.
        outgoing: what becomes of packets sent; None leaves them alone.
        incoming: what becomes of datagrams received; None leaves them alone.
        clock: monotonic, ns; the one that the link's stamps are on.

    Attributes:
        outgoing: the model of packets sent; its `statistics` tell what became of them.
        incoming: likewise of datagrams received.
    """

    def __init__(
        self,
        link: Link,
        rng: random.Random,
        *,
        outgoing: Impairment | None = None,
        incoming: Impairment | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.link = link
        self.outgoing = LinkModel(outgoing or Impairment(), rng)
        self.incoming = LinkModel(incoming or Impairment(), rng)
        self._clock = clock
        self._count = 0
        # (due, count, what is due); the count keeps those due at once in their order.
        self._leaving: list[tuple[int, int, Transmit]] = []
        self._arriving: list[tuple[int, int, Datagram]] = []
        self._stamps: list[Transmitted] = []
        # Tokens whose stamps the link inside still owes, and how many packets went under each.
        self._muted: dict[int, int] = {}
        self._latest_in_ns = 0
        self._closed = False

    @property
    def dropped(self) -> int:
        """As of the link inside: faults are no drops of this host."""
        return self.link.dropped

    def fileno(self) -> int:
        """As of the link inside."""
        return self.link.fileno()

    def send(self, transmit: Transmit) -> int:
        """Sends, sooner or later, once or twice or never; see `link.base.Link.send`.

        Raises:
            LinkError: the link inside refused a packet that the model left alone.
        """
        if self._closed:
            raise LinkError("send to", transmit.dst_addr, errno.EBADF)
        now_ns = self._clock()
        copies = self.outgoing.offer(transmit.data, now_ns)
        if len(copies) == 1:
            due_ns, data = copies[0]
            if due_ns <= now_ns and data == transmit.data:
                return self.link.send(transmit)
        for due_ns, data in copies:
            if len(self._leaving) < _MAX_PENDING:
                self._count += 1
                faulty = dataclasses.replace(transmit, data=data)
                heapq.heappush(self._leaving, (due_ns, self._count, faulty))
        if len(self._stamps) < _MAX_PENDING:
            self._stamps.append(
                Transmitted(
                    token=transmit.token, sched_ns=now_ns, sent_ns=now_ns, stamp_source="user"
                )
            )
        self._release(now_ns)
        return now_ns

    def receive(self, limit: int = 64) -> list[Arrival]:
        """What has arrived and is due; see `link.base.Link.receive`."""
        self._release(self._clock())
        arrivals: list[Arrival] = [*self._stamps]
        self._stamps.clear()
        for arrival in self.link.receive(limit):
            if isinstance(arrival, Datagram):
                self._offer(arrival)
            elif not isinstance(arrival, Transmitted) or not self._is_muted(arrival.token):
                arrivals.append(arrival)
        arrivals.sort(key=arrival_order)
        now_ns = self._clock()
        arriving = self._arriving
        for _ in range(limit):
            if not arriving or arriving[0][0] > now_ns:
                break
            arrivals.append(heapq.heappop(arriving)[2])
        return arrivals

    def poll_timeout(self) -> int | None:
        """When the next packet is due, either way; or the link inside has something."""
        times = [queue[0][0] for queue in (self._leaving, self._arriving) if queue]
        if self._stamps:
            times.append(self._stamps[0].sent_ns)
        inside_ns = self.link.poll_timeout()
        if inside_ns is not None:
            times.append(inside_ns)
        return min(times, default=None)

    def close(self) -> None:
        """What is on its way is lost; closes the link inside."""
        self._closed = True
        self._leaving.clear()
        self._arriving.clear()
        self._stamps.clear()
        self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _release(self, now_ns: int) -> None:
        """Sends what is due to leave."""
        leaving = self._leaving
        while leaving and leaving[0][0] <= now_ns:
            transmit = heapq.heappop(leaving)[2]
            try:
                self.link.send(transmit)
            except LinkError:
                # Damaged beyond what the link inside sends, or no room: the network lost it.
                continue
            if len(self._muted) < _MAX_PENDING:
                self._muted[transmit.token] = self._muted.get(transmit.token, 0) + 1

    def _is_muted(self, token: int) -> bool:
        owed = self._muted.pop(token, 0)
        if owed > 1:
            self._muted[token] = owed - 1
        return owed > 0

    def _offer(self, datagram: Datagram) -> None:
        """Sends a datagram through the model of what comes in, header and all."""
        # Models want times that don't run backwards; stamps of two devices may.
        at_ns = self._latest_in_ns = max(self._latest_in_ns, datagram.received_ns)
        header = datagram.header or (_IPV6_HEADER if ":" in datagram.src_addr else bytes(20))
        for due_ns, packet in self.incoming.offer(header + datagram.data, at_ns):
            if packet[: len(header)] != header:
                continue  # no host takes a packet with a damaged header
            if len(self._arriving) >= _MAX_PENDING:
                return
            self._count += 1
            late = datagram
            data = packet[len(header) :]
            if due_ns != datagram.received_ns or data != datagram.data:
                late = dataclasses.replace(
                    datagram, data=data, received_ns=due_ns, stamp_source="user"
                )
            heapq.heappush(self._arriving, (due_ns, self._count, late))
