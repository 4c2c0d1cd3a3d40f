"""Instructions for a graph of decisions: registers filled no more often than needed.

The program is laid out in the order of the graph's nodes, from its end to its front, so
that every jump knows how far it goes::

    node    [ldx ...]      X: an IPv4 header's length, or the right side of a comparison
            [ld ...]       A: the left side
            jump yes, no

A way that leads to a node enters it behind those instructions whose result A and X hold
already on that way; and what no way needs is left out. A condition skips at most 255
instructions: further ends are reached through a `ja`, or through a `ret` of its own.

Where more values are needed at once than A and X hold, they wait in scratch memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rawproto.filter.graph import ACCEPT, REJECT, Graph
from rawproto.filter.instructions import CODES, Instruction
from rawproto.filter.predicate import LENGTH, Compute, HeaderLength, Load, Test, Value

__all__ = ["emit"]

_CODE = {text: code for code, text in CODES.items()}
_LOADS = {1: "ldb", 2: "ldh", 4: "ld"}
_COMMUTATIVE = frozenset(("add", "mul", "and", "or", "xor"))
_FAR = 0xFF


class _Step(NamedTuple):
    """One instruction, and what the registers hold before it."""

    instruction: Instruction
    reads: frozenset[str]
    writes: str
    a: Value | None
    x: Value | None


class _Code:
    """The instructions that bring a test's sides into A and X.

    Attributes:
        steps: in order.
        a, x: what the registers hold behind them.
    """

    def __init__(self, test: Test) -> None:
        self.steps: list[_Step] = []
        self.a: Value | None = None
        self.x: Value | None = None
        self._slots = 0
        self._both(test.left, test.right)
        needs = frozenset("a" if isinstance(test.right, int) else "ax")
        self._needs = [needs]
        for step in reversed(self.steps):
            needs = needs - {step.writes} | step.reads
            self._needs.insert(0, needs)

    def entry(self, a: Value | None, x: Value | None) -> int:
        """How many steps may be left out by who comes with these values in A and X."""
        for at in range(len(self.steps), 0, -1):
            step = self.steps[at] if at < len(self.steps) else self
            needs = self._needs[at]
            if (
                needs <= {"a", "x"}  # scratch memory is each test's own
                and ("a" not in needs or a == step.a)
                and ("x" not in needs or x == step.x)
            ):
                return at
        return 0

    def x_after(self, entry: int, x: Value | None) -> Value | None:
        """What X holds behind the steps of who came with `x`."""
        return self.x if any(step.writes == "x" for step in self.steps[entry:]) else x

    def _add(self, mnemonic: str, form: str, k: int, reads: str, writes: str) -> None:
        instruction = Instruction(_CODE[mnemonic, form], 0, 0, k)
        self.steps.append(_Step(instruction, frozenset(reads.split()), writes, self.a, self.x))

    def _to_a(self, value: Value) -> None:
        """Brings a value into A; X may be lost."""
        if self.a == value:
            return
        if isinstance(value, int):
            self._add("ld", "imm", value, "", "a")
        elif isinstance(value, HeaderLength):
            self._to_x(value)
            self._add("txa", "", 0, "x", "a")
        elif isinstance(value, Compute):
            self._compute(value)
            return
        elif value == LENGTH:
            self._add("ld", "len", 0, "", "a")
        elif value.behind is None:
            self._add(_LOADS[value.size], "abs", value.offset, "", "a")
        else:
            self._to_x(value.behind)
            self._add(_LOADS[value.size], "ind", value.offset, "x", "a")
        self.a = value

    def _to_x(self, value: Value) -> None:
        """Brings a value into X; A may be lost."""
        if self.x == value:
            return
        if isinstance(value, HeaderLength):
            self._add("ldxb", "msh", value.offset, "", "x")
        elif isinstance(value, int):
            self._add("ldx", "imm", value, "", "x")
        elif value == LENGTH:
            self._add("ldx", "len", 0, "", "x")
        else:
            self._to_a(value)
            self._add("tax", "", 0, "a", "x")
        self.x = value

    def _both(self, left: Value, right: Value) -> None:
        """Brings one value into A and, unless it is a constant, another into X."""
        if isinstance(right, int):
            self._to_a(left)
        elif not _needs_x(left):
            self._to_x(right)
            self._to_a(left)
        elif not _loses_a(right):
            self._to_a(left)
            self._to_x(right)
        elif _most_waiting(left) <= _most_waiting(right):
            self._to_a(right)
            with self._waiting("x", right):
                self._to_a(left)
        else:
            self._to_a(left)
            with self._waiting("a", left):
                self._to_x(right)

    @contextmanager
    def _waiting(self, register: str, value: Value) -> Iterator[None]:
        """What is in A waits in scratch memory, and is then brought to A or X."""
        # No sum is long enough to need more words than there are: see `grammar.MAX_OPERATORS`.
        slot, self._slots = self._slots, self._slots + 1
        self._add("st", "mem", slot, "a", f"M[{slot}]")
        yield
        self._add("ldx" if register == "x" else "ld", "mem", slot, f"M[{slot}]", register)
        setattr(self, register, value)
        self._slots = slot

    def _compute(self, value: Compute) -> None:
        operation, left, right = value
        if operation == "neg":
            self._to_a(left)
            self._add("neg", "", 0, "a", "a")
        else:
            awkward = isinstance(left, int) or (_needs_x(left) and not _needs_x(right))
            if operation in _COMMUTATIVE and awkward and not isinstance(right, int):
                left, right = right, left
            self._both(left, right)
            if isinstance(right, int):
                self._add(operation, "imm", right, "a", "a")
            else:
                self._add(operation, "x", 0, "a x", "a")
        self.a = value


def _needs_x(value: Value) -> bool:
    """Whether bringing it into A goes through X."""
    if isinstance(value, Compute):
        return not isinstance(value.right, int) or _needs_x(value.left)
    return isinstance(value, HeaderLength) or (isinstance(value, Load) and value.behind is not None)


def _most_waiting(value: Value) -> int:
    """How many words of scratch memory it takes to bring a value into A."""
    if isinstance(value, Load):
        return 0 if value.behind is None else _most_waiting(value.behind)
    if not isinstance(value, Compute):
        return 0
    left, right = _most_waiting(value.left), _most_waiting(value.right)
    if _needs_x(value.left) and _loses_a(value.right):
        return max(left, right, min(left, right) + 1)
    return max(left, right)


def _loses_a(value: Value) -> bool:
    """Whether bringing it into X goes through A."""
    return isinstance(value, Compute) or (isinstance(value, Load) and value != LENGTH)


def emit(graph: Graph, snap_length: int) -> list[Instruction]:
    """The instructions of a graph.

    Args:
        graph: its decisions.
        snap_length: how many bytes of a packet to keep that passes.
    """
    ends = {REJECT: Instruction(_CODE["ret", "imm"]), ACCEPT: Instruction(_CODE["ret", "imm"])}
    ends[ACCEPT] = ends[ACCEPT]._replace(k=snap_length)
    if graph.root in ends:
        return [ends[graph.root]]
    codes, entries = _entries(graph)
    first = {number: min(ways) for number, ways in _arriving(entries).items()}

    program: list[Instruction] = []  # from its end to its front
    places: dict[tuple[int, int], int] = {}  # where a node is entered, counted from the end
    jumps: dict[tuple[Instruction, int, int], list[int]] = {}
    for end, instruction in ends.items():
        places[end, 0] = len(program)
        program.append(instruction)
    for number in range(ACCEPT + 1, graph.root + 1):
        if number not in codes:
            continue
        yes, no = ((target, entries[number, target]) for target in graph.nodes[number][1:])
        steps = codes[number].steps
        code = [step.instruction for step in reversed(steps[first[number] :])]
        jump = _jump(graph.nodes[number].test)
        same = jumps.setdefault((jump, places[yes], places[no]), [])
        # What does the same may stand there already, for other values.
        place = next((at for at in same if program[at + 1 : at + 1 + len(code)] == code), -1)
        if place < 0:
            while far := [to for to in (yes, no) if len(program) - 1 - places[to] > _FAR]:
                # Those before this one may go by the same way.
                skip = len(program) - 1 - places[far[0]]
                places[far[0]] = len(program)
                program.append(ends.get(far[0][0]) or Instruction(_CODE["ja", "to"], k=skip))
            place = len(program)
            same.append(place)
            program.append(jump._replace(jt=place - 1 - places[yes], jf=place - 1 - places[no]))
            program += code
        for at in range(len(steps), first[number] - 1, -1):
            places[number, at] = place + len(steps) - at
    return program[::-1]


def _jump(test: Test) -> Instruction:
    if isinstance(test.right, int):
        return Instruction(_CODE[test.jump, "imm"], k=test.right)
    return Instruction(_CODE[test.jump, "x"])


def _entries(graph: Graph) -> tuple[dict[int, _Code], dict[tuple[int, int], int]]:
    """The code of each node, and how much of it each way (from, to) may leave out."""
    codes: dict[int, _Code] = {graph.root: _Code(graph.nodes[graph.root].test)}
    entries: dict[tuple[int, int], int] = {(0, graph.root): 0}
    x_behind: dict[int, Value | None] = {graph.root: codes[graph.root].x}
    for number in range(graph.root, ACCEPT, -1):
        if number not in codes:
            continue
        a, x = codes[number].a, x_behind[number]
        for target in graph.nodes[number][1:]:
            if target in (REJECT, ACCEPT):
                entries[number, target] = 0
                continue
            code = codes.get(target) or codes.setdefault(target, _Code(graph.nodes[target].test))
            entries[number, target] = entry = code.entry(a, x)
            after = code.x_after(entry, x)
            # What all ways to it agree on.
            x_behind[target] = after if x_behind.get(target, after) == after else None
    return codes, entries


def _arriving(entries: dict[tuple[int, int], int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for (_, target), entry in entries.items():
        found.setdefault(target, []).append(entry)
    return found
