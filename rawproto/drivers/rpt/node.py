"""An event loop's RPT port: pumps an endpoint over a carrier, and wakes who waits for it.

Turns come when a descriptor is readable, when a timerfd says so, and once after any number of
commands; what a turn is, `port` knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.port import FEW, Port
from rawproto.drivers.timer import Timer
from rawproto.link.rpt_carrier import Carrier
from rawproto.transport.connection import Connection
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.stream import Stream

__all__ = ["Node"]

_ARRIVAL_S, _FAREWELL_S = 3.0, 0.3
"""How long an event loop that ends waits for what was sent to arrive, and then for peers to
answer CLOSE."""


class Node:
    """One port, in the running event loop.

    Args:
        endpoint: what is pumped.
        carrier: over what.
        on_accept: called with each connection that a client made.

    Attributes:
        carrier: as given.
        endpoint: as given.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        carrier: Carrier,
        on_accept: Callable[[RPTConnection], None] = lambda connection: None,
    ) -> None:
        self._timer = Timer()  # there may be no descriptor left for it
        self.endpoint = endpoint
        self.carrier = carrier
        self._on_accept = on_accept
        self._loop = asyncio.get_running_loop()
        self._handles: dict[int, RPTConnection] = {}
        self._port = Port(endpoint, carrier)
        self._armed_ns: int | None = None
        self._scheduled = self._waits_for_answer = False
        self._closed = False
        self._data = carrier.filenos()[0]
        self._waiters: list[asyncio.Future[None]] = []
        for descriptor in carrier.filenos():
            self._loop.add_reader(descriptor, self._readable, descriptor)
        self._loop.add_reader(self._timer.fileno(), self._timed)
        self._life = self._live()
        with suppress(StopIteration):
            self._life.__anext__().send(None)

    async def _live(self) -> AsyncGenerator[None, None]:
        """An event loop that ends closes its asynchronous generators, and with this one the node:
        what was written gets a moment to arrive, peers are told, and the port is given back,
        even if nobody waited for that."""
        try:
            yield
        finally:
            if not self._closed:
                await self._take_leave()
                self.close()

    async def _take_leave(self) -> None:
        self.endpoint.refuse()
        handles = list(self._handles.values())
        for handle in handles:
            handle.machine.close(time.monotonic_ns())
            handle.wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ARRIVAL_S):
                for handle in handles:
                    await handle.wait_closed()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await self.drained()

    def adopt(self, connection: Connection) -> RPTConnection:
        """The handle of a connection, for its user."""
        handle = RPTConnection(connection, self)
        self._handles[connection.cid] = handle
        self.wake(connection)
        return handle

    def wake(self, connection: Connection) -> None:
        """A command was given: a turn follows."""
        self.endpoint.touch(connection)
        self._schedule()

    def soon(self, call: Callable[[], None]) -> None:
        """Has something called from the event loop, if that runs still; from any thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def _schedule(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._soon)

    def _soon(self) -> None:
        self._scheduled = False
        if not self._closed:
            self._turn(time.monotonic_ns())

    def _timed(self) -> None:
        self._timer.clear()
        self._armed_ns = None
        self._turn(time.monotonic_ns())

    def _readable(self, descriptor: int) -> None:
        port, packets = self._port, 0
        if descriptor == self._data and port.sparse:
            found = port.receive_one(descriptor)
            if found is not None:
                connection, stream = found
                handle = self._handles.get(connection.cid)
                if handle is not None and handle.came_alone(stream):
                    if not self._waits_for_answer:
                        self._waits_for_answer = True
                        self._loop.call_soon(self._unless_answered)
                    return
                connection.incoming.tell_readable(stream)
            packets = 1
        packets += port.receive(descriptor)
        if 0 < packets <= FEW:
            self._hand_out()
            self._schedule()  # behind the tasks that were just woken
        else:
            self._turn(time.monotonic_ns())

    def _unless_answered(self) -> None:
        """The task that was woken had its turn: was it an answer that took all along?"""
        self._waits_for_answer = False
        if self._port.pending and not self._closed:
            self._turn(time.monotonic_ns())

    def send_one(self, connection: Connection, stream: Stream, data: bytes) -> bool:
        """Sends a stream's data without a turn, if that is possible: see `Port.send_one`."""
        if self._closed:
            return False
        due_ns = self._port.send_one(connection, stream, data, time.monotonic_ns())
        if due_ns is None:
            return False
        armed_ns = self._armed_ns
        if armed_ns is None or due_ns < armed_ns:
            self._armed_ns = due_ns
            self._timer.arm(due_ns)
        return True

    def _turn(self, now_ns: int) -> None:
        self._port.turn(now_ns)
        self._hand_out()
        if not self._closed:
            self._arm(self._port.due_ns(now_ns))

    def _arm(self, due_ns: int | None) -> None:
        """Has a turn come in time; one that comes early is cheaper than to set the timer anew."""
        armed_ns = self._armed_ns
        if due_ns is None:
            return
        if due_ns <= time.monotonic_ns():  # to send a burst took longer than its pace
            self._schedule()
        elif armed_ns is None or due_ns < armed_ns:
            self._armed_ns = due_ns
            self._timer.arm(due_ns)

    def _hand_out(self) -> None:
        endpoint = self.endpoint
        while (accepted := endpoint.accept()) is not None:
            self._on_accept(self.adopt(accepted))
        for connection in endpoint.active():
            handle = self._handles.get(connection.cid)
            if handle is not None:
                handle.hand_out()
                if connection.cid not in endpoint.connections:
                    del self._handles[connection.cid]
                    handle.forgotten()
        if not endpoint.connections:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    async def drained(self) -> None:
        """Returns once every connection is forgotten: soon after they were all closed."""
        if self.endpoint.connections and not self._closed:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def close(self) -> None:
        """Gives port, timer and descriptors back; connections end without a word."""
        if self._closed:
            return
        self._closed = True
        for descriptor in [*self.carrier.filenos(), self._timer.fileno()]:
            self._loop.remove_reader(descriptor)
        self._timer.close()
        self.carrier.close()
        with suppress(StopIteration, RuntimeError):  # or it is what closes us
            self._life.aclose().send(None)
        for handle in list(self._handles.values()):
            handle.abandon()
            handle.forgotten()
        self._handles.clear()
