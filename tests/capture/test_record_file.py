"""A file of whole records, whatever ends the writing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest.mock import patch

import pytest

from rawproto.capture.record_file import RecordFile

RECORDS = [b"head1", b"data-one", b"head2", b"", b"head3", b"d3"]
"""Three, of two pieces each: 13, 5 and 7 bytes."""


def writing_only(budget: int):
    """A disk with room for so many bytes, which takes 4 at a time."""
    real = os.write
    left = budget

    def write(descriptor: int, data: bytes) -> int:
        nonlocal left
        if not left and len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = real(descriptor, bytes(data[: min(4, left)]))
        left -= done
        return done

    return patch("rawproto.capture.record_file.os.write", write)


@pytest.mark.parametrize("room", range(27))
def test_full_disk_leaves_whole_records_and_says_how_many(tmp_path: Path, room: int) -> None:
    path = tmp_path / "file"
    whole = sum(end <= room for end in (13, 18, 25))
    with RecordFile(str(path)) as file, writing_only(room):
        assert file.write(RECORDS, 2) == whole
    wanted = b"".join(RECORDS[: 2 * whole])
    assert path.read_bytes() == wanted
    assert file.written == len(wanted)
    if whole < 3:
        assert file.failure is not None
        assert (file.failure.errno, file.failure.filename) == (errno.ENOSPC, str(path))
        assert file.cut
    else:
        assert file.failure is None


def test_what_is_shorter_still_fits_behind_what_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with RecordFile(str(path)) as file:
        file.write([b"first"])
        with writing_only(2):
            assert file.write([b"second"]) == 0
        file.write([b"3"])
    assert path.read_bytes() == b"first3"


def test_device_that_is_always_full_keeps_nothing() -> None:
    with RecordFile("/dev/full") as file:
        assert file.write(RECORDS, 2) == 0
        assert file.failure is not None
        assert not file.cut


def test_descriptor_of_another_stays_open() -> None:
    reader, writer = os.pipe()
    with RecordFile(writer) as file:
        assert file.write([b"a", b"b"]) == 2
    assert file.closed
    os.write(writer, b"c")
    assert os.read(reader, 10) == b"abc"
    for each in (reader, writer):
        os.close(each)


def test_pipe_without_reader_is_told_to_the_caller() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with RecordFile(writer) as file, pytest.raises(BrokenPipeError):
        file.write([b"a"])
    os.close(writer)
