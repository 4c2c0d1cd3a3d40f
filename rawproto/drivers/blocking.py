"""The blocking driver: the calling thread pumps a machine until it has finished.

It sleeps in `select`, whose time-out has microseconds, and asks the kernel for
exact timers while it runs. Before a deadline that is near anyway it wakes a
little early and looks again and again, because a sleep of 100 us is otherwise
late by as much.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from rawproto.drivers.pump import Pump
from rawproto.link.base import Link
from rawproto.machine import Machine

__all__ = ["BlockingDriver", "exact_timers", "wait_readable"]

E = TypeVar("E")

NEAR_NS = 2_000_000
"""A deadline this near is awaited with open eyes at the end; a farther one is not worth it."""
EARLY_NS = 40_000
"""How long before such a deadline to wake."""


class BlockingDriver(Generic[E]):
    """Runs one machine on one link."""

    def __init__(
        self,
        machine: Machine[E],
        link: Link,
        on_event: Callable[[E], None],
        clock: Callable[[], int] = time.monotonic_ns,
        on_wake: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            machine: see `Pump`.
            link: see `Pump`.
            on_event: see `Pump`.
            clock: see `Pump`.
            on_wake: called between two turns after `wake`: where a signal handler's
                wishes are carried out, since the handler itself may interrupt a turn.
        """
        self._on_wake = on_wake
        self._woken = False
        self._pump = Pump(machine, link, on_event, clock)
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Returns when the machine has finished and its last event was told.

        Raises:
            Whatever `on_event` raises; the machine stands between two turns then.
        """
        machine, turn = self._pump.machine, self._pump.turn
        with exact_timers():
            while True:
                due_ns = turn()
                if self._woken:
                    self._woken = False
                    self._on_wake()
                    due_ns = turn()
                if machine.finished:
                    return
                self._sleep(due_ns)

    def wake(self) -> None:
        """Makes a sleeping `run` take a turn now: for signal handlers and other threads."""
        self._woken = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"\0")

    @property
    def wake_descriptor(self) -> int:
        """What is written to wake it: for `signal.set_wakeup_fd`."""
        return self._wake_writer

    def close(self) -> None:
        """Gives its descriptors back, not the link's."""
        for descriptor in (self._wake_reader, self._wake_writer):
            if descriptor >= 0:
                os.close(descriptor)
        self._wake_reader = self._wake_writer = -1

    def __enter__(self) -> BlockingDriver[E]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sleep(self, due_ns: int | None) -> None:
        left_ns = None if due_ns is None else due_ns - self._pump.clock()
        if left_ns is not None and left_ns <= 0:
            return
        if left_ns is not None and left_ns < NEAR_NS:
            left_ns = max(0, left_ns - EARLY_NS)
        if self._wait(left_ns):
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_reader, 4096)

    def _wait(self, left_ns: int | None) -> bool:
        """Waits for an arrival, a call of `wake`, or the time; whether it was `wake`."""
        descriptors = [self._wake_reader]
        if self._pump.link.fileno() >= 0:
            descriptors.append(self._pump.link.fileno())
        return self._wake_reader in wait_readable(left_ns, *descriptors)


def wait_readable(left_ns: int | None, *descriptors: int) -> list[int]:
    """Waits until one of the descriptors is readable: those that are.

    Args:
        left_ns: for so long at most, None for ever.
        descriptors: one or more.
    """
    timeout = None if left_ns is None else left_ns / 1e9
    if max(descriptors) < 1024:
        return select.select(descriptors, [], [], timeout)[0]
    # select cannot count so far; poll can, but only in whole milliseconds.
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if timeout is None else timeout * 1000)]


@contextlib.contextmanager
def exact_timers() -> Iterator[None]:
    """Timers without the 50 us of slack that the kernel gives ordinary threads.

    Of the calling thread alone: /proc/self would mean the main one, which others may not
    touch, and two of which each put back what it found would leave it with none.
    """
    try:
        # <process>/task/<thread>, as the /proc that is mounted here counts them.
        thread = os.readlink("/proc/thread-self").rpartition("/")[2]
        slack = f"/proc/{thread}/timerslack_ns"
        with open(slack, "r+") as file:
            before = file.read()
            file.write("1")
    except OSError:
        # An old kernel or a sandbox: timers are late by the slack, nothing else.
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError), open(slack, "w") as file:
            file.write(before)
