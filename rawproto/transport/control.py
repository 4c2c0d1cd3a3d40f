"""Control frames that wait to be sent, each under a key, so that none waits twice.

A frame that was lost is asked for again by its key: whoever keeps the state then gives
what is true by that time, or nothing.
"""

from __future__ import annotations

from collections.abc import Hashable

from rawproto.wire.rpt_frames import Frame

__all__ = ["Control"]


class Control:
    """The frames that wait, in the order in which they were asked for."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[Hashable, bytes] = {}

    def put(self, key: Hashable, frame: Frame) -> None:
        """Has a frame sent; one that waits under the same key is replaced."""
        self.waiting[key] = frame.emit()

    def drop(self, key: Hashable) -> None:
        """A frame need not be sent any more."""
        self.waiting.pop(key, None)

    def take(self, room: int) -> tuple[Hashable, bytes] | None:
        """The next frame that fits into `room` bytes, with its key."""
        for key, frame in self.waiting.items():
            if len(frame) <= room:
                del self.waiting[key]
                if not self.waiting:
                    self.waiting = {}  # the old one keeps its room: 300 bytes of each connection
                return key, frame
        return None
