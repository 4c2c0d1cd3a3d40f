"""What a room's events look like, and what the lines of a pipe become."""

from __future__ import annotations

import argparse
import asyncio
import io
from pathlib import Path
from typing import Any

import pytest

from rawproto.apps.chat.client import ChatMember
from rawproto.cli import chat
from rawproto.cli.chat_text import event_line
from rawproto.cli.render import Style
from rawproto.cli.rpt_options import Trust


@pytest.mark.parametrize(
    "text",
    [
        "Bonjour\u00a0!",
        "\u3000\u6f22\u5b57",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f468\u200d\U0001f469",
        "\u05d0\u200f!",
        "\U000e0fff \ue000",
    ],
)
def test_text_of_any_script_is_shown_as_it_is(text: str) -> None:
    """Spaces of Japanese and French, and what joins letters, were shown as escapes."""
    assert shown(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\x1b[31m\a\x7f", "\\x1b[31m\\x07\\x7f"),
        ("\x9b31m\r", "\\x9b31m\\r"),
        ("a\u202eb\u2066\u2028", "a\\u202eb\\u2066\\u2028"),
        ("\ud800", "\\ud800"),
        ("two\nlines", "two\n         lines"),
    ],
)
def test_what_commands_a_terminal_or_turns_a_line_is_escaped(text: str, escaped: str) -> None:
    assert shown(text) == escaped


def shown(text: str) -> str:
    event = {"kind": "message", "nick": "ada", "text": text}
    line = event_line(event, "bob", Style(io.StringIO(), "never"))
    return line.partition("<ada> ")[2].removesuffix("\n")


def test_lines_may_end_as_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read() -> Any:
        for line in (b"/who\r", b"caf\xc3\xa9\r", b"a\rb", b"\xff"):
            yield line

    async def scene() -> list[str]:
        async with chat._piped() as lines:
            return [line async for line in lines]

    monkeypatch.setattr(chat, "read_lines", read)
    assert asyncio.run(scene()) == ["/who", "caf\u00e9", "a\rb", "\ufffd"]


def test_text_that_the_output_cannot_encode_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A locale without the letters, or half a character from a server, was a traceback."""
    text = "\u6f22 \ud800"

    async def connected(*arguments: Any) -> None:
        raise ConnectionRefusedError

    def heard(room: str, nick: str, *, hear: Any, **rest: Any) -> ChatMember:
        hear({"sequence": 1, "kind": "message", "nick": "ada", "text": text})
        return ChatMember(room, nick, hear=hear, **rest)

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(chat, "connect_once", connected)
    monkeypatch.setattr(chat, "ChatMember", heard)
    parser = argparse.ArgumentParser()
    chat.add_arguments(parser)
    arguments = parser.parse_args(["join", "--json", "rpt://127.0.0.1:1", "lobby", "--nick", "bob"])
    with open(tmp_path / "out", "w", encoding="latin-1") as out:
        monkeypatch.setattr("sys.stdout", out)
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(chat._join(arguments, Trust(arguments.address, accept_new=True)))
    assert b'"\\u6f22 \\ud800"' in (tmp_path / "out").read_bytes()


def test_private_words_reach_names_with_spaces() -> None:
    class Said:
        def __init__(self) -> None:
            self.heard: list[tuple[str, str | None]] = []

        async def say(self, text: str, to: str | None = None) -> None:
            self.heard.append((text, to))

        async def said(self) -> None:
            pass

    async def typed() -> Any:
        for line in ('/msg bob a "b" c', '/msg "Ada L" hello there', '/msg "x', "/msg bob", "//x"):
            yield line

    member, noted = Said(), []
    arguments = argparse.Namespace(stay=False)
    asyncio.run(chat._type(member, typed(), arguments, print, noted.append))  # type: ignore[arg-type]
    assert member.heard == [('a "b" c', "bob"), ("hello there", "Ada L"), ("/x", None)]
    assert noted == ["/msg NICK TEXT"] * 2
