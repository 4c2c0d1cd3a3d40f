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
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.blocks import BLOCK_BYTES, LEAF_BYTES, block_count, leaf
from rawproto.apps.files.entries import PREFIX, Entry
from rawproto.apps.files.faults import FileError, as_file_errors, file_error
from rawproto.apps.files.partial import Partial
from rawproto.apps.files.source import Source
from rawproto.apps.files.threads import done, in_thread, started
from rawproto.rpc import MOST_DATA_BYTES, BadRequestError, Call

__all__ = [
    "PACKED_BYTES",
    "VERSION",
    "begun",
    "cut",
    "offer",
    "receive_file",
    "receive_pack",
    "send_directories",
    "send_file",
]
__all__ += ["send_pack", "set_directories"]

VERSION = 1
"""Of this protocol."""
PACKED_BYTES = BLOCK_BYTES
"""Files of up to so many bytes travel in packs: of a single block there is nothing to resume."""

_AT_ONCE = 8
# As many as one item may have, but for what they grow by before they are read.
_PACK_BYTES = MOST_DATA_BYTES - (1 << 15)
_PACK_ENTRIES = 256
_NAMES_BYTES = 1 << 16
# A file of more bytes is on the disk before it has its name.
_UNSYNCED_BYTES = 1 << 16

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
    theirs = b""
    while len(theirs) < count * LEAF_BYTES:
        piece = await anext(call, None)
        if not isinstance(piece, bytes) or not piece:
            raise BadRequestError("leaves were expected")
        theirs += piece
    first = await in_thread(source.common, theirs) if theirs else 0
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
    making = started(Partial, root, entry, old=old)
    try:
        return await done(making)
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
        await in_thread(partial.keep, first)
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
    entries: Iterable[Entry],
    tell: Tell,
    note: Note = _quietly,
) -> list[FileError]:
    """S's part of many files, directories and links.

    Args:
        call: the call that carries them.
        root: beneath which they are read.
        above: what stands before their paths there.
        entries: parents first; directories get their times by `send_directories`, afterwards.
        tell: hears of bytes sent.
        note: hears of each entry that was sent.

    Returns:
        What could not be read, and was left out.
    """
    faults: list[FileError] = []
    batches = cut(entries, _PACK_ENTRIES, _NAMES_BYTES, _PACK_BYTES)

    def read() -> tuple[list[Entry], bytes, list[FileError]] | None:
        batch = next(batches, None)
        return None if batch is None else _read_batch(root, above, batch)

    reading = started(read)
    try:
        while (found := await done(reading)) is not None:
            reading = started(read)
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


def cut(
    entries: Iterable[Entry], most: int, name_bytes: int, size: int = 1 << 62
) -> Iterator[list[Entry]]:
    """Cuts a row of entries where it gets too many, their names too long or their files too large.

    Args:
        entries: in order.
        most: so many in one part.
        name_bytes: what their names take in JSON.
        size: what is in the files.
    """
    part: list[Entry] = []
    names = held = 0
    for entry in entries:
        name = 100 + 6 * (len(entry.path) + len(entry.target))  # as escaped as can be
        if part and (len(part) >= most or names + name > name_bytes or held + entry.size > size):
            yield part
            part, names, held = [], 0, 0
        part.append(entry)
        names, held = names + name, held + entry.size
    if part:
        yield part


async def send_directories(call: Call, directories: Iterable[Entry]) -> None:
    """Their permissions and times, once all that is in them stands; those within first."""
    for some in cut(directories, _PACK_ENTRIES, _NAMES_BYTES):
        await call.send({"directories": [each.to_json() for each in some]})


