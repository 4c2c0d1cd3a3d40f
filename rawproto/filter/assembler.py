"""The text of filter programs, in the dialects of bpf_asm and `tcpdump -d`, both ways.

::

        ldb [9]                 ; bpf_asm: labels, comments, one-way conditions
        jne #1, drop
        ldxb 4*([0]&0xf)
        ldb [x + 0]
        jeq #8, accept, drop
    accept:
        ret #-1
    drop:
        ret #0

    (000) ldb      [9]                              tcpdump -d: numbered lines,
    (001) jeq      #0x1             jt 2	jf 5        both ways of a condition

Also the numbers of `tcpdump -ddd`, of `tcpdump -dd` and of iptables' bytecode are
read. Where bpf_asm has a name for what the kernel is asked (`ld #ifidx`) and
libpcap another (`ldh [ifidx]`), both are.

This is an assembler: it knows no protocol, and changes nothing that it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rawproto.errors import UsageError
from rawproto.filter.instructions import (
    ANCILLARY,
    ANCILLARY_OFFSET,
    CODES,
    Instruction,
    Program,
)

__all__ = ["assemble", "disassemble"]

# How an operand is written, without blanks: what stands before its value, what behind, its form.
_OPERANDS = (
    ("4*([", "]&0xf)", "msh"),
    ("m[", "]", "mem"),
    ("[%x+", "]", "ind"),
    ("[x+", "]", "ind"),
    ("[", "]", "abs"),
    ("#", "", "imm"),
    ("", "", "imm"),
)
_WORDS = {"x": "x", "%x": "x", "a": "a", "%a": "a", "len": "len", "#len": "len", "#pktlen": "len"}
_LINE = re.compile(
    r"""(?: \( 0*(?P<number>\d{1,4}) \) | (?P<label>[a-z_]\w*) : )? \s*
        (?: (?P<mnemonic>[a-z]+) (?P<rest> \s.* )? )?""",
    re.VERBOSE,
)
_BOTH_WAYS = re.compile(r"(?P<operand>.*?)\s+jt\s+(?P<jt>\d+)\s+jf\s+(?P<jf>\d+)")
_COMMENT = re.compile(r"/\*.*?\*/|;[^\n]*", re.DOTALL)
_NOT_A_NUMBER = re.compile(r"[^\s,{}\da-fx]|\b[a-z]", re.IGNORECASE)

_BY_TEXT = {text: code for code, text in CODES.items()}
_SAME = {"ldi": "ld", "ldxi": "ldx", "jmp": "ja"}
_INVERTED = {"jne": "jeq", "jneq": "jeq", "jlt": "jge", "jle": "jgt"}
_CONDITIONS = frozenset(("jeq", "jgt", "jge", "jset"))
_OTHER_NAMES = {
    "vlan_avail": "vlanp",
    "vlan_pr": "vlanp",
    "vlant": "vlan_tci",
    "vlan_proto": "vlan_tpid",
    "pay": "poff",
}
_ANCILLARY_NAMES = {ANCILLARY_OFFSET + number: name for name, number in ANCILLARY.items()}
_SHOWN_IN_HEX = frozenset(("ld", "ldx", "and", "or", "xor", *_CONDITIONS))


def assemble(source: str | Iterable[Instruction]) -> Program:
    """A program from text or from its instructions.

    Args:
        source: bpf_asm, `tcpdump -d`, `-dd` or `-ddd`, iptables bytecode; or instructions.

    Raises:
        UsageError: a line that cannot be read, a label that is not there or behind, a
            condition that skips more than 255, or a program that the kernel would refuse.
    """
    if not isinstance(source, str):
        return Program(source)
    if source.strip() and not _NOT_A_NUMBER.search(source):
        return _from_numbers(source)
    # Comments keep their line ends, so that errors can name the line.
    source = _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), source)
    lines: list[_Line] = []
    labels: dict[str, int] = {}
    for number, text in enumerate(source.lower().splitlines(), start=1):
        parts = _LINE.fullmatch(text.strip())
        if parts is None:
            raise UsageError(f"filter line {number}: cannot read {text.strip()!r}")
        label = parts["label"] or parts["number"]
        if label:
            if label in labels:
                raise UsageError(f"filter line {number}: label {label} is there twice")
            labels[label] = len(lines)
        if parts["mnemonic"]:
            lines.append(_Line(number, parts["mnemonic"], (parts["rest"] or "").strip()))
    return Program([line.encode(at, labels) for at, line in enumerate(lines)])


def _from_numbers(text: str) -> Program:
    """`{ 0x28, 0, 0, 0x0000000c },` or a count and then four numbers an instruction."""
    try:
        numbers = [int(number, 0) for number in re.findall(r"\w+", text)]
    except ValueError:  # 0x, 09, or more digits than int() takes
        raise UsageError("filter: numbers that cannot be read") from None
    if "{" not in text:
        count = numbers.pop(0) if numbers else 0
        if len(numbers) != 4 * count:
            raise UsageError(f"filter: {count} instructions announced, {len(numbers) / 4:g} there")
    if len(numbers) % 4:
        raise UsageError("filter: an instruction is four numbers")
    return Program([Instruction(*numbers[at : at + 4]) for at in range(0, len(numbers), 4)])


class _Line:
    """One instruction as written, until all the labels are known."""

    __slots__ = ("line", "mnemonic", "rest")

    def __init__(self, line: int, mnemonic: str, rest: str) -> None:
        self.line = line
        self.mnemonic = _SAME.get(mnemonic, mnemonic)
        self.rest = rest

    def encode(self, at: int, labels: dict[str, int]) -> Instruction:
        """The instruction; `at` is its own place."""
        mnemonic = self.mnemonic
        if mnemonic == "ja":
            return Instruction(_BY_TEXT["ja", "to"], 0, 0, self.skip(self.rest, at, labels))
        inverted = mnemonic in _INVERTED
        mnemonic = _INVERTED.get(mnemonic, mnemonic)
        if mnemonic not in _CONDITIONS:
            return Instruction(*self.code_and_operand(mnemonic, self.rest))
        both = _BOTH_WAYS.fullmatch(self.rest)
        if both is not None:
            operand, targets = both["operand"], [both["jt"], both["jf"]]
        else:
            operand, *targets = (part.strip() for part in self.rest.split(","))
        if not 1 <= len(targets) <= 2:
            raise self.error("a condition has one or two targets")
        skips = [self.skip(target, at, labels) for target in targets] + [0] * (2 - len(targets))
        if max(skips) > 0xFF:
            raise self.error(f"a condition skips at most 255 instructions, not {max(skips)}")
        if inverted:
            skips.reverse()
        code, _, _, k = self.code_and_operand(mnemonic, operand)
        return Instruction(code, skips[0], skips[1], k)

    def code_and_operand(self, mnemonic: str, text: str) -> tuple[int, int, int, int]:
        """(code, 0, 0, k) of a mnemonic and its operand."""
        text = "".join(text.split())
        if mnemonic == "ldx" and text.startswith("4*"):
            mnemonic = "ldxb"
        k = 0
        if not text:
            # tcpdump writes "return A" without the A.
            form = "a" if mnemonic == "ret" else ""
        elif text in _WORDS:
            form = _WORDS[text]
        else:
            before, behind, form = next(
                operand
                for operand in _OPERANDS
                if text.startswith(operand[0]) and text.endswith(operand[1])
            )
            value = text[len(before) : len(text) - len(behind)]
            asked = ANCILLARY.get(_OTHER_NAMES.get(value, value))
            if asked is not None and form in ("imm", "abs"):
                form, k = "abs", ANCILLARY_OFFSET + asked
            else:
                k = self.number_of(value)
        code = _BY_TEXT.get((mnemonic, form))
        if code is None:
            raise self.error(f"no such instruction: {f'{mnemonic} {text}'[:40].strip()}")
        return code, 0, 0, k

    def number_of(self, text: str) -> int:
        """A number of 32 bits, signed or unsigned."""
        try:
            value = int(text, 0)
        except ValueError:
            raise self.error(f"no number: {text[:40]}") from None
        if not -0x8000_0000 <= value <= 0xFFFF_FFFF:
            raise self.error(f"{text[:40]} does not fit 32 bits")
        return value & 0xFFFF_FFFF

    def skip(self, target: str, at: int, labels: dict[str, int]) -> int:
        """How many instructions to skip to reach a label."""
        # The numbers of tcpdump's lines are labels like any other.
        place = labels.get(target)
        if place is None:
            raise self.error(f"no label {target!r}")
        if place <= at:
            raise self.error(f"jumps lead forwards, {target!r} is not ahead")
        return place - at - 1

    def error(self, reason: str) -> UsageError:
        return UsageError(f"filter line {self.line}: {reason}")


def disassemble(program: Program) -> str:
    """The program as `tcpdump -d` prints it, one line an instruction; `assemble` reads it."""
    return "\n".join(_describe(at, instruction) for at, instruction in enumerate(program))


def _describe(at: int, instruction: Instruction) -> str:
    code, jt, jf, k = instruction
    mnemonic, form = CODES[code]
    signed = k - (k >> 31 << 32)
    operand = {
        "": "",
        "imm": f"#{k:#x}" if mnemonic in _SHOWN_IN_HEX else f"#{signed}",
        "abs": f"[{_ANCILLARY_NAMES.get(k, signed)}]",
        "ind": f"[x + {signed}]",
        "mem": f"M[{k}]",
        "msh": f"4*([{signed}]&0xf)",
        "len": "#pktlen",
        "x": "x",
        "a": "a",
        "to": f"{at + 1 + k}",
    }[form]
    line = f"({at:03}) {mnemonic:<8} {operand}"
    if mnemonic in _CONDITIONS:
        return f"{line:<31} jt {at + 1 + jt}\tjf {at + 1 + jf}"
    return line.rstrip()
