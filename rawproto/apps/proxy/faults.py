"""Why a target was not reached: an error of RPC, a SOCKS reply (RFC 1928 section 6), a status
of HTTP (RFC 9110 section 15)."""

from __future__ import annotations

import errno
import os
import socket
from typing import ClassVar

from rawproto.rpc import RPCError, UnknownMethodError

__all__ = ["ERRORS", "BrokenError", "BusyError", "DeniedError", "HostUnreachableError"]
__all__ += ["NetworkUnreachableError", "RefusedTargetError", "TargetError", "TimedOutError"]
__all__ += ["UnresolvedError", "http_status", "socks_reply", "target_error"]


_COMMAND_UNKNOWN = 7


class TargetError(RPCError):
    """A target was not reached, or is no longer.

    Attributes:
        socks: the reply that says so.
        http: the status that says so.
    """

    code = "target"
    socks: ClassVar[int] = 1
    http: ClassVar[int] = 502


class DeniedError(TargetError):
    """The exit's rules do not allow it."""

    code = "denied"
    socks = 2
    http = 403


class NetworkUnreachableError(TargetError):
    """No route leads there."""

    code = "network_unreachable"
    socks = 3


class HostUnreachableError(TargetError):
    """It does not answer at all, says a router."""

    code = "host_unreachable"
    socks = 4


class UnresolvedError(TargetError):
    """The name has no address."""

    code = "unresolved"
    socks = 4


class RefusedTargetError(TargetError):
    """Nobody listens there."""

    code = "refused"
    socks = 5


class TimedOutError(TargetError):
    """It took too long."""

    code = "timed_out"
    socks = 6
    http = 504


class BusyError(TargetError):
    """So much is open already that nothing more is."""

    code = "busy"
    http = 503


class BrokenError(TargetError):
    """It was reached, and then broke."""

    code = "broken"


ERRORS = (
    TargetError,
    DeniedError,
    NetworkUnreachableError,
    HostUnreachableError,
    UnresolvedError,
    RefusedTargetError,
    TimedOutError,
    BusyError,
    BrokenError,
)
"""For `RPCPeer`."""

_OF_ERRNO: dict[int, type[TargetError]] = {
    errno.ECONNREFUSED: RefusedTargetError,
    errno.ENOENT: RefusedTargetError,  # a Unix socket
    errno.ENETUNREACH: NetworkUnreachableError,
    errno.EADDRNOTAVAIL: NetworkUnreachableError,
    errno.EAFNOSUPPORT: NetworkUnreachableError,
    errno.EHOSTUNREACH: HostUnreachableError,
    errno.EHOSTDOWN: HostUnreachableError,
    errno.EACCES: DeniedError,
    errno.EPERM: DeniedError,
    errno.ETIMEDOUT: TimedOutError,
    errno.EMFILE: BusyError,
    errno.ENFILE: BusyError,
}


def target_error(error: OSError, what: str) -> TargetError:
    """What the caller is told of an error of this host's.

    Args:
        error: it.
        what: the target, for words.
    """
    if isinstance(error, socket.gaierror):
        return UnresolvedError(f"{what}: {(error.strerror or 'no such name').lower()}")
    if isinstance(error, TimeoutError) and error.errno is None:
        return TimedOutError(f"{what}: no answer in time")
    number = error.errno or 0
    words = os.strerror(number) if number > 0 else error.strerror or "failed"
    return _OF_ERRNO.get(number, TargetError)(f"{what}: {words.lower()}")


def socks_reply(error: Exception) -> int:
    """The reply for what kept a target from being reached; an exit that is down is no route."""
    if isinstance(error, TargetError):
        return error.socks
    if isinstance(error, UnknownMethodError):
        return _COMMAND_UNKNOWN
    if isinstance(error, TimeoutError):
        return TimedOutError.socks
    return NetworkUnreachableError.socks if isinstance(error, OSError) else TargetError.socks


def http_status(error: Exception) -> int:
    """The status for it."""
    if isinstance(error, TargetError):
        return error.http
    return TimedOutError.http if isinstance(error, TimeoutError) else TargetError.http
