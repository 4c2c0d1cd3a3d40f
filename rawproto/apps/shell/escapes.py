"""What a user types to the client itself: `~` at the beginning of a line, as in ssh(1), ESCAPES.

    ~.   end the connection      ~?   this list
    ~^Z  suspend                 ~~   the character itself
    ~#   what is forwarded

Pure: bytes in, pieces and commands out.
"""

from __future__ import annotations

from enum import Enum

from rawproto.errors import UsageError

__all__ = ["Command", "Escapes", "help_text", "parse_escape"]


class Command(Enum):
    """What the client is to do."""

    END = b"."
    SUSPEND = b"\x1a"
    FORWARDS = b"#"
    HELP = b"?"


_COMMANDS = {each.value: each for each in Command}
_LINE_ENDS = b"\r\n"


def parse_escape(text: str) -> bytes:
    """The character of an option: one, `^X` for a control character, `none` for none.

    Raises:
        UsageError: it is none of these.
    """
    if text == "none":
        return b""
    if len(text) == 2 and text[0] == "^" and 64 <= ord(text[1].upper()) < 128:
        return bytes([ord(text[1].upper()) & 31])
    if len(text) == 1 and text.isascii() and text not in "\r\n":
        return text.encode()
    raise UsageError(f"-e {text}: one character, ^X, or none")


def help_text(escape: bytes) -> str:
    """For `~?`."""
    sign = escape.decode() if escape >= b" " else f"^{chr(escape[0] | 64)}"
    lines = {
        ".": "end the connection, and what runs over it",
        "^Z": "suspend rawproto",
        "#": "list what is forwarded",
        "?": "this list",
        sign: "send the character itself",
    }
    told = "".join([f" {sign}{key:<3} {words}\r\n" for key, words in lines.items()])
    return f"{sign}?\r\nescapes, each at the beginning of a line:\r\n{told}"


class Escapes:
    """Takes escapes out of what is typed.

    Args:
        escape: the character, b"" for none.
    """

    def __init__(self, escape: bytes) -> None:
        self._escape = escape
        self._at_start = True
        self._pending = False

    def feed(self, data: bytes) -> list[bytes | Command]:
        """What to send and what to do, in order.

        Args:
            data: as typed, cut anywhere.
        """
        if not self._escape:
            return [data]
        found: list[bytes | Command] = []
        begin = at = 0
        while at < len(data):
            key = data[at : at + 1]
            if self._pending:
                self._pending = False
                command = _COMMANDS.get(key)
                if command is not None:
                    found.append(command)
                    self._at_start = True
                    begin = at + 1
                elif key != self._escape:
                    found.append(self._escape)  # it was none: both are sent
                    begin = at
                    self._at_start = key in _LINE_ENDS
                else:
                    begin = at
                    self._at_start = False
            elif self._at_start and key == self._escape:
                if begin < at:
                    found.append(data[begin:at])
                self._pending = True
                begin = at + 1
            else:
                # Only the last byte of a run can begin a line or an escape: look for that.
                self._at_start = key in _LINE_ENDS
                if not self._at_start:
                    ends = [end for end in (data.find(b"\r", at), data.find(b"\n", at)) if end > 0]
                    at = min(ends, default=len(data)) - 1
            at += 1
        if begin < len(data):
            found.append(data[begin:])
        return found
