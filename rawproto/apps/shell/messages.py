"""Messages between the server's processes: JSON on SOCK_SEQPACKET, descriptors beside it (unix(7)).

A question has an `id`, its answer the same one; what has none is a notice. What is longer than
MOST_BYTES is not sent: a kernel keeps no more of one message.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["MOST_BYTES", "Correspondent", "GoneError", "pair", "receive", "send"]

MOST_BYTES = 180_000
_MOST_DESCRIPTORS = 3


class GoneError(Exception):
    """The process at the other side is no more."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Sends one. Raises ValueError where it is too long, OSError where nobody is there."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes in one message")
    socket.send_fds(end, [data], list(descriptors))


def receive(end: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """One message, and its descriptors. Raises GoneError, BlockingIOError."""
    try:
        flags = socket.MSG_CMSG_CLOEXEC
        data, descriptors, _, _ = socket.recv_fds(end, MOST_BYTES, _MOST_DESCRIPTORS, flags)
    except ConnectionError:
        data, descriptors = b"", []
    try:
        message = json.loads(data) if data else None
        if not isinstance(message, dict):
            raise GoneError
    except ValueError:
        raise GoneError from None
    return message, descriptors


class Correspondent:
    """The network process's end: questions that wait for their answers, in its event loop.

    Args:
        end: of a pair; it is closed here.
        notice: told of each message that answers nothing.
        gone: told once that the other side is no more.
    """

    def __init__(
        self,
        end: socket.socket,
        notice: Callable[[dict[str, Any]], None] = lambda message: None,
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        self._end = end
        self._notice = notice
        self._gone = gone
        self._asked: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        # What a process asked that is no more may still be answered to the next one.
        self._last = random.getrandbits(48)
        self._closed = False
        end.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end, self._readable)

    async def ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """Asks; whose the descriptors of the answer are, is the caller.

        Raises:
            GoneError: nobody is there any more.
            ValueError: the question is too long.
        """
        self._last += 1
        number = self._last
        answer: asyncio.Future[tuple[dict[str, Any], list[int]]] = self._loop.create_future()
        self._asked[number] = answer
        try:
            await self._send({**message, "id": number})
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                _close(answer.result()[1])
            raise
        finally:
            self._asked.pop(number, None)

    async def tell(self, message: dict[str, Any]) -> None:
        """Sends a notice. Raises as `ask` does."""
        await self._send(message)

    async def _send(self, message: dict[str, Any]) -> None:
        while True:
            if self._closed:
                raise GoneError
            try:
                return send(self._end, message)
            except BlockingIOError:
                await asyncio.sleep(0.005)  # many ask at once; a writable socket tells too little
            except OSError:
                raise GoneError from None

    def _readable(self) -> None:
        try:
            message, descriptors = receive(self._end)
        except BlockingIOError:
            return
        except GoneError:
            self.close()
            self._gone()
            return
        answer = self._asked.get(message.get("id", 0))
        if answer is not None and not answer.done():
            answer.set_result((message, descriptors))
            return
        _close(descriptors)
        if "id" not in message:
            self._notice(message)

    def close(self) -> None:
        """Ends it: the other side notices, and who waits for an answer gets GoneError."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._end)
        self._end.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(GoneError())


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
