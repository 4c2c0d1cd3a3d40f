"""The fixed part of a TCP header whose options a capture cut off.

A snapshot length of 64 or 68 bytes ends within them, and `dissect` reads no header that is
not all there, because what it reads must emit again as it was. Ports, numbers and flags are
there all the same (RFC 9293 section 3.1), and who only looks wants them::

    | ethernet | ipv4 | tcp: 20 bytes | options: 10 of 12 |
                      ^ payload_offset                    ^ end of the capture

It knows no other layer: UDP's header has nothing to cut, a shorter one of TCP no flags.
"""

from __future__ import annotations

from rawproto.wire.dissect import Dissection
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.tcp import TCPHeader

__all__ = ["cut_tcp"]

_FIXED_BYTES = 20
_NO_OPTIONS = 0x50


def cut_tcp(found: Dissection) -> TCPHeader | None:
    """The header at the beginning of the payload, without its options.

    Args:
        found: what `dissect` made of a packet.

    Returns:
        It, with `data_offset` as it stands; None where there is no such header, it has been
        read whole, or not even its fixed part is there.
    """
    if found.damage is None or found.fragment or not found.layers:
        return None
    last, data = found.layers[-1], found.payload
    kind = last.protocol if isinstance(last, IPv4Header) else getattr(last, "next_header", None)
    if kind != TCPHeader.ip_protocol or len(data) < _FIXED_BYTES:
        return None
    words = data[12] >> 4
    if words * 4 <= len(data):  # what is wrong with it is something else
        return None
    control = _NO_OPTIONS | data[12] & 0x0F
    header, _ = TCPHeader.parse(data[:12] + bytes((control,)) + data[13:_FIXED_BYTES])
    header.data_offset = words
    return header
