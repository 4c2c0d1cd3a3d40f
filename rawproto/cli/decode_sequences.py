"""TCP's sequence numbers counted from where a connection began, as people read them.

A packet with SYN, or the first that is seen of a connection, shows its numbers as they
stand and tells where both directions begin: at its own sequence number, and just before
what it acknowledges. All later ones are counted from there (`wire.summary` subtracts).
As many connections as fit are remembered, the oldest forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict

from rawproto.wire.cut import cut_tcp
from rawproto.wire.dissect import Dissection
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.tcp import SYN, TCPHeader

__all__ = ["Sequences"]

_MOST_CONNECTIONS = 65_536
_Direction = tuple[str, int, str, int]


class Sequences:
    """Where the directions of the connections seen so far begin."""

    def __init__(self, most_connections: int = _MOST_CONNECTIONS) -> None:
        # A dict would look for its oldest entry among all that are gone: 10 us instead of 0.1.
        self._begins: OrderedDict[_Direction, tuple[int, int]] = OrderedDict()
        self._most = most_connections

    def base(self, seen: Dissection) -> tuple[int, int]:
        """What to subtract from a packet's sequence and acknowledgment numbers."""
        segment = cut_tcp(seen) or (seen.layers[-1] if seen.layers else None)
        if not isinstance(segment, TCPHeader):
            return 0, 0
        for layer in reversed(seen.layers):
            if isinstance(layer, IPv4Header | IPv6Header):
                break
        else:
            return 0, 0
        direction = layer.src_addr, segment.src_port, layer.dst_addr, segment.dst_port
        known = self._begins.get(direction)
        if known is not None and not segment.flags & SYN:
            return known
        opposite = (*direction[2:], *direction[:2])
        begin, other = segment.sequence_number, segment.acknowledgment_number - 1
        for each, pair in ((direction, (begin, other)), (opposite, (other, begin))):
            self._begins.pop(each, None)
            self._begins[each] = pair
        while len(self._begins) > 2 * self._most:
            self._begins.popitem(last=False)
        return 0, 0
