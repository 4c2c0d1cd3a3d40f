"""What `grammar` makes of an expression: a tree of plain values.

::

    tcp port 80 or (ip[8] < 5 and not vlan 7)

    Chain  Match tcp/None/port "80"
           or  Chain  Relation  Accessor ip Number 8 1  <  Number 5
                      and  Not  Tag vlan 7

Every value says where in the expression it stands (`at`), so that whoever finds fault
with it can point there. Nothing here knows packets: `primitives` does.
"""

from __future__ import annotations

from typing import NamedTuple

from rawproto.filter.lexer import Span

__all__ = [
    "Accessor",
    "Arithmetic",
    "Binary",
    "Cast",
    "Chain",
    "Expression",
    "Index",
    "Length",
    "Match",
    "Negative",
    "Not",
    "Number",
    "Protocol",
    "Relation",
    "Sent",
    "Tag",
]


class Number(NamedTuple):
    """A constant, 0 to 0xFFFFFFFF, written as a number or a name (`tcp-syn`)."""

    at: Span
    value: int


class Length(NamedTuple):
    """`len`: how long the packet is, in bytes."""

    at: Span


class Accessor(NamedTuple):
    """`proto[offset:size]`: `size` bytes (1, 2, 4) of a protocol's header."""

    at: Span
    protocol: str
    offset: Arithmetic
    size: int


class Negative(NamedTuple):
    """`- operand`."""

    at: Span
    operand: Arithmetic


class Binary(NamedTuple):
    """`left operator right`, the operator one of + - * / % & | ^ << >>."""

    at: Span
    operator: str
    left: Arithmetic
    right: Arithmetic


Arithmetic = Number | Length | Accessor | Negative | Binary
"""All unsigned, 32 bits wide."""


class Match(NamedTuple):
    """`[protocol] [direction] [kind] name`: an address, a net, a port, a protocol number.

    Attributes:
        at: the primitive, without qualifiers that it took over from the one before.
        protocol: a keyword (`ip`, `ether`, `tcp`), None for all that make sense.
        direction: `src`, `dst`, `or` (either, also where none is given) or `and` (both).
        kind: `host` (also where none is given), `net`, `port`, `portrange` or `proto`.
        name: as written.
        name_at: where the name stands.
        mask: what stands behind `/` or `mask`, None where nothing does.
        escaped: whether the name was written with a backslash.
    """

    at: Span
    protocol: str | None
    direction: str
    kind: str
    name: str
    name_at: Span
    mask: str | None = None
    escaped: bool = False


class Protocol(NamedTuple):
    """`tcp`, `arp`, `ip6`: a protocol by its keyword."""

    at: Span
    name: str


class Cast(NamedTuple):
    """`[protocol] broadcast` or `multicast`; the protocol is `ether`, `ip` or `ip6`."""

    at: Span
    protocol: str
    kind: str


class Tag(NamedTuple):
    """`vlan`, `mpls` or `pppoes`, with a number or None; what follows looks behind it."""

    at: Span
    kind: str
    number: int | None


class Sent(NamedTuple):
    """`outbound`, or `inbound`: whether this host sent the packet."""

    at: Span
    outbound: bool


class Index(NamedTuple):
    """`ifindex N`: the interface that the packet came in or went out by."""

    at: Span
    value: int


class Relation(NamedTuple):
    """Two numbers compared, unsigned, by one of < <= > >= = !=."""

    at: Span
    operator: str
    left: Arithmetic
    right: Arithmetic


class Not(NamedTuple):
    """True where the operand is not."""

    at: Span
    operand: Expression


class Chain(NamedTuple):
    """Operands joined from left to right; `and` and `or` bind alike.

    Attributes:
        at: all of them.
        first: the leftmost.
        rest: each with what joins it to all before it, `and` or `or`.
    """

    at: Span
    first: Expression
    rest: tuple[tuple[str, Expression], ...]


Expression = Match | Protocol | Cast | Tag | Sent | Index | Relation | Not | Chain
