"""Several targets to choose from: the least busy of those that are well.

A target that cannot be connected to is left out until it answers again; a session whose
target fails to connect goes to the next one. Where there are none that are well, all are
tried. Targets are tried from time to time by connecting and closing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from rawproto.apps.relay.channels import Channel
from rawproto.apps.relay.openers import BROKEN, Opener

__all__ = ["Balancer"]


@dataclass(slots=True, eq=False)
class _Target:
    opener: Opener
    busy: int = 0
    chosen: int = 0
    well: bool = True


class Balancer:
    """An opener over several; see `openers.Opener`.

    Args:
        openers: what to choose from.
        check_s: how often each is tried, 0 for never.
        tell: called with a target's name, and what it is down for, or None once it is up again.
    """

    once = True
    listens = False

    def __init__(
        self, openers: list[Opener], check_s: float, tell: Callable[[str, Exception | None], None]
    ) -> None:
        self.name = ",".join([each.name for each in openers])
        self._targets = [_Target(each) for each in openers]
        self._tell = tell
        self._check_s = check_s
        self._checks: list[asyncio.Task[None]] = []
        if check_s:
            self._checks = [asyncio.create_task(self._check(each)) for each in self._targets]

    async def open(self, peer: str) -> Channel:
        failure: BaseException | None = None
        untried = list(self._targets)
        while untried:
            target = min(untried, key=lambda each: (not each.well, each.busy, each.chosen))
            untried.remove(target)
            target.busy += 1  # while it connects, too
            target.chosen += 1
            try:
                channel = await target.opener.open(peer)
            except BROKEN as error:
                target.busy -= 1
                self._note(target, error)
                failure = error
                continue
            except BaseException:
                target.busy -= 1
                raise
            self._note(target, None)
            return _Counted(channel, target)
        assert failure is not None
        raise failure

    def _note(self, target: _Target, why: Exception | None) -> None:
        if target.well != (why is None):
            target.well = why is None
            self._tell(target.opener.name, why)

    async def _check(self, target: _Target) -> None:
        while True:
            await asyncio.sleep(self._check_s)
            try:
                channel = await target.opener.open("")
                await channel.close()
            except BROKEN as error:
                self._note(target, error)
            else:
                self._note(target, None)

    async def close(self) -> None:
        for task in self._checks:
            task.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)
        for target in self._targets:
            await target.opener.close()


class _Counted:
    """A channel that counts as a session of its target until it is closed."""

    def __init__(self, channel: Channel, target: _Target) -> None:
        self._channel = channel
        self._target: _Target | None = target
        self.name = channel.name
        self.receive, self.send = channel.receive, channel.send
        self.send_eof, self.gone = channel.send_eof, channel.gone

    def _ended(self) -> None:
        if self._target is not None:
            self._target.busy -= 1
            self._target = None

    async def close(self) -> None:
        self._ended()
        await self._channel.close()

    def abort(self) -> None:
        self._ended()
        self._channel.abort()
