"""Connections to exits: kept up, come back to when they break, and the least busy chosen.

A `Way` over several: `relay.balance.Targets` chooses among those that are well; a connection
for a session that breaks before it stands is tried at the next. While none is up, sessions are
refused with what the last attempt failed with, at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

from rawproto.apps.proxy.associations import Passage, Take
from rawproto.apps.proxy.channels import CallChannel
from rawproto.apps.proxy.faults import ERRORS
from rawproto.apps.proxy.forwards import PeerWay
from rawproto.apps.proxy.places import Place
from rawproto.apps.proxy.remote import RemoteForwards, RemoteTold
from rawproto.apps.relay.balance import Targets
from rawproto.apps.relay.openers import BROKEN
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import ConnectionLostError, ProtocolError
from rawproto.rpc import RPCError, RPCPeer

__all__ = ["Exit", "Exits"]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0
_HURRIED_WAIT_S = 0.5
_STABLE_S = 5.0
"""A connection that lived for so long is made again at once."""
_CHECK_S = 1.0

T = TypeVar("T")


class Exit:
    """One exit. Where an event loop runs, it keeps a connection until it is closed.

    Args:
        name: for the log.
        dial: connects.
        remote: what it is to listen for.
        tell: called with what it is down for, or None once it is up.
        told: of remote forwards; see `RemoteForwards.run`.
        timeout_s: how long it may take until something stands there.
    """

    def __init__(
        self,
        name: str,
        dial: Callable[[], Awaitable[RPTConnection]],
        remote: RemoteForwards,
        *,
        tell: Callable[[str, Exception | None], None],
        told: RemoteTold,
        timeout_s: float,
    ) -> None:
        self.name = name
        self._dial = dial
        self._remote = remote
        self._tell = tell
        self._told = told
        self._timeout_s = timeout_s
        self._way: PeerWay | None = None
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._task = asyncio.create_task(self._keep())

    async def way(self) -> PeerWay:
        """The way there. Raises what keeps it from being up."""
        while self._way is None:
            self._wanted.set()
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()  # an attempt is under way
        return self._way

    async def _keep(self) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                connection = await self._dial()
                began = time.monotonic()
                try:
                    await self._use(connection)
                finally:
                    connection.abort()
            except BROKEN as error:
                self._fail(error)
            else:
                if time.monotonic() - began >= _STABLE_S:
                    wait_s = _FIRST_WAIT_S
                # Sessions wait for the next attempt, but not for ever: who does not let us in
                # says so over a connection that stands already.
                if wait_s > _FIRST_WAIT_S:
                    self._failure = connection.error or ConnectionLostError("the exit closed")
            self._changed.set()
            await self._pause(wait_s * random.uniform(0.75, 1.25))
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _fail(self, error: Exception) -> None:
        if self._failure is None or str(error) != str(self._failure):
            self._tell(self.name, error)
        self._failure = error

    async def _pause(self, wait_s: float) -> None:
        """Waits, but not long once somebody wants to go there."""
        self._wanted.clear()
        await asyncio.sleep(min(wait_s, _HURRIED_WAIT_S))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(wait_s - _HURRIED_WAIT_S, 0)):
                await self._wanted.wait()

    async def _use(self, connection: RPTConnection) -> None:
        peer = RPCPeer(connection, self._remote.methods, errors=ERRORS)
        self._way = way = PeerWay(peer, self._timeout_s)
        self._failure = None
        self._changed.set()
        self._tell(self.name, None)
        remote = asyncio.create_task(self._remote.run(peer, self._told))
        try:
            await connection.wait_closed()
        finally:
            self._way = None
            remote.cancel()
            await asyncio.gather(remote, return_exceptions=True)
            await way.close()
            await peer.close()
        self._tell(self.name, connection.error or ConnectionLostError("the exit closed"))

    async def close(self) -> None:
        """Ends its connection."""
        self._task.cancel()
        with suppress(asyncio.CancelledError, ConnectionLostError, ProtocolError):
            await self._task


class Exits:
    """The way to whichever is the least busy of those that are well.

    Args:
        exits: one at least; they are this one's from here on.
    """

    def __init__(self, exits: Sequence[Exit]) -> None:
        self._exits = exits
        self._targets = Targets([(each.name, each) for each in exits], lambda name, why: None)
        if len(exits) > 1:
            self._targets.check(_CHECK_S, _check)

    def open(self, place: Place) -> AbstractAsyncContextManager[CallChannel]:
        """As `forwards.Way` has it."""
        return self._used(lambda way: way.open(place))

    def associate(self, take: Take) -> AbstractAsyncContextManager[Passage]:
        """As `forwards.Way` has it."""
        return self._used(lambda way: way.associate(take))

    @asynccontextmanager
    async def _used(
        self, enter: Callable[[PeerWay], AbstractAsyncContextManager[T]]
    ) -> AsyncIterator[T]:
        async with AsyncExitStack() as stack:

            async def attempt(each: Exit) -> T | RPCError:
                way = await each.way()
                try:
                    return await stack.enter_async_context(enter(way))
                except RPCError as error:
                    return error  # the exit is well; it is the target that is not

            result, done = await self._targets.use(attempt)
            stack.callback(done)
            if isinstance(result, RPCError):
                raise result
            yield result

    async def close(self) -> None:
        """Ends all connections."""
        await self._targets.close()
        await asyncio.gather(*[each.close() for each in self._exits])


async def _check(each: Exit) -> None:
    await each.way()
