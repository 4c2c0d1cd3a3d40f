"""The end of a connection: CLOSE, said until it is heard (specification section 11.3).

::

    CLOSE ------------>        who closes says it again for the 1st, 2nd, 4th, 8th packet
      <------------ CLOSE      that still comes; who hears it answers once and is silent
"""

from __future__ import annotations

from contextlib import suppress

from rawproto.errors import NotAuthorizedError, RawprotoError, RemoteProtocolError, WireError
from rawproto.transport.constants import CloseCode
from rawproto.wire.rpt_frames import CloseFrame, parse_frames

__all__ = ["Farewell", "error_of"]

_MAX_REASON = 255


class Farewell:
    """What is left of a connection that ends.

    Args:
        code: of the CLOSE to be sent.
        reason: in words, cut to 255 bytes.
        until_ns: when all is forgotten.

    Attributes:
        frame: the CLOSE, its bytes.
        due: whether it is to be sent now.
        until_ns: as given.
    """

    __slots__ = ("_came", "due", "frame", "until_ns")

    def __init__(self, code: int, reason: str, until_ns: int) -> None:
        reason = reason.encode()[:_MAX_REASON].decode(errors="ignore")
        self.frame = CloseFrame(code, reason).emit()
        self.due = True
        self.until_ns = until_ns
        self._came = 0

    def on_packet(self, frames: bytes) -> bool:
        """A packet came although CLOSE was sent: whether it was the peer's own CLOSE."""
        with suppress(WireError):
            if any(isinstance(frame, CloseFrame) for frame in parse_frames(frames)):
                self.due = False
                return True
        self._came += 1
        if self._came & (self._came - 1) == 0:
            self.due = True
        return False


def error_of(frame: CloseFrame) -> RawprotoError | None:
    """What a peer's CLOSE means for the user; None if all is well."""
    names = {each.value: each.name.lower().replace("_", " ") for each in CloseCode}
    name = names.get(frame.code, f"code {frame.code}")
    reason = frame.reason or f"the peer closed the connection: {name}"
    if frame.code == CloseCode.NOT_AUTHORIZED:
        return NotAuthorizedError(reason)
    return RemoteProtocolError(frame.code, reason) if frame.code else None
