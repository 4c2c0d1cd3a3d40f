"""When the next probe is due: on a fixed beat, or driven by the answers.

On a fixed beat the deadlines are absolute (first, first + interval, ...), so that
lateness never adds up; after a long pause at most `CATCH_UP` probes are
sent in a row and the rest of the missed beats are skipped. Driven by answers
(flood, adaptive) each answer calls for the next probe, and silence for one when
the interval has passed.
"""

from __future__ import annotations

__all__ = ["CATCH_UP", "Pace"]

CATCH_UP = 16
"""How many missed beats are made up for at once."""


class Pace:
    """The deadlines of one target's probes; all times monotonic ns.

    Attributes:
        next_ns: when the next probe is due.
    """

    __slots__ = (
        "_answer_driven",
        "_burst",
        "_floor_ns",
        "_interval_ns",
        "_last_ns",
        "_resume_ns",
        "next_ns",
    )

    def __init__(
        self,
        start_ns: int,
        interval_ns: int,
        *,
        preload: int = 1,
        answer_driven: bool = False,
        floor_ns: int = 0,
    ) -> None:
        """
        Args:
            start_ns: when the first probe is due.
            interval_ns: the beat; driven by answers, the longest wait for one.
            preload: how many probes are sent at the start without waiting, at least 1.
            answer_driven: whether answers call for probes.
            floor_ns: driven by answers, the shortest time between two probes.
        """
        self.next_ns = start_ns
        self._interval_ns = interval_ns
        self._burst = preload
        self._answer_driven = answer_driven
        self._floor_ns = floor_ns
        self._last_ns: int | None = None
        self._resume_ns: int | None = None

    def on_sent(self, now_ns: int) -> None:
        """The probe that was due has been sent."""
        if self._last_ns is None:
            # The beat begins when the first probe really leaves: its host was busy till then.
            self.next_ns = now_ns
        self._last_ns = now_ns
        if self._resume_ns is not None:
            self.next_ns = max(self._resume_ns, now_ns)
            self._resume_ns = None
        elif self._burst > 1:
            self._burst -= 1
        elif self._answer_driven:
            self.next_ns = now_ns + self._interval_ns
        else:
            self.next_ns += self._interval_ns
            if self._interval_ns:
                overdue = (now_ns - self.next_ns) // self._interval_ns + 1
                self.next_ns += max(0, overdue - CATCH_UP + 1) * self._interval_ns

    def on_answer(self, now_ns: int) -> None:
        """A probe was answered."""
        if self._answer_driven and self._burst == 1:
            earliest_ns = now_ns if self._last_ns is None else self._last_ns + self._floor_ns
            self.next_ns = min(self.next_ns, max(now_ns, earliest_ns))

    def shift(self, by_ns: int) -> None:
        """Before the first probe: the whole beat begins so much later."""
        self.next_ns += by_ns

    def retry(self, at_ns: int) -> None:
        """The probe just sent never left: it is due again then, and the beat goes on."""
        self._resume_ns = self.next_ns
        self.next_ns = at_ns
