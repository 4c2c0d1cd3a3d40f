"""The classic BPF machine, as the kernel runs it.

Programs are checked when they are made and jumps lead forwards, so a run ends
after at most as many steps as the program is long. What the kernel does at the
edges is done here: a load from outside the packet and a division by an X of
zero end the program with 0, shifts by X take its low five bits, and everything
is unsigned and wraps at 32 bits.

The machine knows nothing of protocols. What the kernel knows of a packet beside
its bytes comes in as an `Ancillary`; netlink attributes (`nla`, `nlan`) cannot be
asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from rawproto.errors import UsageError
from rawproto.filter.instructions import (
    ANCILLARY,
    ANCILLARY_OFFSET,
    LINK_OFFSET,
    MEMORY_WORDS,
    NETWORK_OFFSET,
    Program,
)

__all__ = ["Ancillary", "compute", "run"]


@dataclass(slots=True, kw_only=True)
class Ancillary:
    """What the kernel knows of a packet beside its bytes.

    Attributes:
        protocol: EtherType (`proto`).
        packet_type: 0 to us, 1 broadcast, 2 multicast, 3 to another host, 4 outgoing (`type`).
        interface: its index (`ifidx`); None where there is none, and asking ends the program
            with A as the verdict.
        hardware_type: ARPHRD of the interface (`hatype`), None likewise.
        mark: `mark`.
        queue: `queue`.
        rx_hash: `rxhash`.
        cpu: `cpu`.
        vlan_tci: of the tag that the device took off (`vlan_tci`).
        vlan_present: whether it did (`vlanp`).
        vlan_tpid: its EtherType (`vlan_tpid`).
        payload_offset: where the payload begins, as the flow dissector found (`poff`).
        random: `rand`.
        length: of the packet on the wire, where only its beginning was kept; None for `packet`'s.
        network: bytes from the network header on, for offsets relative to it.
        link: bytes from the link-layer header on, likewise.
    """

    protocol: int = 0
    packet_type: int = 0
    interface: int | None = None
    hardware_type: int | None = None
    mark: int = 0
    queue: int = 0
    rx_hash: int = 0
    cpu: int = 0
    vlan_tci: int = 0
    vlan_present: bool = False
    vlan_tpid: int = 0
    payload_offset: int = 0
    random: int = 0
    length: int | None = None
    network: bytes = b""
    link: bytes = b""


_FIELDS = {
    ANCILLARY[name]: field
    for name, field in (
        ("proto", "protocol"),
        ("type", "packet_type"),
        ("ifidx", "interface"),
        ("hatype", "hardware_type"),
        ("mark", "mark"),
        ("queue", "queue"),
        ("rxhash", "rx_hash"),
        ("cpu", "cpu"),
        ("vlan_tci", "vlan_tci"),
        ("vlanp", "vlan_present"),
        ("vlan_tpid", "vlan_tpid"),
        ("poff", "payload_offset"),
        ("rand", "random"),
    )
}
_XOR_X = ANCILLARY_OFFSET + ANCILLARY["xor_x"]
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
_UNKNOWN = Ancillary()
_MASK = 0xFFFF_FFFF


def run(program: Program, packet: bytes, ancillary: Ancillary = _UNKNOWN) -> int:
    """The program's verdict on a packet.

    Args:
        program: it was checked when it was made.
        packet: the bytes that the socket would see; that depends on its kind.
        ancillary: what else is known.

    Returns:
        0 to drop the packet, else how many bytes of it to keep at most.

    Raises:
        UsageError: the program asks for netlink attributes.
    """
    instructions = program.instructions
    length = len(packet)
    wire_length = length if ancillary.length is None else ancillary.length
    memory = [0] * MEMORY_WORDS
    a = x = at = 0
    # Ordered by how often real filters do it: load, compare, return.
    while True:
        code, jt, jf, k = instructions[at]
        at += 1
        kind = code & 7
        if kind == 0:  # ld
            mode = code & 0xE0
            if mode == 0x20 or mode == 0x40:
                size = _SIZES[code & 0x18]
                offset = k if mode == 0x20 else (x + k) & _MASK
                end = offset + size
                if end <= length:
                    a = int.from_bytes(packet[offset:end], "big")
                elif mode == 0x20 and k >= ANCILLARY_OFFSET:
                    value = a ^ x if k == _XOR_X else _ask(ancillary, k)
                    if value is None:
                        return a  # the kernel's way out here clears nothing
                    a = value
                else:
                    value = _load_outside(ancillary, offset, size)
                    if value is None:
                        return 0
                    a = value
            elif mode == 0x60:
                a = memory[k]
            else:
                a = wire_length if mode == 0x80 else k
        elif kind == 5:  # jumps
            operation = code & 0xF0
            if operation == 0:
                at += k
                continue
            other = x if code & 8 else k
            if operation == 0x10:
                holds = a == other
            elif operation == 0x20:
                holds = a > other
            elif operation == 0x30:
                holds = a >= other
            else:
                holds = a & other != 0
            at += jt if holds else jf
        elif kind == 6:  # ret
            return a if code & 0x10 else k
        elif kind == 4:  # compute
            result = compute(code & 0xF0, a, x if code & 8 else k)
            if result is None:
                return 0
            a = result & _MASK
        elif kind == 1:  # ldx
            mode = code & 0xE0
            if mode == 0xA0:
                value = packet[k] if k < length else _load_outside(ancillary, k, 1)
                if value is None:
                    return 0
                x = (value & 0x0F) << 2
            elif mode == 0x60:
                x = memory[k]
            else:
                x = wire_length if mode == 0x80 else k
        elif kind == 2:
            memory[k] = a
        elif kind == 3:
            memory[k] = x
        elif code & 0x80:
            a = x
        else:
            x = a


def compute(operation: int, a: int, other: int) -> int | None:
    """A computed with another operand, not yet cut to 32 bits; None divides by zero.

    The operation is the upper half of an instruction's code: 0x00 add, 0x10 sub, ...
    """
    if operation == 0x00:
        return a + other
    if operation == 0x10:
        return a - other
    if operation == 0x20:
        return a * other
    if operation == 0x30:
        return a // other if other else None
    if operation == 0x40:
        return a | other
    if operation == 0x50:
        return a & other
    if operation == 0x60:
        return a << (other & 31)
    if operation == 0x70:
        return a >> (other & 31)
    if operation == 0x80:
        return -a
    if operation == 0x90:
        return a % other if other else None
    return a ^ other


def _ask(ancillary: Ancillary, k: int) -> int | None:
    field = _FIELDS.get(k - ANCILLARY_OFFSET)
    if field is None:
        raise UsageError("filter: netlink attributes cannot be asked for")
    value: int | None = getattr(ancillary, field)
    return value if value is None else value & _MASK


def _load_outside(ancillary: Ancillary, offset: int, size: int) -> int | None:
    """A load that is not in the packet: behind a header that stands before it, or nowhere."""
    if offset >= NETWORK_OFFSET:
        data, offset = ancillary.network, offset - NETWORK_OFFSET
    elif offset >= LINK_OFFSET:
        data, offset = ancillary.link, offset - LINK_OFFSET
    else:
        return None
    value = data[offset : offset + size]
    return int.from_bytes(value, "big") if len(value) == size else None
