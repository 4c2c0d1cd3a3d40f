"""What a chat server answers: the methods of docs/chat.md, for one connection."""

from __future__ import annotations

import asyncio
import time
import unicodedata
from collections.abc import Callable
from typing import Any

from rawproto.apps.chat.hub import Hub, Member, SlowReaderError
from rawproto.apps.chat.store import HistoryError, Store, folded
from rawproto.rpc import (
    MOST_DATA_BYTES,
    BadRequestError,
    Call,
    Method,
    RPCError,
    encoded_item,
)

__all__ = [
    "ERRORS",
    "MOST_TEXT_BYTES",
    "VERSION",
    "ChatService",
    "NameTakenError",
    "NobodyError",
    "NotThereError",
    "VersionError",
]

VERSION = 1
MOST_TEXT_BYTES = 65_536
_MOST_NICK, _MOST_ROOM, _MOST_ID = 32, 64, 64
_BESIDE_TEXT = 4096  # what an event has besides, at most
_MOST_NAMES = 600  # of the longest, in the widest script, fit a message
_HISTORY = 50
_MOST_HISTORY = 1000
# What one connection may say, and come into rooms: so often at once, and a second after that.
_BURST, _PER_SECOND = 50, 20.0


class NameTakenError(RPCError):
    """Another key has that name."""

    code = "name_taken"


class NobodyError(RPCError):
    """There is nobody of that name."""

    code = "nobody"


class VersionError(RPCError):
    """The other side speaks another version of this protocol."""

    code = "version"


class NotThereError(BadRequestError):
    """Who speaks is not in the room, or no longer."""

    code = "not_there"


ERRORS = (
    HistoryError,
    NameTakenError,
    NobodyError,
    NotThereError,
    SlowReaderError,
    VersionError,
)
"""What either side may answer with."""


class ChatService:
    """One client's view of the rooms.

    Args:
        hub: all rooms.
        store: what is remembered.
        key: the client's public key.
        now_s: a clock that only goes forward.
    """

    def __init__(
        self,
        hub: Hub,
        store: Store,
        key: bytes,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now_s = now_s
        self._hub = hub
        self._store = store
        self._key = key
        self._nicks: dict[str, str] = {}
        self._credit = float(_BURST)
        self._credited_s = 0.0

    @property
    def methods(self) -> dict[str, Method]:
        """For `RPCPeer`."""
        return {
            "hello": self._hello,
            "join": self._join,
            "say": self._say,
            "tell": self._tell,
            "who": self._who,
        }

    async def _hello(self, params: Any, call: Call) -> Any:
        return {"version": VERSION, "history": self._store.identity}

    async def _join(self, params: Any, call: Call) -> None:
        """Tells what happens in a room until the caller gives up."""
        room, nick = _name(params, "room", _MOST_ROOM), _name(params, "nick", _MOST_NICK)
        await self._wait_for_credit()
        if room in self._nicks:
            raise BadRequestError(f"{room}: you are there already")
        if not self._store.claim(nick, self._key):
            raise NameTakenError(f"{nick}: somebody else has that name")
        since, history = params.get("since"), params.get("history", _HISTORY)
        if type(history) is not int or not 0 <= history <= _MOST_HISTORY:
            raise BadRequestError(f"history is 0 to {_MOST_HISTORY}")
        if type(since) is not int or not 0 <= since <= self._store.last:
            since = self._store.before(room, history) if history else self._store.last
        member = Member(room, nick, self._key, since)
        self._nicks[room] = nick
        for_good = False
        try:
            self._hub.enter(member)
            while items := self._hub.catch_up(member):
                for item in items:
                    await call.send_encoded(item)
            await call.send({"sequence": 0, "kind": "here", "names": self._names(room)})
            while True:
                await call.send_encoded(await member.next())
        except RPCError:
            raise
        except BaseException:
            # It was given up, or its connection closed well; else it was lost.
            for_good = call.peer.connection.error is None
            raise
        finally:
            del self._nicks[room]
            self._hub.leave(member, for_good=for_good)

    def _nick_in(self, params: Any) -> tuple[str, str]:
        room = _name(params, "room", _MOST_ROOM)
        nick = self._nicks.get(room)
        if nick is None:
            raise NotThereError(f"{room}: join it first")
        return room, nick

    async def _say(self, params: Any, call: Call) -> Any:
        room, nick = self._nick_in(params)
        return await self._happen("message", room, nick, params)

    async def _tell(self, params: Any, call: Call) -> Any:
        room, nick = self._nick_in(params)
        to_nick = _name(params, "to", _MOST_NICK)
        to_key = self._store.owner(to_nick)
        if to_key is None:
            raise NobodyError(f"{to_nick}: nobody has that name")
        return await self._happen("private", room, nick, params, to_nick=to_nick, to_key=to_key)

    async def _happen(
        self,
        kind: str,
        room: str,
        nick: str,
        params: Any,
        *,
        to_nick: str = "",
        to_key: bytes = b"",
    ) -> dict[str, int]:
        text, message_id = _text(params), _name(params, "id", _MOST_ID)
        await self._wait_for_credit()
        sequence = self._hub.happen(
            kind, room, nick, self._key,
            text=text, message_id=message_id, to_nick=to_nick, to_key=to_key,
        )  # fmt: skip
        return {"sequence": sequence}

    async def _wait_for_credit(self) -> None:
        """Who says too much at once waits for its answer, and nobody else does."""
        now_s = self._now_s()
        gained = (now_s - self._credited_s) * _PER_SECOND
        self._credit = min(self._credit + gained, _BURST) - 1
        self._credited_s = now_s
        if self._credit < 0:
            await asyncio.sleep(-self._credit / _PER_SECOND)

    async def _who(self, params: Any, call: Call) -> list[str]:
        return self._names(_name(params, "room", _MOST_ROOM))

    def _names(self, room: str) -> list[str]:
        """Who is there, as many as a message has room for."""
        names = self._hub.names(room)
        more = len(names) - _MOST_NAMES
        return [*names[:_MOST_NAMES], f"and {more} more"] if more > 0 else names


def _name(params: Any, field: str, most: int) -> str:
    """A name as NFC, with nothing in it that cannot be seen. Raises BadRequestError."""
    value = params.get(field) if isinstance(params, dict) else None
    if not isinstance(value, str) or len(value) > 4 * most:
        raise BadRequestError(f"{field} is a text of 1 to {most} characters")
    name = unicodedata.normalize("NFC", value)
    if (
        not 1 <= len(name) <= most
        or not name.isprintable()
        or name != name.strip()
        or not folded(name)
    ):
        raise BadRequestError(f"{field} is a text of 1 to {most} characters that can be seen")
    return name


def _text(params: Any) -> str:
    text = params.get("text")
    try:
        size = len(text.encode()) if isinstance(text, str) else 0
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= MOST_TEXT_BYTES:
        raise BadRequestError(f"a text has 1 to {MOST_TEXT_BYTES} bytes")
    if len(encoded_item(text)) > MOST_DATA_BYTES - _BESIDE_TEXT:
        raise BadRequestError("a text of too many control characters")
    return str(text)
