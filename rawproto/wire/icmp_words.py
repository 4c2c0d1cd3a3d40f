"""ICMP and ICMPv6 types and codes in the words that users of ping know.

The words are those of iputils' ping, so that eyes and scripts find what they look
for, with RFC 4443's for the codes that it does not name. Numbers that belong to a
message (an MTU, a gateway, a pointer) are the caller's to add.
"""

from __future__ import annotations

__all__ = ["describe_icmp", "describe_icmpv6"]

_WORDS = {
    0: "Echo Reply",
    4: "Source Quench",
    8: "Echo Request",
    9: "Router Advertisement",
    10: "Router Solicitation",
    13: "Timestamp",
    14: "Timestamp Reply",
    15: "Information Request",
    16: "Information Reply",
    17: "Address Mask Request",
    18: "Address Mask Reply",
    42: "Extended Echo Request",
    43: "Extended Echo Reply",
}

_UNREACHABLE_WORDS = (
    "Destination Net Unreachable",
    "Destination Host Unreachable",
    "Destination Protocol Unreachable",
    "Destination Port Unreachable",
    "Frag needed and DF set",
    "Source Route Failed",
    "Destination Net Unknown",
    "Destination Host Unknown",
    "Source Host Isolated",
    "Destination Net Prohibited",
    "Destination Host Prohibited",
    "Destination Net Unreachable for Type of Service",
    "Destination Host Unreachable for Type of Service",
    "Packet filtered",
    "Precedence Violation",
    "Precedence Cutoff",
)

_WORDS_BY_CODE: dict[int, tuple[str, tuple[str, ...]]] = {
    3: ("Dest Unreachable", _UNREACHABLE_WORDS),
    5: (
        "Redirect",
        (
            "Redirect Network",
            "Redirect Host",
            "Redirect Type of Service and Network",
            "Redirect Type of Service and Host",
        ),
    ),
    11: ("Time exceeded", ("Time to live exceeded", "Frag reassembly time exceeded")),
    12: (
        "Parameter problem",
        (
            "Parameter problem",
            "Parameter problem: missing option",
            "Parameter problem: bad length",
        ),
    ),
}


def describe_icmp(icmp_type: int, code: int) -> str:
    """An ICMP message in words; an unknown code or type is told by its number."""
    name, words = _WORDS_BY_CODE.get(icmp_type, ("", ()))
    if name:
        return words[code] if 0 <= code < len(words) else f"{name}, Bad Code: {code}"
    return _WORDS.get(icmp_type, f"Bad ICMP type: {icmp_type}")


_WORDS_V6 = {
    2: "Packet too big",
    128: "Echo request",
    129: "Echo reply",
    130: "MLD Query",
    131: "MLD Report",
    132: "MLD Reduction",
    133: "Router solicitation",
    134: "Router advertisement",
    135: "Neighbor solicitation",
    136: "Neighbor advertisement",
    137: "Redirect",
    143: "MLD Report v2",
    160: "Extended echo request",
    161: "Extended echo reply",
}

_WORDS_BY_CODE_V6: dict[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "Destination unreachable",
        (
            "No route",
            "Administratively prohibited",
            "Beyond scope of source address",
            "Address unreachable",
            "Port unreachable",
            "Source address failed ingress/egress policy",
            "Reject route to destination",
        ),
    ),
    3: ("Time exceeded", ("Hop limit", "Defragmentation failure")),
    4: (
        "Parameter problem",
        (
            "Wrong header field",
            "Unknown header",
            "Unknown option",
            "Incomplete header chain in first fragment",
        ),
    ),
}


def describe_icmpv6(icmp_type: int, code: int) -> str:
    """An ICMPv6 message in words; an unknown code or type is told by its number."""
    name, words = _WORDS_BY_CODE_V6.get(icmp_type, ("", ()))
    if name:
        return f"{name}: {words[code] if 0 <= code < len(words) else f'Unknown code {code}'}"
    return _WORDS_V6.get(icmp_type, f"Unknown ICMPv6 type: {icmp_type}")
