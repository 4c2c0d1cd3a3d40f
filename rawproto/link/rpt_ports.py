"""RPT's ports: held by names of abstract Unix sockets (docs/transport-spec.md section 1.4).

The kernel knows no ports of protocol 253. A name is as good as one: the second who wants
it gets EADDRINUSE, and whoever dies gives it back. Names belong to the network namespace,
as ports do (unix(7)). Any local user can take a name.
"""

from __future__ import annotations

import errno
import random
import socket
from typing import Literal

from rawproto.errors import LinkError

__all__ = ["Lease", "hold_port", "hold_responder", "is_held"]

Family = Literal[4, 6]

FIRST_EPHEMERAL, LAST_EPHEMERAL = 49_152, 65_535
_TRIES = 200


class Lease:
    """A port, or the responder's office, for as long as it is open."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        self._socket = sock
        self.port = port

    def close(self) -> None:
        """Gives the name back."""
        self._socket.close()


def _name(family: Family, what: int | str) -> str:
    return f"\0rawproto/rpt/ipv{family}/{what}"


def _take(name: str) -> socket.socket:
    # A listening stream socket: others test whether the name is held by connecting to it.
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(name)
        sock.listen(0)
    except OSError:
        sock.close()
        raise
    return sock


def hold_port(family: Family, port: int) -> Lease:
    """Takes a port; 0 takes a free one of 49152 to 65535.

    Raises:
        LinkError: EADDRINUSE where somebody has it.
    """
    if port:
        try:
            return Lease(_take(_name(family, port)), port)
        except OSError as error:
            raise LinkError("bind RPT port", str(port), error.errno) from None
    for _ in range(_TRIES):
        port = random.randint(FIRST_EPHEMERAL, LAST_EPHEMERAL)
        try:
            return Lease(_take(_name(family, port)), port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise LinkError("bind RPT port", "", error.errno) from None
    raise LinkError("bind RPT port", "", errno.EADDRINUSE)


def hold_responder(family: Family) -> Lease | None:
    """Takes the office of refusing ports that nobody holds; None if somebody has it."""
    try:
        return Lease(_take(_name(family, "responder")), 0)
    except OSError:
        return None


def is_held(family: Family, port: int) -> bool:
    """Whether somebody holds a port, found out without taking it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(_name(family, port))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # its queue is full, so it has one
        return True
