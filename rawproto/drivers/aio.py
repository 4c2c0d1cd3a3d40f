"""The asyncio driver: an event loop pumps a machine until it has finished.

The link and a timerfd wake it through `add_reader`; between wake-ups it holds no
task of its own. Cancelling the waiting coroutine leaves neither reader nor
descriptor behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from rawproto.drivers.pump import Pump
from rawproto.drivers.timer import Timer
from rawproto.link.base import Link
from rawproto.machine import Machine

__all__ = ["run_async"]

E = TypeVar("E")


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
