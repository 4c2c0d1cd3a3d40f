"""Datagrams of a connection: those that came, and whether another may leave (section 6.4).

They are lost where there is no room for them, and nothing here sends one again. In which packet
those that wait leave is `sender`'s.
"""

from __future__ import annotations

from collections.abc import Callable

from rawproto.errors import LocalProtocolError, RemoteProtocolError
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode
from rawproto.transport.events import DatagramReadable, Event
from rawproto.transport.sender import OVERHEAD_BYTES, Sender
from rawproto.wire.rpt_frames import DATAGRAM_HEAD

__all__ = ["Datagrams"]


class Datagrams:
    """Those of one connection.

    Args:
        config: this side's settings.
        sender: sends them.
        emit: where events go.

    Attributes:
        peer_bytes: the largest that the peer takes.
    """

    __slots__ = ("_came", "_config", "_emit", "_sender", "peer_bytes")

    def __init__(self, config: Config, sender: Sender, emit: Callable[[Event], None]) -> None:
        self._config = config
        self._sender = sender
        self._emit = emit
        self._came: list[bytes] = []
        self.peer_bytes = 0

    @property
    def max_bytes(self) -> int:
        """The largest that can be sent now."""
        return min(self._sender.mtu.size - OVERHEAD_BYTES - DATAGRAM_HEAD.size, self.peer_bytes)

    def send(self, data: bytes) -> bool:
        """Queues a datagram: False if the queue is full, and it is lost.

        Raises:
            LocalProtocolError: it is too large.
        """
        if len(data) > self.max_bytes:
            words = f"a datagram of {len(data)} bytes; {self.max_bytes} fit"
            raise LocalProtocolError(CloseCode.MESSAGE, words)
        waiting = self._sender.datagrams
        if len(waiting) >= self._config.datagram_queue:
            return False
        waiting.append(bytes(data))
        return True

    def receive(self) -> bytes | None:
        """The next one that came, None for none."""
        return self._came.pop(0) if self._came else None

    def on_datagram(self, data: bytes) -> None:
        """One came; it is lost if too many wait.

        Raises:
            RemoteProtocolError: it is larger than allowed.
        """
        if len(data) > self._config.max_datagram_bytes:
            raise RemoteProtocolError(CloseCode.PROTOCOL, "a datagram larger than allowed")
        if not self._came:
            self._emit(DatagramReadable())
        if len(self._came) < self._config.datagram_queue:
            self._came.append(data)
