"""`~` at the beginning of a line, however the keys are cut into pieces."""

from __future__ import annotations

import itertools

import pytest

from rawproto.apps.shell.escapes import Command, Escapes, help_text, parse_escape
from rawproto.errors import UsageError

CASES: dict[bytes, list[bytes | Command]] = {
    b"ls\r~.": [b"ls\r", Command.END],
    b"~?": [Command.HELP],
    b"~\x1a~.": [Command.SUSPEND, Command.END],
    b"~~.\r~x": [b"~.\r", b"~x"],
    b"a~.b": [b"a~.b"],
    b"\n~#\r\r~.": [b"\n", Command.FORWARDS, b"\r\r", Command.END],
    b"~\r~.": [b"~\r", Command.END],
    b"one\rtwo\nthree": [b"one\rtwo\nthree"],
}


def merged(parts: list[bytes | Command]) -> list[bytes | Command]:
    """Pieces that follow each other, as one."""
    result: list[bytes | Command] = []
    for is_bytes, group in itertools.groupby(parts, lambda part: isinstance(part, bytes)):
        each = list(group)
        result += (
            [b"".join([part for part in each if isinstance(part, bytes)])] if is_bytes else each
        )
    return result


@pytest.mark.parametrize("typed", CASES)
def test_escape_is_found_whole_and_byte_by_byte(typed: bytes) -> None:
    wanted = merged(CASES[typed])
    for size in (len(typed), 1, 2, 3):
        escapes = Escapes(b"~")
        pieces = [typed[at : at + size] for at in range(0, len(typed), size)]
        found = [part for piece in pieces for part in escapes.feed(piece)]
        assert merged(found) == wanted, size


def test_long_paste_passes_as_it_is() -> None:
    text = b"no escape ~. here\r" * 10_000
    assert b"".join([part for part in Escapes(b"~").feed(text) if isinstance(part, bytes)]) == text
    assert Escapes(b"").feed(b"~.") == [b"~."]


def test_escape_character_is_read() -> None:
    assert (parse_escape("~"), parse_escape("^]"), parse_escape("none")) == (b"~", b"\x1d", b"")
    assert "^]." in help_text(b"\x1d")
    for text in ("", "ab", "ü", "^\x01", "\n"):
        with pytest.raises(UsageError):
            parse_escape(text)
