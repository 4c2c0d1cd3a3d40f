"""When a capture begins a new file, what it is called, and which files stay."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rawproto.capture.rotation import Rotation
from rawproto.errors import UsageError

BEGIN_NS = 1_700_000_000_000_000_000


def test_by_size_a_file_is_left_when_it_has_reached_it() -> None:
    rotation = Rotation("out.pcap", size_bytes=1000, begin_ns=BEGIN_NS)
    assert not rotation.is_due(999, BEGIN_NS)
    assert rotation.is_due(1000, BEGIN_NS)
    assert rotation.end_ns is None


def test_by_time_periods_follow_each_other_whether_packets_come_or_not() -> None:
    rotation = Rotation("out.pcap", period_ns=10, begin_ns=BEGIN_NS)
    rotation.next_name(BEGIN_NS)
    assert not rotation.is_due(10**9, BEGIN_NS + 9)
    assert rotation.is_due(0, BEGIN_NS + 10)
    rotation.next_name(BEGIN_NS + 35)
    # The next period ends where it would have, had there been packets in all of them.
    assert rotation.end_ns == BEGIN_NS + 40


def test_one_that_does_not_rotate_is_never_due() -> None:
    rotation = Rotation("out.pcap", begin_ns=BEGIN_NS)
    assert not rotation.active
    assert not rotation.is_due(1 << 40, BEGIN_NS * 2)


def test_names_carry_number_and_time_before_the_suffix() -> None:
    rotation = Rotation("some.where/out.pcapng", size_bytes=1, begin_ns=BEGIN_NS)
    names = [rotation.next_name(BEGIN_NS + at * 10**9) for at in range(3)]
    assert names == sorted(set(names))
    for number, name in enumerate(names, start=1):
        assert re.fullmatch(rf"some\.where/out_0000{number}_202311\d{{8}}\.pcapng", name)


def test_no_more_files_than_those_to_keep_are_ever_there(tmp_path: Path) -> None:
    rotation = Rotation(str(tmp_path / "out.pcap"), size_bytes=1, keep=2, begin_ns=BEGIN_NS)
    made = []
    for at in range(5):
        made.append(Path(rotation.next_name(BEGIN_NS + at)))
        assert len(list(tmp_path.iterdir())) <= 1
        made[-1].touch()
    assert sorted(tmp_path.iterdir()) == made[-2:]


def test_file_that_somebody_took_away_is_no_error(tmp_path: Path) -> None:
    rotation = Rotation(str(tmp_path / "out.pcap"), size_bytes=1, keep=1, begin_ns=BEGIN_NS)
    rotation.next_name(BEGIN_NS)
    assert rotation.next_name(BEGIN_NS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size_bytes": 0}, "the size must be 1 or more, not 0"),
        ({"period_ns": -1}, "the period must be 1 or more, not -1"),
        ({"size_bytes": 1, "keep": 0}, "the number kept must be 1 or more, not 0"),
        ({"keep": 3}, "files to keep, but no size and no time to rotate by"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Rotation("out.pcap", begin_ns=BEGIN_NS, **options)
