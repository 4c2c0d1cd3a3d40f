"""What stands behind a blocking socket of datagrams: one port, many peers.

Each peer has a connection of its own, made by whoever sends first. What is sent before its
handshake is done waits, up to 64 datagrams; nobody is asked about keys. A connection that
was silent for `Config.idle_timeout_ns` is forgotten, and the next datagram shakes hands
again, unless SO_KEEPALIVE keeps it.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from rawproto.drivers.rpt.ends import RESET_BY_USER, End, peer_of
from rawproto.drivers.rpt.refusals import os_error
from rawproto.transport.constants import BASE_PACKET_BYTES
from rawproto.transport.events import ConnectionClosed, ConnectionEstablished
from rawproto.transport.lifecycle import State
from rawproto.transport.linger import DATAGRAMS_NS
from rawproto.transport.sender import OVERHEAD_BYTES
from rawproto.wire.rpt_frames import DATAGRAM_HEAD

if TYPE_CHECKING:
    from rawproto.drivers.rpt.pump import Pump
    from rawproto.drivers.rpt.readiness import Readiness
    from rawproto.transport.connection import Connection

__all__ = ["MOST_PEERS", "DatagramEnd", "Peer"]

Peer = tuple[str, int]

MOST_PEERS = 4096
SURELY_FITS = BASE_PACKET_BYTES - OVERHEAD_BYTES - DATAGRAM_HEAD.size
"""A datagram of so many bytes goes through every path."""
_OVER = (State.CLOSING, State.DRAINING, State.CLOSED)
_COST_BYTES = 128
"""What a datagram that waits counts for besides its bytes."""


class DatagramEnd(End):
    """Of a socket of kind DGRAM.

    Args:
        connect: begins a connection to a peer.
        room_bytes: what waits to be received at most; what comes above is lost.

    Attributes:
        peer: the only one that matters, None for all.
    """

    def __init__(
        self,
        pump: Pump,
        readiness: Readiness | None,
        connect: Callable[[Peer], Connection],
        room_bytes: int,
    ) -> None:
        super().__init__(pump, readiness)
        self.peer: Peer | None = None
        self._connect = connect
        self._room = room_bytes
        self._waiting: deque[tuple[bytes, Peer]] = deque()
        self._connections: dict[int, Connection] = {}
        self._of_peer: dict[Peer, Connection] = {}
        self._early: dict[int, list[bytes]] = {}
        pump.on_accept = self._accepted

    def _add(self, connection: Connection) -> None:
        self._connections[connection.cid] = connection
        self._of_peer[peer_of(connection)] = connection
        self.pump.assign(connection, self)

    def _accepted(self, connection: Connection) -> None:
        if self.closed or len(self._connections) >= MOST_PEERS:
            connection.abort(RESET_BY_USER, "", time.monotonic_ns())
            self.pump.touch_soon(connection)
            return
        self._add(connection)
        self._receive(connection)

    # --- receiving ---

    def readable(self) -> bool:
        return bool(self._waiting) or self.error is not None or self.closed

    def take(self, *, keep: bool) -> tuple[bytes, Peer] | None:
        """The next datagram and who sent it; None for none."""
        if not self._waiting:
            return None
        if keep:
            return self._waiting[0]
        found = self._waiting.popleft()
        self._room += len(found[0]) + _COST_BYTES
        return found

    def _receive(self, connection: Connection) -> None:
        peer = peer_of(connection)
        self._of_peer.setdefault(peer, connection)  # it may have moved
        while (data := connection.datagrams.receive()) is not None:
            cost = len(data) + _COST_BYTES
            if cost <= self._room and self.peer in (None, peer):
                self._room -= cost
                self._waiting.append((data, peer))

    # --- sending ---

    def writable(self) -> bool:
        return self.peer is None or self.has_room(self.peer)

    def has_room(self, peer: Peer) -> bool:
        """Whether a datagram for a peer would be taken now."""
        connection = self._of_peer.get(peer)
        if connection is None or self.error is not None or self.closed:
            return True
        early = self._early.get(connection.cid)
        queue = connection.sender.datagrams if early is None else early
        return len(queue) < connection.config.datagram_queue

    def send(self, data: bytes, peer: Peer) -> bool:
        """Sends a datagram: False if too many wait already.

        Raises:
            OSError: EMSGSIZE, it does not fit into a packet; ENOBUFS, there are too many peers.
        """
        connection = self._of_peer.get(peer)
        if connection is not None and connection.state in _OVER:  # and nobody has told us yet
            self._lose(connection, None)
            connection = None
        largest = SURELY_FITS
        if connection is not None and connection.cid not in self._early:
            largest = connection.datagrams.max_bytes
        if len(data) > largest:
            raise OSError(errno.EMSGSIZE, f"a datagram of {len(data)} bytes; {largest} fit")
        if not self.has_room(peer):
            return False
        if connection is None:
            if len(self._connections) >= MOST_PEERS:
                raise OSError(errno.ENOBUFS, f"{MOST_PEERS} peers at once are the most")
            connection = self._connect(peer)
            self._early[connection.cid] = []
            self._add(connection)
        early = self._early.get(connection.cid)
        if early is not None:
            early.append(data)
        else:
            connection.send_datagram(data)
        self.pump.port.endpoint.touch(connection)
        return True

    def _send_early(self, connection: Connection) -> None:
        for data in self._early.pop(connection.cid, ()):
            connection.send_datagram(data)
        self.pump.port.endpoint.touch(connection)

    # --- what the port tells ---

    def on_active(self, connection: Connection) -> None:
        if connection.cid in self._connections:
            self._receive(connection)  # first: what came before an end is not lost with it
        while (event := connection.poll_event()) is not None:
            if isinstance(event, ConnectionEstablished):
                self._send_early(connection)
                if self.closed:
                    connection.close(time.monotonic_ns())
            elif isinstance(event, ConnectionClosed):
                self._lose(connection, event.error)
        self.changed()

    def _lose(self, connection: Connection, error: Exception | None) -> None:
        early = self._early.pop(connection.cid, None)
        self._connections.pop(connection.cid, None)
        for peer in [each for each, known in self._of_peer.items() if known is connection]:
            del self._of_peer[peer]
        # As of UDP: who is connected hears that his datagrams found nobody, nobody else does.
        if early is not None and error is not None and peer_of(connection) == self.peer:
            self.error = os_error(error, connected=False)

    # --- the end ---

    def close(self) -> None:
        """What waits for a handshake is still sent if that comes to something soon."""
        if self.closed:
            return
        super().close()
        endpoint, now_ns = self.pump.port.endpoint, time.monotonic_ns()
        # The port outlives the socket for as long as peers are told. Whoever asked once more in
        # the meantime got a connection, and waited for its end when we were gone.
        endpoint.refuse()
        for connection in self._connections.values():
            if connection.attempt is not None and self._early.get(connection.cid):
                connection.attempt.hurry(now_ns + DATAGRAMS_NS)
            else:
                self.pump.assign(connection, None)
                connection.close(now_ns)
            endpoint.touch(connection)
        self._waiting.clear()
