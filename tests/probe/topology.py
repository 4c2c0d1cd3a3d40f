"""A network in virtual time that answers traceroute's probes, its packets built by scapy.

Routers are data: who they are, how long they take, and what they do otherwise than
a good router would.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.packet import Packet

from rawproto.machine import Datagram, Transmit
from rawproto.probe.trace_events import TraceConfig, TraceHop, TraceMethod, TraceSummary
from rawproto.probe.traceroute import Traceroute
from tests.probe.virtual import Answer, VirtualNetwork

MS = 1_000_000
S = 1000 * MS


@dataclass
class Node:
    """One hop.

    Attributes:
        addr: who answers; "" for one that stays silent.
        rtt_ms: how long an answer takes, by how many it has answered before.
        answers: which of the probes that reach it (counted from 0) it answers.
        icmp: (type, code) of what it says.
        extensions: an RFC 4884 structure behind the quote.
        rewrite: what it does to a packet that it forwards (a NAT).
        quoted_bytes: how much of the packet it quotes behind the IP header.
        payload: what a target answers an echo with, None for what it was sent.
        flags: how a target answers a SYN.
    """

    addr: str = ""
    rtt_ms: float = 1.0
    answers: Callable[[int], bool] = lambda count: True
    icmp: tuple[int, int] | None = None
    extensions: bytes = b""
    rewrite: Callable[[Packet], Packet] = lambda packet: packet
    quoted_bytes: int = 8
    payload: bytes | None = None
    flags: str = "RA"
    seen: int = field(default=0)


@dataclass
class Path:
    """Nodes in a row; the last one is the target. `branches` replaces some by flow or packet."""

    nodes: list[Node]
    target_answers: bool = True
    choose: Callable[[int, Packet, int], Node | None] = lambda ttl, packet, count: None
    sent: list[Packet] = field(default_factory=list)

    def __call__(self, transmit: Transmit, now_ns: int) -> list[Answer]:
        """What comes back for one probe."""
        packet = (IPv6 if transmit.data[0] >> 4 == 6 else IP)(transmit.data)
        self.sent.append(packet)
        ttl = packet.hlim if IPv6 in packet else packet.ttl
        rewritten = packet.copy()
        nodes = self.nodes[: min(ttl, len(self.nodes))]
        for place, node in enumerate(nodes[:-1], 1):
            rewritten = (self.choose(place, packet, len(self.sent)) or node).rewrite(rewritten)
        place = len(nodes)
        node = self.choose(place, packet, len(self.sent)) or nodes[-1]
        count, node.seen = node.seen, node.seen + 1
        if not node.addr or not node.answers(count):
            return []
        at_target = place == len(self.nodes) and node.icmp is None
        if at_target and not self.target_answers:
            return []
        answer = self._target(packet, node) if at_target else self._error(rewritten, node)
        return [(round(node.rtt_ms * MS), answer)]

    def _error(self, packet: Packet, node: Node) -> Datagram:
        if IPv6 in packet:
            packet.hlim = 1
            quote = bytes(packet)[: 40 + max(node.quoted_bytes, 8)]
            message = ICMPv6TimeExceeded() if node.icmp is None else ICMPv6DestUnreach()
            if node.icmp is not None:
                message.type, message.code = node.icmp
            data = bytes(IPv6(src=node.addr, dst=packet.src) / message / quote)[40:]
            return self._datagram(data, node.addr, 58, 64)
        packet.ttl = 1
        del packet.chksum
        quote = bytes(packet)[: 20 + node.quoted_bytes]
        icmp_type, code = node.icmp or (11, 0)
        if node.extensions:
            quote = quote.ljust(128, b"\0")
            body = bytes((0, 32, 0, 0)) + quote + node.extensions
        else:
            body = bytes(4) + quote
        head = ICMP(bytes((icmp_type, code, 0, 0)) + body)
        del head.chksum
        return self._datagram(bytes(head), node.addr, 1, 64)

    def _target(self, packet: Packet, node: Node) -> Datagram:
        if ICMPv6EchoRequest in packet:
            echo = packet[ICMPv6EchoRequest]
            payload = echo.data if node.payload is None else node.payload
            reply = ICMPv6EchoReply(id=echo.id, seq=echo.seq, data=payload)
            data = bytes(IPv6(src=node.addr, dst=packet.src) / reply)[40:]
            return self._datagram(data, node.addr, 58, 60)
        if ICMP in packet:
            echo = packet[ICMP]
            payload = bytes(echo.payload) if node.payload is None else node.payload
            reply = ICMP(type=0, id=echo.id, seq=echo.seq) / payload
            return self._datagram(bytes(reply), node.addr, 1, 60)
        if TCP in packet:
            syn = packet[TCP]
            ack = TCP(sport=syn.dport, dport=syn.sport, flags=node.flags, ack=syn.seq + 1)
            outer = (IPv6 if IPv6 in packet else IP)(src=node.addr, dst=packet.src)
            data = bytes(outer / ack)[len(bytes(outer)) :]
            return self._datagram(data, node.addr, 6, 60)
        assert UDP in packet
        unreachable = Node(node.addr, icmp=(1, 4) if IPv6 in packet else (3, 3))
        return self._error(packet, unreachable)

    @staticmethod
    def _datagram(data: bytes, src_addr: str, protocol: int, ttl: int) -> Datagram:
        return Datagram(
            data=data,
            src_addr=src_addr,
            protocol=protocol,
            ttl=ttl,
            received_ns=0,
            stamp_source="kernel",
        )


def chain(hops: int, v6: bool = False, **fields) -> Path:
    name = "fd00:{}::1" if v6 else "10.0.{}.1"
    return Path([Node(name.format(hop), **fields) for hop in range(1, hops + 1)])


def machine_for(path: Path, method: TraceMethod = "udp", seed: int = 3, **fields) -> Traceroute:
    """A machine that is to trace `path`."""
    target = path.nodes[-1].addr
    config = TraceConfig(
        **{
            "method": method,
            "dst_addr": target,
            "src_addr": "fd00::9" if ":" in target else "10.0.0.9",
            "src_port": 50_000,
            "dst_port": 33_434,
            **fields,
        }
    )
    return Traceroute(config, 0, random.Random(seed))


def trace(path: Path, method: TraceMethod = "udp", **fields) -> tuple[list[TraceHop], TraceSummary]:
    """Runs a trace of `path`: its hops and its end."""
    network = VirtualNetwork(machine_for(path, method, **fields), path)
    *hops, summary = network.run()
    assert all(isinstance(hop, TraceHop) for hop in hops)
    assert isinstance(summary, TraceSummary)
    assert network.machine.poll_timeout() is None
    return hops, summary


def addresses(hops: list[TraceHop]) -> list[set[str | None]]:
    return [{answer and answer.src_addr for answer in hop.answers} for hop in hops]
