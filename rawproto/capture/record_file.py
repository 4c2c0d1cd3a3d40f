"""A file that holds whole records only, whatever ends the writing.

`Writer` is for packets one by one through Python's buffers. A live capture writes
thousands of finished records at once, straight to the descriptor, and must leave a
readable file behind when the disk is full in the middle of them: then the file is cut
back to the end of the last whole record, and how many went in is known.

It knows no format: a record is bytes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Self

__all__ = ["RecordFile"]


class RecordFile:
    """A file opened for writing; a context manager.

    Args:
        path: what to write anew, or a descriptor, which stays open.

    Attributes:
        name: the path, "" for a descriptor.
        written: how many bytes are in it.
        failure: why not everything was written: a full disk, a quota; None so far.
        cut: whether what had been written of a record then was taken away again.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | int) -> None:
        self._owned = isinstance(path, str)
        self.name = path if isinstance(path, str) else ""
        self.written = 0
        self.failure: OSError | None = None
        self.cut = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o666) if isinstance(path, str) else path
        # What a pipe has taken is gone, so there is nothing to cut back.
        self._can_cut = self._owned and stat.S_ISREG(os.fstat(self._fd).st_mode)

    def write(self, parts: Sequence[bytes], parts_per_record: int = 1) -> int:
        """Writes records, all or as many as there is room for.

        Args:
            parts: the records, each as so many pieces of bytes, one after the other.
            parts_per_record: how many.

        Returns:
            How many records went in; fewer than there are only where `failure` says why.

        Raises:
            BrokenPipeError: nobody reads the pipe any more.
        """
        data = b"".join(parts)
        done = 0
        try:
            done = os.write(self._fd, data)
            while done < len(data):
                with memoryview(data) as view:
                    done += os.write(self._fd, view[done:])
        except BrokenPipeError:
            raise
        except OSError as error:
            error.filename = self.name or None
            self.failure = error
            whole, end = _whole_records(parts, parts_per_record, done)
            if self._can_cut:
                os.ftruncate(self._fd, self.written + end)
                os.lseek(self._fd, 0, os.SEEK_END)
                self.cut = True
            self.written += end
            return whole
        self.written += done
        return len(parts) // parts_per_record

    @property
    def closed(self) -> bool:
        """Whether it can't be written to any more."""
        return self._fd < 0

    def close(self) -> None:
        """Closes what it opened. May be called twice."""
        if self._owned and not self.closed:
            os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _whole_records(parts: Sequence[bytes], parts_per_record: int, done: int) -> tuple[int, int]:
    """(how many records are whole in the first `done` bytes, where the last of them ends)."""
    whole = end = 0
    for at in range(0, len(parts), parts_per_record):
        size = sum(map(len, parts[at : at + parts_per_record]))
        if end + size > done:
            break
        whole, end = whole + 1, end + size
    return whole, end
