"""A socket's address as Python has it: (host, port), of IPv6 with flow label and scope."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

from rawproto.link.interfaces import split_scope

if TYPE_CHECKING:
    from rawproto.drivers.rpt.datagrams import Peer

__all__ = ["ANYWHERE", "resolve", "sockaddr"]

ANYWHERE = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


def sockaddr(peer: Peer, family: socket.AddressFamily) -> tuple[Any, ...]:
    """A peer, or this side, as a socket of that family tells it."""
    host, port = peer
    return (host, port) if family == socket.AF_INET else (host, port, 0, split_scope(host)[1])


def resolve(address: Any, family: socket.AddressFamily) -> Peer:
    """What a socket of that family is given: the host's first address, and the port.

    Raises:
        TypeError, OverflowError: it is no address.
        socket.gaierror: no such host.
    """
    most = 2 if family == socket.AF_INET else 4
    if not isinstance(address, tuple) or not 2 <= len(address) <= most:
        raise TypeError(f"an address of {family.name} is a tuple (host, port)")
    host, port = address[:2]
    if not isinstance(host, str) or not isinstance(port, int):
        raise TypeError(f"an address is (str, int), not {address!r}")
    if not 0 <= port <= 0xFFFF:
        raise OverflowError("port must be 0-65535.")
    found = socket.getaddrinfo(host or ANYWHERE[family], port, family, socket.SOCK_DGRAM)
    host = str(found[0][4][0])
    scope = cast(int, (*address, 0, 0)[3])
    if scope and "%" not in host:
        host = f"{host}%{socket.if_indextoname(scope)}"
    return host, port
