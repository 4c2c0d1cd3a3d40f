"""One expression, many packets: values that vary, and their combinations, made lazily.

A node makes a value for each packet. Most are constant; a swept one takes the value that
was chosen for its sweep, a random one draws. A node that is built of others varies if one
of them does, and is made once if none does: of 65,536 packets that differ in the
destination port only the UDP header is built 65,536 times.

Combinations count like an odometer, the last sweep fastest. It knows no notation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

__all__ = ["Built", "Chosen", "Constant", "Drawn", "Node", "Tuple", "built", "choices", "tuple_of"]


class Node:
    """Makes a value for each packet.

    Attributes:
        varies: whether `make` may give another value for another packet.
    """

    __slots__ = ()

    varies = True

    def make(self, chosen: Sequence[Any], rng: random.Random) -> Any:
        """The value, where `chosen` holds that of each sweep."""
        raise NotImplementedError


class Constant(Node):
    """The same value always."""

    __slots__ = ("value",)

    varies = False

    def __init__(self, value: Any) -> None:
        self.value = value

    def make(self, chosen: Sequence[Any], rng: random.Random) -> Any:
        return self.value


class Chosen(Node):
    """The value chosen for sweep `number`."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def make(self, chosen: Sequence[Any], rng: random.Random) -> Any:
        return chosen[self.number]


class Drawn(Node):
    """A value that chance decides, for each packet anew."""

    __slots__ = ("draw",)

    def __init__(self, draw: Callable[[random.Random], Any]) -> None:
        self.draw = draw

    def make(self, chosen: Sequence[Any], rng: random.Random) -> Any:
        return self.draw(rng)


class Tuple(Node):
    """Values of other nodes, in order."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[Node]) -> None:
        self.items = items

    def make(self, chosen: Sequence[Any], rng: random.Random) -> Any:
        return tuple([item.make(chosen, rng) for item in self.items])


class Built(Node):
    """What `build` makes of the values of other nodes, given by keyword."""

    __slots__ = ("build", "parts")

    def __init__(self, build: Callable[..., Any], parts: Mapping[str, Node]) -> None:
        self.build = build
        self.parts = parts

    def make(self, chosen: Sequence[Any], rng: random.Random) -> Any:
        return self.build(**{name: part.make(chosen, rng) for name, part in self.parts.items()})


_NO_CHANCE = random.Random(0)


def tuple_of(items: Sequence[Node]) -> Node:
    """A `Tuple`, made already if nothing in it varies."""
    node = Tuple(items)
    return node if any(item.varies for item in items) else Constant(node.make((), _NO_CHANCE))


def built(build: Callable[..., Any], parts: Mapping[str, Node]) -> Node:
    """A `Built`, made already if nothing in it varies; what `build` raises comes through."""
    node = Built(build, parts)
    varies = any(part.varies for part in parts.values())
    return node if varies else Constant(node.make((), _NO_CHANCE))


def choices(sweeps: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    """Each combination of one value a sweep, the last sweep fastest; one of none without sweeps.

    As `itertools.product`, which would first hold all the values of each.
    """
    sizes = [len(each) for each in sweeps]
    for number in range(prod(sizes)):
        chosen = []
        for values, size in zip(reversed(sweeps), reversed(sizes), strict=True):
            number, at = divmod(number, size)
            chosen.append(values[at])
        yield tuple(reversed(chosen))
