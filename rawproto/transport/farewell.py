"""The end of a connection: CLOSE, said until it is heard (specification section 11.3).

::

    CLOSE ------------>        who closes says it again each PTO, and for the 1st, 2nd, 4th,
      <------------ CLOSE      8th packet that still comes; who hears it answers once
"""

from __future__ import annotations

from contextlib import suppress

from rawproto.errors import NotAuthorizedError, RawprotoError, RemoteProtocolError, WireError
from rawproto.transport.constants import CloseCode
from rawproto.wire.rpt_frames import CloseFrame, FrameType, parse_frame

__all__ = ["Farewell", "error_of"]

_MAX_REASON = 255
_PING = FrameType.PING
_CLOSING_PTOS, _DRAINING_PTOS = 6, 3
# A process that got no CPU for a second measures a PTO of 4 s, and its exit waits for this.
_MOST_PTO_NS = 500_000_000


class Farewell:
    """What is left of a connection that ends.

    Args:
        code: of the CLOSE to be sent.
        reason: in words, cut to 255 bytes.
        now_ns: by now.
        pto_ns: of the path; counts as half a second at most.
        answer: it answers the peer's CLOSE, and is said once.

    Attributes:
        frame: the CLOSE, its bytes.
        due: whether it is to be sent now.
    """

    __slots__ = ("_again_ns", "_came", "_pto_ns", "_until_ns", "due", "frame")

    def __init__(self, code: int, reason: str, now_ns: int, pto_ns: int, *, answer: bool) -> None:
        reason = reason.encode()[:_MAX_REASON].decode(errors="ignore")
        self.frame = CloseFrame(code, reason).emit()
        self.due = True
        self._pto_ns = pto_ns = min(pto_ns, _MOST_PTO_NS)
        self._until_ns = now_ns + (_DRAINING_PTOS if answer else _CLOSING_PTOS) * pto_ns
        self._again_ns = self._until_ns if answer else now_ns + pto_ns
        self._came = 0

    @property
    def timeout_ns(self) -> int:
        """When there is something to do, ns; 0: at once."""
        return 0 if self.due else min(self._again_ns, self._until_ns)

    def handle_timeout(self, now_ns: int) -> bool:
        """Time has passed: whether all may be forgotten."""
        if now_ns >= self._again_ns:
            self.due = True
            self._again_ns = now_ns + self._pto_ns
        return now_ns >= self._until_ns

    def on_packet(self, frames: bytes) -> bool:
        """A packet came although CLOSE was sent: whether it was the peer's own CLOSE."""
        if _has_close(frames):
            self.due = False
            return True
        self._came += 1
        if self._came & (self._came - 1) == 0:
            self.due = True
        return False


def _has_close(frames: bytes) -> bool:
    """Whether one of the frames is CLOSE, as far as they can be read."""
    at = 0
    with suppress(WireError):
        while at < len(frames):
            if frames[at] == _PING:  # of which more fit than anybody would want to parse
                at += 1
                continue
            frame, at = parse_frame(frames, at)
            if isinstance(frame, CloseFrame):
                return True
    return False


def error_of(frame: CloseFrame) -> RawprotoError | None:
    """What a peer's CLOSE means for the user; None if all is well."""
    names = {each.value: each.name.lower().replace("_", " ") for each in CloseCode}
    name = names.get(frame.code, f"code {frame.code}")
    reason = frame.reason or f"the peer closed the connection: {name}"
    if frame.code == CloseCode.NOT_AUTHORIZED:
        return NotAuthorizedError(reason)
    return RemoteProtocolError(frame.code, reason) if frame.code else None
