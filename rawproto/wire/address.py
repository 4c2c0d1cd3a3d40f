"""Addresses as text and as bytes.

Text is what people write: dotted IPv4, RFC 5952 IPv6 in lower case, MAC in
lower case with colons. `inet_pton` and `inet_ntop` are pure functions of the C
library; nothing here touches the network. IPv4-mapped and the deprecated
IPv4-compatible IPv6 addresses are written with a dotted tail, as RFC 5952
section 5 allows.
"""

from __future__ import annotations

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntoa, inet_ntop, inet_pton

from rawproto.errors import EmitError

__all__ = [
    "family_of",
    "pack_address",
    "pack_ipv4",
    "pack_ipv6",
    "pack_mac",
    "unpack_ipv4",
    "unpack_ipv6",
    "unpack_mac",
]

unpack_ipv4 = lru_cache(maxsize=4096)(inet_ntoa)
"""4 bytes to dotted text; remembered, because flows repeat their addresses."""


def pack_ipv4(address: str) -> bytes:
    """Dotted text to 4 bytes, all four numbers wanted. Raises EmitError."""
    try:
        return inet_pton(AF_INET, address)
    except (OSError, ValueError, TypeError):
        raise EmitError("address", address, "not an IPv4 address") from None


def pack_ipv6(address: str) -> bytes:
    """RFC 4291 text to 16 bytes; a scope (`%eth0`) is no part of a header. Raises EmitError."""
    try:
        return inet_pton(AF_INET6, address)
    except (OSError, ValueError, TypeError):
        raise EmitError("address", address, "not an IPv6 address") from None


@lru_cache(maxsize=4096)
def unpack_ipv6(data: bytes) -> str:
    """16 bytes to RFC 5952 text, remembered likewise."""
    return inet_ntop(AF_INET6, data)


def pack_address(address: str) -> bytes:
    """Either family to 4 or 16 bytes. Raises EmitError."""
    return pack_ipv6(address) if ":" in address else pack_ipv4(address)


def family_of(address: str) -> int:
    """4 or 6, by the look of the text alone."""
    return 6 if ":" in address else 4


def pack_mac(address: str) -> bytes:
    """`02:00:00:00:00:01` to 6 bytes; hyphens are taken too. Raises EmitError."""
    try:
        data = bytes.fromhex(address.replace(":", "").replace("-", ""))
    except (ValueError, TypeError, AttributeError):
        data = b""
    if len(data) != 6:
        raise EmitError("address", address, "not a MAC address")
    return data


def unpack_mac(data: bytes) -> str:
    """6 bytes to lower-case text with colons."""
    return data.hex(":")
