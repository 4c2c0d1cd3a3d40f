"""Connecting to a host of several addresses: whichever answers first (RFC 8305).

Families take turns, and each address has a moment before the next one is tried beside it: a
family that leads nowhere costs that moment, no time-out. Who answers, answers for all: a
handshake that fails ends the race. What connecting is, is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import zip_longest
from typing import TypeVar

from rawproto.drivers.rpt.refusals import most_telling
from rawproto.errors import ConnectionLostError, LinkError, RefusedError
from rawproto.wire.address import family_of

__all__ = ["first_to_answer"]

_DELAY_S = 0.25  # RFC 8305 section 5
_TRY_OTHERS = (RefusedError, ConnectionLostError, LinkError)

T = TypeVar("T")


async def first_to_answer(
    hosts: Sequence[str],
    attempt: Callable[[str], Awaitable[T]],
    discard: Callable[[T], Awaitable[None]],
) -> T:
    """Tries addresses until one answers.

    Args:
        hosts: one or more addresses, the best first.
        attempt: connects to one; it gives back what it took when it is cancelled.
        discard: ends a connection that came too late.

    Raises:
        What `attempt` does: the most telling error of those that say that nobody was there,
        with the others as its cause; any other at once.
    """
    if len(hosts) == 1:
        return await attempt(hosts[0])
    left = _alternating(hosts)
    running: dict[asyncio.Future[T], str] = {}
    errors: list[Exception] = []
    try:
        while left or running:
            if left:
                host = left.pop(0)
                running[asyncio.ensure_future(attempt(host))] = host
            done, _ = await asyncio.wait(
                running,
                timeout=_DELAY_S if left else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                try:
                    result = task.result()
                except _TRY_OTHERS as error:
                    error.add_note(f"connecting to {running.pop(task)}")
                    errors.append(error)
                else:
                    del running[task]
                    return result
    finally:
        for task in running:
            task.cancel()
        for late in await asyncio.gather(*running, return_exceptions=True):
            if not isinstance(late, BaseException):
                await discard(late)
    told = most_telling(errors)
    raise told from ExceptionGroup("other addresses", [each for each in errors if each is not told])


def _alternating(hosts: Sequence[str]) -> list[str]:
    """The families in turn, each in its order (RFC 8305 section 4)."""
    preferred = family_of(hosts[0])
    first = [host for host in hosts if family_of(host) == preferred]
    second = [host for host in hosts if family_of(host) != preferred]
    return [host for pair in zip_longest(first, second) for host in pair if host is not None]
