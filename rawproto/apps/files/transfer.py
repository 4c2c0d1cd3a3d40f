"""Files crossing a call: one large one in blocks, or many small ones in packs.

One file, between whoever sends (S) and receives (R) it::

    R  {"have": count, "lent": index},      the blocks that stand already, and from `lent` on
       leaves as DATA                       those that the file of that name lends anywhere
    S  {"from": first}                      so many of them are the same
    S  DATA: leaf (32), block ...           nothing behind the leaf where it is all zeros, or lent
    S  {"root": hex}                        R compares, and gives the file its name

Many files::

    S  {"entries": [...], "leaf": hex}, DATA: what is in the files, one behind the other
    S  {"directories": [...]}               their times, when all that is in them stands
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Event
from typing import Any

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.blocks import BLOCK_BYTES, LEAF_BYTES, block_count, leaf
from rawproto.apps.files.entries import Entry
from rawproto.apps.files.faults import FileError
from rawproto.apps.files.packs import (
    NAMES_BYTES,
    PACK_ENTRIES,
    Admit,
    name_bytes,
    read_pack,
    set_directories,
    write_pack,
)
from rawproto.apps.files.partial import Partial
from rawproto.apps.files.source import Source
from rawproto.apps.files.threads import done, in_thread, in_turn, started
from rawproto.rpc import MOST_DATA_BYTES, BadRequestError, Call

__all__ = [
    "VERSION",
    "begun",
    "cut",
    "offer",
    "receive_file",
    "receive_pack",
    "send_directories",
    "send_file",
]
__all__ += ["send_pack"]

VERSION = 1
"""Of this protocol."""

_AT_ONCE = 8
# Whoever sends so much that cannot be made is not sending files.
_MOST_FAULTS = 1024

Tell = Callable[[int], None]
Note = Callable[[Entry, FileError | None], None]


def _quietly(entry: Entry, fault: FileError | None) -> None:
    pass


def _field(item: Any, name: str, kind: type) -> Any:
    """A field of a message. Raises BadRequestError."""
    value = item.get(name) if isinstance(item, dict) else None
    if type(value) is not kind:
        raise BadRequestError(f"a message with {name} was expected")
    return value


async def send_file(call: Call, source: Source, tell: Tell) -> None:
    """S's part of one file.

    Args:
        call: the call that carries it.
        source: the file.
        tell: hears of bytes that stand at the other side, as they are sent or were there.
    """
    said: Any = await anext(call, None)
    count = _field(said, "have", int)
    lent = said.get("lent")
    if not 0 <= count <= block_count(source.size):
        raise BadRequestError("more blocks than the file has")
    theirs = bytearray()
    while len(theirs) < count * LEAF_BYTES:
        piece = await anext(call, None)
        if not isinstance(piece, bytes) or not piece:
            raise BadRequestError("leaves were expected")
        theirs += piece
    first = 0
    if theirs:
        first = await done(started(source.common, theirs), source.given_up.set)
    await call.send({"from": first})
    tell(min(first * BLOCK_BYTES, source.size))

    def read(index: int) -> asyncio.Future[list[tuple[bytes, bytes]]]:
        if index < block_count(source.size):
            return started(source.blocks, index, _AT_ONCE)
        none: asyncio.Future[list[tuple[bytes, bytes]]] = asyncio.Future()
        none.set_result([])  # without waiting for a thread, as most files have few blocks
        return none

    reading = read(first)
    try:
        try:
            for index in range(first, block_count(source.size), _AT_ONCE):
                blocks = await done(reading)
                reading = read(index + _AT_ONCE)
                for number, (its_leaf, data) in enumerate(blocks, index):
                    if type(lent) is int and lent <= number < count:
                        at = number * LEAF_BYTES
                        data = b"" if theirs[at : at + LEAF_BYTES] == its_leaf else data
                    await call.send(its_leaf + data)
                    tell(min(BLOCK_BYTES, source.size - number * BLOCK_BYTES))
        finally:
            with suppress(OSError):
                await done(reading)
    except BaseException:
        source.keep()  # now that no thread adds to them any more
        raise
    source.check()
    await call.send({"root": source.root.hex()})


async def begun(root: Root, entry: Entry, *, old: bool = False) -> Partial:
    """Makes a `Partial` in a thread: its arguments, and what it raises."""
    given_up = Event()
    making = started(Partial, root, entry, old=old, given_up=given_up)
    try:
        return await done(making, given_up.set)
    except asyncio.CancelledError:
        with suppress(OSError):
            making.result().close()
        raise


async def offer(call: Call, partial: Partial) -> None:
    """R's first words: which blocks stand. Nothing has to have been said before."""
    leaves = bytes(partial.leaves)
    await call.send({"have": len(leaves) // LEAF_BYTES, "lent": partial.lent_from})
    for at in range(0, len(leaves), MOST_DATA_BYTES // LEAF_BYTES * LEAF_BYTES):
        await call.send(leaves[at : at + MOST_DATA_BYTES // LEAF_BYTES * LEAF_BYTES])


async def receive_file(call: Call, partial: Partial, size: int, tell: Tell) -> None:
    """R's part of one file after `offer`, up to its name.

    Args:
        call: the call that carries it.
        partial: where it is built.
        size: what it will have, in bytes.
        tell: as in `send_file`.
    """
    first = _field(await anext(call, None), "from", int)
    if not 0 <= first <= len(partial.leaves) // LEAF_BYTES:
        raise BadRequestError("more blocks than there are")
    if partial.leaves:
        await done(started(partial.keep, first), partial.given_up.set)
    tell(min(first * BLOCK_BYTES, size))
    writing: asyncio.Future[None] | None = None
    waiting: list[tuple[bytes, bytes]] = []
    index = first
    root: bytes | None = None
    try:
        while isinstance(item := await anext(call, None), bytes):
            waiting.append((item[:LEAF_BYTES], item[LEAF_BYTES:]))
            tell(max(min(BLOCK_BYTES, size - index * BLOCK_BYTES), 0))
            index += 1
            if len(waiting) >= _AT_ONCE:
                if writing is not None:
                    await done(writing)
                writing = started(partial.write, waiting)
                waiting = []
        root = _hash(_field(item, "root", str))
    finally:
        if writing is not None:
            await done(writing)
        if root is None:
            # What has come stands, also where the rest does not come any more.
            await in_thread(partial.write, waiting)
    await in_thread(partial.finish, root, waiting)


def _hash(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise BadRequestError("a hash was expected") from None


async def send_pack(
    call: Call,
    root: Root,
    above: str,
    paths: Iterable[str],
    turn: asyncio.Lock,
    tell: Tell,
    note: Note = _quietly,
) -> list[FileError]:
    """S's part of many files, directories and links.

    Args:
        call: the call that carries them.
        root: beneath which they are read.
        above: what stands before their paths there.
        paths: parents first; directories get their times by `send_directories`, afterwards.
        turn: of reading; packs are read one after the other.
        tell: hears of bytes sent.
        note: hears of each entry that was sent.

    Returns:
        What could not be read, and was left out.
    """
    faults: list[FileError] = []
    waiting = deque(paths)

    def read() -> tuple[list[Entry], bytes, list[FileError]] | None:
        return read_pack(root, above, waiting) if waiting else None

    reading = asyncio.ensure_future(in_turn(turn, read))
    try:
        while (found := await done(reading)) is not None:
            reading = asyncio.ensure_future(in_turn(turn, read))
            some, data, failed = found
            faults += failed
            await call.send(
                {"entries": [each.to_json() for each in some], "leaf": leaf(data).hex()}
            )
            await call.send(data)
            tell(len(data))
            for each in some:
                note(each, None)
    finally:
        await done(reading)
    return faults


def cut(entries: Iterable[Entry], most: int, most_bytes: int) -> Iterator[list[Entry]]:
    """Cuts a row of entries where they get too many, or their names too long.

    Args:
        entries: in order.
        most: so many in one part.
        most_bytes: what their names take in JSON.
    """
    part: list[Entry] = []
    names = 0
    for entry in entries:
        name = name_bytes(entry)
        if part and (len(part) >= most or names + name > most_bytes):
            yield part
            part, names = [], 0
        part.append(entry)
        names += name
    if part:
        yield part


async def send_directories(call: Call, directories: Iterable[Entry]) -> None:
    """Their permissions and times, once all that is in them stands; those within first."""
    for some in cut(directories, PACK_ENTRIES, NAMES_BYTES):
        await call.send({"directories": [each.to_json() for each in some]})


async def receive_pack(
    call: Call,
    root: Root,
    above: str,
    admit: Admit,
    turn: asyncio.Lock,
    tell: Tell,
    note: Note = _quietly,
) -> list[FileError]:
    """R's part of many files: what could not be made.

    Args:
        call: the call that carries them.
        root: beneath which they are made.
        above: what is put before their paths there.
        admit: as in `write_pack`.
        turn: of writing; packs are written one after the other.
        tell: hears of bytes received.
        note: hears of each entry that was made, or could not be.
    """
    faults: list[FileError] = []
    writing: asyncio.Future[None] | None = None

    async def write(entries: list[Entry], data: bytes) -> None:
        outcomes: list[tuple[Entry, FileError | None]] = []
        batch = write_pack(root, above, entries, data, admit)
        try:
            await in_turn(turn, outcomes.extend, batch)
        finally:
            for entry, fault in outcomes:
                note(entry, fault)
                if fault is not None:
                    faults.append(fault)
        if len(faults) > _MOST_FAULTS:
            raise FileError(f"{above or '.'}: more than {_MOST_FAULTS:,} things were wrong")

    try:
        async for item in call:
            if isinstance(item, dict) and "directories" in item:
                if writing is not None:
                    await done(writing)
                entries = _entries(_field(item, "directories", list))
                await in_thread(set_directories, root, above, entries)
                continue
            entries = _entries(_field(item, "entries", list))
            expected = _field(item, "leaf", str)
            data = await anext(call, None)
            if not isinstance(data, bytes) or len(data) != sum(
                each.size for each in entries if each.kind == "file"
            ):
                raise BadRequestError("the contents of a pack were expected")
            if leaf(data).hex() != expected:
                raise FileError("a damaged pack arrived")
            if writing is not None:
                await done(writing)
            writing = asyncio.ensure_future(write(entries, data))
            tell(len(data))
    finally:
        if writing is not None:
            await done(writing)
    return faults


def _entries(told: list[Any]) -> list[Entry]:
    try:
        return [Entry.from_json(each) for each in told]
    except ValueError:
        raise BadRequestError("entries were expected") from None
