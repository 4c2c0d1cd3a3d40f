"""What a filter asks of a packet, free of syntax and of registers: values, tests, predicates.

`primitives` says what an expression means in these terms, `graph` makes decisions of
them, `emit` instructions. Values are plain and equal where they mean the same, which is
what sharing loads and leaving out tests live on.

A load that is not in the packet ends the whole program and drops the packet, as the
machine has it; so the order in which a predicate is evaluated is part of its meaning.
"""

from __future__ import annotations

from typing import NamedTuple

from rawproto.filter.interpreter import compute

__all__ = [
    "LENGTH",
    "Chain",
    "Compute",
    "HeaderLength",
    "Load",
    "Not",
    "Predicate",
    "Test",
    "Value",
    "calculate",
    "compared",
    "computed",
    "either",
    "equal",
    "every",
    "masked",
]

_MASK = 0xFFFF_FFFF


class HeaderLength(NamedTuple):
    """The length of the IPv4 header at `offset`, in bytes: 4 * (packet[offset] & 0xf)."""

    offset: int


class Load(NamedTuple):
    """`size` bytes (1, 2, 4) of the packet, at `offset`, counted from what `behind` gives."""

    size: int
    offset: int
    behind: Value | None = None


class Compute(NamedTuple):
    """Two values computed to one, modulo 2**32.

    Attributes:
        operation: the mnemonic of an instruction: add, sub, mul, div, mod, and, or, xor, lsh,
            rsh; or neg, of which `right` is 0.
    """

    operation: str
    left: Value
    right: Value


Value = int | HeaderLength | Load | Compute
"""A number of 32 bits; an int is a constant."""

LENGTH = Load(0, 0)
"""How long the packet is: what loads no bytes."""


class Test(NamedTuple):
    """One comparison, as conditional jumps make them.

    Attributes:
        jump: jeq, jgt, jge (unsigned), or jset: they have a bit in common.
    """

    jump: str
    left: Value
    right: Value


class Not(NamedTuple):
    """True where the predicate is false."""

    predicate: Predicate


class Chain(NamedTuple):
    """Predicates evaluated from left to right, and no further than it takes.

    Attributes:
        first: the leftmost.
        rest: each with how it is joined to all before it: True for `and`, False for `or`.
    """

    first: Predicate
    rest: tuple[tuple[bool, Predicate], ...]


Predicate = bool | Test | Not | Chain


def every(*predicates: Predicate) -> Predicate:
    """All of them are true, asked in this order."""
    return Chain(predicates[0], tuple((True, each) for each in predicates[1:]))


def either(*predicates: Predicate) -> Predicate:
    """One of them is true, asked in this order."""
    return Chain(predicates[0], tuple((False, each) for each in predicates[1:]))


_OPERATIONS = ("add", "sub", "mul", "div", "or", "and", "lsh", "rsh", "neg", "mod", "xor")
_OPERATION = {name: number << 4 for number, name in enumerate(_OPERATIONS)}


def calculate(operation: str, left: int, right: int) -> int | None:
    """What the machine makes of two constants; None divides by zero."""
    result = compute(_OPERATION[operation], left, right)
    return None if result is None else result & _MASK


def computed(operation: str, left: Value, right: Value) -> Value:
    """Two values computed; constants at once."""
    if isinstance(left, int) and isinstance(right, int):
        result = calculate(operation, left, right)
        if result is not None:
            return result
    if right == 0 and operation in ("and", "mul"):
        return 0
    if right == 0 and operation in ("add", "sub", "or", "xor", "lsh", "rsh"):
        return left
    if operation == "lsh" and right == 2:
        match left:
            case Compute("and", Load(1, offset, None), 0xF):
                return HeaderLength(offset)  # (ip[0] & 0xf) << 2: an instruction of its own
    return Compute(operation, left, right)


_REVERSED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def compared(left: Value, operator: str, right: Value) -> Predicate:
    """Two values by one of < <= > >= = !=, unsigned."""
    if isinstance(left, int) and not isinstance(right, int):
        left, operator, right = right, _REVERSED.get(operator, operator), left
    if operator in ("!=", "<", "<="):
        opposite = {"!=": "=", "<": ">=", "<=": ">"}[operator]
        return Not(compared(left, opposite, right))
    if isinstance(left, int) and isinstance(right, int):
        return left == right if operator == "=" else holds(_JUMPS[operator], left, right)
    if operator == "=" and isinstance(left, Compute) and isinstance(right, int):
        return _equal_computed(left, right)
    return Test(_JUMPS[operator], left, right)


_JUMPS = {"=": "jeq", ">": "jgt", ">=": "jge"}


def holds(jump: str, left: int, right: int) -> bool:
    """What a test of two constants says."""
    if jump == "jeq":
        return left == right
    if jump == "jset":
        return left & right != 0
    return left > right if jump == "jgt" else left >= right


def _equal_computed(left: Compute, right: int) -> Predicate:
    if left.operation == "and" and isinstance(left.right, int):
        mask = left.right
        if right == 0:
            return Not(Test("jset", left.left, mask))
        if right == mask and mask & (mask - 1) == 0:
            return Test("jset", left.left, mask)
    if left.operation == "sub" and right == 0:
        return compared(left.left, "=", left.right)
    if left.operation in ("add", "sub") and isinstance(left.right, int):
        moved = -left.right if left.operation == "add" else left.right
        return compared(left.left, "=", right + moved & _MASK)
    return Test("jeq", left, right)


def equal(load: Load, value: int) -> Predicate:
    """Bytes of the packet are this number."""
    return Test("jeq", load, value)


def masked(load: Load, mask: int, value: int) -> Predicate:
    """Those bits of the packet that are in the mask are this number's."""
    if mask == 0:
        return value == 0
    if mask == (1 << 8 * load.size) - 1:
        return equal(load, value)
    return compared(Compute("and", load, mask), "=", value)
