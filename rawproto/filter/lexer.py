"""Filter expressions cut into words, and the error that points at one of them.

Read pcap-filter(7). What a word means (a keyword, a host, a port, a network) depends
on what stands around it, so that is left to `grammar`; here words are only told from
numbers, from addresses with colons and from operators. A word runs as far as it can:
`6000-6008`, `icmp6-echo` and `192.0.2.1` are one each, and so is `len-1`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rawproto.errors import UsageError

__all__ = ["FilterError", "Span", "Token", "cut"]


class FilterError(UsageError):
    """An expression that is not understood; its text points at the word.

    Attributes:
        expression: the whole of it.
        position: where the word begins, in characters.
        length: of the word, at least 1.
        reason: what is wrong, in words.
    """

    def __init__(self, expression: str, position: int, length: int, reason: str) -> None:
        super().__init__(reason)
        self.expression = expression
        self.position = position
        self.length = max(length, 1)
        self.reason = reason

    def __str__(self) -> str:
        # On a terminal the caret must stand under the word, whatever the word is.
        before = _shown(self.expression[: self.position])
        word = _shown(self.expression[self.position : self.position + self.length])
        after = _shown(self.expression[self.position + self.length :])
        # Of a long expression, what stands around the word.
        if len(before) > _AROUND:
            before = "..." + before[-_AROUND:]
        if len(after) > _AROUND:
            after = after[:_AROUND] + "..."
        word = word[:_AROUND]
        caret = " " * len(before) + "^" + "~" * (len(word) - 1)
        return f"filter: {_shown(self.reason)}\n  {before}{word}{after}\n  {caret}"


_AROUND = 60


def _shown(text: str) -> str:
    """Text for a terminal: what steers one is written as an escape."""
    return "".join(
        each
        if each.isprintable()
        else " "
        if each in "\t\r\n"
        else each.encode("unicode_escape").decode()
        for each in text
    )


class Span(NamedTuple):
    """Where something stands in an expression: from `begin` to before `end`, in characters."""

    begin: int
    end: int

    def to(self, other: Span) -> Span:
        """From the begin of this to the end of the other."""
        return Span(self.begin, other.end)


class Token(NamedTuple):
    """One piece of an expression.

    Attributes:
        kind: `word`, `number`, `address` (with colons: IPv6 or MAC), `escaped` (`\\tcp`, without
            the backslash), `sign` (operators and brackets), or `end`.
        text: as written; `and`, `or` and `not` for `&&`, `||` and `!`, `=` for `==`.
        span: where.
    """

    kind: str
    text: str
    span: Span


_TOKEN = re.compile(
    r"""(?P<blank> [ \t\r\n]+ )
      | \\ (?P<escaped> [^\s!()]+ )
      | (?P<address> [0-9A-Fa-f]{1,2} (?: :[0-9A-Fa-f]{1,2} ){5} (?![0-9A-Za-z:.])
          | (?= [0-9A-Fa-f:.]* :: | (?: [0-9A-Fa-f]{1,4} : ){6} )
            [0-9A-Fa-f]* : [0-9A-Fa-f:.]* )
      | (?P<word> [A-Za-z0-9] (?: [-_.A-Za-z0-9]* [.A-Za-z0-9] )? )
      | (?P<sign> && | \|\| | << | >> | <= | >= | == | != | [][()!|&^+*/%<>=:-] )""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+")
_SAME = {"&&": "and", "||": "or", "!": "not", "==": "="}


def cut(expression: str) -> list[Token]:
    """The expression's tokens, an `end` behind them.

    Raises:
        FilterError: a character that begins nothing.
    """
    tokens: list[Token] = []
    at = 0
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        if found is None:
            raise FilterError(expression, at, 1, f"{expression[at]!r} means nothing here")
        kind = found.lastgroup or ""
        if kind != "blank":
            text = found[kind]
            if kind == "word" and _NUMBER.fullmatch(text):
                kind = "number"
            tokens.append(Token(kind, _SAME.get(text, text), Span(at, found.end())))
        at = found.end()
    tokens.append(Token("end", "", Span(at, at)))
    return tokens
