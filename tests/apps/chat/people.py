"""A chat server on loopback, and people in its rooms, for tests."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from rawproto.apps.chat.client import ChatMember
from rawproto.apps.chat.hub import Hub
from rawproto.apps.chat.service import (
    ERRORS,
    ChatService,
)
from rawproto.apps.chat.store import Store
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import Server, connect, serve
from rawproto.rpc import RPCPeer


class Rooms:
    """A chat server on loopback."""

    def __init__(self, store: Store | None = None, away_s: float = 60.0) -> None:
        self.store = store or Store(None)
        self.hub = Hub(self.store, away_s=away_s)
        self.server: Server
        self.connections: list[RPTConnection] = []

    async def start(self) -> None:
        async def handle(connection: RPTConnection) -> None:
            self.connections.append(connection)
            service = ChatService(self.hub, self.store, connection.peer_key, now_s=lambda: 1000.0)
            peer = RPCPeer(connection, service.methods, errors=ERRORS)
            await connection.wait_closed()
            await peer.close()

        self.server = await serve("rpt+udp://127.0.0.1:0", handle)

    async def stop(self) -> None:
        await self.server.close()
        self.hub.close()

    async def restart(self, store: Store) -> None:
        """Another server, with what that store remembers."""
        await self.stop()
        self.store = store
        self.hub = Hub(store, away_s=60.0)
        await self.start()

    def peer_of(self, name: str) -> connect:
        return connect(str(self.server.address), static=hashlib.sha256(name.encode()).digest())


def run(scene: Callable[[Rooms], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        rooms = Rooms(**options)
        await rooms.start()
        try:
            async with asyncio.timeout(20):
                await scene(rooms)
        finally:
            await rooms.stop()

    asyncio.run(main())


class Person:
    """A member that notes what it hears."""

    def __init__(self, rooms: Rooms, nick: str, room: str = "lobby", history: int = 50) -> None:
        self.rooms = rooms
        self.nick = nick
        self.heard: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self._bell = asyncio.Event()
        self.member = ChatMember(
            room, nick, history=history, hear=self._hear, complain=self.complaints.append
        )
        self.task: asyncio.Task[None] | None = None

    def _hear(self, event: dict[str, Any]) -> None:
        self.heard.append(event)
        self._bell.set()

    async def come(self) -> Person:
        async def be() -> None:
            async with self.rooms.peer_of(self.nick) as self._connection:
                await self.member.run(self._connection)

        before = self.count("here")
        self.task = asyncio.create_task(be())
        await self.until(lambda: self.count("here") > before)
        return self

    async def go(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def be_cut_off(self) -> None:
        self._connection.abort(300, "as it was asked")
        await self.go()

    def count(self, kind: str) -> int:
        return sum(event["kind"] == kind for event in self.heard)

    def texts(self, kind: str = "message") -> list[tuple[str, str]]:
        return [(event["nick"], event["text"]) for event in self.heard if event["kind"] == kind]

    async def until(self, there: Callable[[], bool]) -> None:
        while not there():
            if self.task is not None and self.task.done():
                await self.task
            self._bell.clear()
            waiting = asyncio.create_task(self._bell.wait())
            await asyncio.wait(
                {waiting, *([self.task] if self.task else [])},
                return_when=asyncio.FIRST_COMPLETED,
            )
            waiting.cancel()
