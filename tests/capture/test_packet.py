"""Captured packets as values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rawproto.capture import CapturedPacket


def test_a_packet_is_whole_unless_told_otherwise() -> None:
    packet = CapturedPacket(time_ns=1, data=b"abc")
    assert packet.original_length == 3
    assert CapturedPacket(time_ns=1, data=b"abc", original_length=0).original_length == 0
    assert packet == CapturedPacket(
        time_ns=1,
        data=b"abc",
        original_length=3,
        link_type=1,
        interface=0,
        direction="",
        comment="",
    )


def test_packets_are_changed_by_copying() -> None:
    packet = CapturedPacket(time_ns=1, data=b"abc", direction="in", interface="eth0")
    assert replace(packet, comment="!") == CapturedPacket(
        time_ns=1, data=b"abc", direction="in", interface="eth0", comment="!"
    )
    assert not hasattr(packet, "__dict__"), "a million of them must stay small"
    with pytest.raises(AttributeError):
        packet.colour = "red"
