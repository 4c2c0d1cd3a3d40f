"""What listens for programs of a host: a few sockets, a task for each who comes.

Sessions are bounded. Where there is no room, who has not said yet what it wants gives way to
who comes: the one that takes longest. Where all have said it, who comes waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from rawproto.apps.proxy.places import LOOPBACK, Place
from rawproto.apps.relay.channels import Channel, SocketChannel
from rawproto.apps.relay.ends import End
from rawproto.apps.relay.sockets import Acceptor
from rawproto.errors import LinkError

__all__ = ["Door", "Visit", "take_leave"]

_LEAVE_S = 1.0
_LEAVE_PIECES = 16


class Visit:
    """Somebody who came.

    Args:
        channel: to them.
        greeted: called once they have said what they want.
    """

    def __init__(self, channel: SocketChannel, greeted: Callable[[], None]) -> None:
        self.channel = channel
        self.greeted = greeted


class Door:
    """Listens, where an event loop runs.

    Args:
        place: where; `localhost` is 127.0.0.1 and, where there is one, ::1.
        serve: has a channel from then on.
        most: sessions at once.
        acceptors: what listens there, if somebody else has made it.

    Attributes:
        bound: the place, with the port that it got.

    Raises:
        LinkError: the port cannot be had.
    """

    def __init__(
        self,
        place: Place,
        serve: Callable[[Visit], Awaitable[None]],
        *,
        most: int = 500,
        acceptors: Sequence[Acceptor] = (),
    ) -> None:
        self._acceptors = acceptors or _acceptors(place)
        self.bound = place if place.path else Place(place.host, self._acceptors[0].port)
        self._serve = serve
        self._most = most
        self._sessions: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[None], None] = {}  # in the order in which they came
        self._left = asyncio.Event()
        self._accepting = [asyncio.create_task(self._accept(each)) for each in self._acceptors]

    async def _accept(self, acceptor: Acceptor) -> None:
        while True:
            channel = await acceptor.accept()
            while len(self._sessions) >= self._most:
                if self._silent:
                    next(iter(self._silent)).cancel()
                self._left.clear()
                await self._left.wait()
            self._begin(channel)

    def _begin(self, channel: SocketChannel) -> None:
        def greeted() -> None:
            self._silent.pop(task, None)

        task = asyncio.create_task(self._session(Visit(channel, greeted)))
        self._sessions.add(task)
        self._silent[task] = None
        task.add_done_callback(self._ended)

    async def _session(self, visit: Visit) -> None:
        try:
            await self._serve(visit)
        finally:
            visit.channel.abort()  # nothing, where it was closed well

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sessions.discard(task)
        self._silent.pop(task, None)
        self._left.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler(
                {"message": f"a session of {self.bound} failed", "exception": error}
            )

    async def close(self, grace_s: float = 0.0) -> None:
        """Takes nobody in any more; sessions get `grace_s` seconds to end by themselves."""
        for task in (*self._accepting, *(() if grace_s else self._sessions)):
            task.cancel()
        try:
            await asyncio.gather(*self._accepting, return_exceptions=True)
        finally:  # even for who does not wait for the rest
            for acceptor in self._acceptors:
                acceptor.close()
        if self._sessions and grace_s:
            await asyncio.wait(self._sessions, timeout=grace_s)
        sessions = list(self._sessions)
        for task in sessions:
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)


async def take_leave(channel: Channel, words: bytes) -> None:
    """Says something last, and closes once the other side has heard it: what it still sends is
    read for a while, or the kernel would take the words back with a reset."""
    with suppress(OSError):
        async with asyncio.timeout(_LEAVE_S):
            await channel.send(words)
            await channel.send_eof()
            for _ in range(_LEAVE_PIECES):
                if await channel.receive() is None:
                    break
    await channel.close()


def _acceptors(place: Place) -> list[Acceptor]:
    if place.path:
        return [Acceptor(End(kind="unix", listens=True, path=place.path))]
    if place.host != LOOPBACK:
        host = "" if place.host == "*" else place.host
        return [Acceptor(End(kind="tcp", listens=True, host=host, port=place.port))]
    first = Acceptor(End(kind="tcp", listens=True, host="127.0.0.1", port=place.port))
    with suppress(LinkError):  # no IPv6 here, or somebody else's port
        return [first, Acceptor(End(kind="tcp", listens=True, host="::1", port=first.port))]
    return [first]