def _read_batch(
    root: Root, above: str, batch: list[Entry]
) -> tuple[list[Entry], bytes, list[FileError]]:
    entries, pieces, faults = [], [], []
    room = MOST_DATA_BYTES
    for entry in batch:
        if entry.kind == "file":
            path = f"{above}/{entry.path}".strip("/")
            try:
                fd = root.open_file(path)
                try:
                    piece = os.read(fd, PACKED_BYTES + 1)
                finally:
                    os.close(fd)
                if len(piece) > min(PACKED_BYTES, room):
                    raise OSError(0, "it grew while it was sent", path)
            except OSError as error:
                faults.append(file_error(error, path))
                continue
            entry = replace(entry, size=len(piece))
            room -= len(piece)
            pieces.append(piece)
        entries.append(entry)
    return entries, b"".join(pieces), faults


async def receive_pack(
    call: Call,
    root: Root,
    above: str,
    admit: Callable[[Entry], None],
    tell: Tell,
    note: Note = _quietly,
) -> list[FileError]:
    """R's part of many files: what could not be made.

    Args:
        call: the call that carries them.
        root: beneath which they are made.
        above: what is put before their paths there.
        admit: raises a FileError, or another RPCError, about one that is not wanted.
        tell: hears of bytes received.
        note: hears of each entry that was made, or could not be.
    """
    faults: list[FileError] = []
    writing: asyncio.Future[None] | None = None

    async def write(entries: list[Entry], data: bytes) -> None:
        outcomes: list[tuple[Entry, FileError | None]] = []
        batch = _write_batch(root, above, entries, data, admit)
        try:
            await in_thread(outcomes.extend, batch)
        finally:
            for entry, fault in outcomes:
                note(entry, fault)
                if fault is not None:
                    faults.append(fault)

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


def _write_batch(
    root: Root, above: str, entries: list[Entry], data: bytes, admit: Callable[[Entry], None]
) -> Iterator[tuple[Entry, FileError | None]]:
    """Each of the entries, and why it could not be made."""
    at = 0
    with ExitStack() as stack:
        directory, opened = -1, None  # many in a row are in the same one
        for entry in entries:
            content = b""
            if entry.kind == "file":
                content, at = data[at : at + entry.size], at + entry.size
            path = f"{above}/{entry.path}".strip("/")
            where, _, name = path.rpartition("/")
            try:
                admit(replace(entry, path=path))
                with as_file_errors(path):
                    if entry.kind == "directory":
                        root.make_directories(path)
                    else:
                        if where != opened:
                            opened = None
                            stack.close()
                            directory, _ = stack.enter_context(root.parent(path, make=True))
                            opened = where
                        _make(directory, name, entry, content)
            except FileError as fault:
                yield entry, fault
            else:
                yield entry, None


def _make(directory: int, name: str, entry: Entry, content: bytes) -> None:
    if entry.kind not in ("file", "link"):
        raise OSError(0, "neither file nor directory nor link", name)
    if name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "no name", name)
    inner = PREFIX + os.urandom(12).hex()
    try:
        if entry.kind == "link":
            try:
                os.symlink(entry.target, inner, dir_fd=directory)
            except OSError as error:
                error.filename = inner  # and not where it points to
                raise
            times = (entry.mtime_ns, entry.mtime_ns)
            os.utime(inner, ns=times, dir_fd=directory, follow_symlinks=False)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(inner, flags, 0o600, dir_fd=directory)
            try:
                if not content.strip(b"\0"):
                    os.ftruncate(fd, len(content))  # a hole
                elif os.write(fd, content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
                os.fchmod(fd, entry.mode)
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
                if len(content) > _UNSYNCED_BYTES:
                    os.fsync(fd)
            finally:
                os.close(fd)
        os.rename(inner, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(inner, dir_fd=directory)
        raise


def set_directories(root: Root, above: str, entries: Iterable[Entry]) -> None:
    """Gives directories their permissions and times, those within first."""
    for entry in entries:
        path = f"{above}/{entry.path}".strip("/")
        with suppress(OSError):  # what could not be made was told
            if not path or entry.kind != "directory":
                continue
            fd = root.open_directory(path)
            try:
                os.fchmod(fd, entry.mode)
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            finally:
                os.close(fd)
