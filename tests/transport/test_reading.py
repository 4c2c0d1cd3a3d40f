"""Packets whose frames are many: what it costs to read them grows with their length only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from rawproto.transport import reading
from rawproto.transport.config import Config
from rawproto.transport.reading import read_frames
from rawproto.wire.rpt_frames import parse_frames
from tests.transport.halves import Side


class Counted(bytes):
    """Bytes that count how many of them were copied."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if isinstance(found, bytes):
            self.copied += len(found)
        return found


def reader() -> Any:
    """What `read_frames` needs of a connection."""
    side = Side(Config(), client=False)
    return SimpleNamespace(
        streams=side.streams, outgoing=side.outgoing, incoming=side.incoming, client=False
    )


@pytest.mark.parametrize("read", [lambda data: read_frames(reader(), data, 0), parse_frames])
def test_padding_here_and_there_is_not_copied_over_and_over(read: Any) -> None:
    packet = Counted(b"\0\0\1" * 20_000)
    assert read(packet)
    assert packet.copied <= len(packet)


def test_packet_full_of_pings_wants_one_ack_and_is_not_parsed() -> None:
    with patch.object(reading, "parse_frame", side_effect=AssertionError):
        assert read_frames(reader(), b"\1" * 1400, 0)
        assert read_frames(reader(), bytes(1400), 0) is False
