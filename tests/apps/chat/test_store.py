"""What a chat server remembers."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from rawproto.apps.chat.hub import Hub
from rawproto.apps.chat.store import Event, Store
from rawproto.errors import UsageError


def test_history_that_is_none_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, whatever its name may say" * 100)
    with pytest.raises(UsageError, match="no chat history"):
        Store(str(tmp_path / "text"))
    with sqlite3.connect(tmp_path / "newer") as base:
        base.execute("PRAGMA user_version=7")
    with pytest.raises(UsageError, match="version 7"):
        Store(str(tmp_path / "newer"))


def test_history_is_its_owners_alone(tmp_path: Path) -> None:
    """Everybody on the machine could read what was told in private."""
    store = Store(str(tmp_path / "history"))
    store.add(Event(0, "private", "r", "n", b"k", "m", b"m", "psst", 0), None)
    assert {each.stat().st_mode & 0o077 for each in tmp_path.iterdir()} == {0}
    store.close()


def test_memory_keeps_what_was_last() -> None:
    store = Store(None)
    hub = Hub(store)
    for number in range(5000):
        hub.happen("message", "r", "n", b"k", text=str(number))
    kept = store.since("r", b"", 0, 10_000)
    assert 500 <= len(kept) <= 1000
    assert kept[-1].text == "4999"


def filled(count: int, text: str = "x", *, room: str = "r") -> Store:
    store = Store(None, 1 << 40)
    with store.together():
        for number in range(count):
            store.add(Event(0, "message", room, "n", b"k", "", b"", text, 0), str(number))
    return store


def test_long_texts_are_read_a_few_at_a_time() -> None:
    """500 of them, 100 MB as JSON, were held for each who came and did not read them."""
    store = filled(40, "\N{GRINNING FACE}" * 16_384)
    got: list[int] = []
    while page := store.since("r", b"", got[-1] if got else 0, 500):
        assert sum(len(event.text) for event in page) < 300_000
        got += [event.sequence for event in page]
    assert got == list(range(1, 41))
    assert len(store.after(0, 500)) < 20


def test_who_comes_to_a_quiet_room_waits_for_no_other() -> None:
    """All that had been said in other rooms was read: with a million of it, 0.3 s for each."""
    store = filled(3000, room="busy")
    store.add(Event(0, "message", "quiet", "n", b"k", "", b"", "x", 0), "first")
    for number in range(3000):
        key, to = (b"k", b"a") if number % 1000 else (b"me", b"me")
        store.add(Event(0, "private", "quiet", "n", key, "", to, "x", 0), f"private {number}")
        store.add(Event(0, "join", "quiet", "n", b"k", "", b"", "x", 0), None)
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    store._base.set_progress_handler(step, 10)
    assert store.before("quiet", 50) == 0
    assert len(store.since("quiet", b"none", 6000, 10)) == 10
    assert store.since("empty", b"none", 0, 500) == []
    assert [event.kind for event in store.since("empty", b"me", 0, 500)] == ["private"] * 3
    assert steps < 500
    assert len(store.since("quiet", b"me", 0, 10_000)) == 3004
