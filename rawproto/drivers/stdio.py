"""Standard input and output beside an event loop, whatever they are: pipe, file, terminal.

Input is read by a thread, and each output written by one, that nobody waits for at the end: a
slow reader of ours stops our reading from the peer and nothing else.
"""

from __future__ import annotations

import asyncio
import functools
import os
import select
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from queue import SimpleQueue

__all__ = ["read_input", "write_output"]

_PIECE_BYTES = 1 << 16
_AHEAD = 16

_Queue = SimpleQueue[tuple[bytes, asyncio.Future[None]]]


async def read_input(descriptor: int = 0) -> AsyncIterator[bytes]:
    """What comes from a descriptor, up to its end, no more than 16 pieces read ahead."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)
    stopped = False

    def read() -> None:
        while not stopped:
            room.acquire()
            piece = _read(descriptor)
            try:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)
            except RuntimeError:
                return  # the loop is gone
            if not piece:
                return

    threading.Thread(target=read, daemon=True).start()
    try:
        while piece := await pieces.get():
            room.release()
            yield piece
    finally:
        stopped = True
        room.release()


async def read_lines(descriptor: int = 0, longest: int = 16 << 20) -> AsyncIterator[bytes]:
    """The same by lines, without their ends; the last one need not have an end."""
    rest = bytearray()
    async for piece in read_input(descriptor):
        rest += piece
        while (end := rest.find(b"\n")) >= 0:
            yield bytes(rest[:end])
            del rest[: end + 1]
        if len(rest) > longest:
            yield bytes(rest)
            rest.clear()
    if rest:
        yield bytes(rest)


async def write_output(data: bytes, descriptor: int = 1) -> None:
    """Writes all of it. Raises OSError (BrokenPipeError)."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    _writer(descriptor, os.getpid()).put((data, done))
    await done


@functools.cache
def _writer(descriptor: int, process: int) -> _Queue:
    """What is to be written to a descriptor, by this process: a thread outlives no fork."""
    queue: _Queue = SimpleQueue()
    threading.Thread(target=_write_all, args=(descriptor, queue), daemon=True).start()
    return queue


def _write_all(descriptor: int, queue: _Queue) -> None:
    while True:
        data, done = queue.get()
        error: OSError | None = None
        try:
            _write(data, descriptor)
        except OSError as caught:
            error = caught
        with suppress(RuntimeError):  # the loop is gone
            done.get_loop().call_soon_threadsafe(_settle, done, error)


def _settle(done: asyncio.Future[None], error: OSError | None) -> None:
    if done.done():
        return  # whoever wrote was cancelled
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _PIECE_BYTES)
        except BlockingIOError:
            _wait(descriptor, select.POLLIN)
        except OSError:
            return b""


def _write(data: bytes, descriptor: int) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            _wait(descriptor, select.POLLOUT)


def _wait(descriptor: int, what: int) -> None:
    """What is not to block, somebody has made so who shares it: it is no end."""
    poll = select.poll()
    poll.register(descriptor, what)
    poll.poll()
