"""What of a stream has arrived: in order, for the reader, and ahead of its turn.

::

    0       read            next                      highest
    | read  | to be read .. | missing | piece | ... | piece |

The pieces that wait for their turn are bounded in number as well as by flow control, and small
ones that can be read are put together: who sends a byte here and a byte there would cost us a
hundred for each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["ReceiveBuffer"]

MAX_PIECES = 4096
_SMALL_BYTES = 256
_BLOCK_BYTES = 1 << 12


class ReceiveBuffer:
    """The receiving half of a stream's memory. Positions count from the stream's first byte.

    Attributes:
        next: everything below has arrived.
        highest: nothing has arrived from here on.
        read: how much was handed out.
        final_size: how long the stream is, None while unknown.
    """

    __slots__ = ("_pieces", "_starts", "final_size", "highest", "next", "read", "ready")

    def __init__(self) -> None:
        self.ready: list[bytes | bytearray | memoryview] = []  # an empty deque takes 700 bytes
        self._starts: list[int] = []
        self._pieces: list[bytes] = []
        self.next = 0
        self.highest = 0
        self.read = 0
        self.final_size: int | None = None

    @property
    def readable(self) -> int:
        """Bytes that can be read now."""
        return self.next - self.read

    @property
    def whole(self) -> bool:
        """Whether everything up to the end has arrived."""
        return self.next == self.final_size

    @property
    def finished(self) -> bool:
        """Whether everything up to the end was read."""
        return self.read == self.final_size

    def insert(self, offset: int, data: bytes) -> bool:
        """Takes in a part; what is there already is ignored.

        Returns:
            False if there are too many pieces: the packet is then as good as lost.
        """
        size = len(data)
        end = offset + size
        if offset == self.next and not self._starts:  # nearly always
            if size >= _SMALL_BYTES:
                self.ready.append(data)
            elif size:
                self._put(data)
            else:
                return True
            self.next = self.highest = end
            return True
        if end <= self.next:
            return True
        if offset > self.next:
            return self._keep(offset, data)
        self._put(data[self.next - offset :])
        self.next = end
        self.highest = max(self.highest, end)
        self._join()
        return True

    def extend(self, parts: Sequence[bytes | memoryview], end: int) -> None:
        """Takes in the parts from `next` to `end` while none waits for its turn."""
        if end - self.next < _SMALL_BYTES * len(parts):
            for part in parts:
                self._put(part)
        else:
            self.ready.extend(parts)
        self.next = self.highest = end

    def _put(self, data: bytes | memoryview) -> None:
        """What can be read; a small part joins one that was there and is not large."""
        ready = self.ready
        if ready and len(data) < _SMALL_BYTES and len(ready[-1]) < _BLOCK_BYTES:
            last = ready[-1]
            if not isinstance(last, bytearray):
                last = ready[-1] = bytearray(last)
            last += data
        else:
            ready.append(data)

    def _keep(self, offset: int, data: bytes) -> bool:
        """Keeps a piece for later, less what others hold already."""
        starts, pieces = self._starts, self._pieces
        at, end = offset, offset + len(data)
        index = bisect_right(starts, offset)
        if index:
            at = max(at, starts[index - 1] + len(pieces[index - 1]))
        while at < end:
            following = starts[index] if index < len(starts) else end
            if at < following:
                if len(starts) >= MAX_PIECES:
                    return False
                stop = min(following, end)
                starts.insert(index, at)
                pieces.insert(index, data[at - offset : stop - offset])
                index += 1
                self.highest = max(self.highest, stop)
            if following >= end:
                break
            at = following + len(pieces[index])
            index += 1
        return True

    def _join(self) -> None:
        """Moves pieces whose turn has come to what can be read."""
        joined = 0
        for start, piece in zip(self._starts, self._pieces, strict=True):
            if start > self.next:
                break
            joined += 1
            end = start + len(piece)
            if end > self.next:
                self._put(piece[self.next - start :])
                self.next = end
        del self._starts[:joined], self._pieces[:joined]

    def take(self, limit: int) -> bytes:
        """Up to `limit` bytes for the reader, b"" for none now."""
        ready = self.ready
        if not ready:
            return b""
        first = ready[0]
        if len(first) >= limit:
            if len(first) == limit:
                del ready[0]
            else:
                view = memoryview(first)
                ready[0] = view[limit:]
                first = view[:limit]
            self.read += limit
            return bytes(first)
        whole, room = 0, limit
        for part in ready:
            if len(part) > room:
                break
            whole += 1
            room -= len(part)
        parts = ready[:whole]
        del ready[:whole]
        if ready and room:
            view = memoryview(ready[0])
            parts.append(view[:room])
            ready[0] = view[room:]
            room = 0
        self.read += limit - room
        return b"".join(parts)

    def peek(self, limit: int) -> bytes:
        """What `take` would give, and leaves it there."""
        parts: list[bytes | bytearray | memoryview] = []
        for part in self.ready:
            if limit <= 0:
                break
            parts.append(part[:limit])
            limit -= len(part)
        return b"".join(parts)

    def skip(self) -> int:
        """Throws away what could be read: how many bytes that was."""
        skipped = self.next - self.read
        self.read = self.next
        self.ready.clear()
        return skipped

    def clear(self) -> None:
        """Nothing more will be read."""
        self.ready.clear()
        self._starts.clear()
        self._pieces.clear()
