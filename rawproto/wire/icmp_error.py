"""Errors that quote a packet and may carry extensions: common to ICMP and ICMPv6 (RFC 4884).

The quoted packet, the original datagram, begins at byte 8. A `length` among the
first 8 bytes (in words of 4 or, in ICMPv6, of 8 bytes) says where it ends if an
extension structure follows; `icmp_ext` tells how routers older than the RFC do it.

Where `length` stands is known to the messages themselves, in `icmp` and `icmpv6`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Self

from rawproto.wire.icmp_ext import ICMPExtensions, join_original, split_original
from rawproto.wire.icmp_message import ControlMessage

__all__ = ["ExtensibleError"]


@dataclass(slots=True, kw_only=True, init=False, repr=False, eq=False)
class ExtensibleError(ControlMessage):
    """An error that may carry extensions behind the packet that caused it (RFC 4884).

    Attributes:
        length: of the original datagram where extensions follow, in units of
            `length_unit` bytes; None computes, 0 with extensions makes the form of
            routers older than RFC 4884.
        original_datagram: as much of the packet as came back, from its IP header on, and
            the padding behind it. What stands inside this layer in a stack joins it.
        extensions: None for none.
    """

    length: int | None = None
    original_datagram: bytes = b""
    extensions: ICMPExtensions | None = None

    computed: ClassVar[tuple[str, ...]] = ("checksum", "length")
    length_unit: ClassVar[int] = 4

    @property
    def noncompliant(self) -> bool:
        """Whether extensions follow which `length` does not announce (RFC 4884 section 5.5)."""
        return self.extensions is not None and self.length == 0

    def recomputed(self) -> Self:
        # Named in full: slots=True makes a new class, which a bare super() would not know.
        extensions = self.extensions and self.extensions.recomputed()
        return dataclasses.replace(ControlMessage.recomputed(self), extensions=extensions)

    def _split(self, data: bytes) -> None:
        """Fills in the original datagram and the extensions from a whole message."""
        length = (self.length or 0) * self.length_unit
        self.original_datagram, self.extensions = split_original(data[8:], length)

    def _join(self, payload: bytes) -> tuple[int, bytes]:
        """The `length` field and everything from byte 8 on."""
        original = self.original_datagram + payload
        return join_original(original, self.extensions, self.length, self.length_unit)
