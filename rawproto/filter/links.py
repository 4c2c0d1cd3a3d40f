"""Where headers stand in a packet, by its link type and by the tags that were asked for.

An offset in a filter is counted from where the packet begins; what begins there depends
on the link type. `vlan`, `mpls` and `pppoes` move the headers behind them further back
for the rest of an expression, whatever the brackets: so pcap-filter(7) has it. Read
https://www.tcpdump.org/linktypes.html, RFC 3032 (MPLS), RFC 2516 (PPPoE)::

    Ethernet    0 destination   6 source    12 EtherType    14 network header
    cooked v1   0 direction                 14 EtherType    16 network header
    cooked v2   0 EtherType     4 interface 10 direction    20 network header
    loopback    0 address family                             4 network header
    raw IP                                                   0 network header

Only what announces a network header is known here; what is in it is asked in
`primitives`.
"""

from __future__ import annotations

from rawproto.errors import UsageError
from rawproto.filter.instructions import ANCILLARY, ANCILLARY_OFFSET
from rawproto.filter.predicate import Load, Not, Predicate, Test, either, equal, every, masked

__all__ = ["ETHERNET", "IPV4", "IPV6", "LINK_TYPES", "Headers", "ask"]

ETHERNET = 1
_RAW = frozenset((12, 14, 101))
_IPV4, _IPV6 = 228, 229
_NULL, _LOOP = 0, 108
_COOKED, _COOKED2 = 113, 276

LINK_TYPES: dict[int, str] = {
    _NULL: "BSD loopback",
    ETHERNET: "Ethernet",
    12: "raw IP",
    14: "raw IP",
    101: "raw IP",
    _LOOP: "OpenBSD loopback",
    _COOKED: "Linux cooked v1",
    _IPV4: "raw IPv4",
    _IPV6: "raw IPv6",
    _COOKED2: "Linux cooked v2",
}
"""The link types whose packets can be filtered, with a name for each."""

# Link type -> (offset of the EtherType, of the network header).
_LAYOUTS: dict[int, tuple[int, int]] = {ETHERNET: (12, 14), _COOKED: (14, 16), _COOKED2: (0, 20)}

IPV4, IPV6, MPLS = 0x0800, 0x86DD, 0x8847
_VLAN_TYPES = (0x8100, 0x88A8, 0x9100)
_PPPOE_SESSION = 0x8864
_PPP_NUMBERS = {IPV4: 0x0021, IPV6: 0x0057, MPLS: 0x0281}
# How a BSD loopback header says IPv6 depends on the system: Linux, NetBSD, FreeBSD, macOS.
_FAMILIES = {IPV4: (2,), IPV6: (10, 24, 28, 30)}
LONGEST_LENGTH = 1500
"""An EtherType that is not above is the length of an IEEE 802.3 frame."""


def ask(name: str) -> Load:
    """What the kernel knows beside the packet, by a name in `instructions.ANCILLARY`."""
    return Load(4, ANCILLARY_OFFSET + ANCILLARY[name])


