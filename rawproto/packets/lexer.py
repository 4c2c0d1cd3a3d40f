"""Words of the craft notation: from text to tokens, each with where it stands.

::

    ipv4 dst_addr=10.0.0.0/30 ttl=1..5 / udp dst_port={22,80} / text:"a b"
    WORD WORD    =WORD        WORD=WORD..WORD / ...           / DATA

A word ends at white space or at one of `= / [ ] ( ) { } ,` or `..`. A slash with a digit
behind it is a prefix length and belongs to the word before it: no layer begins with a
digit. Behind `text:` and `file:` slashes are plain; the word goes on to white space, and
in brackets to a comma or the closing bracket too. Quotes take anything, with the escapes of C:
`\\n \\r \\t \\0 \\\\ \\" \\'` and `\\xNN` for a byte.

It knows no layers and judges no values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rawproto.errors import UsageError
from rawproto.wire.words import printable

__all__ = ["DATA_KINDS", "NotationError", "Token", "tokenize"]

MAX_CHARACTERS = 1 << 18
"""How long an expression may be."""

DATA_KINDS = ("text", "hex", "file", "random")

TokenKind = Literal["word", "string", "data", "mark", "end"]


class NotationError(UsageError):
    """An expression that says nothing that could be built.

    Attributes:
        position: where in the expression, in characters from 0 on.
        reason: what is wrong, without the place.
    """

    def __init__(self, reason: str, position: int) -> None:
        reason = printable(reason)  # it quotes the expression, which may come from anywhere
        super().__init__(f"{reason} (at character {position + 1})")
        self.reason = reason
        self.position = position


@dataclass(slots=True, eq=False)
class Token:
    """One token.

    Attributes:
        kind: "word"; "string" for what stood in quotes; "data" for `text:...` and the like;
            "mark" for one of `= / [ ] ( ) { } , ..`; "end" behind the last.
        text: the word, the mark, or the prefix of data without its colon.
        position: of its first character.
        content: what a string or data holds.
    """

    kind: TokenKind
    text: str
    position: int
    content: bytes = b""


_MARK = re.compile(r"\.\.|[=/\[\](){},]")
_WORD = re.compile(r"(?:(?!\.\.)[^\s=/\[\](){},\"'])+(?:/\d+)?")
_DATA = re.compile(rf"({'|'.join(DATA_KINDS)}):")
_RAW_OUTSIDE, _RAW_INSIDE = re.compile(r"[^\s\"']*"), re.compile(r"[^\s\"',\])}]*")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.?)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\", b'"': b'"'}
_ESCAPES |= {b"'": b"'"}


def tokenize(text: str) -> list[Token]:
    """The tokens of an expression, the last of kind "end".

    Raises:
        NotationError: quotes without an end, an unknown escape, too long an expression.
    """
    if len(text) > MAX_CHARACTERS:
        raise NotationError(f"more than {MAX_CHARACTERS} characters", MAX_CHARACTERS)
    tokens: list[Token] = []
    at = depth = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            tokens.append(Token("end", "", at))
            return tokens
        start = at
        if found := _DATA.match(text, at):
            content, at = _content(text, found.end(), found[1], depth)
            tokens.append(Token("data", found[1], start, content))
        elif text[at] in "\"'":
            content, at = _quoted(text, at)
            tokens.append(Token("string", "", start, content))
        elif found := _MARK.match(text, at):
            at = found.end()
            depth += (found[0] in "[({") - (found[0] in "])}")
            tokens.append(Token("mark", found[0], start))
        else:
            found = _WORD.match(text, at)
            assert found is not None, "every other character begins a word"
            at = found.end()
            tokens.append(Token("word", found[0], start))


def _content(text: str, at: int, kind: str, depth: int) -> tuple[bytes, int]:
    """What stands behind `text:` and the like: (content, where it ends)."""
    if text[at : at + 1] in ('"', "'"):
        return _quoted(text, at)
    if kind in ("hex", "random"):
        found = _WORD.match(text, at)
        word = found[0].partition("/")[0] if found else ""
        return _encoded(word, at), at + len(word)
    found = (_RAW_INSIDE if depth > 0 else _RAW_OUTSIDE).match(text, at)
    assert found is not None, "an empty match is one"
    return _encoded(found[0], at), found.end()


def _quoted(text: str, at: int) -> tuple[bytes, int]:
    end = at + 1
    while end < len(text) and text[end] != text[at]:
        end += 2 if text[end] == "\\" else 1
    if end >= len(text):
        raise NotationError("a quote without an end", at)
    inner = _encoded(text[at + 1 : end], at + 1)

    def escaped(found: re.Match[bytes]) -> bytes:
        word = found[1]
        if word.startswith(b"x") and len(word) == 3:
            return bytes.fromhex(word[1:].decode())
        if word not in _ESCAPES:
            shown = word.decode("utf-8", "replace")
            raise NotationError(rf"\{shown} is no escape; \\ is a backslash", at)
        return _ESCAPES[word]

    return _ESCAPE.sub(escaped, inner), end + 1


def _encoded(text: str, at: int) -> bytes:
    # Arguments that are not UTF-8 reach Python as lone surrogates, and mean their bytes.
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise NotationError("a character that UTF-8 cannot carry", at) from None
