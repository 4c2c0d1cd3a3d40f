"""A listener's input for many clients, at the pace of whoever takes it fastest.

::

    input --- hear ---> lines that wait ---> client
                  `---> lines that wait ---> client that reads slowly

Nobody waits for who is slower than another; who falls too far behind is let go. What waits
is in memory once, however many it waits for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import ConnectionLostError, ProtocolError
from rawproto.transport.constants import Kind

__all__ = ["Audience", "Hearer"]

_AHEAD_BYTES = 1 << 20
_MOST_BEHIND_BYTES = 32 << 20  # two lines of the greatest length
_LINE_COSTS_BYTES = 100  # in memory, beside its own
_TOO_SLOW = 257


class Hearer:
    """A client, and the lines that it has not taken yet. Made by `Audience.join`.

    Attributes:
        too_slow: whether it was let go.
        behind: what it has not taken yet, in bytes.
    """

    def __init__(self, connection: RPTConnection, audience: Audience) -> None:
        self.too_slow = False
        self.behind = 0
        self._connection = connection
        self._audience = audience
        self._lines: deque[bytes | None] = deque()
        self._more = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._deliver())

    def tell(self, line: bytes | None) -> None:
        """A line more; None is the last."""
        self._lines.append(line)
        self._more.set()
        self.behind += _cost(line)
        if self.behind > _MOST_BEHIND_BYTES:
            self.too_slow = True
            self._connection.abort(_TOO_SLOW, "too far behind")

    async def _deliver(self) -> None:
        lines = self._lines
        try:
            while True:
                while not lines:
                    self._more.clear()
                    await self._more.wait()
                line = lines[0]
                if line is None:
                    return
                await self._send(line)
                lines.popleft()
                self.behind -= _cost(line)
                self._audience.stir()
        except (ConnectionLostError, ProtocolError):
            pass  # what ended it is the connection's to tell
        finally:
            self._audience.forget(self)

    async def _send(self, line: bytes) -> None:
        connection = self._connection
        if connection.kind is Kind.STREAM:
            await connection.stream.send(line + b"\n")
        elif connection.kind is Kind.SEQPACKET:
            await connection.send_message(line)
        else:
            with suppress(ProtocolError):  # too long for a datagram
                connection.send_datagram(line)

    async def finish(self) -> None:
        """Hears nothing new. Returns when it has taken all there was, or never will."""
        self._audience.forget(self)
        self.tell(None)
        await asyncio.wait({self._task})

    def leave(self) -> None:
        """Hears nothing more."""
        self._task.cancel()


class Audience:
    """All who are here."""

    def __init__(self) -> None:
        self._hearers: set[Hearer] = set()
        self._stirred = asyncio.Event()

    def join(self, connection: RPTConnection) -> Hearer:
        """A client hears all from now on."""
        hearer = Hearer(connection, self)
        self._hearers.add(hearer)
        return hearer

    def forget(self, hearer: Hearer) -> None:
        """A client hears nothing new."""
        self._hearers.discard(hearer)
        self.stir()

    def stir(self) -> None:
        """Somebody has taken a line, or gone."""
        self._stirred.set()

    async def hear(self, line: bytes) -> None:
        """A line for all. Returns when somebody is here who wants more, or nobody is here."""
        for hearer in list(self._hearers):
            hearer.tell(line)
        while self._hearers and all(each.behind > _AHEAD_BYTES for each in self._hearers):
            self._stirred.clear()
            await self._stirred.wait()


def _cost(line: bytes | None) -> int:
    return len(line or b"") + _LINE_COSTS_BYTES
