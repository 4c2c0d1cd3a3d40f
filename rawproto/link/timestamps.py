"""Kernel time stamps, both ways, on the monotonic clock.

Read the kernel's Documentation/networking/timestamping.rst first. A socket with
SO_TIMESTAMPING gets one stamp beside each packet received, and two back through
its error queue for each packet sent::

    sendto() -> SCHED -> [queueing discipline] -> SND -> wire ... wire -> RX -> recvmsg()
                  |______________________________|                        |
                     error queue, by OPT_ID                          beside the data

OPT_ID numbers the packets of a socket from 0. The kernel counts what it built,
not what it sent: a send that a firewall refuses may have taken a number or not,
by the kernel's version. Switching OPT_ID off and on sets its count to 0 again,
and that is what a link does after a failed send.

The stamps are CLOCK_REALTIME, which an administrator or NTP may step at any time,
so `ClockBridge` brings them to CLOCK_MONOTONIC. It knows no packets; `StampQueue`
knows which stamp belongs to which token. Neither knows sockets.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable

from rawproto.link.base import Transmitted
from rawproto.link.options import PACKET_TX_TIMESTAMP, SO_TIMESTAMPING, SOL_PACKET

__all__ = [
    "RECEIVE_STAMPS",
    "TRANSMIT_STAMPS",
    "ClockBridge",
    "StampQueue",
    "split_error_message",
    "unpack_stamp",
]

_TX_SOFTWARE, _RX_SOFTWARE, _SOFTWARE = 1 << 1, 1 << 3, 1 << 4
_OPT_ID, _TX_SCHED, _OPT_TSONLY = 1 << 7, 1 << 8, 1 << 11

RECEIVE_STAMPS = _RX_SOFTWARE | _SOFTWARE
"""Value of SO_TIMESTAMPING: stamp what arrives."""
TRANSMIT_STAMPS = RECEIVE_STAMPS | _TX_SCHED | _TX_SOFTWARE | _OPT_ID | _OPT_TSONLY
"""Value of SO_TIMESTAMPING: stamp what leaves too, and give back the stamps alone."""

SENT, SCHED = 0, 1
"""SCM_TSTAMP_SND and SCM_TSTAMP_SCHED, as `info` of an extended error tells them."""

ORIGIN_LOCAL, ORIGIN_ICMP, ORIGIN_ICMPV6, ORIGIN_TIMESTAMPING = 1, 2, 3, 4
"""SO_EE_ORIGIN_*: where an extended error comes from."""

_TIMESPEC = struct.Struct("@ll")
EXTENDED_ERROR = struct.Struct("@IBBBBII")
"""errno, origin, type, code, padding, info, data: for a stamp, its kind and its counter."""
_EXTENDED_ERROR_CARRIERS = {(0, 11), (41, 25), (SOL_PACKET, PACKET_TX_TIMESTAMP)}
"""(level, type) of the control messages that hold one: IP_RECVERR, IPV6_RECVERR, packet."""

_new = object.__new__

_SLACK_NS = 1_000
"""How far beside its window a stamp may lie: more than the offset is ever wrong by."""

Ancillary = list[tuple[int, int, bytes]]


def unpack_stamp(value: bytes) -> int:
    """The software stamp of an SCM_TIMESTAMPING message, CLOCK_REALTIME in ns; 0 for none."""
    seconds, nanoseconds = _TIMESPEC.unpack_from(value)
    return int(seconds * 1_000_000_000 + nanoseconds)


def split_error_message(ancillary: Ancillary) -> tuple[bytes | None, bytes | None]:
    """The two parts of a message from the error queue.

    Args:
        ancillary: control messages, as `recvmsg` gives them.

    Returns:
        (the SCM_TIMESTAMPING message, `struct sock_extended_err` with the address of the
        offender behind it), each None where there is none.
    """
    stamp = extended = None
    for level, kind, value in ancillary:
        if kind == SO_TIMESTAMPING and level == 1:
            stamp = value
        elif (level, kind) in _EXTENDED_ERROR_CARRIERS:
            extended = value
    return stamp, extended


class ClockBridge:
    """Brings CLOCK_REALTIME stamps to CLOCK_MONOTONIC, and no step of the clock moves them.

    A sample reads monotonic, realtime, monotonic: the offset of the two lies between
    `real - after` and `real - before`. As long as the offset in use lies there it
    stays as it is, so the difference of two stamps is exact to the nanosecond, however
    the sample was preempted. When it does not, the clock was stepped: the middle of
    the tightest of a few samples is the new offset, and the old one is remembered with
    the time in which it held. A stamp is converted by the offset under which it comes
    to lie where it can have been taken; where two would do (a step smaller than the
    time between two samples), a stamp of sending takes the older, one of receiving the
    newer: the first is taken soon after its sample, the second soon before.

    Args:
        monotonic: the clock that answers are on, ns.
        realtime: the clock that stamps are on, ns.
    """

    def __init__(
        self,
        monotonic: Callable[[], int] = time.monotonic_ns,
        realtime: Callable[[], int] = time.time_ns,
    ) -> None:
        self._monotonic = monotonic
        self._realtime = realtime
        self._past: deque[tuple[int, int, int]] = deque(maxlen=8)  # (offset, from, until)
        # A packet may have been stamped before this bridge was made.
        self._since = -(1 << 63)
        self._offset, self._seen = self._measure()

    @property
    def offset_ns(self) -> int:
        """Realtime minus monotonic, as used now."""
        return self._offset

    def sample(self) -> int:
        """Looks whether the offset still holds: the monotonic time, ns.

        To be called right before each send and at the start of each receive.
        """
        before = self._monotonic()
        real = self._realtime()
        after = self._monotonic()
        if real - after <= self._offset <= real - before:
            self._seen = after
            return after
        offset, seen = self._measure()
        self._past.append((self._offset, self._since, seen))
        self._since = self._seen
        self._offset, self._seen = offset, seen
        return seen

    def sent_at(self, real_ns: int, entered_ns: int) -> int | None:
        """When a packet left, monotonic; None where no offset makes sense of the stamp.

        Args:
            real_ns: the stamp.
            entered_ns: what `sample` answered right before the system call.
        """
        at = real_ns - self._offset
        if self._since < entered_ns <= at <= self._seen:
            return at
        self.sample()
        for offset, since, until in (*self._past, (self._offset, self._since, self._seen)):
            at = real_ns - offset
            if max(since, entered_ns) - _SLACK_NS <= at <= until + _SLACK_NS:
                return at
        return None

    def received_at(self, real_ns: int, quiet_ns: int) -> int | None:
        """When a packet arrived, monotonic; None where no offset makes sense of the stamp.

        Args:
            real_ns: the stamp.
            quiet_ns: when the socket was last seen empty. A stamp before that is looked at
                closely, but may be right: the kernel stamps a packet before it queues it.
        """
        at = real_ns - self._offset
        if self._since < quiet_ns <= at <= self._seen:
            return at
        self.sample()
        for offset, since, until in (
            (self._offset, self._since, self._seen),
            *reversed(self._past),
        ):
            at = real_ns - offset
            if since - _SLACK_NS <= at <= until + _SLACK_NS:
                return at
        return None

    def _measure(self) -> tuple[int, int]:
        """(offset, when) from the tightest of a few samples."""
        width, offset = None, 0
        for _ in range(8):
            before = self._monotonic()
            real = self._realtime()
            after = self._monotonic()
            if width is None or after - before < width:
                width = after - before
                offset = real - after + width // 2
        return offset, after


class StampQueue:
    """Which packet a transmit stamp is about: OPT_ID counters to tokens.

    SCHED comes first and is kept, SND completes it. A packet that passes several
    devices (a VLAN on a bridge) may be stamped by each: the first SCHED and the
    first SND count. Packets that never get an SND (a driver without stamps) leave
    the queue when `capacity` newer ones are in it.

    Args:
        bridge: brings the stamps to the monotonic clock.
        capacity: most packets waiting for their stamps.
    """

    def __init__(self, bridge: ClockBridge, *, capacity: int = 4096) -> None:
        self._bridge = bridge
        self._capacity = capacity
        self._next = 0
        # counter -> [token, when the system call was entered, SCHED stamp]
        self._waiting: dict[int, list[int]] = {}

    def __len__(self) -> int:
        """How many packets wait for their SND stamp."""
        return len(self._waiting)

    def sent(self, token: int, entered_ns: int) -> None:
        """The kernel took the next packet."""
        waiting = self._waiting
        waiting[self._next] = [token, entered_ns, 0]
        self._next = (self._next + 1) & 0xFFFFFFFF
        if len(waiting) > self._capacity:
            del waiting[next(iter(waiting))]

    def restart(self) -> None:
        """The kernel's count is 0 again; stamps still on their way belong to nobody."""
        self._next = 0
        self._waiting.clear()

    def stamped(self, kind: int, counter: int, real_ns: int) -> Transmitted | None:
        """One stamp: what it completes, if it does.

        Args:
            kind: `SENT` or `SCHED`.
            counter: the packet's OPT_ID.
            real_ns: CLOCK_REALTIME.
        """
        packet = self._waiting.get(counter)
        if packet is None:
            return None
        if kind != SENT:
            if kind == SCHED and not packet[2]:
                packet[2] = real_ns
            return None
        del self._waiting[counter]
        token, entered_ns, sched_real = packet
        sent_ns = self._bridge.sent_at(real_ns, entered_ns)
        if sent_ns is None:
            return None
        sched_ns = self._bridge.sent_at(sched_real, entered_ns) if sched_real else None
        if sched_ns is not None and sched_ns > sent_ns:
            sched_ns = None  # the clock was stepped between the two
        # Slots one by one: a call with keywords costs five times as much.
        transmitted = _new(Transmitted)
        transmitted.token = token
        transmitted.sched_ns = sched_ns
        transmitted.sent_ns = sent_ns
        transmitted.stamp_source = "kernel"
        return transmitted
