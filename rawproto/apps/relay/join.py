"""Carries between two channels, both ways, until both have ended.

::

    near.receive --> far.send       the end of one way is passed on; the other way goes on
    far.receive --> near.send

Where an end cannot be passed on (datagrams have none), the other way gets a little time of
silence to finish in. What breaks one channel breaks both.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rawproto.apps.relay.channels import Channel, never

__all__ = ["Carried", "join"]

# A socket that always has something never lets others run by itself.
_IN_A_ROW = 16


@dataclass(slots=True)
class Carried:
    """What went through.

    Attributes:
        up_bytes: from near to far.
        down_bytes: from far to near.
    """

    up_bytes: int = 0
    down_bytes: int = 0


async def join(near: Channel, far: Channel, carried: Carried, linger_s: float) -> None:
    """Carries; at the end both are closed.

    Args:
        near: one.
        far: the other.
        carried: counts along.
        linger_s: how much silence ends one way after the other has ended, where that end could
            not be passed on.

    Raises:
        OSError, ConnectionLostError, ProtocolError: one of them broke.
    """
    ways = {
        asyncio.create_task(_carry(near, far, carried, up=True)): far,
        asyncio.create_task(_carry(far, near, carried, up=False)): near,
    }
    gone = {
        asyncio.create_task(each.gone()): each for each in (near, far) if each.gone is not never
    }
    try:
        await _run(ways, gone, carried, linger_s)
    except BaseException:
        await _stop([*ways, *gone])
        near.abort()
        far.abort()
        raise
    await _stop([*ways, *gone])
    await asyncio.gather(near.close(), far.close())


async def _run(
    ways: dict[asyncio.Task[bool], Channel],
    gone: dict[asyncio.Task[None], Channel],
    carried: Carried,
    linger_s: float,
) -> None:
    going = set(ways)
    hears = True
    while going:
        before = carried.up_bytes + carried.down_bytes
        watched: set[asyncio.Task[Any]] = {*going, *[each for each in gone if not each.done()]}
        done, _ = await asyncio.wait(
            watched,
            timeout=None if hears else linger_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done and carried.up_bytes + carried.down_bytes == before:
            return  # silence
        for way in [way for way in going if way.done()]:
            hears = way.result() and hears
            going.discard(way)
        # Who takes no more, and has nothing more to say, holds nobody up.
        for each, channel in gone.items():
            if each.done() and all(ways[way] is channel for way in going):
                return


async def _carry(source: Channel, target: Channel, carried: Carried, *, up: bool) -> bool:
    """One way: whether the target heard of its end."""
    count = 0
    while (data := await source.receive()) is not None:
        await target.send(data)
        if up:
            carried.up_bytes += len(data)
        else:
            carried.down_bytes += len(data)
        count += 1
        if not count % _IN_A_ROW:
            await asyncio.sleep(0)
    return await target.send_eof()


async def _stop(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):
            await task
