"""Where a reader's bytes come from: a file, a pipe, either of them perhaps gzipped.

Bytes come in chunks, as many as are there: a pipe is read as it fills, and memory
stays the same however long a file is. Read RFC 1952 for gzip. It knows no format.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

__all__ = ["Source"]

_CHUNK = 1 << 18
_GZIP = b"\x1f\x8b"
_ZLIB_GZIP = 16 + zlib.MAX_WBITS


class Source:
    """Bytes in chunks; gzip is recognized by how it begins and read on the fly.

    Args:
        file: opened for binary reading.
        owned: whether `close` closes it.

    Attributes:
        fault: why the bytes end where that isn't simply their end: gzip that is damaged.
    """

    def __init__(self, file: BinaryIO, *, owned: bool = False) -> None:
        self.fault = ""
        self._file = file
        self._owned = owned
        self._chunks: Iterator[bytes] = self._read()
        if self.peek(len(_GZIP)) == _GZIP:
            self._chunks = self._inflate(self._chunks)

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, or as many as there are, which stay to be read."""
        beginning = self.more(b"", size)
        self._chunks = chain((beginning,), self._chunks)
        return beginning[:size]

    def more(self, kept: bytes, needed: int) -> bytes:
        """`kept` and what follows it.

        Args:
            kept: the end of what was given before.
            needed: how many bytes there must be in all; fewer only where the source ends.
        """
        parts, size = [kept], len(kept)
        while size < needed:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            size += len(chunk)
        return b"".join(parts)

    def close(self) -> None:
        """Closes the file, if it is ours."""
        if self._owned:
            self._file.close()

    def _read(self) -> Iterator[bytes]:
        # read1 gives what is there where read waits for all of it; raw files read so anyway.
        read = getattr(self._file, "read1", self._file.read)
        while chunk := read(_CHUNK):
            yield chunk

    def _inflate(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        inflater = before = zlib.decompressobj(_ZLIB_GZIP)
        left = b""
        try:
            for chunk in chunks:
                left = chunk
                while left:
                    if inflater.eof:
                        # Another member may follow (`cat a.gz b.gz`), or padding.
                        left = left.lstrip(b"\x00")
                        if not left:
                            break
                        inflater = zlib.decompressobj(_ZLIB_GZIP)
                    before = inflater.copy()
                    # Never more than a chunk at once: a kilobyte may inflate to a megabyte.
                    if data := inflater.decompress(left, _CHUNK):
                        yield data
                    left = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            while data := inflater.decompress(b"", _CHUNK):
                yield data
        except zlib.error as error:
            self.fault = f"gzip is damaged: {error}"
            yield from _salvage(before, left)
            return
        if not inflater.eof:
            self.fault = "gzip ends early"


def _salvage(inflater: zlib._Decompress, damaged: bytes) -> Iterator[bytes]:
    """What `damaged` inflates to before its damage: zlib gives nothing of a call that fails.

    So ever smaller pieces are tried, each on a copy of the state before it.
    """
    size = len(damaged)
    while size and damaged:
        before = inflater.copy()
        try:
            data = inflater.decompress(damaged[:size], _CHUNK)
        except zlib.error:
            inflater, size = before, size // 2
            continue
        damaged = inflater.unconsumed_tail + damaged[size:]
        if data:
            yield data
