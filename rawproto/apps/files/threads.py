"""Work on files in threads, which nobody can cancel: so it is waited for, whatever is cancelled.

Descriptors that were closed under a thread, its next call would take for those of another file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

__all__ = ["done", "in_thread", "in_turn", "started"]

_T = TypeVar("_T")


def started(work: Callable[..., _T], *arguments: Any, **options: Any) -> asyncio.Future[_T]:
    """Has a thread do something: its future, which belongs to no task, so that an event loop that
    ends does not cancel it. It is waited for by `done`."""
    loop = asyncio.get_running_loop()
    return loop.run_in_executor(None, partial(work, *arguments, **options))


def _nothing() -> None:
    pass


async def done(running: asyncio.Future[_T], stop: Callable[[], None] = _nothing) -> _T:
    """What comes of a thread, or of a task that waits for one, however often this is cancelled.

    Args:
        running: what `started`.
        stop: called when this is cancelled, so that what takes long ends sooner.
    """
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
            stop()
    if cancelled is not None:
        if not running.cancelled():
            running.exception()  # of which nobody hears any more
        raise cancelled
    return running.result()


async def in_thread(work: Callable[..., _T], *arguments: Any) -> _T:
    """Both."""
    return await done(started(work, *arguments))


async def in_turn(turn: asyncio.Lock, work: Callable[..., _T], *arguments: Any) -> _T:
    """Both, and nothing else of this turn meanwhile.

    For what calls the kernel often: several threads at it wait for the interpreter behind each
    call, and wake each other for it, which takes longer than the work.
    """
    async with turn:
        return await in_thread(work, *arguments)
