"""What a chat server remembers: events in one order, and whose a name is (SQLite).

Every event has a sequence number, counted over all rooms. Who comes back says the last one it
has seen, and misses nothing; who says something gives it an ID of its own choice, and saying it
again with the same ID says it once. Who is there is kept beside it. Several processes may have
the same file open: SQLite lets one write at a time, so a number is never seen before a lower one.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from rawproto.errors import UsageError
from rawproto.rpc import RPCError

__all__ = ["MOST_IN_MEMORY", "Event", "HistoryError", "Store", "folded"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL, room TEXT NOT NULL, nick TEXT NOT NULL, key BLOB NOT NULL,
    to_nick TEXT NOT NULL, to_key BLOB NOT NULL,
    text TEXT NOT NULL, time_ns INTEGER NOT NULL, id TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS said ON events (key, id);
DROP INDEX IF EXISTS in_room;
CREATE INDEX IF NOT EXISTS heard ON events (room, sequence) WHERE kind != 'private';
CREATE INDEX IF NOT EXISTS messages ON events (room, sequence) WHERE kind = 'message';
CREATE INDEX IF NOT EXISTS private_of ON events (key, sequence) WHERE kind = 'private';
CREATE INDEX IF NOT EXISTS private_to ON events (to_key, sequence) WHERE kind = 'private';
CREATE TABLE IF NOT EXISTS names (folded TEXT PRIMARY KEY, nick TEXT NOT NULL, key BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS of_key ON names (key);
CREATE TABLE IF NOT EXISTS here (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    worker INTEGER NOT NULL, room TEXT NOT NULL, nick TEXT NOT NULL, key BLOB NOT NULL,
    away INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS here_in_room ON here (room, key);
"""
_VERSION = 1
MOST_IN_MEMORY = 500
_MOST_NAMES = 16
_MOST_PAGE = 1 << 18
_COLUMNS = "sequence, kind, room, nick, key, to_nick, to_key, text, time_ns"
# Each part has an index of its own: who comes is not to wait, nor have others wait, for what was
# said in other rooms.
_SINCE = f"""
SELECT {_COLUMNS} FROM events WHERE sequence IN (
    SELECT * FROM (SELECT sequence FROM events
        WHERE kind != 'private' AND room = ?1 AND sequence > ?3 ORDER BY sequence LIMIT ?4)
    UNION SELECT * FROM (SELECT sequence FROM events
        WHERE kind = 'private' AND key = ?2 AND sequence > ?3 ORDER BY sequence LIMIT ?4)
    UNION SELECT * FROM (SELECT sequence FROM events
        WHERE kind = 'private' AND to_key = ?2 AND sequence > ?3 ORDER BY sequence LIMIT ?4)
) ORDER BY sequence LIMIT ?4
"""


