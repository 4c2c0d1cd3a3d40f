"""How large packets may be on a path: DPLPMTUD (read RFC 8899; specification section 9).

::

    BASE 1200 ----------- size ......... probe ......... ceiling
              known to pass    bisected between            the interface, the peer

The ceiling itself is tried first, because it mostly passes. Only acknowledged probes
raise the size. What the interface or a router says lowers the ceiling and nothing else, until
all is tried again ten minutes later: paths grow too.
"""

from __future__ import annotations

from rawproto.transport.constants import BASE_PACKET_BYTES

__all__ = ["MTUSearch"]

MAX_PROBES = 3
_CLOSE_ENOUGH = 16
_RAISE_NS = 600_000_000_000
_SUSPICIOUS = 6


class MTUSearch:
    """The search, in bytes of RPT packets.

    Args:
        ceiling: no packet is ever larger.

    Attributes:
        size: the largest packet that is known to pass.
        next_ns: when a probe may leave, None while one is under way or nothing is left to try.
        large_lost: how many large packets were lost since one came.
    """

    def __init__(self, ceiling: int, now_ns: int) -> None:
        self.size = BASE_PACKET_BYTES
        self.next_ns: int | None = None
        self._most = self._ceiling = max(ceiling, BASE_PACKET_BYTES)
        self._peer_most = 1 << 16
        self.large_lost = 0
        self._begin(now_ns)

    def _begin(self, now_ns: int) -> None:
        if self._ceiling <= self.size:
            self._rest(now_ns)
            return
        self._high = self._target = self._ceiling  # `_high` is the most still hoped for
        self._tries = 0
        self.next_ns = now_ns

    def _rest(self, now_ns: int) -> None:
        """Nothing is left to try for now."""
        self._high = self._target = self._ceiling = self._most
        self._tries = 0
        self.next_ns = now_ns + _RAISE_NS if self._most > self.size else None

    def probe(self) -> int:
        """The size of the probe that leaves now."""
        self.next_ns = None
        self._tries += 1
        return self._target

    def on_acked(self, size: int, now_ns: int) -> bool:
        """A probe arrived: whether the size grew."""
        if size <= self.size or size > self._ceiling:
            return False
        self.size = size
        self._aim(now_ns)
        return True

    def on_lost(self, size: int, now_ns: int) -> None:
        """A probe was lost, or refused."""
        if size != self._target or not self._tries:
            return  # another search's
        if self._tries < MAX_PROBES:
            self.next_ns = now_ns
            return
        self._high = size - 1
        self._aim(now_ns)

    def _aim(self, now_ns: int) -> None:
        if self._high - self.size < _CLOSE_ENOUGH:
            self._rest(now_ns)
            return
        self._tries = 0
        self._target = (self.size + self._high + 1) // 2
        self.next_ns = now_ns

    def on_refused(self, limit: int, now_ns: int) -> bool:
        """Something says that no packet of more than `limit` bytes passes: whether `size` fell."""
        limit = max(limit, BASE_PACKET_BYTES)
        if limit >= self._ceiling:
            return False
        self._ceiling = limit
        fell = self.size > limit
        self.size = min(self.size, limit)
        self._begin(now_ns)
        return fell

    def on_large_lost(self, count: int) -> None:
        """So many packets were lost that were larger than what every path carries."""
        self.large_lost += count

    def on_arrived(self, largest: int) -> None:
        """Packets arrived, the largest of them so large."""
        if largest > BASE_PACKET_BYTES:
            self.large_lost = 0

    @property
    def black_hole(self) -> bool:
        """Whether so many large packets were lost, and no large one came, that they cannot pass."""
        return self.large_lost >= _SUSPICIOUS and self.size > BASE_PACKET_BYTES

    def limit(self, most: int, now_ns: int) -> None:
        """The peer takes no larger packets, ever."""
        self._peer_most = max(most, BASE_PACKET_BYTES)
        self._most = self._ceiling = min(self._most, self._peer_most)
        self._begin(now_ns)

    def widen(self, ceiling: int) -> None:
        """Packets leave by another interface, which takes so many bytes; `fall_back` follows."""
        self._most = min(max(ceiling, BASE_PACKET_BYTES), self._peer_most)

    def fall_back(self, now_ns: int) -> None:
        """Large packets vanish, or the path is new: what every path carries, and look again."""
        self.size = BASE_PACKET_BYTES
        self._ceiling = self._most
        self.large_lost = 0
        self._begin(now_ns)
