"""The client's half: what listens on this host and opens there.

A `Way` leads to where targets are: `PeerWay` to an exit over a connection that somebody else has,
`exits.Exits` to one of several, `remote.Here` to none. `LocalForward` is -L.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from rawproto.apps.proxy.associations import DatagramSwitch, Passage, Take
from rawproto.apps.proxy.channels import CallChannel, answered, opened
from rawproto.apps.proxy.door import Door, Visit
from rawproto.apps.proxy.places import Forward, Place
from rawproto.apps.relay.channels import Channel
from rawproto.apps.relay.join import join
from rawproto.apps.relay.openers import BROKEN
from rawproto.apps.relay.relay import Session
from rawproto.rpc import RPCPeer

__all__ = ["LocalForward", "PeerWay", "Reached", "Tell", "Way", "accounted"]

Tell = Callable[[Session], None]
"""Hears of each session that ended."""


class Reached(Channel, Protocol):
    """A channel to a place."""

    @property
    def address(self) -> tuple[str, int]:
        """What its far socket is bound to; ("", 0) for a Unix socket."""
        ...


class Way(Protocol):
    """Leads to where targets are."""

    def open(self, place: Place) -> AbstractAsyncContextManager[Reached]:
        """A connection from there to a place; see `channels.opened`. Raises one of `BROKEN`."""
        ...

    def associate(self, take: Take) -> AbstractAsyncContextManager[Passage]:
        """A way for datagrams; `take` is called with those that come. Raises likewise."""
        ...


class PeerWay:
    """The way over one connection.

    Args:
        peer: its other side has the methods of `ExitService`, and `faults.ERRORS` are known.
        timeout_s: how long it may take until a connection stands.
    """

    def __init__(self, peer: RPCPeer, timeout_s: float = 15.0) -> None:
        self._peer = peer
        self._timeout_s = timeout_s
        self._switch: DatagramSwitch | None = None
        self._numbers = itertools.count()

    def open(self, place: Place) -> AbstractAsyncContextManager[CallChannel]:
        return opened(self._peer, place.params, str(place), self._timeout_s)

    @asynccontextmanager
    async def associate(self, take: Take) -> AsyncIterator[Passage]:
        if self._switch is None:
            self._switch = DatagramSwitch(self._peer.connection)
        number = next(self._numbers) & 0xFFFF_FFFF
        params = {"association": number}
        async with self._peer.open("associate", params, timeout_s=None) as call:
            await answered(call, "UDP", self._timeout_s)
            passage = Passage(number, self._switch, call, take)
            try:
                yield passage
            finally:
                passage.close()

    async def close(self) -> None:
        """Gives back what it has; the connection stays."""
        if self._switch is not None:
            await self._switch.close()


async def accounted(
    near: Channel, far_name: str, tell: Tell, carry: Callable[[Session], Awaitable[None]]
) -> None:
    """Runs a session, and tells of it; what breaks it, breaks it alone."""
    session = Session(near=near.name, far=far_name)
    began = time.monotonic()
    try:
        await carry(session)
    except BROKEN as error:
        session.error = error
    except asyncio.CancelledError as error:
        session.error = error
        raise
    finally:
        session.duration_s = time.monotonic() - began
        tell(session)


class LocalForward:
    """-L: listens here, connects there.

    Args:
        forward: from where to where.
        way: to where the target is.
        tell: hears of sessions.
        most: sessions at once.

    Attributes:
        door: what listens.

    Raises:
        LinkError: the port cannot be had.
    """

    def __init__(self, forward: Forward, way: Way, tell: Tell, *, most: int = 500) -> None:
        assert forward.target is not None
        self._target = forward.target
        self._way = way
        self._tell = tell
        self.door = Door(forward.bind, self._serve, most=most)

    async def _serve(self, visit: Visit) -> None:
        visit.greeted()

        async def carry(session: Session) -> None:
            async with self._way.open(self._target) as far:
                await join(visit.channel, far, session.carried, 0)

        await accounted(visit.channel, str(self._target), self._tell, carry)
