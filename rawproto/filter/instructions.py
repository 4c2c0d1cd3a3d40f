"""The instruction set of classic BPF, and programs that the kernel would take.

Read McCanne and Jacobson, "The BSD Packet Filter" (USENIX 1993), then the
kernel's Documentation/networking/filter.rst. The machine has an accumulator A,
an index register X, 16 words of scratch memory M and the packet, big-endian;
jumps lead forwards only, so every program ends. An instruction is, in the byte
order of the host (`struct sock_filter`)::

    +----------------+--------+--------+--------------------------------+
    |   code (16)    | jt (8) | jf (8) |             k (32)             |
    +----------------+--------+--------+--------------------------------+

    code:  load, store        mode (3) | size (2) | class (3)
           compute, jump, ret      operation (4) | source (1) | class (3)

Loads from the offsets at the very end of the 32-bit space do not read the packet
but what the kernel knows about it (`ANCILLARY`). Just below that space begin the
offsets relative to the network header and to the link-layer header.

This module knows no text: that is `assembler`; and runs nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rawproto.errors import UsageError

__all__ = [
    "ANCILLARY",
    "ANCILLARY_OFFSET",
    "CODES",
    "LINK_OFFSET",
    "MAX_INSTRUCTIONS",
    "MEMORY_WORDS",
    "NETWORK_OFFSET",
    "Instruction",
    "Program",
    "check",
    "pack",
]

MAX_INSTRUCTIONS = 4096
"""The kernel's BPF_MAXINSNS."""
MEMORY_WORDS = 16
"""The kernel's BPF_MEMWORDS."""

ANCILLARY_OFFSET = 0xFFFF_F000
"""SKF_AD_OFF: from here on a load asks the kernel, see `ANCILLARY`."""
NETWORK_OFFSET = 0xFFF0_0000
"""SKF_NET_OFF: from here up to ANCILLARY_OFFSET, relative to the network header."""
LINK_OFFSET = 0xFFE0_0000
"""SKF_LL_OFF: from here up to NETWORK_OFFSET, relative to the link-layer header."""

ANCILLARY = {
    "proto": 0,
    "type": 4,
    "ifidx": 8,
    "nla": 12,
    "nlan": 16,
    "mark": 20,
    "queue": 24,
    "hatype": 28,
    "rxhash": 32,
    "cpu": 36,
    "xor_x": 40,
    "vlan_tci": 44,
    "vlanp": 48,
    "poff": 52,
    "rand": 56,
    "vlan_tpid": 60,
}
"""What can be asked of the kernel: its name in texts -> its offset behind ANCILLARY_OFFSET."""

# Each valid code: mnemonic, and the form of its operand as `assembler` writes it.
CODES: dict[int, tuple[str, str]] = {
    0x00: ("ld", "imm"),
    0x20: ("ld", "abs"),
    0x28: ("ldh", "abs"),
    0x30: ("ldb", "abs"),
    0x40: ("ld", "ind"),
    0x48: ("ldh", "ind"),
    0x50: ("ldb", "ind"),
    0x60: ("ld", "mem"),
    0x80: ("ld", "len"),
    0x01: ("ldx", "imm"),
    0x61: ("ldx", "mem"),
    0x81: ("ldx", "len"),
    0xB1: ("ldxb", "msh"),
    0x02: ("st", "mem"),
    0x03: ("stx", "mem"),
    0x84: ("neg", ""),
    0x05: ("ja", "to"),
    0x06: ("ret", "imm"),
    0x16: ("ret", "a"),
    0x07: ("tax", ""),
    0x87: ("txa", ""),
}
"""Every code there is -> (mnemonic, form of the operand)."""
_COMPUTE = ("add", "sub", "mul", "div", "or", "and", "lsh", "rsh", "neg", "mod", "xor")
for _number, _mnemonic in enumerate(_COMPUTE):
    if _mnemonic != "neg":
        CODES[_number << 4 | 0x04] = (_mnemonic, "imm")
        CODES[_number << 4 | 0x0C] = (_mnemonic, "x")
for _number, _mnemonic in enumerate(("jeq", "jgt", "jge", "jset"), start=1):
    CODES[_number << 4 | 0x05] = (_mnemonic, "imm")
    CODES[_number << 4 | 0x0D] = (_mnemonic, "x")

_SOCK_FILTER = struct.Struct("=HBBI")

_LOADS_AT = frozenset((0x20, 0x28, 0x30))
_READS_MEMORY = frozenset((0x60, 0x61))
_WRITES_MEMORY = frozenset((0x02, 0x03))
_DIVIDES = frozenset((0x34, 0x94))
_SHIFTS = frozenset((0x64, 0x74))
_JUMP = 0x05
_RETURNS = frozenset((0x06, 0x16))
_KNOWN_TO_KERNEL = frozenset(ANCILLARY.values())


