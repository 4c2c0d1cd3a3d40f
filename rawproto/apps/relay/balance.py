"""Several targets to choose from: the least busy of those that are well.

A target that cannot be connected to is left out until it answers again; a session whose
target fails to connect goes to the next one. Where there are none that are well, all are
tried. Targets are tried from time to time by connecting and closing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rawproto.apps.relay.channels import Channel
from rawproto.apps.relay.openers import BROKEN, Opener

__all__ = ["Balancer", "Targets"]


T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Target(Generic[T]):
    name: str
    what: T
    busy: int = 0
    turn: int = 0  # when it was last chosen
    well: bool = True


class Targets(Generic[T]):
    """What is to be chosen from, whatever it is.

    Args:
        named: each with its name.
        tell: called with a target's name, and what it is down for, or None once it is up again.
    """

    def __init__(
        self, named: Iterable[tuple[str, T]], tell: Callable[[str, Exception | None], None]
    ) -> None:
        self._targets = [_Target(name, what) for name, what in named]
        self._tell = tell
        self._turns = itertools.count(1)
        self._checks: list[asyncio.Task[None]] = []

    async def use(self, attempt: Callable[[T], Awaitable[R]]) -> tuple[R, Callable[[], None]]:
        """Tries the least busy, and the next if that breaks.

        Returns:
            What came of it, and what to call, once or more, when the target is no longer used.

        Raises:
            One of `BROKEN`: the last one's.
        """
        failure: BaseException | None = None
        untried = list(self._targets)
        while untried:
            target = min(untried, key=lambda each: (not each.well, each.busy, each.turn))
            untried.remove(target)
            target.busy += 1  # while it connects, too
            target.turn = next(self._turns)
            try:
                result = await attempt(target.what)
            except BROKEN as error:
                target.busy -= 1
                self._note(target, error)
                failure = error
                continue
            except BaseException:
                target.busy -= 1
                raise
            self._note(target, None)
            return result, _once(target)
        assert failure is not None
        raise failure

    def _note(self, target: _Target[T], why: Exception | None) -> None:
        if target.well != (why is None):
            target.well = why is None
            self._tell(target.name, why)

    def check(self, every_s: float, attempt: Callable[[T], Awaitable[None]]) -> None:
        """Has each tried from time to time."""
        self._checks = [
            asyncio.create_task(self._check(each, every_s, attempt)) for each in self._targets
        ]

    async def _check(
        self, target: _Target[T], every_s: float, attempt: Callable[[T], Awaitable[None]]
    ) -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await attempt(target.what)
            except BROKEN as error:
                self._note(target, error)
            else:
                self._note(target, None)

    async def close(self) -> None:
        """Nothing is tried any more."""
        for task in self._checks:
            task.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)


def _once(target: _Target[Any]) -> Callable[[], None]:
    over = False

    def done() -> None:
        nonlocal over
        target.busy -= not over
        over = True

    return done


class Balancer:
    """An opener over several; see `openers.Opener`.

    Args:
        openers: what to choose from.
        check_s: how often each is tried, 0 for never.
        tell: as in `Targets`.
    """

    once = True
    listens = False

    def __init__(
        self, openers: list[Opener], check_s: float, tell: Callable[[str, Exception | None], None]
    ) -> None:
        self.name = ",".join([each.name for each in openers])
        self._openers = openers
        self._targets = Targets([(each.name, each) for each in openers], tell)
        if check_s:
            self._targets.check(check_s, _try)

    async def open(self, peer: str) -> Channel:
        return _Counted(*await self._targets.use(lambda opener: opener.open(peer)))

    async def close(self) -> None:
        await self._targets.close()
        for opener in self._openers:
            await opener.close()


async def _try(opener: Opener) -> None:
    channel = await opener.open("")
    await channel.close()


class _Counted:
    """A channel that counts as a session of its target until it is closed."""

    def __init__(self, channel: Channel, ended: Callable[[], None]) -> None:
        self._channel = channel
        self._ended = ended
        self.name = channel.name
        self.receive, self.send = channel.receive, channel.send
        self.send_eof, self.gone = channel.send_eof, channel.gone

    async def close(self) -> None:
        self._ended()
        await self._channel.close()

    def abort(self) -> None:
        self._ended()
        self._channel.abort()
