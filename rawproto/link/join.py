"""Several links behind one descriptor, for a machine whose answers come by more than one."""

from __future__ import annotations

import errno
import select
from collections.abc import Callable
from typing import Self

from rawproto.errors import LinkError
from rawproto.link.base import Arrival, Link, arrival_order
from rawproto.machine import Transmit

__all__ = ["JoinedLink"]


class JoinedLink:
    """Links that are received from together.

    Args:
        links: at least one, each with a descriptor; owned from here on.
        choose: which of them a packet goes out by, by its index.
    """

    def __init__(self, *links: Link, choose: Callable[[Transmit], int]) -> None:
        self.links = links
        self._choose = choose
        # What one said while others had something to tell, which comes first.
        self._failure: LinkError | None = None
        self._epoll = select.epoll()
        for link in links:
            self._epoll.register(link.fileno(), select.EPOLLIN)

    @property
    def dropped(self) -> int:
        """Packets that this host dropped, by any of them."""
        return sum(link.dropped for link in self.links)

    def fileno(self) -> int:
        """The epoll descriptor, -1 when closed."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def send(self, transmit: Transmit) -> int:
        """Sends by the link that is chosen for it; see `link.base.Link.send`."""
        return self.links[self._choose(transmit)].send(transmit)

    def receive(self, limit: int = 64) -> list[Arrival]:
        """What has arrived by any; `limit` holds for each. See `link.base.Link.receive`."""
        if self._epoll.closed:
            raise LinkError("receive", "", errno.EBADF)
        # Asking epoll costs less than a receive that finds nothing.
        ready = {fd for fd, _ in self._epoll.poll(0)}
        arrivals: list[Arrival] = []
        for link in self.links:
            if link.fileno() in ready or link.poll_timeout() is not None:
                try:
                    arrivals += link.receive(limit)
                except LinkError as error:
                    self._failure = error
        if not arrivals and self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return sorted(arrivals, key=arrival_order)

    def poll_timeout(self) -> int | None:
        """The earliest of all; at once where one has failed and the others had more to tell."""
        if self._failure is not None:
            return 0
        times = [link.poll_timeout() for link in self.links]
        return min((at for at in times if at is not None), default=None)

    def close(self) -> None:
        """Gives all descriptors back."""
        self._epoll.close()
        for link in self.links:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
