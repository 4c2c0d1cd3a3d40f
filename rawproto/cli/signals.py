"""Signals as wishes: a handler may interrupt a turn of the machine, so it only leaves a note.

SIGINT, SIGTERM and SIGHUP wish for the end, SIGQUIT for a word on how things stand; the
driver grants wishes between two turns. Before there is a driver, while names are looked up,
Ctrl-C just ends the process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Wishes", "deadly_ctrl_c"]

_ENDS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_NUMBERS = (*_ENDS, signal.SIGQUIT)


class Wishes:
    """What signals have asked for since the last look."""

    def __init__(self, end: Callable[[], None], tell: Callable[[], None]) -> None:
        """
        Args:
            end: called by `grant` when somebody wished for the end.
            tell: called by `grant` when somebody wished for a word.
        """
        self._end = end
        self._tell = tell
        self._noted: set[int] = set()

    def grant(self) -> None:
        """Does what was wished for; to be called between two turns."""
        noted, self._noted = self._noted, set()
        if signal.SIGQUIT in noted:
            self._tell()
        if noted & _ENDS:
            self._end()

    @contextmanager
    def noted(self, wake: Callable[[], None], descriptor: int = -1) -> Iterator[None]:
        """Takes the signals while it lasts.

        Args:
            wake: makes the driver look; called by the handler, between two instructions.
            descriptor: what wakes a sleeping driver when a byte is written to it, -1 for one
                that never sleeps long. A signal may come just before the sleep: then Python
                calls the handler only behind it, and the kernel's own byte ends it.
        """

        def note(number: int, frame: FrameType | None) -> None:
            self._noted.add(number)
            wake()

        before = [signal.signal(number, note) for number in _NUMBERS]
        written = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(written)
            for number, old in zip(_NUMBERS, before, strict=True):
                signal.signal(number, old)


@contextmanager
def deadly_ctrl_c() -> Iterator[None]:
    """Ctrl-C ends the process, by SIGINT, while it lasts; where it is ignored it stays so.

    For what waits long in C and comes back to no handler of Python's meanwhile, as the
    resolver does for a name server that does not answer.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
