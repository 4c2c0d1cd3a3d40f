"""Runs a relay: a session for each channel that the one side gives, until it is stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from rawproto.apps.relay.channels import Channel
from rawproto.apps.relay.join import Carried, join
from rawproto.apps.relay.openers import BROKEN, Opener

__all__ = ["Relay", "Session"]


@dataclass(slots=True, kw_only=True)
class Session:
    """What is told of a session when it ends.

    Attributes:
        near: who came, or what was connected first.
        far: where it went, "" if it could not be opened.
        carried: what went through.
        duration_s: how long it took.
        error: what broke it, None for a good end.
    """

    near: str
    far: str = ""
    carried: Carried = field(default_factory=Carried)
    duration_s: float = 0.0
    error: BaseException | None = None


class Relay:
    """Joins what two openers give.

    Args:
        source: gives the near channels.
        target: gives a far one for each.
        tell: called with each session that ended.
        most: sessions at once; who comes then waits.
        linger_s: as in `join`.
    """

    def __init__(
        self,
        source: Opener,
        target: Opener,
        tell: Callable[[Session], None],
        *,
        most: int = 1000,
        linger_s: float = 0.5,
    ) -> None:
        self._source = source
        self._target = target
        self._tell = tell
        self._room = asyncio.Semaphore(most)
        self._linger_s = linger_s
        self._sessions: set[asyncio.Task[Session]] = set()

    async def run(self) -> Session | None:
        """Serves: for ever if the source listens, else its one session, which it returns."""
        while True:
            await self._room.acquire()
            try:
                near = await self._source.open("")
            except BaseException:
                self._room.release()
                raise
            task = asyncio.create_task(self._session(near))
            self._sessions.add(task)
            task.add_done_callback(self._ended)
            if self._source.once:
                return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Session]) -> None:
        self._sessions.discard(task)
        self._room.release()

    async def _session(self, near: Channel) -> Session:
        session = Session(near=near.name)
        began = time.monotonic()
        try:
            try:
                far = await self._target.open(near.name)
            except BaseException:
                near.abort()
                raise
            session.far = far.name
            await join(near, far, session.carried, self._linger_s)
        except BROKEN as error:
            session.error = error
        except asyncio.CancelledError as error:
            session.error = error
            raise
        finally:
            session.duration_s = time.monotonic() - began
            self._tell(session)
        return session

    async def close(self, grace_s: float) -> None:
        """Takes nobody in any more; sessions get `grace_s` seconds to end by themselves."""
        if self._sessions and grace_s:
            await asyncio.wait(self._sessions, timeout=grace_s)
        for task in list(self._sessions):
            task.cancel()
        if self._sessions:
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._source.close()
        await self._target.close()
