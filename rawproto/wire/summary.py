"""A packet on one line, in the words that readers of tcpdump know.

::

    IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 1, win 64240, options [mss 1460], length 0
    IP6 fe80::1 > ff02::1:ff00:2: ICMP6, neighbor solicitation, who has fe80::2, length 32
    ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28

Each layer that has something to say adds its words, and `_Line` carries what one
layer leaves to the next: the addresses to write, how long the inside is, and what
to say of it if no layer inside speaks for itself. What is wrong with a packet stands
last: `[|tcp, 8 bytes missing]` where it ends within TCP, else the reason.

One packet alone knows no connection: sequence numbers are as they stand, unless the
caller knows where they begin. ICMP, ARP and DNS have their words in `summary_words`,
RPT in `rpt_words`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, singledispatch
from typing import Any

from rawproto.errors import TruncatedError
from rawproto.wire import tcp_options
from rawproto.wire.arp import ARPMessage
from rawproto.wire.cooked import LinuxCooked, LinuxCooked2, LoopbackHeader
from rawproto.wire.cut import cut_tcp
from rawproto.wire.dissect import Dissection
from rawproto.wire.dns import DNSMessage
from rawproto.wire.ethernet import ETHERTYPES, EthernetHeader, VLANTag
from rawproto.wire.icmp import ICMPMessage
from rawproto.wire.icmpv6 import ICMPv6Message
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import (
    DestinationOptions,
    FragmentHeader,
    HopByHopOptions,
    RoutingHeader,
    SegmentRoutingHeader,
    UnknownRoutingHeader,
)
from rawproto.wire.layer import Layer
from rawproto.wire.summary_words import (
    arp_words,
    dns_words,
    icmp_words,
    icmpv6_words,
    protocol_words,
)
from rawproto.wire.tcp import ACK, AE, CWR, ECE, FIN, PSH, RST, SYN, URG, TCPHeader
from rawproto.wire.udp import UDPHeader
from rawproto.wire.words import printable

__all__ = ["summary"]

_TCP_LETTERS = {
    FIN: "F",
    SYN: "S",
    RST: "R",
    PSH: "P",
    ACK: ".",
    URG: "U",
    ECE: "E",
    CWR: "W",
    AE: "e",
}


_MASK = 0xFFFF_FFFF
_Inside = tuple[Callable[[int | None], str], int | None, int]


class _Line:
    """The words so far, and what the outer layers leave to the inner ones.

    Attributes:
        words: what the line is made of.
        src: who sent it, while it is still to be written.
        dst: likewise, whom to.
        in_ip: whether they are those of an IP header.
        within: words that come behind the addresses, of headers before the ports are known.
        tail: words for the end of the line.
        inside: what to say of the inside if no layer there speaks for itself: how its number
            is worded, the number, and where it begins; None once one has spoken.
        end: where in the packet the inside ends, as the headers say; a packet that was
            cut short may end before.
        base: what TCP's sequence and acknowledgment numbers are counted from.
    """

    def __init__(self, end: int, base: tuple[int, int]) -> None:
        self.words: list[str] = []
        self.src = self.dst = ""
        self.in_ip = False
        self.within: list[str] = []
        self.tail: list[str] = []
        self.inside: _Inside | None = (_data_words, None, 0)
        self.end = end
        self.base = base

    def addresses(self, src_port: int | None = None, dst_port: int | None = None) -> None:
        """Writes the addresses if they are still to be written, with ports if there are any."""
        if self.src:
            src = self.src if src_port is None else f"{self.src}.{src_port}"
            dst = self.dst if dst_port is None else f"{self.dst}.{dst_port}"
            self.words.append(f"{src} > {dst}:")
        self.words += self.within
        self.within = []
        self.src = self.dst = ""

    def say(self, words: str) -> None:
        """A layer speaks for itself: nothing is left to say of it."""
        self.addresses()
        self.words.append(words)
        self.inside = None

    def fragment(self, identification: int, offset: int, flags: int, length: int) -> None:
        """A fragment is written identification:length@offset, with + if more follow."""
        if offset or flags & MF:
            more = "+" if flags & MF else ""
            self.tail.append(f"(frag {identification}:{length}@{offset * 8}{more})")


def summary(found: Dissection, *, sequence_base: tuple[int, int] = (0, 0)) -> str:
    """One line about a packet, without the time.

    Args:
        found: what `dissect` made of it.
        sequence_base: what TCP's sequence and acknowledgment numbers are counted from.
    """
    line = _Line(len(found.data), sequence_base)
    for layer, (start, end) in zip(found.layers, found.spans, strict=True):
        _teller(type(layer))(layer, line, start, end)
    if (cut := cut_tcp(found)) is not None:
        start = found.payload_offset
        _teller(TCPHeader)(cut, line, start, start + 4 * (cut.data_offset or 0))
    if line.inside:
        words, number, start = line.inside
        line.say(f"{words(number)}, length {line.end - start}")
    line.words += line.tail
    if isinstance(found.damage, TruncatedError):
        missing = found.damage.needed - found.damage.got
        line.words.append(f"[|{found.damage.layer}, {missing} bytes missing]")
    elif found.damage:
        line.words.append(f"[{found.damage}]")
    return printable(" ".join(line.words))


@singledispatch
def _tell(layer: Layer, line: _Line, start: int, end: int) -> None:
    """Adds the words of one layer, which stands in the packet from `start` to `end`."""
    if layer.layer == "rpt":
        from rawproto.wire.rpt_words import rpt_words  # with the first of them

        rpt: Any = layer
        line.addresses(rpt.src_port, rpt.dst_port)
        line.say(f"{rpt_words(rpt)}, length {line.end - start}")
        return
    line.say(f"{layer.layer}, length {line.end - start}")


@_tell.register
def _(layer: EthernetHeader, line: _Line, start: int, end: int) -> None:
    line.src, line.dst = layer.src_addr, layer.dst_addr
    line.inside = _ethertype_words, layer.ethertype, end


@_tell.register
def _(layer: VLANTag, line: _Line, start: int, end: int) -> None:
    line.words.append(f"vlan {layer.vid}, p {layer.pcp}{', DEI' if layer.dei else ''},")
    line.inside = _ethertype_words, layer.ethertype, end


@_tell.register
def _(layer: LinuxCooked | LinuxCooked2, line: _Line, start: int, end: int) -> None:
    line.src = layer.src_addr or "?"
    kinds = layer.value_names["packet_type"]
    line.dst = kinds.get(layer.packet_type, f"packet type {layer.packet_type}")
    line.inside = _ethertype_words, layer.protocol_type, end


@_tell.register
def _(layer: LoopbackHeader, line: _Line, start: int, end: int) -> None:
    line.inside = _family_words, layer.family, end


def _data_words(number: int | None) -> str:
    return "data"


def _udp_words(number: int | None) -> str:
    return "UDP"


def _family_words(number: int | None) -> str:
    return f"address family {number}"


def _ethertype_words(number: int | None) -> str:
    if number is None or number <= 1500:
        return "802.3"
    name = ETHERTYPES.get(number)
    return f"ethertype {number:#06x}" + (f" ({name})" if name else "")


@_tell.register
def _(layer: ARPMessage, line: _Line, start: int, end: int) -> None:
    line.src = ""
    line.say(f"ARP, {arp_words(layer)}, length {end - start}")


@_tell.register
def _(layer: IPv4Header, line: _Line, start: int, end: int) -> None:
    _enter_ip(line, "IP", layer.src_addr, layer.dst_addr)
    if layer.total_length:
        line.end = start + layer.total_length
    line.inside = protocol_words, layer.protocol, end
    line.fragment(layer.identification, layer.fragment_offset, layer.flags, line.end - end)


@_tell.register
def _(layer: IPv6Header, line: _Line, start: int, end: int) -> None:
    _enter_ip(line, "IP6", layer.src_addr, layer.dst_addr)
    if layer.payload_length:
        line.end = end + layer.payload_length
    line.inside = protocol_words, layer.next_header, end


def _enter_ip(line: _Line, name: str, src_addr: str, dst_addr: str) -> None:
    if line.in_ip:  # a tunnel: the outer addresses are not written yet; a link's never are
        line.addresses()
    line.in_ip = True
    line.words.append(name)
    line.src, line.dst = src_addr, dst_addr


@_tell.register
def _(layer: HopByHopOptions, line: _Line, start: int, end: int) -> None:
    _extension(line, "HBH", layer.next_header, end)


@_tell.register
def _(layer: DestinationOptions, line: _Line, start: int, end: int) -> None:
    _extension(line, "DSTOPT", layer.next_header, end)


@_tell.register
def _(
    layer: RoutingHeader | SegmentRoutingHeader | UnknownRoutingHeader,
    line: _Line,
    start: int,
    end: int,
) -> None:
    words = f"srcrt (type={layer.routing_type}, segleft={layer.segments_left})"
    _extension(line, words, layer.next_header, end)


@_tell.register
def _(layer: FragmentHeader, line: _Line, start: int, end: int) -> None:
    line.fragment(layer.identification, layer.fragment_offset, layer.flags, line.end - end)
    line.inside = protocol_words, layer.next_header, end


def _extension(line: _Line, words: str, next_header: int | None, end: int) -> None:
    line.within.append(words)
    line.inside = protocol_words, next_header, end


@_tell.register
def _(layer: ICMPMessage, line: _Line, start: int, end: int) -> None:
    line.say(f"ICMP {icmp_words(layer)}, length {line.end - start}")


@_tell.register
def _(layer: ICMPv6Message, line: _Line, start: int, end: int) -> None:
    line.say(f"ICMP6, {icmpv6_words(layer)}, length {line.end - start}")


@_tell.register
def _(layer: UDPHeader, line: _Line, start: int, end: int) -> None:
    line.addresses(layer.src_port, layer.dst_port)
    if layer.length:
        line.end = start + layer.length
    line.inside = _udp_words, None, end


@_tell.register
def _(layer: DNSMessage, line: _Line, start: int, end: int) -> None:
    line.say(dns_words(layer, line.end - start))


@_tell.register
def _(layer: TCPHeader, line: _Line, start: int, end: int) -> None:
    line.addresses(layer.src_port, layer.dst_port)
    length = line.end - end
    sequence_base, acknowledgment_base = line.base
    first = (layer.sequence_number - sequence_base) & _MASK
    words = [f"Flags [{_flag_letters(layer.flags)}]"]
    if length > 0:
        words.append(f"seq {first}:{(first + length) & _MASK}")
    elif layer.flags & (SYN | FIN | RST):
        words.append(f"seq {first}")
    if layer.flags & ACK:
        words.append(f"ack {(layer.acknowledgment_number - acknowledgment_base) & _MASK}")
    words.append(f"win {layer.window}")
    if layer.flags & URG:
        words.append(f"urg {layer.urgent_pointer}")
    if layer.options:
        options = [_option(option, acknowledgment_base) for option in layer.options]
        words.append(f"options [{','.join(options)}]")
    words.append(f"length {length}")
    line.say(", ".join(words))


# Asking singledispatch itself for every layer would cost as much as writing its words.
_teller: Callable[[Any], Callable[[Layer, _Line, int, int], None]] = cache(_tell.dispatch)


@cache
def _flag_letters(flags: int) -> str:
    return "".join([_TCP_LETTERS[bit] for bit in _TCP_LETTERS if flags & bit]) or "none"


def _option(option: tcp_options.TCPOption, acknowledgment_base: int) -> str:
    match option:
        case tcp_options.NoOperation():
            return "nop"
        case tcp_options.Timestamps(tsval=tsval, tsecr=tsecr):
            return f"TS val {tsval} ecr {tsecr}"
        case tcp_options.EndOfOptions():
            return "eol"
        case tcp_options.MSS(mss=mss):
            return f"mss {mss}"
        case tcp_options.WindowScale(shift=shift):
            return f"wscale {shift}"
        case tcp_options.SACKPermitted():
            return "sackOK"
        case tcp_options.SACK(blocks=blocks):
            begin = acknowledgment_base
            edges = "".join(
                f"{{{(left - begin) & _MASK}:{(right - begin) & _MASK}}}" for left, right in blocks
            )
            return f"sack {len(blocks)} {edges}"
        case tcp_options.FastOpen(cookie=cookie):
            return f"tfo {f'cookie {cookie.hex()}' if cookie else 'cookiereq'}"
        case tcp_options.MD5Signature(digest=digest):
            return f"md5 {digest.hex()}"
        case tcp_options.UnknownOption(kind=kind, data=data):
            return f"unknown-{kind} 0x{data.hex()}"
    return "bad options"
