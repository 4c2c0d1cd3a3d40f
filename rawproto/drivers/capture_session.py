"""A live capture into files: from the ring's blocks to the disk, with nothing lost unsaid.

`CaptureSession` joins a `CaptureSource`, what makes records of its frames, and the files
they go into. It ends at a count, a time, a wish, a full disk, or with its interface; what
was captured by then is in the file, and what is not there has been counted::

    received   what passed the filter                       (the kernel counts)
    dropped    of that, found no room in the ring           (the kernel counts)
    captured   of that, written to a file
    lost       of that, not written, because the file took no more
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

from rawproto.capture.record_file import RecordFile
from rawproto.capture.rotation import Rotation
from rawproto.drivers.capture_records import CookedRecords, PcapngRecords, PcapRecords, Records
from rawproto.drivers.capture_source import CaptureOptions, CaptureSource
from rawproto.errors import UsageError
from rawproto.link.admission import COOKED, link_type_of
from rawproto.link.ring import Block, Record

__all__ = ["STDOUT", "CaptureFileOptions", "CaptureSession"]

STDOUT = "-"
"""Stands for the standard output."""

_FORMATS: dict[str, Literal["pcap", "pcapng"]] = {
    ".pcap": "pcap",
    ".cap": "pcap",
    ".pcapng": "pcapng",
}


@dataclass(slots=True, kw_only=True)
class CaptureFileOptions:
    """Where a capture goes.

    Attributes:
        path: of the file; `-` for the standard output.
        format: None tells it by the path's suffix, and is pcapng for the standard output.
        comment: about the whole capture (pcapng only).
        rotate_bytes: begin a new file when one is so large; None for never.
        rotate_ns: likewise when one has lasted so long.
        keep: how many files stay; None for all.
        count: end after so many packets; None for no limit.
        duration_ns: end after so long; None for no limit.
    """

    path: str
    format: Literal["pcap", "pcapng"] | None = None
    comment: str = ""
    rotate_bytes: int | None = None
    rotate_ns: int | None = None
    keep: int | None = None
    count: int | None = None
    duration_ns: int | None = None

    def __post_init__(self) -> None:
        if self.format is None:
            suffix = os.path.splitext(self.path)[1].lower()
            self.format = "pcapng" if self.path == STDOUT else _FORMATS.get(suffix)
        if self.format is None:
            raise UsageError(f"{self.path}: name it .pcap or .pcapng, or give the format")
        if self.comment and self.format == "pcap":
            raise UsageError("a comment: only pcapng files can carry it")
        if self.path == STDOUT and (self.rotate_bytes or self.rotate_ns):
            raise UsageError("rotation: needs a file with a name")
        for what, value in (("count", self.count), ("time", self.duration_ns)):
            if value is not None and value < 1:
                raise UsageError(f"the {what} to capture must be above 0")


class CaptureSession:
    """A capture that goes into files; a context manager.

    Interfaces and files are open when it is made, so whoever runs it may give up privileges
    before `run`, unless files are rotated.

    Args:
        options: what to capture.
        file: where to.

    Attributes:
        captured: packets written.
        lost: packets that the last file took no more; `failure` says why.
        failure: that, or None.
        files: how many were begun.
        source: where the packets come from.

    Raises:
        UsageError: a filter that cannot be read, a file of no known format.
        PrivilegeError: the process may not open packet sockets.
        LinkError: no such interface.
        OSError: the file cannot be opened.
    """

    def __init__(self, options: CaptureOptions, file: CaptureFileOptions) -> None:
        self._file_options = file
        self._rotation = Rotation(
            file.path,
            size_bytes=file.rotate_bytes,
            period_ns=file.rotate_ns,
            keep=file.keep,
            begin_ns=time.time_ns(),
        )
        self.captured = self.lost = self.files = 0
        self.failure: OSError | None = None
        self.source = CaptureSource(options)
        try:
            self._records = _records(self.source, file)
            self._file = self._open(time.time_ns())
        except BaseException:
            self.source.close()
            raise

    def run(self, on_turn: Callable[[], None] = lambda: None) -> None:
        """Captures until the end.

        Args:
            on_turn: called after each block, and twice a second at least; it may call
                `source.finish`.

        Raises:
            LinkError: an interface is gone; the file has what it brought.
            KeyboardInterrupt: `on_turn` or a signal handler raised it; nothing is added then.
            BrokenPipeError: nobody reads the pipe any more.
        """
        duration_ns = self._file_options.duration_ns
        deadline_ns = None if duration_ns is None else time.monotonic_ns() + duration_ns
        try:
            for block in self.source.blocks(deadline_ns):
                if block is not None:
                    self._take(block)
                    if self.failure is not None:
                        self._abandon()
                        return
                    if self.captured == self._file_options.count:
                        return
                on_turn()
        except KeyboardInterrupt:
            self._file.close()  # nobody reads the pipe, so what belongs at its end would hang, too
            raise
        finally:
            self._end_file()

    def close(self) -> None:
        """Closes the file and gives the descriptors back. May be called twice."""
        self._file.close()
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, block: Block) -> None:
        """Writes a block: as a whole, or packet by packet where one may begin a new file."""
        records, count = self._records, self._file_options.count
        while block.left:
            limit = block.left if count is None else min(block.left, count - self.captured)
            if not limit:
                return
            if self._may_rotate(block):
                limit = 1
                time_ns = _time_of(block)
                if self._rotation.is_due(self._file.written, time_ns):
                    self._end_file()
                    try:
                        self._file = self._open(time_ns)
                    except OSError as error:
                        self.failure, self.lost = error, block.left
                        return
            parts = records.encode(block, limit)
            written = self._file.write(parts, records.parts_per_record)
            self.captured += written
            if self._file.failure is not None:
                self.failure = self._file.failure
                self.lost = len(parts) // records.parts_per_record - written + block.left
                return

    def _may_rotate(self, block: Block) -> bool:
        """Whether a packet of this block may begin a new file."""
        rotation = self._rotation
        if rotation.end_ns is not None and block.last_ns >= rotation.end_ns:
            return True
        # No record is longer in a file than in the ring.
        size_bytes = rotation.size_bytes
        return size_bytes is not None and self._file.written + len(block.data) >= size_bytes

    def _abandon(self) -> None:
        """Counts what is in the ring and can't be written any more."""
        self.source.finish()
        for block in self.source.blocks():
            if block is not None:
                self.lost += block.left

    def _open(self, time_ns: int) -> RecordFile:
        path = self._file_options.path
        if path == STDOUT:
            file = RecordFile(sys.stdout.fileno())
        else:
            file = RecordFile(self._rotation.next_name(time_ns) if self._rotation.active else path)
        self.files += 1
        file.write([self._records.begin()])
        if file.failure is not None:
            file.close()
            raise file.failure
        return file

    def _end_file(self) -> None:
        """What stands at the end, if there is room for it, and closes the file."""
        ring = self.source.ring
        if not self._file.closed and (self._file.failure is None or self._file.cut):
            self._file.write([self._records.end(ring.received, ring.dropped)])
        self._file.close()


def _records(source: CaptureSource, file: CaptureFileOptions) -> Records:
    snaplen = source.options.snaplen
    if file.format == "pcapng":
        return PcapngRecords(source, file.comment)
    if len(source.watched) == 1:
        (only,) = source.watched.values()
        link_type = link_type_of(only.hardware_type)
        if link_type != COOKED:
            return PcapRecords(link_type, snaplen)
    return CookedRecords(snaplen)


def _time_of(block: Block) -> int:
    """When the next packet of a block came, ns since the epoch."""
    record = Record.parse(block.data, block.at)
    return record.seconds * 1_000_000_000 + record.nanoseconds
