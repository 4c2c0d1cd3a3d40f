"""Who is in which room, and what each is still to be told.

A member that reads slower than others write is dropped with a word, and only it; it comes
back when it likes, and misses nothing. Who is cut off is away only after a while: who is back by
then never left. Who goes has left at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Any

from rawproto.apps.chat.store import Event, HistoryError, Store
from rawproto.apps.siblings import Siblings
from rawproto.rpc import RPCError, encoded_item

__all__ = ["Hub", "Member", "Rooms", "SlowReaderError"]

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
        self.number = 0  # in the store, once it is there
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
    """All rooms, and the members in them that are this process's.

    Args:
        store: where events are kept. Who is in it as this process's was so before it died, and
            may come back.
        away_s: how long a member may be cut off before it has left.
        now_ns: the time of day.
        worker: which of several processes this is.
        siblings: the processes; who is told anything looks into the store.
    """

    def __init__(
        self,
        store: Store,
        *,
        away_s: float = 10.0,
        now_ns: Callable[[], int] = time.time_ns,
        worker: int = 0,
        siblings: Siblings | None = None,
    ) -> None:
        self._store = store
        self._away_s = away_s
        self._now_ns = now_ns
        self._worker = worker
        self._siblings = siblings or Siblings(1)
        self._siblings.hear(worker, lambda message: self.look())
        self._members: dict[str, set[Member]] = {}
        self._later: set[asyncio.TimerHandle] = set()
        self._ending = False
        self._seen = store.last
        for row in store.members_of(worker):
            self._cut_off(*row)

    def names(self, room: str) -> list[str]:
        """Who is there."""
        return self._store.here(room)

    def enter(self, member: Member) -> None:
        """A member comes; the others hear of it, if it was not there before.

        Raises:
            HistoryError: it cannot be kept, and the member is not there.
        """
        with self._store.together():
            member.number, new = self._store.come(
                self._worker, member.room, member.nick, member.key
            )
            if new:
                self._add("join", member.room, member.nick, member.key)
        self._members.setdefault(member.room, set()).add(member)
        self._tell_all()

    def catch_up(self, member: Member) -> list[bytes]:
        """What happened since the member's last event, a part at a time; empty once it is live."""
        events = self._store.since(member.room, member.key, member.sequence, _PAGE)
        if not events:
            member.live = True
            return []
        member.sequence = events[-1].sequence
        return [event_item(event) for event in events]

    def leave(self, member: Member, *, for_good: bool = False) -> None:
        """A member's call is over. One that never was there is none.

        Args:
            member: whose.
            for_good: whether it wanted that, and will not come back.
        """
        here = self._members.get(member.room, set())
        here.discard(member)
        if not here:
            self._members.pop(member.room, None)
        if member.number:
            at_once = for_good and not self._ending
            self._cut_off(member.number, member.room, member.nick, member.key, at_once=at_once)

    def _cut_off(
        self, number: int, room: str, nick: str, key: bytes, *, at_once: bool = False
    ) -> None:
        try:
            with self._store.together():
                away = self._store.cut_off(number, room, key)
        except HistoryError:
            self._after_a_while(self._cut_off, number, room, nick, key)
        else:
            if away and at_once:
                self._left(number, room, nick, key)
            elif away:
                self._after_a_while(self._left, number, room, nick, key)

    def _left(self, number: int, room: str, nick: str, key: bytes) -> None:
        try:
            with self._store.together():
                if self._store.go(number):
                    self._add("leave", room, nick, key)
        except HistoryError:
            self._after_a_while(self._left, number, room, nick, key)
        self._tell_all()

    def _after_a_while(self, do: Callable[[int, str, str, bytes], None], *member: Any) -> None:
        def due() -> None:
            self._later.discard(timer)
            do(*member)

        timer = asyncio.get_running_loop().call_later(self._away_s, due)
        self._later.add(timer)

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
        sequence = self._add(
            kind, room, nick, key,
            text=text, message_id=message_id, to_nick=to_nick, to_key=to_key,
        )  # fmt: skip
        self._tell_all()
        return sequence

    def _add(
        self, kind: str, room: str, nick: str, key: bytes, *,
        text: str = "", message_id: str | None = None, to_nick: str = "", to_key: bytes = b"",
    ) -> int:  # fmt: skip
        event = Event(0, kind, room, nick, key, to_nick, to_key, text, self._now_ns())
        return self._store.add(event, message_id)

    def _tell_all(self) -> None:
        self.look()
        self._siblings.tell(self._worker)

    def look(self) -> None:
        """Tells this process's members what happened, whoever it was that kept it."""
        while events := self._store.after(self._seen, _PAGE):
            for event in events:
                self._seen = event.sequence
                if event.kind == "private":
                    both = (event.key, event.to_key)
                    all_here = chain.from_iterable(self._members.values())
                    concerned = [member for member in all_here if member.key in both]
                else:
                    concerned = list(self._members.get(event.room, ()))
                concerned = [each for each in concerned if each.live]  # others read the store
                item = event_item(event) if concerned else b""
                for member in concerned:
                    member.tell(event, item)

    def ending(self) -> None:
        """From here on calls end because this process does: nobody leaves by that."""
        self._ending = True

    def close(self) -> None:
        """Forgets who may still come back, and hears of nothing more."""
        for timer in self._later:
            timer.cancel()
        self._later.clear()
        self._siblings.deaf(self._worker)


class Rooms:
    """What a process that serves has of the rooms, from its first client to its last.

    Args:
        path: of the history, None for none.
        most: events that it remembers, as `Store` has it.
        siblings: the processes.

    Attributes:
        store: once it has begun.
        hub: likewise.
    """

    store: Store
    hub: Hub

    def __init__(self, path: str | None, most: int | None, siblings: Siblings) -> None:
        self._path = path
        self._most = most
        self._siblings = siblings

    async def begin(self, number: int) -> None:
        """Opens the history for itself. Raises UsageError."""
        self.store = Store(self._path, self._most)
        self.hub = Hub(self.store, worker=number, siblings=self._siblings)

    def ending(self) -> None:
        """Members end by themselves."""
        self.hub.ending()

    async def end(self) -> None:
        """Nobody is left."""
        self.hub.close()
        self.store.close()
