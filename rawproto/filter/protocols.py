"""Which headers a packet has, and where their bytes are, for what is asked of them.

Offsets are counted from the network header (RFC 791, RFC 8200)::

    IPv4   6 fragment offset   9 protocol      4*IHL what it carries
    IPv6                       6 next header      40 what it carries

Of IPv6 only the first next header is looked at, and for protocols by name or number also
the one behind a Fragment header; so libpcap has it.
"""

from __future__ import annotations

from rawproto.filter.links import IPV4, IPV6, Headers
from rawproto.filter.names import ETHERTYPES, IP_PROTOCOLS, LLC_SAPS
from rawproto.filter.predicate import (
    HeaderLength,
    Load,
    Not,
    Predicate,
    Test,
    either,
    equal,
    every,
)

__all__ = ["IPV6_LENGTH", "Protocols"]

IPV6_LENGTH = 40
"""Of an IPv6 header, in bytes."""
_FRAGMENT_HEADER = 44
# What is IPv4's only or IPv6's only; the others may be either's.
_OVER = {"icmp": "ip", "igmp": "ip", "vrrp": "ip", "carp": "ip", "icmp6": "ip6"}


class Protocols:
    """Predicates and loads behind the headers of one link type.

    Attributes:
        headers: where they stand; `vlan` and its like move them.
    """

    def __init__(self, headers: Headers) -> None:
        self.headers = headers

    def load(self, size: int, offset: int) -> Load:
        """Bytes behind the begin of the network header."""
        return Load(size, self.headers.network + offset)

    def protocol(self, name: str) -> Predicate:
        """A protocol by its keyword."""
        if name in LLC_SAPS:
            return self.headers.carries_llc(LLC_SAPS[name])
        if name in ETHERTYPES:
            return self.headers.carries(ETHERTYPES[name])
        return self.ip_protocol(IP_PROTOCOLS[name], _OVER.get(name))

    def ip_protocol(self, number: int, over: str | None) -> Predicate:
        """What an IP header says that it carries; over IPv4, IPv6 or, for None, either."""
        if over == "ip":
            return every(self.headers.carries(IPV4), equal(self.load(1, 9), number))
        if over == "ip6":
            behind_fragment = every(
                equal(self.load(1, 6), _FRAGMENT_HEADER), equal(self.load(1, IPV6_LENGTH), number)
            )
            carried = either(equal(self.load(1, 6), number), behind_fragment)
            return every(self.headers.carries(IPV6), carried)
        return either(self.ip_protocol(number, "ip"), self.ip_protocol(number, "ip6"))

    def no_later_fragment(self) -> Predicate:
        """Not an IPv4 fragment in which no transport header is."""
        return Not(Test("jset", self.load(2, 6), 0x1FFF))

    def behind_ipv4(self, offset: int) -> Load:
        """Two bytes behind an IPv4 header, whose length the header itself tells."""
        network = self.headers.network
        return Load(2, network + offset, HeaderLength(network))
