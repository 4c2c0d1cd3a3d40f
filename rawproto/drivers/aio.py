"""The asyncio driver: an event loop pumps a machine until it has finished.

The link and a timerfd wake it through `add_reader`; between wake-ups it holds no
task of its own. Cancelling the waiting coroutine leaves neither reader nor
descriptor behind. What must be opened before may have to wait for a name server,
so a thread opens it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import Thread
from typing import Protocol, TypeVar

from rawproto.drivers.pump import Pump
from rawproto.drivers.timer import Timer
from rawproto.link.base import Link
from rawproto.machine import Machine

__all__ = ["open_async", "run_async"]

E = TypeVar("E")


class Closable(Protocol):
    """What wants to be closed by whoever gets it."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


async def open_async(open_it: Callable[[], C]) -> C:
    """Opens something in a thread of its own, which is in the caller's network namespace.

    Cancelled, nobody waits for the thread; what it opens then is closed.

    Raises:
        Whatever `open_it` raises.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[C] = loop.create_future()

    def settle(opened: C | None, error: Exception | None) -> None:
        if outcome.done():
            if opened is not None:
                opened.close()
        elif opened is not None:
            outcome.set_result(opened)
        elif error is not None:
            outcome.set_exception(error)

    def work() -> None:
        opened, caught = None, None
        try:
            opened = open_it()
        except Exception as error:
            caught = error
        try:
            loop.call_soon_threadsafe(settle, opened, caught)
        except RuntimeError:  # the loop is closed, which has cancelled everything
            if opened is not None:
                opened.close()

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        return await outcome
    finally:
        if not outcome.cancelled():
            thread.join()  # it has nothing left to do, and leaves nothing behind


async def run_async(
    machine: Machine[E],
    link: Link,
    on_event: Callable[[E], None],
    clock: Callable[[], int] = time.monotonic_ns,
) -> None:
    """Pumps until the machine has finished; see `Pump` for the arguments.

    Raises:
        Whatever `on_event` raises.
    """
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()
    pump = Pump(machine, link, on_event, clock)
    timer = Timer()

    def turn() -> None:
        if finished.done():
            return
        try:
            timer.clear()
            due_ns = pump.turn()
        except BaseException as error:
            finished.set_exception(error)
            return
        if machine.finished:
            finished.set_result(None)
        else:
            timer.arm(due_ns)

    descriptors = [timer.fileno()]
    if link.fileno() >= 0:
        descriptors.append(link.fileno())
    try:
        for descriptor in descriptors:
            loop.add_reader(descriptor, turn)
        turn()
        await finished
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)
        timer.close()
