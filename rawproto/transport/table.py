"""State machines as tables: the code follows what the specification prints.

A row says: in this state, when this happens, a side does that, and goes to the other state.
What no row speaks of does not happen, or changes nothing. `tests/transport/diagrams.py` writes
the rows into docs/transport-spec.md and draws them.
"""

from __future__ import annotations

from enum import Enum
from typing import Generic, TypeVar

__all__ = ["Table"]

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


class Table(Generic[S, E]):
    """The rows of one machine.

    Args:
        rows: state, event, what is done about it in words, the state after it.

    Attributes:
        rows: as given.
    """

    def __init__(self, *rows: tuple[S, E, str, S]) -> None:
        self.rows = rows
        self._after = {(state, event): after for state, event, _, after in rows}
        if len(self._after) < len(rows):
            raise ValueError("two rows for one state and event")

    def after(self, state: S, event: E) -> S | None:
        """Where an event leads from a state; None if it means nothing there."""
        return self._after.get((state, event))
