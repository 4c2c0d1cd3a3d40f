"""What a capture is made of: protocols, conversations, endpoints, pings, TCP's conduct.

One pass over the packets, with memory that does not grow with their number: each
table keeps so many entries and counts what it had no room for, and `full` says so. Bytes
are those on the wire, link layer included, not those that the capture kept.

A packet counts for the protocols that can be read in it. Of fragments each counts for
the addresses on it, and the last to come, which makes the packet whole, for what is
inside: its ports and its protocol. tshark's tables (`-z io,phs`, `-z conv,tcp`,
`-z endpoints,ip`) count the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rawproto.packets.conversations import (
    MAX_CONVERSATIONS,
    Conversation,
    Conversations,
    transport,
)
from rawproto.packets.pings import Pings
from rawproto.packets.retransmissions import TCPConduct
from rawproto.wire.cut import cut_tcp
from rawproto.wire.dissect import Dissection
from rawproto.wire.ethernet import EthernetHeader
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import FragmentHeader
from rawproto.wire.tcp import TCPHeader

__all__ = ["Endpoint", "ProtocolNode", "Statistics", "endpoints"]

MAX_NODES = 4096
"""How many nodes the tree of protocols has at most: tunnels may nest in any order."""


@dataclass(slots=True, kw_only=True)
class ProtocolNode:
    """A protocol behind those above it in the tree.

    Attributes:
        packets: how many had it there.
        bytes: their length on the wire.
        inside: what stood inside it, by name; `data` is what no layer read.
    """

    packets: int = 0
    bytes: int = 0
    inside: dict[str, ProtocolNode] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """One end of conversations, all of them added up.

    Attributes:
        addr: its address.
        port: None where the protocol has none.
        packets: how many it (sent, received).
        bytes: likewise.
    """

    addr: str
    port: int | None
    packets: list[int] = field(default_factory=lambda: [0, 0])
    bytes: list[int] = field(default_factory=lambda: [0, 0])


class Statistics:
    """Counts packets as they come.

    Attributes:
        packets: how many.
        bytes: their length on the wire.
        captured_bytes: what the capture kept of them.
        first_ns: the earliest time, None before the first packet.
        last_ns: the latest.
        damaged: packets that contradict themselves or were cut short.
        fragments: packets that are one fragment of another.
        protocols: the tree's root.
        tables: conversations, by protocol: ethernet, ipv4, ipv6, tcp, udp.
        conduct: of each TCP conversation, by its number.
        pings: echo requests and replies.
    """

    def __init__(self, *, max_conversations: int = MAX_CONVERSATIONS) -> None:
        """
        Args:
            max_conversations: kept at most of each protocol.
        """
        self.packets = self.bytes = self.captured_bytes = 0
        self.damaged = self.fragments = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.protocols = ProtocolNode()
        self.tables = {
            name: Conversations(name, max_conversations=max_conversations)
            for name in ("ethernet", "ipv4", "ipv6", "tcp", "udp")
        }
        self.conduct: list[TCPConduct] = []
        self.pings = Pings()
        self._nodes = 0
        self._crowded = 0

    @property
    def full(self) -> dict[str, int]:
        """The tables that had no room for all: how many packets each left out."""
        crowded = {name: table.untracked for name, table in self.tables.items()}
        crowded["protocols"] = self._crowded
        crowded["pings"] = self.pings.untracked + self.pings.forgotten
        return {name: count for name, count in crowded.items() if count}

    def add(self, found: Dissection, whole: Dissection | None, length: int, time_ns: int) -> None:
        """Takes a packet.

        Args:
            found: what `dissect` made of it.
            whole: what `Reassembler.whole` answered: `found` again if it is no fragment.
            length: on the wire, in bytes.
            time_ns: when it was captured.
        """
        self.packets += 1
        self.bytes += length
        self.captured_bytes += len(found.data)
        self.first_ns = time_ns if self.first_ns is None else min(self.first_ns, time_ns)
        self.last_ns = time_ns if self.last_ns is None else max(self.last_ns, time_ns)
        self.damaged += found.damage is not None
        self.fragments += found.fragment
        self._count_protocols(found, whole, length)
        for layer in found.layers:
            if isinstance(layer, EthernetHeader | IPv4Header | IPv6Header):
                known = self.tables[layer.layer].add(layer.src_addr, layer.dst_addr, time_ns)
                if known is not None:
                    known[0].count(known[1], length, time_ns)
        if whole is None:
            return
        carried = transport(whole)
        if carried is None:
            self.pings.add(whole, time_ns)
            return
        table = self.tables[carried.header.layer]
        known = table.add(carried.src_addr, carried.dst_addr, time_ns, carried.header)
        if known is None:
            return
        conversation, side = known
        conversation.count(side, length, time_ns)
        if isinstance(carried.header, TCPHeader):
            if conversation.number == len(self.conduct):
                self.conduct.append(TCPConduct())
            self.conduct[conversation.number].add(side, carried.header, carried.length, time_ns)

    def _count_protocols(self, found: Dissection, whole: Dissection | None, length: int) -> None:
        names = [layer.layer for layer in found.layers]
        if found.fragment:
            names = names[: _fragmented(found) + 1]
        if whole is not None and whole is not found:
            names += [layer.layer for layer in whole.layers[1:]]
        if whole is not None and cut_tcp(whole) is not None:
            names.append(TCPHeader.layer)
        elif whole is None or whole.payload:
            names.append("data")
        node = self.protocols
        node.packets += 1
        node.bytes += length
        for name in names:
            inside = node.inside.get(name)
            if inside is None:
                if self._nodes >= MAX_NODES:
                    self._crowded += 1
                    return
                self._nodes += 1
                inside = node.inside[name] = ProtocolNode()
            node = inside
            node.packets += 1
            node.bytes += length


def _fragmented(found: Dissection) -> int:
    """Which layer makes it a fragment: behind it is no whole header."""
    return next(
        index
        for index, layer in enumerate(found.layers)
        if isinstance(layer, IPv4Header | FragmentHeader)
        and (layer.fragment_offset or layer.flags & MF)
    )


def endpoints(conversations: Iterable[Conversation]) -> list[Endpoint]:
    """The ends of conversations with what they sent and received, the busiest first."""
    found: dict[tuple[str, int | None], Endpoint] = {}
    for each in conversations:
        for side, (addr, port) in enumerate(
            ((each.src_addr, each.src_port), (each.dst_addr, each.dst_port))
        ):
            end = found.get((addr, port))
            if end is None:
                end = found[addr, port] = Endpoint(addr=addr, port=port)
            for index, way in enumerate((side, 1 - side)):
                end.packets[index] += each.packets[way]
                end.bytes[index] += each.bytes[way]
    return sorted(found.values(), key=lambda end: sum(end.bytes), reverse=True)
