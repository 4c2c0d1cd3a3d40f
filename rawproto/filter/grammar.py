"""The grammar of filter expressions, by recursive descent: words to a tree of values.

Read pcap-filter(7). In short::

    expression  term { ("and" | "or") term }              both bind alike, leftwards
    term        "not" term | "(" expression ")" | primitive
    primitive   [protocol] [direction] [kind] id          tcp dst port 80
              | protocol                                  arp
              | id                                        with the qualifiers of the one before
              | [protocol] ("broadcast" | "multicast")
              | ("vlan" | "mpls" | "pppoes") [number]
              | ("less" | "greater" | "ifindex") number | "inbound" | "outbound"
              | arithmetic ("<" | "<=" | ">" | ">=" | "=" | "!=") arithmetic
    id          name | number | address | net "/" bits | net "mask" mask
              | "not" id | "(" id { ("and" | "or") id } ")"
    direction   "src" | "dst" | "src or dst" | "src and dst"
    kind        "host" | "net" | "port" | "portrange" | "proto"
    arithmetic  number | "len" | protocol "[" arithmetic [":" size] "]" | "-" arithmetic
              | "(" arithmetic ")" | arithmetic operator arithmetic

Operators bind as in C: `* / %`, `+ -`, `<< >>`, `&`, `^`, `|`, the first the tightest.

An id without qualifiers takes those of the primitive before it, whatever brackets stand
between: `port 80 or 443`, `host a and (b or c)`. The grammar knows no packets and looks
up no names; whether a port can be of `arp` is asked in `primitives`.
"""

from __future__ import annotations

from typing import NamedTuple

from rawproto.filter.lexer import FilterError, Span, Token, cut
from rawproto.filter.names import CONSTANTS, ETHERTYPES, LLC_SAPS
from rawproto.filter.syntax import (
    Accessor,
    Arithmetic,
    Binary,
    Cast,
    Chain,
    Expression,
    Index,
    Length,
    Match,
    Negative,
    Not,
    Number,
    Protocol,
    Relation,
    Sent,
    Tag,
)

__all__ = ["parse"]

