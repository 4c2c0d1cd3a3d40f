"""Golden packets of our own: the probes of ping and traceroute, as scapy would lay them out.

What is in them that identifies them was put down by hand; `tests/captures/test_own.py` holds
that the machines of rawproto lay out just these.
"""

from __future__ import annotations

from collections.abc import Iterator

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from tests.captures.golden import HOST_1, HOST_1_V6, HOST_2, HOST_2_V6, RAW, Golden, capture

IDENTIFIER, SEQUENCE = 0x1234, 7
"""Of the echo requests of ping."""
PATTERN = bytes(range(16))
NUMBER, TTL, PORT, SIZE = 5, 2, 40000, 60
"""Of the probe of traceroute; the source port is the identifier of its echo requests."""
HIGH = 0xC53E
"""The half of TCP's sequence numbers that is drawn, here from a seed of 0."""
PING_ID = 0xDFFB
"""Drawn likewise."""


def v4(protocol: str) -> IP:
    if protocol == "ping":
        return IP(src=HOST_1, dst=HOST_2, id=PING_ID, flags="DF", ttl=64)
    return IP(src=HOST_1, dst=HOST_2, id=NUMBER, flags="DF", ttl=TTL)


def v6(protocol: str) -> IPv6:
    return IPv6(src=HOST_1_V6, dst=HOST_2_V6, hlim=64 if protocol == "ping" else TTL)


@capture("probes.pcap", "The probes of rawproto's ping and traceroute", RAW)
def probes() -> Iterator[Golden]:
    yield Golden(
        packet=v4("ping") / ICMP(id=IDENTIFIER, seq=SEQUENCE) / PATTERN,
        note="ping's request: whole or not at all, a random identification",
        stack="IPv4Header / ICMPEcho",
        expect={
            "IPv4Header.flags": 2,
            "IPv4Header.ttl": 64,
            "ICMPEcho.identifier": IDENTIFIER,
            "ICMPEcho.sequence_number": SEQUENCE,
            "payload": PATTERN,
        },
    )
    yield Golden(
        packet=v6("ping") / ICMPv6EchoRequest(id=IDENTIFIER, seq=SEQUENCE, data=PATTERN),
        note="the same over IPv6",
        stack="IPv6Header / ICMPv6Echo",
        expect={"IPv6Header.hop_limit": 64, "ICMPv6Echo.sequence_number": SEQUENCE},
    )
    yield Golden(
        packet=v4("udp") / UDP(sport=PORT, dport=33434) / bytes.fromhex(f"0005f481{'00' * 28}"),
        note="traceroute's UDP probe 5: the checksum is its number, the payload makes it so",
        stack="IPv4Header / UDPHeader",
        expect={
            "IPv4Header.ttl": TTL,
            "IPv4Header.identification": NUMBER,
            "UDPHeader.checksum": NUMBER,
        },
    )
    yield Golden(
        packet=v6("udp") / UDP(sport=PORT, dport=33434) / bytes.fromhex(f"00058569{'00' * 8}"),
        note="the same over IPv6",
        stack="IPv6Header / UDPHeader",
        expect={"IPv6Header.hop_limit": TTL, "UDPHeader.checksum": NUMBER},
    )
    yield Golden(
        packet=v4("icmp") / ICMP(id=PORT, seq=NUMBER) / bytes.fromhex(f"fffa{'00' * 30}"),
        note="an echo request of one flow: number and payload add up, the checksum stands still",
        stack="IPv4Header / ICMPEcho",
        expect={"ICMPEcho.checksum": 0x5BBF, "ICMPEcho.sequence_number": NUMBER},
    )
    yield Golden(
        packet=v6("icmp")
        / ICMPv6EchoRequest(id=PORT, seq=NUMBER, data=bytes.fromhex(f"fffa{'00' * 10}")),
        note="the same over IPv6",
        stack="IPv6Header / ICMPv6Echo",
        expect={"ICMPv6Echo.checksum": 0x87F8, "ICMPv6Echo.sequence_number": NUMBER},
    )
    for name, ip in (("IPv4", v4("tcp")), ("IPv6", v6("tcp"))):
        yield Golden(
            packet=ip / TCP(sport=PORT, dport=80, flags="S", seq=HIGH << 16 | NUMBER, window=5840),
            note=f"a SYN over {name}, its number in the low half of the sequence number",
            stack=f"{name}Header / TCPHeader",
            expect={"TCPHeader.sequence_number": HIGH << 16 | NUMBER, "TCPHeader.flags": 2},
        )
