"""How often something may be done: so many times a second, a second's worth at once at most.

The generic cell rate algorithm (ITU-T I.371): each time moves the moment on at which the
next one would be due if they came evenly; who comes more than a second before it is refused.
"""

from __future__ import annotations

__all__ = ["Budget"]

_SECOND_NS = 1_000_000_000


class Budget:
    """So many times a second.

    Args:
        per_second: 1 to 10^9.
    """

    __slots__ = ("_due_ns", "_gap_ns")

    def __init__(self, per_second: int) -> None:
        self._gap_ns = _SECOND_NS // per_second
        self._due_ns = 0

    def take(self, now_ns: int) -> bool:
        """Whether it may be done now; then it counts as done. Times are monotonic."""
        due_ns = max(self._due_ns, now_ns) + self._gap_ns
        if due_ns > now_ns + _SECOND_NS:
            return False
        self._due_ns = due_ns
        return True
