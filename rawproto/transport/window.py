"""How far a peer may send, of one stream or of all together (specification section 6.2)."""

from __future__ import annotations

__all__ = ["Growth", "Window"]

_LEAST_RTT_NS = 10_000_000
# Who mostly receives has few samples of the RTT, and none of what a queue adds to it.


class Growth:
    """What the windows of streams may grow by, all together.

    Each time a stream gets half of what is left at most: one that is not read keeps what it
    has, and there is always something left for the others.

    Attributes:
        left: so many bytes.
    """

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, wanted: int) -> int:
        """How much of it a window gets."""
        taken = min(wanted, self.left // 2)
        self.left -= taken
        return taken


class Window:
    """How far the peer may send, and when to let it go further (specification 6.2.2).

    Args:
        size: at first, in bytes.
        most: what it grows to.
        growth: where it has that from, None for anywhere.

    Attributes:
        limit: the peer may send up to here.
        enough: the limit goes up once so much was read; asked before `raise_for` is, which most
            packets thus need not.
        grown: by how much.
    """

    __slots__ = ("_growth", "_most", "_raised_ns", "_size", "enough", "grown", "limit")

    def __init__(self, size: int, most: int, growth: Growth | None = None) -> None:
        self._size = size
        self._most = max(most, size)
        self._growth = growth
        self._raised_ns = 0
        self.grown = 0
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
            more = min(self._size, self._most - self._size)
            if self._growth is not None:
                more = self._growth.take(more)
            self._size += more
            self.grown += more
        self._raised_ns = now_ns
        self._slide_to(read + self._size)
        return True

    def slide(self, read: int) -> bool:
        """The same where nobody read them: the window grows no larger for what is thrown away."""
        if read < self.enough:
            return False
        self._slide_to(read + self._size)
        return True
