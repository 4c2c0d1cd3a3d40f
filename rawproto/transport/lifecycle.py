"""Where a connection stands, and what takes it further (specification section 11.6).

How a client gets as far as an agreement is `attempt`'s, how a listener does `halfopen`'s.
"""

from __future__ import annotations

from enum import Enum

from rawproto.transport.table import Table

__all__ = ["TRANSITIONS", "Event", "State"]


class State(Enum):
    """Where a connection stands."""

    HANDSHAKE = "handshake"
    ESTABLISHED = "established"
    CLOSING = "closing"
    DRAINING = "draining"
    CLOSED = "closed"


class Event(Enum):
    """What takes a connection further."""

    AGREED = "the handshake comes to an agreement"
    FAILED = "the handshake fails (3.4)"
    ENDED = "its user ends it (11.4)"
    BROKEN = "the peer breaks a rule"
    PACKET = "another packet opens"
    CLOSE = "a packet with CLOSE opens"
    SILENCE = "silence for too long (7.5, 11.1)"
    RESET = "RESET with a token of the peer's (11.5)"
    TIME = "its time is up (11.3)"


TRANSITIONS: Table[State, Event] = Table(
    (State.HANDSHAKE, Event.AGREED, "takes the peer's parameters", State.ESTABLISHED),
    (State.HANDSHAKE, Event.FAILED, "tells its user why", State.CLOSED),
    (State.HANDSHAKE, Event.ENDED, "", State.CLOSED),
    (State.ESTABLISHED, Event.FAILED, "a client not yet confirmed: likewise", State.CLOSED),
    (State.ESTABLISHED, Event.SILENCE, "tells its user", State.CLOSED),
    (State.ESTABLISHED, Event.RESET, "tells its user", State.CLOSED),
    (State.ESTABLISHED, Event.ENDED, "sends CLOSE", State.CLOSING),
    (State.ESTABLISHED, Event.BROKEN, "sends CLOSE with its code", State.CLOSING),
    (State.ESTABLISHED, Event.CLOSE, "sends one CLOSE of code NONE", State.DRAINING),
    (State.CLOSING, Event.PACKET, "sends CLOSE again, ever more seldom (11.3)", State.CLOSING),
    (State.CLOSING, Event.CLOSE, "", State.CLOSED),
    (State.CLOSING, Event.RESET, "", State.CLOSED),
    (State.CLOSING, Event.TIME, "", State.CLOSED),
    (State.DRAINING, Event.RESET, "", State.CLOSED),
    (State.DRAINING, Event.TIME, "", State.CLOSED),
)
