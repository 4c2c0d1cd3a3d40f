"""How bytes of a session cross a call: credit both ways, and descriptors that never block.

Each side sends so many bytes ahead of what the other has told that it took, and no more. So
neither keeps much for who does not read, and a signal, a new size or Ctrl-C never waits behind
more than that.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = [
    "INPUT_BYTES",
    "OUTPUT_BYTES",
    "TERMINAL_BYTES",
    "Credit",
    "Inlet",
    "read_ready",
    "together",
]

INPUT_BYTES = 1 << 20
"""How far ahead a client may send what its session has not read."""
OUTPUT_BYTES = 1 << 22
"""The same of a command's output, without a terminal."""
TERMINAL_BYTES = 1 << 18
"""The same of what a terminal shows: what is on its way when Ctrl-C is typed is shown yet."""

_PIECE_BYTES = 1 << 16


class Credit:
    """What may be sent, to one who tells what it took.

    Args:
        most_bytes: ahead of that.
    """

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._most = most_bytes
        self._more = asyncio.Event()
        self._more.set()

    @property
    def spent(self) -> bool:
        """Whether all was sent that may be."""
        return self._left <= 0

    async def some(self) -> int:
        """How many bytes may be sent, one at least."""
        await self._more.wait()
        return min(self._left, _PIECE_BYTES)

    def sent(self, size: int) -> None:
        self._left -= size
        if self._left <= 0:
            self._more.clear()

    def took(self, size: object) -> bool:
        """The other side took so many: whether that can be."""
        if type(size) is not int or not 0 < size <= self._most - self._left:
            return False
        self._left += size
        self._more.set()
        return True


async def together(*doings: Coroutine[Any, Any, None]) -> None:
    """Does all of them; what the first one raises ends the others, and is raised."""
    tasks = [asyncio.create_task(each) for each in doings]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def is_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, is_ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _read_now(descriptor: int, most: int) -> bytes | None:
    """What there is, in one piece; None for nothing yet, b"" at the end."""
    pieces: list[bytes] = []
    left = most
    while left > 0:
        try:
            piece = os.read(descriptor, left)
        except BlockingIOError:
            return b"".join(pieces) or None
        except OSError as error:
            if error.errno != errno.EIO:  # nobody has the terminal open any more
                raise
            piece = b""
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


async def read_ready(descriptor: int, most: int) -> bytes:
    """The next bytes of a descriptor that does not block, a terminal's many lines at once; b""
    at its end."""
    while True:
        data = _read_now(descriptor, most)
        if data is not None:
            return data
        await _readable(descriptor)


class Inlet:
    """Writes to a descriptor that does not block, and keeps what it does not take yet.

    Args:
        descriptor: it is closed here.
        took: told how many bytes it has taken, each time.
    """

    def __init__(self, descriptor: int, took: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._took = took
        self._kept: deque[bytes] = deque()
        self._ending = False
        self._watching = False
        self.kept_bytes = 0
        self.closed = False

    def write(self, data: bytes) -> None:
        """Takes bytes in; who sends keeps to its credit."""
        if self.closed:
            self._took(len(data))
            return
        self._kept.append(data)
        self.kept_bytes += len(data)
        if not self._watching:
            self._flush()

    def end(self) -> None:
        """Closes the descriptor, behind what is kept."""
        self._ending = True
        if not self._kept:
            self.close()

    def _flush(self) -> None:
        done = 0
        try:
            while self._kept:
                first = self._kept[0]
                written = os.write(self._descriptor, first)
                done += written
                if written < len(first):
                    self._kept[0] = first[written:]
                else:
                    self._kept.popleft()
        except BlockingIOError:
            pass
        except OSError:  # nobody reads any more: what comes goes nowhere, as with a pipe of ssh
            done = self.kept_bytes
            self._took(done)
            self.close()
            return
        self.kept_bytes -= done
        if done:
            self._took(done)
        self._watch(bool(self._kept))
        if self._ending and not self._kept:
            self.close()

    def _watch(self, wanted: bool) -> None:
        if wanted == self._watching:
            return
        self._watching = wanted
        loop = asyncio.get_running_loop()
        if wanted:
            loop.add_writer(self._descriptor, self._flush)
        else:
            loop.remove_writer(self._descriptor)

    def close(self) -> None:
        """Gives it up at once."""
        if not self.closed:
            self._watch(False)
            self.closed = True
            self._kept.clear()
            self.kept_bytes = 0
            os.close(self._descriptor)
