"""What a chat server remembers."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from rawproto.apps.chat.hub import Hub
from rawproto.apps.chat.store import Store
from rawproto.errors import UsageError


def test_history_that_is_none_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, whatever its name may say" * 100)
    with pytest.raises(UsageError, match="no chat history"):
        Store(str(tmp_path / "text"))
    with sqlite3.connect(tmp_path / "newer") as base:
        base.execute("PRAGMA user_version=7")
    with pytest.raises(UsageError, match="version 7"):
        Store(str(tmp_path / "newer"))


def test_memory_keeps_what_was_last() -> None:
    store = Store(None)
    hub = Hub(store)
    for number in range(5000):
        hub.happen("message", "r", "n", b"k", text=str(number))
    kept = store.since("r", b"", 0, 10_000)
    assert 500 <= len(kept) <= 1000
    assert kept[-1].text == "4999"
