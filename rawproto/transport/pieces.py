"""Bytes between two positions, in the pieces in which they were written: nothing is moved.

::

    starts   0              65,536           131,072    end
    pieces   | 64 KiB       | 64 KiB         | small    |
                   base: what is below is gone as soon as a whole piece is

One large buffer would be copied whenever its end outgrows it, again and again while its
beginning is given back: at 9,000 bytes a packet that was most of what sending cost.
"""

from __future__ import annotations

from bisect import bisect_right

__all__ = ["Piece", "Pieces"]

Piece = bytes | bytearray | memoryview

# What is shorter is put together with its neighbours, or a byte here and a byte there would
# cost a hundred for each.
_LARGE_BYTES = 1 << 14
_BLOCK_BYTES = 1 << 16


class Pieces:
    """A growing string of bytes that is forgotten from its beginning.

    Attributes:
        end: where it ends, counted from the first byte ever appended.
    """

    __slots__ = ("end", "pieces", "starts")

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.starts: list[int] = []
        self.end = 0

    def append(self, data: bytes | memoryview) -> None:
        """Adds bytes; those of a `bytes`, or of a view of one, are not copied if they are many."""
        if len(data) < _LARGE_BYTES:
            last = self.pieces[-1] if self.pieces else None
            if isinstance(last, bytearray) and len(last) < _BLOCK_BYTES:
                last += data
                self.end += len(data)
                return
            piece: Piece = bytearray(data)
        elif isinstance(data, memoryview) and not isinstance(data.obj, bytes):
            piece = bytes(data)  # its owner may change it
        else:
            piece = data
        self.pieces.append(piece)
        self.starts.append(self.end)
        self.end += len(data)

    def cut(self, start: int, size: int, count: int) -> list[Piece]:
        """`count` parts of `size` bytes each, one behind another from `start` on."""
        pieces, starts = self.pieces, self.starts
        parts: list[Piece] = []
        index = bisect_right(starts, start) - 1
        while len(parts) < count:
            piece, at = pieces[index], start - starts[index]
            whole = min((len(piece) - at) // size, count - len(parts))
            parts += [piece[each : each + size] for each in range(at, at + whole * size, size)]
            start += whole * size
            if len(parts) < count:  # the next part ends in another piece
                parts.append(self.slice(start, start + size))
                start += size
                index = bisect_right(starts, start, index) - 1
        return parts

    def slice(self, start: int, end: int) -> Piece:
        """The bytes from `start` to `end`."""
        pieces, starts = self.pieces, self.starts
        if start == end:
            return b""
        index = bisect_right(starts, start) - 1
        at, last = start - starts[index], end - starts[index]
        piece = pieces[index]
        if last <= len(piece):
            return piece[at:last]
        parts = [piece[at:]]
        while last > len(piece):
            last -= len(piece)
            index += 1
            piece = pieces[index]
            parts.append(piece[:last])
        return b"".join(parts)

    def drop_below(self, position: int) -> None:
        """Forgets the pieces that end at `position` or before it."""
        starts = self.starts
        whole = bisect_right(starts, position) - 1
        if position == self.end:
            whole += 1
        if whole > 0:
            del starts[:whole], self.pieces[:whole]

    def clear(self) -> None:
        """Forgets all."""
        self.pieces.clear()
        self.starts.clear()
