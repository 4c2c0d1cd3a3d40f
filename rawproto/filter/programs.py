"""The filters that rawproto's own sockets carry, so that only what is ours is copied to us.

Every raw ICMP socket of a host gets every ICMP packet; with a hundred pings
running each would wake up for all. An identifier tells whose an echo reply is,
and an ICMP error quotes it in the echo request that it complains about.

What a filter accepts may still be a stranger's who chose the same identifier:
matching it to a probe is not a filter's business. What is needed to read the
errors: RFC 792, RFC 4443, and RFC 1812 section 4.3.2.3 for how much they quote.
"""

from __future__ import annotations

from collections.abc import Iterable

from rawproto.errors import UsageError
from rawproto.filter.assembler import assemble
from rawproto.filter.instructions import Program

__all__ = ["icmp_probe_filter"]

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
        jne #1, drop            ; its protocol
        ldh [x + 14]
        jset #0x1fff, drop      ; a later fragment: no ICMP header in it
        ldb [x + 8]
        and #0xf
        lsh #2
        add x
        tax                     ; X + 8: where the quoted ICMP header is
        ldb [x + 8]
        jne #8, drop            ; echo request
        ldh [x + 12]
        ja check
    reply:
        ldh [x + 4]
        ja check
    drop:
        ret #0
    check:                      ; is the identifier in A one of ours?
"""

# A raw ICMPv6 socket sees its packets from the ICMPv6 header on (RFC 3542 section 3).
_IPV6 = """
        ldb [0]                 ; type
        jeq #129, reply         ; echo reply
        jlt #1, drop            ; 1 unreachable, 2 too big, 3 time exceeded, 4 parameter problem
        jgt #4, drop
        ldb [14]                ; next header of the quoted IPv6 packet
        jeq #58, quoted
        jeq #0, accept          ; hop-by-hop options
        jeq #43, accept         ; routing
        jeq #44, accept         ; fragment
        jeq #51, accept         ; authentication
        jeq #60, accept         ; destination options
        jmp drop
    quoted:
        ldb [48]
        jne #128, drop          ; echo request
        ldh [52]
        ja check
    reply:
        ldh [4]
        ja check
    accept:
        ret #-1
    drop:
        ret #0
    check:                      ; is the identifier in A one of ours?
"""

_BY_FAMILY = {4: _IPV4, 6: _IPV6}


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
    program = _BY_FAMILY.get(family)
    ours = sorted(set(identifiers))
    if program is None or not ours or not 0 <= ours[0] <= ours[-1] <= 0xFFFF:
        raise UsageError(f"no filter for family {family} and identifiers {ours[:5]}")
    # Each has its own `ret`, so that no condition skips further than its byte can say.
    for identifier in ours:
        program += f"jne #{identifier}, not_{identifier}\nret #-1\nnot_{identifier}:\n"
    return assemble(program + "ret #0")
