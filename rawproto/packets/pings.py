"""Echo requests and their replies in a capture, and the time between (RFC 792, RFC 4443).

A reply answers the latest request with its addresses turned around, its identifier and
its sequence number, as one captures them: the time is that of the capture's host, on
the far side of a link it is nearly nothing. A second reply to the same request, and
one whose request was not seen, are counted and give no time.

A ping is all requests of one identifier between two addresses. How many pings and how
many unanswered requests are kept is bounded. It sends nothing: `rawproto ping` does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rawproto.wire.dissect import Dissection
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header

__all__ = ["Ping", "Pings"]

_REQUESTS = {8, 128}


@dataclass(slots=True, kw_only=True)
class Ping:
    """What became of the echo requests of one run.

    Attributes:
        src_addr: who asked.
        dst_addr: who was asked; replies from other addresses (to a group) are not its.
        identifier: of all.
        requests: how many were seen.
        replies: to how many a reply was seen.
        duplicates: replies beyond the first to a request.
        unasked: replies whose request was not seen.
        min_ns: the shortest round trip, 0 before the first.
        max_ns: the longest.
        total_ns: of all, added up.
    """

    src_addr: str
    dst_addr: str
    identifier: int
    requests: int = 0
    replies: int = 0
    duplicates: int = 0
    unasked: int = 0
    min_ns: int = 0
    max_ns: int = 0
    total_ns: int = 0
    squares: int = 0

    @property
    def mean_ns(self) -> float:
        """The mean round trip, 0 before the first."""
        return self.total_ns / self.replies if self.replies else 0.0

    @property
    def deviation_ns(self) -> float:
        """The standard deviation of the round trips."""
        if not self.replies:
            return 0.0
        # In integers to the root, or the difference of two large numbers is all noise.
        square = self.squares * self.replies - self.total_ns**2
        return math.sqrt(max(0, square)) / self.replies

    def answered(self, rtt_ns: int) -> None:
        """Counts a round trip."""
        self.min_ns = min(self.min_ns, rtt_ns) if self.replies else rtt_ns
        self.max_ns = max(self.max_ns, rtt_ns) if self.replies else rtt_ns
        self.replies += 1
        self.total_ns += rtt_ns
        self.squares += rtt_ns * rtt_ns


class Pings:
    """The pings of a capture, in the order in which they began.

    Attributes:
        all: them.
        untracked: how many requests and replies belonged to pings for which there was no room.
        forgotten: how many requests were dropped unanswered, to make room for later ones.
    """

    def __init__(self, *, max_pings: int = 10_000, max_requests: int = 100_000) -> None:
        """
        Args:
            max_pings: kept at most.
            max_requests: kept at most, to be answered or found answered twice.
        """
        self.untracked = 0
        self.forgotten = 0
        self._max_pings = max_pings
        self._max_requests = max_requests
        self._pings: dict[tuple[str, str, int], Ping] = {}
        # When a request was sent, None once it is answered; oldest first.
        self._requests: dict[tuple[str, str, int, int], int | None] = {}

    @property
    def all(self) -> list[Ping]:
        return list(self._pings.values())

    def add(self, found: Dissection, time_ns: int) -> None:
        """Takes a packet; what is no echo request or reply is left alone.

        Args:
            found: a whole packet, dissected.
            time_ns: when it was captured.
        """
        echo = found.layers[-1] if found.layers else None
        if not isinstance(echo, ICMPEcho | ICMPv6Echo):
            return
        ip = next(x for x in reversed(found.layers) if isinstance(x, IPv4Header | IPv6Header))
        if echo.icmp_type in _REQUESTS:
            self._ask(ip.src_addr, ip.dst_addr, echo, time_ns)
        else:
            self._answer(ip.dst_addr, ip.src_addr, echo, time_ns)

    def _ask(self, src: str, dst: str, echo: ICMPEcho | ICMPv6Echo, time_ns: int) -> None:
        ping = self._ping(src, dst, echo.identifier)
        if ping is None:
            return
        ping.requests += 1
        key = (src, dst, echo.identifier, echo.sequence_number)
        # Sequence numbers come again after 65536 requests: the latest stands last.
        self._requests.pop(key, None)
        self._requests[key] = time_ns
        if len(self._requests) > self._max_requests:
            self.forgotten += self._requests.pop(next(iter(self._requests))) is not None

    def _answer(self, src: str, dst: str, echo: ICMPEcho | ICMPv6Echo, time_ns: int) -> None:
        ping = self._ping(src, dst, echo.identifier)
        if ping is None:
            return
        key = (src, dst, echo.identifier, echo.sequence_number)
        if key not in self._requests:
            ping.unasked += 1
            return
        asked_ns = self._requests[key]
        if asked_ns is None:
            ping.duplicates += 1
            return
        self._requests[key] = None
        ping.answered(time_ns - asked_ns)

    def _ping(self, src: str, dst: str, identifier: int) -> Ping | None:
        ping = self._pings.get((src, dst, identifier))
        if ping is None:
            if len(self._pings) >= self._max_pings:
                self.untracked += 1
                return None
            ping = Ping(src_addr=src, dst_addr=dst, identifier=identifier)
            self._pings[src, dst, identifier] = ping
        return ping
