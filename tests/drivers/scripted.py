"""Fakes for drivers: a machine that writes down its calls, a link that answers echoes, and a
clock that only waiting moves."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP

from rawproto.drivers import aio, blocking
from rawproto.link.base import Arrival
from rawproto.machine import Transmit
from tests.probe.exchange import reply_to


class ScriptedMachine:
    """Writes down what a driver calls, and gives out what it was filled with.

    Attributes:
        calls: (method, arguments...) in order.
        transmits: what `poll_transmit` gives out.
        events: what `poll_event` gives out.
        due_ns: what `poll_timeout` answers.
        finished: whether it wants no more turns.
        on_timeout: what `handle_timeout` does beside being written down.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.transmits: list[Transmit] = []
        self.events: list[object] = []
        self.due_ns: int | None = None
        self.finished = False
        self.on_timeout: Callable[[], None] = lambda: None

    def handle_datagram(self, datagram: object, now_ns: int) -> None:
        self.calls.append(("datagram", datagram, now_ns))

    def handle_transmitted(self, *stamp: object) -> None:
        self.calls.append(("transmitted", *stamp))

    def handle_error(self, error: object, now_ns: int) -> None:
        self.calls.append(("error", error, now_ns))

    def handle_unsent(self, token: int, error: OSError, now_ns: int) -> None:
        self.calls.append(("unsent", token, error, now_ns))

    def handle_timeout(self, now_ns: int) -> None:
        self.calls.append(("timeout", now_ns))
        self.due_ns = None
        self.on_timeout()

    def poll_transmit(self, now_ns: int) -> Transmit | None:
        return self.transmits.pop(0) if self.transmits else None

    def poll_event(self) -> object | None:
        return self.events.pop(0) if self.events else None

    def poll_timeout(self) -> int | None:
        return self.due_ns


class ScriptedLink:
    """Sends nowhere, and receives what it was filled with.

    Attributes:
        arrivals: what `receive` gives out.
        sent: the transmits that it took.
        refuse: what `send` raises for a transmit, None for nothing.
        due_ns: what `poll_timeout` answers.
        descriptor: its descriptor, -1 for none.
    """

    dropped = 0

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.sent: list[Transmit] = []
        self.refuse: Callable[[Transmit], OSError | None] = lambda transmit: None
        self.due_ns: int | None = None
        self.descriptor = -1

    def fileno(self) -> int:
        return self.descriptor

    def send(self, transmit: Transmit) -> int:
        error = self.refuse(transmit)
        if error is not None:
            raise error
        self.sent.append(transmit)
        return 1_000_000 + transmit.token

    def receive(self, limit: int = 64) -> list[Arrival]:
        arrivals, self.arrivals = self.arrivals, []
        return arrivals

    def poll_timeout(self) -> int | None:
        return self.due_ns

    def close(self) -> None:
        """Nothing to give back."""

    def __enter__(self) -> ScriptedLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EchoLink(ScriptedLink):
    """A host that answers each IPv4 echo request after a while, in virtual time.

    Args:
        time: the clock.
        delay_ns: by sequence number, None for no answer.
    """

    def __init__(self, time: VirtualTime, delay_ns: Callable[[int], int | None]) -> None:
        super().__init__()
        self.time = time
        self.delay_ns = delay_ns
        self.waiting: list[tuple[int, Transmit]] = []
        self.sent_at: list[int] = []

    def send(self, transmit: Transmit) -> int:
        super().send(transmit)
        now_ns = self.time()
        self.sent_at.append(now_ns)
        delay_ns = self.delay_ns(IP(transmit.data)[ICMP].seq)
        if delay_ns is not None:
            self.waiting.append((now_ns + delay_ns, transmit))
        return now_ns

    def receive(self, limit: int = 64) -> list[Arrival]:
        now_ns = self.time()
        come = [each for each in self.waiting if each[0] <= now_ns]
        self.waiting = [each for each in self.waiting if each[0] > now_ns]
        return [reply_to(transmit, received_ns=at) for at, transmit in come]

    def poll_timeout(self) -> int | None:
        return min((at for at, _ in self.waiting), default=None)


class VirtualTime:
    """A clock that stands still until a driver waits; `install` puts it in the drivers' place.

    Attributes:
        now_ns: the time.
        waits: how long each wait of the blocking driver was to last, in seconds.
    """

    def __init__(self) -> None:
        self.now_ns = 1000
        self.waits: list[float | None] = []

    def __call__(self) -> int:
        return self.now_ns

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Waiting in either driver takes no time but moves this clock."""
        monkeypatch.setattr(blocking.select, "select", self._select)
        monkeypatch.setattr(aio, "Timer", lambda: VirtualTimer(self))

    def _select(
        self, readers: list[int], writers: list[int], rest: list[int], timeout: float | None
    ) -> tuple[list[int], list[int], list[int]]:
        poll = select.poll()
        for reader in readers:
            poll.register(reader, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(0)]
        if not ready:
            self.waits.append(timeout)
            assert timeout is not None, "it would wait for ever"
            # The kernel's clock moves by itself, too, between two looks at it.
            self.now_ns += max(1000, round(timeout * 1e9))
        return ready, [], []


class VirtualTimer:
    """In place of `drivers.timer.Timer`: its deadline is reached as soon as the loop is idle."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self._due_ns: int | None = None
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._descriptor

    def arm(self, due_ns: int | None) -> None:
        self._due_ns = due_ns
        if due_ns is not None:
            os.eventfd_write(self._descriptor, 1)

    def clear(self) -> None:
        if self._due_ns is not None:
            self._time.now_ns = max(self._time.now_ns, self._due_ns)
            self._due_ns = None
            os.eventfd_read(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def run_blocking(machine: Any, link: Any, on_event: Any, clock: Any) -> None:
    """Runs a machine to its end by the blocking driver."""
    with blocking.BlockingDriver(machine, link, on_event, clock) as driver:
        driver.run()


def run_asyncio(machine: Any, link: Any, on_event: Any, clock: Any) -> None:
    """Runs a machine to its end by the asyncio driver."""
    asyncio.run(aio.run_async(machine, link, on_event, clock))


def descriptors() -> dict[int, str]:
    """This process's descriptors, and what each is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the listing's own
    return found
