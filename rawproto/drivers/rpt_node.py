"""An event loop's RPT port: pumps an endpoint over a carrier, and wakes who waits for it.

One turn takes in what arrived, lets timers run, sends, and hands events out. Turns come
when a descriptor is readable, when a timerfd says so, and once after any number of
commands. What the kernel does not take now waits, and nothing more is sealed meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections import deque
from collections.abc import Callable

from rawproto.drivers.rpt_connection import RPTConnection
from rawproto.drivers.timer import Timer
from rawproto.errors import ConnectionLostError, LinkError, RefusedError
from rawproto.link.rpt_carrier import Carrier
from rawproto.transport.connection import Address, Connection, State
from rawproto.transport.constants import BASE_PACKET_BYTES
from rawproto.transport.endpoint import Endpoint

__all__ = ["Node"]

_BATCH = 64
_BUSY = (errno.EAGAIN, errno.ENOBUFS)
# Port or protocol unreachable; IPv6 has Parameter Problem for an unknown next header.
_REFUSED = (errno.ECONNREFUSED, errno.ENOPROTOOPT, errno.EPROTO)
_RETRY_NS = 1_000_000


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
        self.endpoint = endpoint
        self.carrier = carrier
        self._on_accept = on_accept
        self._loop = asyncio.get_running_loop()
        self._handles: dict[int, RPTConnection] = {}
        self._unsent: deque[tuple[bytes, Address]] = deque()
        self._timer = Timer()
        self._armed_ns: int | None = None
        self._scheduled = False
        self._closed = False
        self._waiters: list[asyncio.Future[None]] = []
        for descriptor in carrier.filenos():
            self._loop.add_reader(descriptor, self._readable, descriptor)
        self._loop.add_reader(self._timer.fileno(), self._timed)

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
        packets = self.carrier.receive(_BATCH, descriptor)
        now_ns = time.monotonic_ns()
        if packets:
            self.endpoint.receive(packets, now_ns)
        else:
            self._read_errors(now_ns)
        self._turn(now_ns)

    def _read_errors(self, now_ns: int) -> None:
        for error in self.carrier.errors():
            if error.errno == errno.EMSGSIZE and error.mtu is not None:
                self._on_too_big(error.data, error.mtu, now_ns)
            elif error.errno in _REFUSED:
                self.endpoint.on_unreachable(error.data, RefusedError("nobody listens there"))
            else:
                words = os.strerror(error.errno).lower()
                self.endpoint.on_unreachable(error.data, ConnectionLostError(words))

    def _turn(self, now_ns: int) -> None:
        endpoint = self.endpoint
        due_ns = endpoint.poll_timeout()
        if due_ns is not None and due_ns <= now_ns:
            endpoint.handle_timeout(now_ns)
        blocked = not self._send_unsent(now_ns)
        while not blocked:
            packets = endpoint.transmit(now_ns)
            if not packets:
                break
            self._unsent.extend(packets)
            blocked = not self._send_unsent(now_ns)
        self._hand_out()
        if self._closed:
            return
        self._arm(now_ns + _RETRY_NS if blocked else endpoint.poll_timeout())

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

    def _send_unsent(self, now_ns: int) -> bool:
        """Sends what waits: False if the kernel takes no more for now."""
        unsent, send = self._unsent, self.carrier.send
        while unsent:
            data, address = unsent[0]
            try:
                send(data, address)
            except (OSError, LinkError) as error:
                if error.errno in _BUSY:
                    return False
                if error.errno == errno.EMSGSIZE:
                    # The device takes less than we thought, and the route tells how much.
                    limit = min(self.carrier.largest_to(address[0]), len(data) - 1)
                    self._on_too_big(data, limit, now_ns)
                else:
                    failed = LinkError("send to", address[0], error.errno)
                    self.endpoint.on_unreachable(data, failed)
            unsent.popleft()
        return True

    def _on_too_big(self, data: bytes, limit: int, now_ns: int) -> None:
        """A packet does not fit through; set-up packets cannot be made smaller."""
        self.endpoint.on_refused(data, limit, now_ns)
        if limit < BASE_PACKET_BYTES:
            words = f"the way takes {limit} bytes of RPT, and {BASE_PACKET_BYTES} are needed"
            self.endpoint.on_unreachable(data, LinkError("connect", "", errno.EMSGSIZE, words))

    def _hand_out(self) -> None:
        endpoint = self.endpoint
        while (accepted := endpoint.accept()) is not None:
            self._on_accept(self.adopt(accepted))
        for connection in endpoint.active():
            handle = self._handles.get(connection.cid)
            if handle is not None:
                handle.hand_out()
                if connection.state is State.CLOSED:
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
        for handle in list(self._handles.values()):
            handle.abandon()
            handle.forgotten()
        self._handles.clear()
