"""Comparisons of numbers: `tcp[13] & 2 != 0`, `len > 100`.

Bytes of a protocol mean something only where the packet has it, so every `proto[x:y]`
brings a check along, and the comparison holds only where all checks do. As in libpcap,
`tcp[x]` and its like look at IPv4 only, and never into a later fragment; `icmp6[x]` looks
right behind the IPv6 header.
"""

from __future__ import annotations

from rawproto.filter import syntax
from rawproto.filter.instructions import LINK_OFFSET
from rawproto.filter.lexer import FilterError, Span
from rawproto.filter.links import IPV4, IPV6
from rawproto.filter.names import ETHERTYPES
from rawproto.filter.predicate import (
    LENGTH,
    HeaderLength,
    Load,
    Predicate,
    Value,
    compared,
    computed,
    equal,
    every,
)
from rawproto.filter.protocols import IPV6_LENGTH, Protocols

__all__ = ["Relations"]

_ICMP6 = 58
_BEHIND_IPV4 = frozenset(("tcp", "udp", "sctp", "icmp", "igmp", "pim", "vrrp", "carp"))
_OPERATIONS = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "/": "div",
    "%": "mod",
    "&": "and",
    "|": "or",
    "^": "xor",
    "<<": "lsh",
    ">>": "rsh",
}


class Relations:
    """Turns the comparisons of one expression into predicates."""

    def __init__(self, expression: str, protocols: Protocols) -> None:
        self.expression = expression
        self.protocols = protocols

    def error(self, reason: str, at: Span) -> FilterError:
        return FilterError(self.expression, at.begin, at.end - at.begin, reason)

    def relation(self, relation: syntax.Relation) -> Predicate:
        """Two numbers compared, in packets that have the protocols whose bytes are taken."""
        checks: list[Predicate] = []
        left = self.value(relation.left, checks)
        right = self.value(relation.right, checks)
        compare = compared(left, relation.operator, right)
        return every(*checks, compare) if checks else compare

    def value(self, tree: syntax.Arithmetic, checks: list[Predicate]) -> Value:
        """A value; what has to hold before it means something is added to `checks`."""
        if isinstance(tree, syntax.Number):
            return tree.value
        if isinstance(tree, syntax.Length):
            return LENGTH
        if isinstance(tree, syntax.Accessor):
            return self.access(tree, checks)
        if isinstance(tree, syntax.Negative):
            return computed("neg", self.value(tree.operand, checks), 0)
        left, right = self.value(tree.left, checks), self.value(tree.right, checks)
        if right == 0 and tree.operator in "/%":
            raise self.error("divided by zero", tree.at)
        if tree.operator in ("<<", ">>") and isinstance(right, int) and right > 31:
            raise self.error("shifted by more than 31 bits", tree.at)
        return computed(_OPERATIONS[tree.operator], left, right)

    def access(self, tree: syntax.Accessor, checks: list[Predicate]) -> Load:
        """`proto[x:y]`: bytes of a header, and that the packet has such a header."""
        protocols, headers = self.protocols, self.protocols.headers
        name, network = tree.protocol, headers.network
        first: list[Predicate] = []
        index = self.value(tree.offset, first)
        if name in ("ether", "link"):
            checks += first
            return self.bytes_at(tree, headers.link, index)
        if name in ETHERTYPES:
            checks += [*first, headers.carries(ETHERTYPES[name])]
            return self.bytes_at(tree, network, index)
        if name == "icmp6":
            checks += [
                *first,
                headers.carries(IPV6),
                equal(protocols.load(1, 6), _ICMP6),
            ]
            return self.bytes_at(tree, network + IPV6_LENGTH, index)
        if name not in _BEHIND_IPV4:
            raise self.error(f"where the bytes of {name} are is not known", tree.at)
        checks += [headers.carries(IPV4), *first, protocols.protocol(name)]
        checks.append(protocols.no_later_fragment())
        header = HeaderLength(network)
        if isinstance(index, int):
            return self.bytes_at(tree, network + index, header)
        return self.bytes_at(tree, network, computed("add", index, header))

    def bytes_at(self, tree: syntax.Accessor, base: int, index: Value) -> Load:
        if not isinstance(index, int):
            return Load(tree.size, base & 0xFFFF_FFFF, index)
        offset = base + index & 0xFFFF_FFFF
        if offset >= LINK_OFFSET:
            # From here on a load does not read the packet, but what the kernel knows of it.
            raise self.error("no packet has bytes there", tree.offset.at)
        return Load(tree.size, offset)
