"""Build packets by hand from a line of text, look at them, and write or send them.

examples:
  rawproto craft 'ipv4 dst_addr=10.0.0.2 ttl=3 / udp dst_port=53 / hex:0001'
  rawproto craft --diagram 'ipv6 dst_addr=ff02::1 / icmpv6 / text:hello'
  rawproto craft --python 'ipv4 dst_addr=10.0.0.2 / tcp dst_port=80 flags=SYN options=[mss=1460]'
  rawproto craft --pcap syn.pcap 'ipv4 dst_addr=10.0.0.0/28 / tcp dst_port={22,80} flags=SYN'
  rawproto craft --fragment 576 'ipv4 dst_addr=10.0.0.2 / icmp / random:1400'
  rawproto craft -x 'arp target_protocol_addr=10.0.0.2'
  rawproto craft --answer 1 'ipv4 dst_addr=10.0.0.2 ttl=1..5 / icmp'

A layer is its name and the fields that are to differ from their defaults; / stands between
layers; the innermost may be data, text:, hex:, file: or random:. 1..5, {22,80} and
10.0.0.0/30 give a packet for each value. `rawproto layers [NAME]` lists layers and fields,
docs/craft.md has the whole notation. Lengths, checksums and protocol numbers compute
themselves and go out as given when they are given. Addresses that are left out are shown
as the layer's default; --send fills them in from routes and neighbours.

exit code: 0, 1 nothing answered (--answer), 2 error, 130 Ctrl-C (after the summary)
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterable, Iterator
from itertools import chain

from rawproto.cli import craft_send
from rawproto.cli.craft_text import show
from rawproto.errors import UsageError
from rawproto.packets.made import fragments
from rawproto.packets.notation import MAX_DATA_BYTES, Expression, NotationError, craft
from rawproto.packets.terms import Family
from rawproto.wire.layer import Packet
from rawproto.wire.words import printable

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to build, and how to look at it."""
    parser.add_argument("expressions", nargs="+", metavar="EXPRESSION", help="packets, see below")
    parser.add_argument(
        "--fragment", type=int, metavar="SIZE", help="cut into IP fragments of at most SIZE bytes"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="make what is random the same every time"
    )

    how = parser.add_argument_group("what to show (a line a packet)")
    form = how.add_mutually_exclusive_group()
    for option, text in (
        ("--diagram", "headers as the RFCs draw them, with their values"),
        ("-x", "offsets, bytes and text"),
        ("--hex", "the bytes on one line, as xxd -r -p and hex: take them"),
        ("--python", "library code that makes the same packets"),
        ("--json", "JSON Lines, as of decode"),
    ):
        name = option.strip("-")
        dest = "hexdump" if name == "x" else name
        form.add_argument(
            option, dest="form", action="store_const", const=dest, default="line", help=text
        )
    how.add_argument(
        "--pcap",
        metavar="FILE",
        help="write a capture, pcap or pcapng by its name, - for stdout; shows nothing else "
        "unless asked to",
    )
    craft_send.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Reads the expressions, all before the first packet goes anywhere, and does what is asked."""
    chance = random.Random(arguments.seed)
    try:
        expressions = [
            craft(expression, read_file=_read_file, resolve=_resolve, rng=chance)
            for expression in arguments.expressions
        ]
    except NotationError:
        if _lacks_quotes(arguments.expressions):
            whole = printable(" ".join(arguments.expressions))
            raise UsageError(f"an expression is one argument: quote it, '{whole}'") from None
        raise
    if arguments.fragment is not None and arguments.fragment < 1:
        raise UsageError(f"--fragment {arguments.fragment}: must be a size in bytes")
    packets: Iterable[Packet] = _All(expressions)
    if craft_send.is_wanted(arguments):
        # Cut there when all is filled in: the first fragment's checksum covers the addresses.
        return craft_send.run(packets, arguments)
    if arguments.fragment is not None:
        packets = _fragments(packets, arguments.fragment, chance)
    show(packets, arguments.form, arguments.pcap)
    return 0


def _lacks_quotes(words: list[str]) -> bool:
    """Whether the words make an expression together that none of them begins anew."""
    if len(words) < 2:
        return False
    try:
        craft(" ".join(words), read_file=lambda name: b"", resolve=_some_address)
    except NotationError:
        return "/" in words
    return True


def _some_address(name: str, family: Family) -> str:
    return "::" if family == 6 else "0.0.0.0"


class _All:
    """The packets of several expressions, to be gone through again and again (--count)."""

    def __init__(self, expressions: list[Expression]) -> None:
        self._expressions = expressions

    def __iter__(self) -> Iterator[Packet]:
        return chain.from_iterable(self._expressions)


def _fragments(packets: Iterable[Packet], size: int, chance: random.Random) -> Iterator[Packet]:
    for packet in packets:
        yield from fragments(packet, size, identification=chance.getrandbits(32))


def _resolve(name: str, family: Family) -> str:
    from rawproto.drivers.names import resolve

    return resolve(name, family)


def _read_file(name: str) -> bytes:
    """What `file:NAME` stands for, and one byte more than may be if it is too long."""
    if name == "-":
        return sys.stdin.buffer.read(MAX_DATA_BYTES + 1)
    with open(name, "rb") as file:
        return file.read(MAX_DATA_BYTES + 1)
