"""How long a connection waits for its peer, and when it speaks up (sections 7.5 and 11.1).

::

    something in flight     heard nothing for 16 s: the path is dead
    nothing in flight       nothing either way for the idle time: forgotten
                            before that, if it is to be kept alive: PING
"""

from __future__ import annotations

from rawproto.transport.config import Config
from rawproto.transport.sender import Sender

__all__ = ["Silence"]


class Silence:
    """What silence means for one connection.

    Args:
        config: this side's settings.
        sender: knows what is in flight, and when this side was active last.
        now_ns: by now.

    Attributes:
        heard_ns: when a packet opened last.
        keep_alive_ns: after so much silence it is time to be heard, 0 for never.
    """

    __slots__ = ("_config", "_idle_ns", "_sender", "heard_ns", "keep_alive_ns")

    def __init__(self, config: Config, sender: Sender, now_ns: int) -> None:
        self._config = config
        self._sender = sender
        self._idle_ns = 0
        self.heard_ns = now_ns
        self.keep_alive_ns = config.keep_alive_ns

    def begin(self, peer_idle_ms: int, now_ns: int) -> None:
        """The peer has told how long it waits, 0 for ever."""
        idle = [ms for ms in (peer_idle_ms, self._config.idle_timeout_ns // 10**6) if ms]
        self._idle_ns = min(idle, default=0) * 10**6
        self.heard_ns = now_ns

    def due_ns(self) -> int | None:
        """When something is due; None for never."""
        sender = self._sender
        if sender.recovery.in_flight:
            due_ns = self._dead_ns()
        elif self.keep_alive_ns:
            due_ns = sender.active_ns + self.keep_alive_ns
        else:
            return sender.active_ns + self._idle_ns if self._idle_ns else None
        if self._idle_ns and sender.active_ns + self._idle_ns < due_ns:
            return sender.active_ns + self._idle_ns
        return due_ns

    def verdict(self, now_ns: int) -> str:
        """Why the connection is lost by now; "" if it is not."""
        sender = self._sender
        if self._idle_ns and now_ns >= sender.active_ns + self._idle_ns:
            return "nothing was heard for the idle time"
        if sender.recovery.in_flight and now_ns >= self._dead_ns():
            return "the peer does not answer any more"
        return ""

    def wants_ping(self, now_ns: int) -> bool:
        """Whether it is time to be heard, so that the peer and a NAT remember us."""
        sender, keep_alive_ns = self._sender, self.keep_alive_ns
        quiet = not sender.recovery.in_flight
        return bool(keep_alive_ns) and quiet and now_ns >= sender.active_ns + keep_alive_ns

    def _dead_ns(self) -> int:
        """When the path counts as dead: silence counts from when there was something to answer."""
        heard_ns, asked_ns = self.heard_ns, self._sender.recovery.asked_ns
        return (heard_ns if heard_ns > asked_ns else asked_ns) + self._config.dead_path_ns
