"""Who is in which room, and what each is still to be told.

A member that reads slower than others write is dropped with a word, and only it; it comes
back when it likes, and misses nothing. Who is cut off is away only after a while: who is back by
then never left.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from rawproto.apps.chat.store import Event, HistoryError, Store
from rawproto.rpc import RPCError, encoded_item

__all__ = ["Hub", "Member", "SlowReaderError"]

_MOST_WAITING = 1000
_MOST_BYTES = 4 << 20
_PAGE = 500


class SlowReaderError(RPCError):
    """A member did not take what it was told, and is dropped."""

    code = "slow_reader"


class Member:
    """One member's call.

    Args:
        room: where.
        nick: who.
        key: its public key.
        sequence: the last event that it has seen.
    """

    def __init__(self, room: str, nick: str, key: bytes, sequence: int) -> None:
        self.room = room
        self.nick = nick
        self.key = key
        self.sequence = sequence
        self.live = False
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._slow = False
        self._bell = asyncio.Event()

    def tell(self, event: Event, item: bytes) -> None:
        """Queues an event, encoded; too many end the member."""
        if event.sequence and event.sequence <= self.sequence:
            return
        self.sequence = max(self.sequence, event.sequence)
        self._waiting.append(item)
        self._size += len(item)
        if len(self._waiting) > _MOST_WAITING or self._size > _MOST_BYTES:
            self._slow = True
        self._bell.set()

    async def next(self) -> bytes:
        """The next event, encoded. Raises SlowReaderError."""
        while True:
            if self._slow:
                raise SlowReaderError("you read too slowly; come back and go on where you were")
            if self._waiting:
                item = self._waiting.popleft()
                self._size -= len(item)
                return item
            self._bell.clear()
            await self._bell.wait()


def event_item(event: Event) -> bytes:
    """An event as an item of a call; keys are told by their bytes in hexadecimal."""
    fields = {
        "sequence": event.sequence,
        "kind": event.kind,
        "room": event.room,
        "nick": event.nick,
        "key": event.key.hex(),
        "text": event.text,
        "time_ns": event.time_ns,
    }
    if event.kind == "private":
        fields["to"] = event.to_nick
    return encoded_item(fields)


class Hub:
    """All rooms.

    Args:
        store: where events are kept.
        away_s: how long a member may be cut off before it has left.
        now_ns: the time of day.
    """

    def __init__(
        self, store: Store, *, away_s: float = 10.0, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._store = store
        self._away_s = away_s
        self._now_ns = now_ns
        self._members: dict[str, set[Member]] = {}
        self._leaving: dict[tuple[str, bytes], asyncio.TimerHandle] = {}

    def names(self, room: str) -> list[str]:
        """Who is there."""
        return sorted({member.nick for member in self._members.get(room, ())})

    def enter(self, member: Member) -> None:
        """A member comes; the others hear of it, if it was not there before."""
        here = self._members.setdefault(member.room, set())
        there = any(other.key == member.key for other in here)
        leaving = self._leaving.pop((member.room, member.key), None)
        here.add(member)
        if leaving is not None:
            leaving.cancel()
        elif not there:
            self.happen("join", member.room, member.nick, member.key)

    def catch_up(self, member: Member) -> list[bytes]:
        """What happened since the member's last event, a part at a time; empty once it is live."""
        events = self._store.since(member.room, member.key, member.sequence, _PAGE)
        if not events:
            member.live = True
            return []
        member.sequence = events[-1].sequence
        return [event_item(event) for event in events]

    def leave(self, member: Member) -> None:
        """A member's call is over."""
        here = self._members.get(member.room, set())
        here.discard(member)
        if not any(other.key == member.key for other in here):
            later = asyncio.get_running_loop().call_later(self._away_s, self._left, member)
            self._leaving[member.room, member.key] = later
        if not here:
            self._members.pop(member.room, None)

    def _left(self, member: Member) -> None:
        del self._leaving[member.room, member.key]
        with suppress(HistoryError):
            self.happen("leave", member.room, member.nick, member.key)

    def happen(
        self,
        kind: str,
        room: str,
        nick: str,
        key: bytes,
        *,
        text: str = "",
        message_id: str | None = None,
        to_nick: str = "",
        to_key: bytes = b"",
    ) -> int:
        """Something happened: kept, and told to whom it concerns. Its number.

        Raises:
            HistoryError: it cannot be kept, and nobody is told.
        """
        event = Event(0, kind, room, nick, key, to_nick, to_key, text, self._now_ns())
        event, new = self._store.add(event, message_id)
        if new:
            item = event_item(event)
            if kind == "private":
                concerned = [
                    member
                    for members in self._members.values()
                    for member in members
                    if member.key in (key, to_key)
                ]
            else:
                concerned = list(self._members.get(room, ()))
            for member in concerned:
                if member.live:  # the others read it from the store
                    member.tell(event, item)
        return event.sequence

    def close(self) -> None:
        """Forgets who may still come back."""
        for later in self._leaving.values():
            later.cancel()
        self._leaving.clear()
