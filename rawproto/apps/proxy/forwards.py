"""The client's half: what listens on this host and opens there, and the other way round.

A `Way` leads to an exit: `PeerWay` is one over a connection that somebody else has, `exits.Exits`
one over several. `LocalForward` is -L; `RemoteForwards` is -R: its methods are mounted on the
`RPCPeer` on which it runs.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from rawproto.apps.proxy.associations import DatagramSwitch, Passage, Take
from rawproto.apps.proxy.channels import CallChannel, answered, opened
from rawproto.apps.proxy.door import Door, Visit
from rawproto.apps.proxy.faults import BrokenError, DeniedError, target_error
from rawproto.apps.proxy.places import Forward, Place
from rawproto.apps.relay.channels import Channel, SocketChannel
from rawproto.apps.relay.join import join
from rawproto.apps.relay.openers import BROKEN
from rawproto.apps.relay.relay import Session
from rawproto.apps.relay.sockets import connected_host, connected_unix
from rawproto.errors import RawprotoError
from rawproto.rpc import Call, Method, RPCError, RPCPeer

__all__ = ["LocalForward", "PeerWay", "RemoteForwards", "RemoteTold", "Tell", "Way", "accounted"]

Tell = Callable[[Session], None]
"""Hears of each session that ended."""

RemoteTold = Callable[[Forward, int, RPCError | None], None]
"""Hears of a forward that the other side listens for, with its port; or why it does not."""


class Way(Protocol):
    """Leads to an exit."""

    def open(self, place: Place) -> AbstractAsyncContextManager[CallChannel]:
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


class RemoteForwards:
    """-R: listens there, connects here.

    Args:
        forwards: from where there to where here.
        tell: hears of sessions.
        timeout_s: how long connecting may take.
    """

    def __init__(self, forwards: Sequence[Forward], tell: Tell, timeout_s: float = 10.0) -> None:
        self._forwards = tuple(forwards)
        self._tell = tell
        self._timeout_s = timeout_s

    @property
    def methods(self) -> dict[str, Method]:
        """For the `RPCPeer` that `run` is given: how the exit opens back."""
        return {"open": self._open}

    async def run(self, peer: RPCPeer, told: RemoteTold) -> None:
        """Has the other side listen, for as long as the connection lasts.

        Args:
            peer: the other side.
            told: called with each forward once it stands, and its port; and with the error, if
                the other side does not want to, or no longer.

        Raises:
            ConnectionLostError, ProtocolError: it is gone.
        """
        tasks = [
            asyncio.create_task(self._listen(peer, number, forward, told))
            for number, forward in enumerate(self._forwards)
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(
        self,
        peer: RPCPeer,
        number: int,
        forward: Forward,
        told: RemoteTold,
    ) -> None:
        params = {**forward.bind.params, "listener": number}
        try:
            async with peer.open("listen", params, timeout_s=None) as call:
                port = (await answered(call, str(forward.bind), self._timeout_s)).get("port")
                told(forward, port if isinstance(port, int) else 0, None)
                await call.result()
        except RPCError as error:
            told(forward, 0, error)

    async def _open(self, params: Any, call: Call) -> None:
        number = params.get("listener") if isinstance(params, dict) else None
        if type(number) is not int or not 0 <= number < len(self._forwards):
            raise DeniedError("no such listener")
        target = self._forwards[number].target
        near = CallChannel(call, f"the exit's {self._forwards[number].bind}", called=False)
        failed: list[Exception] = []

        async def carry(session: Session) -> None:
            try:
                channel = await self._connect(target)
                try:
                    await call.send({"address": []})
                except BaseException:
                    channel.abort()
                    raise
                await join(near, channel, session.carried, 0)
            except BROKEN as error:
                failed.append(error)
                raise

        await accounted(near, str(target), self._tell, carry)
        for error in failed:
            raise error if isinstance(error, RawprotoError) else BrokenError(str(target))

    async def _connect(self, target: Place) -> SocketChannel:
        try:
            async with asyncio.timeout(self._timeout_s):
                if target.path:
                    return SocketChannel(await connected_unix(target.path), target.path)
                made = await connected_host(target.host, target.port, socket.SOCK_STREAM)
                return SocketChannel(made, str(target))
        except OSError as error:
            raise target_error(error, str(target)) from None
