"""-R: the other side listens, and what connects there is opened here.

The methods of `RemoteForwards` are mounted on the `RPCPeer` on which it runs. Where a forward has
no target, each who connects asks for one by SOCKS5, as at `dynamic`'s door.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from rawproto.apps.proxy.associations import Passage, Take
from rawproto.apps.proxy.channels import CallChannel, answered
from rawproto.apps.proxy.dynamic import Socks
from rawproto.apps.proxy.faults import BrokenError, DeniedError, target_error
from rawproto.apps.proxy.forwards import Tell, accounted
from rawproto.apps.proxy.places import Forward, Place
from rawproto.apps.relay.channels import SocketChannel
from rawproto.apps.relay.join import join
from rawproto.apps.relay.openers import BROKEN
from rawproto.apps.relay.relay import Session
from rawproto.apps.relay.sockets import connected_host, connected_unix
from rawproto.errors import RawprotoError
from rawproto.rpc import Call, Method, RPCError, RPCPeer, UnknownMethodError

__all__ = ["RemoteForwards", "RemoteTold"]

RemoteTold = Callable[[Forward, int, RPCError | None], None]
"""Hears of a forward that the other side listens for, with its port; or why it does not."""


class RemoteForwards:
    """-R: listens there, connects here.

    Args:
        forwards: from where there to where here, or to whatever is asked for.
        tell: hears of sessions.
        timeout_s: how long connecting may take.
    """

    def __init__(self, forwards: Sequence[Forward], tell: Tell, timeout_s: float = 10.0) -> None:
        self._forwards = tuple(forwards)
        self._tell = tell
        self._timeout_s = timeout_s
        self._here = _Here(timeout_s)
        self._socks = Socks(self._here, tell)

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
        forward = self._forwards[number]
        near = CallChannel(call, f"the exit's {forward.bind}", called=False)
        if forward.target is None:
            await call.send({"address": []})
            await self._socks.serve(near, lambda: None)
        else:
            await self._carry(near, call, forward.target)

    async def _carry(self, near: CallChannel, call: Call, target: Place) -> None:
        failed: list[Exception] = []

        async def carry(session: Session) -> None:
            try:
                async with self._here.open(target) as channel:
                    await call.send({"address": []})
                    await join(near, channel, session.carried, 0)
            except BROKEN as error:
                failed.append(error)
                raise

        await accounted(near, str(target), self._tell, carry)
        for error in failed:
            raise error if isinstance(error, RawprotoError) else BrokenError(str(target))


class _Target(SocketChannel):
    """One that is connected: a `Reached`."""

    @property
    def address(self) -> tuple[str, int]:
        name = self.socket.getsockname()
        return (str(name[0]), int(name[1])) if isinstance(name, tuple) else ("", 0)


class _Here:
    """The `Way` that leads nowhere: targets are this host's own.

    Args:
        timeout_s: how long connecting may take.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def open(self, place: Place) -> AsyncIterator[_Target]:
        channel = await self._connected(place)
        try:
            yield channel
        finally:
            channel.abort()  # nothing, where it was closed well

    async def _connected(self, place: Place) -> _Target:
        try:
            async with asyncio.timeout(self._timeout_s):
                if place.path:
                    return _Target(await connected_unix(place.path), place.path)
                made = await connected_host(place.host, place.port, socket.SOCK_STREAM)
                return _Target(made, str(place))
        except OSError as error:
            raise target_error(error, str(place)) from None

    def associate(self, take: Take) -> AbstractAsyncContextManager[Passage]:
        raise UnknownMethodError("no datagrams")
