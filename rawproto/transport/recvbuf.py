"""What of a stream has arrived: in order, for the reader, and ahead of its turn.

::

    0       read            next                      highest
    | read  | to be read .. | missing | piece | ... | piece |

The pieces that wait for their turn are bounded in number as well as by flow control:
who sends a byte here and a byte there would cost us a hundred for each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["ReceiveBuffer"]

MAX_PIECES = 4096


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
        self.ready: list[bytes | memoryview] = []  # an empty deque takes 700 bytes
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
        end = offset + len(data)
        if offset == self.next and not self._starts:  # nearly always
            if data:
                self.ready.append(data)
                self.next = self.highest = end
            return True
        if end <= self.next:
            return True
        if offset > self.next:
            return self._keep(offset, data)
        self.ready.append(data[self.next - offset :])
        self.next = end
        self.highest = max(self.highest, end)
        self._join()
        return True

    def extend(self, parts: Sequence[bytes | memoryview], end: int) -> None:
        """Takes in the parts from `next` to `end` while none waits for its turn."""
        self.ready.extend(parts)
        self.next = self.highest = end

    def _keep(self, offset: int, data: bytes) -> bool:
        """Keeps a piece for later, less what others hold already."""
        starts, pieces = self._starts, self._pieces
        index = bisect_right(starts, offset)
        if index:
            before_end = starts[index - 1] + len(pieces[index - 1])
            if before_end > offset:
                data = data[before_end - offset :]
                offset = before_end
        while data:
            following = starts[index] if index < len(starts) else None
            part = data if following is None else data[: max(following - offset, 0)]
            if part:
                if len(starts) >= MAX_PIECES:
                    return False
                starts.insert(index, offset)
                pieces.insert(index, part)
                index += 1
                self.highest = max(self.highest, offset + len(part))
            if following is None:
                break
            past = following + len(pieces[index])
            data = data[max(past - offset, 0) :]
            offset = past
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
                self.ready.append(piece[self.next - start :])
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
        parts: list[bytes | memoryview] = []
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
