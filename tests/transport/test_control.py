"""Control frames that wait: each key once, in their order, as far as they fit."""

from __future__ import annotations

from rawproto.transport.control import Control
from rawproto.wire.rpt_frames import MaxDataFrame, PathResponseFrame, PingFrame


def test_frames_leave_in_the_order_in_which_they_were_asked_for() -> None:
    control = Control()
    control.put("a", MaxDataFrame(1))
    control.put("b", PingFrame())
    assert control.take(100) == ("a", MaxDataFrame(1).emit())
    assert control.take(100) == ("b", PingFrame().emit())
    assert control.take(100) is None


def test_newer_frame_takes_the_place_of_the_one_under_its_key() -> None:
    control = Control()
    control.put("limit", MaxDataFrame(1))
    control.put("limit", MaxDataFrame(2))
    assert control.take(100) == ("limit", MaxDataFrame(2).emit())
    assert not control.waiting


def test_frame_without_room_waits_while_a_smaller_one_goes() -> None:
    control = Control()
    control.put("large", PathResponseFrame(bytes(8)))
    control.put("small", PingFrame())
    assert control.take(8) == ("small", PingFrame().emit())
    assert control.take(8) is None
    assert control.take(9) == ("large", PathResponseFrame(bytes(8)).emit())


def test_dropped_frame_does_not_leave() -> None:
    control = Control()
    control.put("a", PingFrame())
    control.drop("a")
    control.drop("never there")
    assert control.take(100) is None
