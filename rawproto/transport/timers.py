"""When each of many wants to be woken: a heap in which what was put off is let come.

Most turns of a connection put its time-out off. Were that noted each time, the heap would hold
one entry for each turn of the idle time; so an entry stays as early as it was, and whoever comes
too early finds nothing to do. An earlier time leaves the later one behind, which counts no more:
once most do not, they are cleared away. Who is woken, and why, is not known here.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

__all__ = ["Timers"]

_FEW = 64  # of which it does not matter whether they count


class Timers:
    """The time-outs of many, each under an ID.

    Attributes:
        due_ns: ID -> when it is woken, by which it may have nothing to do yet.
    """

    __slots__ = ("_heap", "due_ns")

    def __init__(self) -> None:
        self.due_ns: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []

    def arm(self, who: int, due_ns: int) -> None:
        """Has one woken at `due_ns` at the latest."""
        armed = self.due_ns.get(who)
        if armed is None or due_ns < armed:
            self.due_ns[who] = due_ns
            heappush(self._heap, (due_ns, who))
            if len(self._heap) > 2 * len(self.due_ns) + _FEW:
                self._heap = [(time_ns, each) for each, time_ns in self.due_ns.items()]
                heapify(self._heap)

    def forget(self, who: int) -> None:
        """One need not be woken any more."""
        self.due_ns.pop(who, None)

    def next_ns(self) -> int | None:
        """When the next one is woken; None for never."""
        heap, due_ns = self._heap, self.due_ns
        while heap and due_ns.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def take(self, now_ns: int) -> list[int]:
        """Those whose time has come, of whom nothing is noted any more."""
        heap, due_ns = self._heap, self.due_ns
        came: list[int] = []
        while heap and heap[0][0] <= now_ns:
            time_ns, who = heappop(heap)
            if due_ns.get(who) == time_ns:
                del due_ns[who]
                came.append(who)
        return came
