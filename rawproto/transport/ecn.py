"""Whether packets leave marked ECT(0), so that routers mark where they would drop (section 8.5).

Read RFC 3168 for the two bits, RFC 9000 section 13.4.2 and appendix A.4 for what follows::

    off -- begin --> testing -- 10 packets --> waiting -- the counts add up --> capable
                        |                         |                                |
                        `-------------------------+-- they don't, or all is lost --+--> failed

Some routers clear the bits, some set others, some drop what has any, and a peer may lie. So a
path is tried with a few packets, and no count is believed that cannot be true.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["ECN", "Stage"]

ECT0 = 2
TEST_PACKETS = 10
Counts = tuple[int, int, int]
"""Of ECT(0), ECT(1), CE, as the peer has counted them on this connection."""


class Stage(Enum):
    """What is known of a path."""

    OFF = "off"
    TESTING = "testing"
    WAITING = "waiting"
    CAPABLE = "capable"
    FAILED = "failed"


# Asked for each packet, where an enumeration's member costs a call.
_OFF, _TESTING, _CAPABLE, _FAILED = Stage.OFF, Stage.TESTING, Stage.CAPABLE, Stage.FAILED


class ECN:
    """The state of one path, and the counts of the whole connection.

    Attributes:
        stage: what is known of the path.
        mark: the ECN bits with which packets leave now, 0 or 2.
    """

    __slots__ = ("_acked", "_base", "_lost", "_tested", "counts", "mark", "sent", "stage")

    def __init__(self) -> None:
        self.stage = Stage.OFF
        self.mark = 0
        self.counts: Counts = (0, 0, 0)
        self.sent = 0  # marked packets, on all paths: what the counts can say at most
        self._base = self._acked = self._tested = self._lost = 0

    def begin(self) -> None:
        """Packets go by a path of which nothing is known."""
        self.stage, self.mark = Stage.TESTING, ECT0
        self._base = self.counts[0] + self.counts[2]
        self._acked = self._tested = self._lost = 0

    def on_sent(self, count: int) -> None:
        """So many packets left with `mark`, which was not 0."""
        self.sent += count
        if self.stage is _TESTING:
            self._tested += count
            if self._tested >= TEST_PACKETS:
                self.stage, self.mark = Stage.WAITING, 0

    def on_lost(self, count: int) -> None:
        """So many marked packets are lost; a path that loses all of the test drops marks."""
        if self.stage in (Stage.TESTING, Stage.WAITING):
            self._lost += count
            if self._lost >= self._tested >= TEST_PACKETS:
                self._fail()

    def on_ack(self, acked: int, counts: Counts | None) -> bool:
        """Takes in an ACK that acknowledges packets higher than any before.

        Args:
            acked: how many packets it acknowledges that left with a mark, for the first time.
            counts: what it counts, None where it has no counts.

        Returns:
            Whether more packets came marked CE, and that is true as far as can be known.
        """
        stage = self.stage
        if stage is _OFF or stage is _FAILED:
            return False
        self._acked += acked
        if counts is None:
            if self._acked:
                self._fail()  # the marks were cleared, or the peer does not see them
            return False
        before, self.counts = self.counts, counts
        arrived = counts[0] + counts[2]
        falls = counts[0] < before[0] or counts[1] < before[1] or counts[2] < before[2]
        if falls or counts[1] or arrived - self._base < self._acked or arrived > self.sent:
            self._fail()
            return False
        if stage is not _CAPABLE and self._acked:
            self.stage, self.mark = _CAPABLE, ECT0
        return counts[2] > before[2]

    def _fail(self) -> None:
        self.stage, self.mark = Stage.FAILED, 0
