"""What people write and no class says: tcpdump's names and letters, and fields of other names.

Classes of service are those of IANA's DSCP Field Codepoints (RFC 2474, RFC 2597, RFC 3246,
RFC 5865, RFC 8622). Which layers and fields there are, is the catalogue's.
"""

from __future__ import annotations

from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.tcp import ACK, AE, CWR, ECE, FIN, PSH, RST, SYN, URG

__all__ = ["EXTRA_NAMES", "TCP_LETTERS", "elsewhere", "layer_name"]

TCP_LETTERS = {
    "F": FIN,
    "S": SYN,
    "R": RST,
    "P": PSH,
    "A": ACK,
    ".": ACK,
    "U": URG,
    "E": ECE,
    "W": CWR,
    "e": AE,
}
"""As tcpdump and hping write them."""

EXTRA_NAMES: dict[tuple[type, str], dict[int, str]] = {
    (IPv4Header, "dscp"): {
        1: "LE",
        **{8 * number: f"CS{number}" for number in range(8)},
        **{8 * kind + 2 * drop: f"AF{kind}{drop}" for kind in range(1, 5) for drop in range(1, 4)},
        44: "VOICE-ADMIT",
        46: "EF",
    },
}
"""What people write and readers of packets do not show (IANA, DSCP Field Codepoints)."""

_ELSEWHERE = {
    ("ipv4", "tos"): "; it is dscp and ecn",
    ("ipv4", "df"): "; write flags=DF",
    ("ipv4", "mf"): "; write flags=MF",
    ("ipv4", "id"): ", perhaps identification",
    ("ipv6", "tos"): "; it is traffic_class",
    ("ipv6", "ttl"): "; it is hop_limit",
    ("ipv6", "dscp"): "; it is the upper 6 bits of traffic_class",
    **{
        ("tcp", flag.lower()): f"; write flags={flag}"
        for flag in ("FIN", "SYN", "RST", "PSH", "URG", "ECE", "CWR")
    },
}


def elsewhere(layer: str, word: str) -> str:
    """What to write instead of a field that a layer lacks and people look for, or ""."""
    return _ELSEWHERE.get((layer, word.lower()), "")


_ALIASES = {
    "ip": "ipv4",
    "ip6": "ipv6",
    "ether": "ethernet",
    "icmp6": "icmpv6",
}


def layer_name(word: str) -> str:
    """The name of the layer that a word means: in small letters, and for tcpdump's names ours.

    A word that means none comes back as some name that no layer has.
    """
    low = word.lower()
    return _ALIASES.get(low, low)
