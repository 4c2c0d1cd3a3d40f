"""How processes that share a history tell each other that there is more in it (eventfd(2)).

A bell says nothing but "look": what happened, and in which order, the history alone says. So
none can be lost, and one that rings twice does no harm. Made before processes part, they have
them in common; what rings for a process that is dead is heard by the one in its place.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Bells"]


class Bells:
    """One for each of some processes.

    Args:
        count: how many. With one there is nobody to ring for.
    """

    def __init__(self, count: int) -> None:
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self._fds = [os.eventfd(0, flags) for _ in range(count if count > 1 else 0)]

    def hear(self, number: int, look: Callable[[], None]) -> None:
        """Calls `look` in the running event loop each time somebody has rung for a process."""
        if not self._fds:
            return
        own = self._fds[number]

        def rung() -> None:
            with suppress(BlockingIOError):
                os.eventfd_read(own)
            look()

        asyncio.get_running_loop().add_reader(own, rung)

    def ring(self, number: int) -> None:
        """A process tells all others."""
        for other, fd in enumerate(self._fds):
            if other != number:
                with suppress(BlockingIOError):  # it has not heard very many yet, and will
                    os.eventfd_write(fd, 1)

    def close(self) -> None:
        """Gives the descriptors back."""
        while self._fds:
            os.close(self._fds.pop())
