"""ARP (read RFC 826 first; RFC 5227 for probes and announcements, RFC 5494 for the numbers).

The picture is that of IPv4 over Ethernet; other address lengths shift what follows::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------------------------------+-------------------------------+
    |         hardware_type         |         protocol_type         |
    +---------------+---------------+-------------------------------+
    |hardware_length|protocol_length|           operation           |
    +---------------+---------------+-------------------------------+
    |                     sender_hardware_addr                      |
    +                               +-------------------------------+
    |                               |     sender_protocol_addr      |
    +-------------------------------+-------------------------------+
    |                               |                               |
    +-------------------------------+                               +
    |                     target_hardware_addr                      |
    +---------------------------------------------------------------+
    |                     target_protocol_addr                      |
    +---------------------------------------------------------------+

Addresses are text. A protocol address of 4 bytes under protocol type 0x0800 is
dotted IPv4; every other address, of whatever length, is hexadecimal bytes with
colons between them, which for 6 bytes is a MAC address as usual.

It knows no cache and answers nobody.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from socket import inet_ntoa
from typing import ClassVar, Self

from rawproto.errors import EmitError, TruncatedError
from rawproto.wire.address import pack_ipv4
from rawproto.wire.ethernet import ETHERTYPES
from rawproto.wire.layer import Layer

__all__ = ["REPLY", "REQUEST", "ARPMessage"]

REQUEST = 1
REPLY = 2

_FIXED = struct.Struct("!HHBBH")
_IPV4 = 0x0800


@dataclass(slots=True, kw_only=True)
class ARPMessage(Layer):
    """An ARP message (RFC 826), by default a request of IPv4 over Ethernet.

    Attributes:
        hardware_type: 1 is Ethernet.
        protocol_type: an EtherType; 0x0800 is IPv4.
        hardware_length: bytes of each hardware address; None takes the sender's.
        protocol_length: bytes of each protocol address; None takes the sender's.
        operation: 1 request, 2 reply; others in RFC 5494.
        sender_hardware_addr: see the module for the text of all four.
        sender_protocol_addr: `0.0.0.0` in an address probe (RFC 5227).
        target_hardware_addr: of no meaning in a request.
        target_protocol_addr: the address asked for, in a request.
    """

    hardware_type: int = 1
    protocol_type: int = _IPV4
    hardware_length: int | None = None
    protocol_length: int | None = None
    operation: int = REQUEST
    sender_hardware_addr: str = "00:00:00:00:00:00"
    sender_protocol_addr: str = "0.0.0.0"
    target_hardware_addr: str = "00:00:00:00:00:00"
    target_protocol_addr: str = "0.0.0.0"

    layer: ClassVar[str] = "arp"
    ether_protocol: ClassVar[int | None] = 0x0806
    computed: ClassVar[tuple[str, ...]] = ("hardware_length", "protocol_length")
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("hardware_type", 16),
        ("protocol_type", 16),
        ("hardware_length", 8),
        ("protocol_length", 8),
        ("operation", 16),
        ("sender_hardware_addr", 48),
        ("sender_protocol_addr", 32),
        ("target_hardware_addr", 48),
        ("target_protocol_addr", 32),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "hardware_type": {
            1: "ethernet",
            6: "ieee802",
            7: "arcnet",
            15: "frame-relay",
            18: "fibre-channel",
            24: "ieee1394",
            32: "infiniband",
        },
        "protocol_type": ETHERTYPES,
        "operation": {
            1: "request",
            2: "reply",
            3: "rarp-request",
            4: "rarp-reply",
            8: "inarp-request",
            9: "inarp-reply",
            10: "nak",
        },
    }

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a message: (message, what stands behind it, such as padding).

        Raises:
            TruncatedError: fewer bytes than the lengths say.
        """
        try:
            hardware_type, protocol_type, hln, pln, operation = _FIXED.unpack_from(data)
        except struct.error:
            raise TruncatedError("arp", 0, 8, len(data)) from None
        end = 8 + 2 * (hln + pln)
        if len(data) < end:
            raise TruncatedError("arp", 8, end - 8, len(data) - 8)
        target = 8 + hln + pln
        dotted = protocol_type == _IPV4 and pln == 4
        sender_protocol, target_protocol = data[8 + hln : target], data[target + hln : end]
        return cls(
            hardware_type=hardware_type,
            protocol_type=protocol_type,
            hardware_length=hln,
            protocol_length=pln,
            operation=operation,
            sender_hardware_addr=data[8 : 8 + hln].hex(":"),
            sender_protocol_addr=inet_ntoa(sender_protocol) if dotted else sender_protocol.hex(":"),
            target_hardware_addr=data[target : target + hln].hex(":"),
            target_protocol_addr=inet_ntoa(target_protocol) if dotted else target_protocol.hex(":"),
        ), data[end:]

    def emit(self, payload: bytes = b"") -> bytes:
        sender_hardware = self._pack("sender_hardware_addr")
        sender_protocol = self._pack("sender_protocol_addr")
        hln, pln = self.hardware_length, self.protocol_length
        try:
            fixed = _FIXED.pack(
                self.hardware_type,
                self.protocol_type,
                len(sender_hardware) if hln is None else hln,
                len(sender_protocol) if pln is None else pln,
                self.operation,
            )
        except struct.error:
            raise self.emit_error() from None
        return b"".join(
            (
                fixed,
                sender_hardware,
                sender_protocol,
                self._pack("target_hardware_addr"),
                self._pack("target_protocol_addr"),
                payload,
            )
        )

    def _pack(self, name: str) -> bytes:
        text = getattr(self, name)
        try:
            if "." in text:
                return pack_ipv4(text)
            return bytes.fromhex(text.replace(":", "").replace("-", ""))
        except (ValueError, TypeError, AttributeError):
            field = f"ARPMessage.{name}"
            raise EmitError(field, text, "neither dotted IPv4 nor hexadecimal bytes") from None