class Headers:
    """Where the headers are that the next primitive looks at.

    Attributes:
        link_type: of the packets.
        announces: `ethertype`, `ppp`, `family`, `version` or `label`: what says which network
            header follows.
        link: offset of the link-layer header, in bytes.
        type: offset of what announces.
        network: offset of the network header.
        stripped_tags: how many `vlan` tags the kernel has taken out of the packet and tells
            of beside it.
    """

    def __init__(self, link_type: int, *, stripped_tags: int = 0) -> None:
        """Raises UsageError for a link type that is not in `LINK_TYPES`."""
        if link_type not in LINK_TYPES:
            raise UsageError(f"filter: packets of link type {link_type} cannot be filtered")
        self.link_type = link_type
        self.stripped_tags = stripped_tags
        self.link = 0
        self.type, self.network = _LAYOUTS.get(link_type, (0, 0))
        self.announces = "ethertype" if link_type in _LAYOUTS else "version"
        if link_type in (_NULL, _LOOP):
            self.network, self.announces = 4, "family"

    @property
    def is_ethernet(self) -> bool:
        """Whether the link-layer header has Ethernet addresses."""
        return self.link_type == ETHERNET and self.announces != "ppp"

    @property
    def outgoing(self) -> Predicate:
        """Whether the capturing host sent the packet (PACKET_OUTGOING is 4)."""
        if self.link_type == _COOKED:
            return equal(Load(2, 0), 4)
        return equal(Load(1, 10) if self.link_type == _COOKED2 else ask("type"), 4)

    @property
    def interface(self) -> Load:
        """The index of the interface."""
        return Load(4, 4) if self.link_type == _COOKED2 else ask("ifidx")

    def carries(self, ethertype: int) -> Predicate:
        """Whether the network header is that of an EtherType."""
        if self.announces == "ethertype":
            return equal(Load(2, self.type), ethertype)
        if self.announces == "ppp":
            return equal(Load(2, self.type), _PPP_NUMBERS.get(ethertype, ethertype))
        if self.announces == "family":
            return self._of_family(ethertype)
        if ethertype not in (IPV4, IPV6):
            return False
        if self.announces == "label":
            # Only the bottom of the label stack is known to be followed by IP (RFC 3032).
            bottom = masked(Load(1, self.network - 2), 0x01, 0x01)
            return every(bottom, self._version(ethertype))
        if self.link_type in (_IPV4, _IPV6):
            return (ethertype == IPV4) == (self.link_type == _IPV4)
        return self._version(ethertype)

    def _version(self, ethertype: int) -> Predicate:
        return masked(Load(1, self.network), 0xF0, 0x40 if ethertype == IPV4 else 0x60)

    def _of_family(self, ethertype: int) -> Predicate:
        numbers = _FAMILIES.get(ethertype, ())
        if self.link_type == _NULL:
            # In the byte order of the machine that captured, which the packet does not tell.
            numbers += tuple(int.from_bytes(each.to_bytes(4, "little"), "big") for each in numbers)
        return either(False, *(equal(Load(4, 0), each) for each in numbers))

    def carries_llc(self, access_point: int) -> Predicate:
        """Whether an IEEE 802.2 header follows that names a service access point."""
        if self.announces != "ethertype":
            return False
        if self.link_type in (_COOKED, _COOKED2):
            frame: Predicate = equal(Load(2, self.type), 4)
        else:
            frame = Not(Test("jgt", Load(2, self.type), LONGEST_LENGTH))
        if access_point in (0xF0, 0xFE):
            # NetBEUI and OSI have the same number as destination and as source.
            return every(frame, equal(Load(2, self.network), access_point << 8 | access_point))
        return every(frame, equal(Load(1, self.network), access_point))

    # --- what moves the headers ---

    def enter_vlan(self, number: int | None) -> Predicate:
        """Whether there is a VLAN tag, of that number; from now on, what it carries."""
        if self.stripped_tags:
            self.stripped_tags -= 1
            # That there is one was asked before.
            return True if number is None else masked(ask("vlan_tci"), 0x0FFF, number)
        tagged = either(*(self.carries(ethertype) for ethertype in _VLAN_TYPES))
        if number is not None:
            tagged = every(tagged, masked(Load(2, self.network), 0x0FFF, number))
        self.type = self.network + 2
        self.network += 4
        return tagged

    def enter_mpls(self, number: int | None) -> Predicate:
        """Whether there is an MPLS label, that one; from now on, what is below it."""
        if self.announces == "label":
            labelled = masked(Load(1, self.network - 2), 0x01, 0)
        else:
            labelled = self.carries(MPLS)
        if number is not None:
            label = masked(Load(4, self.network), 0xFFFF_F000, number << 12)
            labelled = every(labelled, label)
        self.network += 4
        self.announces = "label"
        return labelled

    def enter_pppoe(self, number: int | None) -> Predicate:
        """Whether there is a PPPoE session, that one; from now on, what is in it."""
        inside = self.carries(_PPPOE_SESSION)
        if number is not None:
            inside = every(inside, equal(Load(2, self.network + 2), number))
        self.link = self.type = self.network + 6
        self.network = self.type + 2
        self.announces = "ppp"
        return inside
