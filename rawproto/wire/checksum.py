"""The Internet checksum and its pseudo-headers (read RFC 1071 first, then RFC 1624).

The one's-complement sum of 16-bit words is the number that the bytes spell in
base 65536, modulo 65535: Python's big integers do it in one division, five
times faster than a loop over words. Zero has two faces in one's complement;
only all-zero data sums to 0x0000, everything else that is a multiple of 65535
sums to 0xFFFF.

The pseudo-headers of UDP, TCP and ICMPv6 are words of the same sum, so their
order is nothing and one function serves both families::

    IPv4 (RFC 768, RFC 9293)            IPv6 (RFC 8200 section 8.1)
    +---------------------------+       +---------------------------+
    |      source address       |       |   source address (128)    |
    +---------------------------+       +---------------------------+
    |    destination address    |       | destination address (128) |
    +-------+--------+----------+       +---------------------------+
    | zeros |protocol|  length  |       | length (32)               |
    +-------+--------+----------+       +------------+--------------+
                                        | zeros (24) | next header  |
                                        +------------+--------------+

It knows no header: which bytes are summed is the caller's business.
"""

from __future__ import annotations

from functools import lru_cache

from rawproto.wire.address import pack_address

__all__ = [
    "address_sum",
    "internet_checksum",
    "ones_complement_sum",
    "pseudo_header_sum",
    "update_checksum",
]


def ones_complement_sum(data: bytes, initial: int = 0) -> int:
    """The 16-bit one's-complement sum of `data`, an odd last byte padded with zero.

    Args:
        data: any length.
        initial: a sum to start from, such as a pseudo-header's; not negative.

    Returns:
        0 to 0xFFFF; 0 only when everything summed is zero (RFC 1071 section 1).
    """
    total = int.from_bytes(data, "big")
    if len(data) & 1:
        total <<= 8
    total += initial
    return total % 0xFFFF or (0xFFFF if total else 0)


def internet_checksum(data: bytes, initial: int = 0) -> int:
    """The complement of the sum: what goes into a checksum field that was zero (RFC 1071).

    Over data that already holds its checksum the result is 0 when it is right.
    """
    total = int.from_bytes(data, "big")
    if len(data) & 1:
        total <<= 8
    total += initial
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))


@lru_cache(maxsize=4096)
def address_sum(address: str) -> int:
    """The sum of an address of either family, remembered because flows repeat them."""
    return int.from_bytes(pack_address(address), "big") % 0xFFFF


def pseudo_header_sum(src_addr: str, dst_addr: str, protocol: int, length: int) -> int:
    """The sum of a pseudo-header of either family, to start a checksum from.

    Args:
        src_addr: IPv4 or IPv6.
        dst_addr: same family; with a routing header the last destination (RFC 8200, 8.1).
        protocol: upper-layer protocol number.
        length: upper-layer length, header and data, in bytes.
    """
    return address_sum(src_addr) + address_sum(dst_addr) + protocol + length


def update_checksum(checksum: int, old: bytes, new: bytes) -> int:
    """The checksum after `old` became `new` in the data (RFC 1624, equation 3).

    Args:
        checksum: the field before the change.
        old: the replaced bytes, an even number of them, at an even offset.
        new: as many bytes as `old`.

    Raises:
        ValueError: the lengths differ or are odd.
    """
    if len(old) != len(new) or len(old) & 1:
        raise ValueError("old and new must have the same, even length")
    # HC' = ~(~HC + ~m + m'), each ~ taken over as many words as it covers.
    total = 0xFFFF - checksum
    total += 0xFFFF - int.from_bytes(old, "big") % 0xFFFF
    total += int.from_bytes(new, "big") % 0xFFFF
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))
