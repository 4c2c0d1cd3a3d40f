"""How far a peer may send, of one stream or of all together (specification section 6.2)."""

from __future__ import annotations

__all__ = ["Window"]

_LEAST_RTT_NS = 10_000_000
# Who mostly receives has few samples of the RTT, and none of what a queue adds to it.


class Window:
    """How far the peer may send, and when to let it go further (specification 6.2.2).

    Attributes:
        limit: the peer may send up to here.
        enough: the limit goes up once so much was read; asked before `raise_for` is, which most
            packets thus need not.
    """

    __slots__ = ("_most", "_raised_ns", "_size", "enough", "limit")

    def __init__(self, size: int, most: int) -> None:
        self._size = size
        self._most = max(most, size)
        self._raised_ns = 0
        self._slide_to(size)

    def _slide_to(self, limit: int) -> None:
        self.limit = limit
        self.enough = limit - self._size // 2

    def raise_for(self, read: int, now_ns: int, rtt_ns: int) -> bool:
        """Whether the limit goes up, now that `read` bytes were read in all."""
        if read < self.enough:
            return False
        # Twice two: where a packet was lost, nothing behind it is read for a round trip or two.
        if now_ns - self._raised_ns < 4 * max(rtt_ns, _LEAST_RTT_NS):
            self._size = min(2 * self._size, self._most)
        self._raised_ns = now_ns
        self._slide_to(read + self._size)
        return True

    def slide(self, read: int) -> bool:
        """The same where nobody read them: the window grows no larger for what is thrown away."""
        if read < self.enough:
            return False
        self._slide_to(read + self._size)
        return True
