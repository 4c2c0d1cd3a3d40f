"""The filters that rawproto's own sockets carry, so that only what is ours is copied to us.

Every raw ICMP socket of a host gets every ICMP packet; with a hundred pings
running each would wake up for all. An identifier tells whose an echo reply is,
and an ICMP error quotes it in the echo request that it complains about; about UDP
datagrams and TCP segments it quotes the ports.

What a filter accepts may still be a stranger's who chose the same number:
matching it to a probe is not a filter's business. What is needed to read the
errors: RFC 792, RFC 4443, and RFC 1812 section 4.3.2.3 for how much they quote.
"""

from __future__ import annotations

from collections.abc import Iterable

from rawproto.errors import UsageError
from rawproto.filter.assembler import assemble
from rawproto.filter.instructions import Program

__all__ = ["icmp_probe_filter", "quoted_port_filter", "tcp_answer_filter"]

# A raw IPv4 socket sees its packets from the IP header on.
_IPV4 = """
        ldb [9]                 ; protocol
        jne #1, drop
        ldxb 4*([0]&0xf)        ; X: where the ICMP header is
        ldb [x + 0]             ; type
        jeq #0, reply           ; echo reply
        jeq #3, error           ; destination unreachable
        jeq #4, error           ; source quench
        jeq #5, error           ; redirect
        jeq #11, error          ; time exceeded
        jne #12, drop           ; parameter problem
    error:                      ; quotes an IPv4 packet from X + 8 on
        ldb [x + 17]
        jne #{protocol}, drop   ; its protocol
        ldh [x + 14]
        jset #0x1fff, drop      ; a later fragment: no header in it to know it by
        ldb [x + 8]
        and #0xf
        lsh #2
        add x
        tax                     ; X + 8: where the quoted packet's next header is
"""
_IPV4_ECHO = """
        ldb [x + 8]
        jne #8, drop            ; echo request
        ldh [x + 12]            ; identifier
        ja check
    reply:
        ldh [x + 4]
        ja check
"""
_IPV4_PORT = """
        ldh [x + 10]            ; destination port
        ja check
    reply:
"""
_IPV4_TCP = """
        ldb [9]                 ; protocol
        jne #6, drop
        ldxb 4*([0]&0xf)        ; X: where the TCP header is
        ldh [x + 0]             ; source port
        jne #{dst_port}, drop
        ldh [x + 2]             ; destination port
        ja check
"""

# Other raw sockets see their packets from behind the IPv6 headers on (RFC 3542 section 3).
_IPV6 = """
        ldb [0]                 ; type
        jeq #129, reply         ; echo reply
        jlt #1, drop            ; 1 unreachable, 2 too big, 3 time exceeded, 4 parameter problem
        jgt #4, drop
        ldb [14]                ; next header of the quoted IPv6 packet
        jeq #{protocol}, quoted
        jeq #0, accept          ; hop-by-hop options
        jeq #43, accept         ; routing
        jeq #44, accept         ; fragment
        jeq #51, accept         ; authentication
        jeq #60, accept         ; destination options
        jmp drop
    accept:
        ret #-1
    quoted:
"""
_IPV6_ECHO = """
        ldb [48]
        jne #128, drop          ; echo request
        ldh [52]                ; identifier
        ja check
    reply:
        ldh [4]
        ja check
"""
_IPV6_PORT = """
        ldh [50]                ; destination port
        ja check
    reply:
"""
_IPV6_TCP = """
        ldh [0]                 ; source port
        jne #{dst_port}, drop
        ldh [2]                 ; destination port
        ja check
"""

_END = """
    drop:
        ret #0
    check:                      ; is the number in A one of ours?
"""


def icmp_probe_filter(family: int, identifiers: Iterable[int]) -> Program:
    """For a raw ICMP socket: answers to our echo requests, and errors about them.

    Accepted whole are echo replies with one of the identifiers; and the errors (IPv4:
    types 3, 4, 5, 11, 12; IPv6: 1 to 4) that quote an echo request with one. A machine
    without loops cannot walk IPv6 extension headers, so an error whose quoted packet
    begins with one is accepted, whoever sent it.

    Args:
        family: 4 for an IPv4 raw socket, 6 for an ICMPv6 raw socket.
        identifiers: ours, 0 to 65535, at least one.

    Raises:
        UsageError: another family, no identifier, or more than fit into a program.
    """
    program = {4: _IPV4 + _IPV4_ECHO, 6: _IPV6 + _IPV6_ECHO}.get(family, "")
    return _program(family, program.format(protocol=58 if family == 6 else 1), identifiers)


def quoted_port_filter(family: int, protocol: int, dst_port: int) -> Program:
    """For a raw ICMP socket: errors about what we send to one port.

    The types are those of `icmp_probe_filter`, and so is what is said of extension
    headers. Only the destination port is looked at, because a NAT on the way rewrites
    source ports.

    Args:
        family: 4 for an IPv4 raw socket, 6 for an ICMPv6 raw socket.
        protocol: of what we send: 6 for TCP, 17 for UDP.
        dst_port: 0 to 65535.

    Raises:
        UsageError: another family, no such protocol or port.
    """
    if protocol not in (6, 17):
        raise UsageError(f"no filter for the ports of protocol {protocol}")
    program = {4: _IPV4 + _IPV4_PORT, 6: _IPV6 + _IPV6_PORT}.get(family, "")
    return _program(family, program.format(protocol=protocol), [dst_port])


def tcp_answer_filter(family: int, src_port: int, dst_port: int) -> Program:
    """For a raw TCP socket: segments that answer ours.

    Args:
        family: 4 or 6.
        src_port: of our segments, 0 to 65535.
        dst_port: of our segments, 0 to 65535.

    Raises:
        UsageError: another family, or no such port.
    """
    if not 0 <= dst_port <= 0xFFFF:
        raise UsageError(f"no filter for port {dst_port}")
    program = {4: _IPV4_TCP, 6: _IPV6_TCP}.get(family, "")
    return _program(family, program.format(dst_port=dst_port), [src_port])


def _program(family: int, text: str, numbers: Iterable[int]) -> Program:
    """`text`, which jumps to `check` with a number in A, and what accepts each of `numbers`."""
    ours = sorted(set(numbers))
    if not text or not ours or not 0 <= ours[0] <= ours[-1] <= 0xFFFF:
        raise UsageError(f"no filter for family {family} and numbers {ours[:5]}")
    text += _END
    # Each has its own `ret`, so that no condition skips further than its byte can say.
    for number in ours:
        text += f"jne #{number}, not_{number}\nret #-1\nnot_{number}:\n"
    return assemble(text + "ret #0")
