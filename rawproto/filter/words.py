"""What a filter expression tests, in words: for people who want to see how it was understood.

    tcp port 80 and not host 192.0.2.1

    all of
      tcp port 80       TCP with source or destination port 80: over IPv4 (...) or IPv6 (...)
      not
        host 192.0.2.1  source or destination address 192.0.2.1: in IPv4, ARP or RARP

The words are made of the tree that is compiled, so brackets, precedence and qualifiers
that an id took over show as they were taken. Names are not looked up.
"""

from __future__ import annotations

from rawproto.filter.names import ETHERTYPES, IP_PROTOCOLS, LLC_SAPS
from rawproto.filter.syntax import (
    Accessor,
    Arithmetic,
    Binary,
    Cast,
    Chain,
    Expression,
    Index,
    Match,
    Negative,
    Not,
    Protocol,
    Relation,
    Sent,
    Tag,
)

__all__ = ["describe"]

_DIRECTIONS = {
    "src": "source {0}",
    "dst": "destination {0}",
    "or": "source or destination {0}",
    "and": "source and destination {0}",
}
_TITLES = {"ip": "IPv4", "ip6": "IPv6", "icmp6": "ICMPv6", "ether": "Ethernet", "link": "link"}
_IN_IPV4 = "IPv4 (in no later fragment)"
_IN_IPV6 = "IPv6 (right behind its header)"
_ONLY_IPV4 = frozenset(("icmp", "igmp", "vrrp", "carp"))
_COVERS = {
    "vlan": ("an IEEE 802.1Q or 802.1ad tag", "of VLAN {0}"),
    "mpls": ("an MPLS label", "which is {0}"),
    "pppoes": ("a PPPoE session", "number {0}"),
}


def describe(expression: str, tree: Expression | None) -> list[tuple[int, str, str]]:
    """The primitives of an expression.

    Args:
        expression: the text.
        tree: what `grammar.parse` made of it.

    Returns:
        For each line: how deep it stands, the text of a primitive or what joins those
        below it, and what the primitive tests ("" where it joins).
    """
    if tree is None:
        return [(0, "every packet", "")]
    lines: list[tuple[int, str, str]] = []
    _describe(expression, tree, 0, lines)
    return lines


def _describe(
    expression: str, tree: Expression, depth: int, lines: list[tuple[int, str, str]]
) -> None:
    if isinstance(tree, Not):
        lines.append((depth, "not", ""))
        _describe(expression, tree.operand, depth + 1, lines)
    elif isinstance(tree, Chain):
        _describe_chain(expression, tree, depth, lines)
    else:
        text = " ".join(expression[tree.at.begin : tree.at.end].split())
        lines.append((depth, text, _words(tree)))


def _describe_chain(
    expression: str, chain: Chain, depth: int, lines: list[tuple[int, str, str]]
) -> None:
    """`a or b and c` is `(a or b) and c`: each change of the word begins a group around all."""
    words = [word for word, _ in chain.rest]
    groups = [words[0]]
    for word in words[1:]:
        if word != groups[-1]:
            groups.append(word)
    # The outermost group is the last one.
    for inward, word in enumerate(reversed(groups)):
        lines.append((depth + inward, "all of" if word == "and" else "any of", ""))
    at = depth + len(groups)
    _describe(expression, chain.first, at, lines)
    before = words[0]
    for word, part in chain.rest:
        if word != before:
            at, before = at - 1, word
        _describe(expression, part, at, lines)


def _words(tree: Expression) -> str:
    if isinstance(tree, Match):
        return _match_words(tree)
    if isinstance(tree, Protocol):
        return _protocol_words(tree.name)
    if isinstance(tree, Relation):
        return _relation_words(tree)
    if isinstance(tree, Tag):
        what, which = _COVERS[tree.kind]
        number = "" if tree.number is None else " " + which.format(tree.number)
        return f"{what}{number}; whatever comes after this word looks behind it"
    if isinstance(tree, Cast):
        return f"the destination is {_title(tree.protocol)} {tree.kind}"
    if isinstance(tree, Sent):
        return "sent by this host" if tree.outbound else "not sent by this host"
    if isinstance(tree, Index):
        return f"came in or went out by interface {tree.value}"
    raise TypeError(tree)


def _title(protocol: str) -> str:
    return _TITLES.get(protocol, protocol.upper())


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _match_words(match: Match) -> str:
    name = match.name
    if match.mask is not None:
        name += f"{' mask ' if '.' in match.mask else '/'}{match.mask}"
    if match.kind == "proto":
        if match.protocol == "ether":
            return f"EtherType {name} (a number up to 1500: an IEEE 802.2 access point)"
        return _carried_words(name, match.protocol)
    which = _DIRECTIONS[match.direction]
    if match.kind in ("port", "portrange"):
        transports = [_title(match.protocol)] if match.protocol else ["TCP", "UDP", "SCTP"]
        ports = which.format("port")
        return f"{_listed(transports)} with {ports} {name}: over {_IN_IPV4} or {_IN_IPV6}"
    if match.protocol == "ether":
        return which.format("Ethernet address") + f" {name}"
    inside = [_title(match.protocol)] if match.protocol else ["IPv4", "ARP", "RARP"]
    if ":" in name:
        inside = ["IPv6"]
    elif not match.protocol and not name[0].isdigit():
        inside = ["IPv4", "ARP", "RARP", "IPv6"]
    what = "address" if match.kind == "host" else "address within"
    return f"{which.format(what)} {name}: in {_listed(inside)}"


def _carried_words(number: str, over: str | None) -> str:
    ipv4 = f"IPv4 with protocol {number}"
    ipv6 = f"IPv6 with next header {number} (also behind a Fragment header)"
    return {"ip": ipv4, "ip6": ipv6}.get(over or "", f"{ipv4}, or {ipv6}")


def _protocol_words(name: str) -> str:
    if name in ETHERTYPES:
        return f"EtherType {ETHERTYPES[name]:#06x}"
    if name in LLC_SAPS:
        return f"an IEEE 802.3 frame for access point {LLC_SAPS[name]:#x}"
    over = "ip" if name in _ONLY_IPV4 else "ip6" if name == "icmp6" else None
    return _carried_words(str(IP_PROTOCOLS[name]), over)


def _relation_words(relation: Relation) -> str:
    accessors: list[Accessor] = []
    for side in (relation.left, relation.right):
        _accessors(side, accessors)
    # In the order of appearance, each protocol once.
    titles = dict.fromkeys(each.protocol for each in accessors if each.protocol not in _LINK)
    if not titles:
        return "a comparison of unsigned numbers, in every packet"
    places = []
    for name in titles:
        if name in ETHERTYPES:
            places.append(_title(name))
        elif name == "icmp6":
            places.append(f"ICMPv6 over {_IN_IPV6}")
        else:
            places.append(f"{_title(name)} over {_IN_IPV4}, not over IPv6")
    return f"a comparison of unsigned numbers, only in {' and '.join(places)}"


_LINK = ("ether", "link")


def _accessors(tree: Arithmetic, found: list[Accessor]) -> None:
    if isinstance(tree, Accessor):
        found.append(tree)
        _accessors(tree.offset, found)
    elif isinstance(tree, Negative):
        _accessors(tree.operand, found)
    elif isinstance(tree, Binary):
        _accessors(tree.left, found)
        _accessors(tree.right, found)
