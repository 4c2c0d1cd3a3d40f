"""From a place to sockets: names are resolved, what they have is judged, and that is connected to.

A name is asked for once per connection. What is connected to is an address that was judged, in
numbers: a name server that answers something else the next time changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rawproto.apps.proxy.allow import AllowList, plain_address
from rawproto.apps.proxy.faults import DeniedError, UnresolvedError, target_error
from rawproto.apps.proxy.places import Place
from rawproto.apps.relay.sockets import connected, connected_unix

__all__ = ["Resolve", "Resolver", "connected_place"]

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a host, in the order in which to try them. Raises OSError."""

_AT_ONCE = 16
_MOST_ADDRESSES = 16


class Resolver:
    """Asks the system, for so many names at once."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, host: str) -> list[str]:
        async with self._room:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, None, type=socket.SOCK_STREAM
            )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def judged(place: Place, allow: AllowList, resolve: Resolve) -> list[str]:
    """The addresses of a place that may be connected to.

    Raises:
        UnresolvedError: there are none at all.
        DeniedError: there are none that are allowed.
    """
    try:
        plain_address(place.host)
        found: Sequence[str] = [place.host]
    except ValueError:
        try:
            found = await resolve(place.host)
        except (OSError, UnicodeError) as error:
            words = getattr(error, "strerror", None) or "no such name"
            raise UnresolvedError(f"{place.host}: {words.lower()}") from None
    if not found:
        raise UnresolvedError(f"{place.host}: the name has no address")
    found = found[:_MOST_ADDRESSES]
    allowed = [each for each in found if allow.allows(place.host, each, place.port)]
    if not allowed:
        raise DeniedError(f"{place}: not allowed here")
    return [str(plain_address(each)) for each in allowed]


async def connected_place(
    place: Place, allow: AllowList, resolve: Resolve, timeout_s: float
) -> socket.socket:
    """A stream socket that is connected to a place.

    Args:
        place: where.
        allow: what may be reached.
        resolve: gives a name's addresses.
        timeout_s: how long all of it may take.

    Raises:
        TargetError: it cannot be, or may not.
    """
    try:
        async with asyncio.timeout(timeout_s):
            if place.path:
                if not allow.allows_path(place.path):
                    raise DeniedError(f"{place}: not allowed here")
                return await connected_unix(place.path)
            addresses = await judged(place, allow, resolve)
            return await connected(
                [each for host in addresses for each in numbers(host, place.port)],
                socket.SOCK_STREAM,
            )
    except OSError as error:
        raise target_error(error, str(place)) from None


def numbers(host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[Any]:
    """An address as sockets want it; nobody is asked."""
    return socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)
