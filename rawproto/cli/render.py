"""What the verbs print with: JSON Lines, numbers, drawings and, on a terminal, colour."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal, TextIO

__all__ = ["SCHEMA", "Style", "counted", "json_line", "milliseconds"]

SCHEMA = 1
"""Version of the JSON records; it counts up when a field changes its meaning."""

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

_ASCII = str.maketrans("─│┌┐└┘├┤┬┴┼→←…", "-|+++++++++><.")


def milliseconds(ns: float | None) -> float | None:
    """Nanoseconds as milliseconds with all their digits."""
    return None if ns is None else round(ns / 1e6, 6)


def counted(count: int, noun: str) -> str:
    """`1 packet`, `2 packets`, `0 packets`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def json_line(kind: str, fields: Mapping[str, object]) -> str:
    """One record as a line: `type` and `schema` first."""
    return _encoder()({"type": kind, "schema": SCHEMA, **fields}) + "\n"


@cache
def _encoder() -> Callable[[object], str]:
    """Of JSON, made once: making it costs more than a record."""
    import json

    return json.JSONEncoder(ensure_ascii=False).encode


def draw_in_ascii(stream: TextIO) -> None:
    """Has lines and arrows written as `-`, `|`, `+`, `>` where the stream's encoding has none.

    The rest that it can't encode becomes `?`.
    """
    codecs.register_error("rawproto-ascii", _in_ascii)
    stream.reconfigure(errors="rawproto-ascii")  # type: ignore[attr-defined]


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_ASCII)
    return text.encode("ascii", "replace").decode(), error.end


class Style:
    """Colours for one stream, or none: NO_COLOR, TERM=dumb and --color decide."""

    def __init__(self, stream: TextIO, choice: Literal["auto", "always", "never"]) -> None:
        """
        Args:
            stream: where the text goes.
            choice: `auto` colours on a terminal that can, unless NO_COLOR is set.
        """
        wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.on = choice == "always" or (choice == "auto" and wanted and stream.isatty())

    def __call__(self, text: str, *names: str) -> str:
        """The text in the styles named (bold, dim, red, green, yellow, cyan)."""
        if not self.on or not names:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"
