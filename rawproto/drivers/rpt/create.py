"""`create_connection` and `create_server`, as the standard library's, over RPT."""

from __future__ import annotations

import socket as stdlib
from typing import Any

from rawproto.drivers.rpt.refusals import most_telling
from rawproto.drivers.rpt.socket import RPTSocket

__all__ = ["create_connection", "create_server"]

# What the standard library's callers pass on for "whatever is the default".
_UNSET: Any = getattr(stdlib, "_GLOBAL_DEFAULT_TIMEOUT", object())


def create_connection(
    address: tuple[str | None, int],
    timeout: float | None = _UNSET,
    source_address: tuple[str, int] | None = None,
    *,
    all_errors: bool = False,
    type: int = stdlib.SOCK_STREAM,
    proto: int = 0,
    **credentials: Any,
) -> RPTSocket:
    """Connects to (host, port), trying the host's addresses in turn.

    Args:
        address: where to.
        timeout: of the socket, in seconds; without it `socket.getdefaulttimeout()`.
        source_address: to bind to first.
        all_errors: whether all that went wrong is raised, as an ExceptionGroup.
        type, proto, credentials: as for `RPTSocket`.

    Raises:
        What `RPTSocket.connect` raises; of several addresses, what says most.
    """
    errors: list[OSError] = []
    for family, *_, found in stdlib.getaddrinfo(*address, 0, stdlib.SOCK_DGRAM):
        made: RPTSocket | None = None
        try:
            made = RPTSocket(family, type, proto, **credentials)
            if timeout is not _UNSET:
                made.settimeout(timeout)
            if source_address is not None:
                made.bind(source_address)
            made.connect(found)
            return made
        except OSError as error:
            errors.append(error)
            if made is not None:
                made.close()
        except BaseException:
            if made is not None:
                made.close()
            raise
    if not errors:
        raise OSError("getaddrinfo returns an empty list")
    try:
        if all_errors:
            raise ExceptionGroup("create_connection failed", errors)
        raise most_telling(errors)
    finally:
        errors.clear()  # they hold this frame


def create_server(
    address: tuple[str, int],
    *,
    family: int = stdlib.AF_INET,
    backlog: int = 128,
    type: int = stdlib.SOCK_STREAM,
    proto: int = 0,
    **credentials: Any,
) -> RPTSocket:
    """A socket that listens (of datagrams: is bound) at (host, port); "" is every address.

    As there, SO_REUSEADDR is set: what is left of a former server's connections is no hindrance.

    Args:
        address: where.
        family, type, proto, credentials: as for `RPTSocket`.
        backlog: as for `RPTSocket.listen`.

    Raises:
        OSError: as `RPTSocket.bind`.
    """
    made = RPTSocket(family, type, proto, **credentials)
    try:
        made.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_REUSEADDR, 1)
        made.bind(address)
        if made.type != stdlib.SOCK_DGRAM:
            made.listen(backlog)
        return made
    except BaseException:
        made.close()
        raise
