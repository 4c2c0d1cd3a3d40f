"""Runs a machine in virtual time against a scripted network: no sockets, no sleeping."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable

from rawproto.machine import Datagram, ICMPError, Machine, Transmit

Answer = tuple[int, Datagram | ICMPError]
"""(delay in ns, what arrives then)"""


class VirtualNetwork:
    """Pumps a machine; `answer(transmit, now_ns)` says what comes back and when.

    Attributes:
        now_ns: the virtual clock.
        sent: every transmit with its time.
        events: everything that the machine told, in order.
    """

    def __init__(
        self,
        machine: Machine,
        answer: Callable[[Transmit, int], Iterable[Answer]],
        *,
        start_ns: int = 0,
        queued_ns: int | None = None,
        refuse: Callable[[Transmit, int], OSError | None] = lambda transmit, now_ns: None,
    ) -> None:
        self.machine = machine
        self.answer = answer
        self.now_ns = start_ns
        self.queued_ns = queued_ns
        self.refuse = refuse
        self.sent: list[tuple[int, Transmit]] = []
        self.events: list[object] = []
        self._arrivals: list[tuple[int, int, Datagram | ICMPError]] = []
        self._order = itertools.count()

    def turn(self) -> None:
        """One turn of a driver at the present time."""
        machine, now = self.machine, self.now_ns
        while self._arrivals and self._arrivals[0][0] <= now:
            arrival = heapq.heappop(self._arrivals)[2]
            if isinstance(arrival, ICMPError):
                machine.handle_error(arrival, now)
            else:
                machine.handle_datagram(arrival, now)
        due = machine.poll_timeout()
        if due is not None and due <= now:
            machine.handle_timeout(now)
        while (transmit := machine.poll_transmit(now)) is not None:
            error = self.refuse(transmit, now)
            if error is not None:
                machine.handle_unsent(transmit.token, error, now)
                continue
            self.sent.append((now, transmit))
            machine.handle_transmitted(transmit.token, None, now, "user")
            if self.queued_ns is not None:
                machine.handle_transmitted(transmit.token, now, now + self.queued_ns, "kernel")
            for delay_ns, arrival in self.answer(transmit, now):
                arrival.received_ns = now + delay_ns
                heapq.heappush(self._arrivals, (now + delay_ns, next(self._order), arrival))
        while (event := machine.poll_event()) is not None:
            self.events.append(event)

    def run(self, until_ns: int | None = None) -> list[object]:
        """Jumps from event to event until the machine is finished, or to `until_ns`."""
        for _ in range(1_000_000):
            self.turn()
            if self.machine.finished:
                return self.events
            times = [time for time, _, _ in self._arrivals[:1]]
            due = self.machine.poll_timeout()
            if due is not None:
                times.append(due)
            assert times, "the machine waits for ever"
            wake = max(self.now_ns, min(times))
            if until_ns is not None and wake > until_ns:
                self.now_ns = until_ns
                return self.events
            self.now_ns = wake
        raise AssertionError("the machine never ends")
