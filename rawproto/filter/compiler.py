"""Filter expressions compiled to programs for the kernel's classic BPF machine.

The language is that of pcap-filter(7), and so is what it means; docs/filter.md says what
of it is not known here. An expression goes through five hands::

    text --lexer--> words --grammar--> tree --primitives--> predicate
         --graph--> decisions --emit--> instructions

The same program filters in the kernel (`link`) and files (`interpreter`).
"""

from __future__ import annotations

from rawproto.errors import EmitError, UsageError
from rawproto.filter import syntax
from rawproto.filter.emit import emit
from rawproto.filter.grammar import parse
from rawproto.filter.graph import Graph
from rawproto.filter.instructions import MAX_INSTRUCTIONS, Program
from rawproto.filter.lexer import FilterError
from rawproto.filter.links import ETHERNET, Headers, ask
from rawproto.filter.names import Names
from rawproto.filter.predicate import Not, Predicate, Test, either, every
from rawproto.filter.primitives import Meaning
from rawproto.wire.address import pack_ipv4

__all__ = ["ETHERNET", "SNAP_LENGTH", "FilterError", "Names", "compile_filter"]

SNAP_LENGTH = 262_144
"""How many bytes of a packet are kept unless said otherwise, as tcpdump has it."""

_KNOWS_NO_NAMES = Names()


def compile_filter(
    expression: str,
    *,
    link_type: int = ETHERNET,
    names: Names = _KNOWS_NO_NAMES,
    netmask: str | None = None,
    live: bool = False,
    snap_length: int = SNAP_LENGTH,
) -> Program:
    """Compiles an expression of pcap-filter(7).

    Args:
        expression: the text; an empty one lets everything through.
        link_type: how the packets begin, a key of `links.LINK_TYPES`.
        names: who knows hosts, networks and services by name; the default knows the usual
            services.
        netmask: of the IPv4 network that is captured on, for `ip broadcast`.
        live: for a packet socket: the kernel has taken the outermost VLAN tag out of most
            packets and tells of it beside them. `inbound`, `outbound` and `ifindex` ask the
            kernel anyway, unless the link type tells.
        snap_length: how many bytes of a packet are kept, 1 to 0xFFFFFFFF.

    Returns:
        The program. It gives 0 for a packet that does not pass, else `snap_length`.

    Raises:
        FilterError: the expression is not understood or cannot be compiled.
        UsageError: packets of that link type cannot be filtered, or another argument is wrong.
    """
    if not 0 < snap_length <= 0xFFFF_FFFF:
        raise UsageError(f"snap length {snap_length}: 1 to {0xFFFF_FFFF} bytes can be kept")
    try:
        mask = None if netmask is None else int.from_bytes(pack_ipv4(netmask), "big")
    except EmitError:
        raise UsageError(f"netmask {netmask}: 255.255.255.0 is one") from None

    def meaning(stripped_tags: int = 0) -> Predicate:
        headers = Headers(link_type, stripped_tags=stripped_tags)
        return True if tree is None else Meaning(expression, headers, names, mask).of(tree)

    tree = parse(expression)
    predicate = meaning()
    if live and link_type == ETHERNET and tree is not None and _asks_for_tags(tree):
        stripped = Not(Test("jeq", ask("vlanp"), 0))
        predicate = either(
            every(stripped, meaning(stripped_tags=1)), every(Not(stripped), predicate)
        )
    instructions = emit(Graph(predicate), snap_length)
    if len(instructions) > MAX_INSTRUCTIONS:
        reason = f"{len(instructions)} instructions long, the kernel takes {MAX_INSTRUCTIONS}"
        raise FilterError(expression, 0, len(expression), reason)
    return Program(instructions)


def _asks_for_tags(tree: syntax.Expression) -> bool:
    if isinstance(tree, syntax.Chain):
        return any(map(_asks_for_tags, (tree.first, *(part for _, part in tree.rest))))
    if isinstance(tree, syntax.Not):
        return _asks_for_tags(tree.operand)
    return isinstance(tree, syntax.Tag) and tree.kind == "vlan"
