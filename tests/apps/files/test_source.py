"""A file that is sent, while it is read ahead."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.blocks import BLOCK_BYTES, zeros_leaf
from rawproto.apps.files.entries import Entry
from rawproto.apps.files.source import Source
from rawproto.apps.files.transfer import begun, send_file
from rawproto.errors import ConnectionLostError
from rawproto.rpc import Call


class Lost:
    """A call whose connection is lost at the first block."""

    async def __anext__(self) -> Any:
        return {"have": 0}

    async def send(self, item: Any) -> None:
        if isinstance(item, bytes):
            raise ConnectionLostError("lost")


def test_hashes_are_kept_once_nobody_adds_to_them_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not while a thread still reads: it could not add to what is being written down."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(20 * BLOCK_BYTES))
    source = Source(os.open(path, os.O_RDONLY), "file")
    done: list[str] = []
    reading = source.blocks

    def slowly(first: int, count: int) -> Any:
        time.sleep(0.05)
        found = reading(first, count)
        done.append("read")
        return found

    monkeypatch.setattr(source, "blocks", slowly)
    monkeypatch.setattr(source, "keep", lambda: done.append("kept"))
    with pytest.raises(ConnectionLostError):
        asyncio.run(send_file(cast(Call, Lost()), source, lambda size: None))
    source.close()
    assert done == ["read", "read", "kept"]


HUGE = 1 << 36
"""Of which the hashes take half a minute."""


def huge(tmp_path: Path) -> Path:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(HUGE)
    return path


async def given_up(work: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.create_task(work)
    await asyncio.sleep(0.2)
    task.cancel()
    async with asyncio.timeout(3):
        with pytest.raises(asyncio.CancelledError):
            await task


def test_hashing_what_was_sent_ends_when_it_is_given_up(tmp_path: Path) -> None:
    source = Source(os.open(huge(tmp_path), os.O_RDONLY), "huge")
    their_leaves = zeros_leaf(BLOCK_BYTES) * (HUGE // BLOCK_BYTES)

    async def main() -> None:
        call = cast(Call, Said({"have": HUGE // BLOCK_BYTES}, their_leaves))
        await given_up(send_file(call, source, lambda size: None))

    asyncio.run(main())
    source.close()


def test_hashing_what_may_serve_ends_when_it_is_given_up(tmp_path: Path) -> None:
    huge(tmp_path)
    entry = Entry("huge", "file", HUGE)
    with closing(Root(str(tmp_path))) as root:
        asyncio.run(given_up(begun(root, entry, old=True)))
    assert os.listdir(tmp_path) == ["huge"]


class Said:
    """A call in which the other side has said all it says."""

    def __init__(self, *items: Any) -> None:
        self._items = list(items)

    async def __anext__(self) -> Any:
        return self._items.pop(0)
