"""Building and parsing headers, beside scapy and dpkt.

Each library builds a packet from the values of its fields to the bytes on the wire,
lengths and checksums computed, and parses those bytes to objects whose every field can
be read, down to the innermost header. Addresses are given in the form that a library
works with itself: text, but for dpkt. Before anything is timed, all must have built the
same bytes and read the same fields.

Ours is built in both its ways: header by header (`emit`), which is what ping does, and
as a stack (`/`), which is what people write; and read in both: header by header, and by
`dissect`, which finds out by itself what comes next, as dpkt and scapy do. Every packet of
a run goes between the same two addresses, as in a flow; rawproto remembers what it made of
them. The criteria are about headers one by one.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from socket import AF_INET6, inet_aton, inet_pton

import dpkt
from report import (
    Criterion,
    at_least,
    conclude,
    interleave,
    machine,
    measure_cpu_ns,
    median_ratio,
    options,
    table,
)
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from rawproto.wire.dissect import RAW, Dissection, dissect
from rawproto.wire.icmp_echo import ICMPEcho
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.tcp import TCPHeader
from rawproto.wire.udp import UDPHeader

SRC, DST = "10.99.1.1", "10.99.1.2"
SRC_BYTES, DST_BYTES = inet_aton(SRC), inet_aton(DST)
SRC_V6, DST_V6 = "fd99:1::1", "fd99:1::2"
SRC_V6_BYTES, DST_V6_BYTES = inet_pton(AF_INET6, SRC_V6), inet_pton(AF_INET6, DST_V6)
PAYLOAD = bytes(range(32))
SYN = 0x02

BUILD_OVER_SCAPY, BUILD_OVER_DPKT = 60, 3
PARSE_OVER_SCAPY, PARSE_OVER_DPKT = 40, 1.5
BATCH_NS = 4_000_000
"""How long a peer is timed in each round: long beside a tick, short beside a disturbance."""

STACKED, DISSECT = "rawproto, by /", "rawproto, dissect"
dissect_ip = partial(dissect, link_type=RAW)
Fields = tuple[object, ...]


@dataclass(slots=True, kw_only=True)
class Stack:
    """One packet, and every way to build and to parse it.

    Attributes:
        name: its protocols.
        build: from values to bytes, by library.
        parse: from bytes to objects, by library.
        fields: the same fields of what each parser answered, by library.
    """

    name: str
    build: dict[str, Callable[[], bytes]]
    parse: dict[str, Callable[[bytes], object]]
    fields: dict[str, Callable[..., Fields]]


# --- IPv4 + UDP ----------------------------------------------------------------------------------


def build_udp() -> bytes:
    datagram = UDPHeader(src_port=33434, dst_port=33435).emit(PAYLOAD, src_addr=SRC, dst_addr=DST)
    header = IPv4Header(identification=7, ttl=3, protocol=17, src_addr=SRC, dst_addr=DST)
    return header.emit(datagram)


def build_udp_stack() -> bytes:
    header = IPv4Header(identification=7, ttl=3, src_addr=SRC, dst_addr=DST)
    return (header / UDPHeader(src_port=33434, dst_port=33435) / PAYLOAD).emit()


def build_udp_scapy() -> bytes:
    return bytes(IP(id=7, ttl=3, src=SRC, dst=DST) / UDP(sport=33434, dport=33435) / PAYLOAD)


def build_udp_dpkt() -> bytes:
    datagram = dpkt.udp.UDP(sport=33434, dport=33435, ulen=8 + len(PAYLOAD), data=PAYLOAD)
    return bytes(dpkt.ip.IP(id=7, ttl=3, p=17, src=SRC_BYTES, dst=DST_BYTES, data=datagram))


def parse_udp(data: bytes) -> tuple[IPv4Header, UDPHeader, bytes]:
    header, rest = IPv4Header.parse(data)
    datagram, payload = UDPHeader.parse(rest)
    return header, datagram, payload


IPV4_UDP = Stack(
    name="IPv4+UDP",
    build={
        "rawproto": build_udp,
        STACKED: build_udp_stack,
        "dpkt": build_udp_dpkt,
        "scapy": build_udp_scapy,
    },
    parse={"rawproto": parse_udp, DISSECT: dissect_ip, "dpkt": dpkt.ip.IP, "scapy": IP},
    fields={
        "rawproto": lambda ip, udp, data: (ip.ttl, ip.checksum, udp.dst_port, udp.checksum, data),
        "dpkt": lambda ip: (ip.ttl, ip.sum, ip.udp.dport, ip.udp.sum, ip.udp.data),
        "scapy": lambda ip: (ip.ttl, ip.chksum, ip.dport, ip[UDP].chksum, ip[UDP].payload.load),
    },
)


# --- IPv6 + TCP ----------------------------------------------------------------------------------


def build_tcp() -> bytes:
    header = TCPHeader(src_port=4000, dst_port=80, sequence_number=1, flags=SYN, window=512)
    segment = header.emit(PAYLOAD, src_addr=SRC_V6, dst_addr=DST_V6)
    return IPv6Header(next_header=6, src_addr=SRC_V6, dst_addr=DST_V6).emit(segment)


def build_tcp_stack() -> bytes:
    header = TCPHeader(src_port=4000, dst_port=80, sequence_number=1, flags=SYN, window=512)
    return (IPv6Header(src_addr=SRC_V6, dst_addr=DST_V6) / header / PAYLOAD).emit()


def build_tcp_scapy() -> bytes:
    segment = TCP(sport=4000, dport=80, seq=1, flags=SYN, window=512)
    return bytes(IPv6(src=SRC_V6, dst=DST_V6) / segment / PAYLOAD)


def build_tcp_dpkt() -> bytes:
    segment = dpkt.tcp.TCP(sport=4000, dport=80, seq=1, flags=SYN, win=512, data=PAYLOAD)
    addresses = {"src": SRC_V6_BYTES, "dst": DST_V6_BYTES}
    return bytes(dpkt.ip6.IP6(nxt=6, hlim=64, plen=len(segment), data=segment, **addresses))


def parse_tcp(data: bytes) -> tuple[IPv6Header, TCPHeader, bytes]:
    header, rest = IPv6Header.parse(data)
    segment, payload = TCPHeader.parse(rest)
    return header, segment, payload


IPV6_TCP = Stack(
    name="IPv6+TCP",
    build={
        "rawproto": build_tcp,
        STACKED: build_tcp_stack,
        "dpkt": build_tcp_dpkt,
        "scapy": build_tcp_scapy,
    },
    parse={"rawproto": parse_tcp, DISSECT: dissect_ip, "dpkt": dpkt.ip6.IP6, "scapy": IPv6},
    fields={
        "rawproto": lambda ip, tcp, data: (ip.hop_limit, tcp.window, tcp.checksum, data),
        "dpkt": lambda ip: (ip.hlim, ip.tcp.win, ip.tcp.sum, ip.tcp.data),
        "scapy": lambda ip: (ip.hlim, ip.window, ip[TCP].chksum, ip[TCP].payload.load),
    },
)


# --- IPv4 + ICMP echo ----------------------------------------------------------------------------


def build_echo() -> bytes:
    message = ICMPEcho(identifier=5, sequence_number=9).emit(PAYLOAD)
    return IPv4Header(identification=7, protocol=1, src_addr=SRC, dst_addr=DST).emit(message)


def build_echo_stack() -> bytes:
    header = IPv4Header(identification=7, src_addr=SRC, dst_addr=DST)
    return (header / ICMPEcho(identifier=5, sequence_number=9) / PAYLOAD).emit()


def build_echo_scapy() -> bytes:
    return bytes(IP(id=7, src=SRC, dst=DST) / ICMP(id=5, seq=9) / PAYLOAD)


def build_echo_dpkt() -> bytes:
    message = dpkt.icmp.ICMP(type=8, data=dpkt.icmp.ICMP.Echo(id=5, seq=9, data=PAYLOAD))
    return bytes(dpkt.ip.IP(id=7, p=1, src=SRC_BYTES, dst=DST_BYTES, data=message))


def parse_echo(data: bytes) -> tuple[IPv4Header, ICMPEcho, bytes]:
    header, rest = IPv4Header.parse(data)
    echo, payload = ICMPEcho.parse(rest)
    return header, echo, payload


IPV4_ECHO = Stack(
    name="IPv4+ICMP echo",
    build={
        "rawproto": build_echo,
        STACKED: build_echo_stack,
        "dpkt": build_echo_dpkt,
        "scapy": build_echo_scapy,
    },
    parse={"rawproto": parse_echo, DISSECT: dissect_ip, "dpkt": dpkt.ip.IP, "scapy": IP},
    fields={
        "rawproto": lambda ip, icmp, data: (ip.ttl, icmp.checksum, icmp.sequence_number, data),
        "dpkt": lambda ip: (ip.ttl, ip.icmp.sum, ip.icmp.data.seq, ip.icmp.data.data),
        "scapy": lambda ip: (ip.ttl, ip[ICMP].chksum, ip[ICMP].seq, ip[ICMP].payload.load),
    },
)


# --- side by side --------------------------------------------------------------------------------


def agreed_bytes(stack: Stack) -> bytes:
    """The bytes that all libraries build and read alike.

    Raises:
        SystemExit: they don't, so that timing them would compare different things.
    """
    built = {name: build() for name, build in stack.build.items()}
    if len(set(built.values())) != 1:
        listing = "\n".join(f"  {name}: {data.hex()}" for name, data in built.items())
        raise SystemExit(f"{stack.name}: not all build the same bytes\n{listing}")
    data = built["rawproto"]
    read = {}
    for name, parse in stack.parse.items():
        parsed = parse(data)
        if isinstance(parsed, Dissection):
            parsed = (*parsed.layers, parsed.payload)
        of = stack.fields.get(name, stack.fields["rawproto"])
        read[name] = of(*parsed) if isinstance(parsed, tuple) else of(parsed)
    if len(set(read.values())) != 1:
        listing = "\n".join(f"  {name}: {fields}" for name, fields in read.items())
        raise SystemExit(f"{stack.name}: not all read the same fields\n{listing}")
    return data


def time_peers(peers: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU time of one call in ns, by peer and round."""
    timed = {}
    for name, call in peers.items():
        calls = max(1, round(BATCH_NS / measure_cpu_ns(call, 20)))
        timed[name] = partial(measure_cpu_ns, call, calls)
    return interleave(timed, rounds)


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    rounds = 5 if arguments.quick else 61
    print(f"headers with {len(PAYLOAD)} bytes of payload; CPU time, median of {rounds} rounds")
    print(machine() + "\n")
    rows: list[list[str]] = []
    times: dict[tuple[str, str], dict[str, list[float]]] = {}
    for stack in (IPV4_UDP, IPV6_TCP, IPV4_ECHO):
        data = agreed_bytes(stack)
        parsers = {name: partial(parse, data) for name, parse in stack.parse.items()}
        for what, peers in (("build", stack.build), ("parse", parsers)):
            measured = times[what, stack.name] = time_peers(dict(peers), rounds)
            for name, values in measured.items():
                us = f"{statistics.median(values) / 1000:.2f} us"
                ratio = f"{median_ratio(values, measured['rawproto']):.2f}"
                rows.append([f"{what} {stack.name}", name, us, ratio])
    print(table(["what", "library", "one packet", "x rawproto"], rows))
    return conclude(
        criteria(times["build", "IPv4+UDP"], times["parse", "IPv4+UDP"]), strict=arguments.strict
    )


def criteria(build: dict[str, list[float]], parse: dict[str, list[float]]) -> list[Criterion]:
    """What is promised of IPv4+UDP, header by header."""
    return [
        at_least(
            f"{what} IPv4+UDP: times as fast as {peer}",
            median_ratio(times[peer], times["rawproto"]),
            bound,
        )
        for what, times, peer, bound in (
            ("build", build, "scapy", BUILD_OVER_SCAPY),
            ("build", build, "dpkt", BUILD_OVER_DPKT),
            ("parse", parse, "scapy", PARSE_OVER_SCAPY),
            ("parse", parse, "dpkt", PARSE_OVER_DPKT),
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
