"""One RPT port at work: an endpoint over a carrier, whoever pumps it.

::

    carrier --- receive ---> endpoint --- turn ---> unsent ---> carrier
       `------- errors --------^

A turn lets timers run and sends. What the kernel does not take now waits, and nothing more
is sealed meanwhile. When turns come, and who is told of events, is not known here: event
loops (`node`) and threads (`pump`) differ in that alone.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from contextlib import suppress

from rawproto.errors import ConnectionLostError, LinkError, RefusedError
from rawproto.link.rpt_carrier import Carrier
from rawproto.transport.connection import Address, Connection
from rawproto.transport.constants import BASE_PACKET_BYTES, MAX_ACK_DELAY_NS
from rawproto.transport.endpoint import Departure, Endpoint
from rawproto.transport.stream import Stream

__all__ = ["FEW", "Port"]

FEW = 4
"""What comes in so few packets is a question rather than a transfer: who was waiting for it gets
it before the turn, so that the acknowledgement goes along with his answer."""

_BATCH = 64
_MOST_DROPS = 16
"""A device that drops a packet so often, tried each millisecond, is not busy: it never takes it."""
# Port or protocol unreachable; IPv6 has Parameter Problem for an unknown next header.
_REFUSED = (errno.ECONNREFUSED, errno.ENOPROTOOPT, errno.EPROTO)
_RETRY_NS = 1_000_000
_DOUBTS = 2
"""Whatever the socket is asked next tells an ICMP error about anything that it sent, and so do
forged ones: what is true of this packet is told again."""


class Port:
    """A port.

    Args:
        endpoint: what is pumped.
        carrier: over what.

    Attributes:
        endpoint: as given.
        carrier: as given.
        sparse: packets come one by one and small, as far as was seen last.
    """

    def __init__(self, endpoint: Endpoint, carrier: Carrier) -> None:
        self.sparse = True
        self.endpoint = endpoint
        self.carrier = carrier
        self._unsent: deque[Departure] = deque()
        self._blocked = False
        self._drops = 0  # in a row

    def receive_one(self, descriptor: int) -> tuple[Connection, Stream] | None:
        """Takes in one packet, or errors; a turn has to follow.

        Returns:
            The stream that can be read now, if that is all that has happened: no event tells it.
        """
        packets = self.carrier.receive(1, descriptor)
        if not packets:
            self._on_others(time.monotonic_ns())
            return None
        packet = packets[0]
        if len(packet[0]) >= BASE_PACKET_BYTES:
            self.sparse = False  # no question: there may be many behind it, to be read at once
        return self.endpoint.receive_one(packet, time.monotonic_ns())

    def send_one(
        self, connection: Connection, stream: Stream, data: bytes, now_ns: int
    ) -> int | None:
        """Sends a stream's data, of `MOST_ALONE` bytes at most, if that takes no turn.

        Returns:
            When the next turn has to come, ns; None if the data was not taken in.
        """
        if self._unsent:
            return None
        departure = self.endpoint.transmit_one(connection, stream, data, now_ns)
        if departure is None:
            return None
        packet, address, ecn = departure
        try:
            self.carrier.send(packet, address, ecn)
        except (OSError, LinkError):
            self._unsent.append(([packet], address, ecn))
            return now_ns  # which tries once more, and looks what is wrong
        return now_ns + MAX_ACK_DELAY_NS

    def receive(self, descriptor: int, limit: int = _BATCH) -> int:
        """Takes in what has arrived, packets or errors; a turn has to follow.

        Args:
            descriptor: the one of the carrier's that is readable.
            limit: at most so many packets.

        Returns:
            How many packets there were.
        """
        packets = self.carrier.receive(limit, descriptor)
        self.sparse = not packets or (len(packets) == 1 and len(packets[0][0]) < BASE_PACKET_BYTES)
        now_ns = time.monotonic_ns()
        if packets:
            self.endpoint.receive(packets, now_ns)
        if not packets or self.carrier.echoed:
            self._on_others(now_ns)
        return len(packets)

    def _on_others(self, now_ns: int) -> None:
        """No packet, or not packets alone, was what made a descriptor readable."""
        if self.carrier.moved():
            self.endpoint.on_moved(self.carrier.ceiling, now_ns)
        self._read_errors(now_ns)

    def _read_errors(self, now_ns: int) -> None:
        for error in self.carrier.errors():
            if error.errno == errno.EMSGSIZE and error.mtu is not None:
                self._on_too_big(error.data, error.mtu, now_ns)
            elif error.errno in _REFUSED:
                self.endpoint.on_unreachable(error.data, RefusedError("nobody listens there"))
            else:
                words = os.strerror(error.errno).lower()
                self.endpoint.on_unreachable(error.data, ConnectionLostError(words, error.errno))

    def turn(self, now_ns: int) -> None:
        """Lets timers run, and sends what is to be sent; events may have to be handed out."""
        endpoint = self.endpoint
        due_ns = endpoint.poll_timeout()
        if due_ns is not None and due_ns <= now_ns:
            endpoint.handle_timeout(now_ns)
        blocked = not self._send_unsent(now_ns)
        while not blocked and endpoint.pending:
            departures = endpoint.transmit(now_ns)
            if not departures:
                break
            self._unsent.extend(departures)
            blocked = not self._send_unsent(now_ns)
        self._blocked = blocked

    @property
    def pending(self) -> bool:
        """Whether a turn may have something to send at once."""
        return bool(self._unsent) or self.endpoint.pending

    def due_ns(self, now_ns: int) -> int | None:
        """When the next turn has to come at the latest, ns; None: not before something arrives."""
        return now_ns + _RETRY_NS if self._blocked else self.endpoint.poll_timeout()

    def _send_unsent(self, now_ns: int) -> bool:
        """Sends what waits: False if the kernel takes no more for now."""
        unsent, send_many = self._unsent, self.carrier.send_many
        doubts = _DOUBTS
        while unsent:
            packets, address, ecn = unsent[0]
            try:
                sent = send_many(packets, address, ecn)
            except (OSError, LinkError) as error:
                if error.errno == errno.EAGAIN:
                    return False
                sent = 1
                if error.errno == errno.ENOBUFS:
                    self._drops += 1
                    if self._drops < _MOST_DROPS:
                        return False
                elif doubts and not isinstance(error, LinkError):
                    doubts -= 1
                    continue
                else:
                    self._on_refused(packets[0], address, error, now_ns)
                doubts = _DOUBTS
            else:
                self._drops = 0
            if sent < len(packets):
                unsent[0] = packets[sent:], address, ecn
            else:
                unsent.popleft()
        return True

    def _on_refused(self, data: bytes, address: Address, error: OSError, now_ns: int) -> None:
        """The kernel won't send a packet at all."""
        if error.errno == errno.EMSGSIZE:
            # The device takes less than we thought, and the route tells how much.
            limit = len(data) - 1
            with suppress(LinkError):  # there may be no way by now
                limit = min(self.carrier.largest_to(address[0]), limit)
            self._on_too_big(data, limit, now_ns)
        else:
            failed = LinkError("send to", address[0], error.errno)
            self.endpoint.on_unreachable(data, failed)

    def _on_too_big(self, data: bytes, limit: int, now_ns: int) -> None:
        """A packet does not fit through; set-up packets cannot be made smaller."""
        self.endpoint.on_refused(data, limit, now_ns)
        if limit < BASE_PACKET_BYTES:
            words = f"the way takes {limit} bytes of RPT, and {BASE_PACKET_BYTES} are needed"
            self.endpoint.on_unreachable(data, LinkError("connect", "", errno.EMSGSIZE, words))
