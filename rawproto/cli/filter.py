"""Show what a capture filter compiles to, and what it means.

examples:
  rawproto filter 'tcp port 80 and not host 192.0.2.1'
  rawproto filter --link-type raw 'icmp or icmp6'
  rawproto filter --link-type raw --iptables 'udp port 53'      for iptables -m bpf --bytecode
  rawproto filter --json vlan 7 and arp | jq .

The language is that of pcap-filter(7); docs/filter.md says where ours differs. Quote
what the shell would take: ! & | ( ) < > \\

exit code: 0 compiled, 2 the expression is not understood
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rawproto.errors import UsageError
from rawproto.filter.assembler import disassemble
from rawproto.filter.compiler import SNAP_LENGTH, FilterError, compile_filter
from rawproto.filter.grammar import parse
from rawproto.filter.instructions import Instruction, Program
from rawproto.filter.links import ETHERNET, LINK_TYPES
from rawproto.filter.names import Names
from rawproto.filter.words import describe

__all__ = ["SystemNames", "add_arguments", "run"]

_NAMES = {
    "null": 0,
    "ethernet": ETHERNET,
    "en10mb": ETHERNET,
    "raw": 101,
    "loop": 108,
    "linux-sll": 113,
    "linux_sll": 113,
    "ipv4": 228,
    "ipv6": 229,
    "linux-sll2": 276,
    "linux_sll2": 276,
}
"""Link types by our names and by tcpdump's."""

_IP_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_WIDEST = 28


class SystemNames(Names):
    """Hosts, networks and services as this system knows them."""

    def hosts(self, name: str) -> Sequence[str]:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return ()
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def network(self, name: str) -> str | None:
        try:
            lines = Path("/etc/networks").read_text(errors="replace").splitlines()
        except OSError:
            return None
        for line in lines:
            words = line.partition("#")[0].split()
            if name in words[:1] + words[2:]:
                # Zeros at the end are no part of a network's number (networks(5)).
                return re.sub(r"(\.0)+$", "", words[1])
        return None

    def ports(self, name: str) -> dict[int, int]:
        found = {}
        for transport, protocol in _IP_PROTOCOLS.items():
            try:
                found[protocol] = socket.getservbyname(name, transport)
            except (OSError, UnicodeError):
                continue
        return found or super().ports(name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The expression, and how to show the program."""
    parser.add_argument("expression", metavar="WORD", nargs="*", help="the filter expression")
    parser.add_argument(
        "-y",
        "--link-type",
        default="ethernet",
        metavar="TYPE",
        help="how packets begin: ethernet, raw, ipv4, ipv6, linux-sll, linux-sll2, null, loop, "
        "or a number (ethernet)",
    )
    parser.add_argument(
        "--netmask", metavar="MASK", help="of the interface's network, for ip broadcast"
    )
    parser.add_argument(
        "-s",
        "--snap-length",
        type=int,
        default=SNAP_LENGTH,
        metavar="BYTES",
        help=f"how much of a packet to keep ({SNAP_LENGTH})",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="for a packet socket, which gets VLAN tags beside the packet",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("-d", dest="form", action="store_const", const="d", help="only the program")
    output.add_argument("-dd", dest="form", action="store_const", const="dd", help="as C has it")
    output.add_argument("-ddd", dest="form", action="store_const", const="ddd", help="as numbers")
    output.add_argument(
        "--iptables", dest="form", action="store_const", const="iptables", help="as one line"
    )
    output.add_argument("--json", dest="form", action="store_const", const="json", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Compiles, and shows."""
    expression = " ".join(arguments.expression)
    link_type = _link_type(arguments.link_type)
    try:
        program = compile_filter(
            expression,
            link_type=link_type,
            names=SystemNames(),
            netmask=arguments.netmask,
            live=arguments.live,
            snap_length=arguments.snap_length,
        )
    except FilterError as error:
        # Elsewhere it says that the fault is in the filter; here there is nothing else.
        raise UsageError(str(error).removeprefix("filter: ")) from None
    if arguments.form == "json":
        sys.stdout.write(_json(expression, link_type, program))
    elif arguments.form is None:
        sys.stdout.write(f"{disassemble(program)}\n\n{_meaning(expression)}")
    else:
        sys.stdout.write(_FORMS[arguments.form](program) + "\n")
    return 0


def _link_type(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) < 9 else _NAMES.get(text.lower(), -1)
    if number not in LINK_TYPES:
        raise UsageError(f"--link-type {text}: known are {', '.join(_NAMES)} and their numbers")
    return number


def _meaning(expression: str) -> str:
    """A line a primitive, what joins them around it."""
    lines = describe(expression, parse(expression))
    width = min(max(2 * depth + len(text) for depth, text, _ in lines), _WIDEST)
    shown = [
        f"{'  ' * depth}{text}".ljust(width) + (f"  {words}" if words else "")
        for depth, text, words in lines
    ]
    return "\n".join(line.rstrip() for line in shown) + "\n"


def _numbers(instruction: Instruction) -> str:
    return " ".join(map(str, instruction))


_FORMS: dict[str, Callable[[Program], str]] = {
    "d": disassemble,
    "dd": lambda program: "\n".join(
        f"{{ {code:#x}, {jt}, {jf}, {k:#010x} }}," for code, jt, jf, k in program
    ),
    "ddd": lambda program: "\n".join([str(len(program)), *map(_numbers, program)]),
    "iptables": lambda program: ",".join([str(len(program)), *map(_numbers, program)]),
}


def _json(expression: str, link_type: int, program: Program) -> str:
    from rawproto.cli.render import json_line

    texts = [line.partition(")")[2].strip() for line in disassemble(program).splitlines()]
    return json_line(
        "filter",
        {
            "expression": expression,
            "link_type": link_type,
            "link_type_name": LINK_TYPES[link_type],
            "instructions": [
                {**instruction._asdict(), "text": " ".join(text.split())}
                for instruction, text in zip(program, texts, strict=True)
            ],
            "meaning": [
                {"depth": depth, "text": text, "words": words or None}
                for depth, text, words in describe(expression, parse(expression))
            ],
        },
    )
