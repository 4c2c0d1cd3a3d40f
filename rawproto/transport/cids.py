"""Connection IDs: those given to the peer, and those it gave (specification section 10.1).

::

    ours    NEW_CONNECTION_ID 1, 2, 3 ---------->     four that the peer may use,
            <--------- RETIRE_CONNECTION_ID 0         a new one for each that it retires
            NEW_CONNECTION_ID 4 ---------------->

Their order is their sequence: a side uses one after the other, and never one again. What
makes a connection ID, and what leads its packets here, is the endpoint's.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest

from rawproto.errors import RemoteProtocolError
from rawproto.transport.constants import MAX_CIDS, CloseCode
from rawproto.transport.control import Control
from rawproto.wire.rpt_frames import NewConnectionIDFrame, RetireConnectionIDFrame

__all__ = ["LocalCIDs", "PeerCIDs"]

_MOST_WAITING = 4 * MAX_CIDS
"""Retirements that wait to be sent; an honest peer causes no more than MAX_CIDS at once."""


class LocalCIDs:
    """Those of this side.

    Args:
        first: that of the handshake, whose sequence is 0.
        draw: makes one that leads packets here: it and its reset token.
        forget: one leads nowhere any more.
        control: where frames go that have to be sent.

    Attributes:
        known: all that lead here: those the peer may use, and the last ones that it retired,
            because packets may still be under way.
    """

    __slots__ = ("_control", "_draw", "_forget", "_given", "_next", "_retired", "_told")

    def __init__(
        self,
        first: int,
        draw: Callable[[], tuple[int, bytes]],
        forget: Callable[[int], None],
        control: Control,
    ) -> None:
        self._draw, self._forget = draw, forget
        self._control = control
        self._given: dict[int, tuple[int, bytes]] = {0: (first, b"")}
        self._retired: list[int] = []  # an empty deque takes 700 bytes
        self._next = 1
        self._told = 1  # those below were sent, though some may wait to be sent again

    @property
    def known(self) -> list[int]:
        return [*self._retired, *[cid for cid, _ in self._given.values()]]

    def supply(self) -> None:
        """Gives the peer as many as it may have."""
        while len(self._given) < MAX_CIDS:
            sequence = self._next
            self._next += 1
            self._given[sequence] = self._draw()
            frame = NewConnectionIDFrame(sequence, 0, *self._given[sequence])
            self._control.put(("cid", sequence), frame)

    def frame(self, sequence: int) -> NewConnectionIDFrame | None:
        """What tells the peer of one again, None if it has retired it."""
        if sequence not in self._given:
            return None
        self._told = max(self._told, sequence + 1)
        return NewConnectionIDFrame(sequence, 0, *self._given[sequence])

    def on_retired(self, frame: RetireConnectionIDFrame) -> None:
        """The peer uses one no more, and gets another for it.

        Raises:
            RemoteProtocolError: it never had it.
        """
        waits = ("cid", frame.sequence) in self._control.waiting
        if frame.sequence >= (self._told if waits else self._next):
            raise RemoteProtocolError(CloseCode.PROTOCOL, "a connection ID never given is retired")
        if frame.sequence not in self._given:
            return
        self._retired.append(self._given.pop(frame.sequence)[0])
        self._control.drop(("cid", frame.sequence))
        if len(self._retired) > MAX_CIDS:
            self._forget(self._retired.pop(0))
        self.supply()


class PeerCIDs:
    """Those of the peer.

    Args:
        control: where frames go that have to be sent.

    Attributes:
        current: the one that packets go to.
    """

    __slots__ = ("_control", "_floor", "_known", "current")

    def __init__(self, control: Control) -> None:
        self._control = control
        self._known: dict[int, tuple[int, bytes]] = {}
        self._floor = 0
        self.current = 0

    def begin(self, cid: int, reset_token: bytes) -> None:
        """What came in the handshake."""
        self._known[0] = cid, reset_token
        self.current = cid

    def on_new(self, frame: NewConnectionIDFrame) -> None:
        """The peer gives another one.

        Raises:
            RemoteProtocolError: it is too many, or contradicts another.
        """
        if frame.retire_prior_to > frame.sequence:
            raise RemoteProtocolError(CloseCode.FRAME, "a connection ID that retires itself")
        given = frame.cid, frame.reset_token
        if frame.sequence < self._floor:
            self._retire(frame.sequence)  # it came late, or again
            return
        if self._known.setdefault(frame.sequence, given) != given:
            raise RemoteProtocolError(CloseCode.PROTOCOL, "two connection IDs of one number")
        self._go_to(frame.retire_prior_to)
        if len(self._known) > MAX_CIDS:
            raise RemoteProtocolError(CloseCode.CID_LIMIT, "more connection IDs than allowed")

    def next(self) -> None:
        """Packets go to a fresh one from now on, if the peer has given one."""
        if len(self._known) > 1:
            self._go_to(sorted(self._known)[1])

    def _go_to(self, floor: int) -> None:
        """Those below a sequence are retired; there is one that is not."""
        self._floor = max(self._floor, floor)
        for sequence in [each for each in self._known if each < self._floor]:
            del self._known[sequence]
            self._retire(sequence)
        self.current = self._known[min(self._known)][0]

    def _retire(self, sequence: int) -> None:
        key = "retire", sequence
        if key in self._control.waiting:
            return
        self._control.put(key, RetireConnectionIDFrame(sequence))
        waiting = [key for key in self._control.waiting if isinstance(key, tuple)]
        if sum(key[0] == "retire" for key in waiting) > _MOST_WAITING:
            raise RemoteProtocolError(CloseCode.CID_LIMIT, "too many connection IDs to retire")

    def knows(self, cid: int, reset_token: bytes) -> bool:
        """Whether a RESET about one of them is the peer's own."""
        for known, token in self._known.values():
            if known == cid:
                return compare_digest(token, reset_token)
        return False
