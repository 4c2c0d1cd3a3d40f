"""What happens in a chat room, as lines and as records."""

from __future__ import annotations

import time
import unicodedata
from typing import Any

from rawproto.cli.render import Style, json_line

__all__ = ["event_json", "event_line"]


_COMMANDS = ("Cc", "Cs", "Zl", "Zp")
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Other characters that show nothing join and shape the letters of scripts, and stay."""


def _shown(text: object) -> str:
    """Text that cannot command a terminal, nor turn a line's order: further lines are indented, the
    rest is escaped."""
    shown = "".join(
        [
            c.encode("unicode_escape").decode()
            if (unicodedata.category(c) in _COMMANDS and c not in "\n\t") or c in _TURNS
            else c
            for c in str(text)
        ]
    )
    return shown.replace("\n", "\n         ")


def event_line(event: dict[str, Any], nick: str, style: Style) -> str:
    """One event for people; "" for what needs no line."""
    kind, who = event.get("kind"), _shown(event.get("nick", ""))
    try:
        when = time.strftime("%H:%M:%S", time.localtime(int(event.get("time_ns", 0)) // 10**9))
    except (ValueError, TypeError, OverflowError, OSError):
        when = "??:??:??"
    when = style(when, "dim")
    text = _shown(event.get("text", ""))
    if kind == "here":
        names = event.get("names")
        shown = ", ".join(map(_shown, names)) if isinstance(names, list) else ""
        return style(f"--- here: {shown}", "dim") + "\n"
    if kind == "message":
        return f"{when} {style(f'<{who}>', 'green' if who == nick else 'cyan')} {text}\n"
    if kind == "private":
        way = f"<{who} -> {_shown(event.get('to', ''))}>"
        return f"{when} {style(way, 'yellow')} {text}\n"
    if kind in ("join", "leave"):
        words = "is here" if kind == "join" else "has left"
        return f"{when} {style(f'--- {who} {words}', 'dim')}\n"
    return ""


def event_json(event: dict[str, Any]) -> str:
    """The event as a record, with `kind` as its server told it."""
    return json_line("event", event)
