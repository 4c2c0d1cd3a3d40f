"""What every link is to a driver: real sockets and fakes keep the same contract.

A link carries whole IP packets out and brings packets, transmit stamps and the
kernel's ICMP errors back, all times brought to the monotonic clock. One `fileno`
becomes readable when `receive` has something to say, error queue included; a
link made of several sockets puts them behind one epoll descriptor.

`tests/link/contract.py` holds what all of them keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from rawproto.machine import Datagram, ICMPError, StampSource, Transmit

__all__ = ["Arrival", "Link", "Transmitted", "arrival_order"]


@dataclass(slots=True, kw_only=True)
class Transmitted:
    """A better transmit stamp for the packet sent under `token`.

    Attributes:
        token: as in the `Transmit`.
        sched_ns: when it entered the queueing discipline, monotonic; None where unknown.
        sent_ns: when the driver took it, monotonic.
        stamp_source: who took them.
    """

    token: int
    sched_ns: int | None
    sent_ns: int
    stamp_source: StampSource


Arrival = Datagram | ICMPError | Transmitted


def arrival_order(arrival: Arrival) -> int:
    """The key to sort by: transmit stamps, then errors, then datagrams."""
    return 0 if isinstance(arrival, Transmitted) else 1 if isinstance(arrival, ICMPError) else 2


class Link(Protocol):
    """A carrier of whole IP packets. Links are context managers; `close` may be called twice."""

    @property
    def dropped(self) -> int:
        """Packets that this host dropped before we could read them (SO_RXQ_OVFL)."""
        ...

    def fileno(self) -> int:
        """The descriptor to wait on, -1 for a fake that has none."""
        ...

    def send(self, transmit: Transmit) -> int:
        """Sends one packet without blocking: when the system call was entered, monotonic ns.

        Raises:
            LinkError: the kernel refused (its errno is kept; EAGAIN and ENOBUFS too).
        """
        ...

    def receive(self, limit: int = 64) -> list[Arrival]:
        """What has arrived, without blocking: transmit stamps, then errors, then datagrams.

        Args:
            limit: at most so many datagrams (stamps and errors do not count).

        Raises:
            LinkError: the carrier is gone (its interface is down, the link is closed); what
                had arrived before has been told by then.
        """
        ...

    def poll_timeout(self) -> int | None:
        """When `receive` has something that the descriptor does not tell, monotonic ns; else None.

        A fake's delayed packets are such, and what a real link read while it was sending.
        """
        ...

    def close(self) -> None:
        """Gives every descriptor back."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
