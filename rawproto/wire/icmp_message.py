"""What every message of ICMP and ICMPv6 begins with (read RFC 792, RFC 4443 section 2).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |   icmp_type   |     code      |           checksum            |
    +---------------+---------------+-------------------------------+
    |                    what the type makes of it ...              |

`ControlMessage` reads and writes these four bytes and leaves the rest to its
subclasses' `_read` and `_write`; `ICMPMessage` and `ICMPv6Message` say what the
checksum covers. It knows no types: see `icmp`, `icmpv6` and `ndp`, which read
any message, and `icmp_echo` for the one that is sent most.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.checksum import internet_checksum, pseudo_header_sum
from rawproto.wire.layer import Layer

__all__ = ["FIRST_WORD", "ControlMessage", "ICMPMessage", "ICMPv6Message"]

_FIRST = struct.Struct("!BBH")
_ICMPV6 = 58

FIRST_WORD = (("icmp_type", 8), ("code", 8), ("checksum", 16))
"""How the layout of every message begins."""

_new = object.__new__


# Only subclasses are ever made, and each method that dataclass generates delays the start.
@dataclass(slots=True, kw_only=True, init=False, repr=False, eq=False)
class ControlMessage(Layer):
    """What every message begins with.

    Attributes:
        icmp_type: says which message it is.
        code: the type's variant.
        checksum: None computes.

    Class attributes:
        icmp_types: the types that this class reads; empty for any.
        fixed_bytes: how long its fixed part is.
    """

    icmp_type: int
    code: int = 0
    checksum: int | None = None

    computed: ClassVar[tuple[str, ...]] = ("checksum",)
    layout: ClassVar[tuple[tuple[str, int], ...]] = FIRST_WORD
    icmp_types: ClassVar[frozenset[int]] = frozenset()
    fixed_bytes: ClassVar[int] = 8

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a message of the class's own types: (message, payload).

        Raises:
            TruncatedError: fewer bytes than the fixed part has.
            MalformedError: another type.
        """
        if len(data) < cls.fixed_bytes:
            raise TruncatedError(cls.layer, 0, cls.fixed_bytes, len(data))
        self = _new(cls)
        self.icmp_type, self.code, self.checksum = _FIRST.unpack_from(data)
        if cls.icmp_types and self.icmp_type not in cls.icmp_types:
            raise MalformedError(cls.layer, 0, f"type {self.icmp_type} is no {cls.__name__}")
        return self, self._read(data)

    def _read(self, data: bytes) -> bytes:
        """Fills in the fields behind the checksum from `data`, a whole message; its payload."""
        raise NotImplementedError

    def _write(self, payload: bytes) -> bytes:
        """Everything behind the checksum; struct.error where a field does not fit."""
        raise NotImplementedError

    def _body(self, payload: bytes) -> bytes:
        """As `_write`, but raises EmitError."""
        try:
            return self._write(payload)
        except (struct.error, TypeError):
            raise self.emit_error() from None

    def _seal(self, body: bytes, initial: int = 0) -> bytes:
        """The first four bytes before `body`, the checksum computed unless it is given."""
        checksum = self.checksum
        try:
            if checksum is None:
                checksum = internet_checksum(body, initial + (self.icmp_type << 8) + self.code)
            return _FIRST.pack(self.icmp_type, self.code, checksum) + body
        except (struct.error, TypeError):
            raise self.emit_error() from None


class ICMPMessage(ControlMessage):
    """A message of ICMP; its checksum covers the message and nothing else (RFC 792)."""

    __slots__ = ()

    layer: ClassVar[str] = "icmp"
    ip_protocol: ClassVar[int | None] = 1

    def emit(self, payload: bytes = b"") -> bytes:
        return self._seal(self._body(payload))

    @staticmethod
    def verify(data: bytes) -> bool:
        """Whether a whole message carries the right checksum.

        Raises:
            TruncatedError: fewer than 4 bytes.
        """
        if len(data) < 4:
            raise TruncatedError("icmp", 0, 4, len(data))
        return internet_checksum(data) == 0


class ICMPv6Message(ControlMessage):
    """A message of ICMPv6; its checksum covers a pseudo-header too (RFC 4443 section 2.3)."""

    __slots__ = ()

    layer: ClassVar[str] = "icmpv6"
    ip_protocol: ClassVar[int | None] = _ICMPV6

    def emit(
        self, payload: bytes = b"", *, src_addr: str | None = None, dst_addr: str | None = None
    ) -> bytes:
        """The message's bytes.

        Args:
            payload: what follows the message's own fields.
            src_addr: for the checksum, needed unless `checksum` is given.
            dst_addr: likewise; behind a routing header the final destination.

        Raises:
            EmitError: a field does not fit, or the addresses are missing.
        """
        body = self._body(payload)
        if self.checksum is not None:
            return self._seal(body)
        if src_addr is None or dst_addr is None:
            raise EmitError(
                f"{type(self).__name__}.checksum", None, "needs an IPv6 header's addresses"
            )
        return self._seal(body, pseudo_header_sum(src_addr, dst_addr, _ICMPV6, 4 + len(body)))

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        return self.emit(payload, src_addr=src_addr, dst_addr=dst_addr)

    @staticmethod
    def verify(data: bytes, *, src_addr: str, dst_addr: str) -> bool:
        """Whether a whole message carries the right checksum.

        Args:
            data: the message, not cut short.
            src_addr: of the IPv6 header.
            dst_addr: of the IPv6 header; behind a routing header the final destination.

        Raises:
            TruncatedError: fewer than 4 bytes.
        """
        if len(data) < 4:
            raise TruncatedError("icmpv6", 0, 4, len(data))
        initial = pseudo_header_sum(src_addr, dst_addr, _ICMPV6, len(data))
        return internet_checksum(data, initial) == 0
