"""Every exception that rawproto raises on purpose: one hierarchy.

A caller who wants them all catches `RawprotoError`; each also inherits the
built-in that a Python programmer would expect (`ValueError` for bad bytes and
bad fields, `OSError` for links). Unreachable, time exceeded and time-out are
no exceptions but events: a measurement reports them and goes on.
"""

from __future__ import annotations

import os

__all__ = [
    "ConnectionLostError",
    "EmitError",
    "HandshakeError",
    "LinkError",
    "LocalProtocolError",
    "MalformedError",
    "NotAuthorizedError",
    "PeerMismatchError",
    "PrivilegeError",
    "ProtocolError",
    "RawprotoError",
    "RefusedError",
    "RemoteProtocolError",
    "TruncatedError",
    "UnknownPeerError",
    "UsageError",
    "WireError",
]


class RawprotoError(Exception):
    """The root of the hierarchy."""


class UsageError(RawprotoError, ValueError):
    """What the caller asked for makes no sense: an unknown host, a bad option, a bad file.

    The message is the one line that a user sees.
    """


class WireError(RawprotoError, ValueError):
    """Bytes that are not what they claim to be. The only exception of a parser.

    Attributes:
        layer: name of the layer that could not be read, as its module in `wire/`.
        offset: where in the bytes given to that layer's parser, in bytes.
        reason: what is wrong, in words.
    """

    def __init__(self, layer: str, offset: int, reason: str) -> None:
        super().__init__(f"{layer} at byte {offset}: {reason}")
        self.layer = layer
        self.offset = offset
        self.reason = reason


class TruncatedError(WireError):
    """The bytes end too early: `needed` bytes were wanted from `offset`, `got` were there."""

    def __init__(self, layer: str, offset: int, needed: int, got: int) -> None:
        super().__init__(layer, offset, f"truncated: {needed} bytes needed, {got} there")
        self.needed = needed
        self.got = got


class MalformedError(WireError):
    """The bytes are there but contradict the format."""


class EmitError(RawprotoError, ValueError):
    """A field holds what cannot be put on the wire.

    Attributes:
        field: name of the field, `Class.field`.
        value: what it held.
    """

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field}={value!r}: {reason}")
        self.field = field
        self.value = value
        self.reason = reason


class LinkError(RawprotoError, OSError):
    """A socket, an interface or a route said no.

    Attributes:
        operation: what was tried, in a word or two (`"send"`, `"open raw socket"`).
        address: on what (an address, an interface), "" where there is none.
        errno: the kernel's error number, or None where the kernel was not asked.
    """

    def __init__(
        self, operation: str, address: str, errno: int | None, reason: str | None = None
    ) -> None:
        self.operation = operation
        self.address = address
        self.reason = reason or (os.strerror(errno) if errno else "failed")
        # OSError fills `errno` and `strerror` itself from two arguments.
        super().__init__(errno, self.reason)

    def __str__(self) -> str:
        where = f" {self.address}" if self.address else ""
        return f"{self.operation}{where}: {self.reason}"


class PrivilegeError(LinkError, PermissionError):
    """The process may not do that.

    Attributes:
        capability: the Linux capability that is missing, e.g. `"CAP_NET_RAW"`.
        remedy: a command or an option that would help, in one line.
    """

    def __init__(self, operation: str, address: str, errno: int, capability: str, remedy: str):
        super().__init__(operation, address, errno, f"{os.strerror(errno)} (needs {capability})")
        self.capability = capability
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{super().__str__()}; {self.remedy}"


class ProtocolError(RawprotoError):
    """A connection ended because somebody broke the protocol, or said so.

    Attributes:
        code: of the CLOSE (docs/transport-spec.md section 11.2).
        reason: in words.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (code {code})")
        self.code = code
        self.reason = reason


class LocalProtocolError(ProtocolError):
    """What this side was asked to do, or did, is not allowed."""


class RemoteProtocolError(ProtocolError):
    """The peer closed the connection with a code that is not 0, or broke the protocol."""


class HandshakeError(RawprotoError, ConnectionError):
    """The peer answers, but no connection comes of it."""


class UnknownPeerError(HandshakeError):
    """The peer showed a key that nobody trusts yet.

    Attributes:
        public_key: that key, 32 bytes.
    """

    def __init__(self, message: str, public_key: bytes) -> None:
        super().__init__(message)
        self.public_key = public_key


class PeerMismatchError(HandshakeError):
    """The peer showed another key than the one pinned for it.

    Attributes:
        public_key: the one it showed, 32 bytes.
    """

    def __init__(self, message: str, public_key: bytes) -> None:
        super().__init__(message)
        self.public_key = public_key


class NotAuthorizedError(HandshakeError):
    """The peer does not admit this side's key."""


class RefusedError(RawprotoError, ConnectionRefusedError):
    """Nobody listens there."""


class ConnectionLostError(RawprotoError, ConnectionError):
    """A connection ended without a word: silence, or a peer that knows nothing of it.

    Attributes:
        reason: in words.
        errno: what the kernel would call it, None for nothing that it knows.
    """

    def __init__(self, reason: str, errno: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.errno = errno