_LINK = frozenset(("ether", "link"))
_IP_PROTOCOLS = ("tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "ah", "esp", "pim", "vrrp", "carp")
_PROTOCOLS = frozenset((*_LINK, *ETHERTYPES, *LLC_SAPS, *_IP_PROTOCOLS)) - {"loopback"}
_KINDS = frozenset(("host", "net", "port", "portrange"))
_CASTS = frozenset(("broadcast", "multicast"))
_TAGS = frozenset(("vlan", "mpls", "pppoes"))
_OTHERS = ("src", "dst", "proto", "mask", "and", "or", "not", "len", "less", "greater")
_METADATA = ("inbound", "outbound", "ifindex")
_REFUSED = {
    word: reason
    for words, reason in (
        ("gateway", "gateway is not known here: write `ether host MAC and not host ADDRESS`"),
        ("protochain", "protochain needs loops, which the kernel's filters have not"),
        (
            "fddi tr wlan ra ta addr1 addr2 addr3 addr4 type subtype dir radio",
            "of link layers, only Ethernet is known here: write ether",
        ),
        (
            "aarp atalk ipx llc clnp esis isis igrp slip ppp geneve",
            "this protocol is not known here",
        ),
        (
            "ifname on rnr rulenum srnr subrulenum reason rset ruleset action",
            "the logs of pf are not known here",
        ),
    )
    for word in words.split()
}
_KEYWORDS = frozenset(
    (*_PROTOCOLS, *_KINDS, *_CASTS, *_TAGS, *_OTHERS, *_METADATA, *_REFUSED, *CONSTANTS)
)

_COMPARISONS = frozenset(("<", "<=", ">", ">=", "=", "!="))
_BINDING = {
    "|": 1,
    "^": 2,
    "&": 3,
    "<<": 4,
    ">>": 4,
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
    "%": 6,
}

MAX_DEPTH = 50
"""How deep brackets, `not` and minus signs may nest."""
MAX_OPERATORS = 100
"""How many operators one comparison may have."""


class _Qualifiers(NamedTuple):
    """What an id is looked for as, and what the next id without any takes over."""

    protocol: str | None
    direction: str
    kind: str


def parse(expression: str) -> Expression | None:
    """The tree of an expression, None of an empty one.

    Raises:
        FilterError: it is none; the word at fault is pointed at.
    """
    return _Parser(expression).whole()


def value_of(expression: str, text: str, at: Span) -> int:
    """A number in C's notation, of 32 bits. Raises FilterError."""
    octal = len(text) > 1 and text[0] == "0" and text[1] not in "xX"
    try:
        # More digits than these cannot fit; int() itself gives up at thousands.
        value = int(text, 8 if octal else 0) if len(text) < 50 else 1 << 32
    except ValueError:
        raise FilterError(expression, at.begin, len(text), f"no octal number: {text}") from None
    if value >> 32:
        raise FilterError(expression, at.begin, len(text), "does not fit 32 bits")
    return value


class _Parser:
    """One expression, read from front to end."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = cut(expression)
        self.at = 0
        self.depth = 0
        self.operators = 0
        self.qualifiers: _Qualifiers | None = None
        self.closings = self._closings()

    # --- words ---

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    @property
    def next(self) -> Token:
        return self.tokens[min(self.at + 1, len(self.tokens) - 1)]

    @property
    def keyword(self) -> str:
        """The word here if it means something to the language, else ""."""
        token = self.token
        if token.kind == "sign":
            return token.text if token.text in ("and", "or", "not") else ""
        return token.text if token.kind == "word" and token.text in _KEYWORDS else ""

    def sign(self, text: str) -> bool:
        """Whether this sign is here; it is passed."""
        found = self.token.kind == "sign" and self.token.text == text
        self.at += found
        return found

    def advance(self) -> Token:
        token = self.token
        if token.kind != "end":
            self.at += 1
        return token

    def error(self, reason: str, at: Span | None = None) -> FilterError:
        span = at or self.token.span
        return FilterError(self.expression, span.begin, span.end - span.begin, reason)

    def since(self, first: Span) -> Span:
        """From a place to the end of the token before this one."""
        return Span(first.begin, self.tokens[self.at - 1].span.end)

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} deep")

    def _closings(self) -> dict[int, int]:
        """Where the bracket is that closes one, by the places of both."""
        pairs: dict[int, int] = {}
        opened: list[int] = []
        for place, token in enumerate(self.tokens):
            if token.kind == "sign" and token.text == "(":
                opened.append(place)
            elif token.kind == "sign" and token.text == ")":
                if not opened:
                    raise self.error("no bracket was opened", token.span)
                pairs[opened.pop()] = place
        if opened:
            raise self.error("this bracket is not closed", self.tokens[opened[-1]].span)
        return pairs

    # --- expressions ---

    def whole(self) -> Expression | None:
        if self.token.kind == "end":
            return None
        found = self.chain()
        if self.token.kind != "end":
            raise self.error("`and` or `or` is missing before this")
        return found

    def chain(self) -> Expression:
        begin = self.token.span
        first = self.term()
        rest = []
        while (word := self.keyword) in ("and", "or"):
            self.advance()
            rest.append((word, self.term()))
        return Chain(self.since(begin), first, tuple(rest)) if rest else first

    def term(self) -> Expression:
        begin = self.token.span
        if self.keyword == "not":
            self.deeper()
            self.advance()
            operand = self.term()
            self.depth -= 1
            return Not(self.since(begin), operand)
        if self.token.text == "(" and self.token.kind == "sign":
            if self._computes(self.closings[self.at] + 1):
                return self.relation()
            self.deeper()
            self.advance()
            inside = self.chain()
            if not self.sign(")"):
                raise self.error("`and` or `or` is missing before this")
            self.depth -= 1
            return inside
        return self.primitive()

    def _computes(self, place: int) -> bool:
        """Whether an operator or a comparison is there: what stands before it is a number."""
        token = self.tokens[place]
        return token.kind == "sign" and (token.text in _BINDING or token.text in _COMPARISONS)

    # --- primitives ---

    def primitive(self) -> Expression:
        token, word = self.token, self.keyword
        bracket = self.next.kind == "sign" and self.next.text == "["
        if token.kind == "end":
            raise self.error("something to look for is missing here")
        if token.kind == "sign" and token.text == "-":
            return self.relation()
        if word == "len" or word in CONSTANTS or (word in _PROTOCOLS and bracket):
            return self.relation()
        if token.kind == "number" and self._computes(self.at + 1):
            return self.relation()
        if word in _REFUSED:
            raise self.error(_REFUSED[word])
        if word in ("less", "greater"):
            return self.length()
        if word in _TAGS or word in _METADATA:
            return self.special()
        if (
            word in _PROTOCOLS
            or word in _KINDS
            or word in _CASTS
            or word in ("src", "dst", "proto")
        ):
            return self.qualified()
        if word or token.kind == "sign":
            raise self.error(f"{token.text} cannot stand here")
        return self.bare()

    def bare(self) -> Expression:
        """An id with the qualifiers of the primitive before."""
        alone = self.next.kind in ("end", "sign") or self.next.text in ("and", "or", "mask")
        if self.qualifiers is not None and alone:
            return self.one_of(self.qualifiers, self.token.span)
        text = self.token.text
        if self.token.kind == "word":
            from difflib import get_close_matches

            near = get_close_matches(text.lower(), sorted(_KEYWORDS), n=1, cutoff=0.75)
            if near:
                raise self.error(f"no such word: did you mean {near[0]}?")
        raise self.error(f"what is it? host, net and port say so: `host {text}`")

    def qualified(self) -> Expression:
        """What begins with a protocol, a direction or a kind."""
        begin = self.token.span
        protocol = self.advance().text if self.keyword in _PROTOCOLS else None
        if protocol == "link":
            protocol = "ether"
        word = self.keyword
        if word in _REFUSED:
            raise self.error(_REFUSED[word])
        if word in _CASTS:
            kind = self.advance().text
            self.qualifiers = None
            if protocol not in (None, "ether", "ip", "ip6"):
                raise self.error(f"{kind} is known of ether, ip and ip6", begin)
            return Cast(self.since(begin), protocol or "ether", kind)
        direction = self.direction() if word in ("src", "dst") else ""
        kind = self.keyword
        if kind in _REFUSED:
            raise self.error(_REFUSED[kind])
        if kind in _KINDS or (kind == "proto" and not direction):
            self.advance()
        elif direction:
            kind = "host"
        elif protocol is not None:
            return self.protocol(protocol, begin)
        self.qualifiers = _Qualifiers(protocol, direction or "or", kind)
        return self.one_of(self.qualifiers, begin)

    def protocol(self, name: str, at: Span) -> Protocol:
        if (
            self.token.kind != "end"
            and self.keyword not in ("and", "or")
            and self.token.text != ")"
        ):
            raise self.error(
                f"after {name} comes src, dst, host, net, port, proto, [, `and` or `or`"
            )
        if name == "ether":
            raise self.error("ether alone says nothing: ether host, ether proto, ether[0]", at)
        self.qualifiers = _Qualifiers(name, "or", "host")
        return Protocol(at, name)

    def direction(self) -> str:
        first = self.advance().text
        joint, other = self.keyword, self.next.text
        if joint in ("and", "or") and {first, other} == {"src", "dst"}:
            self.at += 2
            return joint
        return first

    def one_of(self, qualifiers: _Qualifiers, begin: Span) -> Expression:
        """An id, or several in brackets."""
        if self.keyword == "not":
            self.deeper()
            self.advance()
            operand = self.one_of(qualifiers, self.token.span)
            self.depth -= 1
            return Not(self.since(begin), operand)
        if not self.sign("("):
            return self.match(qualifiers, begin)
        self.deeper()
        inside = self.token.span
        first = self.one_of(qualifiers, inside)
        rest = []
        while (word := self.keyword) in ("and", "or"):
            self.advance()
            rest.append((word, self.one_of(qualifiers, self.token.span)))
        at = self.since(inside)
        if not self.sign(")"):
            raise self.error("`and` or `or` is missing before this")
        self.depth -= 1
        return Chain(at, first, tuple(rest)) if rest else first

    def match(self, qualifiers: _Qualifiers, begin: Span) -> Match:
        token = self.token
        if self.keyword:
            raise self.error(
                f"{token.text} is a word of the language: as a name, write \\{token.text}"
            )
        if token.kind in ("sign", "end"):
            raise self.error(f"after {qualifiers.kind} comes a name or a number")
        self.advance()
        mask = self.mask()
        escaped = token.kind == "escaped"
        return Match(self.since(begin), *qualifiers, token.text, token.span, mask, escaped)

    def mask(self) -> str | None:
        """What stands behind the address of a net, if anything."""
        if self.sign("/"):
            return self.number("how many bits of the net count").text
        if self.keyword != "mask":
            return None
        self.advance()
        return self.advance().text

    def number(self, what: str) -> Token:
        if self.token.kind != "number":
            raise self.error(f"here comes {what}, as a number")
        return self.advance()

    def length(self) -> Relation:
        """`less N` and `greater N`: both mean "or equal"."""
        word = self.advance()
        token = self.number("a length in bytes")
        self.qualifiers = None
        limit = Number(token.span, value_of(self.expression, token.text, token.span))
        operator = "<=" if word.text == "less" else ">="
        return Relation(self.since(word.span), operator, Length(word.span), limit)

    def special(self) -> Tag | Sent | Index:
        word = self.advance()
        self.qualifiers = None
        if word.text in ("inbound", "outbound"):
            return Sent(word.span, word.text == "outbound")
        number = None
        brackets = 0
        while self.token.kind == "sign" and self.token.text == "(":
            self.at += 1
            brackets += 1
        if self.token.kind == "number" or brackets or word.text == "ifindex":
            token = self.number(f"the number of the {word.text}")
            number = value_of(self.expression, token.text, token.span)
        for _ in range(brackets):
            if not self.sign(")"):
                raise self.error("a bracket is to be closed before this")
        at = self.since(word.span)
        return Tag(at, word.text, number) if word.text in _TAGS else Index(at, number or 0)

    # --- arithmetic ---

    def relation(self) -> Relation:
        begin = self.token.span
        self.qualifiers = None
        self.operators = 0
        left = self.sum()
        if self.token.kind != "sign" or self.token.text not in _COMPARISONS:
            raise self.error("a comparison is missing here: <, <=, >, >=, = or !=")
        operator = self.advance().text
        right = self.sum()
        return Relation(self.since(begin), operator, left, right)

    def sum(self, binding: int = 1) -> Arithmetic:
        """Operands joined by operators that bind at least so tightly."""
        begin = self.token.span
        left = self.operand()
        while self.token.kind == "sign" and _BINDING.get(self.token.text, 0) >= binding:
            self.operators += 1
            if self.operators > MAX_OPERATORS:
                raise self.error(f"more than {MAX_OPERATORS} operators in one comparison")
            operator = self.advance().text
            right = self.sum(_BINDING[operator] + 1)
            left = Binary(self.since(begin), operator, left, right)
        return left

    def operand(self) -> Arithmetic:
        token, word = self.token, self.keyword
        if token.kind == "number":
            self.advance()
            return Number(token.span, value_of(self.expression, token.text, token.span))
        if word in CONSTANTS:
            self.advance()
            return Number(token.span, CONSTANTS[word])
        if word == "len":
            self.advance()
            return Length(token.span)
        if word in _PROTOCOLS:
            return self.accessor()
        self.deeper()
        if self.sign("-"):
            operand: Arithmetic = Negative(token.span, self.operand())
        elif self.sign("("):
            operand = self.sum()
            if not self.sign(")"):
                raise self.error("an operator or a closing bracket is missing before this")
        else:
            raise self.error("a number, len or proto[x:y] is missing here")
        self.depth -= 1
        return operand

    def accessor(self) -> Accessor:
        protocol = self.advance()
        if not self.sign("["):
            raise self.error(f"which bytes of it? `{protocol.text}[x:y]` says so", protocol.span)
        self.deeper()
        index = self.sum()
        size = 1
        if self.sign(":"):
            token = self.number("a size: 1, 2 or 4 bytes")
            size = value_of(self.expression, token.text, token.span)
            if size not in (1, 2, 4):
                raise self.error("1, 2 or 4 bytes can be taken at once", token.span)
        if not self.sign("]"):
            raise self.error("`]` is missing before this")
        self.depth -= 1
        return Accessor(self.since(protocol.span), protocol.text, index, size)
