"""What a capture lets in: one program for the kernel, out of a filter for each link type.

A packet socket for several interfaces meets frames that begin with an Ethernet header and
frames that begin with an IP header. So the kernel is asked first where a frame came by and
what kind of hardware that is, and then runs the filter that was compiled for it::

    interface one of ours?  --no--> drop
    loopback, outgoing?     --yes-> drop: it comes in again, and would be seen twice
    Ethernet?               --yes-> the filter for Ethernet
    no link-layer header?   --yes-> the filter for raw IP
    anything else                   all of it, or with a filter none of it

It compiles nothing: that is `filter.compiler`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rawproto.filter.instructions import ANCILLARY, ANCILLARY_OFFSET, Instruction, Program
from rawproto.link.interfaces import ARPHRD_ETHER, ARPHRD_LOOPBACK

__all__ = ["COOKED", "ETHERNET", "RAW", "admission", "link_type_of"]

ETHERNET, RAW, COOKED = 1, 101, 276
"""Link types of what is captured; COOKED (Linux cooked v2) where there is no better one."""

# Of headerless devices: rawip, tunnels IPv4 in IPv4, IPv6 in IPv6, IPv6 in IPv4, and tun.
_HEADERLESS = (519, 768, 769, 776, 65534)
_HARDWARE = {ETHERNET: (ARPHRD_ETHER, ARPHRD_LOOPBACK), RAW: _HEADERLESS}
_LINK_TYPES = {hardware: link for link, types in _HARDWARE.items() for hardware in types}

_OUTGOING = 4
_LOAD, _RETURN, _JUMP, _JUMP_IF_EQUAL = 0x20, 0x06, 0x05, 0x15

Body = list[Instruction]


def link_type_of(hardware_type: int) -> int:
    """What frames of an interface are captured as, by its ARPHRD_*."""
    return _LINK_TYPES.get(hardware_type, COOKED)


def admission(
    filters: Mapping[int, Program] | None, *, snaplen: int, indexes: Sequence[int] = ()
) -> Program:
    """The program for a capture's socket.

    Args:
        filters: by link type; frames of a type that has none are dropped. None lets all pass.
        snaplen: how many bytes of a frame are kept at most.
        indexes: of the interfaces whose frames are wanted; empty for all.

    Raises:
        UsageError: longer than the kernel takes.
    """
    everything = [_return(snaplen)]
    code: Body = []
    if indexes:
        code += [_ask("ifidx"), *_if_none_of(indexes, [_return(0)])]
    code += [_ask("hatype"), *_if_any_of([ARPHRD_LOOPBACK], _unless_outgoing())]
    for link_type, hardware_types in _HARDWARE.items():
        if filters is None:
            body = everything
        elif link_type in filters:
            body = _cut(filters[link_type], snaplen)
        else:
            continue
        code += _if_any_of(hardware_types, body)
    return Program([*code, *(everything if filters is None else [_return(0)])])


def _unless_outgoing() -> Body:
    """Drops what leaves by the loopback; else A is the hardware type again."""
    return [_ask("type"), *_if_any_of([_OUTGOING], [_return(0)]), _ask("hatype")]


def _if_any_of(values: Sequence[int], body: Body) -> Body:
    """Runs the body where A is one of the values."""
    count = len(values)
    tests = [Instruction(_JUMP_IF_EQUAL, count - at, 0, value) for at, value in enumerate(values)]
    return [*tests, Instruction(_JUMP, 0, 0, len(body)), *body]


def _if_none_of(values: Sequence[int], body: Body) -> Body:
    """Runs the body where A is none of the values."""
    behind = len(values) - 1 + len(body)
    tests = [Instruction(_JUMP_IF_EQUAL, behind - at, 0, value) for at, value in enumerate(values)]
    return [*tests, *body]


def _cut(program: Program, snaplen: int) -> Body:
    """A filter that keeps no more than `snaplen` bytes of what it lets pass."""
    return [
        each._replace(k=min(each.k, snaplen)) if each.code == _RETURN else each for each in program
    ]


def _ask(what: str) -> Instruction:
    return Instruction(_LOAD, 0, 0, ANCILLARY_OFFSET + ANCILLARY[what])


def _return(length: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, length)
