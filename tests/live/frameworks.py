"""Two hosts, a framework's server on one and its client on the other: what the tests share.

Adapters are those of docs/asyncio.md, word for word.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rawproto import lab

__all__ = ["CABLES", "PORT", "SIZE", "adapters", "cable_of", "run", "serving"]

CABLES = {"clean": "1:perfect", "lossy": "1:loss=2%,delay=3ms,seed=7"}
PORT = 4000
SIZE = 1_000_000
_PAGE = Path(__file__).parents[2] / "docs" / "asyncio.md"
_SECONDS = 60
_LAST_WORDS_SECONDS = 20


def adapters(*definitions: str) -> Any:
    """What the page's code blocks define in which these words stand."""
    found: dict[str, Any] = {}
    exec("import asyncio, rawproto", found)
    blocks = re.findall(r"^```python\n(.*?)^```\n", _PAGE.read_text(), re.M | re.S)
    for definition in definitions:
        (block,) = [each for each in blocks if definition in each]
        exec(compile(block, str(_PAGE), "exec"), found)
    return SimpleNamespace(**found)


@contextmanager
def cable_of(name: str) -> Iterator[lab.Network]:
    with lab.up(lab.pair().changed(CABLES[name])) as network:
        yield network


def _run(
    host: lab.LiveHost, coroutine: Coroutine[Any, Any, None], loop_factory: Any = None
) -> None:
    """In an event loop of its own on that host, and for so long at most; no task is left."""

    async def bounded() -> None:
        await asyncio.wait_for(coroutine, _SECONDS)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:  # what the peer said last may be on its way still, over a lossy link for long
            _, left = await asyncio.wait(left, timeout=_LAST_WORDS_SECONDS)
        assert not left, left

    with host.entered(), asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(bounded())


def run(
    network: lab.Network,
    serving: Callable[[], AbstractAsyncContextManager[None]],
    asking: Callable[[], Coroutine[Any, Any, None]],
    loop_factory: Any = None,
) -> None:
    """Serves on h2, asks on h1. Afterwards no descriptor and no thread is left of it."""
    with nothing_left(), listening(network.host("h2"), serving, loop_factory):
        _run(network.host("h1"), asking(), loop_factory)


@contextmanager
def nothing_left() -> Iterator[None]:
    gc.collect()
    before = set(os.listdir("/proc/self/fd")), set(threading.enumerate())
    yield
    assert set(os.listdir("/proc/self/fd")) <= before[0]
    assert set(threading.enumerate()) <= before[1]


@contextmanager
def listening(
    host: lab.LiveHost,
    serving: Callable[[], AbstractAsyncContextManager[None]],
    loop_factory: Any = None,
) -> Iterator[None]:
    """Meanwhile `serving` is entered in a thread with an event loop of its own, on that host."""
    ready = threading.Event()
    ends: list[Callable[[], None]] = []
    failures: list[BaseException] = []

    async def main() -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        async with serving():
            ends.append(lambda: loop.call_soon_threadsafe(end.set))
            ready.set()
            await end.wait()

    def thread() -> None:
        try:
            _run(host, main(), loop_factory)
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    running = threading.Thread(target=thread)
    running.start()
    try:
        ready.wait(_SECONDS)
        if not failures:
            yield
    finally:
        for end in ends:
            end()
        running.join(_SECONDS)
    for failure in failures:
        raise failure


@asynccontextmanager
async def serving(server: Any) -> AsyncIterator[None]:
    """A server until it is to end; then its clients have to be gone soon."""
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
