"""Cutting packets into fragments (read RFC 791 section 3.2, RFC 8200 section 4.5).

Offsets count 8 bytes, so every fragment but the last carries a multiple of 8. An
IPv4 option is copied into each fragment or stays in the first, by the high bit
of its kind. An IPv6 packet's headers up to the routing header (the per-fragment
headers) stand in each fragment; the fragment header follows them.

Putting fragments together again is another room's work.
"""

from __future__ import annotations

import dataclasses

from rawproto.errors import EmitError
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_chain import FRAGMENT, HOP_BY_HOP, ROUTING, walk
from rawproto.wire.ipv6_ext import FragmentHeader

__all__ = ["fragment_ipv4", "fragment_ipv6"]


def fragment_ipv4(packet: bytes, mtu: int) -> list[bytes]:
    """The packet as fragments of at most `mtu` bytes; alone if it fits. DF is not heeded.

    Args:
        packet: a whole IPv4 packet, itself perhaps a fragment.
        mtu: at least 68 (RFC 791).

    Raises:
        WireError: no IPv4 packet.
        EmitError: the MTU leaves no room for 8 bytes of payload.
    """
    header, payload = IPv4Header.parse(packet)
    packet = packet[: header.total_length or None]
    if len(packet) <= mtu:
        return [packet]
    first = header.recomputed()
    later = dataclasses.replace(
        first, options=tuple(option for option in header.options if option.kind & 0x80)
    )
    fragments = []
    at = 0
    while at < len(payload):
        template = later if at else first
        room = _room(mtu, len(template.emit()))
        last = at + room >= len(payload)
        fragment = dataclasses.replace(
            template,
            flags=header.flags if last else header.flags | MF,
            fragment_offset=header.fragment_offset + at // 8,
        )
        fragments.append(fragment.emit(payload[at : at + room]))
        at += room
    return fragments


def fragment_ipv6(packet: bytes, mtu: int, identification: int) -> list[bytes]:
    """The packet as fragments of at most `mtu` bytes; alone if it fits.

    Args:
        packet: a whole IPv6 packet without a fragment header.
        mtu: at least 1280 on the wire (RFC 8200 section 5); less is cut too.
        identification: 32 bits, different for each packet of a flow.

    Raises:
        WireError: no IPv6 packet.
        EmitError: the MTU leaves no room for 8 bytes of payload.
    """
    if len(packet) <= mtu:
        return [packet]
    header, body = IPv6Header.parse(packet)
    # The unfragmentable part ends behind the last hop-by-hop or routing header.
    chain = list(walk(header.next_header or 0, body))
    split, before = 0, -1
    for position, (number, _) in enumerate(chain[:-1]):
        if number in (HOP_BY_HOP, ROUTING):
            split, before = chain[position + 1][1], chain[position][1]
    first_header = next(number for number, offset in chain if offset == split)
    fixed, rest = body[:split], body[split:]
    if before < 0:
        header = dataclasses.replace(header, next_header=FRAGMENT)
    else:
        fixed = fixed[:before] + bytes((FRAGMENT,)) + fixed[before + 1 :]
    outer = dataclasses.replace(header, payload_length=None)
    room = _room(mtu, 40 + len(fixed) + 8)
    fragments = []
    for at in range(0, len(rest), room):
        piece = FragmentHeader(
            next_header=first_header,
            fragment_offset=at // 8,
            flags=MF if at + room < len(rest) else 0,
            identification=identification,
        )
        fragments.append(outer.emit(fixed + piece.emit(rest[at : at + room])))
    return fragments


def _room(mtu: int, headers: int) -> int:
    room = (mtu - headers) // 8 * 8
    if room < 8:
        raise EmitError("mtu", mtu, f"no room for a fragment behind {headers} bytes of headers")
    return room
