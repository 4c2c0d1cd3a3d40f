"""A member of a room, across connections: what it says is said once, what it hears, too."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rawproto.apps.chat.service import ERRORS, VERSION, NotThereError, VersionError
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import ConnectionLostError, RemoteProtocolError
from rawproto.rpc import RPCError, RPCPeer

__all__ = ["ChatMember"]

_MOST_UNSAID = 100


class ChatMember:
    """Somebody in a room.

    Args:
        room: which.
        nick: by which name.
        history: how many messages from before are wanted.
        hear: called with each event, as docs/chat.md has it.
        complain: called with what the server says to something that was said.
    """

    def __init__(
        self,
        room: str,
        nick: str,
        *,
        history: int,
        hear: Callable[[dict[str, Any]], None],
        complain: Callable[[str], None],
    ) -> None:
        self._room = room
        self._nick = nick
        self._history = history
        self._hear = hear
        self._complain = complain
        self._since: int | None = None
        self._server_history: object = None
        self._unsaid: OrderedDict[str, tuple[str, dict[str, Any]]] = OrderedDict()
        self._more = asyncio.Event()
        self._room_to_say = asyncio.Event()
        self._room_to_say.set()
        self._peer: RPCPeer | None = None
        self._in = asyncio.Event()
        self._been_in = asyncio.Event()

    async def run(self, connection: RPTConnection) -> None:
        """Is in the room for as long as the connection lasts.

        Raises:
            ConnectionLostError, ProtocolError: it ended; run again with another.
            RPCError: the server does not want us there.
        """
        self._peer = peer = RPCPeer(connection, errors=ERRORS)
        try:
            told = await peer.call("hello")
            version = told.get("version") if isinstance(told, dict) else None
            if version != VERSION:
                raise VersionError(f"the server speaks version {version} of chat, and we {VERSION}")
            if told.get("history") != self._server_history:
                self._server_history = told.get("history")
                self._since = None  # its numbers begin anew, and ours say nothing
            hearing = asyncio.create_task(self._listen(peer))
            saying = asyncio.create_task(self._say_all(peer))
            try:
                await asyncio.wait({hearing, saying}, return_when=asyncio.FIRST_COMPLETED)
                for task in (hearing, saying):
                    if task.done():
                        await task
            finally:
                for task in (hearing, saying):
                    task.cancel()
                    with suppress(asyncio.CancelledError, Exception):
                        await task
        finally:
            self._in.clear()
            self._peer = None
            await peer.close()

    async def _listen(self, peer: RPCPeer) -> None:
        params = {"room": self._room, "nick": self._nick, "history": self._history}
        if self._since is not None:
            params["since"] = self._since
        async with peer.open("join", params, timeout_s=None) as call:
            await call.end()
            heard = 0
            async for event in call:
                if not isinstance(event, dict) or type(event.get("sequence")) is not int:
                    raise RemoteProtocolError(0, "the server told nonsense")
                if event.get("kind") == "here":
                    self._since = self._since or 0
                    self._in.set()
                    self._been_in.set()
                elif event["sequence"] <= heard:
                    continue
                else:
                    # It may be less than we had: a history that is an older copy of itself.
                    heard = self._since = event["sequence"]
                self._hear(event)
        raise ConnectionLostError("the server ended the room")

    async def _say_all(self, peer: RPCPeer) -> None:
        """Says what is unsaid, in order; it stays until the server has it."""
        await self._in.wait()
        while True:
            while self._unsaid:
                message_id, (method, params) = next(iter(self._unsaid.items()))
                params = {**params, "room": self._room, "id": message_id}
                try:
                    await peer.call(method, params, timeout_s=None)
                except NotThereError:
                    # We were dropped: hearing ends by that, and it is said once we are back.
                    await asyncio.Event().wait()
                except RPCError as error:
                    self._complain(str(error))
                del self._unsaid[message_id]
                self._room_to_say.set()
            self._more.clear()
            await self._more.wait()

    async def say(self, text: str, to: str | None = None) -> None:
        """Says something to all, or to one; waits while too much is unsaid."""
        while len(self._unsaid) >= _MOST_UNSAID:
            self._room_to_say.clear()
            await self._room_to_say.wait()
        params = {"text": text} if to is None else {"text": text, "to": to}
        self._unsaid[os.urandom(16).hex()] = ("say" if to is None else "tell", params)
        self._more.set()

    async def said(self) -> None:
        """Returns once the server has let us in and has all that was said."""
        await self._been_in.wait()
        while self._unsaid:
            self._room_to_say.clear()
            await self._room_to_say.wait()

    async def who(self) -> list[str]:
        """Who is there, once we are. Raises RPCError, ConnectionLostError."""
        await self._in.wait()
        if self._peer is None:
            raise ConnectionLostError("not connected")
        names = await self._peer.call("who", {"room": self._room})
        return [str(name) for name in names] if isinstance(names, list) else []
