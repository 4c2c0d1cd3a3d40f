"""What goes wrong, in the words of a socket: an OSError and its number (errno(3))."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TypeVar

from rawproto.errors import (
    ConnectionLostError,
    HandshakeError,
    NotAuthorizedError,
    PeerMismatchError,
    RawprotoError,
    RefusedError,
    UnknownPeerError,
)

__all__ = ["failure", "most_telling", "os_error"]

_OF_HANDSHAKES = (
    (PeerMismatchError, errno.EKEYREJECTED),
    (UnknownPeerError, errno.ENOKEY),
    (NotAuthorizedError, errno.EACCES),
    (HandshakeError, errno.EPROTO),
)
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

E = TypeVar("E", bound=Exception)


def failure(number: int) -> OSError:
    """An OSError in the kernel's words."""
    return OSError(number, os.strerror(number))


def os_error(error: Exception, *, connected: bool) -> OSError:
    """An exception of the transport's as a socket raises it.

    Errors of handshakes stay what they are (they tell more than a number) and get one:
    EKEYREJECTED, ENOKEY, EACCES, EPROTO. All others become what TCP would raise.

    Args:
        error: the transport's.
        connected: whether the connection was established.
    """
    for kind, number in _OF_HANDSHAKES:
        if isinstance(error, kind):
            error.errno = number
            return error
    if isinstance(error, RefusedError):
        made = OSError(errno.ECONNREFUSED, str(error))
    elif isinstance(error, ConnectionLostError):
        usual = errno.ECONNRESET if connected else errno.ETIMEDOUT
        made = OSError(error.errno or usual, error.reason)
    elif isinstance(error, OSError):
        return error
    else:
        words = error.args[0] if isinstance(error, RawprotoError) and error.args else str(error)
        made = OSError(errno.ECONNRESET, str(words))
    made.__cause__ = error
    return made


def most_telling(errors: Sequence[E]) -> E:
    """Of what went wrong with several addresses of a host, what says most; of equals the first."""
    return max(errors, key=_telling)


def _telling(error: Exception) -> int:
    if isinstance(error, HandshakeError):
        return 4  # somebody is there, and it is not whom we want
    if isinstance(error, ConnectionRefusedError):
        return 3
    if isinstance(error, OSError) and error.errno in _NO_WAY:
        return 0  # such as IPv6 where there is none
    return 1 if isinstance(error, ConnectionLostError | TimeoutError) else 2
