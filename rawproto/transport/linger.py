"""How long a side that ends well waits for what it sent to be acknowledged (section 11.4).

As long as the peer gives signs of life, which it is asked for: one that reads slowly, or
makes a pause, gets it all. A bound on all of it keeps one that never reads from keeping us.
Datagrams may be lost: for those that wait in vain it is not worth waiting so long.
"""

from __future__ import annotations

from rawproto.errors import ConnectionLostError
from rawproto.transport.config import Config
from rawproto.transport.constants import Kind

__all__ = ["DATAGRAMS_NS", "Linger"]

DATAGRAMS_NS = 3_000_000_000
"""So much silence ends the wait of a connection that carries datagrams alone."""


class Linger:
    """The wait of one connection.

    Args:
        config: its settings.
        now_ns: by now.
        arrived: whether there is nothing to wait for.

    Attributes:
        until_ns: when to look again.
    """

    __slots__ = ("_config", "_silence_ns", "_since_ns", "until_ns")

    def __init__(self, config: Config, now_ns: int, *, arrived: bool) -> None:
        self._config = config
        self._since_ns = now_ns
        self._silence_ns = config.linger_ns
        if config.kind is Kind.DGRAM:
            self._silence_ns = min(config.linger_ns, DATAGRAMS_NS)
        self.until_ns = now_ns if arrived else now_ns + self._silence_ns // 2

    def goes_on(self, now_ns: int, heard_ns: int) -> bool:
        """Whether to wait on, and ask the peer for a sign of life, having looked at `until_ns`.

        Args:
            now_ns: by now.
            heard_ns: when a packet of the peer's opened last.
        """
        heard_ns = max(heard_ns, self._since_ns)
        most_ns = self._since_ns + self._config.linger_most_ns
        over_ns = min(heard_ns + self._silence_ns, most_ns)
        self.until_ns = min(now_ns + self._silence_ns // 2, over_ns)
        return now_ns < over_ns

    def lost(self) -> ConnectionLostError:
        """What to tell the user who waited for nothing."""
        return ConnectionLostError("closed before the peer had acknowledged all that was sent")
