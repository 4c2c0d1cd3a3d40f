"""What a stream still has to send, or to send again.

::

    0        base            next         end    end + 1
    | acked  | in flight ... | not sent   | FIN  |
             |  [lost]       |

The end of the stream counts as one more byte behind the last: it is sent, lost and
acknowledged like data, and no other state is needed for it.
"""

from __future__ import annotations

from rawproto.transport.pieces import Piece, Pieces
from rawproto.transport.ranges import Ranges

__all__ = ["SendBuffer"]


class SendBuffer:
    """The sending half of a stream's memory. Positions count from the stream's first byte.

    Attributes:
        base: everything below was acknowledged.
        next: the first byte never sent.
        end: what was written ends here.
        ended: FIN follows.
        lost: the parts to be sent again. A peer decides how many they are, and asks about each.
    """

    __slots__ = ("_acked", "base", "data", "end", "ended", "lost", "next")

    def __init__(self) -> None:
        self.data = Pieces()
        self._acked = Ranges()
        self.base = 0
        self.next = 0
        self.end = 0
        self.ended = False
        self.lost = Ranges()

    @property
    def unacked(self) -> int:
        """Bytes written and not acknowledged yet."""
        return self.end - self.base if self.base < self.end else 0

    @property
    def unsent(self) -> int:
        """Bytes written and never sent yet."""
        return self.end - self.next if self.next < self.end else 0

    @property
    def done(self) -> bool:
        """Whether all was acknowledged, the end too."""
        return self.ended and self.base > self.end

    def write(self, data: bytes | memoryview) -> None:
        """Appends data; none may come after `finish`."""
        self.data.append(data)
        self.end += len(data)

    def write_sent(self, data: bytes) -> None:
        """Appends data that leaves at once; all before it was acknowledged."""
        self.data.append(data)
        self.end = self.next = self.next + len(data)

    def finish(self) -> None:
        """The stream ends here."""
        self.ended = True

    def pending(self, limit: int) -> bool:
        """Whether there is something to send while new data may go up to `limit`."""
        if self.next < self.end:
            return self.next < limit or bool(self.lost.starts)
        return bool(self.lost.starts) or (self.ended and self.next == self.end)

    @property
    def all_sent(self) -> bool:
        """Whether there is nothing to send, whatever the limit."""
        return not self.lost.starts and self.next >= self.end + self.ended

    def take(self, room: int, limit: int) -> tuple[int, Piece, int]:
        """The next part to send, what was lost first.

        Args:
            room: its most bytes, at least 1.
            limit: new data goes no further than this.

        Returns:
            (where it begins, the bytes, where it ends; that is past the bytes if FIN is in it).
        """
        lost = self.lost
        if lost.starts:
            start, end = lost.starts[0], lost.ends[0]
            part_end = min(end, start + room)
            if part_end == end or (part_end == self.end and end > self.end):
                part_end = end
            lost.drop_below(part_end)
        else:
            start = self.next
            part_end = min(self.end, start + room, max(limit, start))
            if part_end == self.end and self.ended:
                part_end += 1
            self.next = part_end
        return start, self.data.slice(start, min(part_end, self.end)), part_end

    def take_whole(self, share: int, count: int, limit: int) -> list[Piece]:
        """New data: up to `count` parts of exactly `share` bytes, none of them with FIN.

        Nothing is taken while something was lost: that goes first. See `take` for `limit`.
        """
        start = self.next
        last = min(self.end - self.ended, limit)  # the last byte goes with FIN
        count = min((last - start) // share, count)
        if self.lost.starts or count <= 0:
            return []
        self.next = start + count * share
        return self.data.cut(start, share, count)

    def on_acked(self, start: int, end: int) -> int:
        """A part arrived: how many bytes became free."""
        if end <= self.base:
            return 0
        if self.lost.starts:  # another copy of what was to be sent again may have come
            self.lost.remove(start, end)
        if start > self.base:
            self._acked.add(start, end)
            return 0
        if self._acked.starts and self._acked.starts[0] <= end:
            self._acked.add(self.base, end)  # joined with all that it touches
            end = self._acked.ends[0]
            self._acked.drop_below(end)
        data_end = end if end < self.end else self.end
        freed = data_end - self.base
        self.data.drop_below(data_end)
        self.base = end
        return freed

    def on_all_acked(self) -> None:
        """All that was written has left, and arrived in one piece."""
        self.data.clear()
        self.base = self.end

    def on_lost(self, start: int, end: int) -> None:
        """A part has to be sent again, as far as it did not arrive another way."""
        for part in self._acked.missing(max(start, self.base), end):
            if part[0] < part[1]:
                self.lost.add(*part)

    def clear(self) -> None:
        """Nothing more will be sent."""
        self.data.clear()
        self.lost.drop_below(self.end + 1)
        self.base = self.next = self.end
