"""How the processes that serve one port tell each other something short (unix(7), datagrams).

Made before the processes part, so that they have it in common; what is told to one that is dead,
the one in its place hears. Too much at once is dropped: tell only what bears to be lost, as
"there is more, look", of which one is waiting then, or what is told again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

__all__ = ["MOST_BYTES", "Siblings"]

MOST_BYTES = 16_384
"""Of one message."""


class Siblings:
    """Some processes.

    Args:
        count: how many. One alone has nobody to tell.
    """

    def __init__(self, count: int) -> None:
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        for _ in range(count if count > 1 else 0):
            self._pairs.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
            for each in self._pairs[-1]:
                each.setblocking(False)

    @property
    def alone(self) -> bool:
        """Whether there is one process only."""
        return not self._pairs

    def hear(self, number: int, told: Callable[[bytes], None]) -> None:
        """Calls `told` in the running event loop with what is told to a process, by its number."""
        if self.alone:
            return
        own, _ = self._pairs[number]

        def readable() -> None:
            with suppress(BlockingIOError):
                told(own.recv(MOST_BYTES))

        asyncio.get_running_loop().add_reader(own, readable)

    def deaf(self, number: int) -> None:
        """A process hears nothing any more."""
        if not self.alone:
            asyncio.get_running_loop().remove_reader(self._pairs[number][0])

    def tell(self, number: int, message: bytes = b"") -> None:
        """A process tells all others."""
        for other, (_, to) in enumerate(self._pairs):
            if other != number:
                with suppress(BlockingIOError):
                    to.send(message)

    def close(self) -> None:
        """Gives the descriptors back."""
        for pair in self._pairs:
            for each in pair:
                each.close()
        self._pairs.clear()