class Instruction(NamedTuple):
    """One instruction, fields as in the kernel's `struct sock_filter`.

    Attributes:
        code: what to do, a key of `CODES`.
        jt: how many instructions to skip where a condition holds, 0 to 255.
        jf: how many where it does not.
        k: the operand, 0 to 0xFFFFFFFF.
    """

    code: int
    jt: int = 0
    jf: int = 0
    k: int = 0


class Program:
    """A program that the kernel would take: making one checks it.

    Programs are values: equal by their instructions, and never changed.

    Raises:
        UsageError: the kernel would refuse it; see `check`.
    """

    __slots__ = ("instructions",)

    def __init__(self, instructions: Iterable[Instruction]) -> None:
        self.instructions = tuple(instructions)
        check(self.instructions)

    @classmethod
    def from_bytes(cls, data: bytes) -> Program:
        """From an array of `struct sock_filter`. Raises UsageError."""
        if len(data) % _SOCK_FILTER.size:
            raise UsageError(f"{len(data)} bytes are no array of 8-byte instructions")
        return cls(map(Instruction._make, _SOCK_FILTER.iter_unpack(data)))

    def to_bytes(self) -> bytes:
        """The array of `struct sock_filter` to which SO_ATTACH_FILTER's `sock_fprog` points."""
        return pack(self.instructions)

    def __len__(self) -> int:
        return len(self.instructions)

    def __iter__(self) -> Iterator[Instruction]:
        return iter(self.instructions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self.instructions == other.instructions

    def __hash__(self) -> int:
        return hash(self.instructions)

    def __repr__(self) -> str:
        return f"Program({list(self.instructions)!r})"


def pack(instructions: Iterable[Instruction]) -> bytes:
    """Any instructions as an array of `struct sock_filter`, unchecked."""
    return b"".join([_SOCK_FILTER.pack(*instruction) for instruction in instructions])


def check(instructions: tuple[Instruction, ...]) -> None:
    """Refuses what the kernel refuses when a filter is attached (`bpf_check_classic`).

    Raises:
        UsageError: naming the instruction, counted from 0, and what is wrong with it.
    """
    count = len(instructions)
    if not 0 < count <= MAX_INSTRUCTIONS:
        raise UsageError(f"filter of {count} instructions: 1 to {MAX_INSTRUCTIONS} are allowed")
    for at, instruction in enumerate(instructions):
        reason = _fault(instruction, count - at - 1)
        if reason:
            raise UsageError(f"filter instruction {at}: {reason}")
    if instructions[-1].code not in _RETURNS:
        raise UsageError(f"filter instruction {count - 1}: the last one must be a ret")
    _check_memory(instructions)


def _fault(instruction: Instruction, behind: int) -> str | None:
    """What is wrong with one instruction, given how many stand behind it."""
    code, jt, jf, k = instruction
    if code not in CODES:
        return f"no such code {code:#x}"
    if not (0 <= jt <= 0xFF and 0 <= jf <= 0xFF and 0 <= k <= 0xFFFF_FFFF):
        return "a field does not fit its width"
    if code in _DIVIDES and k == 0:
        return "division by zero"
    if code in _SHIFTS and k > 31:
        return f"shift by {k} bits"
    if (code in _READS_MEMORY or code in _WRITES_MEMORY) and k >= MEMORY_WORDS:
        return f"no such word M[{k}]"
    if code == _JUMP:
        if k >= behind:
            return "jump behind the end"
    elif code & 7 == _JUMP and (jt >= behind or jf >= behind):
        return "jump behind the end"
    if code in _LOADS_AT and k >= ANCILLARY_OFFSET and k - ANCILLARY_OFFSET not in _KNOWN_TO_KERNEL:
        return f"nothing to ask the kernel for at {k:#x}"
    return None


def _check_memory(instructions: tuple[Instruction, ...]) -> None:
    """Refuses to read a word of M that some path has not written, as the kernel does.

    Its analysis goes once from front to end and lets what is known before a `ret` stand
    behind it, so it refuses a little more than it must. So do we.
    """
    everything = (1 << MEMORY_WORDS) - 1
    on_arrival = [everything] * len(instructions)  # words written on every jump that leads here
    written = 0
    for at, (code, jt, jf, k) in enumerate(instructions):
        written &= on_arrival[at]
        if code in _WRITES_MEMORY:
            written |= 1 << k
        elif code in _READS_MEMORY:
            if not written >> k & 1:
                raise UsageError(f"filter instruction {at}: M[{k}] may not have been written")
        elif code & 7 == _JUMP:
            for skip in (k,) if code == _JUMP else (jt, jf):
                on_arrival[at + 1 + skip] &= written
            written = everything
