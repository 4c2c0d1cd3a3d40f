"""Sets of whole numbers kept as ranges: packet numbers that came, bytes that were acknowledged."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

__all__ = ["Ranges"]


class Ranges:
    """Numbers as ranges [start, end), ascending, neither touching nor overlapping.

    Attributes:
        starts: where each range begins.
        ends: where each ends, its last number plus 1.
    """

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Takes in [start, end), which must not be empty."""
        starts, ends = self.starts, self.ends
        if ends and start == ends[-1]:  # nearly always it goes on where it was
            ends[-1] = end
            return
        # All ranges from `first` up to `last` touch the new one and become part of it.
        first = bisect_left(ends, start)
        last = bisect_right(starts, end)
        if first < last:
            start = min(start, starts[first])
            end = max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Takes out what there is of [start, end), which must not be empty."""
        starts, ends = self.starts, self.ends
        first, last = bisect_right(ends, start), bisect_left(starts, end)
        if first < last:
            left, right = starts[first], ends[last - 1]
            starts[first:last] = [left] * (left < start) + [end] * (right > end)
            ends[first:last] = [start] * (left < start) + [right] * (right > end)

    def drop_below(self, limit: int) -> None:
        """Forgets all numbers below `limit`."""
        starts, ends = self.starts, self.ends
        if ends and ends[0] <= limit:
            whole = bisect_right(ends, limit)
            del starts[:whole], ends[:whole]
        if starts and starts[0] < limit:
            starts[0] = limit

    def drop_oldest(self) -> None:
        """Forgets the lowest range."""
        del self.starts[0], self.ends[0]

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that are not in the set."""
        parts = []
        for index in range(bisect_right(self.ends, start), len(self.starts)):
            if self.starts[index] >= end:
                break
            if self.starts[index] > start:
                parts.append((start, self.starts[index]))
            start = self.ends[index]
        if start < end:
            parts.append((start, end))
        return parts

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self.starts, number) - 1
        return index >= 0 and number < self.ends[index]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self.starts)
