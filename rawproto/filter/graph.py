"""Predicates as a graph of decisions, and the graph made small.

A node asks one test and goes on to one of two others; node 0 drops the packet, node 1
takes it. Equal nodes are one node. Nodes are numbered from the end, so whoever asks has
a higher number than who is asked next, and going down the numbers goes from front to end.

What was learnt on every way to a node need not be asked again: `port 53` asks three
times for the protocol of an IPv6 packet and needs it once (McCanne and Jacobson, 1993,
and "predicate assertion propagation" in Begel et al., BPF+, 1999). A test is left out
only where its loads have been made before, or both its answers lead to the same place.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from rawproto.filter.predicate import (
    Chain,
    Compute,
    Not,
    Predicate,
    Test,
    Value,
    calculate,
    holds,
)

__all__ = ["ACCEPT", "REJECT", "Graph", "Node"]

REJECT, ACCEPT = 0, 1

_MOST_ROUNDS = 20
"""How often tests are pulled up; two or three times is usual."""

_Facts = dict[object, int]
"""What is known on the way to a node: a value's number, a test's answer."""


class Node(NamedTuple):
    """One decision: where to go on if the test holds, and where if it does not."""

    test: Test
    yes: int
    no: int


class Graph:
    """The decisions of one filter.

    Attributes:
        nodes: by number; 0 and 1 are the ends and ask nothing.
        root: where a packet begins.
    """

    def __init__(self, predicate: Predicate) -> None:
        self.nodes: list[Node] = [Node(Test("", 0, 0), end, end) for end in (REJECT, ACCEPT)]
        self._numbers: dict[Node, int] = {}
        self.root = self._build(predicate, ACCEPT, REJECT)
        for _ in range(_MOST_ROUNDS):
            while self._leave_out_what_is_known():
                pass
            if not (self._pull_up("no") | self._pull_up("yes")):
                break

    def __len__(self) -> int:
        """How many tests there are."""
        return len(self.nodes) - 2

    # --- building ---

    def _node(self, test: Test, yes: int, no: int) -> int:
        if yes == no:
            return yes
        if isinstance(test.left, int) and isinstance(test.right, int):
            return yes if holds(test.jump, test.left, test.right) else no
        node = Node(test, yes, no)
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
        return number

    def _build(self, predicate: Predicate, yes: int, no: int) -> int:
        """The node where the predicate begins, given where its answers lead."""
        if isinstance(predicate, bool):
            return yes if predicate else no
        if isinstance(predicate, Test):
            return self._node(predicate, yes, no)
        if isinstance(predicate, Not):
            return self._build(predicate.predicate, no, yes)
        return self._build_chain(predicate, yes, no)

    def _build_chain(self, chain: Chain, yes: int, no: int) -> int:
        # From its end: where one part leads is where the next begins.
        for must, part in reversed(chain.rest):
            begin = self._build(part, yes, no)
            if must:
                yes = begin
            else:
                no = begin
        return self._build(chain.first, yes, no)

    # --- making it small ---

    def _leave_out_what_is_known(self) -> bool:
        """Goes from front to end with what is known; whether that changed anything."""
        old, root = self.nodes, self.root
        # An answer is worth remembering if somebody asks again.
        asked = Counter(node.test for node in old)
        arriving: dict[int, _Facts] = {root: {}}
        shortened: dict[int, tuple[int, int]] = {}
        for number in range(root, ACCEPT, -1):
            known = arriving.pop(number, None)
            if known is None:
                continue  # no way leads here any more
            test = old[number].test
            ways = []
            for answer, target in ((True, old[number].yes), (False, old[number].no)):
                learnt = _learn(known, test, answer, asked[test] > 1)
                while target > ACCEPT and (known_answer := _answer(old[target].test, learnt)) >= 0:
                    target = old[target].yes if known_answer else old[target].no
                ways.append(target)
                if target > ACCEPT:
                    met = arriving.get(target)
                    arriving[target] = learnt if met is None else _common(met, learnt)
            shortened[number] = (ways[0], ways[1])
        # Built anew from the end: nodes that have become equal fall together.
        self.nodes, self._numbers = old[:2], {}
        renamed = {REJECT: REJECT, ACCEPT: ACCEPT}
        for number in sorted(shortened):
            yes, no = shortened[number]
            renamed[number] = self._node(old[number].test, renamed[yes], renamed[no])
        self.root = renamed[root]
        return self.nodes != old

    def _pull_up(self, way: str) -> bool:
        """Asks tests of one value together; whether that changed anything.

        In a run of tests that all lead to one place where they hold (for `way` "yes":
        where they fail), it does not matter which is asked first, as long as no load is
        made earlier: `port 80 or 81` looks at the source port twice and then at the
        destination port. libpcap does the same, so the same packets that are cut short pass.
        """
        old = self.nodes
        values: dict[int, set[Value]] = {}  # what A holds on the ways to a node
        ways: dict[int, int] = {self.root: 2}
        for node in old[2:]:
            for target in (node.yes, node.no):
                values.setdefault(target, set()).add(node.test.left)
                ways[target] = ways.get(target, 0) + 1

        def after(number: int) -> int:
            return old[number].yes if way == "yes" else old[number].no

        def exit_of(number: int) -> int:
            return old[number].no if way == "yes" else old[number].yes

        self.nodes, self._numbers = old[:2], {}
        renamed = {REJECT: REJECT, ACCEPT: ACCEPT}
        changed = False
        inside: set[int] = set()
        runs: dict[int, list[int]] = {}
        for number in range(self.root, ACCEPT, -1):
            if number in inside:
                continue
            run = [number]
            while (
                (to := after(run[-1])) > ACCEPT and ways[to] == 1 and exit_of(to) == exit_of(number)
            ):
                run.append(to)
            inside.update(run[1:])
            arriving = values.get(number, set())
            held = next(iter(arriving)) if len(arriving) == 1 else None
            runs[number] = run
            ordered = _grouped(run, [old[each].test.left for each in run], held)
            changed |= ordered != run
            runs[number] = ordered
        for number in sorted(runs):
            leave, end = renamed[exit_of(number)], renamed[after(min(runs[number]))]
            for each in reversed(runs[number]):
                pair = (end, leave) if way == "yes" else (leave, end)
                end = self._node(old[each].test, *pair)
            renamed[number] = end
        self.root = renamed[self.root]
        return changed


def _grouped(run: list[int], values: list[Value], held: Value | None) -> list[int]:
    """A run in another order: those of the value that is held, then of the next, and so on."""
    groups: dict[Value | None, list[int]] = {held: []}
    for number, value in zip(run, values, strict=True):
        groups.setdefault(value, []).append(number)
    return [number for group in groups.values() for number in group]


def _learn(known: _Facts, test: Test, answer: bool, again: bool) -> _Facts:
    learnt = {**known, test: int(answer)} if again else known
    if answer and test.jump == "jeq" and isinstance(test.right, int):
        learnt = {**learnt, test.left: test.right}
    return learnt


def _common(some: _Facts, others: _Facts) -> _Facts:
    return {fact: number for fact, number in some.items() if others.get(fact) == number}


def _answer(test: Test, known: _Facts) -> int:
    """1 or 0 where it is known what a test says, -1 where not."""
    answer = known.get(test)
    if answer is not None:
        return answer
    left, right = _number(test.left, known), _number(test.right, known)
    if left is None or right is None:
        return -1
    return int(holds(test.jump, left, right))


def _number(value: Value, known: _Facts) -> int | None:
    """A value, where it is known."""
    if isinstance(value, int):
        return value
    number = known.get(value)
    if number is None and isinstance(value, Compute):
        left, right = _number(value.left, known), _number(value.right, known)
        if left is not None and right is not None:
            return calculate(value.operation, left, right)
    return number
