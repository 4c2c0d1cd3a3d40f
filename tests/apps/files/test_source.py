"""A file that is sent, while it is read ahead."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, cast

import pytest

from rawproto.apps.files.blocks import BLOCK_BYTES
from rawproto.apps.files.source import Source
from rawproto.apps.files.transfer import send_file
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
