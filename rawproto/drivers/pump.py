"""One turn of a driver, the same for every way of waiting.

The order is that of `rawproto.machine`: what arrived goes in (transmit stamps
before the replies that need them), the timer runs, packets go out, events go to
the user. How long to sleep is all that is left to the drivers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from rawproto.errors import LinkError
from rawproto.link.base import Link, Transmitted
from rawproto.machine import Datagram, Machine

__all__ = ["Pump"]

MAX_SENT = 32
"""Packets sent in one turn: fewer than are received, so that a machine which always has
something to send hears its answers and its user all the same."""

E = TypeVar("E")


class Pump(Generic[E]):
    """A machine on a link."""

    def __init__(
        self,
        machine: Machine[E],
        link: Link,
        on_event: Callable[[E], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """
        Args:
            machine: any measurement.
            link: where its packets go and come from.
            on_event: called with each event, in order, between turns of the machine.
            clock: monotonic, ns; the one that the link's stamps are on.
        """
        self.machine = machine
        self.link = link
        self.clock = clock
        self._on_event = on_event

    def turn(self) -> int | None:
        """One turn: when the next is due at the latest, None for the next arrival alone."""
        machine, link, clock = self.machine, self.link, self.clock
        arrivals = link.receive()
        now_ns = clock()
        for arrival in arrivals:
            if isinstance(arrival, Datagram):
                machine.handle_datagram(arrival, now_ns)
            elif isinstance(arrival, Transmitted):
                machine.handle_transmitted(
                    arrival.token, arrival.sched_ns, arrival.sent_ns, arrival.stamp_source
                )
            else:
                machine.handle_error(arrival, now_ns)
        due_ns = machine.poll_timeout()
        if due_ns is not None and due_ns <= now_ns:
            machine.handle_timeout(now_ns)
        for _ in range(MAX_SENT):
            transmit = machine.poll_transmit(clock())
            if transmit is None:
                break
            try:
                sent_ns = link.send(transmit)
            except LinkError as error:
                machine.handle_unsent(transmit.token, error, clock())
            else:
                machine.handle_transmitted(transmit.token, None, sent_ns, "user")
        while (event := machine.poll_event()) is not None:
            self._on_event(event)
        if transmit is not None and not machine.finished:
            return now_ns  # there may be more to send, but others come first
        due_ns, link_ns = machine.poll_timeout(), link.poll_timeout()
        if due_ns is None or (link_ns is not None and link_ns < due_ns):
            return link_ns
        return due_ns
