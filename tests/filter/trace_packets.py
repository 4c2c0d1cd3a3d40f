"""What comes to a host while it traces, and which of it a trace to one port wants."""

from __future__ import annotations

from rawproto.wire.ipv4_options import RecordRoute, RouterAlert
from tests.filter.icmp_packets import Case, echo, icmp, ipv4, ipv6

OUR_PORT, PORT = 50_000, 33_434
PROTOCOLS = {"udp": 17, "tcp": 6}


def begun(dst_port: int = PORT, src_port: int = OUR_PORT) -> bytes:
    """The first 20 bytes of a UDP datagram or TCP segment: the ports stand alike in both."""
    return src_port.to_bytes(2, "big") + dst_port.to_bytes(2, "big") + bytes(range(16))


def ipv4_error_cases(protocol: int) -> list[Case]:
    """Errors about such packets, as an IPv4 raw socket sees them: from the IP header on."""
    ours = ipv4(begun(), protocol)
    long = (RecordRoute(),)
    other = 17 + 6 - protocol

    def exceeded(quoted: bytes, **fields: object) -> bytes:
        return ipv4(icmp(11, 0, bytes(4) + quoted), **fields)

    # Port and identifier are one number here: only the type tells such messages apart.
    cases = [
        Case("echo reply with our port as identifier", ipv4(echo(0, PORT)), False),
        Case("echo request with our port as identifier", ipv4(echo(8, PORT)), False),
        Case("another port", exceeded(ipv4(begun(dst_port=PORT + 1), protocol)), False),
        Case("the ports swapped", exceeded(ipv4(begun(OUR_PORT, PORT), protocol)), False),
        Case(
            "a source port that a NAT has left", exceeded(ipv4(begun(src_port=9), protocol)), True
        ),
        Case("another protocol to our port", exceeded(ipv4(begun(), other)), False),
        Case("ICMP with our port as checksum", exceeded(ipv4(begun(), 1)), False),
        Case("quotes 8 bytes behind the header", exceeded(ours[:28]), True),
        Case("quotes too little", exceeded(ours[:22]), False),
        Case("quotes nothing", exceeded(b""), False),
        Case("a first fragment", exceeded(ipv4(begun(), protocol, flags=1)), True),
        Case("a later fragment", exceeded(ipv4(begun(), protocol, fragment_offset=1)), False),
        Case(
            "options outside and inside",
            exceeded(ipv4(begun(), protocol, options=(RouterAlert(),)), options=long),
            True,
        ),
        Case(
            "another port, options outside and inside",
            exceeded(ipv4(begun(9), protocol, options=(RouterAlert(),)), options=long),
            False,
        ),
    ]
    for icmp_type in range(256):
        if icmp_type not in (0, 8):
            packet = ipv4(icmp(icmp_type, 0, bytes(4) + ours))
            cases.append(Case(f"type {icmp_type}", packet, icmp_type in (3, 4, 5, 11, 12)))
    return cases


def ipv6_error_cases(protocol: int) -> list[Case]:
    """Likewise for an ICMPv6 raw socket: from the ICMPv6 header on."""
    ours = ipv6(begun(), protocol)
    other = 17 + 6 - protocol

    def exceeded(quoted: bytes) -> bytes:
        return icmp(3, 0, bytes(4) + quoted, checksum=False)

    cases = [
        Case("echo reply with our port", echo(129, PORT, checksum=False), False),
        Case("another port", exceeded(ipv6(begun(dst_port=9), protocol)), False),
        Case(
            "a source port that a NAT has left", exceeded(ipv6(begun(src_port=9), protocol)), True
        ),
        Case("another protocol to our port", exceeded(ipv6(begun(), other)), False),
        Case("quotes 8 bytes behind the header", exceeded(ours[:48]), True),
        Case("quotes too little", exceeded(ours[:42]), False),
        Case("quotes nothing", exceeded(b""), False),
    ]
    for next_header in (0, 43, 44, 51, 60):
        quoted = ipv6(bytes((protocol, 0)) + bytes(6) + begun(), next_header)
        cases.append(Case(f"quotes extension header {next_header}", exceeded(quoted), True))
    for icmp_type in range(256):
        if icmp_type not in (128, 129):
            packet = icmp(icmp_type, 0, bytes(4) + ours, checksum=False)
            cases.append(Case(f"type {icmp_type}", packet, 1 <= icmp_type <= 4))
    return cases


def tcp_cases(family: int) -> list[Case]:
    """TCP segments, as a raw TCP socket of either family sees them."""
    answer = begun(dst_port=OUR_PORT, src_port=PORT)
    segments = [
        ("an answer", answer, True),
        ("our own", begun(), False),
        ("from another port", begun(OUR_PORT, PORT + 1), False),
        ("to another port", begun(OUR_PORT + 1, PORT), False),
        ("cut in its ports", answer[:3], False),
    ]
    if family == 6:
        return [Case(*each) for each in segments]
    cases = [Case(name, ipv4(data, 6), wanted) for name, data, wanted in segments]
    long = (RecordRoute(),)
    return [
        *cases,
        Case("an answer behind options", ipv4(answer, 6, options=long), True),
        Case("our own behind options", ipv4(begun(), 6, options=long), False),
        Case("the same ports over UDP", ipv4(answer, 17), False),
    ]
