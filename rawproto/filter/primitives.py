"""What the primitives of the filter language mean, on the packets of one link type.

Read pcap-filter(7), RFC 791, RFC 826, RFC 8200. Offsets are counted from the network header::

    IPv4   12 source   16 destination   4*IHL ports
    IPv6    8 source   24 destination      40 ports
    ARP    14 sender   24 target

As in libpcap, on purpose: ports are sought in no later fragment of an IPv4 packet, and
in IPv6 right behind the header; `host` looks at ARP and RARP too; and what is compared
is asked in libpcap's order, so that packets which are cut short meet the same end.
`protocols` knows what carries what, `relations` the arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rawproto.errors import EmitError
from rawproto.filter import syntax
from rawproto.filter.grammar import value_of
from rawproto.filter.lexer import FilterError, Span
from rawproto.filter.links import IPV4, IPV6, Headers
from rawproto.filter.names import ETHERTYPES, IP_PROTOCOLS, LLC_SAPS, Names
from rawproto.filter.predicate import (
    Chain,
    Load,
    Not,
    Predicate,
    Test,
    either,
    equal,
    every,
    masked,
)
from rawproto.filter.protocols import IPV6_LENGTH, Protocols
from rawproto.filter.relations import Relations
from rawproto.wire.address import pack_ipv6

__all__ = ["Meaning"]

_TCP, _UDP, _SCTP = 6, 17, 132
_TRANSPORTS = {"tcp": _TCP, "udp": _UDP, "sctp": _SCTP}

_MAC = re.compile(
    r"[0-9a-f]{1,2}(?:([:.-])[0-9a-f]{1,2})(?:\1[0-9a-f]{1,2}){4}"
    r"|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}|[0-9a-f]{12}",
    re.IGNORECASE,
)


class Meaning:
    """Turns one expression into a predicate.

    An object is good for one: `vlan` and its like leave their mark on what follows.
    """

    def __init__(
        self, expression: str, headers: Headers, names: Names, netmask: int | None = None
    ) -> None:
        """
        Args:
            expression: the text, to point at.
            headers: of the link type.
            names: who knows hosts, networks and services.
            netmask: of the interface's IPv4 network, 32 bits, for `ip broadcast`.
        """
        self.expression = expression
        self.headers = headers
        self.protocols = Protocols(headers)
        self.names = names
        self.netmask = netmask

    def of(self, tree: syntax.Expression) -> Predicate:
        """The predicate of an expression or a part of it. Raises FilterError."""
        if isinstance(tree, syntax.Chain):
            first = self.of(tree.first)
            return Chain(first, tuple((word == "and", self.of(part)) for word, part in tree.rest))
        if isinstance(tree, syntax.Not):
            return Not(self.of(tree.operand))
        if isinstance(tree, syntax.Match):
            return self.match(tree)
        if isinstance(tree, syntax.Protocol):
            return self.protocols.protocol(tree.name)
        if isinstance(tree, syntax.Relation):
            return Relations(self.expression, self.protocols).relation(tree)
        if isinstance(tree, syntax.Tag):
            return self.tag(tree)
        if isinstance(tree, syntax.Cast):
            return self.cast(tree)
        if isinstance(tree, syntax.Sent):
            return self.headers.outgoing if tree.outbound else Not(self.headers.outgoing)
        return equal(self.headers.interface, tree.value)

    def error(self, reason: str, at: Span) -> FilterError:
        return FilterError(self.expression, at.begin, at.end - at.begin, reason)

    # --- protocols ---

    def match_protocol(self, match: syntax.Match) -> Predicate:
        name, at, over = match.name, match.name_at, match.protocol
        if over not in (None, "ip", "ip6", "ether"):
            raise self.error(f"{over} says of no protocol that it carries it", match.at)
        table = {**ETHERTYPES, **LLC_SAPS} if over == "ether" else IP_PROTOCOLS
        number = table.get(name)
        if number is None:
            if not name[0].isdigit():
                what = "EtherType" if over == "ether" else "IP protocol"
                raise self.error(f"no {what} of this name is known", at)
            number = self.number(name, at, 0xFFFF if over == "ether" else 0xFF)
        if over != "ether":
            return self.protocols.ip_protocol(number, over)
        # A number that is a frame's length names the IEEE 802.2 access point inside.
        is_type = number > 1500
        return self.headers.carries(number) if is_type else self.headers.carries_llc(number)

    def number(self, text: str, at: Span, most: int) -> int:
        try:
            value = value_of(self.expression, text, at)
        except ValueError:
            raise self.error(f"no number: {text}", at) from None
        if value > most:
            raise self.error(f"must be 0 to {most}", at)
        return value

    # --- addresses, nets and ports ---

    def match(self, match: syntax.Match) -> Predicate:
        """An id with its qualifiers."""
        if match.mask is not None and match.kind != "net":
            raise self.error("only a net has a mask", match.at)
        if match.kind == "proto":
            return self.match_protocol(match)
        if match.kind in ("port", "portrange"):
            return self.match_port(match)
        if match.protocol == "ether":
            return self.match_mac(match)
        if match.protocol not in (None, "ip", "ip6", "arp", "rarp"):
            raise self.error(f"{match.protocol} has no address of a {match.kind}", match.at)
        if match.kind == "net" and not match.escaped:
            return self.match_net(match)
        return self.match_host(match)

    def match_mac(self, match: syntax.Match) -> Predicate:
        at = match.name_at
        if match.kind != "host":
            raise self.error(f"ether knows no {match.kind}", match.at)
        if not _MAC.fullmatch(match.name):
            raise self.error("no MAC address: 02:00:00:00:00:01 is one", at)
        groups = re.split("[:.-]", match.name)
        width = 12 // len(groups)
        return self.ethernet(bytes.fromhex("".join(g.zfill(width) for g in groups)), match)

    def ethernet(self, address: bytes, match: syntax.Match) -> Predicate:
        """An Ethernet address as source, destination, either or both."""
        if not self.headers.is_ethernet:
            raise self.error("these packets have no Ethernet header", match.at)

        def stands_at(offset: int) -> Predicate:
            at = self.headers.link + offset
            return every(
                equal(Load(4, at + 2), int.from_bytes(address[2:], "big")),
                equal(Load(2, at), int.from_bytes(address[:2], "big")),
            )

        return _directed(match.direction, stands_at(6), stands_at(0))

    def match_host(self, match: syntax.Match) -> Predicate:
        """A host by address, by the begin of one (`10.1`: as a net), or by name."""
        name, at = match.name, match.name_at
        if not match.escaped:
            if ":" in name:
                return self.ipv6_net(name, 128, match)
            if name.isdigit() or name[:2].lower() == "0x":
                return self.ipv4_net(self.number(name, at, 0xFFFF_FFFF), 32, match)
            net = self.dotted(name, at)
            if net is not None:
                return self.ipv4_net(*net, match)
        if match.kind == "net":
            found = self.names.network(name)
            if found is None:
                raise self.error("no network of this name is known", at)
            address, _, bits = found.partition("/")
            return self.match_net(match._replace(name=address, mask=bits or None, escaped=False))
        family = {"ip6": ":", "ip": ".", "arp": ".", "rarp": "."}.get(match.protocol or "", "")
        addresses = [each for each in self.names.hosts(name) if family in each]
        if not addresses:
            what = {":": "IPv6 ", ".": "IPv4 "}.get(family, "")
            raise self.error(f"no {what}address is known of this name", at)
        plain = [match._replace(name=each, escaped=False) for each in addresses]
        return either(*(self.match_host(each) for each in plain))

    def match_net(self, match: syntax.Match) -> Predicate:
        """A net: `10`, `10.1`, `10.0.0.0/8`, `10.0.0.0 mask 255.0.0.0`, `2001:db8::/32`, a name."""
        name, at, mask = match.name, match.name_at, match.mask
        if ":" in name:
            if mask is not None and not mask.isdigit():
                raise self.error("an IPv6 net is written with /LENGTH", match.at)
            bits = 128 if mask is None else self.number(mask, match.at, 128)
            return self.ipv6_net(name, bits, match)
        if name.isdigit():
            value = self.number(name, at, 0xFFFF_FFFF)
            bits = 32
            while value and not value >> 24:
                value <<= 8
                bits -= 8
        else:
            net = self.dotted(name, at)
            if net is None:
                return self.match_host(match._replace(escaped=True))
            value, bits = net
        if mask is None:
            return self.ipv4_net(value, bits, match)
        if mask.isdigit():
            return self.ipv4_net(value, self.number(mask, match.at, 32), match)
        wanted = self.dotted(mask, match.at)
        if wanted is None:
            raise self.error(f"no mask: {mask}", match.at)
        return self.ipv4_masked(value, wanted[0], match)

    def dotted(self, text: str, at: Span) -> tuple[int, int] | None:
        """`10.1` as a number of 32 bits and how many of them were given; None is no such."""
        if not re.fullmatch(r"\d+(\.\d+){0,3}", text):
            return None
        numbers = [int(each[:5]) for each in text.split(".")]
        if max(numbers) > 0xFF:
            raise self.error("no IPv4 address: each number is 0 to 255", at)
        given = 8 * len(numbers)
        return int.from_bytes(bytes(numbers), "big") << 32 - given, given

    def ipv4_net(self, value: int, bits: int, match: syntax.Match) -> Predicate:
        return self.ipv4_masked(value, 0xFFFF_FFFF << 32 - bits & 0xFFFF_FFFF, match)

    def ipv4_masked(self, value: int, mask: int, match: syntax.Match) -> Predicate:
        """An IPv4 address or net, in the headers that can have it."""
        if match.protocol == "ip6":
            raise self.error("ip6 has no IPv4 address", match.at)
        if value & ~mask:
            raise self.error("bits are set behind what the mask covers", match.at)

        def within(protocol: str) -> Predicate:
            src, dst = (12, 16) if protocol == "ip" else (14, 24)
            carried = self.headers.carries(ETHERTYPES[protocol])
            return _directed(
                match.direction,
                every(carried, masked(self.protocols.load(4, src), mask, value)),
                every(carried, masked(self.protocols.load(4, dst), mask, value)),
            )

        protocols = ("ip", "arp", "rarp") if match.protocol is None else (match.protocol,)
        return either(*map(within, protocols))

    def ipv6_net(self, text: str, bits: int, match: syntax.Match) -> Predicate:
        """An IPv6 address or net."""
        try:
            address = pack_ipv6(text)
        except EmitError:
            raise self.error("neither an IPv6 nor a MAC address", match.name_at) from None
        if match.protocol not in (None, "ip6"):
            raise self.error(f"{match.protocol} has no IPv6 address", match.at)
        mask = (1 << 128) - (1 << 128 - bits)
        if int.from_bytes(address, "big") & ~mask:
            raise self.error("bits are set behind the length of the net", match.at)
        masks, load = mask.to_bytes(16, "big"), self.protocols.load

        def stands_at(offset: int) -> Predicate:
            words = [
                masked(load(4, offset + at), _word(masks, at), _word(address, at))
                for at in range(0, 16, 4)
            ]
            return every(self.headers.carries(IPV6), *words)

        return _directed(match.direction, stands_at(8), stands_at(24))

    def match_port(self, match: syntax.Match) -> Predicate:
        """A port or a range of ports, by numbers or names."""
        if match.protocol not in (None, *_TRANSPORTS):
            raise self.error(f"{match.protocol} has no ports", match.at)
        ranges = self.port_ranges(match)

        def between(load: Load, low: int, high: int) -> Predicate:
            if low == high:
                return equal(load, low)
            return every(Test("jge", load, low), Not(Test("jgt", load, high)))

        def over(ethertype: int, number: Load, port: Callable[[int], Load]) -> Predicate:
            found: list[Predicate] = []
            for protocol, ends in ranges.items():
                ends_in = (between(port(at), *ends) for at in (0, 2))
                ports = _directed(match.direction, *ends_in)
                checks = [equal(number, protocol)]
                if ethertype == IPV4:
                    checks.append(self.protocols.no_later_fragment())
                found.append(every(*checks, ports))
            return every(self.headers.carries(ethertype), either(*found))

        return either(
            over(
                IPV6, self.protocols.load(1, 6), lambda at: self.protocols.load(2, IPV6_LENGTH + at)
            ),
            over(IPV4, self.protocols.load(1, 9), self.protocols.behind_ipv4),
        )

    def port_ranges(self, match: syntax.Match) -> dict[int, tuple[int, int]]:
        """The first and the last port, by IP protocol, in the order in which libpcap asks."""
        begin, end = match.name, match.name
        # There are services with a hyphen in their names.
        if match.kind == "portrange" and not self.names.ports(match.name):
            begin, _, end = match.name.partition("-")
            end = end or begin
        first, last = self.ports(begin, match), self.ports(end, match)
        ranges = {
            protocol: (min(first[protocol], last[protocol]), max(first[protocol], last[protocol]))
            for protocol in (_SCTP, _TCP, _UDP)
            if protocol in first and protocol in last
        }
        if not ranges:
            raise self.error("these are ports of different protocols", match.name_at)
        return ranges

    def ports(self, text: str, match: syntax.Match) -> dict[int, int]:
        """A port by its number or name, by IP protocol."""
        asked = [_TRANSPORTS[match.protocol]] if match.protocol else [_SCTP, _TCP, _UDP]
        if text[:1].isdigit() and not match.escaped:
            return dict.fromkeys(asked, self.number(text, match.name_at, 0xFFFF))
        named = self.names.ports(text)
        if not named:
            raise self.error(f"no port is known by the name {text}", match.name_at)
        if _TCP in named and named[_TCP] == named.get(_UDP):
            # A name that says nothing of the protocol is as good as its number.
            return dict.fromkeys(asked, named[_TCP])
        found = {protocol: port for protocol, port in named.items() if protocol in asked}
        if not found:
            raise self.error(f"{text} is no port of {match.protocol}", match.name_at)
        return found

    # --- the others ---

    def cast(self, cast: syntax.Cast) -> Predicate:
        """`broadcast` and `multicast`, of a link layer or of IP."""
        if cast.protocol == "ether":
            if not self.headers.is_ethernet:
                raise self.error("these packets have no Ethernet header", cast.at)
            if cast.kind == "multicast":
                return Test("jset", Load(1, self.headers.link), 1)
            match = syntax.Match(cast.at, "ether", "dst", "host", "", cast.at)
            return self.ethernet(b"\xff" * 6, match)
        if cast.kind == "multicast":
            if cast.protocol == "ip6":
                return every(self.headers.carries(IPV6), equal(self.protocols.load(1, 24), 0xFF))
            return every(self.headers.carries(IPV4), Test("jge", self.protocols.load(1, 16), 224))
        if cast.protocol == "ip6":
            raise self.error("IPv6 has no broadcast", cast.at)
        if self.netmask is None:
            raise self.error("the netmask of the interface is not known", cast.at)
        hosts = ~self.netmask & 0xFFFF_FFFF
        dst = self.protocols.load(4, 16)
        ends = either(masked(dst, hosts, 0), masked(dst, hosts, hosts))
        return every(self.headers.carries(IPV4), ends)

    def tag(self, tag: syntax.Tag) -> Predicate:
        """`vlan`, `mpls`, `pppoes`: from here on, offsets are those behind the tag."""
        headers, announces = self.headers, self.headers.announces
        most = {"vlan": 0x0FFF, "mpls": 0xF_FFFF, "pppoes": 0xFFFF}[tag.kind]
        if tag.number is not None and tag.number > most:
            raise self.error(f"must be 0 to {most}", tag.at)
        possible = ("ethertype", "label", "ppp") if tag.kind == "mpls" else ("ethertype",)
        if announces not in possible:
            behind = {"label": "MPLS", "ppp": "PPPoE"}.get(announces)
            where = f"is not looked for behind {behind}" if behind else "needs an Ethernet header"
            raise self.error(f"{tag.kind} {where}", tag.at)
        if tag.kind == "vlan":
            return headers.enter_vlan(tag.number)
        return (
            headers.enter_mpls(tag.number)
            if tag.kind == "mpls"
            else headers.enter_pppoe(tag.number)
        )


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _directed(direction: str, src: Predicate, dst: Predicate) -> Predicate:
    """What holds of the source, of the destination, of either or of both."""
    if direction in ("src", "dst"):
        return src if direction == "src" else dst
    return every(src, dst) if direction == "and" else either(src, dst)
