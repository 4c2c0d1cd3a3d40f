"""What the links over real sockets share: sending, stamps, the receive loop, the end.

A subclass opens its socket, says how one packet is sent and how one message is
read. Sockets never block: while the error queue holds something, `poll` reports
it at once, so a receive with a time-out would spin.

The error queue is read first, so that a reply finds its probe stamped; and not at
all while no stamp is awaited, which spares a system call per turn.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from typing import Any, Self

from rawproto.errors import LinkError
from rawproto.link.base import Arrival, arrival_order
from rawproto.link.interfaces import split_scope
from rawproto.link.options import SO_MEMINFO, SO_RXQ_OVFL, SO_TIMESTAMPING, grow_buffers
from rawproto.link.timestamps import (
    EXTENDED_ERROR,
    ORIGIN_TIMESTAMPING,
    RECEIVE_STAMPS,
    TRANSMIT_STAMPS,
    Ancillary,
    ClockBridge,
    StampQueue,
    split_error_message,
    unpack_stamp,
)
from rawproto.machine import Datagram, ICMPError, StampSource, Transmit

__all__ = ["SocketLink"]

MAX_PACKET = 1 << 16
_ANCILLARY_BYTES = 512
_MAX_ADDRESSES = 4096
_MAX_ERRORS = 1024  # read from the error queue in one turn, so that a storm starves nobody

_UINT = struct.Struct("@I")
_MEMINFO_WORDS, _MEMINFO_DROPS = 9, 8  # of SO_MEMINFO: SK_MEMINFO_VARS, SK_MEMINFO_DROPS


class SocketLink:
    """The base of RawLink, DgramLink and PacketLink.

    Args:
        sock: open and bound; the link owns it from here on.
        timestamps: whether the kernel stamps what is sent and received.
        receive_bytes: size of the receive buffer.
        bridge: brings the stamps to the monotonic clock; None makes one.
    """

    _reads_errors = False
    """Whether the error queue holds more than stamps, and is read even if none is awaited."""

    _uncounted = frozenset({errno.EAGAIN})
    """Errors of a send that surely took no OPT_ID: after any other the count is unsure."""

    _error_bytes = 0
    """How much of the data that comes with an error is wanted; stamps come without."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        timestamps: bool,
        receive_bytes: int = 4 << 20,
        bridge: ClockBridge | None = None,
    ) -> None:
        self._socket = sock
        self._bridge = bridge or ClockBridge()
        self._stamps = StampQueue(self._bridge)
        self._timestamps = timestamps
        self._dropped = 0
        self._addresses: dict[str, tuple[str, int] | tuple[str, int, int, int]] = {}
        # What was read while sending, told by the next `receive`.
        self._early: list[Arrival] = []
        self._failure: LinkError | None = None
        self._buffer = bytearray(MAX_PACKET + 64)
        self._view = memoryview(self._buffer)
        sock.setblocking(False)
        grow_buffers(sock, receive_bytes, 1 << 20)
        sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        if timestamps:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TRANSMIT_STAMPS)
        self._quiet_ns = self._bridge.sample()

    @property
    def dropped(self) -> int:
        """Packets that the kernel dropped for want of room in the receive buffer.

        The kernel tells with the next packet that it queues, and when it is asked.
        """
        with suppress(OSError):  # closed, or a kernel older than the option
            sizes = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * _MEMINFO_WORDS)
            counted = _UINT.unpack_from(sizes, 4 * _MEMINFO_DROPS)[0]
            self._dropped = max(self._dropped, counted)
        return self._dropped

    def fileno(self) -> int:
        """The socket's descriptor, -1 when closed."""
        return self._socket.fileno()

    def send(self, transmit: Transmit) -> int:
        """Sends one packet; see `link.base.Link.send`."""
        raise NotImplementedError

    def receive(self, limit: int = 64) -> list[Arrival]:
        """What has arrived; see `link.base.Link.receive`."""
        started_ns = self._bridge.sample()
        arrivals: list[Arrival] = []
        if self._reads_errors or len(self._stamps):
            self._read_error_queue(arrivals)
        if self._early:
            arrivals = sorted(self._early + arrivals, key=arrival_order)
            self._early.clear()
        sock, buffers = self._socket, [self._buffer]
        for _ in range(limit):
            try:
                size, ancillary, _, address = sock.recvmsg_into(buffers, _ANCILLARY_BYTES)
            except BlockingIOError:
                self._quiet_ns = started_ns
                break
            except OSError as error:
                # A socket tells its error before what is still in its queue.
                self._failure = self._receive_failed(error) or self._failure
                continue
            datagram = self._read_datagram(size, ancillary, address)
            if datagram is not None:
                arrivals.append(datagram)
        if not arrivals:
            # Woken for stamps that nobody awaits: left in the queue they would wake us for ever.
            self._read_error_queue(arrivals)
            self._raise_failure()
        return arrivals

    def poll_timeout(self) -> int | None:
        """At once when there is something to tell that no descriptor tells, else None."""
        return self._quiet_ns if self._early or self._failure else None

    def close(self) -> None:
        """Gives the descriptor back."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_datagram(
        self, size: int, ancillary: Ancillary, address: tuple[Any, ...]
    ) -> Datagram | None:
        """One message of `size` bytes in `_buffer`; None where it is none of ours."""
        raise NotImplementedError

    def _read_error(
        self, extended: bytes, data: bytes, ancillary: Ancillary, address: tuple[Any, ...] | None
    ) -> ICMPError | None:
        """One message of the error queue that is no stamp."""
        return None

    def _raise_failure(self) -> None:
        """When there is nothing else to tell: what had arrived before comes first."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _receive_failed(self, error: OSError) -> LinkError | None:
        """What to raise when a receive answered an error; None passes over it."""
        return LinkError("receive", "", error.errno)

    def _read_error_queue(self, arrivals: list[Arrival]) -> None:
        """Drains the error queue: stamps first, then errors."""
        sock, stamps, everything = self._socket, self._stamps, self._reads_errors
        errors: list[Arrival] = []
        for _ in range(_MAX_ERRORS):
            try:
                data, ancillary, _, address = sock.recvmsg(
                    self._error_bytes, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE
                )
            except OSError:  # empty, mostly
                break
            stamp, extended = split_error_message(ancillary)
            if extended is None:
                continue
            _, origin, _, _, _, info, counter = EXTENDED_ERROR.unpack_from(extended)
            if origin != ORIGIN_TIMESTAMPING:
                error = self._read_error(extended, data, ancillary, address)
                if error is not None:
                    errors.append(error)
            elif stamp is not None:
                transmitted = stamps.stamped(info, counter, unpack_stamp(stamp))
                if transmitted is not None:
                    arrivals.append(transmitted)
                    if not everything and not len(stamps):
                        break  # all that were awaited: spare the call that finds nothing
        arrivals += errors

    def _received_at(self, ancillary: Ancillary) -> tuple[int, StampSource]:
        """When the message just read arrived, and who says so. Notes what was dropped."""
        received_ns = None
        for level, kind, value in ancillary:
            if level != socket.SOL_SOCKET:
                break  # the kernel puts those of the socket first
            if kind == SO_TIMESTAMPING:
                received_ns = self._bridge.received_at(unpack_stamp(value), self._quiet_ns)
            elif kind == SO_RXQ_OVFL:
                (self._dropped,) = _UINT.unpack_from(value)
        if received_ns is None:
            return self._bridge.sample(), "user"
        return received_ns, "kernel"

    def _refused(self, error: OSError, transmit: Transmit) -> LinkError:
        """The kernel did not take the packet: what to raise, with the stamps set right."""
        if self._timestamps and error.errno not in self._uncounted:
            self._restart_stamps()
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno == errno.EMSGSIZE:
            reason = f"{len(transmit.data)} bytes are more than the MTU of the interface"
        elif error.errno == errno.EPERM:
            reason += " (a firewall rule of this host?)"
        return LinkError("send to", transmit.dst_addr, error.errno, reason)

    def _restart_stamps(self) -> None:
        if self._socket.fileno() < 0:
            return
        if len(self._stamps):
            self._read_error_queue(self._early)
        for value in (RECEIVE_STAMPS, TRANSMIT_STAMPS):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, value)
        self._stamps.restart()

    def _sockaddr(self, dst_addr: str) -> tuple[str, int] | tuple[str, int, int, int]:
        """The socket's form of an address, remembered because probes repeat it.

        Raises:
            LinkError: its scope names no interface.
        """
        address = self._addresses.get(dst_addr)
        if address is None:
            if ":" in dst_addr:
                bare, scope = split_scope(dst_addr)
                address = (bare, 0, 0, scope)
            else:
                address = (dst_addr, 0)
            if len(self._addresses) >= _MAX_ADDRESSES:
                self._addresses.clear()
            self._addresses[dst_addr] = address
        return address
