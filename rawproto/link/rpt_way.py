"""The way to a peer, and word of it when that changes: this host has roamed.

The kernel tells who listens of each address, route and link that changes (rtnetlink(7)). That
is only a hint: what counts is which source address it would choose now. One look answers
any number of notices, so that a router that learns routes all day costs little.
"""

from __future__ import annotations

import errno
import socket

from rawproto.errors import LinkError
from rawproto.link.routes import Route, lookup

__all__ = ["Way"]

_RTMGRP_LINK = 0x1
_GROUPS = {4: 0x10 | 0x40, 6: 0x100 | 0x400}
"""RTMGRP_IPV4_IFADDR and _ROUTE, RTMGRP_IPV6_IFADDR and _ROUTE."""
_MOST_NOTICES = 256
_NOTICE_BYTES = 1 << 15


class Way:
    """How packets get to one peer.

    Args:
        family: of the peer, 4 or 6.
        peer: its address.
        src_addr: the source to begin with; "" leaves it to the kernel.

    Attributes:
        src_addr: the source of packets by now.
        mtu: of the interface that they leave by.

    Raises:
        LinkError: there is no way.
    """

    def __init__(self, family: int, peer: str, src_addr: str = "") -> None:
        route = lookup(peer, src_addr=src_addr or None)
        self._peer = peer
        self.src_addr = src_addr or self._source(route)
        self.mtu = route.interface_mtu
        self._fixed = bool(src_addr)
        flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        try:
            self._notices = socket.socket(socket.AF_NETLINK, flags, 0)
        except OSError as error:
            raise LinkError("watch routes", "", error.errno) from None
        try:
            self._notices.bind((0, _RTMGRP_LINK | _GROUPS[family]))
        except OSError as error:
            self._notices.close()
            raise LinkError("watch routes", "", error.errno) from None

    def fileno(self) -> int:
        """Readable when something may have changed."""
        return self._notices.fileno()

    def look(self) -> bool:
        """Looks again: whether packets would have another source by now.

        Where no way is left for now, the last one stands.
        """
        self._drain()
        if self._fixed:
            return False
        try:
            route = lookup(self._peer)
        except LinkError:
            return False
        src_addr = self._source(route)
        if not src_addr or src_addr == self.src_addr:
            return False
        self.src_addr, self.mtu = src_addr, route.interface_mtu
        return True

    def _source(self, route: Route) -> str:
        """The source of packets; a link-local one means nothing without the peer's interface."""
        _, percent, scope = self._peer.partition("%")
        return route.src_addr + percent + scope if percent else route.src_addr

    def _drain(self) -> None:
        for _ in range(_MOST_NOTICES):
            try:
                self._notices.recv(_NOTICE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some were lost, and one look answers all
                    return

    def close(self) -> None:
        """Gives the descriptor back."""
        self._notices.close()
