"""Where this host stands, asked of the kernel and remembered: routes, own and others' MACs.

What `link/routes.py` answers is kept for a minute, because a sweep asks the same for
thousands of packets; a neighbour that nobody answers for is remembered too, or each packet to
it would wait. It decides nothing: it is what `packets.complete` fills packets in from.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from rawproto.errors import LinkError
from rawproto.link.interfaces import Interface
from rawproto.link.interfaces import interface as find_interface
from rawproto.link.routes import Route, lookup, resolve_neighbor

__all__ = ["Ways"]

LIFE_NS = 60 * 10**9
MOST_REMEMBERED = 4096

T = TypeVar("T")


class Ways:
    """The kernel's answers about the network namespace of the calling thread.

    Args:
        interface: by name, what everything is to leave by; None for the kernel's choice.
        patience_ns: how long a neighbour may take to answer.

    Raises:
        LinkError: no such interface.
    """

    def __init__(self, interface: str | None = None, *, patience_ns: int = 10**9) -> None:
        self.interface = find_interface(interface).name if interface is not None else ""
        self._patience_ns = patience_ns
        self._known: dict[tuple[str, ...], tuple[int, object]] = {}

    def route(self, dst_addr: str) -> Route:
        """The way to a host.

        Raises:
            LinkError: there is none, or none without an interface (a link-local address).
        """
        return self._remembered(("route", dst_addr), lambda: self._look_up(dst_addr))

    def mac_addr(self, interface: str) -> str:
        """Of one of this host's interfaces.

        Raises:
            LinkError: there is none of that name, or it takes no Ethernet frames.
        """
        device: Interface = self._remembered(
            ("interface", interface), lambda: find_interface(interface)
        )
        if not device.has_ethernet_header:
            raise LinkError("send frame by", interface, errno.EOPNOTSUPP, "it takes none")
        return device.mac_addr

    def neighbor(self, next_hop: str, interface: str) -> str:
        """The MAC address of a host on the link.

        Raises:
            LinkError: nobody answers (EHOSTUNREACH).
        """
        return self._remembered(
            ("neighbor", next_hop, interface),
            lambda: resolve_neighbor(next_hop, interface, timeout_ns=self._patience_ns),
        )

    def _look_up(self, dst_addr: str) -> Route:
        try:
            return lookup(dst_addr, interface=self.interface or None)
        except LinkError as error:
            if error.errno == errno.EINVAL and not self.interface:
                raise LinkError(
                    "route to", dst_addr, errno.EINVAL, "needs an interface to leave by"
                ) from None
            raise

    def _remembered(self, key: tuple[str, ...], ask: Callable[[], T]) -> T:
        now_ns = time.monotonic_ns()
        known = self._known.get(key)
        if known is None or known[0] < now_ns:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            answer: object
            try:
                answer = ask()
            except LinkError as error:
                answer = error
            known = self._known[key] = now_ns + LIFE_NS, answer
        if isinstance(known[1], LinkError):
            raise known[1]
        return known[1]  # type: ignore[return-value]