class HistoryError(RPCError):
    """Nothing can be kept: the disk is full, or otherwise. So nothing was said."""

    code = "history"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        sequence: its number, 0 for one that is not kept.
        kind: `"message"`, `"private"`, `"join"` or `"leave"`.
        room: where; of a private message, where its sender was.
        nick: who.
        key: the public key of whoever it is.
        to_nick: for whom a private message is, else "".
        to_key: likewise, b"".
        text: what was said.
        time_ns: when, by the server's clock.
    """

    sequence: int
    kind: str
    room: str
    nick: str
    key: bytes
    to_nick: str
    to_key: bytes
    text: str
    time_ns: int


# What takes no room or no ink, of that which Python calls printable (Default_Ignorable_Code_Point,
# and the blank of Braille). NFKC makes two more fillers U+1160.
_UNSEEN = dict.fromkeys(
    map(ord, "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800")
) | dict.fromkeys((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))


def folded(name: str) -> str:
    """What names that people would take for one another have in common; "" for an unseen one."""
    folded = unicodedata.normalize("NFKC", name).casefold().translate(_UNSEEN)
    return unicodedata.normalize("NFKC", folded).strip()


class Store:
    """A file of events.

    Args:
        path: of the file, made where it is missing; None keeps in memory what was last.
        most: so many events are remembered at least, and not twice as many; None for all, but
            500 in memory.

    Attributes:
        identity: tells its numbers from those of another; the file's, whoever has it open.

    Raises:
        UsageError: it cannot be opened, or is something else.
    """

    identity: int

    def __init__(self, path: str | None, most: int | None = None) -> None:
        self._most = most or (0 if path else MOST_IN_MEMORY)
        if path is not None:
            # Private words are in it; what is wrong with the path SQLite tells below.
            with suppress(OSError):
                os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600))
        try:
            self._base = sqlite3.connect(path or ":memory:", isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            (version,) = self._base.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise UsageError(f"{path}: a history of version {version}, and we know {_VERSION}")
            self._base.executescript(_SCHEMA)
            self._base.execute(f"PRAGMA user_version={_VERSION}")
            with self.together():
                (self.identity,) = self._base.execute("PRAGMA application_id").fetchone()
                if not self.identity:
                    self.identity = 1 + secrets.randbelow(0x7FFF_FFFF)
                    self._base.execute(f"PRAGMA application_id={self.identity}")
        except HistoryError as error:
            raise UsageError(f"{path}: no chat history: {error}") from None
        except sqlite3.Error as error:
            raise UsageError(f"{path}: no chat history: {error}") from None

    def add(self, event: Event, message_id: str | None) -> int:
        """Keeps an event: its number. One that is known by its ID is not kept again.

        Args:
            event: what happened; its number counts for nothing.
            message_id: chosen by who said it, None for none.

        Raises:
            HistoryError: it cannot be kept.
        """
        try:
            added = self._base.execute(
                "INSERT INTO events (kind, room, nick, key, to_nick, to_key, text, time_ns, id)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    event.kind, event.room, event.nick, event.key, event.to_nick, event.to_key,
                    event.text, event.time_ns, message_id,
                ),
            )  # fmt: skip
        except sqlite3.IntegrityError:
            found = self._base.execute(
                "SELECT sequence FROM events WHERE key = ? AND id = ?", (event.key, message_id)
            )
            return int(found.fetchone()[0])
        except sqlite3.Error as error:
            raise HistoryError(f"the server cannot keep it: {error}") from None
        sequence = added.lastrowid or 0
        if self._most and not sequence % self._most:
            with suppress(sqlite3.Error):  # the next time, then
                self._base.execute(
                    "DELETE FROM events WHERE sequence <= ?", (sequence - self._most,)
                )
        return sequence

    def after(self, sequence: int, most: int) -> list[Event]:
        """What happened after an event, in all rooms: so many at once, or less, in order."""
        found = self._base.execute(
            f"SELECT {_COLUMNS} FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (sequence, most),
        )
        return _page(found)

    def since(self, room: str, key: bytes, sequence: int, most: int) -> list[Event]:
        """What happened in a room after an event, and what was told to a key in private.

        Args:
            room: which.
            key: whose private messages, sent or received.
            sequence: the last event that is known.
            most: so many at once, or less; ask again from the last of them.
        """
        return _page(self._base.execute(_SINCE, (room, key, sequence, most)))

    def before(self, room: str, most: int) -> int:
        """The number behind which a room's last messages are, so many of them."""
        found = self._base.execute(
            "SELECT sequence FROM events WHERE room = ? AND kind = 'message'"
            " ORDER BY sequence DESC LIMIT 1 OFFSET ?",
            (room, most),
        ).fetchone()
        return int(found[0]) if found else 0

    @property
    def last(self) -> int:
        """The last number that was given."""
        (found,) = self._base.execute("SELECT MAX(sequence) FROM events").fetchone()
        return found or 0

    def claim(self, nick: str, key: bytes) -> bool:
        """Takes a name for a key: whether it has it now, or had it. A key has 16 at most.

        Raises:
            HistoryError: it cannot be kept.
        """
        with self.together():
            owner = self.owner(nick)
            if owner is not None:
                return owner == key
            found = self._base.execute("SELECT COUNT(*) FROM names WHERE key = ?", (key,))
            if found.fetchone()[0] >= _MOST_NAMES:
                return False
            self._base.execute("INSERT INTO names VALUES (?, ?, ?)", (folded(nick), nick, key))
            return True

    def owner(self, nick: str) -> bytes | None:
        """Whose a name is."""
        found = self._base.execute("SELECT key FROM names WHERE folded = ?", (folded(nick),))
        return next((key for (key,) in found), None)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is looked up and kept within the block is so at one moment, for all processes.

        Raises:
            HistoryError: it cannot be kept, and nothing of it is.
        """
        try:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._base.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has done it already
                    self._base.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise HistoryError(f"the server cannot keep it: {error}") from None

    # --- who is there; within `together` ---

    def come(self, worker: int, room: str, nick: str, key: bytes) -> tuple[int, bool]:
        """A member comes into a room: its number, and whether that key was not there before."""
        gone = self._base.execute(
            "DELETE FROM here WHERE room = ? AND key = ? AND away", (room, key)
        )
        new = not gone.rowcount and not self._is_here(room, key)
        row = self._base.execute(
            "INSERT INTO here (worker, room, nick, key) VALUES (?, ?, ?, ?)",
            (worker, room, nick, key),
        )
        return row.lastrowid or 0, new

    def cut_off(self, member: int, room: str, key: bytes) -> bool:
        """A member's call is over: whether it is away now, its key having no other there."""
        self._base.execute("UPDATE here SET away = 1 WHERE id = ?", (member,))
        if not self._is_here(room, key):
            return True
        self._base.execute("DELETE FROM here WHERE id = ?", (member,))
        return False

    def go(self, member: int) -> bool:
        """A member has left: whether it was still away, and nobody had come back for it."""
        return bool(
            self._base.execute("DELETE FROM here WHERE id = ? AND away", (member,)).rowcount
        )

    def _is_here(self, room: str, key: bytes) -> bool:
        found = self._base.execute(
            "SELECT 1 FROM here WHERE room = ? AND key = ? AND NOT away LIMIT 1", (room, key)
        )
        return found.fetchone() is not None

    def here(self, room: str) -> list[str]:
        """The names of who is in a room."""
        found = self._base.execute(
            "SELECT DISTINCT nick FROM here WHERE room = ? AND NOT away", (room,)
        )
        return sorted(nick for (nick,) in found)

    def members_of(self, worker: int) -> list[tuple[int, str, str, bytes]]:
        """(number, room, nick, key) of the members that a process had."""
        return self._base.execute(
            "SELECT id, room, nick, key FROM here WHERE worker = ?", (worker,)
        ).fetchall()

    def empty(self) -> None:
        """Nobody is there. Raises HistoryError."""
        with self.together():
            self._base.execute("DELETE FROM here")

    def close(self) -> None:
        """Closes the file."""
        self._base.close()


def _page(found: sqlite3.Cursor) -> list[Event]:
    """The first of what was found, up to a quarter of a million characters and one text more."""
    events, size = [], 0
    for row in found:
        events.append(Event(*row))
        size += len(events[-1].text)
        if size >= _MOST_PAGE:
            break
    found.close()
    return events
