"""Channels and openers that tests hold in their hands."""

from __future__ import annotations

import asyncio

from rawproto.apps.relay.channels import Channel, never


class FakeChannel:
    """What `arrive` gives is received; what is sent stands in `sent`."""

    def __init__(self, name: str = "fake", *, half_closes: bool = True) -> None:
        self.name = name
        self.sent: list[bytes] = []
        self.ended = self.closed = self.aborted = False
        self.open = asyncio.Event()
        self.open.set()
        self.gone = never
        self._half_closes = half_closes
        self._coming: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()

    def arrive(self, *pieces: bytes | BaseException | None) -> None:
        """None is the end, an exception what breaks it."""
        for piece in pieces:
            self._coming.put_nowait(piece)

    async def receive(self) -> bytes | None:
        piece = await self._coming.get()
        if isinstance(piece, BaseException):
            raise piece
        return piece

    async def send(self, data: bytes) -> None:
        await self.open.wait()
        self.sent.append(data)

    async def send_eof(self) -> bool:
        self.ended = True
        return self._half_closes

    async def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class FakeOpener:
    """Gives a channel each time, unless `failure` says why not."""

    listens = False

    def __init__(self, name: str, *, once: bool = True) -> None:
        self.name = name
        self.once = once
        self.failure: BaseException | None = None
        self.given: list[FakeChannel] = []
        self.peers: list[str] = []
        self.closed = False
        self.coming: asyncio.Queue[FakeChannel] = asyncio.Queue()

    async def open(self, peer: str) -> Channel:
        if not self.once:
            return await self.coming.get()
        if self.failure is not None:
            raise self.failure
        self.peers.append(peer)
        self.given.append(FakeChannel(f"{self.name}/{len(self.given)}"))
        return self.given[-1]

    async def close(self) -> None:
        self.closed = True


async def settle() -> None:
    """Lets every task run as far as it gets."""
    for _ in range(50):
        await asyncio.sleep(0)
