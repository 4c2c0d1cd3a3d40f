"""Walking IPv6's chain of extension headers without reading them (RFC 8200 section 4, RFC 6564).

All but two say their length in their second byte, in units of 8 bytes beyond the
first 8. The fragment header always has 8; the authentication header (RFC 4302)
counts units of 4 bytes beyond the first 8. Encrypted payload (50) and No Next
Header (59) end every chain.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["upper_layer", "walk"]

HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
_EXTENSIONS = frozenset((HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, 135, 139, 140))

MAX_HEADERS = 16
"""How long a chain is followed: hostile ones can be as long as the packet."""


def walk(next_header: int, data: bytes) -> Iterator[tuple[int, int]]:
    """Each header of the chain: (its number, its offset), the upper layer's last.

    Args:
        next_header: what the header before `data` announces.
        data: everything behind the fixed header.

    Yields:
        Nothing for headers that are not whole; the upper layer only where it is reached.
    """
    offset = 0
    for _ in range(MAX_HEADERS):
        yield next_header, offset
        if next_header not in _EXTENSIONS or len(data) < offset + 8:
            return
        length = data[offset + 1]
        if next_header == FRAGMENT:
            size = 8
        elif next_header == AUTHENTICATION:
            size = 4 * (length + 2)
        else:
            size = 8 * (length + 1)
        next_header = data[offset]
        offset += size
        if offset > len(data):
            return


def upper_layer(next_header: int, data: bytes) -> tuple[int, int] | None:
    """The upper layer's (number, offset), None where the chain does not reach it.

    Behind the first fragment there is none either. Arguments as of `walk`.
    """
    for number, offset in walk(next_header, data):
        if number not in _EXTENSIONS:
            return number, offset
        if number == FRAGMENT and int.from_bytes(data[offset + 2 : offset + 4], "big") >> 3:
            return None
    return None
